//! How full the disk is, and what may still be done with it.
//!
//! ```text
//!  free > needed       everything is written     needed = hard mark + flush + compaction + the reserve, while given up
//!  free ≤ needed       only deletes and raft's frames; the store compacts eagerly, so that what they leave is given back
//!  free < flush + compaction     no compaction is begun
//!  free + reserve < flush        nothing is written, no flush is begun: it would end in an error of the store; raft's frames wait
//!  room again          the flush is made up for, compactions go on, the reserve is taken up, everything is written;
//!                      no command is needed
//! ```
//!
//! *flush*: what the next flush may write. *compaction*: what one compaction may write before it removes what it read.
//! Writes keep the room of both free, else a disk filled with overwritten values could never be given back.
//! The *reserve* is a file of one segment, allocated beforehand: it is given up for the log's next segment, or for a flush,
//! which lets old segments go.
//!
//! Another program may take the room at any moment, also while a flush runs. Then the store fails for want of space and
//! heals by itself; until then every write is refused ([`Room::refusal`]).

use std::{io, sync::Arc};

use parking_lot::Mutex;
use wal::storage::Storage;

use super::{CommitError, merge::Admission};
use crate::store::{Compactions, Store};

/// Name of the reserve beside the segments.
pub(crate) const RESERVE: &str = "reserve";

/// The numbers of a [`Space`], in bytes.
pub(crate) struct Marks {
    /// Warn below this much free space.
    pub(crate) soft_bytes: u64,
    /// Refuse writes below this much, besides what the store needs itself.
    pub(crate) hard_bytes: u64,
    /// Size of the reserve.
    pub(crate) reserve_bytes: u64,
}

/// How the disk stood when it was last looked at, at most a second or two ago.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Bytes free.
    pub free_bytes: u64,
    /// Writes are refused while no more than this is free.
    pub needed_bytes: u64,
    /// Whether the store may compact.
    pub compacts: bool,
}

pub(crate) struct Space {
    storage: Arc<dyn Storage>,
    store: Arc<dyn Store>,
    marks: Marks,
    seen: Arc<Mutex<Disk>>,
    has_reserve: bool,
    /// Room for one compaction, when last looked.
    compaction_bytes: u64,
    /// What the store was told last, once it was.
    compactions: Option<Compactions>,
    /// Whether a flush is due and waits for room.
    is_flush_postponed: bool,
    level: Level,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Ample,
    Low,
    Full,
}

