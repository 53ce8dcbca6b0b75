//! A node that does as it is told: answers from a script, and remembers what it was asked.
#![allow(dead_code, reason = "each test file uses what it needs")]

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use proto::v1::{
    BatchRequest, BatchResponse, DeleteRequest, DeleteResponse, GetManyRequest, GetManyResponse, GetRequest,
    GetResponse, ListRequest, ListResponse, PutRequest, PutResponse, ScanRequest, ScanResponse, TransactRequest,
    TransactResponse, WatchRequest, WatchResponse, WriteRequest, WriteResponse, Written,
    concepts_server::{Concepts, ConceptsServer},
    write_response,
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::{
    StreamExt as _,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming, transport::Server};
use tonic_types::pb as rpc;

/// What happens to a chunk of a bulk write, in the order in which chunks come.
pub(crate) enum Fate {
    /// Carried out and acknowledged.
    Acknowledge,
    /// Refused.
    Fault(rpc::Status),
    /// The stream breaks instead of an acknowledgement.
    Break,
}

#[derive(Default)]
pub(crate) struct Script {
    /// For the next calls: refused so; then they succeed.
    pub(crate) refusals: VecDeque<Status>,
    /// Calls as they came: what, request id, whether with a deadline.
    pub(crate) calls: Vec<(&'static str, String, bool)>,
    /// For each scan that is opened.
    pub(crate) scans: VecDeque<Vec<Result<ScanResponse, Status>>>,
    pub(crate) scans_asked: Vec<ScanRequest>,
    /// For each watch that is opened.
    pub(crate) watches: VecDeque<Vec<Result<WatchResponse, Status>>>,
    pub(crate) watches_asked: Vec<WatchRequest>,
    /// For the chunks to come; then they are acknowledged.
    pub(crate) fates: VecDeque<Fate>,
    /// Request ids of chunks as they came.
    pub(crate) chunks: Vec<String>,
    /// Calls wait for ever.
    pub(crate) stuck: bool,
}

#[derive(Clone, Default)]
pub(crate) struct Fake(pub(crate) Arc<Mutex<Script>>);

impl Fake {
    pub(crate) async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = ConceptsServer::new(self.clone());
        tokio::spawn(
            Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        address
    }

    pub(crate) fn script<T>(&self, write: impl FnOnce(&mut Script) -> T) -> T {
        write(&mut self.0.lock().unwrap())
    }

    /// Refuses the next calls.
    pub(crate) fn refuse(&self, times: usize, status: &Status) {
        self.script(|script| script.refusals.extend(std::iter::repeat_n(status.clone(), times)));
    }

    pub(crate) fn calls(&self) -> Vec<(&'static str, String, bool)> {
        self.script(|script| script.calls.clone())
    }

    async fn note<T>(&self, what: &'static str, id: &str, request: &Request<T>) -> Result<(), Status> {
        let limited = request.metadata().contains_key("grpc-timeout");
        let stuck = self.script(|script| {
            script.calls.push((what, id.to_owned(), limited));
            script.stuck
        });
        if stuck {
            std::future::pending::<()>().await;
        }
        self.script(|script| script.refusals.pop_front()).map_or(Ok(()), Err)
    }

    async fn take_chunks(
        self,
        mut chunks: Streaming<WriteRequest>,
        answers: mpsc::Sender<Result<WriteResponse, Status>>,
    ) {
        let mut place = 0;
        while let Some(Ok(chunk)) = chunks.next().await {
            let fate = self.script(|script| {
                script.chunks.push(chunk.request_id.clone());
                script.fates.pop_front().unwrap_or(Fate::Acknowledge)
            });
            let outcome = match fate {
                Fate::Acknowledge => write_response::Outcome::Written(Written {
                    writes: u32::try_from(chunk.writes.len()).unwrap(),
                    ..Written::default()
                }),
                Fate::Fault(fault) => write_response::Outcome::Fault(fault),
                Fate::Break => {
                    let _gone = answers.send(Err(Status::unavailable("stopping"))).await;
                    return;
                }
            };
            let answer = WriteResponse {
                chunk: place,
                outcome: Some(outcome),
            };
            place += 1;
            if answers.send(Ok(answer)).await.is_err() {
                return;
            }
        }
    }
}

fn stream<T>(messages: Option<Vec<Result<T, Status>>>) -> tokio_stream::Iter<std::vec::IntoIter<Result<T, Status>>> {
    let none = || vec![Err(Status::internal("the script has no more streams"))];
    tokio_stream::iter(messages.unwrap_or_else(none))
}

#[tonic::async_trait]
impl Concepts for Fake {
    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        self.note("put", &request.get_ref().request_id, &request).await?;
        Ok(Response::new(Default::default()))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        self.note("get", "", &request).await?;
        Err(Status::not_found("nothing"))
    }

    async fn get_many(&self, request: Request<GetManyRequest>) -> Result<Response<GetManyResponse>, Status> {
        self.note("get_many", "", &request).await?;
        Ok(Response::new(Default::default()))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        self.note("delete", &request.get_ref().request_id, &request).await?;
        Ok(Response::new(Default::default()))
    }

    async fn batch(&self, request: Request<BatchRequest>) -> Result<Response<BatchResponse>, Status> {
        self.note("batch", &request.get_ref().request_id, &request).await?;
        Ok(Response::new(Default::default()))
    }

    async fn transact(&self, request: Request<TransactRequest>) -> Result<Response<TransactResponse>, Status> {
        self.note("transact", &request.get_ref().request_id, &request).await?;
        Ok(Response::new(Default::default()))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        self.note("list", "", &request).await?;
        Ok(Response::new(Default::default()))
    }

    type WriteStream = ReceiverStream<Result<WriteResponse, Status>>;

    async fn write(&self, request: Request<Streaming<WriteRequest>>) -> Result<Response<Self::WriteStream>, Status> {
        self.note("write", "", &request).await?;
        let (sender, answers) = mpsc::channel(64);
        tokio::spawn(self.clone().take_chunks(request.into_inner(), sender));
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    type ScanStream = tokio_stream::Iter<std::vec::IntoIter<Result<ScanResponse, Status>>>;

    async fn scan(&self, request: Request<ScanRequest>) -> Result<Response<Self::ScanStream>, Status> {
        self.note("scan", "", &request).await?;
        let messages = self.script(|script| {
            script.scans_asked.push(request.into_inner());
            script.scans.pop_front()
        });
        Ok(Response::new(stream(messages)))
    }

    type WatchStream = tokio_stream::Iter<std::vec::IntoIter<Result<WatchResponse, Status>>>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.note("watch", "", &request).await?;
        let messages = self.script(|script| {
            script.watches_asked.push(request.into_inner());
            script.watches.pop_front()
        });
        Ok(Response::new(stream(messages)))
    }
}
