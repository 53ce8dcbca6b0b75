//! A Continuum node.
//!
//! ```text
//!  faces    api::http        api::grpc                  what callers see; no state of their own
//!  policy   contribution (gate, limits, search)         decides what a call means
//!           snapshots                                   what is kept for operators and backups
//!  roads    consensus (raft)                            the order of commands; ends in Engine::commit
//!           formation                                   how a node comes into a cluster
//!  seams    config  runtime  transport  metrics         time, chance, threads, sockets, settings, the way to other nodes
//!  state    engine
//! ```
//!
//! [`node`] puts the rows together; arrows only point down. [`demo`] starts several nodes as processes.

pub mod api;
pub mod certificates;
pub mod config;
pub mod consensus;
pub mod contribution;
pub mod demo;
pub mod formation;
pub mod metrics;
pub mod node;
pub mod runtime;
pub mod snapshots;
pub mod transport;
