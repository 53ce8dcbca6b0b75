//! How full the disk is, and the reserve that keeps deletes possible.
//!
//! ```text
//!  free > needed                 everything is written
//!  free ≤ needed                 only deletes          needed = hard mark + what the next flush will write
//!                                                               + the reserve, while it is given up
//!  no room for the next segment  the reserve (a file of one segment, allocated beforehand) is given up, deletes go on
//!  room again                    the reserve is taken up again, everything is written; no command is needed
//! ```

use std::{io, sync::Arc};

use wal::storage::Storage;

use super::merge::Admission;

/// Name of the reserve beside the segments.
const RESERVE: &str = "reserve";

pub(crate) struct Space {
    storage: Arc<dyn Storage>,
    soft_bytes: u64,
    hard_bytes: u64,
    reserve_bytes: u64,
    has_reserve: bool,
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
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        soft_bytes: u64,
        hard_bytes: u64,
        reserve_bytes: u64,
    ) -> io::Result<Space> {
        let mut has_reserve = storage.list()?.iter().any(|name| name == RESERVE);
        // Cut short while it was allocated, or of another size by the settings then: it would free too little.
        if has_reserve && storage.open(RESERVE)?.length()? < reserve_bytes {
            storage.remove(RESERVE)?;
            has_reserve = false;
        }
        let mut space = Space {
            storage,
            soft_bytes,
            hard_bytes,
            reserve_bytes,
            has_reserve,
            level: Level::Ample,
        };
        space.admit(0);
        Ok(space)
    }

    /// Asks how much is free and decides what may be written, when the next flush will write up to `unflushed` bytes.
    pub(super) fn admit(&mut self, unflushed: u64) -> Admission {
        let Ok(free_bytes) = self.storage.free_bytes() else {
            // What cannot be asked is found out by writing: the log refuses cleanly when there is no room.
            return Admission::All;
        };
        let needed_bytes = self.needed(unflushed);
        self.report(free_bytes, needed_bytes);
        if free_bytes <= needed_bytes {
            return Admission::OnlyDeletes {
                free_bytes,
                needed_bytes,
            };
        }
        if !self.has_reserve {
            self.take_up_reserve();
        }
        Admission::All
    }

    /// What must be free for more than deletes. A reserve that was given up comes first when room is there again.
    fn needed(&self, unflushed: u64) -> u64 {
        let reserve = if self.has_reserve { 0 } else { self.reserve_bytes };
        self.hard_bytes.saturating_add(unflushed).saturating_add(reserve)
    }

    /// Whether so little is free that the store should be flushed in smaller steps.
    pub(super) fn is_low(&self) -> bool {
        self.level != Level::Ample
    }

    /// What to answer when the log itself found no room.
    pub(super) fn only_deletes(&self, unflushed: u64) -> Admission {
        let free_bytes = self.storage.free_bytes().unwrap_or(0);
        Admission::OnlyDeletes {
            free_bytes,
            needed_bytes: self.needed(unflushed),
        }
    }

    /// Gives up the reserve; false when it was spent before.
    pub(super) fn give_up_reserve(&mut self) -> bool {
        if self.has_reserve {
            tracing::warn!(
                bytes = self.reserve_bytes,
                "the disk is full: the reserve is given up so that deletes go on"
            );
            self.has_reserve = self.storage.remove(RESERVE).is_err();
            return !self.has_reserve;
        }
        false
    }

    /// Makes room for a flush that will write up to `unflushed` bytes.
    pub(super) fn before_flush(&mut self, unflushed: u64) {
        if self
            .storage
            .free_bytes()
            .is_ok_and(|free| free < unflushed.saturating_mul(2))
        {
            self.give_up_reserve();
        }
    }

    fn take_up_reserve(&mut self) {
        match self.storage.create(RESERVE, self.reserve_bytes) {
            Ok(_) => self.has_reserve = true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.has_reserve = true,
            Err(error) => tracing::warn!(%error, "the reserve for deletes on a full disk cannot be allocated"),
        }
    }

    /// Says what has changed since the last time.
    fn report(&mut self, free_bytes: u64, needed_bytes: u64) {
        let level = match free_bytes {
            free if free <= needed_bytes => Level::Full,
            free if free <= self.soft_bytes => Level::Low,
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
            Level::Low => tracing::warn!(free_bytes, soft_bytes = self.soft_bytes, "the disk is filling up"),
            Level::Ample => tracing::info!(free_bytes, "the disk has room again"),
        }
        self.level = level;
    }
}
