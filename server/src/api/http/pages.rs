//! The node's own pages: what it is, how it is, what it counts.

use axum::{
    Json,
    extract::{RawQuery, State},
    http::{HeaderValue, header},
    response::IntoResponse,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Face,
    openapi::{PageRefusals, ProbeRefusals},
    problem::{Code, Problem},
    shapes::rfc3339,
};
use crate::runtime::health::{Check, Report};

const SERVICE: &str = "CONTINUUM Federation";
const TAGLINE: &str = "Can't use it unless you add to it";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What this is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RootAnswer {
    service: &'static str,
    tagline: &'static str,
    version: &'static str,
    endpoints: Endpoints,
}

/// Where things are.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Endpoints {
    register: &'static str,
    contribute: &'static str,
    knowledge: &'static str,
    status: &'static str,
    stats: &'static str,
}

/// What this is, and where things are.
#[utoipa::path(get, path = "/", tag = "node", responses((status = 200, description = "Name, version, routes", body = RootAnswer), PageRefusals))]
pub(crate) async fn root() -> Json<RootAnswer> {
    Json(RootAnswer {
        service: SERVICE,
        tagline: TAGLINE,
        version: VERSION,
        endpoints: Endpoints {
            register: "/federation/register",
            contribute: "/federation/contribute",
            knowledge: "/federation/knowledge",
            status: "/federation/status",
            stats: "/federation/stats",
        },
    })
}

/// A sign of life for clients.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HealthAnswer {
    #[schema(example = "healthy")]
    status: &'static str,
    service: &'static str,
    /// RFC 3339.
    #[schema(format = DateTime)]
    timestamp: String,
}

/// A sign of life for clients.
#[utoipa::path(get, path = "/health", tag = "node", responses((status = 200, description = "Answering", body = HealthAnswer), PageRefusals))]
pub(crate) async fn health(State(face): State<Face>) -> Json<HealthAnswer> {
    Json(HealthAnswer {
        status: "healthy",
        service: SERVICE,
        timestamp: rfc3339(face.clock.now()),
    })
}

/// Which build this is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VersionAnswer {
    name: &'static str,
    version: &'static str,
}

/// Which build this is.
#[utoipa::path(get, path = "/version", tag = "node", responses((status = 200, description = "The build", body = VersionAnswer), PageRefusals))]
pub(crate) async fn version() -> Json<VersionAnswer> {
    Json(VersionAnswer {
        name: "continuumd",
        version: VERSION,
    })
}

/// How the node is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProbeAnswer {
    #[schema(example = "ok")]
    status: &'static str,
    /// With `?verbose` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    checks: Option<Vec<CheckAnswer>>,
}

/// One thing looked at.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CheckAnswer {
    name: &'static str,
    /// `ok`, or `limited`: some requests are refused or slow.
    #[schema(example = "ok")]
    status: &'static str,
    /// What is limited, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    detail: Option<String>,
}

/// `?verbose`, with or without a value.
fn verbose(query: Option<&str>) -> bool {
    let wanted = |pair: &str| matches!(pair.split_once('=').unwrap_or((pair, "1")), ("verbose", value) if value != "0" && value != "false");
    query.is_some_and(|query| query.split('&').any(wanted))
}

/// The answer to a probe, or the reasons against.
pub(super) fn probe(report: &Report, query: Option<&str>, lead: &str) -> Result<Json<ProbeAnswer>, Problem> {
    if !report.passes() {
        let why = |check: &Check| format!("{}: {}", check.name, check.failure.as_deref().unwrap_or_default());
        let failing: Vec<String> = report.failing().map(why).collect();
        return Err(Problem::new(Code::NotReady, format!("{lead}: {}", failing.join("; "))).retry_after(1));
    }
    let listed = || {
        report
            .checks
            .iter()
            .map(|check| CheckAnswer {
                name: check.name,
                status: if check.failure.is_none() { "ok" } else { "limited" },
                detail: check.failure.clone(),
            })
            .collect()
    };
    Ok(Json(ProbeAnswer {
        status: "ok",
        checks: verbose(query).then(listed),
    }))
}

/// Whether the process is of use; an orchestrator restarts it otherwise.
#[utoipa::path(get, path = "/livez", tag = "node", params(("verbose" = Option<String>, Query, description = "List what was looked at")),
    responses((status = 200, description = "Yes", body = ProbeAnswer), ProbeRefusals))]
pub(crate) async fn livez(State(face): State<Face>, RawQuery(query): RawQuery) -> Result<Json<ProbeAnswer>, Problem> {
    probe(&face.health.live(), query.as_deref(), "not alive")
}

/// Whether the node should get requests.
#[utoipa::path(get, path = "/readyz", tag = "node", params(("verbose" = Option<String>, Query, description = "List what was looked at")),
    responses((status = 200, description = "Yes", body = ProbeAnswer), ProbeRefusals))]
pub(crate) async fn readyz(State(face): State<Face>, RawQuery(query): RawQuery) -> Result<Json<ProbeAnswer>, Problem> {
    probe(&face.health.ready(), query.as_deref(), "not ready")
}

/// What the node counts, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "node", responses((status = 200, description = "Metrics, each with its help", content_type = "text/plain", body = String), PageRefusals))]
pub(crate) async fn metrics(State(face): State<Face>) -> impl IntoResponse {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], face.metrics.render())
}
