//! Compaction and verification: one work at a time, ended by whoever leaves.

use std::{sync::mpsc::channel, time::Duration};

use proto::v1::{CompactRequest, CreateSnapshotRequest, Strategy, VerifyRequest, VerifyResponse};
use tonic::{Code, Status, Streaming};

use super::node::{Node, put_all, reason};
use crate::runtime::{tasks, time::Stopwatch};

/// A refusal takes half a second, in which another work might have come to its end.
const AT_ONCE: Duration = Duration::from_secs(5);

async fn notes(count: usize) -> Node {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    let all = (0..count).map(|number| (format!("k{number:06}"), number.to_string()));
    put_all(&node, "notes", all).await;
    node
}

async fn verify(node: &Node) -> Streaming<VerifyResponse> {
    node.admin().verify(VerifyRequest {}).await.expect("begun").into_inner()
}

async fn refused<T>(mut stream: Streaming<T>) -> Status {
    loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it was carried out"),
            Err(status) => return status,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_ends_with_its_caller() {
    let node = notes(60_000).await;
    let folder = node.data_directory().join("verifying");
    let mut whole = Duration::MAX;
    for _ in 0..2 {
        let started = Stopwatch::start();
        let mut stream = verify(&node).await;
        let mut last = None;
        while let Some(message) = stream.message().await.expect("a message") {
            assert!(message.done_bytes <= message.total_bytes);
            last = message.report;
        }
        assert_eq!(last.expect("a report").damage_count, 0);
        whole = whole.min(started.elapsed());
    }

    for after in [1, 2] {
        let mut stream = verify(&node).await;
        for _ in 0..after {
            stream.message().await.expect("a message").expect("one");
        }
        let left = Stopwatch::start();
        drop(stream);
        let engine = node.engine.clone();
        // What comes next finds the turn free.
        let next = tasks::blocking(move || engine.compact(None, &mut |_| false)).await;
        next.expect("no panic").expect("nothing runs any more");
        let took = left.elapsed();
        assert!(took * 3 < whole, "it ran on for {took:?}, the whole takes {whole:?}");
        assert!(!folder.exists(), "what it read is removed");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_work_is_told_at_once_which_one_runs() {
    let node = notes(10).await;
    let (engine, (told, begun), (word, given)) = (node.engine.clone(), channel(), channel::<()>());
    let running = tasks::thread("verify", move || {
        let stopped = engine.verify(&mut |_, _| {
            told.send(()).expect("somebody waits");
            given.recv().is_ok()
        });
        assert!(stopped.is_err());
    });
    let running = running.expect("a thread");
    begun.recv().expect("it has begun");

    let started = Stopwatch::start();
    let compact = node.admin().compact(CompactRequest::default()).await;
    let snapshot = CreateSnapshotRequest { name: "one".into() };
    let refusals = [
        refused(verify(&node).await).await,
        refused(compact.expect("begun").into_inner()).await,
        node.admin()
            .create_snapshot(snapshot.clone())
            .await
            .expect_err("refused"),
        refused(
            node.admin()
                .backup(proto::v1::BackupRequest::default())
                .await
                .expect("begun")
                .into_inner(),
        )
        .await,
    ];
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    for refusal in &refusals {
        assert_eq!(
            (refusal.code(), reason(refusal).as_str()),
            (Code::FailedPrecondition, "WORK_RUNS")
        );
        assert!(
            refusal.message().starts_with("a verification runs"),
            "{}",
            refusal.message()
        );
    }
    drop(word);
    running.join().expect("no panic");
    node.admin().create_snapshot(snapshot).await.expect("made");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_ends_with_the_node() {
    let node = notes(60_000).await;
    let mut stream = verify(&node).await;
    stream.message().await.expect("a message").expect("one");
    node.faces.stop();
    assert_eq!(reason(&refused(stream).await), "STOPPING");
    node.stop().await;
}
