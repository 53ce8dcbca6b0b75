//! An image: the raft-owned families of one moment in a file, and the way back.
//!
//! ```text
//!  export    one moment of the store ─► header ‖ rows … ‖ pool concepts … ‖ end        each a chunk with its own checksum
//!
//!  install   every chunk checked ─► file synced ─► Installing row (synced) ─► families emptied ─► rows put, pool concepts joined ─► Applied row,
//!            Installing gone (synced)                 cut short: begun again from the file, for the row is still there
//! ```
//!
//! Invariants: what is exported is of one moment, its [`Applied`] included. An install replaces the raft-owned families and
//! nothing else: mesh writes, votes, the log and the node's identity stay; the pool's concepts are joined, as another replica's
//! would be. Nothing is changed before the whole file was found sound.
//!
//! It refuses to know raft, and how a file comes from another node. The bytes are described in `docs/formats/image.md`.

mod chunk;
mod export;
mod install;

use std::{io, path::PathBuf};

use crate::{
    commit::CommitError,
    keyspace::codec::Undecodable,
    store::{self, Family},
};

pub use crate::keyspace::raft_state::Applied;
pub use install::{check, install, install_unfinished, is_under_way, sound_bytes, sum};

/// The families that raft owns, all of which an image replaces.
pub const FAMILIES: [Family; 6] = [
    Family::Registry,
    Family::Ledger,
    Family::Pool,
    Family::Requests,
    Family::Audit,
    Family::Consensus,
];

/// What an image of one moment comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Which moment.
    pub applied: Applied,
    /// SHA-256 of the image.
    pub sum: [u8; 32],
    /// Rows of [`FAMILIES`].
    pub rows: u64,
    /// Concepts of the pool.
    pub concepts: u64,
}

/// Why an image is not made or not put in place.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what was exported; nothing was changed.
    #[error("{path} is damaged: chunk {chunk}: {reason}; have it sent again")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Which of its chunks, from 0.
        chunk: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Of another cluster; nothing was changed.
    #[error("{path} is of another cluster than this node")]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// Another image is being put in place, so there is no moment to export. Nothing was done; once it is in there is.
    #[error("a snapshot from another member is being put in place at this node: try again when it is in")]
    Installing,
    /// The file of an install that was cut short is not there. Nothing was changed.
    #[error(
        "{path} is missing: it was being put in place when the node ended, and without it the ledger here is half of one state \
         and half of another: put the file back, or begin this node anew in an empty data directory"
    )]
    Gone {
        /// Which file.
        path: PathBuf,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The door.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl From<Undecodable> for Error {
    fn from(error: Undecodable) -> Error {
        Error::Store(error.into())
    }
}
