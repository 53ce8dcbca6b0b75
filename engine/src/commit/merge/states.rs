//! Mutations of one concept: its present state, the write or the join, and the rows that go with them.
//!
//! ```text
//!  row                when
//!  concepts           the state has changed
//!  concept_index      it is the first of its key
//!  dots               one for each event that is news
//!  meta: actor/…      an actor is named for the first time
//!  meta: expiry/…     a value of this node's own expires, or does not any more
//! ```

use std::{collections::BTreeSet, sync::Arc};

use super::{Merger, record};
use crate::{
    clock::{Stamp, Timestamp},
    commit::{CommitError, Condition, Effect, Expected},
    crdt::{Dot, Join as _, Operation, Rejected, State, Supersede},
    identity::Actor,
    keyspace::{NamespaceId, concept_index, concepts, dots, meta},
    store::{Change, Family},
};

impl Merger {
    /// Holds what callers expect against what is there now, pending writes included; returns the bytes of state looked at.
    pub(super) fn compare(&self, conditions: &[Condition], now: Timestamp) -> Result<usize, CommitError> {
        let mut read = 0;
        for (index, condition) in conditions.iter().enumerate() {
            let key = concept_key(condition.namespace, &condition.key)?;
            let found = self.current(&key)?.unwrap_or_default();
            let holds = match &condition.expected {
                Expected::Nothing => !found.is_visible(Stamp::at(now)),
                Expected::Seen(seen) => found.context == *seen,
            };
            if !holds {
                return Err(CommitError::Unexpected { index, found });
            }
            read += found.stored_bytes();
            if read > self.record_bytes_max {
                return Err(CommitError::TooLarge {
                    bytes_max: self.record_bytes_max,
                });
            }
        }
        Ok(read)
    }

    pub(super) fn local(
        &mut self,
        index: usize,
        key: &Arc<[u8]>,
        operation: &Operation,
        supersede: &Supersede,
        now: Timestamp,
    ) -> Result<Effect, CommitError> {
        let current = self.current(key)?;
        let is_new = current.is_none();
        let before = current.unwrap_or_default();
        let mut state = State::clone(&before);
        let stamp = self
            .hybrid
            .stamp(now, state.superseded_stamp(&self.actor, operation, supersede));
        let first = Dot {
            actor: self.actor.clone(),
            counter: self.counter + 1,
        };
        let used = state
            .write_local(&first, stamp, operation, supersede)
            .map_err(|reason| CommitError::Rejected { index, reason })?;
        if used == 0 {
            let state = Arc::clone(&before);
            return Ok(Effect { before, state });
        }
        self.counter += used;
        let number = self.number_of_own();
        for counter in first.counter..first.counter + used {
            self.put_dot(number, counter, key);
        }
        let state = Arc::new(state);
        self.put_state(key, Arc::clone(&state), is_new);
        self.note_expiries(key, &before, &state);
        Ok(Effect { before, state })
    }

    /// Takes away what has expired by `stamp`; returns the bytes of state looked at.
    pub(super) fn expire(
        &mut self,
        index: usize,
        key: &Arc<[u8]>,
        stamp: Stamp,
        now: Timestamp,
    ) -> Result<usize, CommitError> {
        let operation = Operation::Expire { by: stamp };
        let effect = self.local(index, key, &operation, &Supersede::All, now)?;
        if !effect.took_away() {
            // The value was replaced, or has been deleted, and its row was left behind.
            self.push_meta(&meta::expiry::key(stamp, key), None);
        }
        Ok(effect.state.stored_bytes())
    }

    pub(super) fn join(
        &mut self,
        index: usize,
        key: &Arc<[u8]>,
        received: &State,
        now: Timestamp,
    ) -> Result<(), CommitError> {
        if !received.is_sound() {
            return Err(CommitError::Invalid(
                "a received state has an entry outside of its context".to_owned(),
            ));
        }
        // Taken in, it would have this node give the same dots out once more.
        let counter = received.context.counter(&self.actor);
        if counter > self.counter {
            let reason = Rejected::DotSeen { counter };
            return Err(CommitError::Rejected { index, reason });
        }
        let current = self.current(key)?;
        let is_new = current.is_none();
        let current = current.unwrap_or_default();
        let mut state = (*current).clone();
        state.join(received);
        if state == *current {
            return Ok(());
        }
        for entry in received.entries.values() {
            if !self.hybrid.observe(now, entry.stamp) {
                tracing::warn!(
                    stamp_ms = entry.stamp.milliseconds(),
                    "a received stamp is too far ahead: some node's clock is wrong"
                );
            }
        }
        // Rows for every event that is news: the entries, and the events whose values are already superseded.
        let present = state
            .entries
            .keys()
            .filter(|dot| !current.context.contains(dot))
            .cloned();
        let mut news: Vec<Dot> = present.collect();
        for (actor, &counter) in &state.context.0 {
            let newest = Dot {
                actor: actor.clone(),
                counter,
            };
            if !current.context.contains(&newest) && !state.entries.contains_key(&newest) {
                news.push(newest);
            }
        }
        for dot in news {
            let number = self.number_of(&dot.actor);
            self.put_dot(number, dot.counter, key);
        }
        let state = Arc::new(state);
        self.put_state(key, Arc::clone(&state), is_new);
        self.note_expiries(key, &current, &state);
        Ok(())
    }

