//! One merge for everything: the join of dotted version vector sets.
//!
//! ```text
//!  State = context (version vector: what has been seen) + entries (dot → entry, the maximal concurrent values)
//!
//!          ┌ write      the new dot enters entries and context; what it supersedes leaves entries, stays in context
//!          │ delete     entries leave; a dot of its own enters the context, so that the deletion is an event too
//!          │ expire     a delete of what this node wrote, in any of its lives, and what has expired
//!          │ join       an entry stays when both have it, or when only one has it and the other has not seen its dot
//!          └ read       strategy(entries, now) → value: a pure, order-free function; changes nothing
//!
//!  kind       entries hold                       a write supersedes             a read gives
//!  register   whole JSON values                  per `Supersede`                one value, by the strategy
//!  siblings   whole JSON values                  per `Supersede`                every concurrent value
//!  set        one element each, canonical JSON   the same element's dots        elements by canonical bytes
//!  counter    one actor's cumulative sums        that actor's earlier dot       increments − decrements
//! ```
//!
//! Invariants: every entry's dot is in the context; a dot names one write for ever; a counter has at most one entry per
//! actor; the join obeys the laws on [`Join`]. Resolving conflicts while merging instead of while reading would break
//! them: two replicas could each drop the value the other kept, and their join would hold none.
//!
//! **Kinds.** A key takes its kind from its first write and keeps it while it holds anything; after a delete it may
//! begin anew. Two replicas cut off from each other may create one key with different kinds. Their join keeps all
//! entries of both, and such a mix reads and writes as *siblings* ([`State::kind`]): each value, the set as one array
//! and the counter as one number. Nothing is lost, everyone sees it, and the next write that has read it collapses it.
//!
//! **Set and counter against delete.** Both are "add wins": a delete takes away what it has seen. A counter's entry
//! carries all its actor has added since that actor last saw the counter empty, so an addition made while another node deletes
//! brings that actor's whole share back.
//!
//! Source: Preguiça et al., "Dotted Version Vectors" (2010); Almeida et al., "Scalable and Accurate Causality Tracking
//! for Eventually Consistent Stores" (2014). This module refuses to know the time (`now` and stamps are passed in),
//! where states are stored, and what a context token looks like on the wire.

mod strategy;
mod union;
mod vector;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::clock::Stamp;

pub use strategy::{Reading, Sibling, Strategy};
pub use vector::{Causality, Dot, VersionVector};
pub use write::{Operation, Rejected, Supersede};

/// The most concurrent values one register or siblings key takes from local writes; a join is never refused.
pub const SIBLINGS_MAX: usize = 64;
/// The largest JSON text of one value or set element, in bytes.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;
/// The most one key takes from local writes, in bytes as [`State::stored_bytes`] counts them: its state travels, and is
/// logged, as a whole.
pub const STATE_BYTES_MAX: usize = 1024 * 1024;
/// What an entry is taken to cost beside its text, in bytes: dot, stamp, lengths.
const ENTRY_BYTES: usize = 32;

/// What replicas do when they meet.
///
/// Laws, for all `a`, `b`, `c` that can arise from one history (tested over random histories for every type):
///
/// - commutative: `a ⊔ b = b ⊔ a`
/// - associative: `(a ⊔ b) ⊔ c = a ⊔ (b ⊔ c)`
/// - idempotent: `a ⊔ a = a`
///
/// Together they say that replicas which have heard of the same writes are equal, in whatever order and however often
/// they heard.
pub trait Join {
    /// Takes in all that `other` knows.
    fn join(&mut self, other: &Self);
}

/// What a key holds; the order is the order of introduction, not of rank. Persisted: never reordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Kind {
    /// One JSON value; concurrent ones are resolved by the namespace's strategy.
    Register,
    /// JSON values; concurrent ones are all returned, whatever the strategy.
    Siblings,
    /// An observed-remove set of JSON elements.
    Set,
    /// A counter that goes both ways.
    Counter,
}

