//! The HTTP face: `/federation/*` and the node's own pages.
//!
//! ```text
//!  listener ─► envelope (request id, panics, problems, count) ─► router ─┬─ federation ─► policy (Contribution)
//!                                                                        ├─ pages      ─► health, metrics
//!                                                                        └─ openapi, docs
//!  a body:  door (415, 413) ─► parse (400, 422) ─► caller (401) ─► schema (422) ─► limits (429) ─► payload (400, 413) ─► ledger
//! ```
//!
//! Invariants:
//! - Every refusal is a `problem::Problem`, rendered in one place; every refusal of a lower row has one line in `refusals`.
//! - A refused request costs nothing: what can be refused here is refused before anything is proposed.
//! - Concepts leave as they are stored, byte for byte.
//!
//! It refuses to know how the gate, the limits and the search decide; it holds no state but the room for bodies.

mod caller;
mod door;
mod envelope;
mod federation;
pub mod forming;
mod openapi;
mod pages;
mod problem;
mod refusals;
mod schema;
mod shapes;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use axum::{Router, middleware};
use bytes::Bytes;
use engine::clock::Clock;
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    contribution::Contribution,
    metrics::Metrics,
    runtime::{entropy, health::Health},
};
use problem::{Code, Problem};

/// What the face stands on; clones share it.
#[derive(Clone)]
pub struct Face {
    contribution: Contribution,
    clock: Arc<dyn Clock>,
    health: Health,
    metrics: Metrics,
    door: door::Door,
    /// The OpenAPI document; set once the routes are known.
    document: Arc<OnceLock<Bytes>>,
}

impl Face {
    /// A face over `contribution`; `/livez` and `/readyz` show `health`, `/metrics` shows `metrics`.
    #[must_use]
    pub fn new(contribution: Contribution, clock: Arc<dyn Clock>, health: Health, metrics: Metrics) -> Face {
        Face {
            contribution,
            clock,
            health,
            metrics,
            door: door::Door::default(),
            document: Arc::default(),
        }
    }

    /// All routes.
    pub fn router(self) -> Router {
        let (router, document) = documented().split_for_parts();
        let text = document.to_json().expect("the document has only plain fields");
        let _set_once = self.document.set(Bytes::from(text));
        router
            .route("/docs/", axum::routing::get(openapi::docs_slash))
            .route("/docs/{*asset}", axum::routing::get(openapi::docs_asset))
            .fallback(async || Problem::new(Code::NotFound, "there is no such route; see / and /docs"))
            .method_not_allowed_fallback(async || {
                Problem::new(
                    Code::MethodNotAllowed,
                    "this route has other methods; see the Allow header",
                )
            })
            .layer(middleware::from_fn_with_state(self.clone(), envelope::envelope))
            .with_state(self)
    }
}

fn documented() -> OpenApiRouter<Face> {
    OpenApiRouter::with_openapi(openapi::Document::openapi())
        .routes(routes!(federation::register))
        .routes(routes!(federation::contribute))
        .routes(routes!(federation::knowledge))
        .routes(routes!(federation::status))
        .routes(routes!(federation::stats))
        .routes(routes!(pages::root))
        .routes(routes!(pages::health))
        .routes(routes!(pages::livez))
        .routes(routes!(pages::readyz))
        .routes(routes!(pages::metrics))
        .routes(routes!(pages::version))
        .routes(routes!(openapi::openapi))
        .routes(routes!(openapi::docs))
}

/// The body for refusals that the HTTP machinery makes without the router; see [`crate::runtime::listener::serve`].
#[must_use]
pub fn unreadable(status: u16) -> String {
    let (code, detail) = match status {
        414 => (Code::UriTooLong, "the request's address is too long"),
        431 => (
            Code::HeadTooLarge,
            "the request's headers are too large; send fewer or shorter ones",
        ),
        503 => (
            Code::Busy,
            "the request was carried out, but the node holds too many answers that their callers do not read; repeat it with the same Idempotency-Key, if it had one",
        ),
        _ => (
            Code::UnreadableHead,
            "the request head cannot be read as HTTP; check its line, its headers and their characters",
        ),
    };
    Problem::new(code, detail).body(&entropy::uuid()).into_json()
}
