//! Writes on their way to the door: one alone (Put, Delete), or several as one batch.
//!
//! ```text
//!  PutRequest, DeleteRequest ──Draft::put, delete──► conditions and mutations ──Engine::commit──► one record of the log
//!                                                                                    │ effects
//!                              PutResponse, DeleteResponse, in the order of the writes ◄┘
//! ```
//!
//! Whatever goes wrong is told with the place of the write that is to blame ([`Refused::at`]).
//!
//! A call with a `request_id` names its batch and seals the name to what was asked: a digest of the message without the id.
//! When the committer says that it carried the batch out before, the answer is made from the keys as they are now.

use std::collections::{HashMap, hash_map::Entry};

use engine::{
    Batch, CommitError, Condition, Durability, Expected, Mutation, Pending, Receipt, Replayed, Request,
    clock::Timestamp,
    crdt::{Operation, State, Supersede},
    ledger::{Namespace, Replication},
};
use prost::Message;
use proto::v1::{
    BatchRequest, BatchWrite, DeleteRequest, DeleteResponse, PutRequest, PutResponse, TransactRequest, WriteRequest,
    WriteResult, batch_write::Write, write_result,
};
use sha2::{Digest as _, Sha256};

use super::{concepts::Service, consensus, fields, render, status::Refused, token};
use crate::runtime::tasks;

/// Concepts in the answer to a write that was carried out before come to at most so many bytes, beyond the first of them;
/// further ones are left out. The first time the size of the record bounds them, but by now the keys may have grown.
const REPLAYED_BYTES_MAX: usize = 32 << 20;

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

/// A message that may carry a request id. The letter keeps what is equal in two calls apart.
pub(super) trait Named: Message + Clone {
    const CALL: u8;
    fn request_id(&mut self) -> &mut String;
}

/// A message of several writes.
pub(super) trait Writes: Named {
    fn writes(&mut self) -> &mut Vec<BatchWrite>;
}

impl Writes for BatchRequest {
    fn writes(&mut self) -> &mut Vec<BatchWrite> {
        &mut self.writes
    }
}

impl Writes for WriteRequest {
    fn writes(&mut self) -> &mut Vec<BatchWrite> {
        &mut self.writes
    }
}

impl Named for TransactRequest {
    const CALL: u8 = b't';
    fn request_id(&mut self) -> &mut String {
        &mut self.request_id
    }
}

impl Named for PutRequest {
    const CALL: u8 = b'p';
    fn request_id(&mut self) -> &mut String {
        &mut self.request_id
    }
}

impl Named for DeleteRequest {
    const CALL: u8 = b'd';
    fn request_id(&mut self) -> &mut String {
        &mut self.request_id
    }
}

impl Named for BatchRequest {
    const CALL: u8 = b'b';
    fn request_id(&mut self) -> &mut String {
        &mut self.request_id
    }
}

impl Named for WriteRequest {
    const CALL: u8 = b'w';
    fn request_id(&mut self) -> &mut String {
        &mut self.request_id
    }
}

/// Takes the id out of `message`, if it has one; with it a digest of the rest.
pub(super) fn identified<M: Named>(message: &mut M) -> Result<Option<(String, [u8; 32])>, Refused> {
    let id = std::mem::take(message.request_id());
    if id.is_empty() {
        return Ok(None);
    }
    fields::request_id(&id)?;
    let digest = Sha256::new()
        .chain_update([M::CALL])
        .chain_update(message.encode_to_vec())
        .finalize();
    Ok(Some((id, digest.into())))
}

/// What names the batch, if the caller has named it: the id is taken out of `message`.
fn named<M: Named>(message: &mut M) -> Result<Option<Request>, Refused> {
    let identified = identified(message)?;
    Ok(identified.map(|(id, digest)| {
        let mut body = [0; 16];
        body.copy_from_slice(&digest[..16]);
        Request { id, body }
    }))
}

/// Several writes on one of the two roads.
pub(super) enum Several {
    /// On their way through the door.
    Mesh(Sent),
    /// To be proposed.
    Consensus(consensus::Draft),
}

