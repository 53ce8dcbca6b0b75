//! What is refused, with the details that tell the caller what to do.

use proto::v1::{CounterChange, ListRequest, PutRequest, SetChange, Strategy, put_request::Write};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::node::{Node, reason, register};

fn violated(status: &Status) -> String {
    let details = status.get_error_details();
    details.bad_request().expect("a field violation").field_violations[0]
        .field
        .clone()
}

fn assert_invalid(status: &Status, expected_reason: &str, field: &str) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert_eq!(
        (reason(status).as_str(), violated(status).as_str()),
        (expected_reason, field)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_1_to_1024_bytes() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    node.put(register("notes", &"k".repeat(1024), "1"))
        .await
        .expect("1024 bytes");
    for key in [String::new(), "k".repeat(1025), "é".repeat(513)] {
        assert_invalid(
            &node.put(register("notes", &key, "1")).await.expect_err("put"),
            "KEY_LENGTH",
            "key",
        );
        assert_invalid(&node.get("notes", &key).await.expect_err("get"), "KEY_LENGTH", "key");
        assert_invalid(
            &node.delete("notes", &key, Vec::new()).await.expect_err("delete"),
            "KEY_LENGTH",
            "key",
        );
    }
    let list = ListRequest {
        namespace: "notes".into(),
        prefix: "k".repeat(1025),
        ..ListRequest::default()
    };
    assert_invalid(
        &node.client().list(list).await.expect_err("list"),
        "KEY_LENGTH",
        "prefix",
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_json_is_refused_and_names_its_field() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let sized = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    for good in [nested(64), sized(64 * 1024)] {
        node.put(register("notes", "k", &good)).await.expect("at the limit");
    }
    let cases = [
        (String::new(), "JSON_MALFORMED"),
        ("NaN".into(), "JSON_MALFORMED"),
        ("1e400".into(), "JSON_MALFORMED"),
        (r#""\ud800""#.into(), "JSON_MALFORMED"),
        (r#"{"a":1,"a":2}"#.into(), "JSON_MALFORMED"),
        (r#""\u0000""#.into(), "JSON_MALFORMED"),
        ("1 2".into(), "JSON_MALFORMED"),
        (nested(65), "JSON_DEPTH"),
        (nested(900), "JSON_MALFORMED"),
        (sized(64 * 1024 + 1), "JSON_SIZE"),
    ];
    for (json, expected) in cases {
        assert_invalid(
            &node.put(register("notes", "k", &json)).await.expect_err("register"),
            expected,
            "register",
        );
        let set = Write::Set(SetChange {
            add: vec!["1".into(), json],
            remove: Vec::new(),
        });
        let put = PutRequest {
            write: Some(set),
            ..register("notes", "set", "")
        };
        assert_invalid(&node.put(put).await.expect_err("set"), expected, "set.add");
    }
    node.get("notes", "set")
        .await
        .expect_err("nothing of a refused change was kept");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_must_say_what_it_writes() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    let nothing = PutRequest {
        write: None,
        ..register("notes", "k", "")
    };
    assert_invalid(&node.put(nothing).await.expect_err("nothing"), "WRITE_MISSING", "write");
    let empty = PutRequest {
        write: Some(Write::Set(SetChange::default())),
        ..register("notes", "k", "")
    };
    assert_invalid(&node.put(empty).await.expect_err("empty"), "SET_CHANGE_EMPTY", "set");
    for (seconds, nanos) in [(0, 0), (-1, 0), (1, -1), (0, 1_000_000_000), (i64::MAX, 0)] {
        let ttl = Some(prost_types::Duration { seconds, nanos });
        assert_invalid(
            &node
                .put(PutRequest {
                    ttl,
                    ..register("notes", "k", "1")
                })
                .await
                .expect_err("ttl"),
            "TTL_RANGE",
            "ttl",
        );
    }
    let counter = PutRequest {
        write: Some(Write::Counter(CounterChange { delta: 1 })),
        ttl: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..register("notes", "k", "")
    };
    assert_invalid(
        &node.put(counter).await.expect_err("a counter does not expire"),
        "TTL_KIND",
        "ttl",
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_messages_have_a_largest_size() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    let list = |page_size| ListRequest {
        namespace: "notes".into(),
        page_size,
        ..ListRequest::default()
    };
    node.client().list(list(1000)).await.expect("1000");
    assert_invalid(
        &node.client().list(list(1001)).await.expect_err("1001"),
        "PAGE_SIZE",
        "page_size",
    );
    let large = PutRequest {
        context: vec![0; super::super::REQUEST_BYTES_MAX],
        ..register("notes", "k", "1")
    };
    assert_eq!(node.put(large).await.expect_err("too large").code(), Code::OutOfRange);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_grew_too_large_can_still_be_replaced() {
    let node = Node::with_namespace("drafts", Strategy::KeepSiblings).await;
    let large = format!("\"{}\"", "x".repeat(64 * 1024 - 2));
    let refused = loop {
        if let Err(refused) = node.put(register("drafts", "k", &large)).await {
            break refused;
        }
    };
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "CONCEPT_TOO_LARGE")
    );
    let context = node.get("drafts", "k").await.expect("get").context;
    node.put(PutRequest {
        context,
        ..register("drafts", "k", &large)
    })
    .await
    .expect("put");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_must_exist_and_have_a_plain_name() {
    let node = Node::start().await;
    let unknown = node.put(register("nowhere", "k", "1")).await.expect_err("unknown");
    assert_eq!(
        (unknown.code(), reason(&unknown).as_str()),
        (Code::NotFound, "NAMESPACE_UNKNOWN")
    );
    for name in ["", "Notes", "-a", ".a", "a b", "a/b", "a\0", "é", &"a".repeat(64)] {
        assert_invalid(
            &node.get(name, "k").await.expect_err("a name"),
            "NAMESPACE_NAME",
            "namespace",
        );
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_a_stopped_engine_say_that_the_outcome_is_unknown() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    node.engine.close().expect("close");
    let stopped = node.put(register("notes", "k", "1")).await.expect_err("stopped");
    assert_eq!(
        (stopped.code(), reason(&stopped).as_str()),
        (Code::Unavailable, "ENGINE_STOPPED")
    );
    assert!(stopped.get_error_details().retry_info().is_none());
}
