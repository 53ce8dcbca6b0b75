//! The seam under the engine: ordered families of keys, written atomically, durable when flushed.
//!
//! ```text
//!  View   get, get_many, scan          what is written        ledger, search, reads
//!  Store  write, flush, get_durable, at_one_moment
//!                                     how it got there       committer, flusher, recovery
//!         flush_bytes, compaction_bytes, resume_bytes, compact
//!                                     what it takes of the disk by itself, and when it may
//!         files                       its files, where it has any
//!  Files  checkpoint, tables, rewrite                        backup, verify, compaction on demand
//!
//!  rocks::Rocks     the product: one column family each, RocksDB's own WAL off, atomic flush
//!  memory::Memory   tests and simulation: what was not flushed is lost at a crash
//! ```
//!
//! Invariants: a `write` is visible as a whole to every `get` after it returns, and after a crash a store holds the
//! writes up to some flush and nothing of later ones. A store refuses to know what its keys mean, and it has no log:
//! whoever writes keeps one.

use std::{fmt, path::Path};

pub mod memory;
pub mod rocks;

/// A column family. Names and numbers are persisted: never renamed, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(into = "u8", try_from = "u8")]
#[repr(u8)]
pub enum Family {
    /// Namespace ‖ key → CRDT state.
    Concepts = 1,
    /// Hash ‖ namespace ‖ key → ∅.
    ConceptIndex = 2,
    /// Actor ‖ counter → namespace ‖ key.
    Dots = 3,
    /// Keys of linearizable namespaces.
    Consensus = 4,
    /// Content hash → who gave it first.
    Pool = 5,
    /// Account → balances and recent requests.
    Ledger = 6,
    /// Caller ‖ idempotency key → outcome.
    Requests = 7,
    /// Members, namespaces, cluster settings.
    Registry = 8,
    /// Entries of the raft log.
    RaftLog = 9,
    /// Vote, committed, purged, snapshot meta.
    RaftState = 10,
    /// Sequence → hash-chained record.
    Audit = 11,
    /// The node's own records: format version, identity, `applied_lsn`.
    Meta = 12,
}

impl Family {
    /// All families, in the order of their numbers.
    pub const ALL: [Family; 12] = [
        Family::Concepts,
        Family::ConceptIndex,
        Family::Dots,
        Family::Consensus,
        Family::Pool,
        Family::Ledger,
        Family::Requests,
        Family::Registry,
        Family::RaftLog,
        Family::RaftState,
        Family::Audit,
        Family::Meta,
    ];

    /// The name on disk.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Family::Concepts => "concepts",
            Family::ConceptIndex => "concept_index",
            Family::Dots => "dots",
            Family::Consensus => "consensus",
            Family::Pool => "pool",
            Family::Ledger => "ledger",
            Family::Requests => "requests",
            Family::Registry => "registry",
            Family::RaftLog => "raft_log",
            Family::RaftState => "raft_state",
            Family::Audit => "audit",
            Family::Meta => "meta",
        }
    }

    /// Its place in [`Family::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self as u8) - 1
    }
}

impl From<Family> for u8 {
    fn from(family: Family) -> u8 {
        family as u8
    }
}

impl TryFrom<u8> for Family {
    type Error = UnknownFamily;
    fn try_from(number: u8) -> Result<Family, UnknownFamily> {
        number
            .checked_sub(1)
            .and_then(|index| Family::ALL.get(usize::from(index)).copied())
            .ok_or(UnknownFamily(number))
    }
}

/// A family number that this build does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownFamily(pub u8);

impl fmt::Display for UnknownFamily {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "no family has the number {}", self.0)
    }
}

/// One whole value put (or, with `None`, deleted).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where.
    pub family: Family,
    /// Which key.
    pub key: Vec<u8>,
    /// The whole value, or `None` to delete.
    pub value: Option<Vec<u8>>,
}

impl Write {
    /// The same, borrowed.
    #[must_use]
    pub fn as_change(&self) -> Change<'_> {
        Change {
            family: self.family,
            key: &self.key,
            value: self.value.as_deref(),
        }
    }
}

/// A [`Write`] that borrows its bytes, so that the committer need not copy what lies in the log's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// Where.
    pub family: Family,
    /// Which key.
    pub key: &'a [u8],
    /// The whole value, or `None` to delete.
    pub value: Option<&'a [u8]>,
}