/// Takes the writes of `message`, and sends them on their way where that is the door.
pub(super) fn several<M: Writes>(service: &Service, mut message: M) -> Result<Several, Refused> {
    let first = message.writes().first().and_then(|first| first.write.as_ref());
    let namespace = match first {
        Some(Write::Put(PutRequest { namespace, .. }) | Write::Delete(DeleteRequest { namespace, .. })) => {
            let found = service.namespace(namespace).map_err(|refused| refused.at(0))?;
            Some(found).filter(|found| found.policy.replication == Replication::Consensus)
        }
        None => None,
    };
    match namespace {
        None => {
            let name = named(&mut message)?;
            let writes = std::mem::take(message.writes());
            Draft::of(service, name, writes).map(|draft| Several::Mesh(draft.send()))
        }
        Some(namespace) => consensus::Draft::of(service, namespace, message).map(Several::Consensus),
    }
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
    fn new(service: &'a Service, request: Option<Request>, writes: usize) -> Draft<'a> {
        Draft {
            service,
            now: service.now(),
            namespaces: HashMap::new(),
            batch: Batch {
                request,
                ..Batch::of(Vec::with_capacity(writes))
            },
            targets: Vec::with_capacity(writes),
            conditional: Vec::new(),
        }
    }

    /// A put that comes alone.
    pub(super) fn of_put(
        service: &'a Service,
        namespace: Namespace,
        mut put: PutRequest,
    ) -> Result<Draft<'a>, Refused> {
        let mut draft = Draft::new(service, named(&mut put)?, 1);
        draft.put(namespace, put)?;
        Ok(draft)
    }

    /// A deletion that comes alone.
    pub(super) fn of_delete(
        service: &'a Service,
        namespace: Namespace,
        mut delete: DeleteRequest,
    ) -> Result<Draft<'a>, Refused> {
        let mut draft = Draft::new(service, named(&mut delete)?, 1);
        draft.delete(namespace, delete)?;
        Ok(draft)
    }

    /// Takes all of `writes`, or names the first that cannot be taken.
    fn of(service: &'a Service, request: Option<Request>, writes: Vec<BatchWrite>) -> Result<Draft<'a>, Refused> {
        fields::batch_size(writes.len())?;
        let mut draft = Draft::new(service, request, writes.len());
        for (index, write) in writes.into_iter().enumerate() {
            draft.add(write).map_err(|refused| refused.at(index))?;
        }
        Ok(draft)
    }

    fn add(&mut self, write: BatchWrite) -> Result<(), Refused> {
        match write.write {
            Some(Write::Put(mut request)) => {
                let namespace = self.namespace(std::mem::take(&mut request.namespace))?;
                self.put(namespace, request)
            }
            Some(Write::Delete(mut request)) => {
                let namespace = self.namespace(std::mem::take(&mut request.namespace))?;
                self.delete(namespace, request)
            }
            None => Err(fields::write_missing()),
        }
    }

    fn put(&mut self, namespace: Namespace, request: PutRequest) -> Result<(), Refused> {
        fields::no_request_id(&request.request_id)?;
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

    fn delete(&mut self, namespace: Namespace, request: DeleteRequest) -> Result<(), Refused> {
        fields::no_request_id(&request.request_id)?;
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
                if namespace.policy.replication == Replication::Consensus {
                    return Err(Refused::batch_mixed());
                }
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

/// What came of a batch.
pub(super) struct Done {
    /// One for each write, in order.
    pub(super) results: Vec<WriteResult>,
    /// It had been carried out before.
    pub(super) replayed: bool,
}

impl Sent {
    /// What each write did, or why there was none.
    pub(super) async fn done(self) -> Result<Done, Refused> {
        let Sent { pending, answers } = self;
        let receipt = pending.await.map_err(|error| answers.refused(error))?;
        match receipt.replayed {
            None => answers.now(&receipt),
            Some(replayed) => answers.again(replayed).await,
        }
    }
}

impl Done {
    /// What a single write did.
    pub(super) fn only(self) -> Result<write_result::Result, Refused> {
        let only = self.results.into_iter().next();
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
    /// How many writes the batch has.
    pub(super) fn writes(&self) -> usize {
        self.targets.len()
    }

    /// What each write of a batch did that was carried out now.
    pub(super) fn now(&self, receipt: &Receipt) -> Result<Done, Refused> {
        if receipt.effects.len() != self.targets.len() {
            return Err(Refused::Confused);
        }
        let told = self.targets.iter().zip(&receipt.effects);
        let results = told
            .map(|(target, effect)| self.result(target, &effect.state, effect.took_away(), target.answer, false))
            .collect();
        let replayed = false;
        Ok(Done { results, replayed })
    }

    /// What is told of a batch that was carried out before: up to a thousand keys are read, beside the workers.
    pub(super) async fn again(self, replayed: Replayed) -> Result<Done, Refused> {
        let read = tasks::blocking(move || self.read_again(&replayed)).await;
        read.unwrap_or(Err(Refused::Confused))
    }

    fn read_again(&self, replayed: &Replayed) -> Result<Done, Refused> {
        let mut results = Vec::with_capacity(self.targets.len());
        let mut bytes = 0;
        for (index, target) in self.targets.iter().enumerate() {
            let answer = match target.answer {
                Answer::Put { .. } if bytes > REPLAYED_BYTES_MAX => Answer::Put { with_concept: false },
                answer => answer,
            };
            let state = self.service.state(&target.namespace, &target.key)?;
            let result = self.result(target, &state, replayed.took_away(index), answer, true);
            bytes += result.encoded_len();
            results.push(result);
        }
        let replayed = true;
        Ok(Done { results, replayed })
    }

    fn result(&self, target: &Target, state: &State, deleted: bool, answer: Answer, replayed: bool) -> WriteResult {
        let clock = render::clock(&state.context);
        let result = match answer {
            Answer::Delete => write_result::Result::Delete(DeleteResponse {
                deleted,
                clock,
                replayed,
                revision: 0,
            }),
            Answer::Put { with_concept } => {
                let reader = self.service.reader(&target.namespace);
                let concept = with_concept.then(|| reader.concept(&target.key, state)).flatten();
                write_result::Result::Put(PutResponse {
                    clock,
                    concept,
                    replayed,
                    revision: 0,
                })
            }
        };
        WriteResult { result: Some(result) }
    }

    pub(super) fn refused(&self, error: CommitError) -> Refused {
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
