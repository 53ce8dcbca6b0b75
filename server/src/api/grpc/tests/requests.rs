//! Request ids: a write sent again is carried out once and answered, whichever call it came by.

use proto::v1::{
    BatchRequest, BatchResponse, BatchWrite, Concept, CounterChange, DeleteRequest, DeleteResponse, PutRequest,
    Strategy, WriteRequest, WriteResponse, WriteResult, Written, batch_write, concept, put_request::Write,
    write_response::Outcome, write_result,
};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::node::{Node, put_write, reason, register, sibling};
use crate::runtime::tasks;

const ID: &str = "6d0f2c1e-8f54-4d53-a1c7-0f5b6a0f3d55";

fn count(id: &str, delta: i64) -> PutRequest {
    PutRequest {
        write: Some(Write::Counter(CounterChange { delta })),
        return_concept: true,
        request_id: id.into(),
        ..register("notes", "count", "")
    }
}

fn deletion(key: &str, id: &str) -> DeleteRequest {
    DeleteRequest {
        namespace: "notes".into(),
        key: key.into(),
        request_id: id.into(),
        ..DeleteRequest::default()
    }
}

fn total(concept: Option<&Concept>) -> i64 {
    match concept.and_then(|concept| concept.value.as_ref()) {
        Some(concept::Value::Counter(counter)) => counter.total,
        other => panic!("expected a counter, found {other:?}"),
    }
}

async fn counted(node: &Node) -> i64 {
    total(Some(&node.get("notes", "count").await.expect("get")))
}

async fn delete(node: &Node, request: DeleteRequest) -> Result<DeleteResponse, Status> {
    node.client().delete(request).await.map(tonic::Response::into_inner)
}

async fn batch(node: &Node, id: &str, writes: Vec<BatchWrite>) -> Result<BatchResponse, Status> {
    let request_id = id.into();
    let response = node.client().batch(BatchRequest { writes, request_id }).await?;
    Ok(response.into_inner())
}

/// One stream for `chunks`, and their acknowledgements.
async fn write(node: &Node, chunks: Vec<WriteRequest>) -> Vec<WriteResponse> {
    let chunks = tokio_stream::iter(chunks);
    let answers = node.client().write(chunks).await.expect("write").into_inner();
    answers.map(|answer| answer.expect("acknowledged")).collect().await
}

fn written(answer: &WriteResponse) -> &Written {
    match &answer.outcome {
        Some(Outcome::Written(written)) => written,
        other => panic!("expected a durable chunk, found {other:?}"),
    }
}

