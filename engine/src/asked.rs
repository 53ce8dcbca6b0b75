//! What those ask who hand raft something: raft itself is never refused.

use crate::{
    commit::{BATCH_BYTES_MAX, CommitError},
    open::Engine,
    store::View,
};

impl Engine {
    /// Whether a write that adds something would be taken now. Whoever proposes to raft asks before: raft itself is never
    /// refused, it waits.
    ///
    /// # Errors
    /// What the write would be answered.
    pub fn admits(&self) -> Result<(), CommitError> {
        self.shared.queue.admits()?;
        let needed_bytes = self.disk().needed_bytes;
        match self.shared.storage.free_bytes() {
            Ok(free_bytes) if free_bytes <= needed_bytes => Err(CommitError::NoSpace {
                free_bytes,
                needed_bytes,
                deletes: true,
            }),
            _ => Ok(()),
        }
    }

    /// The most that one batch may write, in bytes; what it leaves in the log counts, which is about the same.
    #[must_use]
    pub fn batch_bytes_max(&self) -> usize {
        BATCH_BYTES_MAX.min(self.shared.record_bytes_max)
    }

    /// Reads the store at one moment, which commits that come meanwhile do not change. Blocks.
    pub fn at_one_moment(&self, read: &mut dyn FnMut(&dyn View)) {
        self.shared.store.at_one_moment(read);
    }
}
