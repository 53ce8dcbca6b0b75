//! The writing side.
//!
//! ```text
//!  append ─► fits? ─ yes ─► one write at the end of the active segment
//!              └ no ─► allocate the next file ─► sync, footer, sync ─► next header, sync file, sync directory ─► write
//!                      (no space: nothing was touched)
//! ```
//!
//! Rotation syncs the full segment before anything says that it is complete, so at any power cut a footer or a next
//! header is proof that every record before it was durable.

use std::{io, sync::Arc};

use crate::{
    Consumer, Error, Handle, Lsn, Reader, Record, Recovery, Settings,
    active::{self, Active},
    catalog::{Catalog, Segment},
    group, recovery,
    segment::{self, OWNER_BYTES_MAX},
    storage::Storage,
};

/// An append buffer grown over this by a large group is given back afterwards.
const BUFFER_BYTES_KEPT: usize = 2 << 20;

/// What of the log to keep although nobody needs it: as long as both bounds hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Only segments with a record above.
    pub above: Lsn,
    /// Only while all segments, the active one included, take no more than so many bytes.
    pub bytes: u64,
}

impl Keep {
    /// Keeps nothing beyond need.
    pub const NOTHING: Keep = Keep {
        above: Lsn(u64::MAX),
        bytes: 0,
    };
}

/// The writing side; one thread owns it. Other threads read through a [`Handle`].
pub struct Log {
    catalog: Arc<Catalog>,
    settings: Settings,
    owner: Vec<u8>,
    active: Active,
    /// Last LSN given out.
    last: Lsn,
    /// The highest `synced_through` that stands in the log.
    covered: Lsn,
    buffer: Vec<u8>,
    /// What broke: everything is refused from then on.
    failure: Option<String>,
}

impl Log {
    /// Opens or creates the log, and makes durable what it keeps. `owner` is written into the headers of new segments.
    ///
    /// # Errors
    /// [`Error::Damaged`] when acknowledged records are lost, [`Error::Foreign`] when a newer build wrote them; both leave
    /// everything as it was. [`Error::Settings`], [`Error::Full`], [`Error::Io`] or [`Error::Failed`]: put right what they
    /// say and open again; opening can be repeated after a crash at any point.
    pub fn open(storage: Arc<dyn Storage>, settings: Settings, owner: &[u8]) -> Result<(Log, Recovery), Error> {
        settings.validate()?;
        if owner.len() > OWNER_BYTES_MAX {
            return Err(Error::Settings(format!(
                "the owner has {} bytes, at most {OWNER_BYTES_MAX} fit",
                owner.len()
            )));
        }
        let recovered = recovery::recover(&*storage, &settings, owner)?;
        let catalog = Arc::new(Catalog::new(storage, recovered.segments, recovered.report.last));
        let log = Log {
            catalog,
            settings,
            owner: owner.to_vec(),
            active: recovered.active,
            last: recovered.report.last,
            covered: recovered.covered,
            buffer: Vec::new(),
            failure: None,
        };
        Ok((log, recovered.report))
    }

    /// Frames `records` as one group and writes it; returns the first LSN. Not durable until [`Log::sync`]. No records:
    /// nothing is written, and the LSN is the one the next record will get.
    ///
    /// # Errors
    /// [`Error::TooLarge`] and [`Error::Full`]: nothing was appended. [`Error::Failed`]: stop the process.
    pub fn append(&mut self, records: &[Record<'_>]) -> Result<Lsn, Error> {
        self.refuse_after_failure()?;
        let first = self.last.next();
        if records.is_empty() {
            return Ok(first);
        }
        let size = group::framed_bytes(records);
        if size > self.settings.group_bytes_max {
            return Err(Error::TooLarge {
                size,
                maximum: self.settings.group_bytes_max,
            });
        }
        if !self.active.fits(size) {
            self.rotate(first)?;
        }
        self.write(first, records)?;
        self.last = Lsn(self.last.0 + records.len() as u64);
        Ok(first)
    }

    /// One fdatasync for everything appended before; returns the LSN now durable, which readers see from now on.
    ///
    /// # Errors
    /// [`Error::Failed`]: nothing appended since the last sync may be acknowledged; stop the process.
    pub fn sync(&mut self) -> Result<Lsn, Error> {
        self.refuse_after_failure()?;
        if self.active.is_unsynced() {
            let outcome = self.active.sync();
            self.fail_on(outcome)?;
        }
        self.catalog.set_synced(self.last);
        Ok(self.last)
    }

    /// Last LSN given out, or found at opening.
    #[must_use]
    pub fn last(&self) -> Lsn {
        self.last
    }

    /// The last LSN known durable.
    #[must_use]
    pub fn synced(&self) -> Lsn {
        self.catalog.synced()
    }

    /// Makes the next record get an LSN above `lsn`, by a new segment that says so: for a caller that holds state of
    /// records this log does not have. No effect when the log is already there.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn skip_past(&mut self, lsn: Lsn) -> Result<(), Error> {
        self.refuse_after_failure()?;
        if lsn > self.last {
            self.rotate(lsn.next())?;
            self.last = lsn;
            self.covered = lsn;
            self.catalog.set_synced(lsn);
        }
        Ok(())
    }

