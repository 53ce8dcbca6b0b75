//! What expires is deleted by a running node, and those who watch are told.

use engine::keyspace::NamespaceId;
use proto::v1::{
    CreateNamespaceRequest, PutRequest, Strategy, WatchRequest, WatchResponse, change, concepts_client::ConceptsClient,
    namespaces_client::NamespacesClient, put_request::Write, watch_response::Event,
};
use tonic::{Streaming, transport::Channel};

use super::*;

/// A clock that the test moves.
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

impl Hand {
    fn pass_s(&self, seconds: u64) {
        self.0.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    }
}

async fn start(settings: &config::Settings, clock: &Arc<Hand>) -> (Node, ConceptsClient<Channel>) {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    let node = Node::start_with(settings, Components { clock }).await.unwrap();
    let address = format!("http://{}", node.grpc_address());
    (node, ConceptsClient::connect(address).await.unwrap())
}

async fn put(client: &mut ConceptsClient<Channel>, key: &str, ttl_s: Option<i64>) {
    let request = PutRequest {
        namespace: "notes".into(),
        key: key.into(),
        write: Some(Write::Register("1".into())),
        ttl: ttl_s.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
        ..PutRequest::default()
    };
    client.put(request).await.unwrap();
}

/// The next `count` changes that a watch tells of: keys, deleted ones with a minus sign.
async fn changes(watching: &mut Streaming<WatchResponse>, count: usize) -> Vec<String> {
    let mut told = Vec::new();
    let collect = async {
        while told.len() < count {
            let message = watching.message().await.unwrap().expect("the watch goes on");
            let Some(Event::Changes(changes)) = message.event else {
                continue;
            };
            told.extend(changes.changes.into_iter().map(|change| match change.change {
                Some(change::Change::Put(concept)) => concept.key,
                Some(change::Change::Deleted(key)) => key + "-",
                None => panic!("a change of nothing"),
            }));
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(30), collect).await;
    in_time.unwrap_or_else(|_| panic!("{count} changes do not come"));
    told
}

fn is_tombstone(node: &Node, key: &str) -> bool {
    let state = node.engine().concept(NamespaceId::FIRST_USER, key.as_bytes()).unwrap();
    state.expect("a key that was written has a state").is_empty()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_expires_is_deleted_and_those_who_watch_are_told() {
    let place = tempfile::tempdir().unwrap();
    let settings = settings(&place);
    let clock = Arc::new(Hand(AtomicU64::new(1_700_000_000_000_000)));
    let (node, mut client) = start(&settings, &clock).await;
    let address = format!("http://{}", node.grpc_address());
    let create = CreateNamespaceRequest {
        name: "notes".into(),
        replication: 0,
        strategy: Strategy::LastWriteWins.into(),
    };
    let mut namespaces = NamespacesClient::connect(address).await.unwrap();
    namespaces.create(create).await.unwrap();
    let watch = || WatchRequest {
        namespace: "notes".into(),
        ..WatchRequest::default()
    };
    let mut watching = client.watch(watch()).await.unwrap().into_inner();
    for (key, ttl_s) in [
        ("short", Some(10)),
        ("long", Some(1_000)),
        ("for ever", None),
        ("kept", Some(10)),
    ] {
        put(&mut client, key, ttl_s).await;
    }
    put(&mut client, "kept", None).await;
    // Told while they are there: a value is shown as it is when it is told of.
    let written = changes(&mut watching, 5).await;
    assert_eq!(written, ["short", "long", "for ever", "kept", "kept"]);
    clock.pass_s(11);
    assert_eq!(changes(&mut watching, 1).await, ["short-"]);
    assert!(is_tombstone(&node, "short"));
    for key in ["long", "for ever", "kept"] {
        assert!(!is_tombstone(&node, key), "{key}");
    }
    drop(watching);
    node.shutdown().await.unwrap();

    clock.pass_s(1_000);
    let (node, mut client) = start(&settings, &clock).await;
    let mut watching = client.watch(watch()).await.unwrap().into_inner();
    // Some looks find nothing.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    // They do not hide what comes later. `long`, written before the restart, has gone before or goes now.
    put(&mut client, "later", Some(5)).await;
    while !changes(&mut watching, 1).await.contains(&"later".to_owned()) {}
    clock.pass_s(5);
    while !changes(&mut watching, 1).await.contains(&"later-".to_owned()) {}
    assert!(is_tombstone(&node, "later") && is_tombstone(&node, "long"));
    assert!(["for ever", "kept"].iter().all(|key| !is_tombstone(&node, key)));
    drop(watching);
    node.shutdown().await.unwrap();
}
