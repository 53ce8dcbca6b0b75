//! The log's storage with a stopwatch on it: what the disk costs is measured where it is paid, and the log knows nothing
//! of it.

use std::{io, sync::Arc};

use metrics::{Counter, Histogram};
use wal::storage::{File, Storage};

use crate::{
    metrics::{self as counts, Metrics},
    runtime::time::Stopwatch,
};

#[derive(Clone)]
struct Counts {
    syncs: Counter,
    sync_seconds: Histogram,
    bytes: Counter,
}

/// A storage whose writes and syncs are counted.
pub(super) struct Timed {
    inner: Arc<dyn Storage>,
    counts: Counts,
}

impl Timed {
    pub(super) fn new(inner: Arc<dyn Storage>, metrics: &Metrics) -> Timed {
        let counts = Counts {
            syncs: metrics.counter(counts::SYNCS, &[]),
            sync_seconds: metrics.histogram(counts::SYNC_SECONDS, &[]),
            bytes: metrics.counter(counts::LOG_BYTES, &[]),
        };
        Timed { inner, counts }
    }

    fn timed(&self, inner: Box<dyn File>) -> Box<dyn File> {
        Box::new(TimedFile {
            inner,
            counts: self.counts.clone(),
        })
    }
}

impl Storage for Timed {
    fn create(&self, name: &str, length: u64) -> io::Result<Box<dyn File>> {
        Ok(self.timed(self.inner.create(name, length)?))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        Ok(self.timed(self.inner.open(name)?))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.inner.sync_directory()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.inner.free_bytes()
    }
}

struct TimedFile {
    inner: Box<dyn File>,
    counts: Counts,
}

impl File for TimedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.counts.bytes.increment(bytes.len() as u64);
        self.inner.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        let since = Stopwatch::start();
        let synced = self.inner.sync();
        self.counts.syncs.increment(1);
        self.counts.sync_seconds.record(since.seconds());
        synced
    }

    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }
}
