//! One merge for everything: the join of dotted version vector sets.
//!
//! ```text
//!  State = context (version vector: what has been seen) + entries (dot → content, the maximal concurrent values)
//!  join(a, b) = entries in both, or in one and unseen by the other; context = pointwise maximum
//!  strategy(State) → value        a pure, order-free function applied at read time
//! ```
#![allow(unused, missing_docs)] // skeleton

use std::collections::BTreeMap;

use crate::{clock::Stamp, identity::Actor};

/// One write event: the `counter`-th of its actor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    pub actor: Actor,
    pub counter: u64,
}

/// For each actor the highest counter seen *for this key*.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionVector(pub BTreeMap<Actor, u64>);

/// What kind of concept a key holds; fixed by its first write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Kind {
    Register,
    Siblings,
    Set,
    Counter,
}

/// What one dot wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Register and siblings: JSON text as sent. Set: the canonical JSON of one element.
    Json(String),
    /// Counter: the cumulative sums of this actor; its newer dot supersedes its older.
    Sums { increments: u64, decrements: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub stamp: Stamp,
    /// Absolute expiry; reads hide the entry afterwards.
    pub expires: Option<Stamp>,
    pub content: Content,
}

/// The whole state of one key. No entries = a tombstone (its context is what it deleted).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub kind: Kind,
    pub context: VersionVector,
    pub entries: BTreeMap<Dot, Entry>,
}

/// A local write, before it has a dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Put { kind: Kind, json: String, expires: Option<Stamp> },
    Change { add: Vec<String>, remove: Vec<String> },
    Add { delta: i64 },
    Delete,
}

/// How concurrent values become one, at read time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Strategy {
    LastWriteWins,
    HighestNodeWins,
    MergeUnion,
    KeepSiblings,
}