impl Space {
    /// Takes up the reserve when there is room for it.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub(crate) fn open(storage: Arc<dyn Storage>, store: Arc<dyn Store>, marks: Marks) -> io::Result<Space> {
        let mut has_reserve = storage.list()?.iter().any(|name| name == RESERVE);
        // Cut short while it was allocated, or of another size by the settings then: it would free too little.
        if has_reserve && storage.open(RESERVE)?.length()? < marks.reserve_bytes {
            storage.remove(RESERVE)?;
            has_reserve = false;
        }
        let mut space = Space {
            storage,
            compaction_bytes: store.compaction_bytes(),
            store,
            marks,
            seen: Arc::default(),
            has_reserve,
            compactions: None,
            is_flush_postponed: false,
            level: Level::Ample,
        };
        space.admit(0);
        Ok(space)
    }

    /// Asks how much is free and decides what may be written, when `unflushed` bytes of changes are not flushed yet.
    pub(super) fn admit(&mut self, unflushed: u64) -> Admission {
        let Ok(free_bytes) = self.storage.free_bytes() else {
            // What cannot be asked is found out by writing: the log refuses cleanly when there is no room.
            return Admission::All;
        };
        let needed_bytes = self.needed(unflushed);
        self.report(free_bytes, needed_bytes);
        {
            let mut seen = self.seen.lock();
            (seen.free_bytes, seen.needed_bytes) = (free_bytes, needed_bytes);
        }
        if free_bytes > needed_bytes {
            if !self.has_reserve {
                self.take_up_reserve();
            }
            return Admission::All;
        }
        let flush_bytes = self.store.flush_bytes(unflushed);
        if free_bytes.saturating_add(self.reserve()) < flush_bytes {
            return Admission::NoSpace {
                free_bytes,
                needed_bytes: flush_bytes,
            };
        }
        Admission::OnlyDeletes {
            free_bytes,
            needed_bytes,
        }
    }

    /// What must be free for more than deletes. A reserve that was given up comes first when room is there again.
    fn needed(&self, unflushed: u64) -> u64 {
        let reserve_missing = self.marks.reserve_bytes - self.reserve();
        let store = self.needed_to_compact(unflushed);
        self.marks
            .hard_bytes
            .saturating_add(store)
            .saturating_add(reserve_missing)
    }

    /// What must be free for a compaction: it may take in what the next flush adds, and must leave that flush its room.
    fn needed_to_compact(&self, unflushed: u64) -> u64 {
        let flush_bytes = self.store.flush_bytes(unflushed);
        self.compaction_bytes.saturating_add(flush_bytes.saturating_mul(2))
    }

    /// Bytes that giving up the reserve would free.
    fn reserve(&self) -> u64 {
        if self.has_reserve { self.marks.reserve_bytes } else { 0 }
    }

    /// Looks how large the store has become, and says when it is to compact if that has changed.
    pub(super) fn look(&mut self, unflushed: u64) -> Option<Compactions> {
        self.compaction_bytes = self.store.compaction_bytes();
        // What cannot be asked is found out by compacting: without room it is given up, and nothing is lost.
        let free_bytes = self.storage.free_bytes().unwrap_or(u64::MAX);
        let needed_bytes = self.needed(unflushed);
        self.report(free_bytes, needed_bytes);
        let needed_to_compact_bytes = self.needed_to_compact(unflushed);
        let compactions = if free_bytes < needed_to_compact_bytes {
            Compactions::Off
        } else if self.is_full() {
            Compactions::Eager
        } else {
            Compactions::On
        };
        *self.seen.lock() = Disk {
            free_bytes,
            needed_bytes,
            compacts: compactions != Compactions::Off,
        };
        if self.compactions == Some(compactions) {
            return None;
        }
        if compactions == Compactions::Off {
            tracing::warn!(
                free_bytes,
                needed_bytes = needed_to_compact_bytes,
                "low space: compactions are off until there is room for one"
            );
        }
        self.compactions = Some(compactions);
        self.compactions
    }

    /// Where [`Space::look`] leaves what it saw.
    pub(crate) fn seen(&self) -> Arc<Mutex<Disk>> {
        Arc::clone(&self.seen)
    }

    /// Whether so little is free that the store should be flushed in smaller steps.
    pub(super) fn is_low(&self) -> bool {
        self.level != Level::Ample
    }

    /// Whether writes are refused.
    pub(super) fn is_full(&self) -> bool {
        self.level == Level::Full
    }

    /// What to answer when the log itself found no room.
    pub(super) fn only_deletes(&self, unflushed: u64) -> Admission {
        Admission::OnlyDeletes {
            free_bytes: self.storage.free_bytes().unwrap_or(0),
            needed_bytes: self.needed(unflushed),
        }
    }

    /// What to answer while the store has failed for want of space.
    pub(super) fn nothing(&self, unflushed: u64) -> Admission {
        Admission::NoSpace {
            free_bytes: self.storage.free_bytes().unwrap_or(0),
            needed_bytes: self.needed(unflushed).max(self.store.resume_bytes()),
        }
    }

    /// Gives up the reserve; false when it was spent before.
    pub(super) fn give_up_reserve(&mut self) -> bool {
        if self.has_reserve {
            tracing::warn!(
                bytes = self.marks.reserve_bytes,
                "the disk is full: the reserve is given up so that deletes go on"
            );
            self.has_reserve = self.storage.remove(RESERVE).is_err();
            return !self.has_reserve;
        }
        false
    }

    /// Whether a flush of `unflushed` bytes of changes finds room; the reserve is given up when that makes it.
    pub(super) fn has_room_to_flush(&mut self, unflushed: u64) -> bool {
        let needed_bytes = self.store.flush_bytes(unflushed);
        let has_room = self.storage.free_bytes().map_or(true, |free_bytes| {
            free_bytes >= needed_bytes
                || (free_bytes.saturating_add(self.reserve()) >= needed_bytes && self.give_up_reserve())
        });
        if !has_room && !self.is_flush_postponed {
            tracing::warn!(
                needed_bytes,
                "the disk is full: the database is flushed once there is room"
            );
        }
        self.is_flush_postponed = !has_room;
        has_room
    }

    /// Whether a flush of `unflushed` bytes of changes finds room as it is: the reserve is for deletes, not for what can wait.
    pub(super) fn holds_a_flush(&self, unflushed: u64) -> bool {
        let needed_bytes = self.store.flush_bytes(unflushed);
        self.storage
            .free_bytes()
            .map_or(true, |free_bytes| free_bytes >= needed_bytes)
    }

    /// What to answer somebody who would make the store flush.
    pub(super) fn no_room_to_flush(&self, unflushed: u64) -> CommitError {
        CommitError::NoSpace {
            free_bytes: self.storage.free_bytes().unwrap_or(0),
            needed_bytes: self.store.flush_bytes(unflushed),
            deletes: self.has_reserve,
        }
    }

    /// What others tell their callers while the store has failed for want of space.
    pub(super) fn room(&self, unflushed_max: u64) -> Room {
        Room {
            storage: Arc::clone(&self.storage),
            needed_bytes: self.needed(unflushed_max).max(self.store.resume_bytes()),
        }
    }

    fn take_up_reserve(&mut self) {
        match self.storage.create(RESERVE, self.marks.reserve_bytes) {
            Ok(_) => self.has_reserve = true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.has_reserve = true,
            Err(error) => tracing::warn!(%error, "the reserve for deletes on a full disk cannot be allocated"),
        }
    }

    /// Says what has changed since the last time.
    fn report(&mut self, free_bytes: u64, needed_bytes: u64) {
        // The warning comes as long before the refusal as the marks lie apart, and goes twice as far from it: flushes and
        // compactions move the need up and down.
        let apart_bytes = self.marks.soft_bytes.saturating_sub(self.marks.hard_bytes);
        let ahead_bytes = if self.is_low() {
            apart_bytes.saturating_mul(2)
        } else {
            apart_bytes
        };
        let level = match free_bytes {
            free if free <= needed_bytes => Level::Full,
            free if free <= needed_bytes.saturating_add(ahead_bytes) => Level::Low,
            _ => Level::Ample,
        };
        if level == self.level {
            return;
        }
        match level {
            Level::Full => tracing::error!(
                free_bytes,
                needed_bytes,
                "the disk is nearly full: writes are refused, deletes work"
            ),
            Level::Low => tracing::warn!(free_bytes, needed_bytes, "the disk is filling up"),
            Level::Ample => tracing::info!(free_bytes, "the disk has room again"),
        }
        self.level = level;
    }
}

/// The room on the disk, for those who only tell of it.
#[derive(Clone)]
pub(crate) struct Room {
    storage: Arc<dyn Storage>,
    needed_bytes: u64,
}

impl Room {
    /// Why nothing is written while the store has failed for want of space.
    pub(super) fn refusal(&self) -> CommitError {
        CommitError::NoSpace {
            free_bytes: self.storage.free_bytes().unwrap_or(0),
            needed_bytes: self.needed_bytes,
            deletes: false,
        }
    }
}
