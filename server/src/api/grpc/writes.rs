//! Writes on their way to the door: one alone (Put, Delete), or several as one batch.
//!
//! ```text
//!  PutRequest, DeleteRequest ──Draft::put, delete──► conditions and mutations ──Engine::commit──► one record of the log
//!                                                                                    │ effects
//!                              PutResponse, DeleteResponse, in the order of the writes ◄┘
//! ```
//!
//! Whatever goes wrong is told with the place of the write that is to blame ([`Refused::at`]).

use std::collections::{HashMap, hash_map::Entry};

use engine::{
    Batch, CommitError, Condition, Durability, Effect, Expected, Mutation, Pending, Receipt,
    clock::Timestamp,
    crdt::{Operation, Supersede},
    ledger::Namespace,
};
use proto::v1::{
    BatchWrite, DeleteRequest, DeleteResponse, PutRequest, PutResponse, WriteResult, batch_write::Write, write_result,
};

use super::{concepts::Service, fields, render, status::Refused, token};

/// Writes that become one batch.
pub(super) struct Draft<'a> {
    service: &'a Service,
    /// One for the whole batch, so that equal times to live end together.
    now: Timestamp,
    namespaces: HashMap<String, Namespace>,
    batch: Batch,
    targets: Vec<Target>,
    /// Which write asked for which condition.
    conditional: Vec<usize>,
}

/// What is remembered of a write until it is answered.
struct Target {
    namespace: Namespace,
    key: Vec<u8>,
    answer: Answer,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Put { with_concept: bool },
    Delete,
}

