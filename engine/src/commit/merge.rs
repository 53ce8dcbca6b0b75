//! Batches become records: each mutation is joined over the present state, which is what the store holds plus what
//! earlier batches did that has not reached the store yet.
//!
//! ```text
//!  key ──► pending (this group and those not applied yet) ──absent──► store ──absent──► no state
//!            │ state
//!            ▼
//!  write_local or join ──► concepts row, dots rows, index row when the key is new ──► record, appended to one buffer
//! ```
//!
//! A refused batch leaves no trace: states, rows, actor numbers, the dot counter and the buffer go back to where they were.

mod requests;
mod unapplied;

use std::{ops::Range, sync::Arc};

use super::{Batch, CommitError, Condition, Effect, Expected, Mutation, Receipt, Replayed, record, round::Outcome};
use crate::{
    clock::{Clock, Hybrid, Stamp, Timestamp},
    crdt::{Dot, Join as _, Operation, Rejected, State, Supersede},
    identity::Actor,
    keyspace::{NamespaceId, actors::Actors, codec, concept_index, concepts, dots, meta},
    store::{self, Change, Family, Store, View, Write},
};
use unapplied::Unapplied;

/// Which batches may be written while the disk is what it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Admission {
    All,
    /// Flushes are so far behind that nothing more may be written for a while.
    Nothing,
    OnlyDeletes {
        free_bytes: u64,
        needed_bytes: u64,
    },
    /// There is no room even for the flush that would have to follow a delete.
    NoSpace {
        free_bytes: u64,
        needed_bytes: u64,
    },
}

impl Admission {
    fn check(self, batch: &Batch) -> Result<(), CommitError> {
        let no_space = |free_bytes, needed_bytes, deletes| CommitError::NoSpace {
            free_bytes,
            needed_bytes,
            deletes,
        };
        match self {
            Admission::All => Ok(()),
            Admission::Nothing => Err(CommitError::Busy),
            Admission::OnlyDeletes { .. } if batch.only_deletes() => Ok(()),
            Admission::OnlyDeletes {
                free_bytes,
                needed_bytes,
            } => Err(no_space(free_bytes, needed_bytes, true)),
            Admission::NoSpace {
                free_bytes,
                needed_bytes,
            } => Err(no_space(free_bytes, needed_bytes, false)),
        }
    }
}

/// One group, ready for the log.
pub(super) struct Merged {
    /// All records, one after the other.
    pub(super) buffer: Vec<u8>,
    /// Where each record lies in `buffer`.
    pub(super) records: Vec<Range<usize>>,
    drafts: Vec<Result<Draft, CommitError>>,
}

/// A receipt before the log has given out LSNs.
struct Draft {
    /// Records of the group up to and including this batch's.
    records: usize,
    done: Done,
}

/// What became of a batch that was not refused.
enum Done {
    Now(Vec<Effect>),
    Before(meta::requests::Carried),
}

impl Merged {
    /// What each caller gets, given the LSN before the group's first record.
    pub(super) fn outcomes(&mut self, before: wal::Lsn) -> Vec<Outcome> {
        let receipt = |draft: Draft| {
            let (effects, replayed) = match draft.done {
                Done::Now(effects) => (effects, None),
                Done::Before(carried) => (Vec::new(), Some(Replayed(carried))),
            };
            Receipt {
                lsn: wal::Lsn(before.0 + draft.records as u64),
                effects,
                replayed,
            }
        };
        self.drafts.drain(..).map(|draft| draft.map(receipt)).collect()
    }

    /// How many batches it holds, refused ones included.
    pub(super) fn batches(&self) -> usize {
        self.drafts.len()
    }

    /// The group is not written: every batch that would have been gets `error` instead.
    pub(super) fn refused(self, error: &CommitError) -> Vec<Outcome> {
        self.drafts
            .into_iter()
            .map(|draft| draft.and_then(|_| Err(error.clone())))
            .collect()
    }
}

/// Turns batches into records; the committer owns it.
pub(crate) struct Merger {
    store: Arc<dyn Store>,
    actors: Arc<Actors>,
    clock: Arc<dyn Clock>,
    actor: Actor,
    hybrid: Hybrid,
    /// Counter of the last dot given out.
    counter: u64,
    /// What the log holds of `counter` and `hybrid`.
    issued: meta::Issued,
    /// Which requests are remembered, the running batch's included.
    requests: meta::requests::Head,
    /// How many at most.
    requests_max: u64,
    pending: Pending,
    buffer: Vec<u8>,
    value: Vec<u8>,
    /// The most that one batch may leave in the log.
    record_bytes_max: usize,
}

