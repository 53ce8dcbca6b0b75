//! The one thread that writes the log.
//!
//! ```text
//!  round ─► admit (disk) ─► merge ─► append ─► synced batch, or flush running? ─yes─► sync ─► applier
//!                                                     └─no─► applier, sync within 10 ms
//! ```

use std::{
    sync::{
        Arc,
        mpsc::{Sender, SyncSender},
    },
    time::{Duration, Instant},
};

use wal::{Keep, Log, Lsn, Record};

use super::{
    Batch, CommitError,
    ages::Ages,
    applier::{Applier, Group, Progress},
    flusher::{Flushed, Order},
    gather::Gather,
    merge::{Admission, Merged, Merger},
    queue::{Filling, Queue, Work, after},
    record,
    round::Outcome,
    space::Space,
    stop::Stop,
    sync_first::{Entry, SyncFirst},
};

/// A buffered batch is synced this long after it was appended, at the latest.
const BUFFERED_SYNC: Duration = Duration::from_millis(10);

/// With little free space the store is flushed this many times as often, so that less must be kept free for it.
const LOW_SPACE_FLUSHES: u64 = 8;

/// With this many flushes outstanding batches are refused: the store must not fill its write buffers and stall, and replay
/// must stay bounded.
const FLUSHES_BEHIND_MAX: u64 = 4;

/// A flush that failed, or found no room, is tried again after this long.
const FLUSH_RETRY: Duration = Duration::from_secs(1);

/// While writes are refused whatever is there is flushed this often: only then can what was deleted be given back.
const FLUSH_WHEN_FULL: Duration = Duration::from_secs(5);

/// How often a committer that must wait for the applier looks whether it is done.
const DRAIN_LOOK: Duration = Duration::from_micros(100);

/// Raft's frames that found no room are tried again after this long.
const RAFT_RETRY: Duration = Duration::from_millis(50);

/// Free space is looked at this often even when nobody writes: other programs use the disk too.
const LOOK_AT_SPACE: Duration = Duration::from_secs(1);

mod rounds;

/// The committer's state; [`Committer::run`] is the body of its thread.
pub(crate) struct Committer {
    pub(crate) queue: Arc<Queue>,
    pub(crate) log: Log,
    pub(crate) merger: Merger,
    pub(crate) space: Space,
    pub(crate) progress: Arc<Progress>,
    pub(crate) stop: Arc<Stop>,
    /// Applies here what has nobody waiting behind it: it spares its caller a hop between threads.
    pub(super) applier: Applier,
    pub(super) groups: SyncSender<Group>,
    pub(super) flusher: Sender<Order>,
    /// Groups are closed at this many bytes of records.
    pub(crate) group_bytes_max: usize,
    pub(crate) flush_log_bytes: u64,
    /// Log written since the last flush began.
    pub(crate) unflushed_bytes: u64,
    /// After a failed flush the next one waits until then.
    flush_not_before: Option<Instant>,
    /// While writes are refused even a little is flushed from then on.
    flush_when_full_from: Instant,
    /// Whether the last flush failed for want of space: the store takes no writes until it has healed.
    store_is_full: bool,
    /// When to look at the free space again.
    look_at: Instant,
    /// Log that the running flush makes droppable; while it runs everything is synced before it is applied.
    flushing: Option<u64>,
    /// When the oldest unsynced record must be synced.
    sync_by: Option<Instant>,
    /// Number of the last group handed on to be applied.
    sent: u64,
    /// Groups in the log that are not handed on yet: another round shares their sync.
    written: Vec<Group>,
    /// Whether any of them must be synced first.
    written_synced: bool,
    /// Raft's frames found no room, and are tried again then.
    raft_held_until: Option<Instant>,
    /// Batches taken from the queue, raft's left aside.
    taken: u64,
    gather: Gather,
    /// The last record known to be durably in the store.
    durable: Lsn,
    /// Log kept beyond need, at most.
    log_keep_bytes: u64,
    ages: Ages,
}

