//! Batch: all or nothing, in order; and conditions, in batches and alone.

use prost::Message;
use proto::v1::{
    BatchWrite, ConditionFailure, CounterChange, DeleteRequest, PutRequest, SetChange, Strategy, WriteResult,
    batch_write, concept, put_request::Write, write_result,
};
use tonic::{Code, Status};
use tonic_types::{StatusExt, pb};

use super::node::{Node, batch, clock_of, put_write, reason, register, sibling};

pub(super) fn delete_write(namespace: &str, key: &str) -> BatchWrite {
    let request = DeleteRequest {
        namespace: namespace.into(),
        key: key.into(),
        ..DeleteRequest::default()
    };
    BatchWrite {
        write: Some(batch_write::Write::Delete(request)),
    }
}

pub(super) fn if_context(request: PutRequest, context: &[u8]) -> PutRequest {
    PutRequest {
        if_context: Some(context.to_vec()),
        ..request
    }
}

async fn json(node: &Node, key: &str) -> Option<String> {
    match node.get("notes", key).await.ok()?.value {
        Some(concept::Value::Register(value)) => Some(value.json),
        other => panic!("expected a register, found {other:?}"),
    }
}

fn deleted(result: &WriteResult) -> bool {
    match &result.result {
        Some(write_result::Result::Delete(response)) => response.deleted,
        other => panic!("expected a deletion, found {other:?}"),
    }
}

/// Which write is to blame, as programs read it.
pub(super) fn blamed(status: &Status) -> String {
    let details = status.get_error_details();
    details.error_info().expect("always there").metadata["write"].clone()
}

