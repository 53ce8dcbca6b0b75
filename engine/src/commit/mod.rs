//! The single door: batches in, receipts out.
//!
//! ```text
//!  callers ──commit──► queue (bounded in bytes) ──► rounds of ≤ 1 MiB, raft's before all others
//!                                                    │ one at a time, a round of raft's with one of the others
//!   committer thread   merge (joins over state) ──► log: append, one fdatasync
//!                                                    │ while the next round is merged and synced
//!   applier thread     store: one batch with applied_lsn ──► watch of the LSN ──► all callers of the round at once
//!   flusher thread     every 64 MiB of log: log synced ──► store flushed ──► log retired below it
//!                      compactions of the store on and off, as the disk has room
//! ```
//!
//! Invariants: a batch is one record of the log and is applied whole or not at all; what a caller is told is synced
//! (unless it asked for [`Durability::Buffered`]) and visible; LSNs, dots and stamps only rise; after a failed write or
//! sync nothing more is acknowledged; a batch with a request id is carried out once. The door refuses to know why a batch is
//! written, and it never waits for a reader.

use std::sync::Arc;

use wal::Lsn;

use crate::{
    clock::Stamp,
    crdt,
    keyspace::{NamespaceId, meta::requests::Carried},
    store::Write,
};

mod ages;
pub(crate) mod applier;
pub(crate) mod committer;
pub(crate) mod flusher;
mod gather;
pub(crate) mod merge;
pub(crate) mod queue;
pub mod record;
mod round;
pub(crate) mod space;
pub(crate) mod stop;
pub(crate) mod sync_first;
pub(crate) mod threads;

pub use crate::crdt::{Rejected, Supersede};
pub use round::Pending;
pub use space::Disk;

/// The largest batch, in bytes of keys and values.
pub const BATCH_BYTES_MAX: usize = 12 << 20;

/// What a group needs of the log besides the one record it may consist of, in bytes.
pub(crate) const RECORD_FRAMING_BYTES: usize = 4 << 10;

/// Rounds are closed at this many bytes, so that one sync is never kept waiting for a long write.
pub const GROUP_BYTES_MAX: usize = 1 << 20;

/// What one caller wants changed, atomically: compare, then write.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Makes a retry safe: present when the caller may send the batch again.
    pub request: Option<Request>,
    /// All compared with the state before the batch, in the place where it is written. One that does not hold: nothing
    /// happens.
    pub conditions: Vec<Condition>,
    /// Carried out in order; each sees what those before it did, also to its own key.
    pub mutations: Vec<Mutation>,
}

/// The name of a batch. Under one name a batch is carried out once in 24 hours; of 1,048,576 of them in less, the oldest are
/// forgotten earlier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// At most [`crate::keyspace::meta::requests::ID_BYTES_MAX`] bytes; one space for the whole node.
    pub id: String,
    /// Digest of what was asked: another batch under the same id is refused.
    pub body: [u8; 16],
}

/// What must hold of one key for a batch to be written.
#[derive(Clone, Debug)]
pub struct Condition {
    /// Where the key lives.
    pub namespace: NamespaceId,
    /// The key.
    pub key: Vec<u8>,
    /// What must be found there.
    pub expected: Expected,
}

/// How a key must be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nothing is there to be read: never written, deleted, or expired.
    Nothing,
    /// This has been written, and nothing else: no write has come since it was read.
    Seen(crdt::VersionVector),
}

