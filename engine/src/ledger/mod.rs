//! Accounts, scores, limits: the linearizable ledger as a pure function.
//!
//! `apply(view, proposal) -> Outcome` reads only raft-owned families through an overlay, no clock and no chance.
#![allow(unused, missing_docs)] // skeleton

use crate::{clock::Timestamp, crdt::Strategy, json::ContentHash, keyspace::NamespaceId};

/// A member's name: any UTF-8 up to 256 bytes without control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(String);

/// A command with all that apply may not look up for itself.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The proposer's wall time; ledger time = max(previous, this).
    pub at: Timestamp,
    pub idempotency: Option<Idempotency>,
    pub command: Command,
}
#[derive(Clone, Debug)]
pub struct Idempotency {
    pub caller: String,
    pub key: String,
    /// SHA-256 of the request body.
    pub body: [u8; 32],
}
#[derive(Clone, Debug)]
pub enum Command {
    Register { node: NodeId, verified: bool },
    Contribute { node: NodeId, concepts: Vec<PoolConcept> },
    Consume { node: NodeId },
    SetLimits(Limits),
    CreateNamespace { name: String, policy: NamespacePolicy },
    SetNamespacePolicy { name: String, strategy: Strategy },
}
/// An anonymised concept and its identity.
#[derive(Clone, Debug)]
pub struct PoolConcept {
    pub hash: ContentHash,
    /// Anonymised JSON text, numbers and key order as sent.
    pub json: String,
}
/// Accepted requests per node and sliding hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub contribute_per_hour: u32,
    pub knowledge_per_hour: u32,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replication {
    Mesh,
    Consensus,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespacePolicy {
    pub replication: Replication,
    pub strategy: Strategy,
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    pub id: NamespaceId,
    pub name: String,
    pub policy: NamespacePolicy,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    Blocked,
    Basic,
    Intermediate,
    Advanced,
    Contributor,
    Twilight,
}
/// A member's standing, as `/federation/status` shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    pub registered_at: Option<Timestamp>,
    pub verified: bool,
    pub contributed: f64,
    pub consumed: f64,
    pub ratio: f64,
    pub tier: Tier,
    pub allowed: bool,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    Contribute,
    Knowledge,
}
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Registered { already: bool, registered_at: Timestamp, standing: Standing },
    Contributed { new: u64, duplicates: u64, standing: Standing },
    /// Charged 1.0; the answer may be read once the local pool counter has reached `pool_counter`.
    Charged { pool_counter: u64, standing: Standing },
    Done,
    NamespaceCreated(Namespace),
    Refused(Refusal),
}
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    RateLimited { kind: Limited, limit: u32, retry_at: Timestamp, now: Timestamp },
    Gate { standing: Standing, minimum: f64, deficit: f64 },
    KeyReused,
    NamespaceExists,
    NamespaceUnknown,
}
