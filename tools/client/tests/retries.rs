//! What is asked again, how often, where and under which name, of nodes that do as they are told.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive a real client by the real clock"
)]

mod fake;

use std::{
    collections::{HashMap, HashSet},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use continuum_client::{Changed, Client, Delete, Kind, Namespace, Put, Settings, Transaction, Write};
use fake::Fake;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

fn client(endpoints: &[SocketAddr]) -> Client {
    Client::connect(settings(endpoints)).unwrap()
}

fn settings(endpoints: &[SocketAddr]) -> Settings {
    Settings {
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(4),
        ..Settings::of(endpoints.iter().map(ToString::to_string))
    }
}

fn notes(endpoints: &[SocketAddr]) -> Namespace {
    client(endpoints).namespace("notes")
}

fn status(code: Code, reason: &str, retry: Option<Duration>) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "continuum.v1", HashMap::new());
    if retry.is_some() {
        details.set_retry_info(retry);
    }
    Status::with_error_details(code, reason, details)
}

fn busy() -> Status {
    status(Code::Unavailable, "BUSY", Some(Duration::from_millis(1)))
}

fn stopping() -> Status {
    status(Code::Unavailable, "STOPPING", None)
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    let held = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    held.local_addr().unwrap()
}

#[tokio::test]
async fn a_busy_node_is_asked_again_under_the_same_name() {
    for refusal in [busy(), stopping(), Status::unknown("the connection was reset")] {
        let node = Fake::default();
        node.refuse(3, &refusal);
        let notes = notes(&[node.start().await]);
        notes.put("k", Put::register("1")).await.unwrap();
        notes.put("k", Put::register("1")).await.unwrap();
        let calls = node.calls();
        assert_eq!(calls.len(), 5, "three refusals, two writes");
        let ids: Vec<&str> = calls.iter().map(|(_, id, _)| id.as_str()).collect();
        assert!(ids[..4].iter().all(|id| *id == ids[0] && id.len() == 36), "{ids:?}");
        assert_ne!(ids[3], ids[4], "each write has a name of its own");
        assert!(
            calls.iter().all(|(_, _, limited)| *limited),
            "the node is told the deadline"
        );
    }
}

#[tokio::test]
async fn every_kind_of_write_has_a_name() {
    let node = Fake::default();
    let notes = notes(&[node.start().await]);
    notes.put("k", Put::counter(1)).await.unwrap();
    notes.delete("k", Delete::new()).await.unwrap();
    notes.batch([Write::put("k", Put::counter(1))]).await.unwrap();
    let mut bulk = notes.bulk();
    bulk.send([Write::put("k", Put::counter(1))]).await.unwrap();
    bulk.settle().await.unwrap();
    let mut names: HashSet<String> = node.calls().into_iter().map(|(_, id, _)| id).collect();
    names.remove("");
    names.extend(node.script(|script| script.chunks.clone()));
    assert_eq!(names.len(), 4, "{names:?}");
}

#[tokio::test]
async fn a_write_without_a_name_is_sent_again_only_where_nothing_has_happened() {
    let node = Fake::default();
    let settings = Settings {
        named_writes: false,
        ..settings(&[node.start().await])
    };
    let notes = Client::connect(settings).unwrap().namespace("notes");
    node.refuse(2, &busy());
    notes.put("k", Put::counter(1)).await.unwrap();
    assert_eq!(node.calls().len(), 3);
    for number in 0..4 {
        node.refuse(1, &stopping());
        let error = match number {
            0 => notes.put("k", Put::counter(1)).await.unwrap_err(),
            1 => notes.delete("k", Delete::new()).await.unwrap_err(),
            2 => notes.batch([Write::put("k", Put::counter(1))]).await.unwrap_err(),
            _ => notes.transact(Transaction::new()).await.unwrap_err(),
        };
        assert_eq!(error.changed(), Some(Changed::Perhaps), "{error}");
    }
    let calls = node.calls();
    assert_eq!(calls.len(), 7, "{calls:?}");
    assert!(calls.iter().all(|(_, id, _)| id.is_empty()), "{calls:?}");
}

