#![allow(clippy::disallowed_methods)] // a test makes its own callers and waits for them

mod cluster;
mod expiry;

use std::sync::atomic::{AtomicU64, Ordering};

use engine::clock::Timestamp;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;

fn settings(place: &tempfile::TempDir) -> config::Settings {
    let mut settings = config::Settings::default();
    settings.node.bind_address.set_port(0);
    settings.node.http_address.set_port(0);
    settings.storage.path = place.path().join("data");
    settings.storage.segment_bytes = 16 << 20;
    settings.contribution.usage_flush_interval_ms = 50;
    settings
}

/// One request on a connection of its own: status and JSON body (or the body as a string).
async fn call(address: SocketAddr, method: &str, path: &str, node: &str, body: Option<Value>) -> (u16, Value) {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nX-Node-ID: {node}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|_| Value::from(body)))
}

async fn contribute(node: &Node, member: &str, concepts: Value) -> Value {
    let body = json!({ "concepts": concepts });
    let (status, answer) = call(
        node.http_address(),
        "POST",
        "/federation/contribute",
        member,
        Some(body),
    )
    .await;
    assert_eq!(status, 200, "{answer}");
    answer
}

async fn knowledge(node: &Node, member: &str, query: &str) -> Value {
    let body = json!({ "query": query });
    let (status, answer) = call(node.http_address(), "POST", "/federation/knowledge", member, Some(body)).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

async fn ready(node: &Node) {
    for _ in 0..200 {
        if node.health().ready().passes() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not ready: {:?}", node.health().ready());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let place = tempfile::tempdir().unwrap();
    let mut settings = settings(&place);
    // Only the stop itself may make the delivery durable.
    settings.contribution.usage_flush_interval_ms = 3_600_000;
    let node = Node::start(&settings).await.unwrap();
    let name = node.name().to_owned();
    let answer = contribute(&node, "a", json!([{ "name": "Tea", "id": 1 }, { "name": "Coffee" }])).await;
    assert_eq!(answer["new_concepts"], 2);
    let found = knowledge(&node, "a", "TEA").await;
    assert_eq!(
        found["concepts"],
        json!([{ "concept": { "name": "Tea" }, "quality_score": 0.0, "usage_count": 0 }])
    );
    node.shutdown().await.unwrap();

    let node = Node::start(&settings).await.unwrap();
    ready(&node).await;
    assert_eq!(node.name(), name);
    let found = knowledge(&node, "a", "tea").await;
    assert_eq!(
        found["concepts"][0]["usage_count"], 1,
        "the delivery before the stop was kept: {found}"
    );
    let (_, status) = call(node.http_address(), "GET", "/federation/status", "a", None).await;
    assert_eq!(
        (&status["contribution_score"], &status["consumption_score"]),
        (&json!(2.0), &json!(2.0))
    );
    assert_eq!(
        contribute(&node, "b", json!([{ "name": "Tea" }])).await["duplicate_concepts"],
        1
    );
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_is_made_durable_while_the_node_runs() {
    let place = tempfile::tempdir().unwrap();
    let settings = settings(&place);
    let node = Node::start(&settings).await.unwrap();
    contribute(&node, "a", json!([{ "name": "Tea" }])).await;
    for _ in 0..3 {
        knowledge(&node, "a", "tea").await;
    }
    let hash = engine::json::ContentHash::of(&json!({ "name": "Tea" }));
    let key = contribution::search::usage_key(&hash);
    let stored = || {
        node.engine()
            .concept(engine::keyspace::NamespaceId::SYSTEM, &key)
            .unwrap()
    };
    for _ in 0..200 {
        if stored().is_some_and(|state| format!("{state:?}").contains("increments: 3")) {
            return node.shutdown().await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", stored());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_contribution_acknowledged_is_found_by_the_next_request() {
    let place = tempfile::tempdir().unwrap();
    let node = Node::start(&settings(&place)).await.unwrap();
    for round in 0..40 {
        contribute(&node, "a", json!([{ "name": format!("concept {round:03}") }])).await;
        let found = knowledge(&node, "a", &format!("{round:03}")).await;
        assert_eq!(found["count"], 1, "{round}: {found}");
    }
    node.shutdown().await.unwrap();
}

/// A clock the test moves.
struct Moved(AtomicU64);

impl Clock for Moved {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configured_limits_hold_and_reset_with_the_hour() {
    let place = tempfile::tempdir().unwrap();
    let mut settings = settings(&place);
    settings.contribution.contribute_per_hour = 2;
    let clock = Arc::new(Moved(AtomicU64::new(1_800_000_000_000_000)));
    let components = Components {
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
    };
    let node = Node::start_with(&settings, components).await.unwrap();
    let body = |number: u32| Some(json!({ "concepts": [{ "name": number }] }));
    for (number, expected) in [(1, 200), (2, 200), (3, 429)] {
        let (status, answer) = call(node.http_address(), "POST", "/federation/contribute", "a", body(number)).await;
        assert_eq!(status, expected, "{answer}");
    }
    clock.0.fetch_add(3_600_000_001, Ordering::Relaxed);
    let (status, answer) = call(node.http_address(), "POST", "/federation/contribute", "a", body(4)).await;
    assert_eq!(status, 200, "{answer}");
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configured_fields_are_dropped_besides_the_built_in_ones() {
    let place = tempfile::tempdir().unwrap();
    let mut settings = settings(&place);
    settings.contribution.anonymise_names = vec!["author".to_owned()];
    settings.contribution.anonymise_prefixes = vec!["staff_".to_owned()];
    settings.contribution.anonymise_suffixes = vec!["_by".to_owned()];
    let node = Node::start(&settings).await.unwrap();
    let sent =
        json!({ "name": "Tea", "author": 1, "staff_room": 2, "made_by": 3, "user_id": 4, "kind": { "author": 5 } });
    contribute(&node, "a", json!([sent])).await;
    let found = knowledge(&node, "a", "tea").await;
    assert_eq!(found["concepts"][0]["concept"], json!({ "name": "Tea", "kind": {} }));
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_once_ran_far_ahead_is_told_of() {
    const TIME: u64 = 1_800_000_000_000_000;
    let place = tempfile::tempdir().unwrap();
    let settings = settings(&place);
    let at = |micros| Components {
        clock: Arc::new(Moved(AtomicU64::new(micros))),
    };
    let node = Node::start_with(&settings, at(TIME + 86_400_000_000)).await.unwrap();
    contribute(&node, "a", json!([{ "name": "Tea" }])).await;
    node.shutdown().await.unwrap();

    let node = Node::start_with(&settings, at(TIME)).await.unwrap();
    for _ in 0..200 {
        let (status, answer) = call(node.http_address(), "GET", "/readyz?verbose", "", None).await;
        assert_eq!(status, 200, "it serves all the same: {answer}");
        let checks = answer["checks"].as_array().unwrap();
        let clock = checks.iter().find(|check| check["name"] == "clock").unwrap();
        if clock["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("86400 s ahead"))
        {
            assert_eq!(clock["status"], "limited");
            let (_, text) = call(node.http_address(), "GET", "/metrics", "", None).await;
            assert!(text.as_str().unwrap().contains("continuum_ledger_ahead_seconds 86400"));
            return node.shutdown().await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody was told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_under_the_same_key_counts_once_and_names_the_same_member() {
    let place = tempfile::tempdir().unwrap();
    let node = Node::start(&settings(&place)).await.unwrap();
    let key = || {
        Some(engine::ledger::Idempotency {
            caller: "nobody".to_owned(),
            key: "k".to_owned(),
            body: [1; 32],
        })
    };
    let first = node.contribution().register(None, None, key()).await.unwrap();
    let again = node.contribution().register(None, None, key()).await.unwrap();
    assert_eq!(first.node, again.node);
    assert!(!again.already, "the first outcome is repeated");
    let other = node
        .contribution()
        .register(None, Some(contribution::TWILIGHT_CONSTANT + 9e-10), None)
        .await
        .unwrap();
    assert_ne!(first.node, other.node);
    assert!(other.standing.verified);
    let off = node
        .contribution()
        .register(None, Some(contribution::TWILIGHT_CONSTANT + 2e-9), None)
        .await
        .unwrap();
    assert!(!off.standing.verified);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_tell_of_readiness_and_numbers() {
    let place = tempfile::tempdir().unwrap();
    let node = Node::start(&settings(&place)).await.unwrap();
    ready(&node).await;
    contribute(&node, "a", json!([{ "name": "Tea" }])).await;
    let (status, _) = call(node.http_address(), "GET", "/readyz", "", None).await;
    assert_eq!(status, 200);
    let (status, text) = call(node.http_address(), "GET", "/metrics", "", None).await;
    let text = text.as_str().unwrap();
    assert_eq!(status, 200);
    assert!(text.contains("continuum_sequencer_commands_total 1"), "{text}");
    assert!(
        text.contains("continuum_contribution_concepts_total{result=\"new\"} 1"),
        "{text}"
    );
    let lsn = text
        .lines()
        .find_map(|line| line.strip_prefix("continuum_engine_committed_lsn "))
        .unwrap();
    assert_eq!(lsn.parse::<u64>().unwrap(), node.engine().committed().borrow().0);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_in_the_way_is_told_with_a_way_out() {
    let place = tempfile::tempdir().unwrap();
    let settings = settings(&place);
    let node = Node::start(&settings).await.unwrap();

    let locked = Node::start(&settings).await.err().unwrap().to_string();
    assert!(
        locked.contains("in use by another continuumd") && locked.contains("--data-dir"),
        "{locked}"
    );

    let mut taken = settings.clone();
    taken.node.http_address = node.http_address();
    taken.storage.path = place.path().join("other");
    let told = Node::start(&taken).await.err().unwrap().to_string();
    assert!(
        told.contains("cannot serve HTTP on") && told.contains("--http"),
        "{told}"
    );
    assert!(
        !place.path().join("other").exists(),
        "nothing was made for a node that cannot serve"
    );
    node.shutdown().await.unwrap();

    let mut renamed = settings.clone();
    renamed.node.id = Some("another".to_owned());
    let told = Node::start(&renamed).await.err().unwrap().to_string();
    assert!(told.contains("belongs to the node"), "{told}");
    Node::start(&settings).await.unwrap().shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_under_way_is_finished_at_a_graceful_stop() {
    let place = tempfile::tempdir().unwrap();
    let node = Node::start(&settings(&place)).await.unwrap();
    let address = node.http_address();
    let body = json!({ "concepts": [{ "name": "Tea" }] }).to_string();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /federation/contribute HTTP/1.1\r\nHost: t\r\nX-Node-ID: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The head has arrived once the route waits for the body.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let stopping = tokio::spawn(node.shutdown());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(TcpStream::connect(address).await.is_err(), "no new connections");
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("\"new_concepts\":1"), "{answer}");
    stopping.await.unwrap().unwrap();
}
