//! Groups that the log holds go into the store, in order, and their callers are woken.
//!
//! It runs beside the committer: while group n is applied here, group n + 1 is being synced.

use std::{
    ops::Range,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::Receiver,
    },
};

use tokio::sync::watch;
use wal::Lsn;

use super::{
    record,
    round::{Completion, Outcome},
    stop::Stop,
};
use crate::{
    keyspace::meta,
    store::{Change, Family, Store},
};

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
    committed: watch::Sender<Lsn>,
}

impl Progress {
    pub(crate) fn new(log: wal::Handle, applied: Lsn) -> Progress {
        let committed = watch::Sender::new(applied);
        Progress {
            log,
            applied: AtomicU64::new(applied.0),
            applied_group: AtomicU64::new(0),
            committed,
        }
    }

    pub(super) fn applied_group(&self) -> u64 {
        self.applied_group.load(Ordering::Acquire)
    }

    pub(crate) fn committed(&self) -> watch::Receiver<Lsn> {
        self.committed.subscribe()
    }

    pub(crate) fn log(&self) -> &wal::Handle {
        &self.log
    }

    /// Publishes what is both synced and applied. Never waits for those who watch.
    pub(super) fn publish(&self) {
        let reached = Lsn(self.applied.load(Ordering::Acquire).min(self.log.synced().0));
        self.committed.send_if_modified(|committed| {
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

/// The body of the applier thread: ends when the committer does, or with the error that stops the engine.
pub(super) fn run(groups: &Receiver<Group>, store: &dyn Store, progress: &Progress, stop: &Stop) -> Result<(), String> {
    for group in groups {
        if !group.records.is_empty() {
            // Stopped before the group is dropped, so that its callers learn why.
            apply(&group, store).inspect_err(|reason| stop.stop(reason))?;
        }
        progress.applied(&group);
        if let (Some((completion, outcomes)), None) = (group.done, stop.reason()) {
            completion.finish(outcomes);
        }
    }
    Ok(())
}

fn apply(group: &Group, store: &dyn Store) -> Result<(), String> {
    let mut changes = Vec::with_capacity(group.records.len() * 4);
    for record in &group.records {
        record::read(&group.buffer[record.clone()], &mut changes)
            .expect("the committer wrote this record a moment ago");
    }
    let applied = meta::encode_applied(group.last);
    changes.push(Change {
        family: Family::Meta,
        key: meta::APPLIED_LSN,
        value: Some(&applied),
    });
    store.write(&changes).map_err(|error| {
        format!(
            "records up to {} are in the log but could not be applied: {error}",
            group.last
        )
    })
}
