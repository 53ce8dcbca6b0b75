//! The single door: batches in, receipts out.
#![allow(unused, missing_docs)] // skeleton

use wal::Lsn;

use crate::{crdt, keyspace::NamespaceId, store::Write};

pub use crate::crdt::{Rejected, Supersede};

/// What one caller wants changed, atomically.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub mutations: Vec<Mutation>,
}

/// The closed list of what may change state.
#[derive(Clone, Debug)]
pub enum Mutation {
    /// A local write of one concept: the committer draws dot and stamp and joins it over the current state.
    Local { namespace: NamespaceId, key: Vec<u8>, operation: crdt::Operation, supersede: Supersede },
    /// State made elsewhere (another replica, or the pool's own actor): joined over the current state.
    Join { namespace: NamespaceId, key: Vec<u8>, state: crdt::State },
    /// What `ledger::apply` decided: whole values of raft-owned families only.
    Apply(Vec<Write>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Acknowledged after the sync that covers it.
    Synced,
    /// Applied at once, synced with the next group (within 10 ms). Only for what the raft log can re-derive.
    Buffered,
}

/// What a commit did.
#[derive(Clone, Debug)]
pub struct Receipt {
    pub lsn: Lsn,
    /// One for each `Local` mutation, in order.
    pub effects: Vec<Effect>,
}
#[derive(Clone, Debug)]
pub struct Effect {
    /// The state of the key after the write.
    pub state: crdt::State,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// Nothing happened; retry after a moment.
    #[error("the write queue is full, retry later")]
    Busy,
    /// Nothing happened; deletes still work.
    #[error("the disk is nearly full: {free_bytes} bytes free, writes need {needed_bytes}; delete data or add space, recovery needs no command")]
    NoSpace { free_bytes: u64, needed_bytes: u64 },
    /// Nothing happened; the operation does not fit the key.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The engine stopped; the outcome of this write is unknown until restart.
    #[error("the engine has stopped: {0}")]
    Stopped(String),
}

/// A commit under way: await it, or `wait` on a plain thread.
pub struct Pending {}
impl Pending {
    pub fn wait(self) -> Result<Receipt, CommitError> {
        unimplemented!()
    }
}
impl Future for Pending {
    type Output = Result<Receipt, CommitError>;
    fn poll(self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        unimplemented!()
    }
}