    /// A handle that makes readers and consumers from other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle {
            catalog: Arc::clone(&self.catalog),
        }
    }

    /// A reader positioned before the first record above `after`.
    ///
    /// # Errors
    /// [`Error::Retired`] when records above `after` have been removed.
    pub fn reader(&self, after: Lsn) -> Result<Reader, Error> {
        self.handle().reader(after)
    }

    /// Registers a consumer that needs everything above `after`.
    #[must_use]
    pub fn register(&self, name: &str, after: Lsn) -> Consumer {
        self.handle().register(name, after)
    }

    /// Removes whole segments that lie at or below `durable` (what the caller holds durably elsewhere), below every
    /// consumer and below the synced LSN; returns how many. The active segment stays.
    ///
    /// # Errors
    /// [`Error::Failed`] when a file cannot be removed or the removal not be made durable.
    pub fn retire(&mut self, durable: Lsn) -> Result<usize, Error> {
        self.retire_beyond(durable, Keep::NOTHING)
    }

    /// The same, but leaves what `keep` asks for: whoever comes back late finds it.
    ///
    /// # Errors
    /// As [`Log::retire`].
    pub fn retire_beyond(&mut self, durable: Lsn, keep: Keep) -> Result<usize, Error> {
        self.refuse_after_failure()?;
        let wanted = self.catalog.consumers.lowest().unwrap_or(durable);
        let limit = durable.min(wanted).min(self.catalog.synced());
        let mut retired = 0;
        while let Some(number) = self.catalog.oldest_to_go(limit, keep) {
            // Oldest first, each made durable before the next goes: a power cut must not leave a hole in the numbers.
            let storage = &self.catalog.storage;
            let outcome = storage
                .remove(&segment::file_name(number))
                .and_then(|()| storage.sync_directory());
            self.fail_on(outcome)?;
            self.catalog.forget(number);
            retired += 1;
        }
        Ok(retired)
    }

    /// Syncs, and writes one empty group that vouches for all records: after an orderly stop damage to the last records
    /// is told from a torn tail.
    ///
    /// # Errors
    /// [`Error::Failed`] as [`Log::sync`].
    pub fn close(mut self) -> Result<(), Error> {
        self.sync()?;
        if self.covered < self.last && self.active.fits(group::framed_bytes(&[])) {
            self.write(self.last.next(), &[])?;
            self.sync()?;
        }
        Ok(())
    }

    fn write(&mut self, first: Lsn, records: &[Record<'_>]) -> Result<(), Error> {
        let synced = self.catalog.synced();
        let offset = self.active.end;
        let outcome = self.active.write(&mut self.buffer, first, synced, records);
        self.fail_on(outcome)?;
        self.covered = synced;
        self.catalog.mark(first, offset);
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        Ok(())
    }

    /// Seals the active segment and begins the next, whose first record will be `first`.
    fn rotate(&mut self, first: Lsn) -> Result<(), Error> {
        let bytes = self.settings.segment_bytes;
        let file = match active::allocate(&*self.catalog.storage, self.active.number() + 1, bytes) {
            Err(Error::Failed(error)) => return self.fail_on(Err(error)),
            outcome => outcome?,
        };
        let outcome = self.active.seal();
        self.fail_on(outcome)?;
        let header = self.active.successor(first, bytes, &self.owner);
        let next = Segment::new(&header);
        let previous_last = header.previous_last;
        match Active::begin(&*self.catalog.storage, file, header) {
            Ok(active) => self.active = active,
            Err(error) => return self.fail_on(Err(error)),
        }
        self.catalog.rotate(previous_last, next);
        self.catalog.set_synced(self.last);
        self.covered = self.last;
        Ok(())
    }

    fn refuse_after_failure(&self) -> Result<(), Error> {
        match &self.failure {
            Some(failure) => Err(Error::Failed(io::Error::other(format!(
                "refused after an earlier failure: {failure}"
            )))),
            None => Ok(()),
        }
    }

    fn fail_on(&mut self, outcome: io::Result<()>) -> Result<(), Error> {
        outcome.map_err(|error| {
            self.failure = Some(error.to_string());
            Error::Failed(error)
        })
    }
}
