//! Streams that break: where they go on, what comes twice, what is never missed.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive a real client by the real clock"
)]

mod fake;

use std::time::Duration;

use continuum_client::{Client, Event, Kind, Namespace, Put, ResumeToken, Resync, Selection, Settings, Write};
use fake::{Fake, Fate};
use proto::v1::{
    self, Change, Changes, Concept, Counter, Progress, ScanResponse, WatchResponse, change, concept, watch_response,
};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _, pb as rpc};

async fn notes(node: &Fake, unacknowledged: usize) -> Namespace {
    let settings = Settings {
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(4),
        unacknowledged_chunks_max: unacknowledged,
        ..Settings::of([node.start().await.to_string()])
    };
    Client::connect(settings).unwrap().namespace("notes")
}

fn counter(key: &str) -> Concept {
    Concept {
        key: key.to_owned(),
        value: Some(concept::Value::Counter(Counter { total: 1 })),
        ..Concept::default()
    }
}

fn page(keys: &[&str], lsn: u64) -> Result<ScanResponse, Status> {
    Ok(ScanResponse {
        concepts: keys.iter().map(|key| counter(key)).collect(),
        lsn,
        resume_token: lsn.to_string().into_bytes(),
        ..ScanResponse::default()
    })
}

fn stalled() -> Status {
    Status::aborted("no message was taken")
}

#[tokio::test]
async fn a_scan_goes_on_behind_its_last_key() {
    let node = Fake::default();
    node.script(|script| {
        script.scans.extend([
            vec![page(&["a", "b"], 7), page(&["c"], 0), Err(stalled())],
            vec![Err(Status::unavailable("stopping"))],
            vec![page(&["d"], 9), Err(Status::unavailable("stopping"))],
            vec![page(&[], 10)],
        ]);
    });
    let scan = notes(&node, 1).await.scan(Selection::default()).await.unwrap();
    assert_eq!(scan.lsn(), 7);
    assert_eq!(
        scan.resume_token().as_bytes(),
        b"7",
        "a watch after it must begin where the first part was"
    );
    let keys: Vec<String> = scan.into_stream().map(|concept| concept.unwrap().key).collect().await;
    assert_eq!(keys, ["a", "b", "c", "d"]);
    let begun: Vec<String> =
        node.script(|script| script.scans_asked.iter().map(|one| one.start_after.clone()).collect());
    assert_eq!(begun, ["", "c", "c", "d"]);
    assert!(
        node.calls().iter().all(|(_, _, limited)| !limited),
        "a deadline would be one for the whole stream"
    );
}

#[tokio::test]
async fn a_scan_that_is_refused_ends_with_the_refusal() {
    let node = Fake::default();
    node.script(|script| {
        script
            .scans
            .push_back(vec![page(&["a"], 7), Err(Status::internal("the store failed"))])
    });
    let mut scan = notes(&node, 1).await.scan(Selection::default()).await.unwrap();
    assert_eq!(scan.next().await.unwrap().unwrap().key, "a");
    assert_eq!(*scan.next().await.unwrap().unwrap_err().kind(), Kind::Internal);
    assert!(scan.next().await.is_none());
}

#[tokio::test]
async fn a_scan_that_only_breaks_ends_some_time() {
    let node = Fake::default();
    node.script(|script| {
        script.scans.push_back(vec![page(&["a"], 7), Err(stalled())]);
        for _ in 0..100 {
            script.scans.push_back(vec![page(&[], 7), Err(stalled())]);
        }
    });
    let mut scan = notes(&node, 1).await.scan(Selection::default()).await.unwrap();
    assert_eq!(scan.next().await.unwrap().unwrap().key, "a");
    assert_eq!(*scan.next().await.unwrap().unwrap_err().kind(), Kind::Busy);
    assert!(scan.next().await.is_none());
}

fn told(event: watch_response::Event, lsn: u64) -> Result<WatchResponse, Status> {
    Ok(WatchResponse {
        event: Some(event),
        lsn,
        resume_token: lsn.to_string().into_bytes(),
    })
}

fn changes(lsn: u64, keys: &[&str]) -> Result<WatchResponse, Status> {
    let one = |key: &&str| Change {
        lsn,
        change: Some(change::Change::Deleted((*key).to_owned())),
    };
    let changes = keys.iter().map(one).collect();
    told(watch_response::Event::Changes(Changes { changes }), lsn)
}

fn progress(lsn: u64) -> Result<WatchResponse, Status> {
    told(watch_response::Event::Progress(Progress {}), lsn)
}

