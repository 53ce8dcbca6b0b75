//! Namespaces with `replication = consensus`: one winner, one order, one outcome, and what they refuse.

use std::collections::{BTreeMap, BTreeSet};

use proto::v1::{
    BatchRequest, Concept, CreateNamespaceRequest, DeleteRequest, DeleteResponse, ExportStatesRequest, GetManyRequest,
    GetRequest, GetResponse, ListRequest, PutRequest, Replication, ScanRequest, SetChange, SetPolicyRequest, Strategy,
    TransactRequest, WriteRequest, concept, put_request::Write, write_response::Outcome, write_result,
};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};

use super::{
    batch::{blamed, condition_failure, delete_write, if_context},
    node::{Node, put_write, reason, register},
    transact::{get_action, put_action, transact, transaction},
    watch::{Watching, watching},
};
use crate::runtime::tasks;

const ID: &str = "6d0f2c1e-8f54-4d53-a1c7-0f5b6a0f3d55";

/// A node with the namespaces `notes`, of consensus, and `mesh`.
pub(super) async fn node() -> Node {
    let node = Node::start().await;
    create(&node, "notes", Replication::Consensus, Strategy::Unspecified)
        .await
        .expect("create");
    node.create("mesh", Strategy::LastWriteWins).await;
    node
}

async fn create(node: &Node, name: &str, replication: Replication, strategy: Strategy) -> Result<(), Status> {
    let request = CreateNamespaceRequest {
        name: name.into(),
        replication: replication.into(),
        strategy: strategy.into(),
    };
    node.namespaces().create(request).await.map(drop)
}

async fn read(node: &Node, key: &str, stale_ok: bool) -> Result<GetResponse, Status> {
    let request = GetRequest {
        namespace: "notes".into(),
        key: key.into(),
        stale_ok,
    };
    node.client().get(request).await.map(tonic::Response::into_inner)
}

pub(super) async fn held(node: &Node, key: &str) -> Option<Concept> {
    match read(node, key, false).await {
        Ok(found) => found.concept,
        Err(absent) => {
            assert_eq!(reason(&absent), "CONCEPT_ABSENT");
            None
        }
    }
}

pub(super) fn json(concept: &Concept) -> &str {
    match &concept.value {
        Some(concept::Value::Register(value)) => &value.json,
        other => panic!("expected a register, found {other:?}"),
    }
}

pub(super) async fn value(node: &Node, key: &str) -> Option<String> {
    held(node, key).await.map(|concept| json(&concept).to_owned())
}

pub(super) async fn put(node: &Node, key: &str, json: &str) -> u64 {
    node.put(register("notes", key, json)).await.expect("put").revision
}

