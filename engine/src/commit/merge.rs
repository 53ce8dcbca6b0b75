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
mod states;
mod unapplied;

use std::{ops::Range, sync::Arc};

use super::{Batch, CommitError, Effect, Mutation, Receipt, Replayed, record, round::Outcome};
use crate::{
    clock::{Clock, Hybrid, Timestamp},
    crdt::State,
    identity::Actor,
    keyspace::{actors::Actors, codec, meta},
    store::{self, Change, Family, Store, View, Write},
};
use states::concept_key;
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
            // Raft must not see an error. Those who propose to it are refused before; see the committer for a disk without any room.
            _ if batch.is_raft() => Ok(()),
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
                Mutation::Raft(writes) => writes.iter().try_for_each(|write| self.raft(write))?,
                Mutation::Expire { namespace, key, stamp } => {
                    read += self.expire(index, &concept_key(*namespace, key)?, *stamp, now)?;
                }
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

    fn apply(&mut self, write: &Write) -> Result<(), CommitError> {
        let name = write.family.name();
        match write.family {
            Family::Concepts | Family::ConceptIndex | Family::Dots | Family::Meta => Err(CommitError::Invalid(
                format!("family {name} is written by joins only, not by whole values"),
            )),
            Family::RaftLog | Family::RaftState => {
                Err(CommitError::Invalid(format!("family {name} is written by raft only")))
            }
            _ => {
                record::push(write.as_change(), &mut self.buffer);
                Ok(())
            }
        }
    }

    fn raft(&mut self, write: &Write) -> Result<(), CommitError> {
        if !matches!(write.family, Family::RaftLog | Family::RaftState) {
            let name = write.family.name();
            return Err(CommitError::Invalid(format!("family {name} is none of raft's own")));
        }
        record::push(write.as_change(), &mut self.buffer);
        Ok(())
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
