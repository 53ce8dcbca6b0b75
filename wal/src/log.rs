//! The log itself.
#![allow(unused, missing_docs)] // skeleton

use std::sync::Arc;

use crate::{Error, Lsn, storage::Storage};

#[derive(Clone, Debug)]
pub struct Settings {
    pub segment_bytes: u64,
    pub group_bytes_max: usize,
}
/// One record to append.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The caller's own tag.
    pub header: u8,
    pub body: &'a [u8],
}
/// One record read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub lsn: Lsn,
    pub header: u8,
    pub body: Vec<u8>,
}
/// Where acknowledged data is damaged, and what was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub file: String,
    pub offset: u64,
    pub lost: std::ops::RangeInclusive<u64>,
}
impl std::fmt::Display for Damage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        unimplemented!()
    }
}
/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    pub first: Lsn,
    pub last: Lsn,
    /// Bytes of unacknowledged tail dropped.
    pub truncated_bytes: u64,
}
/// The writing side; one thread owns it.
pub struct Log {}
impl Log {
    /// Opens or creates the log. `owner` is written into new segment headers and handed back by segments.
    pub fn open(storage: Arc<dyn Storage>, settings: Settings, owner: &[u8]) -> Result<(Log, Recovery), Error> {
        unimplemented!()
    }
    /// Frames `records` as one group and writes it; returns the first LSN. Not durable until `sync`.
    pub fn append(&mut self, records: &[Record<'_>]) -> Result<Lsn, Error> {
        unimplemented!()
    }
    /// One fdatasync; returns the LSN now durable.
    pub fn sync(&mut self) -> Result<Lsn, Error> {
        unimplemented!()
    }
    /// Last appended record.
    pub fn last(&self) -> Lsn {
        unimplemented!()
    }
    /// Skips ahead so that the next record gets an LSN above `lsn` (the database was ahead of the log: a bug, kept safe).
    pub fn skip_past(&mut self, lsn: Lsn) -> Result<(), Error> {
        unimplemented!()
    }
    /// Reader positioned before the first record with LSN > `after`.
    pub fn reader(&self, after: Lsn) -> Result<Reader, Error> {
        unimplemented!()
    }
    /// A handle that makes readers from other threads.
    /// Registers a consumer that needs everything above `after`.
    pub fn register(&self, name: &str, after: Lsn) -> Consumer {
        unimplemented!()
    }
    /// Removes whole segments that lie at or below `durable` and below every consumer; returns how many.
    pub fn retire(&mut self, durable: Lsn) -> Result<usize, Error> {
        unimplemented!()
    }
}
pub struct Reader {}
impl Reader {
    /// The next record at or below the synced LSN; `None` when there is none yet.
    pub fn next(&mut self) -> Result<Option<Entry>, Error> {
        unimplemented!()
    }
}
/// A registered reader of the log's past; dropping it gives up its claim.
pub struct Consumer {}
impl Consumer {
    /// Everything up to `lsn` is no longer needed.
    pub fn advance(&self, lsn: Lsn) {
        unimplemented!()
    }
}
