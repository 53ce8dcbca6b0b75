//! Transactions: one branch, whole, and what is refused before anything is compared.

use proto::v1::{
    Action, ActionResult, Compare, PutAction, TransactRequest, TransactResponse, action, action_result, compare,
};
use tonic::{Code, Status};

use super::{
    batch::blamed,
    consensus::{held, json, node, put, value},
    node::{Node, reason},
};

fn compare(key: &str, expected: compare::Expected) -> Compare {
    Compare {
        key: key.into(),
        expected: Some(expected),
    }
}

fn act(action: action::Action) -> Action {
    Action { action: Some(action) }
}

pub(super) fn put_action(key: &str, json: &str) -> Action {
    act(action::Action::Put(PutAction {
        key: key.into(),
        json: json.into(),
    }))
}

pub(super) fn get_action(key: &str) -> Action {
    act(action::Action::Get(key.into()))
}

fn delete_action(key: &str) -> Action {
    act(action::Action::Delete(key.into()))
}

pub(super) fn transaction(compares: Vec<Compare>, then: Vec<Action>, otherwise: Vec<Action>) -> TransactRequest {
    TransactRequest {
        namespace: "notes".into(),
        compares,
        then,
        otherwise,
        request_id: String::new(),
    }
}

pub(super) async fn transact(node: &Node, request: TransactRequest) -> Result<TransactResponse, Status> {
    node.client().transact(request).await.map(tonic::Response::into_inner)
}

/// What actions did, in few letters.
fn did(results: &[ActionResult]) -> Vec<String> {
    let one = |result: &ActionResult| match result.result.as_ref().expect("always there") {
        action_result::Result::Version(version) => format!("v{version}"),
        action_result::Result::Deleted(deleted) => format!("deleted {deleted}"),
        action_result::Result::Got(got) => got.concept.as_ref().map_or("nothing".to_owned(), |concept| {
            format!("{}={}@{}", concept.key, json(concept), concept.revision)
        }),
    };
    results.iter().map(one).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_takes_one_branch_whole() {
    use compare::Expected;
    let node = node().await;
    let made = put(&node, "a", "1").await;
    let context = held(&node, "a").await.expect("there").context;
    let swap = |expected| {
        transaction(
            vec![compare("b", Expected::Exists(false)), compare("a", expected)],
            vec![
                put_action("a", "2"),
                put_action("b", "1"),
                get_action("a"),
                delete_action("c"),
            ],
            vec![get_action("a"), get_action("b"), put_action("lost", "1")],
        )
    };
    let done = transact(&node, swap(Expected::Revision(made))).await.expect("transact");
    assert_eq!((done.succeeded, done.failed, done.revision), (true, None, made + 1));
    assert_eq!(
        did(&done.results),
        ["v2", "v1", &format!("a=2@{}", made + 1), "deleted false"]
    );
    let lost = transact(&node, swap(Expected::Context(context)))
        .await
        .expect("transact");
    assert_eq!((lost.succeeded, lost.failed, lost.revision), (false, Some(0), made + 2));
    let then = made + 1;
    assert_eq!(
        did(&lost.results),
        [format!("a=2@{then}"), format!("b=1@{then}"), "v1".to_owned()]
    );
    assert_eq!(value(&node, "lost").await.as_deref(), Some("1"));

    for (expected, holds) in [
        (Expected::Exists(true), true),
        (Expected::Exists(false), false),
        (Expected::Revision(0), false),
        (Expected::Json("2".into()), true),
        (Expected::Json("2 ".into()), false),
        (Expected::Context(Vec::new()), false),
        (Expected::Context(held(&node, "a").await.expect("there").context), true),
    ] {
        let request = transaction(vec![compare("a", expected.clone())], vec![], vec![]);
        let answer = transact(&node, request).await.expect("transact");
        assert_eq!(answer.succeeded, holds, "{expected:?}");
        assert_eq!((answer.failed, answer.revision), ((!holds).then_some(0), made + 2));
    }
    let many = (0..500).map(|number| put_action(&format!("many {number:03}"), "0"));
    let compares = (0..500).map(|number| compare(&format!("many {number:03}"), Expected::Exists(false)));
    let whole = transaction(compares.collect(), many.collect(), Vec::new());
    assert!(transact(&node, whole.clone()).await.expect("transact").succeeded);
    let revision = made + 3;
    assert_eq!(held(&node, "many 000").await.expect("there").revision, revision);
    assert_eq!(held(&node, "many 499").await.expect("there").revision, revision);
    let mut too_many = whole;
    too_many.otherwise.push(get_action("a"));
    let refused = transact(&node, too_many).await.expect_err("1001");
    assert_eq!(reason(&refused), "TRANSACTION_PARTS");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_transaction_is_refused_with_the_place_of_what_is_wrong() {
    let node = node().await;
    let on_mesh = TransactRequest {
        namespace: "mesh".into(),
        ..transaction(vec![], vec![put_action("k", "1")], vec![])
    };
    let refused = transact(&node, on_mesh).await.expect_err("mesh");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "MESH_NAMESPACE")
    );

    let exists = || compare::Expected::Exists(true);
    for (request, expected, place) in [
        (transaction(vec![], vec![], vec![]), "TRANSACTION_EMPTY", ""),
        (transaction(vec![Compare::default()], vec![], vec![]), "KEY_LENGTH", "0"),
        (
            transaction(
                vec![
                    compare("k", exists()),
                    Compare {
                        key: "k".into(),
                        expected: None,
                    },
                ],
                vec![],
                vec![],
            ),
            "EXPECTED_MISSING",
            "1",
        ),
        (
            transaction(vec![], vec![get_action("k"), Action::default()], vec![]),
            "ACTION_MISSING",
            "1",
        ),
        (
            transaction(vec![], vec![], vec![put_action("k", "{")]),
            "JSON_MALFORMED",
            "0",
        ),
        (
            transaction(vec![], vec![put_action(&"k".repeat(1025), "1")], vec![]),
            "KEY_LENGTH",
            "0",
        ),
        (
            transaction(vec![compare("k", compare::Expected::Context(vec![7]))], vec![], vec![]),
            "TOKEN_FORMAT",
            "0",
        ),
    ] {
        let refused = transact(&node, request).await.expect_err(expected);
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::InvalidArgument, expected)
        );
        if !place.is_empty() {
            assert_eq!(blamed(&refused), place, "{refused:?}");
        }
    }
    assert_eq!(held(&node, "k").await, None);
    node.stop().await;
}