#[tokio::test]
async fn a_watch_goes_on_with_its_newest_token() {
    let node = Fake::default();
    let resync = watch_response::Event::Resync(v1::Resync {
        reason: v1::ResyncReason::LogRetired.into(),
    });
    node.script(|script| {
        script.watches.extend([
            vec![progress(5), changes(6, &["a", "b"]), Err(stalled())],
            vec![Err(Status::unavailable("stopping"))],
            // Ended without a word: only a resync ends a watch.
            vec![progress(6), changes(8, &["c"])],
            vec![progress(8), told(resync, 0)],
        ]);
    });
    let start = ResumeToken::from(b"4".to_vec());
    let mut watch = notes(&node, 1).await.watch(Selection::default(), &start).await.unwrap();
    let mut seen = Vec::new();
    let mut tokens = Vec::new();
    let mut resynced = None;
    while let Some(event) = watch.next().await {
        let token = String::from_utf8(watch.resume_token().as_bytes().to_vec()).unwrap();
        match event.unwrap() {
            Event::Deleted { key, .. } => {
                seen.push(key);
                tokens.push(token);
            }
            Event::Progress { .. } => {}
            Event::Resync { reason } => resynced = Some(reason),
            other @ Event::Put { .. } => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, ["a", "b", "c"]);
    assert_eq!(resynced, Some(Resync::LogRetired));
    // Between two changes of one message the token still leads to the first: twice rather than never.
    assert_eq!(tokens, ["5", "6", "8"]);
    let asked = node.script(|script| {
        script
            .watches_asked
            .iter()
            .map(|one| one.resume_token.clone())
            .collect::<Vec<_>>()
    });
    assert_eq!(asked, [b"4", b"6", b"6", b"8"]);
}

fn fault(code: Code, retry: Option<Duration>) -> Fate {
    let details = match retry {
        Some(_) => ErrorDetails::with_retry_info(retry),
        None => ErrorDetails::new(),
    };
    let status = Status::with_error_details(code, "no", details);
    let whole = <rpc::Status as prost::Message>::decode(status.details()).unwrap();
    Fate::Fault(whole)
}

fn one(key: usize) -> [Write; 1] {
    [Write::put(key.to_string(), Put::counter(1))]
}

/// Sends so many chunks; the numbers of the acknowledged, and whether each was written.
async fn load(notes: &Namespace, chunks: usize) -> Vec<(u64, bool)> {
    let mut bulk = notes.bulk();
    let mut acknowledged = Vec::new();
    for chunk in 0..chunks {
        acknowledged.extend(bulk.send(one(chunk)).await.unwrap());
    }
    acknowledged.extend(bulk.settle().await.unwrap());
    assert_eq!(bulk.unacknowledged(), 0);
    acknowledged
        .iter()
        .map(|one| (one.chunk, one.outcome.is_ok()))
        .collect()
}

#[tokio::test]
async fn chunks_are_sent_again_under_their_names() {
    for unacknowledged in [1, 3] {
        let node = Fake::default();
        node.script(|script| {
            let written = || Fate::Acknowledge;
            script
                .fates
                .extend([written(), Fate::Break, Fate::Break, written(), Fate::Break]);
        });
        let acknowledged = load(&notes(&node, unacknowledged).await, 6).await;
        assert_eq!(acknowledged, (0..6).map(|chunk| (chunk, true)).collect::<Vec<_>>());
        let sent = node.script(|script| script.chunks.clone());
        // In the order of their first coming the names are those of the six chunks.
        let mut names = Vec::new();
        for name in &sent {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        assert_eq!(names.len(), 6, "{sent:?}");
        assert!(sent.len() >= 9, "three were sent again: {sent:?}");
    }
}

#[tokio::test]
async fn a_busy_chunk_is_sent_again_and_a_refused_one_told() {
    let node = Fake::default();
    node.script(|script| {
        let busy = || fault(Code::Unavailable, Some(Duration::from_millis(1)));
        script
            .fates
            .extend([busy(), busy(), Fate::Acknowledge, fault(Code::InvalidArgument, None)]);
    });
    let acknowledged = load(&notes(&node, 1).await, 3).await;
    assert_eq!(acknowledged, [(0, true), (1, false), (2, true)]);
    assert_eq!(node.script(|script| script.chunks.len()), 5);
}

#[tokio::test]
async fn acknowledgements_come_in_order_though_one_was_busy() {
    let node = Fake::default();
    node.script(|script| {
        script
            .fates
            .push_back(fault(Code::Unavailable, Some(Duration::from_millis(5))))
    });
    let acknowledged = load(&notes(&node, 4).await, 9).await;
    assert_eq!(acknowledged, (0..9).map(|chunk| (chunk, true)).collect::<Vec<_>>());
    assert_eq!(node.script(|script| script.chunks.len()), 10);
}

#[tokio::test]
async fn a_chunk_too_large_is_refused_before_it_is_sent() {
    let node = Fake::default();
    let mut bulk = notes(&node, 1).await.bulk();
    let value = format!("\"{}\"", "x".repeat(continuum_client::CHUNK_BYTES_MAX));
    let error = bulk.send([Write::put("k", Put::register(value))]).await.unwrap_err();
    assert_eq!(*error.kind(), Kind::Settings);
    assert!(node.calls().is_empty());
}
