//! Scan: one moment, bounds, and everything that ends it.

use std::time::Duration;

use proto::v1::{Concept, ScanRequest, ScanResponse, Strategy, concept};
use tonic::{Code, Request, Status, Streaming};

use super::{
    super::Settings,
    node::{Node, put_all, reason, register},
};
use crate::runtime::time;

fn scan(prefix: &str) -> ScanRequest {
    ScanRequest {
        namespace: "notes".into(),
        prefix: prefix.into(),
        ..ScanRequest::default()
    }
}

async fn begin(node: &Node, request: ScanRequest) -> Result<Streaming<ScanResponse>, Status> {
    node.client().scan(request).await.map(tonic::Response::into_inner)
}

/// What is left of a scan.
async fn rest(stream: &mut Streaming<ScanResponse>) -> Result<Vec<Concept>, Status> {
    let mut concepts = Vec::new();
    while let Some(message) = stream.message().await? {
        concepts.extend(message.concepts);
    }
    Ok(concepts)
}

async fn keys(node: &Node, request: ScanRequest) -> Vec<String> {
    let mut stream = begin(node, request).await.expect("scan");
    let concepts = rest(&mut stream).await.expect("to the end");
    concepts.into_iter().map(|concept| concept.key).collect()
}

fn json(concept: &Concept) -> &str {
    match &concept.value {
        Some(concept::Value::Register(value)) => &value.json,
        other => panic!("expected a register, found {other:?}"),
    }
}

