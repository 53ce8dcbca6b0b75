//! Following what was committed, from any LSN: for the search index, watchers, peers and backups.

use tokio::sync::watch;
use wal::Lsn;

use crate::{
    commit::record,
    store::{Change, Family, Write},
};

/// What one batch changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// Its place in the log.
    pub lsn: Lsn,
    /// Its changes, in order.
    pub writes: Vec<Write>,
}

/// Why following cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The log, [`wal::Error::Retired`] above all: begin anew from the present state.
    #[error(transparent)]
    Log(#[from] wal::Error),
    /// A record that this build cannot read.
    #[error("record {lsn} of the log cannot be read: {reason}")]
    Unreadable {
        /// Which record.
        lsn: Lsn,
        /// Why.
        reason: String,
    },
}

/// Hands out committed batches in LSN order, never above what is both synced and applied.
pub struct Follower {
    reader: wal::Reader,
    committed: watch::Receiver<Lsn>,
    claim: wal::Consumer,
}

impl Follower {
    pub(crate) fn new(
        log: &wal::Handle,
        committed: watch::Receiver<Lsn>,
        name: &str,
        after: Lsn,
    ) -> Result<Follower, FollowError> {
        // Claimed before the reader looks, so that nothing is retired in between.
        let claim = log.register(name, after);
        Ok(Follower {
            reader: log.reader(after)?,
            committed,
            claim,
        })
    }

    /// The next batch; `None` when there is none yet: wait on [`crate::Engine::committed`] and ask again.
    ///
    /// # Errors
    /// [`FollowError`]; the position is unchanged.
    #[expect(
        clippy::should_implement_trait,
        reason = "it goes on after None, which an iterator does not promise"
    )]
    pub fn next(&mut self) -> Result<Option<Followed>, FollowError> {
        self.next_where(|_| true)
    }

    /// The next batch, of which only what it changed in `families` is kept; it may be nothing.
    ///
    /// # Errors
    /// As [`Follower::next`].
    pub fn next_in(&mut self, families: &[Family]) -> Result<Option<Followed>, FollowError> {
        self.next_where(|change| families.contains(&change.family))
    }

    fn next_where(&mut self, wanted: impl Fn(&Change<'_>) -> bool) -> Result<Option<Followed>, FollowError> {
        if self.reader.position() >= *self.committed.borrow() {
            return Ok(None);
        }
        let Some(entry) = self.reader.next()? else {
            return Ok(None);
        };
        let lsn = entry.lsn;
        if entry.header != record::KIND_WRITES {
            return Err(FollowError::Unreadable {
                lsn,
                reason: format!("it is of kind {}", entry.header),
            });
        }
        let mut changes = Vec::new();
        record::read(&entry.body, &mut changes).map_err(|error| FollowError::Unreadable {
            lsn,
            reason: error.to_string(),
        })?;
        Ok(Some(Followed {
            lsn,
            writes: changes
                .iter()
                .filter(|change| wanted(change))
                .map(Change::to_write)
                .collect(),
        }))
    }

    /// LSN of the last batch handed out, or where following began.
    #[must_use]
    pub fn position(&self) -> Lsn {
        self.reader.position()
    }

    /// Batches up to `lsn` are no longer needed: the log may let go of them.
    pub fn done(&self, lsn: Lsn) {
        self.claim.advance(lsn);
    }
}
