//! `continuum.v1.Concepts`: Put, Get, Delete, List.

use std::sync::Arc;

use engine::{
    Batch, Durability, Mutation,
    clock::{Stamp, Timestamp},
    crdt::{Operation, State, Supersede},
    ledger::Namespace,
};
use prost::Message;
use proto::v1::{
    Concept, DeleteRequest, DeleteResponse, GetRequest, GetResponse, ListRequest, ListResponse, PutRequest,
    PutResponse, concepts_server::Concepts,
};
use tonic::{Request, Response, Status};

use super::{
    Components, directory, fields,
    render::{self, Reader},
    status::Refused,
    token::{self, Key, Subject},
};
use crate::runtime::tasks;

/// A page ends once it holds so many bytes, well inside the 4 MiB that clients accept by default.
const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// A page ends once so many keys were looked at, deleted and expired ones included.
const PAGE_KEYS_EXAMINED_MAX: usize = 10_000;

/// The service; clones share engine and sequencer.
#[derive(Clone)]
pub(super) struct Service {
    components: Components,
    key: Key,
}

impl Service {
    pub(super) fn new(components: Components) -> Service {
        Service {
            key: components.key(),
            components,
        }
    }

    fn namespace(&self, name: &str) -> Result<Namespace, Refused> {
        directory::open(self.components.engine.view(), "namespace", name)
    }

    fn now(&self) -> Timestamp {
        self.components.clock.now()
    }

    fn reader(&self, namespace: &Namespace) -> Reader<'_> {
        Reader {
            key: &self.key,
            namespace: namespace.id,
            strategy: namespace.policy.strategy,
            now: Stamp::at(self.now()),
        }
    }

    fn state(&self, namespace: &Namespace, key: &[u8]) -> Result<State, Refused> {
        Ok(self.components.engine.concept(namespace.id, key)?.unwrap_or_default())
    }

    /// What the caller's context says of the key; `None` when it sent none.
    fn seen(&self, namespace: &Namespace, key: &[u8], context: &[u8]) -> Result<Option<Supersede>, Refused> {
        if context.is_empty() {
            return Ok(None);
        }
        token::open_context(&self.key, namespace.id, key, context)
            .map(Supersede::Seen)
            .map(Some)
    }

    /// Through the door, and the state of the key after it.
    async fn commit(
        &self,
        namespace: &Namespace,
        key: Vec<u8>,
        operation: Operation,
        supersede: Supersede,
    ) -> Result<Arc<State>, Refused> {
        let mutation = Mutation::Local {
            namespace: namespace.id,
            key,
            operation,
            supersede,
        };
        let receipt = self
            .components
            .engine
            .commit(
                Batch::one(mutation),
                Durability::Synced,
            )
            .await?;
        receipt
            .effects
            .into_iter()
            .next()
            .map(|effect| effect.state)
            .ok_or(Refused::Confused)
    }

    async fn put_checked(&self, request: PutRequest) -> Result<PutResponse, Refused> {
        let namespace = self.namespace(&request.namespace)?;
        let key = fields::key(&request.key)?;
        let (kind, operation) = fields::operation(request.write, request.ttl, self.now())?;
        let supersede = match self.seen(&namespace, &key, &request.context)? {
            Some(seen) => seen,
            None => Supersede::without_context(kind, namespace.policy.strategy),
        };
        let state = self.commit(&namespace, key.clone(), operation, supersede).await?;
        let concept = if request.return_concept {
            self.reader(&namespace).concept(&key, &state)
        } else {
            None
        };
        Ok(PutResponse {
            clock: render::clock(&state.context),
            concept,
        })
    }

    fn get_checked(&self, request: GetRequest) -> Result<GetResponse, Refused> {
        let namespace = self.namespace(&request.namespace)?;
        let key = fields::key(&request.key)?;
        let state = self.state(&namespace, &key)?;
        match self.reader(&namespace).concept(&key, &state) {
            Some(concept) => Ok(GetResponse { concept: Some(concept) }),
            None => Err(Refused::ConceptAbsent {
                namespace: request.namespace,
                key: request.key,
            }),
        }
    }

    async fn delete_checked(&self, request: DeleteRequest) -> Result<DeleteResponse, Refused> {
        let namespace = self.namespace(&request.namespace)?;
        let key = fields::key(&request.key)?;
        let seen = self.seen(&namespace, &key, &request.context)?;
        let before = self.state(&namespace, &key)?;
        let supersede = match (seen, before.kind()) {
            (Some(seen), _) => seen,
            (None, Some(kind)) if Supersede::without_context(kind, namespace.policy.strategy) == Supersede::Nothing => {
                let rule =
                    "required here, where concurrent values must not vanish unread: read the key and pass its context";
                return Err(Refused::field("context", "CONTEXT_REQUIRED", rule));
            }
            // What was not there when this looked stays: a put acknowledged meanwhile was read by nobody.
            (None, None) => Supersede::Seen(before.context.clone()),
            (None, Some(_)) => Supersede::All,
        };
        let after = self.commit(&namespace, key, Operation::Delete, supersede).await?;
        let deleted = before.entries.keys().any(|dot| !after.entries.contains_key(dot));
        Ok(DeleteResponse {
            deleted,
            clock: render::clock(&after.context),
        })
    }

    fn list_checked(&self, request: &ListRequest) -> Result<ListResponse, Refused> {
        let namespace = self.namespace(&request.namespace)?;
        let prefix = fields::prefix(&request.prefix)?;
        let page_size = fields::page_size(request.page_size)?;
        let subject = Subject::ConceptPage(namespace.id, prefix);
        let after = match request.page_token.as_slice() {
            [] => None,
            token => Some(token::open(&self.key, subject, token)?),
        };
        let mut page = Page::new(self.reader(&namespace), page_size);
        self.components
            .engine
            .concepts(namespace.id, prefix, after, &mut |key, state| page.take(key, &state))?;
        let next_page_token = match page.ended_at {
            Some(last) => token::seal(&self.key, subject, &last),
            None => Vec::new(),
        };
        Ok(ListResponse {
            concepts: page.concepts,
            next_page_token,
        })
    }
}