/// What groups not yet applied have written.
#[derive(Default)]
struct Pending {
    /// By the key in family `concepts`.
    states: Unapplied<Arc<State>>,
    /// Rows of family `meta` that are read again; `None` is a deleted one.
    rows: Unapplied<Option<Vec<u8>>>,
}

/// Where a batch began, to go back to.
struct Mark {
    buffer: usize,
    actors: usize,
    counter: u64,
    requests: meta::requests::Head,
}

impl Merger {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        actors: Arc<Actors>,
        clock: Arc<dyn Clock>,
        actor: Actor,
        resumed: Resumed,
        record_bytes_max: usize,
    ) -> Merger {
        let Resumed { issued, requests } = resumed;
        Merger {
            store,
            actors,
            clock,
            actor,
            hybrid: Hybrid::resume(issued.stamp),
            counter: issued.counter,
            issued,
            requests,
            requests_max: meta::requests::TOTAL_MAX,
            pending: Pending::default(),
            buffer: Vec::new(),
            value: Vec::new(),
            record_bytes_max,
        }
    }

    /// Groups up to `applied` can be read in the store from now on.
    pub(super) fn settle(&mut self, applied: u64) {
        self.pending.settle(applied);
    }

    /// Forgets a group that was not written. Only when every earlier group is applied.
    pub(super) fn roll_back(&mut self, before: &Before) {
        self.pending = Pending::default();
        self.actors.truncate(before.actors);
        self.counter = before.issued.counter;
        self.issued = before.issued;
        self.requests = before.requests;
    }

    /// Where the merger stands, to roll back to.
    pub(super) fn before(&self) -> Before {
        Before {
            actors: self.actors.len(),
            issued: self.issued,
            requests: self.requests,
        }
    }

    /// Merges `batches` as group number `group`, as many of them as `bytes_max` of records hold, and at least the first: a
    /// small operation on a large state writes the whole state.
    pub(super) fn merge(&mut self, batches: &[Batch], admission: Admission, group: u64, bytes_max: usize) -> Merged {
        let now = self.clock.now();
        let mut records = Vec::with_capacity(batches.len());
        let mut drafts = Vec::with_capacity(batches.len());
        let requests = self.requests;
        self.pending.begin(group);
        for batch in batches {
            if self.buffer.len() >= bytes_max {
                break;
            }
            let mark = Mark {
                buffer: self.buffer.len(),
                actors: self.actors.len(),
                counter: self.counter,
                requests: self.requests,
            };
            match self.batch(batch, admission, now) {
                Ok(done) => {
                    self.pending.keep();
                    if self.buffer.len() > mark.buffer + 1 {
                        records.push(mark.buffer..self.buffer.len());
                    } else {
                        self.buffer.truncate(mark.buffer);
                    }
                    drafts.push(Ok(Draft {
                        records: records.len(),
                        done,
                    }));
                }
                Err(error) => {
                    self.pending.undo();
                    self.buffer.truncate(mark.buffer);
                    self.actors.truncate(mark.actors);
                    self.counter = mark.counter;
                    self.requests = mark.requests;
                    drafts.push(Err(error));
                }
            }
        }
        if let Some(last) = records.last_mut() {
            self.note_issued();
            self.note_requests(requests);
            last.end = self.buffer.len();
        }
        Merged {
            buffer: std::mem::take(&mut self.buffer),
            records,
            drafts,
        }
    }

    /// What was given out goes with the group's last record: a group is whole on disk or not there.
    fn note_issued(&mut self) {
        let issued = meta::Issued {
            counter: self.counter,
            stamp: self.hybrid.last(),
        };
        if issued != self.issued {
            self.push_meta(meta::ISSUED, Some(&codec::encode(&issued)));
            self.issued = issued;
        }
    }

    /// The same for the requests that are remembered.
    fn note_requests(&mut self, before: meta::requests::Head) {
        if self.requests != before {
            self.push_meta(meta::requests::HEAD, Some(&codec::encode(&self.requests)));
        }
    }

    fn batch(&mut self, batch: &Batch, admission: Admission, now: Timestamp) -> Result<Done, CommitError> {
        if let Some(request) = &batch.request
            && let Some(carried) = self.recall(request, now)?
        {
            return Ok(Done::Before(carried));
        }
        admission.check(batch)?;
        let mut read = self.compare(&batch.conditions, now)?;
        let start = self.buffer.len();
        record::begin(&mut self.buffer);
        let mut effects = Vec::new();
        for (index, mutation) in batch.mutations.iter().enumerate() {
            match mutation {
                Mutation::Local {
                    namespace,
                    key,
                    operation,
                    supersede,
                } => {
                    let key = concept_key(*namespace, key)?;
                    let effect = self.local(index, &key, operation, supersede, now)?;
                    read += effect.state.stored_bytes();
                    effects.push(effect);
                }
                Mutation::Join { namespace, key, state } => {
                    self.join(index, &concept_key(*namespace, key)?, state, now)?
                }
                Mutation::Apply(writes) => writes.iter().try_for_each(|write| self.apply(write))?,
                Mutation::Forget { through } => self.forget(*through)?,
            }
            // Looked at as it grows: a thousand small changes of one large set would be a gigabyte before the log refused it,
            // and a thousand that change nothing are as much work, and as long an answer.
            if read.max(self.buffer.len() - start) > self.record_bytes_max {
                return Err(CommitError::TooLarge {
                    bytes_max: self.record_bytes_max,
                });
            }
        }
        if let Some(request) = &batch.request {
            self.remember(request, &effects, now)?;
        }
        Ok(Done::Now(effects))
    }

    /// Holds what callers expect against what is there now, pending writes included; returns the bytes of state looked at.
    fn compare(&self, conditions: &[Condition], now: Timestamp) -> Result<usize, CommitError> {
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

    fn local(
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
        Ok(Effect { before, state })
    }

    fn join(&mut self, index: usize, key: &Arc<[u8]>, received: &State, now: Timestamp) -> Result<(), CommitError> {
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
        self.put_state(key, Arc::new(state), is_new);
        Ok(())
    }

    fn apply(&mut self, write: &Write) -> Result<(), CommitError> {
        if matches!(
            write.family,
            Family::Concepts | Family::ConceptIndex | Family::Dots | Family::Meta
        ) {
            let name = write.family.name();
            return Err(CommitError::Invalid(format!(
                "family {name} is written by joins only, not by whole values"
            )));
        }
        record::push(write.as_change(), &mut self.buffer);
        Ok(())
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

    /// A row of `meta` that the merger reads again.
    fn put_meta(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.push_meta(&key, value.as_deref());
        self.pending.rows.put(&key.into(), value);
    }

    fn push_meta(&mut self, key: &[u8], value: Option<&[u8]>) {
        let family = Family::Meta;
        record::push(Change { family, key, value }, &mut self.buffer);
    }
}

/// Where an earlier life left off, as the store has it.
pub(crate) struct Resumed {
    pub(crate) issued: meta::Issued,
    pub(crate) requests: meta::requests::Head,
}

impl Resumed {
    pub(crate) fn read(view: &dyn View) -> Result<Resumed, store::Error> {
        Ok(Resumed {
            issued: meta::read(view, meta::ISSUED)?.unwrap_or_default(),
            requests: meta::read(view, meta::requests::HEAD)?.unwrap_or_default(),
        })
    }
}

/// A point to roll back to.
pub(super) struct Before {
    actors: usize,
    issued: meta::Issued,
    requests: meta::requests::Head,
}

fn concept_key(namespace: NamespaceId, key: &[u8]) -> Result<Arc<[u8]>, CommitError> {
    if key.len() > concepts::KEY_BYTES_MAX {
        let (length, maximum) = (key.len(), concepts::KEY_BYTES_MAX);
        return Err(CommitError::Invalid(format!(
            "a key of {length} bytes is over the maximum of {maximum}"
        )));
    }
    Ok(concepts::key(namespace, key).into())
}

impl Pending {
    fn begin(&mut self, group: u64) {
        self.states.begin(group);
        self.rows.begin(group);
    }

    fn keep(&mut self) {
        self.states.keep();
        self.rows.keep();
    }

    fn undo(&mut self) {
        self.states.undo();
        self.rows.undo();
    }

    fn settle(&mut self, applied: u64) {
        self.states.settle(applied);
        self.rows.settle(applied);
    }
}
