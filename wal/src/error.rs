//! What can go wrong in the log, and what the caller must do about it.

use std::{io, ops::RangeInclusive};

use crate::Lsn;

/// An error of the log. After [`Error::Failed`] the log refuses everything: the process must stop and recover.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Acknowledged bytes are damaged: opening refuses, a reader stops.
    #[error("{0}")]
    Damaged(Damage),
    /// The segments are of a format this build does not read.
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
    /// A batch of records over the named maximum; nothing was appended.
    #[error("{size} bytes exceed the log's maximum group of {maximum}")]
    TooLarge {
        /// Bytes offered, framed.
        size: usize,
        /// Bytes allowed.
        maximum: usize,
    },
    /// Settings that cannot work together; nothing was opened.
    #[error("log settings: {0}")]
    Settings(String),
    /// Reading failed; nothing changed.
    #[error("the log cannot be read: {0}")]
    Io(io::Error),
}

/// Where acknowledged data is damaged, and what was lost.
///
/// Its text is for an operator: it says what to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Name of the segment file inside the log's directory.
    pub file: String,
    /// Byte in that file where the damage begins.
    pub offset: u64,
    /// The LSNs that cannot be read; an end of `u64::MAX` means "to an end that is not known".
    pub lost: RangeInclusive<u64>,
}

impl Damage {
    /// What an operator can do; the same for every damage.
    const WAYS_OUT: &str = "Nothing was changed. There are two ways out: restore this node from a backup, or move its data \
                            directory away and start it empty so that it takes its data from a peer";
}

impl std::fmt::Display for Damage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (start, end) = (self.lost.start(), self.lost.end());
        write!(
            formatter,
            "acknowledged data in the log is damaged: file {}, byte {}; lost are ",
            self.file, self.offset
        )?;
        match end {
            &u64::MAX => write!(formatter, "the records from {start} on")?,
            end if end == start => write!(formatter, "record {start}")?,
            end => write!(formatter, "the records {start} to {end}")?,
        }
        write!(formatter, ". {}.", Damage::WAYS_OUT)
    }
}