    /// Keeps the rows that say when something of this node's own expires: values that it wrote in an earlier life, and gets
    /// back from others after a restore, are its own as well.
    fn note_expiries(&mut self, key: &[u8], before: &State, after: &State) {
        let own = |state: &State| -> BTreeSet<Stamp> {
            let entries = state.entries.iter();
            let own = entries.filter(|(dot, _)| dot.actor.node == self.actor.node);
            own.filter_map(|(_, entry)| entry.expires).collect()
        };
        let (before, after) = (own(before), own(after));
        for gone in before.difference(&after) {
            self.push_meta(&meta::expiry::key(*gone, key), None);
        }
        for new in after.difference(&before) {
            self.push_meta(&meta::expiry::key(*new, key), Some(&[]));
        }
    }

    fn current(&self, key: &[u8]) -> Result<Option<Arc<State>>, CommitError> {
        if let Some(state) = self.pending.states.get(key) {
            return Ok(Some(Arc::clone(state)));
        }
        let unreadable = |error: &dyn std::fmt::Display| {
            CommitError::Invalid(format!(
                "the present state of the key cannot be read, so nothing can be joined to it: {error}"
            ))
        };
        let bytes = self
            .store
            .get(Family::Concepts, key)
            .map_err(|error| unreadable(&error))?;
        bytes
            .map(|bytes| concepts::decode(&bytes, &self.actors).map(Arc::new))
            .transpose()
            .map_err(|error| unreadable(&error))
    }

    fn put_state(&mut self, key: &Arc<[u8]>, state: Arc<State>, is_new: bool) {
        for actor in state.context.0.keys() {
            self.number_of(actor);
        }
        self.value.clear();
        let actors = &self.actors;
        let number = &mut |actor: &Actor| {
            actors
                .number(actor)
                .expect("every actor of the context was interned just now")
        };
        concepts::encode_into(&state, number, &mut self.value);
        record::push(
            Change {
                family: Family::Concepts,
                key,
                value: Some(&self.value),
            },
            &mut self.buffer,
        );
        if is_new {
            let index = concept_index::key(key);
            record::push(
                Change {
                    family: Family::ConceptIndex,
                    key: &index,
                    value: Some(&[]),
                },
                &mut self.buffer,
            );
        }
        self.pending.states.put(key, state);
    }

    fn put_dot(&mut self, actor: u32, counter: u64, concept: &[u8]) {
        self.value.clear();
        dots::encode_into(concept, &mut self.value);
        let key = dots::key(actor, counter);
        record::push(
            Change {
                family: Family::Dots,
                key: &key,
                value: Some(&self.value),
            },
            &mut self.buffer,
        );
    }

    fn number_of_own(&mut self) -> u32 {
        let actor = self.actor.clone();
        self.number_of(&actor)
    }

    fn number_of(&mut self, actor: &Actor) -> u32 {
        let (number, is_new) = self.actors.intern(actor);
        if is_new {
            let (key, value) = meta::actor_row(number, actor);
            self.push_meta(&key, Some(&value));
        }
        number
    }
}

/// The key in family `concepts`.
pub(super) fn concept_key(namespace: NamespaceId, key: &[u8]) -> Result<Arc<[u8]>, CommitError> {
    if key.len() > concepts::KEY_BYTES_MAX {
        let (length, maximum) = (key.len(), concepts::KEY_BYTES_MAX);
        return Err(CommitError::Invalid(format!(
            "a key of {length} bytes is over the maximum of {maximum}"
        )));
    }
    Ok(concepts::key(namespace, key).into())
}
