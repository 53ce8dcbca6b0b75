//! A node as a client finds it: engine, sequencer and services over a real connection.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use engine::{
    Engine, Environment,
    clock::{Clock, Timestamp},
};
use prost::Message;
use proto::v1::{
    BatchRequest, BatchWrite, Concept, CreateNamespaceRequest, DeleteRequest, DeleteResponse, GetRequest, ListRequest,
    Namespace, PutRequest, PutResponse, SetPolicyRequest, Strategy, WriteResult, admin_client::AdminClient,
    batch_write, concepts_client::ConceptsClient, namespaces_client::NamespacesClient, put_request::Write,
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use tonic_health::server::HealthReporter;
use tonic_types::StatusExt;

use super::super::{
    Components, Face, Reach, Settings,
    admin::{About, Operations},
    routes,
};
use crate::{
    consensus::{self, Sequencer},
    contribution::{self, Contribution},
    metrics::Metrics,
    runtime::{entropy, health::Health, listener, tasks},
    snapshots::Snapshots,
};

/// A clock that the test moves.
pub(super) struct Hand(AtomicU64);

impl Hand {
    pub(super) fn advance_ms(&self, milliseconds: u64) {
        self.0.fetch_add(milliseconds * 1_000, Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

pub(super) struct Node {
    pub(super) clock: Arc<Hand>,
    pub(super) engine: Engine,
    pub(super) channel: Channel,
    pub(super) health: HealthReporter,
    pub(super) metrics: Metrics,
    pub(super) snapshots: Snapshots,
    /// Ends the streams.
    pub(super) faces: tasks::Stopper,
    settings: Settings,
    sequencer: Sequencer,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    directory: tempfile::TempDir,
}

impl Node {
    /// `node-1`, without a namespace.
    pub(super) async fn start() -> Node {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let clock = Arc::new(Hand(AtomicU64::new(1_700_000_000_000_000)));
        Node::open(directory, clock, Settings::default()).await
    }

    /// The same with other numbers, and the namespace `notes`.
    pub(super) async fn with_settings(settings: Settings) -> Node {
        let (directory, clock) = Node::start().await.close().await;
        let node = Node::open(directory, clock, settings).await;
        node.create("notes", Strategy::LastWriteWins).await;
        node
    }

    pub(super) async fn with_namespace(name: &str, strategy: Strategy) -> Node {
        let node = Node::start().await;
        node.create(name, strategy).await;
        node
    }

    async fn open(directory: tempfile::TempDir, clock: Arc<Hand>, settings: Settings) -> Node {
        let engine_settings = engine::Settings {
            segment_bytes: 8 << 20,
            log_keep_bytes: 0,
            block_cache_bytes: 1 << 20,
            free_soft_bytes: 0,
            free_hard_bytes: 0,
            ..engine::Settings::default()
        };
        let time = Arc::clone(&clock) as Arc<dyn Clock>;
        let environment = Environment::in_directory(
            directory.path(),
            &engine_settings,
            "node-1",
            Arc::clone(&time),
            entropy::bits,
        )
        .expect("a fresh directory");
        let engine = Engine::open(engine_settings, environment).expect("open");
        let metrics = Metrics::new();
        let sequencer = Sequencer::start(
            engine.clone(),
            Arc::clone(&time),
            consensus::Settings::default(),
            &metrics,
        )
        .expect("a thread");
        let (faces, faces_stop) = tasks::stop();
        let components = Components {
            engine: engine.clone(),
            sequencer: sequencer.clone(),
            reach: Reach::default(),
            clock: time,
            metrics: metrics.clone(),
            settings: settings.clone(),
            stop: faces_stop,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let operations = operations(&components, directory.path(), address);
        let snapshots = operations.snapshots.clone();
        let Face { services, health } = routes(components, operations);
        let (stop, stopped) = oneshot::channel();
        let serving = tasks::spawn(async move {
            let until = async { drop(stopped.await) };
            let (numbers, connections) = (listener::Settings::default(), ::metrics::Gauge::noop());
            listener::serve(listener, services, numbers, |_| String::new(), connections, until).await;
        });
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .expect("an address")
            .connect_lazy();
        Node {
            clock,
            engine,
            channel,
            health,
            metrics,
            snapshots,
            faces,
            settings,
            sequencer,
            stop,
            serving,
            directory,
        }
    }

    pub(super) fn data_directory(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel.clone())
    }

    async fn close(self) -> (tempfile::TempDir, Arc<Hand>) {
        self.faces.stop();
        drop(self.channel);
        drop(self.stop);
        self.serving.await.expect("stopped");
        self.sequencer.close();
        self.engine.close().expect("closed");
        (self.directory, self.clock)
    }

    pub(super) async fn stop(self) {
        self.close().await;
    }

    /// The same directory, a new process as far as the engine is concerned.
    pub(super) async fn restarted(self) -> Node {
        let settings = self.settings.clone();
        let (directory, clock) = self.close().await;
        Node::open(directory, clock, settings).await
    }

    pub(super) fn client(&self) -> ConceptsClient<Channel> {
        ConceptsClient::new(self.channel.clone())
    }

    pub(super) fn namespaces(&self) -> NamespacesClient<Channel> {
        NamespacesClient::new(self.channel.clone())
    }

    pub(super) async fn create(&self, name: &str, strategy: Strategy) {
        let request = CreateNamespaceRequest {
            name: name.into(),
            replication: 0,
            strategy: strategy.into(),
        };
        self.namespaces().create(request).await.expect("create");
    }

    pub(super) async fn set_policy(&self, name: &str, strategy: Strategy) -> Result<Namespace, Status> {
        let request = SetPolicyRequest {
            name: name.into(),
            strategy: strategy.into(),
        };
        let response = self.namespaces().set_policy(request).await?.into_inner();
        Ok(response.namespace.expect("always there"))
    }

    pub(super) async fn put(&self, request: PutRequest) -> Result<PutResponse, Status> {
        self.client().put(request).await.map(tonic::Response::into_inner)
    }

    pub(super) async fn get(&self, namespace: &str, key: &str) -> Result<Concept, Status> {
        let request = GetRequest {
            namespace: namespace.into(),
            key: key.into(),
            ..GetRequest::default()
        };
        Ok(self
            .client()
            .get(request)
            .await?
            .into_inner()
            .concept
            .expect("always there"))
    }

    pub(super) async fn delete(&self, namespace: &str, key: &str, context: Vec<u8>) -> Result<DeleteResponse, Status> {
        let request = DeleteRequest {
            namespace: namespace.into(),
            key: key.into(),
            context,
            ..DeleteRequest::default()
        };
        self.client().delete(request).await.map(tonic::Response::into_inner)
    }

    /// The keys of one page, and the token of the next.
    pub(super) async fn list_keys(&self, request: ListRequest) -> (Vec<String>, Vec<u8>) {
        let page = self.client().list(request).await.expect("list").into_inner();
        (
            page.concepts.into_iter().map(|concept| concept.key).collect(),
            page.next_page_token,
        )
    }
}

fn operations(components: &Components, directory: &Path, address: SocketAddr) -> Operations {
    let Components {
        engine,
        sequencer,
        clock,
        metrics,
        ..
    } = components;
    let time = || Arc::clone(clock);
    Operations {
        about: About {
            name: "node-1".to_owned(),
            grpc_address: address,
            http_address: address,
            data_directory: directory.to_owned(),
            started_at: clock.now(),
        },
        health: Health::starting(&[]),
        contribution: Contribution::new(
            engine.clone(),
            sequencer.clone(),
            time(),
            contribution::Settings::default(),
            metrics,
        ),
        snapshots: Snapshots::open(directory, engine.clone(), time()).expect("no snapshots yet"),
    }
}

/// A put of a register.
pub(super) fn register(namespace: &str, key: &str, json: &str) -> PutRequest {
    let write = Some(Write::Register(json.to_owned()));
    PutRequest {
        namespace: namespace.into(),
        key: key.into(),
        write,
        ..PutRequest::default()
    }
}

/// One write of a batch.
pub(super) fn put_write(request: PutRequest) -> BatchWrite {
    let write = Some(batch_write::Write::Put(request));
    BatchWrite { write }
}

/// Puts registers, a thousand at a time.
pub(super) async fn put_all(node: &Node, namespace: &str, all: impl Iterator<Item = (String, String)>) {
    let all: Vec<BatchWrite> = all
        .map(|(key, json)| put_write(register(namespace, &key, &json)))
        .collect();
    let mut writes = Vec::new();
    let mut bytes = 0;
    for write in all {
        bytes += write.encoded_len();
        writes.push(write);
        if writes.len() == 1_000 || bytes > 2 << 20 {
            batch(node, std::mem::take(&mut writes)).await.expect("batch");
            bytes = 0;
        }
    }
    if !writes.is_empty() {
        batch(node, writes).await.expect("batch");
    }
}

/// Several writes at once.
pub(super) async fn batch(node: &Node, writes: Vec<BatchWrite>) -> Result<Vec<WriteResult>, Status> {
    let response = node
        .client()
        .batch(BatchRequest {
            writes,
            ..BatchRequest::default()
        })
        .await?;
    Ok(response.into_inner().results)
}

/// A put of one sibling.
pub(super) fn sibling(namespace: &str, key: &str, json: &str, context: Vec<u8>) -> PutRequest {
    let write = Some(Write::Sibling(json.to_owned()));
    PutRequest {
        write,
        context,
        ..register(namespace, key, "")
    }
}

/// The stable reason of a refusal; its domain must be ours.
pub(super) fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "continuum.v1");
    info.reason.clone()
}

/// A clock as it is shown.
pub(super) fn clock_of(entries: &[(&str, u64)]) -> HashMap<String, u64> {
    entries
        .iter()
        .map(|(node, counter)| ((*node).to_owned(), *counter))
        .collect()
}
