//! What the contract promises of `/federation/*`.

use engine::ledger::{Standing, Tier};
use serde_json::json;

use super::*;

#[tokio::test]
async fn the_seeds_three_calls_answer_as_printed() {
    let node = node().await;
    let body = r#"{"node_id": "my-node-1", "verify_constant": 5.083203692315260}"#;
    let registered = node.post("/federation/register", body).send().await;
    assert_eq!(registered.status, 200, "{registered:?}");
    let registered = registered.json();
    assert_eq!(registered["status"], "registered");
    assert_eq!(registered["node_id"], "my-node-1");
    assert_eq!(registered["access_level"], "twilight");
    assert_eq!(registered["verified"], true);
    assert_eq!(registered["registered_at"], "2026-01-02T03:04:05.678901+00:00");
    assert!(!registered["message"].as_str().unwrap().is_empty());
    let body = r#"{"concepts": [
        {"name": "Test Concept", "description": "A test"}, {"name": "Another Concept", "description": "Another test"}]}"#;
    let contributed = node.contribute("my-node-1", body).await;
    assert!(
        contributed.text().contains(r#""contribution_score":2.0"#),
        "{contributed:?}"
    );
    assert_eq!(
        contributed.json(),
        json!({"status": "success", "new_concepts": 2, "duplicate_concepts": 0, "total_submitted": 2, "contribution_value": 2.0,
            "contribution_score": 2.0, "access_level": "twilight"})
    );
    let known = node.knowledge("my-node-1", r#"{"query": "test", "limit": 10}"#).await;
    assert_eq!(known.status, 200, "{known:?}");
    let known = known.json();
    assert_eq!(
        (&known["status"], &known["count"], &known["consumption_recorded"]),
        (&json!("success"), &json!(2), &json!(true))
    );
    assert_eq!(
        known["concepts"][0]["concept"],
        json!({"name": "Test Concept", "description": "A test"})
    );
    let again = node
        .post("/federation/register", r#"{"node_id": "my-node-1"}"#)
        .send()
        .await
        .json();
    assert_eq!(
        (&again["status"], &again["verified"]),
        (&json!("already_registered"), &json!(true))
    );
}

#[tokio::test]
async fn concepts_come_back_exactly_as_they_were_sent() {
    let node = node().await;
    let sent = r#"{"z":1.0,"a":1e5,"big":123456789012345678901234567890,"tiny":-0.000,"text":"zażółć 🦀 \" \\","nested":{"k":[1.50,null,true]}}"#;
    let body = format!(r#"{{"concepts":[{sent}]}}"#);
    assert_eq!(node.contribute("a", body).await.status, 200);
    let known = node.knowledge("a", "{}").await;
    assert!(
        known.text().contains(&format!(r#""concept":{sent},"quality_score":"#)),
        "{known:?}"
    );
    assert_eq!(known.header("content-type"), "application/json");
}

#[tokio::test]
async fn identifying_fields_vanish_at_every_depth() {
    let node = node().await;
    let body = r#"{"concepts":[{"id":1,"name":"n","user_x":2,"deep":[{"tenant_y":3,"made_at":4,"keep":5}],"ID":6}]}"#;
    assert_eq!(node.contribute("a", body).await.status, 200);
    let known = node.knowledge("a", "{}").await;
    assert!(
        known.text().contains(r#"{"name":"n","deep":[{"keep":5}],"ID":6}"#),
        "{known:?}"
    );
}

#[tokio::test]
async fn a_node_without_a_name_gets_one() {
    let node = node().await;
    for body in [r#"{}"#, r#"{"node_id": null}"#, r#"{"node_id": ""}"#] {
        let id = node.post("/federation/register", body).send().await.json()["node_id"]
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!(id.len(), 36, "{id} is a UUID");
    }
}

#[tokio::test]
async fn a_nameless_registration_can_be_retried() {
    let node = node().await;
    let send = |key: &'static str| {
        node.post("/federation/register", "{}")
            .header("idempotency-key", key)
            .send()
    };
    let (first, again, other) = (send("a").await.json(), send("a").await.json(), send("b").await.json());
    assert_eq!(first["node_id"], again["node_id"], "the answer was lost, not the name");
    assert_ne!(first["node_id"], other["node_id"]);
}

#[tokio::test]
async fn a_caller_must_be_named_and_may_be_unknown() {
    let node = node().await;
    for path in ["/federation/contribute", "/federation/knowledge"] {
        node.post(path, "{}").send().await.refusal(401, "missing_credentials");
        node.post(path, "{}")
            .header("x-node-id", "")
            .send()
            .await
            .refusal(401, "missing_credentials");
        node.post(path, "{}")
            .header("x-node-id", "  ")
            .send()
            .await
            .refusal(401, "missing_credentials");
    }
    node.get("/federation/status")
        .send()
        .await
        .refusal(401, "missing_credentials");
    let stranger = node
        .get("/federation/status")
        .header("X-Node-ID", "stranger")
        .send()
        .await
        .json();
    assert_eq!(
        stranger,
        json!({"node_id": "stranger", "registered": false, "contribution_score": 0.0, "consumption_score": 0.0,
            "contribution_ratio": 0.0, "access_level": "basic", "tier": "basic", "allowed": true})
    );
}

#[tokio::test]
async fn the_gate_says_how_many_concepts_are_missing() {
    let node = node().await;
    for _ in 0..10 {
        assert_eq!(node.knowledge("taker", "{}").await.status, 200);
    }
    let detail = node
        .knowledge("taker", "{}")
        .await
        .refusal(403, "insufficient_contribution");
    assert_eq!(detail["error"], "insufficient_contribution");
    assert_eq!(detail["message"], "Can't use it unless you add to it");
    assert_eq!(
        (
            &detail["contribution_ratio"],
            &detail["minimum_required"],
            &detail["deficit"]
        ),
        (&json!(0.0), &json!(0.1), &json!(1.0))
    );
    assert!(detail["hint"].as_str().unwrap().contains("1 new concept "), "{detail}");
    assert_eq!(
        node.contribute("taker", concepts(["one"])).await.json()["access_level"],
        "basic"
    );
    assert_eq!(node.knowledge("taker", "{}").await.status, 200);
    let detail = node
        .knowledge("taker", "{}")
        .await
        .refusal(403, "insufficient_contribution");
    assert_eq!(detail["deficit"], json!(0.1), "without the dust of 0.1 · 11 − 1");
    assert!(detail["hint"].as_str().unwrap().contains("1 new concept "), "{detail}");
}

#[test]
fn the_hint_counts_whole_concepts() {
    for (deficit, hint) in [
        (0.1, "1 new concept "),
        (1.0, "1 new concept "),
        (1.000_000_000_000_000_4, "1 new concept "),
        (1.1, "2 new concepts "),
        (99.9, "100 new concepts "),
    ] {
        let standing = Standing {
            registered_at: None,
            verified: false,
            contributed: 0.0,
            consumed: 10.0,
            ratio: 0.0,
            tier: Tier::Blocked,
            allowed: false,
        };
        let problem = Problem::from(engine::ledger::Refusal::Gate {
            standing,
            minimum: 0.1,
            deficit,
        });
        let text = problem.body("").into_json();
        assert!(text.contains(hint), "{deficit}: {text}");
    }
}

#[tokio::test]
async fn a_rate_limit_tells_its_true_reset() {
    let node = node().await;
    for round in 0..100 {
        *node.clock.0.lock() = START + round * 1_000_000;
        assert_eq!(
            node.contribute("busy", concepts([format!("{round}").as_str()]))
                .await
                .status,
            200
        );
    }
    *node.clock.0.lock() = START + 100 * 1_000_000 + 500_000;
    let refused = node.contribute("busy", concepts(["more"])).await;
    refused.refusal(429, "rate_limited");
    assert_eq!(refused.header("retry-after"), "3500", "3499.5 s, rounded up");
    assert_eq!(refused.header("ratelimit-policy"), r#""contribute";q=100;w=3600"#);
    assert_eq!(refused.header("ratelimit"), r#""contribute";r=0;t=3500"#);
    assert_eq!(
        (
            refused.header("ratelimit-limit"),
            refused.header("ratelimit-remaining"),
            refused.header("ratelimit-reset")
        ),
        ("100", "0", "3500")
    );
    // One second too early, and in time.
    *node.clock.0.lock() += 3_499_000_000;
    node.contribute("busy", concepts(["more"]))
        .await
        .refusal(429, "rate_limited");
    *node.clock.0.lock() += 1_000_000;
    assert_eq!(node.contribute("busy", concepts(["more"])).await.status, 200);
    node.contribute("busy", concepts(["and more"]))
        .await
        .refusal(429, "rate_limited");
}

#[tokio::test]
async fn a_retry_with_its_key_is_answered_again_even_when_the_limit_is_used_up() {
    let node = node().await;
    for round in 0..99 {
        node.contribute("busy", concepts([format!("{round}").as_str()])).await;
    }
    let send = |key: &'static str, body: String| {
        node.post("/federation/contribute", body)
            .header("x-node-id", "busy")
            .header("idempotency-key", key)
            .send()
    };
    let first = send("k1", concepts(["last"])).await;
    assert_eq!((first.status, &first.json()["new_concepts"]), (200, &json!(1)));
    let again = send("k1", concepts(["last"])).await;
    assert_eq!((again.status, again.json()), (200, first.json()), "{again:?}");
    send("k1", concepts(["other"]))
        .await
        .refusal(422, "idempotency_key_reused");
    send("k2", concepts(["last"])).await.refusal(429, "rate_limited");
    send("k2", r#"{"concepts": []}"#.to_owned())
        .await
        .refusal(429, "rate_limited");
    let long = "k".repeat(256);
    for key in ["", "with space", "zażółć", long.as_str()] {
        let refused = node
            .post("/federation/contribute", concepts(["x"]))
            .header("x-node-id", "a")
            .header("idempotency-key", key)
            .send()
            .await;
        let detail = refused.refusal(422, "invalid_request");
        assert_eq!(detail[0]["loc"], json!(["header", "idempotency-key"]), "{key:?}");
    }
}

#[tokio::test]
async fn one_bad_concept_refuses_all_and_is_named() {
    let node = node().await;
    let mut nested = "1".to_owned();
    for _ in 0..64 {
        nested = format!("[{nested}]");
    }
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(64 * 1024));
    let cases = [
        (r#"{"id":1}"#.to_owned(), 400, "empty_concept"),
        (r"{}".to_owned(), 400, "empty_concept"),
        (large, 413, "concept_too_large"),
        (format!(r#"{{"deep":{nested}}}"#), 413, "concept_too_deep"),
    ];
    for (bad, status, code) in cases {
        let body = format!(r#"{{"concepts":[{{"name":"good"}},{bad},{{"name":"good too"}}]}}"#);
        let detail = node.contribute("a", body).await.refusal(status, code);
        assert!(detail.as_str().unwrap().contains("concepts[1]"), "{detail}");
    }
    let detail = node
        .contribute("a", r#"{"concepts":[{"a":1},2,{"b":3},"x"]}"#)
        .await
        .refusal(422, "invalid_request");
    assert_eq!(
        detail,
        json!([
            {"type": "dict_type", "loc": ["body", "concepts", 1], "msg": "Input should be a valid dictionary", "input": 2},
            {"type": "dict_type", "loc": ["body", "concepts", 3], "msg": "Input should be a valid dictionary", "input": "x"}
        ])
    );
    assert_eq!(
        node.get("/federation/stats").send().await.json()["federation"]["total_concepts"],
        0
    );
}

#[tokio::test]
async fn limits_of_size_hold_exactly() {
    let node = node().await;
    // {"text":"…"} is 11 bytes around its text.
    let exact = format!(r#"{{"concepts":[ {{ "text" : "{}" }} ]}}"#, "x".repeat(64 * 1024 - 11));
    assert_eq!(
        node.contribute("a", exact).await.status,
        200,
        "white space does not count"
    );
    let over = format!(r#"{{"concepts":[{{"text":"{}"}}]}}"#, "x".repeat(64 * 1024 - 10));
    node.contribute("a", over).await.refusal(413, "concept_too_large");
    let levels = |count: usize| {
        format!(
            r#"{{"concepts":[{{"a":{}{}}}]}}"#,
            "[".repeat(count - 1),
            "]".repeat(count - 1)
        )
    };
    assert_eq!(node.contribute("a", levels(64)).await.status, 200);
    node.contribute("a", levels(65)).await.refusal(413, "concept_too_deep");
    node.contribute("a", levels(126)).await.refusal(413, "concept_too_deep");
    node.contribute("a", levels(127)).await.refusal(400, "nested_too_deep");
    let names: Vec<String> = (0..1001).map(|number| number.to_string()).collect();
    node.contribute("a", concepts(names.iter().map(String::as_str)))
        .await
        .refusal(400, "too_many_concepts");
    assert_eq!(
        node.contribute("a", concepts(names[1..].iter().map(String::as_str)))
            .await
            .json()["new_concepts"],
        1000
    );
    let mut body = br#"{"concepts":[{"a":1}]}"#.to_vec();
    body.resize(door::BODY_BYTES_MAX, b' ');
    assert_eq!(node.contribute("a", &body).await.status, 200);
    body.push(b' ');
    node.contribute("a", &body).await.refusal(413, "body_too_large");
}

#[tokio::test]
async fn a_body_of_unknown_length_is_counted_as_it_comes() {
    let node = node().await;
    let chunked = |size: usize| {
        let mut body = format!("{:x}\r\n", 22 + size).into_bytes();
        body.extend_from_slice(br#"{"concepts":[{"a":1}]}"#);
        body.resize(body.len() + size, b' ');
        body.extend_from_slice(b"\r\n0\r\n\r\n");
        node.call("POST", "/federation/contribute")
            .header("content-type", "application/json")
            .header("x-node-id", "a")
            .header("transfer-encoding", "chunked")
            .body(body)
    };
    assert_eq!(chunked(100).send().await.status, 200);
    chunked(door::BODY_BYTES_MAX)
        .send()
        .await
        .refusal(413, "body_too_large");
}

#[tokio::test]
async fn numbers_are_read_as_the_python_system_read_them() {
    let node = node().await;
    node.contribute("a", concepts(["one", "two", "three"])).await;
    let twilight = r#"{"node_id": "a", "verify_constant": "5.08320369231526"}"#;
    assert_eq!(
        node.post("/federation/register", twilight).send().await.json()["verified"],
        true
    );
    for (limit, count) in [("2", 2), ("2.0", 2), (r#""2""#, 2), ("1000", 3), ("1e1", 3)] {
        let known = node.knowledge("a", format!(r#"{{"limit": {limit}}}"#)).await;
        assert_eq!((known.status, &known.json()["count"]), (200, &json!(count)), "{limit}");
    }
    let faults = [
        ("limit", "0", "greater_than_equal"),
        ("limit", "1001", "less_than_equal"),
        ("limit", "-1e300", "greater_than_equal"),
        ("limit", "2.5", "int_from_float"),
        ("limit", r#""two""#, "int_parsing"),
        ("limit", "true", "int_type"),
        ("limit", "null", "int_type"),
        ("limit", "[]", "int_type"),
        ("min_quality", "-0.1", "greater_than_equal"),
        ("min_quality", "false", "float_type"),
        ("min_quality", "null", "float_type"),
        ("min_quality", r#""x""#, "float_parsing"),
        ("min_quality", r#""nan""#, "finite_number"),
        ("query", "5", "string_type"),
        ("query", "[]", "string_type"),
    ];
    for (name, value, kind) in faults {
        let detail = node
            .knowledge("a", format!(r#"{{"{name}": {value}}}"#))
            .await
            .refusal(422, "invalid_request");
        assert_eq!(
            (&detail[0]["type"], &detail[0]["loc"]),
            (&json!(kind), &json!(["body", name])),
            "{name} {value}"
        );
    }
    let all = node
        .knowledge("a", r#"{"query": 1, "limit": 0, "min_quality": -1, "unknown": 1}"#)
        .await
        .refusal(422, "invalid_request");
    assert_eq!(all.as_array().unwrap().len(), 3);
    assert_eq!(
        node.knowledge("a", r#"{"query": null, "unknown": {"x": 1}}"#)
            .await
            .status,
        200
    );
    node.contribute("a", "{}").await.refusal(422, "invalid_request");
    node.contribute("a", "[]").await.refusal(422, "invalid_request");
    node.contribute("a", r#"{"concepts": {}}"#)
        .await
        .refusal(422, "invalid_request");
    node.post("/federation/register", r#"{"node_id": 5}"#)
        .send()
        .await
        .refusal(422, "invalid_request");
}

#[tokio::test]
async fn content_types_of_json_are_taken_and_others_not() {
    let node = node().await;
    let send = |kind: &'static str| {
        node.call("POST", "/federation/register")
            .header("content-type", kind)
            .body("{}")
            .send()
    };
    for kind in [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/vnd.api+json",
    ] {
        assert_eq!(send(kind).await.status, 200, "{kind}");
    }
    for kind in [
        "text/plain",
        "application/jsonx",
        "application/+json",
        "text/json",
        "multipart/form-data; x=application/json",
        "",
    ] {
        send(kind).await.refusal(415, "unsupported_media_type");
    }
    node.call("POST", "/federation/register")
        .body("{}")
        .send()
        .await
        .refusal(415, "unsupported_media_type");
    node.post("/federation/register", "")
        .header("content-length", "0")
        .send()
        .await
        .refusal(422, "malformed_json");
}