/// What a caller says it has read of the key.
struct Basis {
    expected: Option<Expected>,
    supersede: Option<Supersede>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(service: &'a Service, writes: usize) -> Draft<'a> {
        Draft {
            service,
            now: service.now(),
            namespaces: HashMap::new(),
            batch: Batch::of(Vec::with_capacity(writes)),
            targets: Vec::with_capacity(writes),
            conditional: Vec::new(),
        }
    }

    /// Takes all of `writes`, or names the first that cannot be taken.
    pub(super) fn of(service: &'a Service, writes: Vec<BatchWrite>) -> Result<Draft<'a>, Refused> {
        fields::batch_size(writes.len())?;
        let mut draft = Draft::new(service, writes.len());
        for (index, write) in writes.into_iter().enumerate() {
            draft.add(write).map_err(|refused| refused.at(index))?;
        }
        Ok(draft)
    }

    fn add(&mut self, write: BatchWrite) -> Result<(), Refused> {
        match write.write {
            Some(Write::Put(request)) => self.put(request),
            Some(Write::Delete(request)) => self.delete(request),
            None => Err(Refused::field(
                "write",
                "WRITE_MISSING",
                "one of put and delete must be given",
            )),
        }
    }

    pub(super) fn put(&mut self, request: PutRequest) -> Result<(), Refused> {
        let namespace = self.namespace(request.namespace)?;
        let key = fields::key(&request.key)?;
        let (kind, operation) = fields::operation(request.write, request.ttl, self.now)?;
        let Basis { expected, supersede } = self.basis(&namespace, &key, &request.context, request.if_context)?;
        let supersede = supersede.unwrap_or_else(|| Supersede::without_context(kind, namespace.policy.strategy));
        let answer = Answer::Put {
            with_concept: request.return_concept,
        };
        self.push(namespace, key, operation, expected, supersede, answer);
        Ok(())
    }

    pub(super) fn delete(&mut self, request: DeleteRequest) -> Result<(), Refused> {
        let namespace = self.namespace(request.namespace)?;
        let key = fields::key(&request.key)?;
        let Basis { expected, supersede } = self.basis(&namespace, &key, &request.context, request.if_context)?;
        let supersede = supersede.unwrap_or(Supersede::Unread(namespace.policy.strategy));
        self.push(namespace, key, Operation::Delete, expected, supersede, Answer::Delete);
        Ok(())
    }

    fn namespace(&mut self, name: String) -> Result<Namespace, Refused> {
        match self.namespaces.entry(name) {
            Entry::Occupied(known) => Ok(known.get().clone()),
            Entry::Vacant(vacant) => {
                let namespace = self.service.namespace(vacant.key())?;
                Ok(vacant.insert(namespace).clone())
            }
        }
    }

    fn basis(
        &self,
        namespace: &Namespace,
        key: &[u8],
        context: &[u8],
        if_context: Option<Vec<u8>>,
    ) -> Result<Basis, Refused> {
        let open = |token: &[u8], field| {
            token::open_context(self.service.key(), namespace.id, key, token).map_err(|refused| refused.in_field(field))
        };
        match (context, if_context.as_deref()) {
            ([], None) => Ok(Basis {
                expected: None,
                supersede: None,
            }),
            (context, None) => Ok(Basis {
                expected: None,
                supersede: Some(Supersede::Seen(open(context, "context")?)),
            }),
            // Nothing is there to be read, but perhaps what has expired: it goes.
            ([], Some([])) => Ok(Basis {
                expected: Some(Expected::Nothing),
                supersede: Some(Supersede::All),
            }),
            ([], Some(expected)) => {
                let seen = open(expected, "if_context")?;
                Ok(Basis {
                    expected: Some(Expected::Seen(seen.clone())),
                    supersede: Some(Supersede::Seen(seen)),
                })
            }
            (_, Some(_)) => Err(Refused::field(
                "if_context",
                "CONTEXT_TWICE",
                "not together with context: what is expected is also what is replaced",
            )),
        }
    }

    fn push(
        &mut self,
        namespace: Namespace,
        key: Vec<u8>,
        operation: Operation,
        expected: Option<Expected>,
        supersede: Supersede,
        answer: Answer,
    ) {
        if let Some(expected) = expected {
            self.conditional.push(self.targets.len());
            self.batch.conditions.push(Condition {
                namespace: namespace.id,
                key: key.clone(),
                expected,
            });
        }
        self.batch.mutations.push(Mutation::Local {
            namespace: namespace.id,
            key: key.clone(),
            operation,
            supersede,
        });
        self.targets.push(Target { namespace, key, answer });
    }

    /// Through the door: the batch is on its way when this returns, and comes before every batch sent later.
    pub(super) fn send(self) -> Sent {
        let Draft {
            service,
            batch,
            targets,
            conditional,
            ..
        } = self;
        Sent {
            pending: service.engine().commit(batch, Durability::Synced),
            answers: Answers {
                service: service.clone(),
                targets,
                conditional,
            },
        }
    }
}

/// A batch under way.
pub(super) struct Sent {
    pub(super) pending: Pending,
    pub(super) answers: Answers,
}

impl Sent {
    /// What each write did, or why there was none.
    pub(super) async fn results(self) -> Result<Vec<WriteResult>, Refused> {
        let outcome = self.pending.await;
        self.answers.of(outcome)
    }

    /// The same for a single write, which has no place.
    pub(super) async fn only(self) -> Result<write_result::Result, Refused> {
        let results = self.results().await.map_err(Refused::out_of_batch)?;
        let only = results.into_iter().next();
        only.and_then(|only| only.result).ok_or(Refused::Confused)
    }
}

/// How the writes of a batch are answered once it is done.
pub(super) struct Answers {
    service: Service,
    targets: Vec<Target>,
    conditional: Vec<usize>,
}

impl Answers {
    /// What each write did, or why there was none.
    pub(super) fn of(&self, outcome: Result<Receipt, CommitError>) -> Result<Vec<WriteResult>, Refused> {
        let receipt = outcome.map_err(|error| self.refused(error))?;
        if receipt.effects.len() != self.targets.len() {
            return Err(Refused::Confused);
        }
        let results = self.targets.iter().zip(&receipt.effects);
        Ok(results.map(|(target, effect)| self.result(target, effect)).collect())
    }

    fn result(&self, target: &Target, effect: &Effect) -> WriteResult {
        let clock = render::clock(&effect.state.context);
        let result = match target.answer {
            Answer::Delete => write_result::Result::Delete(DeleteResponse {
                deleted: effect.took_away(),
                clock,
                replayed: false,
            }),
            Answer::Put { with_concept } => {
                let reader = self.service.reader(&target.namespace);
                let concept = with_concept
                    .then(|| reader.concept(&target.key, &effect.state))
                    .flatten();
                write_result::Result::Put(PutResponse {
                    clock,
                    concept,
                    replayed: false,
                })
            }
        };
        WriteResult { result: Some(result) }
    }

    fn refused(&self, error: CommitError) -> Refused {
        match error {
            CommitError::Rejected { index, .. } => Refused::Commit(error).at(index),
            CommitError::Unexpected { index, found } => {
                let index = self.conditional.get(index).copied().unwrap_or_default();
                let Some(target) = self.targets.get(index) else {
                    return Refused::Confused;
                };
                let (namespace, key) = (&target.namespace, &target.key);
                let context = token::seal_context(self.service.key(), namespace.id, key, &found.context);
                let refused = Refused::ConditionFailed {
                    write: index,
                    namespace: namespace.name.clone(),
                    key: String::from_utf8_lossy(key).into_owned(),
                    exists: self.service.reader(namespace).finds(&found),
                    context,
                };
                refused.at(index)
            }
            error => Refused::Commit(error),
        }
    }
}