#[tokio::test]
async fn a_refusal_is_final() {
    let rows = [
        (Code::InvalidArgument, "KEY_LENGTH", Kind::Invalid),
        (Code::FailedPrecondition, "KIND_MISMATCH", Kind::Refused),
        (Code::PermissionDenied, "RESERVED_NAMESPACE", Kind::NotAllowed),
        (Code::Internal, "STORE_FAILED", Kind::Internal),
        (Code::ResourceExhausted, "TOO_MANY_NAMESPACES", Kind::Refused),
        (Code::NotFound, "NAMESPACE_UNKNOWN", Kind::NotFound),
    ];
    for (code, reason, kind) in rows {
        let node = Fake::default();
        node.refuse(1, &status(code, reason, None));
        let error = notes(&[node.start().await])
            .put("k", Put::register("1"))
            .await
            .unwrap_err();
        assert_eq!(*error.kind(), kind);
        assert_eq!(error.reason(), reason);
        assert_eq!(node.calls().len(), 1, "{reason}");
    }
}

#[tokio::test]
async fn nobody_waits_longer_than_the_deadline_allows() {
    let node = Fake::default();
    node.refuse(
        1,
        &status(
            Code::ResourceExhausted,
            "DISK_NEARLY_FULL",
            Some(Duration::from_secs(3_600)),
        ),
    );
    let error = notes(&[node.start().await])
        .put("k", Put::register("1"))
        .await
        .unwrap_err();
    assert_eq!((error.kind(), error.changed()), (&Kind::Busy, Some(Changed::No)));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3_600)));
    assert_eq!(node.calls().len(), 1);
}

#[tokio::test]
async fn a_node_that_never_answers_is_left() {
    let node = Fake::default();
    node.script(|script| script.stuck = true);
    let settings = Settings {
        call_timeout: Duration::from_millis(200),
        ..Settings::of([node.start().await.to_string()])
    };
    let notes = Client::connect(settings).unwrap().namespace("notes");
    let error = notes.put("k", Put::register("1")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.changed()),
        (&Kind::OutOfTime, Some(Changed::Perhaps))
    );
    let error = notes.get("k").await.unwrap_err();
    assert_eq!((error.kind(), error.changed()), (&Kind::OutOfTime, None));
}

#[tokio::test]
async fn the_next_endpoint_is_asked_where_one_cannot_be_reached() {
    let node = Fake::default();
    let notes = notes(&[nobody(), nobody(), node.start().await]);
    notes.put("k", Put::register("1")).await.unwrap();
    notes.put("k", Put::register("2")).await.unwrap();
    assert_eq!(node.calls().len(), 2);
}

#[tokio::test]
async fn that_nobody_is_there_is_told() {
    let settings = Settings {
        unreachable_rounds_max: 2,
        ..Settings::of([nobody().to_string()])
    };
    let error = Client::connect(settings)
        .unwrap()
        .namespace("notes")
        .put("k", Put::counter(1))
        .await
        .unwrap_err();
    assert_eq!((error.kind(), error.changed()), (&Kind::Unreachable, Some(Changed::No)));
    assert!(error.message().contains("refused"), "{error}");
}

#[tokio::test]
async fn reads_go_elsewhere_and_writes_of_unknown_outcome_stay() {
    let (first, second) = (Fake::default(), Fake::default());
    let notes = notes(&[first.start().await, second.start().await]);
    first.refuse(2, &stopping());
    notes.put("k", Put::counter(1)).await.unwrap();
    assert_eq!(
        (first.calls().len(), second.calls().len()),
        (3, 0),
        "another node does not know the name"
    );
    first.refuse(1, &stopping());
    let absent = notes.get("k").await.unwrap_err();
    assert_eq!(*absent.kind(), Kind::NotFound);
    assert_eq!((first.calls().len(), second.calls().len()), (4, 1));
}
