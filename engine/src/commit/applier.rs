//! Groups that the log holds go into the store, in order, and their callers are woken.
//!
//! It runs beside the committer: while group n is applied here, group n + 1 is being synced.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::Receiver,
    },
    time::Duration,
};

use tokio::sync::watch;
use wal::Lsn;

use super::{
    queue::Queue,
    record,
    round::{Completion, Outcome},
    space::Room,
    stop::Stop,
};
use crate::{
    keyspace::meta,
    store::{self, Change, Family, Store},
};

/// A store that has failed for want of space is tried again after this long.
const HEALED_RETRY: Duration = Duration::from_millis(50);

/// One group on its way from the log into the store.
pub(super) struct Group {
    pub(super) number: u64,
    pub(super) buffer: Vec<u8>,
    pub(super) records: Vec<Range<usize>>,
    pub(super) last: Lsn,
    /// Answers for the callers, with the last group of their round.
    pub(super) done: Option<(Completion, Vec<Outcome>)>,
}

/// How far the log and the store have come; shared by the engine's threads.
pub(crate) struct Progress {
    log: wal::Handle,
    applied: AtomicU64,
    applied_group: AtomicU64,
    /// Batches whose callers have their answers, raft's left aside.
    answered: AtomicU64,
    committed: watch::Sender<Lsn>,
}

impl Progress {
    pub(crate) fn new(log: wal::Handle, applied: Lsn) -> Progress {
        let committed = watch::Sender::new(applied);
        Progress {
            log,
            applied: AtomicU64::new(applied.0),
            applied_group: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            committed,
        }
    }

    pub(super) fn applied_group(&self) -> u64 {
        self.applied_group.load(Ordering::Acquire)
    }

    /// Answers the callers of a round, all at once.
    pub(super) fn answer(&self, completion: Completion, outcomes: Vec<Outcome>) {
        if completion.is_counted() {
            self.answered.fetch_add(outcomes.len() as u64, Ordering::Relaxed);
        }
        completion.finish(outcomes);
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    pub(crate) fn committed(&self) -> watch::Receiver<Lsn> {
        self.committed.subscribe()
    }

    pub(crate) fn log(&self) -> &wal::Handle {
        &self.log
    }

    /// Publishes what is both synced and applied. Never waits for those who watch.
    pub(super) fn publish(&self) {
        self.committed.send_if_modified(|committed| {
            // Read under the watch's lock: of two threads that publish at once, the later one sees what both have done.
            let reached = Lsn(self.applied.load(Ordering::Acquire).min(self.log.synced().0));
            let risen = reached > *committed;
            *committed = reached.max(*committed);
            risen
        });
    }

    fn applied(&self, group: &Group) {
        self.applied.fetch_max(group.last.0, Ordering::AcqRel);
        self.applied_group.store(group.number, Ordering::Release);
        self.publish();
    }
}

/// Puts groups into the store, one at a time and in order: on the applier's thread while the committer has other work,
/// on the committer's when it has none.
#[derive(Clone)]
pub(super) struct Applier {
    pub(super) store: Arc<dyn Store>,
    pub(super) progress: Arc<Progress>,
    pub(super) queue: Arc<Queue>,
    pub(super) stop: Arc<Stop>,
    pub(super) room: Room,
}

impl Applier {
    /// The body of the applier thread: ends when the committer does, or with the error that stops the engine.
    pub(super) fn run(&self, groups: &Receiver<Group>) -> Result<(), String> {
        groups.iter().try_for_each(|group| self.apply(group))
    }

    /// Applies one group and answers its callers.
    pub(super) fn apply(&self, group: Group) -> Result<(), String> {
        if !group.records.is_empty() {
            // Stopped before the group is dropped, so that its callers learn why.
            self.write(&group).inspect_err(|reason| self.stop.stop(reason))?;
        }
        self.progress.applied(&group);
        if let (Some((completion, outcomes)), None) = (group.done, self.stop.reason()) {
            self.progress.answer(completion, outcomes);
        }
        Ok(())
    }

    fn write(&self, group: &Group) -> Result<(), String> {
        let mut changes = Vec::with_capacity(group.records.len() * 4);
        for range in &group.records {
            let body = &group.buffer[range.clone()];
            record::read(body, &mut changes).expect("the committer wrote this record a moment ago");
        }
        let applied = meta::encode_applied(group.last);
        changes.push(Change {
            family: Family::Meta,
            key: meta::APPLIED_LSN,
            value: Some(&applied),
        });
        self.write_once_there_is_room(&changes).map_err(|error| {
            let advice = if error.is_no_space() {
                "; free some room on its file system before the next start, nothing is lost"
            } else {
                ""
            };
            format!(
                "records up to {} are in the log but could not be applied: {error}{advice}",
                group.last
            )
        })
    }

    /// Waits for a store that has failed for want of space and heals once there is some. The changes are in the log, so
    /// giving up would gain nothing; meanwhile whoever comes to write is told at the door.
    #[expect(clippy::disallowed_methods, reason = "the committer's threads may read the clock")]
    fn write_once_there_is_room(&self, changes: &[Change<'_>]) -> Result<(), store::Error> {
        let mut waits = false;
        loop {
            match self.store.write(changes) {
                Err(error) if error.is_no_space() && !self.queue.is_closed() => {
                    if !waits {
                        tracing::error!(%error, "the disk is full: nothing is written until there is room");
                    }
                    waits = true;
                    self.queue.refuse(Some(self.room.refusal()));
                    std::thread::sleep(HEALED_RETRY);
                }
                outcome => {
                    if waits {
                        self.queue.refuse(None);
                    }
                    return outcome;
                }
            }
        }
    }
}