/// A page as it fills.
struct Page<'a> {
    reader: Reader<'a>,
    size: usize,
    concepts: Vec<Concept>,
    bytes: usize,
    examined: usize,
    last: Vec<u8>,
    /// Set when the page is full and at least one more key follows: the last key this page has dealt with.
    ended_at: Option<Vec<u8>>,
}

impl<'a> Page<'a> {
    fn new(reader: Reader<'a>, size: usize) -> Page<'a> {
        Page {
            reader,
            size,
            concepts: Vec::new(),
            bytes: 0,
            examined: 0,
            last: Vec::new(),
            ended_at: None,
        }
    }

    /// Takes the next key; false when the page is full and this key belongs to the next.
    fn take(&mut self, key: &[u8], state: &State) -> bool {
        let full = self.concepts.len() == self.size || self.examined == PAGE_KEYS_EXAMINED_MAX;
        let concept = if full { None } else { self.reader.concept(key, state) };
        let bytes = concept.as_ref().map_or(0, Concept::encoded_len);
        if full || (!self.concepts.is_empty() && self.bytes + bytes > PAGE_BYTES_MAX) {
            self.ended_at = Some(std::mem::take(&mut self.last));
            return false;
        }
        self.bytes += bytes;
        self.examined += 1;
        self.concepts.extend(concept);
        self.last.clear();
        self.last.extend_from_slice(key);
        true
    }
}

#[tonic::async_trait]
impl Concepts for Service {
    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        Ok(Response::new(self.put_checked(request.into_inner()).await?))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        Ok(Response::new(self.get_checked(request.into_inner())?))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        Ok(Response::new(self.delete_checked(request.into_inner()).await?))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        // A page may read ten thousand keys: beside the workers that answer everybody else.
        let service = self.clone();
        let page = tasks::blocking(move || service.list_checked(request.get_ref())).await;
        Ok(Response::new(page.ok_or(Refused::Confused)??))
    }
}
