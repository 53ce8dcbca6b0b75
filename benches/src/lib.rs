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
