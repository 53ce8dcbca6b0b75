//! What operators ask of a running engine. Each blocks its caller, and there is one at a time; commits go on beside it.
//!
//! ```text
//!  checkpoint, verify, compact ─► Turn: free, or free within half a second? ─► done by one, while commits go on
//!                                        else Occupied: which one runs
//! ```

use std::{path::Path, time::Duration};

use parking_lot::{Condvar, Mutex};

use crate::{
    Engine, backup,
    clock::Timestamp,
    compact::{self, CompactProgress, Compacted, Range},
    verify,
};

/// An operation that comes to its end so soon is waited for: a small checkpoint, or one that has just been told to stop.
const WAIT: Duration = Duration::from_millis(500);

/// What is done with all the files at once, by one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`Engine::checkpoint`], as far as files are linked, and [`Engine::cut`].
    Checkpoint,
    /// [`Engine::verify`].
    Verification,
    /// [`Engine::compact`].
    Compaction,
    /// [`image::install`](crate::image::install), to its end: until then the ledger is half of one state and half of another.
    Installation,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Operation::Checkpoint => "a snapshot or backup is being made",
            Operation::Verification => "a verification runs",
            Operation::Compaction => "a compaction runs",
            Operation::Installation => "a snapshot from another member is being put in place",
        })
    }
}

/// Another operation is running. Nothing was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{by} at this node, and there is one such work at a time: try again after its end, or end it")]
pub struct Occupied {
    /// What runs.
    pub by: Operation,
}

/// Whose turn it is.
#[derive(Default)]
pub(crate) struct Turn {
    running: Mutex<Option<Operation>>,
    ended: Condvar,
}

impl Turn {
    /// Takes the turn, waiting a moment for it.
    fn take(&self, operation: Operation) -> Result<Taken<'_>, Occupied> {
        let mut running = self.running.lock();
        self.ended
            .wait_while_for(&mut running, |running| running.is_some(), WAIT);
        match *running {
            Some(by) => Err(Occupied { by }),
            None => {
                *running = Some(operation);
                Ok(Taken(self))
            }
        }
    }
}

/// A turn; dropped, it is the next one's.
struct Taken<'a>(&'a Turn);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.0.running.lock() = None;
        self.0.ended.notify_one();
    }
}

impl Engine {
    /// Makes `directory`, which must not be there, a backup: everything acknowledged before the call, and nothing that is not
    /// in the synced log. Commits go on meanwhile, and other operations while the files are summed. Blocks; no two of one
    /// directory at a time.
    ///
    /// # Errors
    /// [`backup::Error`], of its kinds `Occupied` while another operation or an installation runs; the engine is as it was, and nothing of that
    /// name is left.
    pub fn checkpoint(&self, directory: &Path, made_at: Timestamp) -> Result<backup::Manifest, backup::Error> {
        let draft = {
            let _turn = self.shared.operation.take(Operation::Checkpoint)?;
            backup::draft(&*self.shared.store, &self.shared.queue, directory, made_at)?
        };
        draft.finish()
    }

    /// Makes `directory`, which must not be there, the files of such a backup, without having read them: whoever does sums
    /// them. Nothing is synced, so it does not outlive a power cut. Blocks.
    ///
    /// # Errors
    /// As [`Engine::checkpoint`].
    pub fn cut(&self, directory: &Path, made_at: Timestamp) -> Result<backup::Outline, backup::Error> {
        let _turn = self.shared.operation.take(Operation::Checkpoint)?;
        backup::cut(&*self.shared.store, &self.shared.queue, directory, made_at)
    }

    /// Reads everything: the log up to what is synced, and the database by a checkpoint of hard links, which is made and
    /// removed beside it. Commits go on meanwhile. Blocks.
    ///
    /// # Errors
    /// When it could not be begun, another operation runs, `progress` stopped it, or the log cannot be read at all. Damage is no
    /// error: it is reported.
    pub fn verify(&self, progress: verify::Progress<'_>) -> Result<verify::Report, verify::Error> {
        let _turn = self.shared.operation.take(Operation::Verification)?;
        let shared = &*self.shared;
        verify::online(&*shared.store, &shared.queue, shared.progress.log(), progress)
    }

    /// Rewrites the tables of the database without what was deleted or overwritten: those with keys in `range`, or all.
    /// `progress` is told after each piece, and stops it by false. Commits go on meanwhile. Blocks.
    ///
    /// # Errors
    /// [`backup::Error`], of its kinds those about room, the engine, the store, and other operations; what was rewritten stays
    /// so.
    pub fn compact(
        &self,
        range: Option<&Range>,
        progress: &mut dyn FnMut(CompactProgress) -> bool,
    ) -> Result<Compacted, backup::Error> {
        let _turn = self.shared.operation.take(Operation::Compaction)?;
        let shared = &*self.shared;
        // As it was last looked at, at most a second or two ago; nothing before the first look.
        let disk = || Some(self.disk()).filter(|disk| disk.free_bytes > 0);
        compact::compact(&*shared.store, &shared.queue, &disk, range, progress)
    }
}