/// What became of the first batches of a round.
enum Written {
    /// A group in the log, after this LSN.
    Group(Merged, Lsn),
    /// Nothing was written; these are the answers.
    Refused(Vec<Outcome>),
    /// Nothing was written, and they are raft's, which must not see an error: they wait.
    NoRoom,
}

/// What a committer is made of.
pub(crate) struct Parts {
    pub(crate) queue: Arc<Queue>,
    pub(crate) log: Log,
    pub(crate) merger: Merger,
    pub(crate) space: Space,
    pub(crate) progress: Arc<Progress>,
    pub(crate) stop: Arc<Stop>,
    pub(crate) group_bytes_max: usize,
    pub(crate) flush_log_bytes: u64,
    pub(crate) unflushed_bytes: u64,
    pub(crate) durable: Lsn,
    pub(crate) log_keep_bytes: u64,
    pub(crate) log_keep: Duration,
}

impl Committer {
    pub(super) fn new(parts: Parts, applier: Applier, groups: SyncSender<Group>, flusher: Sender<Order>) -> Committer {
        let Parts {
            queue,
            log,
            merger,
            space,
            progress,
            stop,
            group_bytes_max,
            flush_log_bytes,
            unflushed_bytes,
            durable,
            log_keep_bytes,
            log_keep,
        } = parts;
        Committer {
            queue,
            log,
            merger,
            space,
            progress,
            stop,
            applier,
            groups,
            flusher,
            group_bytes_max,
            flush_log_bytes,
            unflushed_bytes,
            flush_not_before: None,
            flush_when_full_from: after(Duration::ZERO),
            store_is_full: false,
            look_at: after(Duration::ZERO),
            flushing: None,
            sync_by: None,
            sent: 0,
            written: Vec::new(),
            written_synced: false,
            raft_held_until: None,
            taken: 0,
            gather: Gather::default(),
            durable,
            log_keep_bytes,
            ages: Ages::new(log_keep),
        }
    }

    /// Works until the queue is closed and empty, then hands back the synced log.
    ///
    /// # Errors
    /// What stops the engine: nothing after it may be acknowledged.
    pub(super) fn run(mut self) -> Result<Log, String> {
        loop {
            let (taken, progress) = (self.taken, &self.progress);
            let unanswered = || usize::try_from(taken - progress.answered()).unwrap_or(usize::MAX);
            let others = [self.sync_by, self.raft_held_until];
            let deadline = others.into_iter().flatten().fold(self.look_at, Instant::min);
            self.raft_held_until.take_if(|until| *until <= after(Duration::ZERO));
            let held = self.raft_held_until.is_some();
            match self.queue.take(deadline, held, &mut self.gather, &unanswered) {
                Work::Round(filling, company) => self.commit(filling, company)?,
                Work::Late => self.sync_if_late()?,
                Work::Flushed(flushed) => self.retire(flushed)?,
                Work::SyncFirst(entry) => self.let_in(entry)?,
                Work::Closed => break,
            }
            self.look_if_due()?;
        }
        self.sync()?;
        Ok(self.log)
    }