impl Kind {
    /// The kind's name as users see it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Register => "register",
            Kind::Siblings => "siblings",
            Kind::Set => "set",
            Kind::Counter => "counter",
        }
    }
}

/// What one dot wrote.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// A register's value: JSON text as sent.
    Register(String),
    /// One value of a siblings key: JSON text as sent.
    Sibling(String),
    /// The canonical JSON of one element of a set.
    Element(String),
    /// A counter's share: the cumulative sums of this actor; its newer dot supersedes its older.
    Sums {
        /// All that was added.
        increments: u64,
        /// All that was taken away.
        decrements: u64,
    },
}

impl Content {
    /// The kind of key this belongs to.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Content::Register(_) => Kind::Register,
            Content::Sibling(_) => Kind::Siblings,
            Content::Element(_) => Kind::Set,
            Content::Sums { .. } => Kind::Counter,
        }
    }

    /// Bytes of JSON text; 0 for a counter.
    fn json_bytes(&self) -> usize {
        match self {
            Content::Register(json) | Content::Sibling(json) | Content::Element(json) => json.len(),
            Content::Sums { .. } => 0,
        }
    }

    fn stored_bytes(&self) -> usize {
        ENTRY_BYTES + self.json_bytes()
    }
}

/// One of the present values of a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// When it was written, by the writer's hybrid clock; breaks ties, carries no causality.
    pub stamp: Stamp,
    /// Absolute expiry; reads hide the entry from then on. Merging and sums ignore it.
    pub expires: Option<Stamp>,
    /// What was written.
    pub content: Content,
}

/// The whole state of one key. No entries = a tombstone (its context is what it deleted), or never written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Everything seen for this key, present or superseded.
    pub context: VersionVector,
    /// The values no seen write has superseded.
    pub entries: BTreeMap<Dot, Entry>,
}

impl State {
    /// The state of a key after its one write so far: for writers that manage their dots themselves.
    #[must_use]
    pub fn single(dot: Dot, entry: Entry) -> State {
        let mut state = State::default();
        state.context.insert(&dot);
        state.entries.insert(dot, entry);
        state
    }

    /// Whether every entry is in the context, as it must be: what is read from disk or wire is checked with this.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let counted = self.context.0.values().all(|counter| *counter > 0);
        counted
            && self
                .entries
                .keys()
                .all(|dot| dot.counter > 0 && self.context.contains(dot))
    }

    /// Whether nothing is present: deleted, or never written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a read at `now` finds anything.
    #[must_use]
    pub fn is_visible(&self, now: Stamp) -> bool {
        self.entries.values().any(|entry| strategy::is_live(entry, now))
    }

    /// What the key holds, expired values included; `None` when it holds nothing. A mix of kinds is siblings.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        kind_of(self.entries.values())
    }

    /// The size of all entries in bytes: their JSON text, and 32 for each.
    #[must_use]
    pub fn stored_bytes(&self) -> usize {
        self.entries.values().map(|entry| entry.content.stored_bytes()).sum()
    }
}

/// The one kind of `entries`, siblings when they are of several, `None` when there are none.
fn kind_of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Option<Kind> {
    let mut kinds = entries.into_iter().map(|entry| entry.content.kind());
    let first = kinds.next()?;
    Some(if kinds.all(|kind| kind == first) {
        first
    } else {
        Kind::Siblings
    })
}

impl Join for State {
    fn join(&mut self, other: &State) {
        self.entries
            .retain(|dot, _| other.entries.contains_key(dot) || !other.context.contains(dot));
        for (dot, theirs) in &other.entries {
            match self.entries.get_mut(dot) {
                // One dot, two contents: some actor broke its promise. Both sides still choose alike.
                Some(mine) if &*mine < theirs => *mine = theirs.clone(),
                Some(_) => {}
                None if self.context.contains(dot) => {} // superseded here
                None => {
                    self.entries.insert(dot.clone(), theirs.clone());
                }
            }
        }
        self.context.join(&other.context);
    }
}
