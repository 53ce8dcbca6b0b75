//! What the whole-system tests stand on: a real `continuumd` in its own directory, asked over real sockets, killed and
//! starved for real.
//!
//! ```text
//!  tests/tests/*.rs     one behaviour a file, told as a story
//!        │
//!  node::Node           starts, kills, restarts, reaps one process; its log is shown when a test fails
//!  http::Client         one HTTP/1.1 connection        federation::Member   the contribution calls of one member
//!  grpc                 the gRPC clients of a node      admin::Admin   continuum-admin, run as people and scripts run it
//!  trace::Trace         what strace saw: requests, syncs, answers, in their order
//!  loopback             three nodes that are one cluster
//!  network              where the default ports are free
//!  words                the WordNet concepts and a plain scan over them
//!  disk::SmallDisk      a file system of its own, and another program that fills it
//!
//!  Cluster              nodes in network namespaces (subnet), with certificates, let in by tokens
//!  proxy::Proxy         before each node: delays, a narrow line, connections that break
//!  workload             clients at every node, while a test does something to the cluster
//!  history ─► linearizable   what they were told, and whether any order of their calls explains it
//! ```
//!
//! Invariants: every process started is reaped, also when a test panics; ports and directories are never shared between
//! nodes. The harness refuses to know what the node keeps on disk: what was acknowledged is asked for again.
//!
//! A test that lacks a tool or a privilege calls [`skipped`], which is a failure where `CI` is set.
#![allow(
    clippy::disallowed_methods,
    reason = "the harness drives real processes by the real clock"
)]

use std::io::Write as _;

pub mod admin;
pub mod cluster;
pub mod disk;
pub mod federation;
pub mod grpc;
pub mod history;
pub mod http;
pub mod linearizable;
pub mod loopback;
pub mod network;
pub mod node;
pub mod proxy;
pub mod subnet;
pub mod trace;
pub mod words;
pub mod workload;

pub use admin::Admin;
pub use cluster::Cluster;
pub use disk::SmallDisk;
pub use federation::Member;
pub use http::{Answer, Client};
pub use node::{Launch, Node};

/// Says that a test did not run and why, in the form that `tools/test` counts.
///
/// # Panics
/// Where `CI` is set: there every tool and privilege is expected, so a skip is a failure.
pub fn skipped(name: &str, reason: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "{name} would be skipped, which fails in CI: {reason}"
    );
    // Straight to the stream: the test runner would keep back what the macros print.
    let _ = writeln!(std::io::stdout(), "\nSKIPPED {name}: {reason}");
}

/// Whether `program` can be started at all.
#[must_use]
pub fn has_program(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(program).is_file())
}

/// Whether the longer modes are asked for (`CONTINUUM_LONG=1`).
#[must_use]
pub fn long() -> bool {
    std::env::var_os("CONTINUUM_LONG").is_some_and(|value| value != "0")
}
