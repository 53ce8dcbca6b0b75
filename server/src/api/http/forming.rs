//! What a node answers over HTTP while it forms a cluster with others: that it lives, that it is not ready, and why.

use axum::{
    Json, Router,
    extract::{RawQuery, State},
    middleware,
    routing::get,
};

use super::{
    envelope,
    pages::{ProbeAnswer, probe},
    problem::Problem,
};
use crate::runtime::health::Health;

/// `/livez` and `/readyz`; everything else is refused as `/readyz` is.
pub fn routes(health: Health) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .fallback(readyz)
        .layer(middleware::from_fn(envelope::bare))
        .with_state(health)
}

async fn livez(State(health): State<Health>, RawQuery(query): RawQuery) -> Result<Json<ProbeAnswer>, Problem> {
    probe(&health.live(), query.as_deref(), "not alive")
}

async fn readyz(State(health): State<Health>, RawQuery(query): RawQuery) -> Result<Json<ProbeAnswer>, Problem> {
    probe(&health.ready(), query.as_deref(), "not ready")
}
