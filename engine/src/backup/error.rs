//! What can be wrong with a backup, and what to do about it.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use crate::{CommitError, Occupied, OpenError, store};

/// Why a backup was not made, is not sound or was not restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory holds no backup, or one that a newer build made. Nothing was changed.
    #[error("{} is no backup that can be used: {reason}", .path.display())]
    NotABackup {
        /// What was given.
        path: PathBuf,
        /// What is not as it should be.
        reason: String,
    },
    /// The backup is not what was written. Nothing was changed.
    #[error("the backup {} is damaged, take another one: {}", .path.display(), list(.faults))]
    Damaged {
        /// The backup.
        path: PathBuf,
        /// Everything that is wrong with it.
        faults: Vec<Fault>,
    },
    /// Something is in the way, and the text says what to do. Nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// There is no room. What was begun is removed again.
    #[error("{} has {free_bytes} bytes free, {needed_bytes} are needed: free some room there, or choose another place", .path.display())]
    NoSpace {
        /// Where.
        path: PathBuf,
        /// Bytes free.
        free_bytes: u64,
        /// Bytes needed.
        needed_bytes: u64,
    },
    /// The system refused. Once it is put right, the same call goes on.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else is being done with the files. Nothing was begun.
    #[error(transparent)]
    Occupied(#[from] Occupied),
    /// The engine takes no part in it now.
    #[error("the engine takes no part in it now: {0}")]
    Engine(#[from] CommitError),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// What was restored does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// One thing wrong with a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file, from the backup's directory on.
    pub file: String,
    /// What is wrong with it.
    pub wrong: Wrong,
}

/// What is wrong with a file of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The manifest names it, and it is not there.
    Missing,
    /// It is there, and the manifest does not name it.
    Extra,
    /// It has another length.
    Length {
        /// By the manifest.
        expected_bytes: u64,
        /// In the directory.
        found_bytes: u64,
    },
    /// It has another SHA-256: some of its bytes are not what was written.
    Sum,
    /// It is not what it should be; the text says how.
    Unreadable(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = &self.file;
        match &self.wrong {
            Wrong::Missing => write!(formatter, "{file} is missing"),
            Wrong::Extra => write!(formatter, "{file} does not belong to it"),
            Wrong::Length {
                expected_bytes,
                found_bytes,
            } => write!(formatter, "{file} has {found_bytes} bytes and not {expected_bytes}"),
            Wrong::Sum => write!(formatter, "{file} has another SHA-256"),
            Wrong::Unreadable(reason) => write!(formatter, "{file}: {reason}"),
        }
    }
}

/// Faults that one text names; the others are counted.
const FAULTS_NAMED_MAX: usize = 10;

fn list(faults: &[Fault]) -> String {
    let named: Vec<String> = faults.iter().take(FAULTS_NAMED_MAX).map(Fault::to_string).collect();
    let more = faults.len() - named.len();
    let named = named.join("; ");
    if more > 0 {
        format!("{named}; and {more} more")
    } else {
        named
    }
}

/// Gives an error of the system its place.
pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}
