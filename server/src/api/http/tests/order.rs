//! One request with everything wrong, mended fault by fault: each answer shows which check comes first.

use super::*;

/// A contribution whose every aspect can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wrong {
    ContentType,
    Size,
    Utf8,
    Json,
    Credentials,
    Schema,
    RateLimit,
    Payload,
}

const ORDER: [(Wrong, u16, &str); 8] = [
    (Wrong::ContentType, 415, "unsupported_media_type"),
    (Wrong::Size, 413, "body_too_large"),
    (Wrong::Utf8, 400, "not_utf8"),
    (Wrong::Json, 422, "malformed_json"),
    (Wrong::Credentials, 401, "missing_credentials"),
    (Wrong::Schema, 422, "invalid_request"),
    (Wrong::RateLimit, 429, "rate_limited"),
    (Wrong::Payload, 400, "empty_concepts"),
];

async fn send(node: &Node, wrong: &[Wrong]) -> Answer {
    let is = |what| wrong.contains(&what);
    let mut body = match (is(Wrong::Schema), is(Wrong::Payload)) {
        (true, _) => br#"{"concepts": [1]"#.to_vec(),
        (false, true) => br#"{"concepts": []"#.to_vec(),
        (false, false) => br#"{"concepts": [{"name": "a"}]"#.to_vec(),
    };
    body.push(if is(Wrong::Json) { b']' } else { b'}' });
    if is(Wrong::Size) {
        body.resize(door::BODY_BYTES_MAX + 1, b' ');
    }
    if is(Wrong::Utf8) {
        body.push(0xff);
    }
    let kind = if is(Wrong::ContentType) {
        "text/plain"
    } else {
        "application/json"
    };
    let mut call = node
        .call("POST", "/federation/contribute")
        .header("content-type", kind)
        .body(body);
    if !is(Wrong::Credentials) {
        call = call.header("x-node-id", if is(Wrong::RateLimit) { "busy" } else { "calm" });
    }
    call.send().await
}

#[tokio::test]
async fn checks_come_in_the_contracts_order() {
    let node = node().await;
    for round in 0..100 {
        assert_eq!(
            node.contribute("busy", concepts([format!("{round}").as_str()]))
                .await
                .status,
            200
        );
    }
    for (at, (first, status, code)) in ORDER.into_iter().enumerate() {
        // Wrong from here on: the first fault is the one that is told.
        let wrong: Vec<Wrong> = ORDER[at..].iter().map(|(wrong, ..)| *wrong).collect();
        send(&node, &wrong).await.refusal(status, code);
        // And beside each later fault alone.
        for (later, ..) in &ORDER[at + 1..] {
            send(&node, &[first, *later]).await.refusal(status, code);
        }
    }
    assert_eq!(send(&node, &[]).await.status, 200);
}

#[tokio::test]
async fn the_rate_limit_comes_before_the_gate() {
    let node = node().await;
    // 10 in grace, then 40 more, paid for in advance with 5 concepts.
    node.contribute("asker", concepts(["1", "2", "3", "4", "5"])).await;
    for _ in 0..50 {
        assert_eq!(node.knowledge("asker", "{}").await.status, 200);
    }
    // 5 given for 50 taken is exactly 0.1: the gate is open, the limit is not.
    node.knowledge("asker", "{}").await.refusal(429, "rate_limited");
    *node.clock.0.lock() += HOUR + 1;
    assert_eq!(node.knowledge("asker", "{}").await.status, 200);
    node.knowledge("asker", "{}")
        .await
        .refusal(403, "insufficient_contribution");
}

#[tokio::test]
async fn a_refused_request_costs_nothing() {
    let node = node().await;
    for _ in 0..120 {
        node.knowledge("shy", r#"{"limit": 0}"#)
            .await
            .refusal(422, "invalid_request");
        node.contribute("shy", r#"{"concepts": [{"name": "good"}, {"id": 1}]}"#)
            .await
            .refusal(400, "empty_concept");
    }
    let status = node
        .get("/federation/status")
        .header("x-node-id", "shy")
        .send()
        .await
        .json();
    assert_eq!(
        (&status["consumption_score"], &status["contribution_score"]),
        (&serde_json::json!(0.0), &serde_json::json!(0.0))
    );
    assert_eq!(
        node.get("/federation/stats").send().await.json()["federation"]["total_concepts"],
        0
    );
    assert_eq!(node.contribute("shy", concepts(["good"])).await.status, 200);
}
