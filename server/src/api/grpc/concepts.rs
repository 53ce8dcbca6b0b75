//! `continuum.v1.Concepts`: Put, Get, GetMany, Delete, Batch, List; the streams are in modules of their own, and so is what is done
//! otherwise where a namespace replicates by consensus.

use std::sync::Arc;

use engine::{
    Engine,
    clock::{Stamp, Timestamp},
    crdt::State,
    keyspace::NamespaceId,
    ledger::{Namespace, Replication, rows},
    store,
};
use prost::Message;
use proto::v1::{
    BatchRequest, BatchResponse, Concept, DeleteRequest, DeleteResponse, GetManyRequest, GetManyResponse,
    GetManyResult, GetRequest, GetResponse, ListRequest, ListResponse, PutRequest, PutResponse, ScanRequest,
    ScanResponse, TransactRequest, TransactResponse, WatchRequest, WatchResponse, WriteRequest,
    concepts_server::Concepts, write_result,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status, Streaming};
use wal::Lsn;

use super::{
    Components, Settings,
    bulk::Acknowledgements,
    consensus, directory,
    feed::Feed,
    fields,
    flow::Flow,
    render::Reader,
    status::Refused,
    token::{self, Key, Position, Subject},
    writes::{Done, Draft, Several, several},
};
use crate::{
    consensus::{Reads, Sequencer},
    runtime::tasks::{self, Stop},
};

/// A page ends once it holds so many bytes, well inside the 4 MiB that clients accept by default.
const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// A page ends once so many keys were looked at, deleted and expired ones included.
const PAGE_KEYS_EXAMINED_MAX: usize = 10_000;

/// The largest answer to a call for several keys: with room for its head inside the 4 MiB that clients accept by default.
const ANSWER_BYTES_MAX: usize = 3_500 * 1024;

/// Makes what callers see of a key, once; `None` when that is nothing.
pub(super) type MakeConcept<'a> = &'a mut dyn FnMut() -> Option<Concept>;

/// The service; clones share engine and sequencer.
#[derive(Clone)]
pub(super) struct Service {
    shared: Arc<Shared>,
}

struct Shared {
    components: Components,
    key: Key,
    scans: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    feed: Feed,
    reads: Reads,
}

impl Service {
    pub(super) fn new(components: Components) -> Service {
        let shared = Shared {
            key: components.key(),
            scans: Arc::new(Semaphore::new(components.settings.scans_max)),
            watches: Arc::new(Semaphore::new(components.settings.watches_max)),
            feed: Feed::new(components.engine.clone(), components.settings.recent_bytes_max),
            reads: Reads::new(&components.sequencer),
            components,
        };
        Service {
            shared: Arc::new(shared),
        }
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.shared.components.engine
    }

    pub(super) fn sequencer(&self) -> &Sequencer {
        &self.shared.components.sequencer
    }

    pub(super) fn reads(&self) -> &Reads {
        &self.shared.reads
    }

    /// Hears when streams shall end.
    pub(super) fn stop(&self) -> Stop {
        self.shared.components.stop.clone()
    }

    /// The numbers of streams.
    pub(super) fn settings(&self) -> &Settings {
        &self.shared.components.settings
    }

    /// Room for one more scan, held until it is dropped.
    pub(super) fn scan_place(&self) -> Result<OwnedSemaphorePermit, Refused> {
        let max = self.settings().scans_max;
        let place = Arc::clone(&self.shared.scans).try_acquire_owned();
        place.map_err(|_| Refused::ScansFull { max })
    }

    /// Room for one more watch, held until it is dropped.
    pub(super) fn watch_place(&self) -> Result<OwnedSemaphorePermit, Refused> {
        let max = self.settings().watches_max;
        let place = Arc::clone(&self.shared.watches).try_acquire_owned();
        place.map_err(|_| Refused::WatchesFull { max })
    }

    /// Recent changes.
    pub(super) fn feed(&self) -> &Feed {
        &self.shared.feed
    }

    /// What a caller brings to go on after `lsn`.
    pub(super) fn position_token(&self, namespace: NamespaceId, prefix: &[u8], lsn: Lsn) -> Vec<u8> {
        let position = Position {
            cluster: self.engine().cluster().to_vec(),
            incarnation: self.engine().actor().incarnation,
            lsn: lsn.0,
        };
        token::seal_position(&self.shared.key, namespace, prefix, &position)
    }

    pub(super) fn namespace(&self, name: &str) -> Result<Namespace, Refused> {
        directory::find(self.engine().view(), "namespace", name)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.shared.components.clock.now()
    }

