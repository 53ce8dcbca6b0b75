//! Several keys read by one call.

use std::collections::HashMap;

use prost::Message;
use proto::v1::{GetManyRequest, GetManyResponse, PutRequest, Strategy, concept};
use tonic::{Code, Status};

use super::node::{Node, put_all, reason, register};

/// The largest answer, as the .proto file has it.
const ANSWER_BYTES_MAX: usize = 3_500 * 1024;

fn request(keys: &[&str]) -> GetManyRequest {
    GetManyRequest {
        namespace: "notes".into(),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        ..GetManyRequest::default()
    }
}

async fn get_many(node: &Node, request: GetManyRequest) -> Result<GetManyResponse, Status> {
    node.client().get_many(request).await.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_result_stands_in_the_place_of_its_key() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    for key in ["b", "a", "gone"] {
        let json = format!("\"{key}\"");
        node.put(register("notes", key, &json)).await.expect("put");
    }
    node.delete("notes", "gone", Vec::new()).await.expect("delete");
    let passing = PutRequest {
        ttl: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..register("notes", "passing", "1")
    };
    node.put(passing).await.expect("put");
    node.clock.advance_ms(1_001);

    let asked = ["a", "never", "gone", "b", "passing", "a"];
    let answer = get_many(&node, request(&asked)).await.expect("an answer");
    let found: Vec<Option<String>> = answer
        .results
        .iter()
        .map(|result| result.concept.as_ref().map(|concept| concept.key.clone()))
        .collect();
    let expected = [Some("a"), None, None, Some("b"), None, Some("a")];
    assert_eq!(found, expected.map(|key| key.map(str::to_owned)));
    for result in answer.results.into_iter().filter_map(|result| result.concept) {
        assert_eq!(
            result,
            node.get("notes", &result.key).await.expect("get"),
            "as one call for one key has it, context and clock included"
        );
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_in_any_order_are_not_mixed_up() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    let name = |number: usize| format!("k{:03}", number * 7 % 200);
    // Every third key is never written; what is has its own name as value.
    let written = (0..200).filter(|number| number % 3 != 0).map(name);
    put_all(&node, "notes", written.map(|key| (key.clone(), format!("\"{key}\"")))).await;
    let asked: Vec<String> = (0..200).rev().map(name).collect();
    let all: Vec<&str> = asked.iter().map(String::as_str).collect();
    let answer = get_many(&node, request(&all)).await.expect("an answer");
    for ((number, key), result) in (0..200).rev().zip(&asked).zip(answer.results) {
        let found = result.concept.map(|concept| (concept.key, concept.value));
        let json = |value| match value {
            Some(concept::Value::Register(value)) => value.json,
            other => panic!("{other:?}"),
        };
        let expected = (number % 3 != 0).then(|| (key.clone(), format!("\"{key}\"")));
        assert_eq!(found.map(|(key, value)| (key, json(value))), expected);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contexts_are_left_out_when_asked() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    node.put(register("notes", "k", "1")).await.expect("put");
    let bare = GetManyRequest {
        omit_contexts: true,
        ..request(&["k"])
    };
    let answer = get_many(&node, bare).await.expect("an answer");
    let concept = answer.results[0].concept.clone().expect("it holds something");
    assert_eq!((concept.context, concept.clock), (Vec::new(), HashMap::new()));
    assert!(matches!(concept.value, Some(concept::Value::Register(value)) if value.json == "1"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_too_many_and_wrong_keys_are_named() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    let long = "x".repeat(1_025);
    let cases = [
        (Vec::new(), "KEYS_EMPTY", "keys: name at least one"),
        (vec!["k"; 1_001], "KEYS_MANY", "at most 1000, was 1001"),
        (vec!["k", "l", ""], "KEY_LENGTH", "keys[2]"),
        (
            vec!["k", &long],
            "KEY_LENGTH",
            "keys[1] must be 1 to 1024 bytes, was 1025",
        ),
    ];
    for (keys, expected, told) in cases {
        let refused = get_many(&node, request(&keys)).await.expect_err(expected);
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::InvalidArgument, expected)
        );
        assert!(refused.message().contains(told), "{}", refused.message());
    }
    let most = get_many(&node, request(&vec!["k"; 1_000]))
        .await
        .expect("as many as may be");
    assert_eq!(most.results.len(), 1_000);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_would_be_too_large_says_how_many_keys_fit() {
    let node = Node::with_namespace("notes", Strategy::LastWriteWins).await;
    let json = format!("\"{}\"", "x".repeat(60 * 1024));
    let keys: Vec<String> = (0..100).map(|number| format!("k{number:02}")).collect();
    put_all(&node, "notes", keys.iter().map(|key| (key.clone(), json.clone()))).await;
    let all: Vec<&str> = keys.iter().map(String::as_str).collect();

    let refused = get_many(&node, request(&all)).await.expect_err("6 MiB");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "ANSWER_TOO_LARGE")
    );
    let fit: usize = refused
        .message()
        .split_whitespace()
        .find_map(|word| word.parse().ok())
        .expect("a number");
    let most = get_many(&node, request(&all[..fit])).await.expect("as many as fit");
    assert_eq!(most.results.len(), fit);
    assert!(most.encoded_len() <= ANSWER_BYTES_MAX);
    let over = get_many(&node, request(&all[..=fit])).await.expect_err("one more");
    assert_eq!(reason(&over), "ANSWER_TOO_LARGE");
    node.stop().await;
}