impl Change<'_> {
    /// The same, owned.
    #[must_use]
    pub fn to_write(&self) -> Write {
        Write {
            family: self.family,
            key: self.key.to_vec(),
            value: self.value.map(<[u8]>::to_vec),
        }
    }
}

/// An error of the store. After a failed `write` nothing of it is visible; after a failed `flush` nothing new is durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store failed: {0}")]
pub struct Error(pub String);

impl Error {
    /// Whether only room on the disk was missing: the same call succeeds once there is some.
    ///
    /// Told by the system's own words: `RocksDB`'s C interface hands out nothing but the text.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        self.0.contains("No space left on device")
    }
}

impl From<crate::keyspace::codec::Undecodable> for Error {
    fn from(undecodable: crate::keyspace::codec::Undecodable) -> Error {
        Error(undecodable.to_string())
    }
}

/// Reading what is written, durable or not.
pub trait View {
    /// The value under `key`.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;
    /// The values under several keys, in the order of the keys; not of one moment.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn get_many(&self, family: Family, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        keys.iter().map(|key| self.get(family, key)).collect()
    }
    /// Visits keys in `[from, to)` (no upper bound: to the family's end) in order, until `visit` returns false. One scan sees
    /// one moment; two scans may not see the same.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error>;
}

/// When a store may rewrite its files to drop what was overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compactions {
    /// Begin none; one that runs is carried on.
    Off,
    /// As reads and writes are served best.
    On,
    /// After every flush, so that what was deleted gives its room back at once.
    Eager,
}

/// Writing: `RocksDB` in the product, memory with crash semantics in tests and the simulation.
pub trait Store: View + Send + Sync + 'static {
    /// Applies all of `changes`, in order, or none; not durable by itself.
    ///
    /// # Errors
    /// When nothing was written.
    fn write(&self, changes: &[Change<'_>]) -> Result<(), Error>;
    /// Makes everything written before the call durable, all families together. Writes go on meanwhile.
    ///
    /// # Errors
    /// When what is durable is what was durable before.
    fn flush(&self) -> Result<(), Error>;
    /// Reads what is durable, not what is merely written.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn get_durable(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;
    /// Hands `read` a view of one moment: writes that come meanwhile are not in it.
    fn at_one_moment(&self, read: &mut dyn FnMut(&dyn View));
    /// Room on the disk that a flush needs after `unflushed_bytes` of changes; nothing, where there is no disk.
    fn flush_bytes(&self, _unflushed_bytes: u64) -> u64 {
        0
    }
    /// Room that one compaction of the present files needs: they are removed only when what replaces them is complete.
    fn compaction_bytes(&self) -> u64 {
        0
    }
    /// Room that must be free before a store that failed for want of it takes writes again, by itself.
    fn resume_bytes(&self) -> u64 {
        0
    }
    /// Says when to compact from now on.
    ///
    /// # Errors
    /// When it goes on as before.
    fn compact(&self, _when: Compactions) -> Result<(), Error> {
        Ok(())
    }
    /// The files behind it; `None` for a store without any.
    fn files(&self) -> Option<&dyn Files> {
        None
    }
}

/// Part of a family in a file of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The file, without its directory.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// The lowest key in it.
    pub first: Vec<u8>,
    /// The highest key in it.
    pub last: Vec<u8>,
    /// Keys in it, overwritten and deleted ones included.
    pub entries: u64,
}

/// A store that lies in files. What is done here may flush, so the caller sees to it that everything written is in a
/// synced log before.
pub trait Files {
    /// The directory they lie in.
    fn directory(&self) -> &Path;
    /// Makes `directory`, which must not exist, a store of its own: everything written before the call, all families at one
    /// moment. Files are shared by hard links where the file system allows, else copied.
    ///
    /// # Errors
    /// When nothing of that name was left behind.
    fn checkpoint(&self, directory: &Path) -> Result<(), Error>;
    /// The tables of a family, by their lowest keys.
    ///
    /// # Errors
    /// When they cannot be listed.
    fn tables(&self, family: Family) -> Result<Vec<Table>, Error>;
    /// Rewrites keys in `[from, to]` down to the lowest level, without what was deleted or overwritten.
    ///
    /// # Errors
    /// When any compaction failed meanwhile, this one as a rule: what was to be rewritten may be as it was.
    fn rewrite(&self, family: Family, from: Option<&[u8]>, to: Option<&[u8]>) -> Result<(), Error>;
}

/// The smallest key above every key that begins with `prefix`; `None` when there is no such key.
#[must_use]
pub fn end_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests;
