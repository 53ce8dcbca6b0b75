//! What can go wrong in the log, and what the caller must do about it.

use std::io;

use crate::{Damage, Lsn};

/// An error of the log. After [`Error::Failed`] the log refuses everything: the process must stop and recover.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Acknowledged bytes are damaged: recovery refuses to start.
    #[error("{0}")]
    Damaged(Damage),
    /// The segments do not belong to this owner, or are of a format this build does not read.
    #[error("{0}")]
    Foreign(String),
    /// No space: nothing was appended, the caller may retry once space is there.
    #[error("no space left for the log: {0}")]
    Full(io::Error),
    /// A write or sync failed: what is on disk is unknown, nothing after it may be acknowledged.
    #[error("the log failed and must be recovered by a restart: {0}")]
    Failed(io::Error),
    /// A reader asked for records which retention has removed.
    #[error("the log begins at {first}, {wanted} is no longer there")]
    Retired {
        /// What was asked for.
        wanted: Lsn,
        /// The first record that is still there.
        first: Lsn,
    },
    /// A record or batch of records over the named maximum; nothing was appended.
    #[error("{size} bytes exceed the log's maximum group of {maximum}")]
    TooLarge {
        /// Bytes offered.
        size: usize,
        /// Bytes allowed.
        maximum: usize,
    },
    /// Reading failed; nothing changed.
    #[error("the log cannot be read: {0}")]
    Io(io::Error),
}
