//! Backups: a directory that holds one moment of a node, and the way back from it.
//!
//! ```text
//!  DIR/db/…                the database at one moment (a RocksDB checkpoint), hard links where possible
//!  DIR/backup.json         Manifest: whose it is, up to which LSN, and length and SHA-256 of every file
//!  DIR/backup.json.sha256  "<hex>  backup.json\n", written last; `sha256sum -c` reads it
//!
//!  cut          DIR/db alone, and an Outline: whoever reads the files sums them
//!  checkpoint   DIR.partial ── files, synced, summed ── manifest ── its sum ──► renamed to DIR
//!  verify       every byte of DIR against the manifest, the manifest against its sum
//!  restore      verify ──► RESTORING ──► db.copy ──► db, another life ──► log behind the LSN ──► node-id ──► RESTORING removed
//! ```
//!
//! Invariants: a backup without the suffix `.partial` is whole; no bit of it can change unnoticed; a restore writes nothing
//! before the whole backup was verified; a restored node never gives out a dot that the node backed up, or another restore of
//! the same backup, may give out: it is another incarnation, of another cluster unless told to rejoin its own.
//!
//! A backup holds no log: the manifest's `lsn` is the last record in it, and the restored log goes on behind it. Nothing
//! here knows how a backup travels, how fast, or when one is due.

mod checkpoint;
mod error;
mod manifest;
mod restore;
mod sums;
mod verify;

pub(crate) use checkpoint::{cut, draft};
pub use error::{Error, Fault, Wrong};
pub use manifest::{Contents, Entry, FORMAT, FileLength, FileSum, Manifest, Outline};
pub use restore::{MARKER, Restore, Restored, refuse_unfinished, restore};
pub use sums::hex;
pub use verify::verify;

/// Name of the manifest.
pub const MANIFEST: &str = "backup.json";
/// Name of the manifest's sum.
pub const MANIFEST_SUM: &str = "backup.json.sha256";
/// Name of the folder with the database.
pub const DATABASE: &str = "db";
/// What is appended to the name of a backup until it is whole.
pub const PARTIAL: &str = ".partial";

#[cfg(test)]
mod tests;
