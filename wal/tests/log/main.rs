//! The log as its users hold it, on storage that fails on purpose and on a real directory.
#![allow(clippy::unwrap_used, reason = "tests")]

mod damage;
mod failures;
mod following;
mod inspect;
mod on_disk;
mod power_cut;
mod retention;
mod round_trip;
mod torn_tail;

use std::sync::Arc;

use wal::{Entry, Error, Log, Lsn, Record, Recovery, Settings, storage::Faulty};

/// Small segments, so that a test of a few records rotates.
fn small() -> Settings {
    Settings {
        segment_bytes: 16 << 10,
        group_bytes_max: 4 << 10,
        verify_above: Lsn::ZERO,
    }
}

fn open(storage: &Faulty) -> Result<(Log, Recovery), Error> {
    Log::open(Arc::new(storage.clone()), small(), b"test")
}

fn segment(number: u64) -> String {
    format!("{number:020}.log")
}

/// Appends one record and syncs it.
fn put(log: &mut Log, body: &[u8]) -> Lsn {
    let lsn = log.append(&[Record { header: 1, body }]).unwrap();
    assert_eq!(log.sync().unwrap(), lsn);
    lsn
}

fn read_all(log: &Log) -> Result<Vec<Entry>, Error> {
    let mut reader = log.reader(Lsn(log.handle().first().0 - 1))?;
    let mut entries = Vec::new();
    while let Some(entry) = reader.next()? {
        entries.push(entry);
    }
    Ok(entries)
}

fn bodies(log: &Log) -> Vec<Vec<u8>> {
    read_all(log).unwrap().into_iter().map(|entry| entry.body).collect()
}

/// A group as it stands in a segment file.
#[derive(Clone, Copy, Debug)]
struct Group {
    offset: usize,
    length: usize,
    first: u64,
    synced_through: u64,
    count: u64,
}

impl Group {
    fn end(&self) -> usize {
        self.offset + self.length
    }
}

/// Walks a segment as `docs/formats/log.md` describes it.
fn groups(bytes: &[u8]) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut offset = 4096;
    while bytes[offset..].starts_with(b"GRP1") {
        let u32_at = |at: usize| u32::from_le_bytes(bytes[offset + at..offset + at + 4].try_into().unwrap());
        let u64_at = |at: usize| u64::from_le_bytes(bytes[offset + at..offset + at + 8].try_into().unwrap());
        let length = u32_at(8) as usize;
        let count = u64::from(u32_at(32));
        groups.push(Group {
            offset,
            length,
            first: u64_at(16),
            synced_through: u64_at(24),
            count,
        });
        offset += length;
    }
    groups
}