    pub(super) fn reader(&self, namespace: &Namespace) -> Reader<'_> {
        Reader {
            key: &self.shared.key,
            namespace: namespace.id,
            strategy: namespace.policy.strategy,
            now: Stamp::at(self.now()),
            with_contexts: true,
        }
    }

    pub(super) fn key(&self) -> &Key {
        &self.shared.key
    }

    pub(super) fn state(&self, namespace: &Namespace, key: &[u8]) -> Result<State, Refused> {
        Ok(self
            .shared
            .components
            .engine
            .concept(namespace.id, key)?
            .unwrap_or_default())
    }

    /// Visits the keys of `namespace` with `prefix`, strictly after `after`, all as of one moment, each with what makes a concept of
    /// it, until `visit` returns false.
    pub(super) fn walk(
        &self,
        namespace: &Namespace,
        prefix: &[u8],
        after: Option<&[u8]>,
        with_contexts: bool,
        visit: &mut dyn FnMut(&[u8], MakeConcept<'_>) -> bool,
    ) -> Result<(), store::Error> {
        match namespace.policy.replication {
            Replication::Mesh => {
                let reader = Reader {
                    with_contexts,
                    ..self.reader(namespace)
                };
                let mut one = |key: &[u8], state: State| visit(key, &mut || reader.concept(key, &state));
                self.engine().concepts(namespace.id, prefix, after, &mut one)
            }
            Replication::Consensus => {
                let reader = self.row_reader(namespace.id, with_contexts);
                let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
                rows::scan(self.engine().view(), namespace.id, prefix, after, &mut |key, row| {
                    let mut row = Some(row);
                    visit(key, &mut || Some(reader.concept(text(key), row.take()?)))
                })
            }
        }
    }

    async fn put_checked(&self, request: PutRequest) -> Result<PutResponse, Refused> {
        let namespace = self.namespace(&request.namespace)?;
        let done = match namespace.policy.replication {
            Replication::Mesh => Draft::of_put(self, namespace, request)?.send().done().await,
            Replication::Consensus => consensus::Draft::of_put(self, namespace, request)?.done().await,
        };
        match done.map_err(Refused::out_of_batch)?.only()? {
            write_result::Result::Put(response) => Ok(response),
            write_result::Result::Delete(_) => Err(Refused::Confused),
        }
    }

    async fn get_checked(&self, request: GetRequest) -> Result<GetResponse, Refused> {
        let namespace = self.namespace(&request.namespace)?;
        fields::key_length(&request.key)?;
        let index = self.index(&namespace, request.stale_ok).await?;
        let concept = match namespace.policy.replication {
            Replication::Mesh => {
                let key = request.key.as_bytes();
                let state = self.state(&namespace, key)?;
                self.reader(&namespace).concept(key, &state)
            }
            Replication::Consensus => {
                let row = rows::get(self.engine().view(), namespace.id, request.key.as_bytes())?;
                let reader = self.row_reader(namespace.id, true);
                row.map(|row| reader.concept(request.key.clone(), row))
            }
        };
        match concept {
            Some(concept) => Ok(GetResponse {
                concept: Some(concept),
                index,
            }),
            None => Err(Refused::ConceptAbsent {
                namespace: request.namespace,
                key: request.key,
            }),
        }
    }

    fn get_many_checked(&self, namespace: &Namespace, request: GetManyRequest) -> Result<GetManyResponse, Refused> {
        let mut answer = Many::new(request.keys.len());
        let with_contexts = !request.omit_contexts;
        match namespace.policy.replication {
            Replication::Mesh => {
                let reader = Reader {
                    with_contexts,
                    ..self.reader(namespace)
                };
                let mut one = |place: usize, state: Option<State>| {
                    let key = request.keys[place].as_bytes();
                    answer.take(state.and_then(|state| reader.concept(key, &state)))
                };
                self.engine().concepts_at(namespace.id, &request.keys, &mut one)?;
            }
            Replication::Consensus => {
                let reader = self.row_reader(namespace.id, with_contexts);
                let view = self.engine().view();
                rows::get_many(view, namespace.id, &request.keys, &mut |place, row| {
                    answer.take(row.map(|row| reader.concept(request.keys[place].clone(), row)))
                })?;
            }
        }
        if answer.results.len() < request.keys.len() {
            return Err(Refused::AnswerTooLarge {
                fit: answer.results.len(),
            });
        }
        Ok(GetManyResponse {
            results: answer.results,
            index: 0,
        })
    }

    async fn delete_checked(&self, request: DeleteRequest) -> Result<DeleteResponse, Refused> {
        let namespace = self.namespace(&request.namespace)?;
        let done = match namespace.policy.replication {
            Replication::Mesh => Draft::of_delete(self, namespace, request)?.send().done().await,
            Replication::Consensus => consensus::Draft::of_delete(self, namespace, request)?.done().await,
        };
        match done.map_err(Refused::out_of_batch)?.only()? {
            write_result::Result::Delete(response) => Ok(response),
            write_result::Result::Put(_) => Err(Refused::Confused),
        }
    }

    async fn batch_checked(&self, request: BatchRequest) -> Result<BatchResponse, Refused> {
        // Up to 4 MiB of JSON are parsed: beside the workers that answer everybody else.
        let service = self.clone();
        let draft = move || several(&service, request);
        let Done { results, replayed } = match tasks::blocking(draft).await.ok_or(Refused::Confused)?? {
            Several::Mesh(sent) => sent.done().await?,
            Several::Consensus(draft) => draft.done().await?,
        };
        Ok(BatchResponse { results, replayed })
    }

    fn list_checked(&self, namespace: &Namespace, request: &ListRequest) -> Result<ListResponse, Refused> {
        let prefix = fields::prefix(&request.prefix)?;
        let page_size = fields::page_size(request.page_size)?;
        let subject = Subject::ConceptPage(namespace.id, prefix);
        let after = match request.page_token.as_slice() {
            [] => None,
            token => Some(token::open(&self.shared.key, subject, token)?),
        };
        let mut page = Page::new(page_size);
        self.walk(namespace, prefix, after, true, &mut |key, concept| {
            page.take(key, concept)
        })?;
        let next_page_token = match page.ended_at {
            Some(last) => token::seal(&self.shared.key, subject, &last),
            None => Vec::new(),
        };
        Ok(ListResponse {
            concepts: page.concepts,
            next_page_token,
            index: 0,
        })
    }
}