    /// Merges and appends as many of `batches` as fit into one group; either all or none of them are raft's.
    fn write_group(&mut self, batches: &[Batch], number: u64, raft: bool) -> Result<Written, String> {
        let unflushed = self.to_be_flushed();
        let mut admission = if self.store_is_full {
            self.space.nothing(unflushed)
        } else if unflushed > FLUSHES_BEHIND_MAX.saturating_mul(self.flush_log_bytes) {
            Admission::Nothing
        } else {
            self.space.admit(unflushed)
        };
        if !matches!(admission, Admission::All | Admission::Nothing) && self.let_go_of_log(Keep::NOTHING)? {
            admission = self.space.admit(unflushed);
        }
        self.queue.tell_behind(matches!(admission, Admission::Nothing));
        // Raft waits, unless the engine is being closed: then nothing would end the wait.
        let raft_waits = raft && !self.queue.is_closed();
        if raft_waits && matches!(admission, Admission::NoSpace { .. }) {
            return Ok(Written::NoRoom);
        }
        let mut batches = batches;
        loop {
            let start = self.merger.before();
            let merged = self.merger.merge(batches, admission, number, self.group_bytes_max);
            let error = match self.append(&merged) {
                Ok(before) => return Ok(Written::Group(merged, before)),
                Err(error) => error,
            };
            self.drain_applier()?;
            self.merger.roll_back(&start);
            if matches!(error, wal::Error::Full(_)) && self.let_go_of_log(Keep::NOTHING)? {
                continue;
            }
            let refusal = match (error, admission) {
                (wal::Error::Full(_), Admission::All | Admission::Nothing | Admission::NoSpace { .. }) => {
                    admission = self.space.only_deletes(self.to_be_flushed());
                    continue;
                }
                (wal::Error::Full(_), Admission::OnlyDeletes { .. }) if self.space.give_up_reserve() => continue,
                (wal::Error::Full(_), _) if raft_waits => return Ok(Written::NoRoom),
                (
                    wal::Error::Full(_),
                    Admission::OnlyDeletes {
                        free_bytes,
                        needed_bytes,
                    },
                ) => CommitError::NoSpace {
                    free_bytes,
                    needed_bytes,
                    deletes: false,
                },
                (wal::Error::TooLarge { .. }, _) if merged.batches() > 1 => {
                    // The last one is the large one: it comes alone next time.
                    batches = &batches[..merged.batches() - 1];
                    continue;
                }
                (error @ wal::Error::TooLarge { .. }, _) => CommitError::Invalid(error.to_string()),
                (error, _) => return Err(self.fatal(&error)),
            };
            return Ok(Written::Refused(merged.refused(&refusal)));
        }
    }

    fn sync_or_schedule(&mut self, synced: bool) -> Result<(), String> {
        if synced || self.flushing.is_some() || self.queue.is_sync_first() {
            return self.sync();
        }
        self.sync_by.get_or_insert_with(|| after(BUFFERED_SYNC));
        self.sync_if_late()
    }

    fn sync_if_late(&mut self) -> Result<(), String> {
        match self.sync_by {
            Some(deadline) if deadline <= after(Duration::ZERO) => self.sync(),
            _ => Ok(()),
        }
    }

    /// Writes the group; returns the LSN before its first record.
    fn append(&mut self, merged: &Merged) -> Result<Lsn, wal::Error> {
        let body = |range: &std::ops::Range<usize>| &merged.buffer[range.clone()];
        let records: Vec<Record<'_>> = merged
            .records
            .iter()
            .map(|range| Record {
                header: record::KIND_WRITES,
                body: body(range),
            })
            .collect();
        let before = self.log.last();
        self.log.append(&records)?;
        self.unflushed_bytes += merged.buffer.len() as u64;
        Ok(before)
    }

    fn sync(&mut self) -> Result<(), String> {
        if self.log.synced() < self.log.last() {
            let start = after(Duration::ZERO);
            self.log.sync().map_err(|error| self.fatal(&error))?;
            self.gather.synced_in(after(Duration::ZERO) - start);
        }
        self.sync_by = None;
        self.progress.publish();
        Ok(())
    }

    /// What the store must be able to write, by the running flush and the next.
    fn to_be_flushed(&self) -> u64 {
        self.unflushed_bytes + self.flushing.unwrap_or(0)
    }

    /// Stops the engine before any caller learns of it.
    fn fatal(&self, error: &dyn std::fmt::Display) -> String {
        let reason = error.to_string();
        self.stop.stop(&reason);
        reason
    }