/// The closed list of what may change state.
#[derive(Clone, Debug)]
pub enum Mutation {
    /// A local write of one concept: the committer draws dot and stamp and joins it over the current state.
    Local {
        /// Where the key lives.
        namespace: NamespaceId,
        /// At most [`crate::keyspace::concepts::KEY_BYTES_MAX`] bytes.
        key: Vec<u8>,
        /// What to do.
        operation: crdt::Operation,
        /// Which present values it replaces.
        supersede: Supersede,
    },
    /// State made elsewhere (another replica, or the pool's own actor): joined over the current state.
    Join {
        /// Where the key lives.
        namespace: NamespaceId,
        /// At most [`crate::keyspace::concepts::KEY_BYTES_MAX`] bytes.
        key: Vec<u8>,
        /// The whole state of the key, as it is elsewhere.
        state: crdt::State,
    },
    /// What `ledger::apply` decided: whole values of raft-owned families only.
    Apply(Vec<Write>),
    /// What raft keeps for itself: whole values of the families `raft_log` and `raft_state` only. A batch with one of these is
    /// a *frame* of raft: it goes before all that others queued, in order among its like, and what it needs of a full disk is
    /// given to it. See [`Engine::commit`](crate::Engine::commit).
    Raft(Vec<Write>),
    /// What this node wrote to a key, in any of its lives, and what has expired by a stamp, is taken away; so is the row of
    /// `meta` that says so ([`crate::keyspace::meta::expiry`]), which alone goes when there is nothing to be taken away.
    Expire {
        /// Where the key lives.
        namespace: NamespaceId,
        /// The key.
        key: Vec<u8>,
        /// When it expired: not later than now.
        stamp: Stamp,
    },
    /// The requests up to this place need not be remembered any more; at most 1,024 at once.
    Forget {
        /// The last of them, see [`crate::keyspace::meta::requests`].
        through: u64,
    },
}

impl Batch {
    /// A batch of one mutation.
    #[must_use]
    pub fn one(mutation: Mutation) -> Batch {
        Batch::of(vec![mutation])
    }

    /// A batch without conditions.
    #[must_use]
    pub fn of(mutations: Vec<Mutation>) -> Batch {
        Batch {
            request: None,
            conditions: Vec::new(),
            mutations,
        }
    }

    /// Bytes of keys and values, by which the queue and the groups are bounded.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let compared = |condition: &Condition| condition.key.len() + Mutation::OVERHEAD_BYTES;
        let request = |request: &Request| request.id.len() + Mutation::OVERHEAD_BYTES;
        self.request.as_ref().map_or(0, request)
            + self.conditions.iter().map(compared).sum::<usize>()
            + self.mutations.iter().map(Mutation::bytes).sum::<usize>()
    }

    /// Whether it only takes away, so that it may draw on the reserve of a full disk.
    #[must_use]
    pub fn only_deletes(&self) -> bool {
        self.mutations.iter().all(Mutation::only_deletes)
    }

    /// Whether it is a frame of raft.
    #[must_use]
    pub fn is_raft(&self) -> bool {
        self.mutations
            .iter()
            .any(|mutation| matches!(mutation, Mutation::Raft(_)))
    }
}

impl Mutation {
    /// What a mutation takes in the queue besides its bytes.
    const OVERHEAD_BYTES: usize = 64;

    fn bytes(&self) -> usize {
        let bytes = match self {
            Mutation::Local { key, operation, .. } => key.len() + operation_bytes(operation),
            Mutation::Join { key, state, .. } => key.len() + state.stored_bytes(),
            Mutation::Apply(writes) | Mutation::Raft(writes) => writes
                .iter()
                .map(|write| write.key.len() + write.value.as_ref().map_or(0, Vec::len) + Mutation::OVERHEAD_BYTES)
                .sum(),
            Mutation::Expire { key, .. } => key.len(),
            Mutation::Forget { .. } => 0,
        };
        bytes + Mutation::OVERHEAD_BYTES
    }

    fn only_deletes(&self) -> bool {
        match self {
            Mutation::Local {
                operation: crdt::Operation::Delete | crdt::Operation::Expire { .. },
                ..
            } => true,
            Mutation::Local {
                operation: crdt::Operation::Change { add, .. },
                ..
            } => add.is_empty(),
            Mutation::Expire { .. } | Mutation::Forget { .. } => true,
            Mutation::Local { .. } | Mutation::Join { .. } | Mutation::Apply(_) | Mutation::Raft(_) => false,
        }
    }
}