/// `count` keys under `a/`, with values that together fill any window between server and caller.
async fn filled(node: &Node, count: usize, bytes: usize) {
    let value = format!("\"{}\"", "x".repeat(bytes));
    let all = (0..count).map(|number| (format!("a/{number:05}"), value.clone()));
    put_all(node, "notes", all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_sees_one_moment_however_slowly_it_is_read() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    filled(&node, 2_000, 2_000).await;
    let mut stream = begin(&node, scan("a/")).await.expect("scan");
    let first = stream.message().await.expect("a message").expect("the first");
    assert!(first.lsn > 0 && !first.resume_token.is_empty());

    node.put(register("notes", "a/01990", "\"changed\""))
        .await
        .expect("put");
    node.put(register("notes", "a/01990 and a half", "\"new\""))
        .await
        .expect("put");
    node.delete("notes", "a/01999", Vec::new()).await.expect("delete");

    let mut concepts = first.concepts;
    concepts.extend(rest(&mut stream).await.expect("to the end"));
    let expected: Vec<String> = (0..2_000).map(|number| format!("a/{number:05}")).collect();
    let found: Vec<&String> = concepts.iter().map(|concept| &concept.key).collect();
    assert_eq!(found, expected.iter().collect::<Vec<_>>());
    assert!(concepts.iter().all(|concept| json(concept).starts_with("\"xxx")));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_and_page_sizes_are_kept() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    node.create("other", Strategy::LastWriteWins).await;
    let all = ["a", "b/1", "b/2", "b/3", "b/4", "c"];
    put_all(
        &node,
        "notes",
        all.map(|key| (key.to_owned(), "1".to_owned())).into_iter(),
    )
    .await;
    node.put(register("other", "b/9", "1")).await.expect("put");
    node.delete("notes", "b/2", Vec::new()).await.expect("delete");

    assert_eq!(keys(&node, scan("")).await, ["a", "b/1", "b/3", "b/4", "c"]);
    assert_eq!(keys(&node, scan("b/")).await, ["b/1", "b/3", "b/4"]);
    let bounded = ScanRequest {
        start_after: "b/1".into(),
        end: "b/4".into(),
        ..scan("b/")
    };
    assert_eq!(keys(&node, bounded).await, ["b/3"]);

    let small = ScanRequest {
        page_size: 2,
        omit_contexts: true,
        ..scan("")
    };
    let mut stream = begin(&node, small).await.expect("scan");
    let mut sizes = Vec::new();
    while let Some(message) = stream.message().await.expect("a message") {
        assert_eq!(message.lsn > 0, sizes.is_empty(), "only the first says where it stands");
        assert!(
            message
                .concepts
                .iter()
                .all(|concept| concept.context.is_empty() && concept.clock.is_empty())
        );
        sizes.push(message.concepts.len());
    }
    assert_eq!(sizes, [2, 2, 1]);

    let mut nothing = begin(&node, scan("zzz")).await.expect("scan");
    let first = nothing.message().await.expect("a message").expect("even so");
    assert!(first.concepts.is_empty() && !first.resume_token.is_empty());
    assert!(nothing.message().await.expect("the end").is_none());
    for (request, field) in [
        (
            ScanRequest {
                start_after: "k".repeat(1025),
                ..scan("")
            },
            "KEY_LENGTH",
        ),
        (
            ScanRequest {
                end: "k".repeat(1025),
                ..scan("")
            },
            "KEY_LENGTH",
        ),
        (scan(&"k".repeat(1025)), "KEY_LENGTH"),
        (
            ScanRequest {
                page_size: 1001,
                ..scan("")
            },
            "PAGE_SIZE",
        ),
    ] {
        assert_eq!(reason(&begin(&node, request).await.expect_err("refused")), field);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_bounded_in_bytes() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    filled(&node, 40, 60_000).await;
    let mut stream = begin(&node, scan("")).await.expect("scan");
    let mut sizes = Vec::new();
    while let Some(message) = stream.message().await.expect("a message") {
        sizes.push(message.concepts.len());
    }
    assert_eq!(sizes.iter().sum::<usize>(), 40);
    assert!(sizes.iter().all(|size| *size <= 4), "256 KiB hold four: {sizes:?}");
    node.stop().await;
}

/// Whether a scan can begin, soon.
async fn has_place(node: &Node) -> bool {
    for _ in 0..200 {
        match begin(node, scan("none")).await {
            Ok(mut stream) => return rest(&mut stream).await.is_ok(),
            Err(full) => assert_eq!(reason(&full), "SCANS_FULL"),
        }
        time::sleep(Duration::from_millis(25)).await;
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_whose_caller_has_gone_gives_back_its_place() {
    let node = Node::with_settings(Settings {
        scans_max: 1,
        ..Settings::default()
    })
    .await;
    filled(&node, 100, 60_000).await;
    let mut stream = begin(&node, scan("")).await.expect("scan");
    stream.message().await.expect("a message").expect("the first");
    let full = begin(&node, scan("")).await.expect_err("one at a time");
    assert_eq!(
        (full.code(), reason(&full).as_str()),
        (Code::ResourceExhausted, "SCANS_FULL")
    );
    drop(stream);
    assert!(has_place(&node).await, "the scan goes on without its caller");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_that_nobody_reads_is_ended() {
    let node = Node::with_settings(Settings {
        scans_max: 1,
        stall_max: Duration::from_millis(300),
        ..Settings::default()
    })
    .await;
    filled(&node, 100, 60_000).await;
    let mut stream = begin(&node, scan("")).await.expect("scan");
    stream.message().await.expect("a message").expect("the first");
    assert!(has_place(&node).await, "the scan holds its place while nobody reads");
    let stalled = rest(&mut stream).await.expect_err("it was ended");
    assert_eq!(
        (stalled.code(), reason(&stalled).as_str()),
        (Code::Aborted, "STREAM_STALLED")
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_of_a_scan_is_kept() {
    let node = Node::with_settings(Settings {
        scans_max: 1,
        ..Settings::default()
    })
    .await;
    filled(&node, 100, 60_000).await;
    let mut request = Request::new(scan(""));
    request
        .metadata_mut()
        .insert("grpc-timeout", "300m".parse().expect("a value"));
    let mut stream = node.client().scan(request).await.expect("scan").into_inner();
    stream.message().await.expect("a message").expect("the first");
    time::sleep(Duration::from_millis(600)).await;
    let late = rest(&mut stream).await.expect_err("the time is over");
    assert_eq!(
        (late.code(), reason(&late).as_str()),
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED")
    );
    assert!(has_place(&node).await, "the scan outlives its deadline");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_scans_with_the_way_on() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    filled(&node, 200, 60_000).await;
    let mut stream = begin(&node, scan("")).await.expect("scan");
    stream.message().await.expect("a message").expect("the first");
    node.faces.stop();
    let stopped = rest(&mut stream).await.expect_err("it was ended");
    assert_eq!(
        (stopped.code(), reason(&stopped).as_str()),
        (Code::Unavailable, "STOPPING")
    );
    node.stop().await;
}