    /// Waits until everything sent is applied: only when a group could not be written, never in the ordinary course.
    ///
    /// When the applier failed meanwhile, what was sent will never be applied: nothing may be answered or merged over it.
    #[expect(
        clippy::disallowed_methods,
        reason = "the committer's own thread waits for another of the engine's"
    )]
    fn drain_applier(&mut self) -> Result<(), String> {
        self.hand_on_written()?;
        while self.progress.applied_group() < self.sent {
            if let Some(reason) = self.stop.reason() {
                return Err(reason);
            }
            // It may wait for room on a full disk, so no spinning.
            std::thread::sleep(DRAIN_LOOK);
        }
        Ok(())
    }

    /// Looks at the free space, and makes up for a flush that waited for it.
    fn look_if_due(&mut self) -> Result<(), String> {
        if after(Duration::ZERO) < self.look_at {
            return Ok(());
        }
        self.look_at = after(LOOK_AT_SPACE);
        self.look()?;
        self.ages.note(after(Duration::ZERO), self.log.last());
        self.let_go_of_log(self.keep())?;
        self.flush_if_due()
    }

    /// What of the log is kept for those who come back late.
    fn keep(&self) -> Keep {
        if self.space.is_low() {
            return Keep::NOTHING;
        }
        Keep {
            above: self.ages.old(),
            bytes: self.log_keep_bytes,
        }
    }

    /// Drops what of the log is neither needed nor to be kept; false when there was nothing.
    fn let_go_of_log(&mut self, keep: Keep) -> Result<bool, String> {
        let retired = self.log.retire_beyond(self.durable, keep);
        Ok(retired.map_err(|error| self.fatal(&error))? > 0)
    }

    /// Has the store compact or not, as the disk has room now.
    fn look(&mut self) -> Result<(), String> {
        match self.space.look(self.to_be_flushed()) {
            Some(when) => self.order(Order::Compact(when)),
            None => Ok(()),
        }
    }

    fn order(&self, order: Order) -> Result<(), String> {
        self.flusher
            .send(order)
            .map_err(|_| self.fatal(&"the flusher has stopped"))
    }

    /// Log after which the store is flushed.
    fn flush_due_bytes(&self) -> u64 {
        let when_full = || self.flush_when_full_from <= after(Duration::ZERO);
        if self.store_is_full || self.space.is_full() && when_full() {
            1
        } else if self.space.is_low() {
            self.flush_log_bytes / LOW_SPACE_FLUSHES
        } else {
            self.flush_log_bytes
        }
    }

    fn flush_if_due(&mut self) -> Result<(), String> {
        let too_soon = self
            .flush_not_before
            .is_some_and(|moment| after(Duration::ZERO) < moment);
        if self.flushing.is_some() || self.unflushed_bytes < self.flush_due_bytes() || too_soon {
            return Ok(());
        }
        // What is flushed becomes part of what a compaction takes in, so whether one may begin is decided before.
        self.look()?;
        if !self.space.has_room_to_flush(self.unflushed_bytes) {
            self.flush_not_before = Some(after(FLUSH_RETRY));
            return Ok(());
        }
        self.sync()?;
        self.flushing = Some(self.unflushed_bytes);
        self.unflushed_bytes = 0;
        self.order(Order::Flush)
    }

    /// From now on syncs everything before it is applied, for somebody who makes the store flush.
    fn let_in(&mut self, entry: Entry) -> Result<(), String> {
        let unflushed = self.to_be_flushed();
        if self.store_is_full || !self.space.holds_a_flush(unflushed) {
            entry.answer(Err(self.space.no_room_to_flush(unflushed)));
            return Ok(());
        }
        let granted = SyncFirst::granted(&self.queue);
        self.sync()?;
        entry.answer(Ok(granted));
        Ok(())
    }

    fn retire(&mut self, Flushed(outcome): Flushed) -> Result<(), String> {
        let asked = self.flushing.take().unwrap_or(0);
        match outcome {
            Ok(durable) => {
                self.flush_not_before = None;
                self.flush_when_full_from = after(FLUSH_WHEN_FULL);
                self.store_is_full = false;
                self.queue.tell_behind(false);
                self.durable = self.durable.max(durable);
                self.let_go_of_log(self.keep())?;
                self.look()?;
            }
            Err(error) => {
                // The log still holds everything. The bytes count again, so that another flush is asked for.
                tracing::error!(%error, "the store could not be flushed; the log is kept and the flush will be tried again");
                self.store_is_full = error.is_no_space();
                self.unflushed_bytes += asked;
                self.flush_not_before = Some(after(FLUSH_RETRY));
            }
        }
        Ok(())
    }
}
