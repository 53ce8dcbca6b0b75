//! The storage engine: one log, one door.
//!
//! ```text
//!   roads (consensus, gossip, imports, local writes)
//!        │ Batch                                       reads ▲ View (get, scan)
//!        ▼                                                   │
//!   commit::committer ── joins over current state ──► wal (one fdatasync per group) ──► store (RocksDB, its own WAL off)
//!        │
//!        └─► Receipt { lsn, … }, and a watch of the synced LSN
//! ```
//!
//! The core is pure: [`clock`], [`crdt`], [`json`] and [`ledger`] read no clock, draw no chance, start no thread.
//! [`store`] is the seam under them; only `store::rocks` names RocksDB. The engine refuses to know about HTTP, gRPC,
//! peers and tokens.

pub mod backup;
pub mod clock;
pub mod commit;
pub mod crdt;
pub mod identity;
pub mod image;
pub mod json;
pub mod keyspace;
pub mod ledger;
pub mod store;
pub mod verify;

mod asked;
mod compact;
mod follow;
pub mod format;
mod open;
mod operations;
mod recovery;
mod upkeep;

pub use commit::{
    Batch, CommitError, Condition, Disk, Durability, Effect, Expected, Mutation, Pending, Receipt, Replayed, Request,
    Supersede,
};
pub use compact::{CompactProgress, Compacted, Range};
pub use follow::{FollowError, Followed, Follower};
pub use open::{Engine, Environment, NODE_BYTES_MAX, OpenError, Settings};
pub use operations::{Occupied, Operation};
pub use recovery::Birth;
pub use upkeep::{Due, due};
