//! A time in which whoever likes may flush the store.
//!
//! Outside of the engine's own flushes a group that asked for no sync is applied before it is synced. A flush then could
//! put on disk what the log does not durably hold. Checkpoints and compactions flush as they please (RocksDB begins both
//! with one), so they run only while this is held:
//!
//! ```text
//!  caller ──Entry──► committer: room for a flush? ─► sync the log ─► from now on: sync, then apply ──► SyncFirst
//!  caller drops SyncFirst ──► as before
//! ```
//!
//! Commits go on meanwhile, at the price of a sync for each group.

use std::sync::{Arc, mpsc};

use super::{CommitError, queue::Queue};

/// Somebody waiting to be let in.
pub(super) struct Entry(mpsc::SyncSender<Result<SyncFirst, CommitError>>);

impl Entry {
    /// Lets them in, or tells them why not.
    pub(super) fn answer(self, outcome: Result<SyncFirst, CommitError>) {
        // Whoever no longer waits drops what it was given, which ends it.
        let _ = self.0.send(outcome);
    }
}

/// While this lives nothing is applied before it is synced.
pub(crate) struct SyncFirst {
    queue: Arc<Queue>,
}

impl SyncFirst {
    /// Waits until everything in the log is synced and will be from now on.
    ///
    /// # Errors
    /// [`CommitError::NoSpace`] when a flush would find no room, [`CommitError::Stopped`].
    pub(crate) fn begin(queue: &Queue) -> Result<SyncFirst, CommitError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        queue.enter(Entry(sender)).map_err(CommitError::Stopped)?;
        receiver
            .recv()
            .unwrap_or_else(|_| Err(CommitError::Stopped(queue.reason_to_stop())))
    }

    /// The committer's side: from now on, before it syncs.
    pub(super) fn granted(queue: &Arc<Queue>) -> SyncFirst {
        queue.begin_sync_first();
        SyncFirst {
            queue: Arc::clone(queue),
        }
    }
}

impl Drop for SyncFirst {
    fn drop(&mut self) {
        self.queue.end_sync_first();
    }
}