fn operation_bytes(operation: &crdt::Operation) -> usize {
    match operation {
        crdt::Operation::Put { json, .. } => json.len(),
        crdt::Operation::Change { add, remove } => add.iter().chain(remove).map(String::len).sum(),
        crdt::Operation::Add { .. } | crdt::Operation::Delete | crdt::Operation::Expire { .. } => 0,
    }
}

/// When a batch is acknowledged.
///
/// Frames of raft keep their order among those of the same durability. One that asks for no sync may go before one that does:
/// it rests on nothing but what is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After the sync that covers it.
    Synced,
    /// Once it is applied; synced within 10 ms, with the next group. Queued behind a synced batch of the same round it
    /// waits for that round's sync. Only for what the raft log can re-derive.
    Buffered,
}

/// What a commit did.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The record that holds the batch; for a batch that changed nothing, the last record before it.
    pub lsn: Lsn,
    /// One for each `Local` mutation, in order; none of a batch that was carried out before.
    pub effects: Vec<Effect>,
    /// Set when the batch had been carried out before, under its request id: nothing was done this time.
    pub replayed: Option<Replayed>,
}

/// What a batch did when it was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed(pub(crate) Carried);

impl Replayed {
    /// Whether the `Local` mutation at `index`, counted among these alone, took something away then.
    #[must_use]
    pub fn took_away(&self, index: usize) -> bool {
        self.0.took_away(index)
    }
}

/// What one `Local` mutation did.
#[derive(Clone, Debug)]
pub struct Effect {
    /// The state of the key before the write, with what earlier writes of the batch did.
    pub before: Arc<crdt::State>,
    /// The state of the key after the write.
    pub state: Arc<crdt::State>,
}

impl Effect {
    /// Whether something that was there is gone.
    #[must_use]
    pub fn took_away(&self) -> bool {
        let Effect { before, state } = self;
        before.entries.keys().any(|dot| !state.entries.contains_key(dot))
    }
}

/// Why a batch was not written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// Nothing happened; retry after a moment.
    #[error("the write queue is full, retry later")]
    Busy,
    /// Nothing happened; it goes on by itself once there is room.
    #[error(
        "the disk is {}: {free_bytes} bytes free, {needed_bytes} needed; {}, recovery needs no command",
        if *.deletes { "nearly full" } else { "full" },
        if *.deletes { "delete data or add space" } else { "not even deletes have room, add space" }
    )]
    NoSpace {
        /// Bytes free now.
        free_bytes: u64,
        /// Bytes that must be free for what was refused.
        needed_bytes: u64,
        /// Whether deletes still work.
        deletes: bool,
    },
    /// Nothing happened; one of the operations does not fit its key.
    #[error("{reason}")]
    Rejected {
        /// Which of the batch's mutations, from 0.
        index: usize,
        /// What does not fit.
        reason: Rejected,
    },
    /// Nothing happened; a key is not as it was expected to be.
    #[error("the key is not as it was expected to be: it was written since it was read")]
    Unexpected {
        /// Which of the batch's conditions, from 0.
        index: usize,
        /// How the key was found.
        found: Arc<crdt::State>,
    },
    /// Nothing happened; under this request id another batch was carried out.
    #[error(
        "another write was carried out under this id: draw a fresh one for each write, and keep it for its retries"
    )]
    RequestReused,
    /// Nothing happened; what the batch would leave in the log is too large. A small operation writes its whole key.
    #[error("the batch would write over {bytes_max} bytes, for each operation writes its whole key: write it in parts")]
    TooLarge {
        /// The most that one batch writes.
        bytes_max: usize,
    },
    /// Nothing happened; the batch itself is not one that may be written. Do not retry it.
    #[error("{0}")]
    Invalid(String),
    /// Nothing happened; other nodes that are needed for it cannot be reached. Retry after a moment.
    #[error("{0}")]
    Unavailable(String),
    /// Whether it happened or will happen is not known; a retry under the same id tells.
    #[error("{0}")]
    Unknown(String),
    /// The engine stopped; the outcome of this write is unknown until restart.
    #[error("the engine has stopped: {0}")]
    Stopped(String),
}
