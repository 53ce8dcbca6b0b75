//! A Continuum node.
//!
//! ```text
//!  faces    api::http        api::grpc                  what callers see; no state of their own
//!  policy   contribution (gate, limits, search)         decides what a call means
//!           snapshots                                   what is kept for operators and backups
//!  roads    consensus (raft, this node alone)           the order of commands; ends in Engine::commit
//!  seams    config  runtime  metrics                    time, chance, threads, sockets, settings
//!  state    engine
//! ```
//!
//! [`node`] puts the rows together; arrows only point down.

pub mod api;
pub mod config;
pub mod consensus;
pub mod contribution;
pub mod metrics;
pub mod node;
pub mod runtime;
pub mod snapshots;
