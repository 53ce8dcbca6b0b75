//! `/openapi.json`, and the page at `/docs` that shows it with nothing from another host.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::{Path, State},
    http::{HeaderValue, header},
    response::{IntoResponse, Redirect, Response},
};
use utoipa::{
    IntoResponses, Modify, OpenApi, ToSchema,
    openapi::{
        ContentBuilder, Ref, RefOr, Response as ResponseDoc, ResponseBuilder,
        security::{ApiKey, ApiKeyValue, SecurityScheme},
    },
};

use super::{
    Face,
    caller::NODE_ID,
    problem::{Code, Problem, ProblemBody},
};

/// The document around the routes, which add themselves.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Continuum",
        description = "A shared pool of knowledge: can't use it unless you add to it.\n\nErrors are `application/json` on every route and status.\n\nUnknown fields are ignored. \
            A number may be sent as a string that holds one, and a whole number as `10.0`; true and false are no numbers. \
            Ids are UTF-8, in headers too.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(ProblemBody, super::shapes::KnownConcept)),
    modifiers(&CallerScheme),
    tags((name = "federation", description = "Give to the pool and draw from it"), (name = "node", description = "This node"))
)]
pub(crate) struct Document;

/// `X-Node-ID`.
struct CallerScheme;

impl Modify for CallerScheme {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let header = ApiKeyValue::with_description("X-Node-ID", "The node_id of your registration, as UTF-8");
        debug_assert!(
            header.name.eq_ignore_ascii_case(NODE_ID),
            "the documented header is the one that is read"
        );
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("node_id", SecurityScheme::ApiKey(ApiKey::Header(header)));
    }
}

/// One documented response for each status among `codes`.
fn refusals(codes: &[Code]) -> BTreeMap<String, RefOr<ResponseDoc>> {
    let mut by_status: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for code in codes {
        let (status, name, _title) = code.row();
        by_status.entry(status.to_string()).or_default().push(name);
    }
    let schema = || RefOr::Ref(Ref::from_schema_name(ProblemBody::name()));
    by_status
        .into_iter()
        .map(|(status, names)| {
            let content = ContentBuilder::new().schema(Some(schema())).build();
            let response = ResponseBuilder::new()
                .description(names.join(", "))
                .content("application/json", content)
                .build();
            (status, RefOr::T(response))
        })
        .collect()
}

/// Refusals of every route: a panic is nowhere impossible.
const ALWAYS: &[Code] = &[Code::Internal];
/// Refusals of routes with a body.
const BODY: &[Code] = &[
    Code::NotUtf8,
    Code::NestedTooDeep,
    Code::BodyIncomplete,
    Code::BodyTooSlow,
    Code::BodyTooLarge,
    Code::UnsupportedMediaType,
    Code::MalformedJson,
    Code::DuplicateKey,
    Code::InvalidRequest,
];
/// Refusals of routes that write to the ledger.
const LEDGER: &[Code] = &[
    Code::KeyInFlight,
    Code::KeyReused,
    Code::Busy,
    Code::NoQuorum,
    Code::OutcomeUnknown,
    Code::NoSpace,
    Code::Stopped,
];

macro_rules! documented {
    ($($name:ident: $codes:expr;)*) => {$(
        /// The refusals of a route, for its documentation.
        pub(crate) struct $name;
        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<ResponseDoc>> {
                refusals(&$codes.concat())
            }
        }
    )*};
}

documented! {
    PageRefusals: [ALWAYS];
    ProbeRefusals: [ALWAYS, &[Code::NotReady]];
    StatsRefusals: [ALWAYS];
    StatusRefusals: [ALWAYS, &[Code::MissingCredentials, Code::InvalidRequest]];
    RegisterRefusals: [ALWAYS, BODY, LEDGER];
    ContributeRefusals: [
        ALWAYS, BODY, LEDGER,
        &[
            Code::MissingCredentials, Code::RateLimited, Code::EmptyConcepts, Code::TooManyConcepts, Code::EmptyConcept,
            Code::ConceptTooLarge, Code::ConceptTooDeep,
        ]
    ];
    KnowledgeRefusals: [
        ALWAYS, BODY, LEDGER,
        &[Code::MissingCredentials, Code::RateLimited, Code::InsufficientContribution, Code::Behind]
    ];
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "node", responses((status = 200, description = "OpenAPI 3.1", body = Object), PageRefusals))]
pub(crate) async fn openapi(State(face): State<Face>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))],
        face.document.get().cloned().unwrap_or_default(),
    )
}

/// The page; its assets lie beside it.
const PAGE: &str = include_str!("docs.html");
/// What starts it. The validator badge is off: it would be fetched from another host.
const START: &str = include_str!("docs.js");
/// A browser that holds to this loads nothing from elsewhere, whatever an asset says.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
    font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The assets of Swagger UI that the page uses.
const ASSETS: [&str; 3] = ["swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"];

/// This document as a page to read and try.
#[utoipa::path(get, path = "/docs", tag = "node", responses((status = 200, description = "The page", content_type = "text/html", body = String), PageRefusals))]
pub(crate) async fn docs() -> impl IntoResponse {
    page("text/html; charset=utf-8", PAGE.as_bytes())
}

/// `/docs/`: the page's links are relative to `/docs`.
pub(crate) async fn docs_slash() -> Redirect {
    Redirect::permanent("../docs")
}

/// An asset of the page.
pub(crate) async fn docs_asset(Path(name): Path<String>) -> Result<Response, Problem> {
    if name == "docs.js" {
        return Ok(page("text/javascript; charset=utf-8", START.as_bytes()));
    }
    let unknown = || Problem::new(Code::NotFound, "the page has no such asset; see /docs");
    let name = ASSETS.into_iter().find(|asset| *asset == name).ok_or_else(unknown)?;
    let file = utoipa_swagger_ui::serve(name, Arc::new(utoipa_swagger_ui::Config::default()))
        .ok()
        .flatten()
        .ok_or_else(unknown)?;
    let mut response = page(&file.content_type, &file.bytes);
    if file.gzpipped {
        response
            .headers_mut()
            .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

fn page(kind: &str, bytes: &[u8]) -> Response {
    let kind = HeaderValue::from_str(kind).expect("content types are visible ASCII");
    let policy = HeaderValue::from_static(POLICY);
    (
        [(header::CONTENT_TYPE, kind), (header::CONTENT_SECURITY_POLICY, policy)],
        bytes.to_vec(),
    )
        .into_response()
}