async fn delete(node: &Node, key: &str, expected: Option<Vec<u8>>, id: &str) -> Result<DeleteResponse, Status> {
    let request = DeleteRequest {
        namespace: "notes".into(),
        key: key.into(),
        if_context: expected,
        request_id: id.into(),
        ..DeleteRequest::default()
    };
    node.client().delete(request).await.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_revisions_and_reads_say_their_index() {
    let node = node().await;
    let first = put(&node, "k", "{\"a\": 1.0}").await;
    let found = read(&node, "k", false).await.expect("get");
    let concept = found.concept.expect("always there");
    assert_eq!(json(&concept), "{\"a\": 1.0}", "as sent");
    assert_eq!(
        (concept.revision, concept.created_revision, concept.version),
        (first, first, 1)
    );
    assert!(concept.clock.is_empty() && !concept.context.is_empty());
    assert!(found.index > 0);

    let with_concept = PutRequest {
        return_concept: true,
        ..register("notes", "k", "2")
    };
    let second = node.put(with_concept).await.expect("put");
    let returned = second.concept.expect("asked for");
    assert_eq!(held(&node, "k").await, Some(returned), "as a read tells it");
    assert_eq!(second.revision, first + 1);
    let later = read(&node, "k", false).await.expect("get");
    assert!(later.index > found.index, "the put is in the log");
    let stale = read(&node, "k", true).await.expect("get");
    assert!(stale.index >= later.index, "alone, a node is never behind");
    assert_eq!(stale.concept, later.concept);

    let gone = delete(&node, "k", None, "").await.expect("delete");
    assert_eq!((gone.deleted, gone.revision), (true, first + 2));
    let again = delete(&node, "k", None, "").await.expect("delete");
    assert_eq!((again.deleted, again.revision), (false, first + 2));
    assert_eq!(held(&node, "k").await, None);
    put(&node, "k", "3").await;
    let node = node.restarted().await;
    let concept = held(&node, "k").await.expect("there");
    assert_eq!(
        (concept.revision, concept.created_revision, concept.version),
        (first + 3, first + 3, 1)
    );
    // A mesh namespace has none of this.
    node.put(register("mesh", "k", "1")).await.expect("put");
    let concept = node.get("mesh", "k").await.expect("get");
    assert_eq!((concept.revision, concept.version), (0, 0));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_compare_and_set_one_wins() {
    let node = node().await;
    let mut expected = Vec::new();
    for round in 0..5 {
        let calls = (0..40).map(|caller| {
            let (mut client, expected) = (node.client(), expected.clone());
            let request = if_context(
                register("notes", "lock", &format!("{}", round * 100 + caller)),
                &expected,
            );
            tasks::spawn(async move { client.put(request).await.map(tonic::Response::into_inner) })
        });
        let mut won = Vec::new();
        let mut brought = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            match call.await.expect("no panic") {
                Ok(answer) => won.push(answer.revision),
                Err(lost) => {
                    assert_eq!(reason(&lost), "CONDITION_FAILED");
                    let failure = condition_failure(&lost);
                    assert!(failure.exists);
                    brought.push(failure.context.expect("short"));
                }
            }
        }
        assert_eq!(won.len(), 1, "round {round}");
        let concept = held(&node, "lock").await.expect("there");
        assert_eq!((concept.revision, concept.version), (won[0], round + 1));
        assert!(brought.iter().all(|context| *context == concept.context));
        expected = concept.context;
    }
    // A deletion too is compared, and a token is good for its key only.
    let foreign = delete(&node, "other", Some(expected.clone()), "")
        .await
        .expect_err("foreign");
    assert_eq!(reason(&foreign), "TOKEN_INVALID");
    let deleted = delete(&node, "lock", Some(expected.clone()), "").await.expect("delete");
    assert!(deleted.deleted);
    let late = delete(&node, "lock", Some(expected.clone()), "")
        .await
        .expect_err("gone");
    let failure = condition_failure(&late);
    assert!(!failure.exists);
    // What it brings says that there is nothing, as an empty one does.
    let absent = failure.context.expect("short");
    node.put(if_context(register("notes", "lock", "1"), &absent))
        .await
        .expect("put");
    let anew = node.put(if_context(register("notes", "lock", "2"), &expected)).await;
    assert_eq!(reason(&anew.expect_err("another life")), "CONDITION_FAILED");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sent_again_a_write_is_carried_out_once_and_told_the_same() {
    let node = node().await;
    let named = |json: &str| PutRequest {
        request_id: ID.into(),
        return_concept: true,
        ..if_context(register("notes", "k", json), &[])
    };
    let calls = (0..20).map(|_| {
        let (mut client, request) = (node.client(), named("1"));
        tasks::spawn(async move { client.put(request).await.expect("put").into_inner() })
    });
    let mut answers = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        answers.push(call.await.expect("no panic"));
    }
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    assert!(answers.iter().all(|answer| answer.revision == answers[0].revision));
    let first = answers[0].concept.clone();
    put(&node, "k", "2").await;
    let node = node.restarted().await;
    let again = node.put(named("1")).await.expect("put");
    assert!(again.replayed && again.concept == first, "as it was then");
    let other = node.put(named("3")).await.expect_err("another write");
    assert_eq!(
        (other.code(), reason(&other).as_str()),
        (Code::InvalidArgument, "REQUEST_ID_REUSED")
    );
    assert_eq!(value(&node, "k").await.as_deref(), Some("2"));

    let id = "a transaction of its own";
    let request = TransactRequest {
        request_id: id.into(),
        ..transaction(
            vec![],
            vec![get_action("k"), put_action("k", "4"), get_action("k")],
            vec![],
        )
    };
    let first = transact(&node, request.clone()).await.expect("transact");
    put(&node, "k", "5").await;
    let again = transact(&node, request).await.expect("transact");
    assert!(again.replayed && !first.replayed);
    assert_eq!((&again.results, again.revision), (&first.results, first.revision));
    let gone = delete(&node, "k", None, "a deletion of its own").await.expect("delete");
    put(&node, "k", "6").await;
    let again = delete(&node, "k", None, "a deletion of its own").await.expect("delete");
    assert_eq!(
        (again.deleted, again.revision, again.replayed),
        (true, gone.revision, true)
    );
    assert_eq!(value(&node, "k").await.as_deref(), Some("6"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_whole_and_its_refusal_names_the_write() {
    let node = node().await;
    put(&node, "a", "1").await;
    let batch = async |writes| {
        let request = BatchRequest {
            writes,
            ..BatchRequest::default()
        };
        node.client().batch(request).await.map(tonic::Response::into_inner)
    };
    let writes = vec![
        put_write(register("notes", "a", "2")),
        delete_write("notes", "a"),
        put_write(if_context(register("notes", "b", "1"), &[])),
    ];
    let done = batch(writes.clone()).await.expect("batch");
    let revisions: Vec<u64> = done
        .results
        .iter()
        .map(|result| match result.result.as_ref().expect("always there") {
            write_result::Result::Put(put) => put.revision,
            write_result::Result::Delete(delete) => delete.revision,
        })
        .collect();
    assert_eq!(revisions, [2, 2, 2]);
    assert_eq!(
        (value(&node, "a").await, value(&node, "b").await.as_deref()),
        (None, Some("1"))
    );
    let refused = batch(writes).await.expect_err("b is there");
    assert_eq!(
        (reason(&refused).as_str(), blamed(&refused).as_str()),
        ("CONDITION_FAILED", "2")
    );
    assert_eq!(condition_failure(&refused).write, 2);
    assert_eq!(value(&node, "a").await, None, "nothing of it happened");

    for namespaces in [["notes", "mesh"], ["mesh", "notes"]] {
        let mixed = namespaces.map(|namespace| put_write(register(namespace, "k", "1")));
        let refused = batch(mixed.to_vec()).await.expect_err("mixed");
        assert_eq!(
            (reason(&refused).as_str(), blamed(&refused).as_str()),
            ("BATCH_MIXED", "1")
        );
    }
    let chunk = |json: &str, return_results| WriteRequest {
        writes: vec![
            put_write(register("notes", "c", json)),
            put_write(if_context(register("notes", json, json), &[])),
        ],
        return_results,
        ..WriteRequest::default()
    };
    let chunks = vec![chunk("1", true), chunk("1", false), chunk("2", false)];
    let answers = node.client().write(tokio_stream::iter(chunks)).await.expect("write");
    let answers: Vec<_> = answers.into_inner().collect().await;
    let told = answers.into_iter().map(|answer| match answer.expect("told").outcome {
        Some(Outcome::Written(written)) => (written.writes, written.results.len()),
        _ => (0, 0),
    });
    assert_eq!(told.collect::<Vec<_>>(), [(2, 2), (0, 0), (2, 0)]);
    assert_eq!(value(&node, "c").await.as_deref(), Some("2"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_are_read_by_name_page_and_scan() {
    let node = node().await;
    for key in ["b", "a/2", "a/1", "c"] {
        put(&node, key, "1").await;
    }
    delete(&node, "c", None, "").await.expect("delete");
    let many = GetManyRequest {
        namespace: "notes".into(),
        keys: ["b", "c", "a/1"].map(str::to_owned).to_vec(),
        omit_contexts: true,
        stale_ok: false,
    };
    let many = node.client().get_many(many).await.expect("get").into_inner();
    let revisions = many
        .results
        .iter()
        .map(|result| result.concept.as_ref().map(|concept| concept.revision));
    assert_eq!(revisions.collect::<Vec<_>>(), [Some(1), None, Some(3)]);
    assert!(
        many.index > 0
            && many.results[0]
                .concept
                .as_ref()
                .is_some_and(|concept| concept.context.is_empty())
    );
    let list = |page_token| ListRequest {
        namespace: "notes".into(),
        page_size: 2,
        page_token,
        ..ListRequest::default()
    };
    let (keys, token) = node.list_keys(list(Vec::new())).await;
    assert_eq!(keys, ["a/1", "a/2"]);
    let (keys, token) = node.list_keys(list(token)).await;
    assert_eq!((keys, token), (vec!["b".to_owned()], Vec::new()));
    let scan = ScanRequest {
        namespace: "notes".into(),
        prefix: "a/".into(),
        stale_ok: true,
        ..ScanRequest::default()
    };
    let mut pages = node.client().scan(scan).await.expect("scan").into_inner();
    let page = pages.message().await.expect("a page").expect("the first");
    let keys: Vec<&str> = page.concepts.iter().map(|concept| concept.key.as_str()).collect();
    assert_eq!(keys, ["a/1", "a/2"]);
    assert!(page.index > 0 && !page.resume_token.is_empty());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_sees_every_change_in_order_and_goes_on_over_a_restart() {
    let node = node().await;
    let mut watch = Watching::begin(&node, watching("k", Vec::new())).await.expect("watch");
    put(&node, "k", "1").await;
    put(&node, "other", "1").await;
    put(&node, "k2", "1").await;
    delete(&node, "k", None, "").await.expect("delete");
    assert_eq!(watch.changes(3).await, ["k=1", "k2=1", "k-"]);
    let (token, lsn) = (watch.token.clone(), watch.lsn);
    assert!(lsn <= node.engine.committed().borrow().0, "nothing that is not synced");
    drop(watch);
    let then = vec![
        put_action("k", "2"),
        put_action("k", "3"),
        put_action("k2", "3"),
        put_action("x", "3"),
    ];
    transact(&node, transaction(vec![], then, vec![]))
        .await
        .expect("transact");
    delete(&node, "k2", None, "").await.expect("delete");
    let node = node.restarted().await;
    put(&node, "k", "4").await;
    let mut watch = Watching::begin(&node, watching("k", token)).await.expect("watch");
    assert_eq!(watch.changes(4).await, ["k=3", "k2=3", "k2-", "k=4"]);
    // Of many at once, each key goes forward only, and ends with what it holds.
    let calls = (0..300).map(|number| {
        let mut client = node.client();
        let request = register("notes", &format!("k{}", number % 7), &number.to_string());
        tasks::spawn(async move { client.put(request).await.expect("put").into_inner().revision })
    });
    let mut revisions = BTreeSet::new();
    for call in calls.collect::<Vec<_>>() {
        revisions.insert(call.await.expect("no panic"));
    }
    assert_eq!(revisions.len(), 300, "each its own");
    let (mut expected, mut seen) = (BTreeMap::new(), BTreeMap::new());
    for number in 0..7 {
        let concept = held(&node, &format!("k{number}")).await.expect("there");
        expected.insert(concept.key, concept.revision);
    }
    while seen != expected {
        let concept = watch.concept().await;
        let before = seen.insert(concept.key, concept.revision);
        assert!(before < Some(concept.revision));
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_other_road_has_is_refused_by_name() {
    let node = node().await;
    let with = |write| PutRequest {
        write: Some(write),
        ..register("notes", "k", "")
    };
    let ttl = PutRequest {
        ttl: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
        ..register("notes", "k", "1")
    };
    let context = PutRequest {
        context: vec![1],
        ..register("notes", "k", "1")
    };
    for (request, what) in [
        (with(Write::Sibling("1".into())), "a sibling"),
        (with(Write::Set(SetChange::default())), "a set"),
        (with(Write::Counter(proto::v1::CounterChange { delta: 1 })), "a counter"),
        (ttl, "a time to live"),
        (context, "a context other than if_context"),
    ] {
        let refused = node.put(request).await.expect_err(what);
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::FailedPrecondition, "CONSENSUS_NAMESPACE")
        );
        let expected =
            format!("the namespace \"notes\" replicates by consensus: {what} is for those that replicate by mesh");
        assert_eq!(refused.message(), expected);
    }
    let export = ExportStatesRequest {
        namespace: "notes".into(),
        ..ExportStatesRequest::default()
    };
    let refused = node.admin().export_states(export).await.expect_err("no states");
    assert_eq!(reason(&refused), "CONSENSUS_NAMESPACE");
    let policy = SetPolicyRequest {
        name: "notes".into(),
        strategy: Strategy::MergeUnion.into(),
    };
    let refused = node.namespaces().set_policy(policy).await.expect_err("no strategy");
    assert_eq!(reason(&refused), "CONSENSUS_NAMESPACE");
    node.stop().await;
}
