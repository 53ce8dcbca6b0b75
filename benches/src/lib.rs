//! What the figures are made of: parts that measure, and one form in which all of them report.
//!
//! ```text
//!  measure (bin)  ── picks parts, prints the machine's fdatasync first
//!    disk         fdatasync of this machine, now
//!    contribute   the WordNet pool through the HTTP route of a real continuumd
//!    knowledge    a seeded mix of searches over that pool
//!    start        opening after a clean stop and after kill -9, idle memory
//!    scan         a bulk write over gRPC, and everything read back by Concepts/Scan
//!    import       a million concepts over gRPC: memory, and the end beside the beginning
//!    redis        the gRPC face beside Redis: writes, reads, reads of many
//!    backup       backups alone and beside callers, and the way back
//!  bulk           chunks over one stream of Concepts/Write, for those parts that load a node
//!  versus-etcd (bin)
//!    versus       three nodes beside three of etcd: puts, gets, and the time without a leader
//!  report         Figure { median, spread, peer, ratio, bar }: as a table or as JSON
//! ```
//!
//! Everything is measured several times in one run, and medians are compared only within a run: the disk under a figure
//! changes with its neighbours. Nothing here decides whether a build passes.
#![allow(clippy::disallowed_methods, reason = "measuring is what the real clock is for")]

pub mod backup;
pub mod bulk;
pub mod contribute;
pub mod disk;
pub mod engine_puts;
pub mod import;
pub mod knowledge;
pub mod redis;
pub mod report;
pub mod scan;
pub mod start;
pub mod versus;

use std::process::Command;

use report::{Figure, table};

/// Form of a program's answer.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Output {
    /// One document for programs.
    Json,
    /// For people.
    Table,
}

/// Prints what was measured. A table leaves out the first `machine` figures: people were told them at the start.
///
/// # Panics
/// Never: figures are plain numbers and text.
pub fn print(output: Output, figures: &[Figure], machine: usize) {
    match output {
        Output::Table => println!("{}", table(&figures[machine..])),
        Output::Json => println!(
            "{}",
            serde_json::to_string_pretty(figures).expect("figures are plain numbers and text")
        ),
    }
}

/// Run by cargo, builds the node that is measured and the tool from the same tree first; run by hand, they are what lies beside.
///
/// # Errors
/// When they do not build.
pub fn build_beside() -> Result<(), String> {
    let Some(cargo) = std::env::var_os("CARGO") else {
        return Ok(());
    };
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let arguments = [
        "build",
        "--quiet",
        "--release",
        "--bin",
        "continuumd",
        "--bin",
        "continuum-admin",
        "--manifest-path",
        manifest,
    ];
    let status = Command::new(cargo).args(arguments).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("continuumd and continuum-admin did not build: {status}")),
        Err(error) => Err(format!("cargo cannot be run: {error}")),
    }
}
