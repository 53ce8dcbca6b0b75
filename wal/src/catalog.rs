//! What every thread may know of the log: its segments, what is synced, who still needs what.
//!
//! The writer publishes in this order: a segment is sealed, the next one is listed, the synced LSN rises above it. So a
//! reader that sees an LSN as synced and does not find it where it stands finds the seal that sends it on.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{Consumer, Error, Keep, Lsn, Reader, consumers::Consumers, segment, storage::Storage};

/// Distance of the places in a segment that are kept in memory for readers to start from.
const MARK_EVERY_BYTES: u64 = 1 << 20;

/// Shared by the log, its handles and its readers.
pub(crate) struct Catalog {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) consumers: Arc<Consumers>,
    synced: AtomicU64,
    segments: Mutex<VecDeque<Segment>>,
}

/// One segment that is there.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    /// LSN of its first record, there or to come.
    pub(crate) first: Lsn,
    /// Last LSN of the segment before; between it and `first` LSNs were skipped.
    pub(crate) previous_last: Lsn,
    /// Its last LSN, once nothing more will come.
    pub(crate) sealed: Option<Lsn>,
    /// Length of its file.
    pub(crate) bytes: u64,
    pub(crate) marks: Marks,
}

/// Places in a segment where a group begins, with its first LSN.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks(Vec<(Lsn, u64)>);

impl Segment {
    /// A segment that has only a header.
    pub(crate) fn new(header: &segment::Header) -> Segment {
        Segment {
            number: header.number,
            first: header.first,
            previous_last: header.previous_last,
            sealed: None,
            bytes: header.capacity,
            marks: Marks::default(),
        }
    }
}

impl Marks {
    /// Remembers a group if it is far enough from the last one remembered.
    pub(crate) fn note(&mut self, first: Lsn, offset: u64) {
        let last = self.0.last().map_or(segment::HEADER_BYTES, |&(_, last)| last);
        if offset >= last + MARK_EVERY_BYTES {
            self.0.push((first, offset));
        }
    }

    /// Where to start looking for `lsn`.
    fn before(&self, lsn: Lsn) -> u64 {
        let after = self.0.partition_point(|&(first, _)| first <= lsn);
        after
            .checked_sub(1)
            .map_or(segment::HEADER_BYTES, |index| self.0[index].1)
    }
}

/// Where a reader finds an LSN.
pub(crate) struct Place {
    pub(crate) number: u64,
    /// A group at or before the one with the LSN.
    pub(crate) offset: u64,
    /// The LSN asked for, or the first above it where LSNs were skipped.
    pub(crate) lsn: Lsn,
}

impl Catalog {
    pub(crate) fn new(storage: Arc<dyn Storage>, segments: VecDeque<Segment>, synced: Lsn) -> Catalog {
        Catalog {
            storage,
            consumers: Arc::default(),
            synced: AtomicU64::new(synced.0),
            segments: Mutex::new(segments),
        }
    }

    /// The last LSN known durable.
    pub(crate) fn synced(&self) -> Lsn {
        Lsn(self.synced.load(Ordering::Acquire))
    }

    pub(crate) fn set_synced(&self, lsn: Lsn) {
        self.synced.store(lsn.0, Ordering::Release);
    }

    /// LSN of the first record that is there, or is to come.
    pub(crate) fn first(&self) -> Lsn {
        self.segments.lock().front().expect("an open log has a segment").first
    }

