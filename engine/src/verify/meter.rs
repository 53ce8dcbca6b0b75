//! How far a verification has come, and whether it goes on.

use std::cell::{Cell, RefCell};

use super::Progress;
use crate::store::{Error, Family, View};

/// Whoever waits is asked after so many bytes,
const STEP_BYTES: u64 = 1 << 20;
/// or so many rows: each may take a few reads of its own. Both are read in far less than a second.
const STEP_ROWS: u32 = 1_000;

/// Counts what is read, and asks now and then whether to go on.
pub(super) struct Meter<'a> {
    progress: RefCell<Progress<'a>>,
    /// Of what comes to its end at a known place: where that is.
    total_bytes: Cell<u64>,
    /// Of what lies before the part that is read now.
    before_bytes: Cell<u64>,
    /// Of the part that is read now, which may not be told to be longer than it is.
    part_bytes: Cell<u64>,
    read_bytes: Cell<u64>,
    unasked_bytes: Cell<u64>,
    unasked_rows: Cell<u32>,
    is_stopped: Cell<bool>,
}

impl<'a> Meter<'a> {
    pub(super) fn new(progress: Progress<'a>, total_bytes: u64) -> Meter<'a> {
        Meter {
            progress: RefCell::new(progress),
            total_bytes: Cell::new(total_bytes),
            before_bytes: Cell::default(),
            part_bytes: Cell::default(),
            read_bytes: Cell::default(),
            unasked_bytes: Cell::default(),
            unasked_rows: Cell::default(),
            is_stopped: Cell::default(),
        }
    }

    /// Begins a part of so many bytes on disk, behind those that were begun before.
    pub(super) fn part(&self, bytes: u64) -> bool {
        self.before_bytes.set(self.before_bytes.get() + self.part_bytes.get());
        self.part_bytes.set(bytes);
        self.read_bytes.set(0);
        self.ask()
    }

    /// Everything was read.
    pub(super) fn end(&self) -> bool {
        self.before_bytes.set(self.total_bytes.get());
        self.part_bytes.set(0);
        self.ask()
    }

    /// A row or record of so many bytes was read. False: no more are wanted.
    pub(super) fn row(&self, bytes: usize) -> bool {
        self.read_bytes.set(self.read_bytes.get() + bytes as u64);
        self.unasked_bytes.set(self.unasked_bytes.get() + bytes as u64);
        self.unasked_rows.set(self.unasked_rows.get() + 1);
        if self.unasked_bytes.get() < STEP_BYTES && self.unasked_rows.get() < STEP_ROWS {
            return !self.is_stopped.get();
        }
        self.ask()
    }

    fn ask(&self) -> bool {
        self.unasked_bytes.set(0);
        self.unasked_rows.set(0);
        // Of what is packed more is read than lies on disk.
        let read_bytes = self.read_bytes.get().min(self.part_bytes.get());
        let total_bytes = self.total_bytes.get();
        let done_bytes = (self.before_bytes.get() + read_bytes).min(total_bytes);
        if !self.is_stopped.get() && !(self.progress.borrow_mut())(done_bytes, total_bytes) {
            self.is_stopped.set(true);
        }
        !self.is_stopped.get()
    }

    /// Whether somebody said that no more is wanted.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.get()
    }
}

/// A view whose scans are counted, and end when no more is wanted.
pub(super) struct Metered<'a, 'p> {
    pub(super) view: &'a dyn View,
    pub(super) meter: &'a Meter<'p>,
}

impl View for Metered<'_, '_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.view.get(family, key)
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        let mut counted = |key: &[u8], value: &[u8]| self.meter.row(key.len() + value.len()) && visit(key, value);
        self.view.scan(family, from, to, &mut counted)
    }
}
