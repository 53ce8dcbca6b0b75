//! What operators ask of a running engine. Each blocks its caller, and one waits for the other; commits go on beside them.

use std::path::Path;

use crate::{
    Engine, OpenError, backup,
    clock::Timestamp,
    compact::{self, CompactProgress, Compacted, Range},
    verify,
};

impl Engine {
    /// Makes `directory`, which must not be there, a backup: everything acknowledged before the call, and nothing that is not
    /// in the synced log. Commits go on meanwhile. Blocks; one at a time.
    ///
    /// # Errors
    /// [`backup::Error`]; the engine is as it was, and nothing of that name is left.
    pub fn checkpoint(&self, directory: &Path, made_at: Timestamp) -> Result<backup::Manifest, backup::Error> {
        let _alone = self.shared.operation.lock();
        backup::checkpoint(&*self.shared.store, &self.shared.queue, directory, made_at)
    }

    /// Reads everything: the log up to what is synced, and the database by a checkpoint of hard links, which is made and
    /// removed beside it. Commits go on meanwhile. Blocks; not while a backup is made.
    ///
    /// # Errors
    /// When it could not be begun, or the log cannot be read at all. Damage is no error: it is reported.
    pub fn verify(&self, progress: verify::Progress<'_>) -> Result<verify::Report, OpenError> {
        let _alone = self.shared.operation.lock();
        let shared = &*self.shared;
        verify::online(&*shared.store, &shared.queue, shared.progress.log(), progress)
    }

    /// Rewrites the tables of the database without what was deleted or overwritten: those with keys in `range`, or all.
    /// `progress` is told after each piece, and stops it by false. Commits go on meanwhile. Blocks; one at a time.
    ///
    /// # Errors
    /// [`backup::Error`], of its kinds those about room, the engine and the store; what was rewritten stays so.
    pub fn compact(
        &self,
        range: Option<&Range>,
        progress: &mut dyn FnMut(CompactProgress) -> bool,
    ) -> Result<Compacted, backup::Error> {
        let _alone = self.shared.operation.lock();
        let shared = &*self.shared;
        // As it was last looked at, at most a second or two ago; nothing before the first look.
        let disk = || Some(self.disk()).filter(|disk| disk.free_bytes > 0);
        compact::compact(&*shared.store, &shared.queue, &disk, range, progress)
    }
}
