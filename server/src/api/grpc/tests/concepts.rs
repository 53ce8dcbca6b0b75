//! Put, Get, Delete and List as a client meets them.

use proto::v1::{
    CounterChange, DeleteRequest, GetRequest, ListRequest, PutRequest, SetChange, Strategy, Value, concept,
    put_request::Write,
};
use tonic::Code;

use super::node::{Node, clock_of, reason, register, sibling};

fn json(value: Option<concept::Value>) -> String {
    match value {
        Some(concept::Value::Register(Value { json, .. })) => json,
        other => panic!("expected a register, found {other:?}"),
    }
}

fn texts(value: Option<concept::Value>) -> Vec<String> {
    match value {
        Some(concept::Value::Siblings(siblings)) => siblings.values.into_iter().map(|value| value.json).collect(),
        other => panic!("expected siblings, found {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_register_is_read_as_it_was_written_until_it_is_deleted() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    let sent = r#"{ "b": 1.0,  "a": 100000000000000000001 }"#;
    let put = node
        .put(PutRequest {
            return_concept: true,
            ..register("notes", "k", sent)
        })
        .await
        .expect("put");
    assert_eq!(put.clock, clock_of(&[("node-1", 1)]));
    assert_eq!(
        json(put.concept.expect("asked for").value),
        sent,
        "number text, key order and spacing stay"
    );

    node.put(register("notes", "k", "2"))
        .await
        .expect("the second replaces the first");
    let read = node.get("notes", "k").await.expect("get");
    assert_eq!(read.clock, clock_of(&[("node-1", 2)]));
    let Some(concept::Value::Register(value)) = read.value else {
        panic!("a register")
    };
    assert_eq!((value.json.as_str(), value.written_by.as_str()), ("2", "node-1"));
    assert!(value.written_at.is_some() && value.expires_at.is_none());

    let deleted = node.delete("notes", "k", Vec::new()).await.expect("delete");
    assert!(deleted.deleted);
    assert_eq!(deleted.clock, clock_of(&[("node-1", 3)]));
    let absent = node.get("notes", "k").await.expect_err("deleted");
    assert_eq!(
        (absent.code(), reason(&absent).as_str()),
        (Code::NotFound, "CONCEPT_ABSENT")
    );
    assert!(!node.delete("notes", "k", Vec::new()).await.expect("again").deleted);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn siblings_are_all_returned_and_their_context_collapses_them() {
    let node = Node::with_namespace("drafts", Strategy::LastWriteWins).await;
    node.put(sibling("drafts", "k", "\"one\"", Vec::new()))
        .await
        .expect("put");
    let early = node.get("drafts", "k").await.expect("get").context;
    node.put(sibling("drafts", "k", "\"two\"", Vec::new()))
        .await
        .expect("no context: concurrent");
    assert_eq!(
        texts(node.get("drafts", "k").await.expect("get").value),
        ["\"two\"", "\"one\""]
    );

    let replaced = node
        .put(PutRequest {
            return_concept: true,
            ..sibling("drafts", "k", "\"three\"", early)
        })
        .await
        .expect("put");
    let concept = replaced.concept.expect("asked for");
    assert_eq!(
        texts(concept.value),
        ["\"three\"", "\"two\""],
        "only what was read is replaced"
    );
    node.put(sibling("drafts", "k", "\"four\"", concept.context))
        .await
        .expect("put");
    let read = node.get("drafts", "k").await.expect("get");
    assert_eq!(texts(read.value), ["\"four\""]);

    let blind = node
        .delete("drafts", "k", Vec::new())
        .await
        .expect_err("values must not vanish unread");
    assert_eq!(
        (blind.code(), reason(&blind).as_str()),
        (Code::InvalidArgument, "CONTEXT_REQUIRED")
    );
    assert!(node.delete("drafts", "k", read.context).await.expect("delete").deleted);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_65th_sibling_is_refused_with_the_way_out() {
    let node = Node::with_namespace("drafts", Strategy::KeepSiblings).await;
    for number in 0..64 {
        node.put(register("drafts", "k", &number.to_string()))
            .await
            .expect("put");
    }
    let refused = node.put(register("drafts", "k", "64")).await.expect_err("too many");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "TOO_MANY_SIBLINGS")
    );
    let read = node.get("drafts", "k").await.expect("get");
    assert_eq!(texts(read.value).len(), 64);
    node.put(PutRequest {
        context: read.context,
        ..register("drafts", "k", "64")
    })
    .await
    .expect("put");
    assert_eq!(json(node.get("drafts", "k").await.expect("get").value), "64");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_strategy_is_applied_at_read_time() {
    let node = Node::with_namespace("facts", Strategy::MergeUnion).await;
    node.put(register("facts", "k", r#"{"a":[1],"c":"old"}"#))
        .await
        .expect("put");
    node.put(register("facts", "k", r#"{"a":[2],"c":"new"}"#))
        .await
        .expect("put");
    assert_eq!(
        json(node.get("facts", "k").await.expect("get").value),
        r#"{"a":[1,2],"c":"new"}"#
    );
    node.set_policy("facts", Strategy::LastWriteWins).await.expect("policy");
    assert_eq!(
        json(node.get("facts", "k").await.expect("get").value),
        r#"{"a":[2],"c":"new"}"#
    );
    node.set_policy("facts", Strategy::KeepSiblings).await.expect("policy");
    assert_eq!(texts(node.get("facts", "k").await.expect("get").value).len(), 2);
    node.stop().await;
}

fn change(add: &[&str], remove: &[&str]) -> PutRequest {
    let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    let write = Write::Set(SetChange {
        add: owned(add),
        remove: owned(remove),
    });
    PutRequest {
        namespace: "tags".into(),
        key: "k".into(),
        write: Some(write),
        ..PutRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_takes_and_loses_elements() {
    let node = Node::with_namespace("tags", Strategy::LastWriteWins).await;
    let elements = async |node: &Node| match node.get("tags", "k").await.expect("get").value {
        Some(concept::Value::Set(set)) => set.elements,
        other => panic!("expected a set, found {other:?}"),
    };
    node.put(change(&[r#"{"b":1, "a":2}"#, "1.0", "1"], &[]))
        .await
        .expect("put");
    assert_eq!(elements(&node).await, ["1", r#"{"a":2,"b":1}"#], "canonical, each once");
    let context = node.get("tags", "k").await.expect("get").context;
    node.put(change(&["\"late\""], &[])).await.expect("put");
    node.put(PutRequest {
        context,
        ..change(&[], &["\"late\"", "1e0"])
    })
    .await
    .expect("put");
    assert_eq!(
        elements(&node).await,
        ["\"late\"", r#"{"a":2,"b":1}"#],
        "the context had not seen the late one"
    );
    let mismatch = node
        .put(register("tags", "k", "1"))
        .await
        .expect_err("a set stays a set");
    assert_eq!(
        (mismatch.code(), reason(&mismatch).as_str()),
        (Code::FailedPrecondition, "KIND_MISMATCH")
    );
    node.stop().await;
}

fn add(delta: i64) -> PutRequest {
    let write = Write::Counter(CounterChange { delta });
    PutRequest {
        namespace: "counts".into(),
        key: "k".into(),
        write: Some(write),
        return_concept: true,
        ..PutRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_goes_both_ways_and_stays_in_range() {
    let node = Node::with_namespace("counts", Strategy::LastWriteWins).await;
    for delta in [5, -7, i64::MIN + 2] {
        node.put(add(delta)).await.expect("put");
    }
    let read = node.get("counts", "k").await.expect("get").value;
    assert_eq!(
        read,
        Some(concept::Value::Counter(proto::v1::Counter { total: i64::MIN }))
    );
    let refused = node.put(add(-1)).await.expect_err("out of range");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::OutOfRange, "COUNTER_OVERFLOW")
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_additions_all_count() {
    let node = Node::with_namespace("counts", Strategy::LastWriteWins).await;
    let calls = (0..200).map(|_| node.put(add(1)));
    for outcome in futures_of(calls).await {
        outcome.expect("put");
    }
    let read = node.get("counts", "k").await.expect("get").value;
    assert_eq!(read, Some(concept::Value::Counter(proto::v1::Counter { total: 200 })));
    node.stop().await;
}

/// All at once, without another crate.
async fn futures_of<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, outcome) in &mut pending {
            if outcome.is_none()
                && let std::task::Poll::Ready(ready) = future.as_mut().poll(context)
            {
                *outcome = Some(ready);
            }
        }
        if pending.iter().all(|(_, outcome)| outcome.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    pending.into_iter().filter_map(|(_, outcome)| outcome).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_value_is_gone_from_get_and_list() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    let ttl = prost_types::Duration { seconds: 60, nanos: 0 };
    node.put(PutRequest {
        ttl: Some(ttl),
        ..register("notes", "short", "1")
    })
    .await
    .expect("put");
    node.put(register("notes", "stays", "1")).await.expect("put");
    let Some(concept::Value::Register(value)) = node.get("notes", "short").await.expect("alive").value else {
        panic!("a register")
    };
    let (written, expires) = (
        value.written_at.expect("always"),
        value.expires_at.expect("it has a ttl"),
    );
    assert_eq!(expires.seconds - written.seconds, 60);
    node.clock.advance_ms(60_001);
    assert_eq!(
        node.get("notes", "short").await.expect_err("expired").code(),
        Code::NotFound
    );
    let (keys, _) = node
        .list_keys(ListRequest {
            namespace: "notes".into(),
            ..ListRequest::default()
        })
        .await;
    assert_eq!(keys, ["stays"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_walk_a_prefix_in_order_and_end() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    node.create("other", Strategy::LastWriteWins).await;
    for number in 0..25 {
        node.put(register("notes", &format!("a/{number:02}"), "1"))
            .await
            .expect("put");
    }
    node.put(register("notes", "b", "1")).await.expect("put");
    node.put(register("other", "a/99", "1")).await.expect("put");
    node.delete("notes", "a/07", Vec::new()).await.expect("delete");

    let first = ListRequest {
        namespace: "notes".into(),
        prefix: "a/".into(),
        page_size: 10,
        ..ListRequest::default()
    };
    let (mut keys, mut token) = node.list_keys(first.clone()).await;
    assert_eq!(keys.len(), 10);
    let mut pages = 1;
    while !token.is_empty() {
        let (more, next) = node
            .list_keys(ListRequest {
                page_token: token,
                ..first.clone()
            })
            .await;
        keys.extend(more);
        token = next;
        pages += 1;
    }
    let expected: Vec<String> = (0..25)
        .filter(|number| *number != 7)
        .map(|number| format!("a/{number:02}"))
        .collect();
    assert_eq!((keys, pages), (expected, 3));

    let (exact, token) = node.list_keys(ListRequest { page_size: 24, ..first }).await;
    assert_eq!((exact.len(), token.len()), (24, 0), "no empty page after an exact one");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_stays_within_what_clients_accept() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    let large = format!("\"{}\"", "x".repeat(60 * 1024));
    for number in 0..80 {
        node.put(register("notes", &format!("{number:02}"), &large))
            .await
            .expect("put");
    }
    let mut request = ListRequest {
        namespace: "notes".into(),
        page_size: 1000,
        ..ListRequest::default()
    };
    let mut sizes = Vec::new();
    loop {
        let (keys, token) = node.list_keys(request.clone()).await;
        sizes.push(keys.len());
        if token.is_empty() {
            break;
        }
        request.page_token = token;
    }
    assert_eq!(sizes.iter().sum::<usize>(), 80);
    assert!(sizes.len() > 2, "4.8 MB come in pages of at most 2 MiB: {sizes:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contexts_and_concepts_outlive_a_restart() {
    let node = Node::with_namespace("drafts", Strategy::KeepSiblings).await;
    node.put(register("drafts", "k", "1")).await.expect("put");
    let context = node.get("drafts", "k").await.expect("get").context;
    let node = node.restarted().await;
    node.put(PutRequest {
        context,
        ..register("drafts", "k", "2")
    })
    .await
    .expect("the token is still good");
    let read = node
        .client()
        .get(GetRequest {
            namespace: "drafts".into(),
            key: "k".into(),
            ..GetRequest::default()
        })
        .await
        .expect("get");
    assert_eq!(json(read.into_inner().concept.expect("present").value), "2");
    let gone = DeleteRequest {
        namespace: "drafts".into(),
        key: "never".into(),
        ..DeleteRequest::default()
    };
    assert!(!node.client().delete(gone).await.expect("no error").into_inner().deleted);
    node.stop().await;
}
