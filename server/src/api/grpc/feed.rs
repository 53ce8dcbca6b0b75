//! Recent changes, read from the log once for all who watch.
//!
//! ```text
//!  log ─► one reader, beside the workers ─► ring of recent records (bounded in bytes) ─► any number of watches
//!           while anybody watches             `reached` wakes them, at most every 5 ms
//! ```
//!
//! A reader for each watch would decode every record as often as there are watches. The ring keeps nothing from anybody:
//! whoever falls behind it reads the log itself, if the log still reaches back. The reader's claim on the log's past moves
//! with it, and is given up with the last watch.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::Duration,
};

use engine::{Engine, Followed, Follower, store::Family};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use wal::Lsn;

use super::status::Refused;
use crate::runtime::{tasks, time};

/// Watches are woken no more often than this, however many commits there are.
const PACE: Duration = Duration::from_millis(5);
/// Records read before those who wait for them are woken.
const RECORDS_UNTOLD_MAX: usize = 256;
/// Where the keys of namespaces lie, by the road of the namespace.
pub(super) const WATCHED: [Family; 2] = [Family::Concepts, Family::Consensus];
/// What a record takes besides its keys and values, in bytes.
const RECORD_OVERHEAD_BYTES: usize = 128;

/// Hands out the one [`Recent`] of all who watch.
pub(super) struct Feed {
    engine: Engine,
    bytes_max: usize,
    current: Mutex<Weak<Recent>>,
}

impl Feed {
    pub(super) fn new(engine: Engine, bytes_max: usize) -> Feed {
        Feed {
            engine,
            bytes_max,
            current: Mutex::default(),
        }
    }

    /// The recent changes, from now on if nobody has watched until now. They are followed until the last holder drops them.
    pub(super) fn attach(&self) -> Result<Arc<Recent>, Refused> {
        let mut current = self.current.lock();
        if let Some(recent) = current.upgrade() {
            return Ok(recent);
        }
        let now = *self.engine.committed().borrow();
        let follower = self
            .engine
            .follow("watch", now)
            .map_err(|error| Refused::Log(error.to_string()))?;
        let (alive, dropped) = oneshot::channel();
        let ring = Ring {
            after: now,
            reached: now,
            ..Ring::default()
        };
        let recent = Arc::new(Recent {
            ring: Mutex::new(ring),
            reached: watch::Sender::new(now),
            bytes_max: self.bytes_max,
            _alive: alive,
        });
        let (reader, committed) = (Arc::downgrade(&recent), self.engine.committed());
        tasks::start_blocking(move || read(&reader, follower, committed, dropped));
        *current = Arc::downgrade(&recent);
        Ok(recent)
    }
}

/// The recent changes.
pub(super) struct Recent {
    ring: Mutex<Ring>,
    reached: watch::Sender<Lsn>,
    bytes_max: usize,
    /// The reader hears when it is dropped.
    _alive: oneshot::Sender<()>,
}

/// Records above `after` that changed keys of namespaces, up to `reached`.
#[derive(Default)]
struct Ring {
    after: Lsn,
    reached: Lsn,
    records: VecDeque<Arc<Followed>>,
    bytes: usize,
    /// Why nothing more will come.
    fault: Option<String>,
}

/// What is known of the changes above an LSN.
pub(super) enum Taken {
    /// All of them up to `reached`, oldest first.
    Records { records: Vec<Arc<Followed>>, reached: Lsn },
    /// Some of them are older than what is kept here.
    Passed,
}

impl Recent {
    /// At most `count_max` records above `after`.
    pub(super) fn above(&self, after: Lsn, count_max: usize) -> Result<Taken, Refused> {
        let ring = self.ring.lock();
        if after < ring.after {
            return Ok(Taken::Passed);
        }
        let first = ring.records.partition_point(|record| record.lsn <= after);
        let records: Vec<_> = ring.records.range(first..).take(count_max).cloned().collect();
        if let (true, Some(fault)) = (records.is_empty(), &ring.fault) {
            return Err(Refused::Log(fault.clone()));
        }
        let reached = match records.last() {
            Some(last) if first + records.len() < ring.records.len() => last.lsn,
            _ => ring.reached.max(after),
        };
        Ok(Taken::Records { records, reached })
    }

    /// Wakes when there is more.
    pub(super) fn reached(&self) -> watch::Receiver<Lsn> {
        self.reached.subscribe()
    }

    fn push(&self, record: Followed) {
        let mut ring = self.ring.lock();
        ring.reached = record.lsn;
        if record.writes.is_empty() {
            return;
        }
        ring.bytes += bytes(&record);
        ring.records.push_back(Arc::new(record));
        // The newest stays, however large it is: it would be read again and again instead.
        while ring.bytes > self.bytes_max && ring.records.len() > 1 {
            if let Some(oldest) = ring.records.pop_front() {
                ring.bytes -= bytes(&oldest);
                ring.after = oldest.lsn;
            }
        }
    }

    fn tell(&self) {
        let reached = self.ring.lock().reached;
        self.reached.send_replace(reached);
    }
}

fn bytes(record: &Followed) -> usize {
    let one = |write: &engine::store::Write| write.key.len() + write.value.as_ref().map_or(0, Vec::len);
    RECORD_OVERHEAD_BYTES + record.writes.iter().map(one).sum::<usize>()
}

/// The reader: fills `recent` until nobody holds it.
fn read(
    recent: &Weak<Recent>,
    mut follower: Follower,
    mut committed: watch::Receiver<Lsn>,
    mut dropped: oneshot::Receiver<()>,
) {
    let mut untold = 0;
    while let Some(recent) = recent.upgrade() {
        match follower.next_in(&WATCHED) {
            Ok(Some(record)) => {
                recent.push(record);
                untold += 1;
                if untold < RECORDS_UNTOLD_MAX {
                    continue;
                }
                recent.tell();
            }
            Ok(None) => {
                recent.tell();
                // What was read is in memory: the log need not keep it for us.
                follower.done(follower.position());
                drop(recent);
                tasks::wait(next_commit(&mut committed, &mut dropped));
            }
            Err(error) => {
                recent.ring.lock().fault = Some(error.to_string());
                recent.tell();
                return;
            }
        }
        untold = 0;
    }
}

/// Waits for the next commit, or until nobody watches any more.
async fn next_commit(committed: &mut watch::Receiver<Lsn>, dropped: &mut oneshot::Receiver<()>) {
    tokio::select! {
        () = time::sleep(PACE) => {}
        _ = &mut *dropped => return,
    }
    tokio::select! {
        _ = committed.changed() => {}
        _ = dropped => {}
    }
}