/// The answers to a call for several keys.
struct Many {
    results: Vec<GetManyResult>,
    bytes: usize,
}

impl Many {
    fn new(keys: usize) -> Many {
        Many {
            results: Vec::with_capacity(keys),
            bytes: 0,
        }
    }

    /// Takes the next; false when it does not fit any more.
    fn take(&mut self, concept: Option<Concept>) -> bool {
        let result = GetManyResult { concept };
        // With its tag and length.
        let result_bytes = result.encoded_len();
        self.bytes += 1 + prost::length_delimiter_len(result_bytes) + result_bytes;
        let fits = self.bytes <= ANSWER_BYTES_MAX;
        if fits {
            self.results.push(result);
        }
        fits
    }
}

/// A page as it fills.
struct Page {
    size: usize,
    concepts: Vec<Concept>,
    bytes: usize,
    examined: usize,
    last: Vec<u8>,
    /// Set when the page is full and at least one more key follows: the last key this page has dealt with.
    ended_at: Option<Vec<u8>>,
}

impl Page {
    fn new(size: usize) -> Page {
        Page {
            size,
            concepts: Vec::new(),
            bytes: 0,
            examined: 0,
            last: Vec::new(),
            ended_at: None,
        }
    }

    /// Takes the next key; false when the page is full and this key belongs to the next.
    fn take(&mut self, key: &[u8], concept: MakeConcept<'_>) -> bool {
        let full = self.concepts.len() == self.size || self.examined == PAGE_KEYS_EXAMINED_MAX;
        let concept = if full { None } else { concept() };
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
        Ok(Response::new(self.get_checked(request.into_inner()).await?))
    }

    async fn get_many(&self, request: Request<GetManyRequest>) -> Result<Response<GetManyResponse>, Status> {
        let request = request.into_inner();
        let namespace = self.namespace(&request.namespace)?;
        fields::keys(&request.keys)?;
        let index = self.index(&namespace, request.stale_ok).await?;
        // A thousand keys, each perhaps read from the disk: beside the workers that answer everybody else.
        let service = self.clone();
        let answer = tasks::blocking(move || service.get_many_checked(&namespace, request)).await;
        let answer = answer.ok_or(Refused::Confused)??;
        Ok(Response::new(GetManyResponse { index, ..answer }))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        Ok(Response::new(self.delete_checked(request.into_inner()).await?))
    }

    async fn batch(&self, request: Request<BatchRequest>) -> Result<Response<BatchResponse>, Status> {
        Ok(Response::new(self.batch_checked(request.into_inner()).await?))
    }

    async fn transact(&self, request: Request<TransactRequest>) -> Result<Response<TransactResponse>, Status> {
        Ok(Response::new(self.transact_checked(request.into_inner()).await?))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let namespace = self.namespace(&request.get_ref().namespace)?;
        let index = self.index(&namespace, request.get_ref().stale_ok).await?;
        // A page may read ten thousand keys: beside the workers that answer everybody else.
        let service = self.clone();
        let page = tasks::blocking(move || service.list_checked(&namespace, request.get_ref())).await;
        let page = page.ok_or(Refused::Confused)??;
        Ok(Response::new(ListResponse { index, ..page }))
    }

    type WriteStream = Acknowledgements;

    async fn write(&self, request: Request<Streaming<WriteRequest>>) -> Result<Response<Acknowledgements>, Status> {
        Ok(Response::new(Acknowledgements::new(self.clone(), request.into_inner())))
    }

    type ScanStream = Flow<ScanResponse>;

    async fn scan(&self, request: Request<ScanRequest>) -> Result<Response<Flow<ScanResponse>>, Status> {
        Ok(Response::new(self.scan_checked(request.get_ref()).await?))
    }

    type WatchStream = Flow<WatchResponse>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Flow<WatchResponse>>, Status> {
        Ok(Response::new(self.watch_checked(request.into_inner())?))
    }
}
