//! The seam under the engine: ordered families of keys, read consistently, written atomically.
#![allow(unused, missing_docs)] // skeleton

/// A column family. The names are persisted: never renamed, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
pub enum Family {
    Concepts = 1,
    ConceptIndex = 2,
    Dots = 3,
    Consensus = 4,
    Pool = 5,
    Ledger = 6,
    Requests = 7,
    Registry = 8,
    RaftLog = 9,
    RaftState = 10,
    Audit = 11,
    Meta = 12,
}

/// One whole value put (or, with `None`, deleted).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub family: Family,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// An error of the store; nothing was written.
#[derive(Debug, thiserror::Error)]
#[error("the store failed: {0}")]
pub struct Error(pub String);

/// Reading, as of one moment.
pub trait View {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;
    /// Visits keys in `[from, to)` (no upper bound: to the family's end) in order, until `visit` returns false.
    fn scan(&self, family: Family, from: &[u8], to: Option<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), Error>;
}

/// Writing: `RocksDB` in the product, memory with crash semantics in tests and the simulation.
pub trait Store: View + Send + Sync + 'static {
    /// Applies all of `writes` or none; not durable by itself.
    fn write(&self, writes: &[Write]) -> Result<(), Error>;
    /// Makes everything written so far durable (a flush of all families together).
    fn flush(&self) -> Result<(), Error>;
    /// Reads what is durable, not what is merely written.
    fn get_durable(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;
}

impl From<crate::keyspace::codec::Undecodable> for Error {
    fn from(undecodable: crate::keyspace::codec::Undecodable) -> Error {
        Error(undecodable.to_string())
    }
}
