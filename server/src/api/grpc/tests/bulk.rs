//! Write: chunks acknowledged in order once they are durable, faults that do not end the stream, and ends that do.

use std::time::Duration;

use proto::v1::{
    CounterChange, PutRequest, Strategy, WriteRequest, WriteResponse, concept, put_request::Write,
    write_response::Outcome,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt;

use super::node::{Node, put_write, reason, register};
use crate::runtime::{tasks, time};

/// A stream as its caller holds it.
struct Writing {
    chunks: mpsc::Sender<WriteRequest>,
    answers: Streaming<WriteResponse>,
}

impl Writing {
    async fn begin(node: &Node) -> Writing {
        // One chunk ahead of the connection: what is taken beyond that, the node has taken.
        let (chunks, receiver) = mpsc::channel(1);
        let answers = node.client().write(ReceiverStream::new(receiver)).await.expect("write");
        Writing {
            chunks,
            answers: answers.into_inner(),
        }
    }

    async fn send(&self, puts: Vec<PutRequest>) {
        let chunk = WriteRequest {
            writes: puts.into_iter().map(put_write).collect(),
            ..WriteRequest::default()
        };
        self.chunks.send(chunk).await.expect("the stream is open");
    }

    async fn answer(&mut self) -> Result<Option<WriteResponse>, Status> {
        self.answers.message().await
    }

    async fn acknowledged(&mut self) -> WriteResponse {
        self.answer().await.expect("no error").expect("an acknowledgement")
    }
}

fn writes(answer: &WriteResponse) -> u32 {
    match &answer.outcome {
        Some(Outcome::Written(written)) => written.writes,
        other => panic!("expected success, found {other:?}"),
    }
}

fn fault(answer: &WriteResponse) -> Status {
    match &answer.outcome {
        Some(Outcome::Fault(fault)) => {
            let details = prost::Message::encode_to_vec(fault).into();
            Status::with_details(Code::from_i32(fault.code), fault.message.clone(), details)
        }
        other => panic!("expected a fault, found {other:?}"),
    }
}

fn count(delta: i64) -> PutRequest {
    PutRequest {
        write: Some(Write::Counter(CounterChange { delta })),
        ..register("notes", "count", "")
    }
}

async fn counted(node: &Node) -> i64 {
    match node.get("notes", "count").await.expect("get").value {
        Some(concept::Value::Counter(counter)) => counter.total,
        other => panic!("expected a counter, found {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_chunk_is_acknowledged_in_order_once_it_is_durable() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    let Writing { chunks, mut answers } = Writing::begin(&node).await;
    let sender = tasks::spawn(async move {
        for chunk in 0..100_u32 {
            let value = chunk.to_string();
            let puts = (0..10).map(|key| put_write(register("notes", &format!("k{key}"), &value)));
            let request = WriteRequest {
                writes: puts.collect(),
                return_results: chunk == 99,
                ..WriteRequest::default()
            };
            chunks.send(request).await.expect("the stream is open");
        }
    });
    for chunk in 0..100 {
        let answer = answers.message().await.expect("no error").expect("an acknowledgement");
        assert_eq!((answer.chunk, writes(&answer)), (chunk, 10));
        if let Some(Outcome::Written(written)) = answer.outcome {
            assert_eq!(written.results.len(), if chunk == 99 { 10 } else { 0 });
        }
    }
    sender.await.expect("all sent");
    assert!(
        answers.message().await.expect("no error").is_none(),
        "the stream ends with its chunks"
    );
    for key in 0..10 {
        let read = node.get("notes", &format!("k{key}")).await.expect("get");
        let Some(concept::Value::Register(value)) = read.value else {
            panic!("a register")
        };
        assert_eq!(value.json, "99", "chunks are carried out in order");
    }
    // Acknowledged is durable: nothing is left to be synced, and a restart finds it.
    let node = node.restarted().await;
    node.get("notes", "k9").await.expect("still there");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_is_told_in_its_acknowledgement_and_the_stream_goes_on() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    let mut writing = Writing::begin(&node).await;
    writing.send(vec![count(1)]).await;
    writing.send(vec![count(10), register("notes", "k", "{")]).await;
    writing.send(vec![count(100), register("notes", "count", "1")]).await;
    writing.send(Vec::new()).await;
    writing.send(vec![count(1_000)]).await;

    assert_eq!(writes(&writing.acknowledged().await), 1);
    let malformed = writing.acknowledged().await;
    assert_eq!(
        (malformed.chunk, reason(&fault(&malformed)).as_str()),
        (1, "JSON_MALFORMED")
    );
    let details = fault(&malformed).get_error_details();
    assert_eq!(
        details.bad_request().expect("a violation").field_violations[0].field,
        "writes[1].register"
    );
    assert_eq!(reason(&fault(&writing.acknowledged().await)), "KIND_MISMATCH");
    assert_eq!(reason(&fault(&writing.acknowledged().await)), "BATCH_EMPTY");
    let last = writing.acknowledged().await;
    assert_eq!((last.chunk, writes(&last)), (4, 1));
    assert_eq!(counted(&node).await, 1_001, "nothing of a faulty chunk has happened");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_wait_for_those_who_read_no_acknowledgements() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    let mut writing = Writing::begin(&node).await;
    let large = format!("\"{}\"", "x".repeat(60_000));
    let chunk = || WriteRequest {
        // The results come back: without them acknowledgements are too small to fill a window.
        writes: (0..40)
            .map(|key| {
                put_write(PutRequest {
                    return_concept: true,
                    ..register("notes", &key.to_string(), &large)
                })
            })
            .collect(),
        return_results: true,
        ..WriteRequest::default()
    };
    let mut sent = 0_u64;
    while let Ok(permit) = tokio::time::timeout(Duration::from_secs(2), writing.chunks.reserve()).await {
        permit.expect("the stream is open").send(chunk());
        sent += 1;
        assert!(sent < 60, "144 MB were taken from a caller that reads nothing");
    }
    for chunk in 0..sent {
        assert_eq!(writing.acknowledged().await.chunk, chunk);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_may_be_dropped_and_leaves_nothing_running() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    let mut writing = Writing::begin(&node).await;
    writing.send(vec![count(1)]).await;
    writing.acknowledged().await;
    writing.send(vec![count(1)]).await;
    drop(writing);
    // The engine has taken the second chunk or has not; it is soon clear which, and stays so.
    time::sleep(Duration::from_millis(300)).await;
    let after = counted(&node).await;
    assert!((1..=2).contains(&after));
    assert_eq!(node.engine.queued_bytes(), 0);
    node.put(count(1)).await.expect("put");
    assert_eq!(counted(&node).await, after + 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_the_stream_behind_what_it_has_taken() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    let mut writing = Writing::begin(&node).await;
    writing.send(vec![count(1)]).await;
    assert_eq!(writes(&writing.acknowledged().await), 1);
    node.faces.stop();
    let stopped = writing.answer().await.expect_err("it was ended");
    assert_eq!(
        (stopped.code(), reason(&stopped).as_str()),
        (Code::Unavailable, "STOPPING")
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_oversized_chunks_and_a_stopped_engine_end_the_stream() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    let (_chunks, receiver) = mpsc::channel(1);
    let mut request = Request::new(ReceiverStream::new(receiver));
    request
        .metadata_mut()
        .insert("grpc-timeout", "1S".parse().expect("a value"));
    let mut answers = node.client().write(request).await.expect("write").into_inner();
    let late = answers.message().await.expect_err("the time is over");
    assert_eq!(late.code(), Code::DeadlineExceeded);

    let mut writing = Writing::begin(&node).await;
    let large = format!("\"{}\"", "x".repeat(60_000));
    writing.send(vec![count(1)]).await;
    writing
        .send((0..80).map(|_| register("notes", "k", &large)).collect())
        .await;
    assert_eq!(writes(&writing.acknowledged().await), 1);
    assert_eq!(writing.answer().await.expect_err("4.8 MB").code(), Code::OutOfRange);

    let mut writing = Writing::begin(&node).await;
    node.engine.close().expect("close");
    writing.send(vec![count(1)]).await;
    let stopped = writing.answer().await.expect_err("the engine has stopped");
    assert_eq!(
        (stopped.code(), reason(&stopped).as_str()),
        (Code::Unavailable, "ENGINE_STOPPED")
    );
}