pub(super) fn condition_failure(status: &Status) -> ConditionFailure {
    let whole = pb::Status::decode(status.details()).expect("a google.rpc.Status");
    let ours = whole
        .details
        .iter()
        .find(|any| any.type_url.ends_with("/continuum.v1.ConditionFailure"))
        .unwrap_or_else(|| panic!("no ConditionFailure in {status:?}"));
    ConditionFailure::decode(ours.value.as_slice()).expect("a ConditionFailure")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_writes_all_kinds_over_several_namespaces_in_one_record() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    node.create("other", Strategy::KeepSiblings).await;
    node.put(register("notes", "old", "0")).await.expect("put");
    let before = *node.engine.committed().borrow();

    let set = PutRequest {
        write: Some(Write::Set(SetChange {
            add: vec!["1".into()],
            remove: Vec::new(),
        })),
        ..register("other", "set", "")
    };
    let counter = PutRequest {
        write: Some(Write::Counter(CounterChange { delta: 5 })),
        return_concept: true,
        ..register("other", "counter", "")
    };
    let writes = vec![
        put_write(register("notes", "new", "1")),
        delete_write("notes", "old"),
        put_write(set),
        put_write(counter),
        put_write(sibling("other", "siblings", "2", Vec::new())),
        delete_write("notes", "never"),
    ];
    let results = batch(&node, writes).await.expect("batch");

    assert_eq!(
        node.engine.committed().borrow().0,
        before.0 + 1,
        "one record of the log"
    );
    assert_eq!(results.len(), 6);
    let Some(write_result::Result::Put(first)) = &results[0].result else {
        panic!("a put, found {:?}", results[0])
    };
    assert_eq!((&first.clock, &first.concept), (&clock_of(&[("node-1", 2)]), &None));
    assert!(deleted(&results[1]) && !deleted(&results[5]));
    let Some(write_result::Result::Put(counted)) = &results[3].result else {
        panic!("a put, found {:?}", results[3])
    };
    let concept = counted.concept.as_ref().expect("asked for");
    assert_eq!(
        concept.value,
        Some(concept::Value::Counter(proto::v1::Counter { total: 5 }))
    );
    assert_eq!(
        (json(&node, "new").await.as_deref(), json(&node, "old").await),
        (Some("1"), None)
    );
    node.get("other", "siblings").await.expect("get");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_of_one_key_see_each_other_in_order() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    let writes = vec![
        put_write(register("notes", "k", "1")),
        put_write(register("notes", "k", "2")),
        delete_write("notes", "gone"),
        put_write(register("notes", "gone", "1")),
        delete_write("notes", "gone"),
        delete_write("notes", "gone"),
    ];
    let results = batch(&node, writes).await.expect("batch");
    assert_eq!(json(&node, "k").await.as_deref(), Some("2"));
    assert_eq!(json(&node, "gone").await, None, "the deletion sees the put before it");
    let seen: Vec<bool> = [2, 4, 5].map(|index: usize| deleted(&results[index])).to_vec();
    assert_eq!(seen, [false, true, false]);

    // A type is a type within a batch too.
    let counter = PutRequest {
        write: Some(Write::Counter(CounterChange { delta: 5 })),
        ..register("notes", "fresh", "")
    };
    let mixed = vec![put_write(register("notes", "fresh", "1")), put_write(counter)];
    let refused = batch(&node, mixed).await.expect_err("two types");
    assert_eq!(
        (reason(&refused).as_str(), blamed(&refused).as_str()),
        ("KIND_MISMATCH", "1")
    );
    assert_eq!(json(&node, "fresh").await, None);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_refused_batch_happens_and_the_write_to_blame_is_named() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    node.create("drafts", Strategy::KeepSiblings).await;
    node.put(register("drafts", "k", "1")).await.expect("put");
    let before = *node.engine.committed().borrow();
    let good = || put_write(register("notes", "good", "1"));
    let cases = [
        (put_write(register("notes", "", "1")), "KEY_LENGTH", "writes[1].key"),
        (
            put_write(register("notes", "k", "{")),
            "JSON_MALFORMED",
            "writes[1].register",
        ),
        (
            put_write(register("Notes", "k", "1")),
            "NAMESPACE_NAME",
            "writes[1].namespace",
        ),
        (BatchWrite { write: None }, "WRITE_MISSING", "writes[1].write"),
        (delete_write("drafts", "k"), "CONTEXT_REQUIRED", "writes[1].context"),
    ];
    for (bad, expected, field) in cases {
        let refused = batch(&node, vec![good(), bad, good()]).await.expect_err(expected);
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert_eq!((reason(&refused).as_str(), blamed(&refused).as_str()), (expected, "1"));
        let details = refused.get_error_details();
        let violation = &details.bad_request().expect("a violation").field_violations[0];
        assert_eq!(violation.field, field);
        assert!(refused.message().starts_with("writes[1]: "), "{}", refused.message());
    }
    let unknown = batch(&node, vec![good(), put_write(register("nowhere", "k", "1"))]).await;
    assert_eq!(reason(&unknown.expect_err("unknown")), "NAMESPACE_UNKNOWN");
    for (count, expected) in [(0, "BATCH_EMPTY"), (1_001, "BATCH_WRITES")] {
        let refused = batch(&node, (0..count).map(|_| good()).collect())
            .await
            .expect_err(expected);
        assert_eq!(reason(&refused), expected);
    }
    batch(&node, (0..1_000).map(|_| delete_write("notes", "good")).collect())
        .await
        .expect("a thousand");
    assert_eq!(*node.engine.committed().borrow(), before, "nothing was written");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_would_write_too_much_is_refused_before_it_fills_memory() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    let large = format!("\"{}\"", "x".repeat(60_000));
    let element = |number: usize| large.replacen('x', &format!("{number:05}"), 1);
    let change = |add: Vec<String>| {
        put_write(PutRequest {
            write: Some(Write::Set(SetChange {
                add,
                remove: Vec::new(),
            })),
            ..register("notes", "set", "")
        })
    };
    batch(&node, vec![change((0..16).map(element).collect())])
        .await
        .expect("a large set");
    let small = |number: usize| change(vec![number.to_string()]);
    let refused = batch(&node, (0..200).map(small).collect()).await.expect_err("200 MB");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::InvalidArgument, "BATCH_TOO_LARGE")
    );
    batch(&node, (0..4).map(small).collect()).await.expect("4 MB");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_created_once() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    let create = |json: &str| if_context(register("notes", "k", json), b"");
    node.put(create("1")).await.expect("nothing is there");
    let refused = node.put(create("2")).await.expect_err("something is");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "CONDITION_FAILED")
    );
    let found = condition_failure(&refused);
    assert!(found.exists && found.write == 0);
    assert_eq!(json(&node, "k").await.as_deref(), Some("1"));

    // The context it brings is the way on.
    let context = found.context.expect("short");
    node.put(if_context(register("notes", "k", "3"), &context))
        .await
        .expect("as it was found");
    let late = node
        .put(if_context(register("notes", "k", "4"), &context))
        .await
        .expect_err("written since");
    assert_eq!(reason(&late), "CONDITION_FAILED");
    assert_eq!(json(&node, "k").await.as_deref(), Some("3"));

    // What is deleted or expired may be created again; a context from before the deletion is of no use.
    let read = node.get("notes", "k").await.expect("get").context;
    node.delete("notes", "k", Vec::new()).await.expect("delete");
    let stale = node
        .put(if_context(register("notes", "k", "5"), &read))
        .await
        .expect_err("deleted since");
    assert!(!condition_failure(&stale).exists);
    node.put(PutRequest {
        ttl: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..create("6")
    })
    .await
    .expect("deleted");
    node.clock.advance_ms(60_001);
    node.put(create("7")).await.expect("expired");
    assert_eq!(json(&node, "k").await.as_deref(), Some("7"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_read_the_same_one_writes() {
    let node = Node::with_namespace("notes", Strategy::KeepSiblings).await;
    node.put(register("notes", "k", "0")).await.expect("put");
    let context = node.get("notes", "k").await.expect("get").context;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..50 {
        let (mut client, context) = (node.client(), context.clone());
        writers.spawn(async move {
            let request = if_context(register("notes", "k", &writer.to_string()), &context);
            client.put(request).await.map(|_| writer)
        });
    }
    let mut winners = Vec::new();
    while let Some(written) = writers.join_next().await {
        match written.expect("no panic") {
            Ok(writer) => winners.push(writer),
            Err(refused) => assert_eq!(reason(&refused), "CONDITION_FAILED"),
        }
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(json(&node, "k").await, Some(winners[0].to_string()));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_have_conditions_too() {
    let node = Node::with_namespace("notes", Strategy::KeepSiblings).await;
    node.put(register("notes", "k", "1")).await.expect("put");
    let early = node.get("notes", "k").await.expect("get").context;
    node.put(register("notes", "k", "2")).await.expect("put");
    let delete = |if_context: &[u8]| DeleteRequest {
        namespace: "notes".into(),
        key: "k".into(),
        if_context: Some(if_context.to_vec()),
        ..DeleteRequest::default()
    };
    let refused = node.client().delete(delete(&early)).await.expect_err("written since");
    let found = condition_failure(&refused);
    let answer = node
        .client()
        .delete(delete(&found.context.expect("short")))
        .await
        .expect("delete");
    assert!(answer.into_inner().deleted);
    let answer = node.client().delete(delete(b"")).await.expect("nothing is there");
    assert!(!answer.into_inner().deleted);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failed_condition_refuses_the_whole_batch() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    node.put(register("notes", "a", "1")).await.expect("put");
    node.put(register("notes", "b", "1")).await.expect("put");
    let read = node.get("notes", "a").await.expect("get").context;
    let writes = |a: &[u8], b: &[u8]| {
        vec![
            put_write(register("notes", "c", "2")),
            put_write(if_context(register("notes", "a", "2"), a)),
            put_write(if_context(register("notes", "b", "2"), b)),
        ]
    };
    let refused = batch(&node, writes(&read, b"")).await.expect_err("b is there");
    assert_eq!(
        (refused.code(), reason(&refused).as_str(), blamed(&refused).as_str()),
        (Code::FailedPrecondition, "CONDITION_FAILED", "2")
    );
    let found = condition_failure(&refused);
    assert_eq!((found.write, found.exists), (2, true));
    assert_eq!(json(&node, "a").await.as_deref(), Some("1"));
    assert_eq!(json(&node, "c").await, None);
    batch(&node, writes(&read, &found.context.expect("short")))
        .await
        .expect("all hold");
    assert_eq!(json(&node, "b").await.as_deref(), Some("2"));

    // All are compared with the state before the batch, wherever they stand.
    let twice = vec![
        put_write(if_context(register("notes", "new", "1"), b"")),
        put_write(if_context(register("notes", "new", "2"), b"")),
    ];
    batch(&node, twice).await.expect("it was not there before");
    assert_eq!(json(&node, "new").await.as_deref(), Some("2"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expected_contexts_are_checked_like_contexts() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    node.put(register("notes", "a", "1")).await.expect("put");
    let context = node.get("notes", "a").await.expect("get").context;
    let foreign = node
        .put(if_context(register("notes", "b", "1"), &context))
        .await
        .expect_err("of another key");
    assert_eq!(reason(&foreign), "TOKEN_INVALID");
    let details = foreign.get_error_details();
    assert_eq!(
        details.bad_request().expect("a violation").field_violations[0].field,
        "if_context"
    );
    let both = PutRequest {
        context: context.clone(),
        ..if_context(register("notes", "a", "1"), &context)
    };
    assert_eq!(reason(&node.put(both).await.expect_err("both")), "CONTEXT_TWICE");
    node.stop().await;
}
