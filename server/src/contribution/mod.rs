//! The shared pool: "can't use it unless you add to it".
//!
//! Builds commands, renders outcomes as plain values; knows nothing of HTTP.
#![allow(unused, missing_docs)] // skeleton

pub mod search;

use engine::{CommitError, clock::Timestamp, ledger::{Idempotency, Limited, NodeId, PoolConcept, Refusal, Standing}};

/// The service behind `/federation/*`; clones share it.
#[derive(Clone)]
pub struct Contribution {}

/// Why a call was not carried out; nothing was charged or credited.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("refused")]
    Refused(Refusal),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error("the local pool is behind the ledger, retry")]
    Behind,
    /// An idempotency key of the same caller whose first request is still being worked on.
    #[error("a request with this idempotency key is still in flight")]
    InFlight,
    #[error("{0}")]
    Internal(String),
}
pub struct Registered { pub node: NodeId, pub already: bool, pub registered_at: Timestamp, pub standing: Standing }
pub struct Contributed { pub new: u64, pub duplicates: u64, pub standing: Standing }
pub struct Delivered {
    /// Anonymised JSON text, as stored.
    pub json: std::sync::Arc<str>,
    pub quality: f64,
    pub usage: u64,
}
pub struct Stats { pub concepts: u64, pub contributors: u64, pub average_quality: f64 }

impl Contribution {
    /// `node` absent: a UUID is made. `constant` is compared with π×φ here.
    pub async fn register(&self, node: Option<NodeId>, constant: Option<f64>, idempotency: Option<Idempotency>) -> Result<Registered, Error> { unimplemented!() }
    pub async fn contribute(&self, node: NodeId, concepts: Vec<PoolConcept>, idempotency: Option<Idempotency>) -> Result<Contributed, Error> { unimplemented!() }
    pub async fn knowledge(&self, node: NodeId, query: &str, limit: usize, min_quality: f64, idempotency: Option<Idempotency>) -> Result<Vec<Delivered>, Error> { unimplemented!() }
    /// An early 429 from applied state; `None` when the call may go on.
    pub fn limited(&self, node: &NodeId, kind: Limited) -> Result<Option<Refusal>, Error> { unimplemented!() }
    pub fn status(&self, node: &NodeId) -> Result<Standing, Error> { unimplemented!() }
    pub fn stats(&self) -> Result<Stats, Error> { unimplemented!() }
}
