//! Dots and version vectors: what has been seen, and how two views of it compare.

use std::{collections::BTreeMap, sync::Arc};

use super::Join;
use crate::identity::Actor;

/// One write event: the `counter`-th of its actor, over all keys. Counters begin at 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Who wrote.
    pub actor: Actor,
    /// The how-many-eth write of that actor, from 1.
    pub counter: u64,
}

/// For each actor the highest counter seen *for this key*.
///
/// There are no gaps: the whole state of a key always travels together, so whoever knows the n-th dot of an actor for a
/// key has seen the effect of all its earlier ones for that key. Never holds a zero, so that equal vectors are equal maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionVector(pub BTreeMap<Actor, u64>);

/// How what one side has seen relates to what the other has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Causality {
    /// All of it and less: the other side is newer.
    Before,
    /// All of it and more.
    After,
    /// The same.
    Equal,
    /// Each has seen something that the other has not.
    Concurrent,
}

impl VersionVector {
    /// Whether this event has been seen.
    #[must_use]
    pub fn contains(&self, dot: &Dot) -> bool {
        self.counter(&dot.actor) >= dot.counter
    }

    /// The highest counter seen of `actor`; 0 when none.
    #[must_use]
    pub fn counter(&self, actor: &Actor) -> u64 {
        self.0.get(actor).copied().unwrap_or(0)
    }

    /// Marks an event, and with it all earlier ones of its actor, as seen.
    pub fn insert(&mut self, dot: &Dot) {
        if self.counter(&dot.actor) < dot.counter {
            self.0.insert(dot.actor.clone(), dot.counter);
        }
    }

    /// Whether all that `other` has seen is seen here too.
    #[must_use]
    pub fn includes(&self, other: &VersionVector) -> bool {
        other.0.iter().all(|(actor, counter)| self.counter(actor) >= *counter)
    }

    /// Where this vector stands relative to `other`.
    #[must_use]
    pub fn compare(&self, other: &VersionVector) -> Causality {
        match (self.includes(other), other.includes(self)) {
            (true, true) => Causality::Equal,
            (true, false) => Causality::After,
            (false, true) => Causality::Before,
            (false, false) => Causality::Concurrent,
        }
    }

    /// The vector as users see it, `{"replica-1": 2}`: incarnations of one node added up, so that the numbers never
    /// shrink as more is seen. For display only; causality is decided on the full vector.
    #[must_use]
    pub fn folded(&self) -> BTreeMap<Arc<str>, u64> {
        let mut folded = BTreeMap::new();
        for (actor, counter) in &self.0 {
            let sum: &mut u64 = folded.entry(Arc::clone(&actor.node)).or_default();
            *sum = sum.saturating_add(*counter);
        }
        folded
    }
}

impl Join for VersionVector {
    fn join(&mut self, other: &VersionVector) {
        for (actor, counter) in &other.0 {
            match self.0.get_mut(actor) {
                Some(mine) => *mine = (*mine).max(*counter),
                None => {
                    self.0.insert(actor.clone(), *counter);
                }
            }
        }
    }
}