    /// Numbers of the segments that are there, oldest first.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.segments.lock().iter().map(|segment| segment.number).collect()
    }

    /// Remembers where the group of `first` begins in the active segment, if it is far enough from the last one.
    pub(crate) fn mark(&self, first: Lsn, offset: u64) {
        if let Some(active) = self.segments.lock().back_mut() {
            active.marks.note(first, offset);
        }
    }

    /// Seals the last segment and lists the one after it.
    pub(crate) fn rotate(&self, last: Lsn, next: Segment) {
        let mut segments = self.segments.lock();
        if let Some(full) = segments.back_mut() {
            full.sealed = Some(last);
        }
        segments.push_back(next);
    }

    /// The oldest segment, if everything in it is at or below `limit`, it is sealed, and `keep` does not ask for it.
    pub(crate) fn oldest_to_go(&self, limit: Lsn, keep: Keep) -> Option<u64> {
        let segments = self.segments.lock();
        let oldest = segments.front()?;
        let last = oldest.sealed?;
        let is_kept = || {
            let bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
            last > keep.above && bytes <= keep.bytes
        };
        (last <= limit && !is_kept()).then_some(oldest.number)
    }

    pub(crate) fn forget(&self, number: u64) {
        self.segments.lock().retain(|segment| segment.number != number);
    }

    /// Finds `lsn`, which must be at or below the synced LSN.
    pub(crate) fn locate(&self, lsn: Lsn) -> Result<Place, Error> {
        let segments = self.segments.lock();
        let oldest = segments.front().expect("an open log has a segment");
        // LSNs skipped before the oldest segment stand for records that somebody holds, but not this log.
        if lsn < oldest.first {
            return Err(Error::Retired {
                wanted: lsn,
                first: oldest.first,
            });
        }
        let after = segments.partition_point(|segment| segment.previous_last < lsn);
        let segment = &segments[after - 1];
        let lsn = lsn.max(segment.first);
        Ok(Place {
            number: segment.number,
            offset: segment.marks.before(lsn),
            lsn,
        })
    }

    /// Whether segment `number` is sealed, and with which last LSN. A segment that is no longer listed was sealed.
    pub(crate) fn sealed(&self, number: u64) -> Sealed {
        let segments = self.segments.lock();
        match segments.iter().find(|segment| segment.number == number) {
            Some(Segment { sealed: Some(last), .. }) => Sealed::At(*last),
            Some(_) => Sealed::No,
            None => Sealed::Retired,
        }
    }
}

/// How a segment stands.
pub(crate) enum Sealed {
    No,
    At(Lsn),
    Retired,
}

/// Makes readers and consumers from any thread, while one thread owns the [`crate::Log`].
#[derive(Clone)]
pub struct Handle {
    pub(crate) catalog: Arc<Catalog>,
}

impl Handle {
    /// A reader positioned before the first record above `after`.
    ///
    /// # Errors
    /// [`Error::Retired`] when records above `after` have been removed.
    pub fn reader(&self, after: Lsn) -> Result<Reader, Error> {
        Reader::new(Arc::clone(&self.catalog), after)
    }

    /// Registers a consumer that needs everything above `after`; it is held back from retention until it advances.
    #[must_use]
    pub fn register(&self, name: &str, after: Lsn) -> Consumer {
        self.catalog.consumers.register(name, after)
    }

    /// Every registered consumer with the LSN it has reached.
    #[must_use]
    pub fn consumers(&self) -> Vec<(String, Lsn)> {
        self.catalog.consumers.list()
    }

    /// The last LSN known durable.
    #[must_use]
    pub fn synced(&self) -> Lsn {
        self.catalog.synced()
    }

    /// LSN of the first record that is still there, or is to come.
    #[must_use]
    pub fn first(&self) -> Lsn {
        self.catalog.first()
    }

    /// What the log takes of the disk.
    ///
    /// # Errors
    /// When a file cannot be looked at.
    pub fn extent(&self) -> io::Result<Extent> {
        let numbers: Vec<u64> = self
            .catalog
            .segments
            .lock()
            .iter()
            .map(|segment| segment.number)
            .collect();
        let mut extent = Extent::default();
        for number in numbers {
            match self.catalog.storage.open(&segment::file_name(number)) {
                Ok(file) => {
                    extent.segments += 1;
                    extent.bytes += file.length()?;
                }
                // Retired since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(extent)
    }
}

/// What a log takes of the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Files.
    pub segments: u32,
    /// Bytes allocated for them.
    pub bytes: u64,
}