fn deleted(result: &WriteResult) -> (bool, bool) {
    match &result.result {
        Some(write_result::Result::Delete(response)) => (response.deleted, response.replayed),
        other => panic!("expected a deletion, found {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_sent_again_is_answered_with_the_key_as_it_is_now_also_after_a_restart() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    let first = node.put(count(ID, 5)).await.expect("put");
    assert_eq!((total(first.concept.as_ref()), first.replayed), (5, false));
    node.put(count("", 100)).await.expect("put");
    let again = node.put(count(ID, 5)).await.expect("put");
    assert_eq!((total(again.concept.as_ref()), again.replayed), (105, true));
    assert_eq!(again.clock["node-1"], 2);

    let node = node.restarted().await;
    let again = node.put(count(ID, 5)).await.expect("put");
    assert_eq!((total(again.concept.as_ref()), again.replayed), (105, true));
    node.clock.advance_ms(24 * 60 * 60 * 1_000);
    let anew = node.put(count(ID, 5)).await.expect("put");
    assert_eq!(
        (total(anew.concept.as_ref()), anew.replayed),
        (110, false),
        "a day later"
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sent_at_once_a_write_is_carried_out_once() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    let calls = (0..40).map(|_| {
        let mut client = node.client();
        tasks::spawn(async move { client.put(count(ID, 1)).await.expect("put").into_inner().replayed })
    });
    let mut carried_out = 0;
    for call in calls.collect::<Vec<_>>() {
        carried_out += usize::from(!call.await.expect("no panic"));
    }
    assert_eq!((carried_out, counted(&node).await), (1, 1));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_tells_what_it_did_the_first_time() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    node.put(register("notes", "k", "1")).await.expect("put");
    let there = delete(&node, deletion("k", ID)).await.expect("delete");
    assert_eq!((there.deleted, there.replayed), (true, false));
    node.put(register("notes", "k", "2")).await.expect("put");
    let again = delete(&node, deletion("k", ID)).await.expect("delete");
    assert_eq!((again.deleted, again.replayed), (true, true));
    node.get("notes", "k").await.expect("not deleted again");

    let other = "another id of sufficient length";
    for replayed in [false, true] {
        let absent = delete(&node, deletion("absent", other)).await.expect("delete");
        assert_eq!((absent.deleted, absent.replayed), (false, replayed));
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_and_a_chunk_are_carried_out_once_as_a_whole() {
    let node = Node::with_namespace("notes", Strategy::KeepSiblings).await;
    node.put(count("", 1)).await.expect("put");
    node.put(register("notes", "gone", "1")).await.expect("put");
    let context = node.get("notes", "gone").await.expect("get").context;
    let gone = DeleteRequest {
        context,
        ..deletion("gone", "")
    };
    let writes = || {
        vec![
            put_write(count("", 10)),
            put_write(sibling("notes", "siblings", "1", Vec::new())),
            BatchWrite {
                write: Some(batch_write::Write::Delete(gone.clone())),
            },
        ]
    };
    for replayed in [false, true] {
        let done = batch(&node, ID, writes()).await.expect("batch");
        assert_eq!((done.replayed, done.results.len()), (replayed, 3));
        assert_eq!(deleted(&done.results[2]), (true, replayed));
    }
    assert_eq!(counted(&node).await, 11);
    let siblings = node.get("notes", "siblings").await.expect("get").value;
    let Some(concept::Value::Siblings(siblings)) = siblings else {
        panic!("{siblings:?}")
    };
    assert_eq!(
        siblings.values.len(),
        1,
        "a sibling without a context would have come twice"
    );

    let chunk = |number: u64, return_results| WriteRequest {
        writes: vec![put_write(count("", 100))],
        return_results,
        request_id: format!("chunk {number:>12}"),
    };
    for (round, return_results) in [true, true, false].into_iter().enumerate() {
        // A new stream, as after a break: chunks come again, and a new one behind them.
        let chunks = (0..=round as u64).map(|number| chunk(number, true));
        let last = [
            chunk(9 + round as u64, return_results),
            chunk(9 + round as u64, return_results),
        ];
        let answers = write(&node, chunks.chain(last).collect()).await;
        assert_eq!(answers.len(), round + 3);
        for (index, answer) in answers.iter().enumerate() {
            let told = written(answer);
            assert_eq!((answer.chunk, told.writes), (index as u64, 1));
            assert_eq!(
                told.replayed,
                index < round || index == round + 2,
                "round {round}, {index}"
            );
            let wanted = usize::from(index <= round || return_results);
            assert_eq!(told.results.len(), wanted, "round {round}, {index}");
        }
    }
    assert_eq!(counted(&node).await, 611, "three chunks, and three at the ends");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_are_none_and_ids_of_other_writes_are_refused() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    for id in [
        "short",
        "fifteen bytes..",
        &"x".repeat(65),
        "sixteen bytes..\n",
        "sixteen bytes..é",
    ] {
        let refused = node.put(count(id, 1)).await.expect_err(id);
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::InvalidArgument, "REQUEST_ID_INVALID")
        );
        let details = refused.get_error_details();
        let violations = &details.bad_request().expect("a violation").field_violations;
        assert_eq!(violations[0].field, "request_id");
    }
    for id in ["sixteen bytes...", &"x".repeat(64)] {
        node.put(count(id, 0)).await.expect(id);
    }
    let inside = batch(&node, "", vec![put_write(count("", 1)), put_write(count(ID, 1))]).await;
    let refused = inside.expect_err("a batch has its own");
    assert_eq!(reason(&refused), "REQUEST_ID_IN_BATCH");
    let details = refused.get_error_details();
    let violations = &details.bad_request().expect("a violation").field_violations;
    assert_eq!(violations[0].field, "writes[1].request_id");

    node.put(count(ID, 1)).await.expect("put");
    let reused = [
        node.put(count(ID, 2)).await.expect_err("another move"),
        delete(&node, deletion("count", ID)).await.expect_err("another call"),
        batch(&node, ID, vec![put_write(count("", 1))])
            .await
            .expect_err("a batch"),
    ];
    for refused in reused {
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::InvalidArgument, "REQUEST_ID_REUSED")
        );
    }
    // A chunk that reads byte for byte as a batch does is another call all the same.
    let of_batch = "an id that a batch was given";
    let none = || vec![put_write(count("", 0))];
    batch(&node, of_batch, none()).await.expect("batch");
    for id in [ID, of_batch] {
        let chunk = WriteRequest {
            writes: none(),
            request_id: id.into(),
            ..WriteRequest::default()
        };
        let answers = write(&node, vec![chunk]).await;
        let Some(Outcome::Fault(fault)) = &answers[0].outcome else {
            panic!("{answers:?}")
        };
        assert!(fault.message.contains("another write"), "{fault:?}");
    }
    assert_eq!(counted(&node).await, 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_write_leaves_its_id_free() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    node.put(register("notes", "count", "1")).await.expect("put");
    let refused = node.put(count(ID, 1)).await.expect_err("a register");
    assert_eq!(reason(&refused), "KIND_MISMATCH");
    node.delete("notes", "count", Vec::new()).await.expect("delete");
    assert!(!node.put(count(ID, 1)).await.expect("put").replayed);
    assert!(node.put(count(ID, 1)).await.expect("put").replayed);
    node.stop().await;
}
