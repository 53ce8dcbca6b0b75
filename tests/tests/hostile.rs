//! Hostile bodies and names: each is refused with a 4xx that says why, none is charged, and no later read suffers. Strange
//! names that are names are kept as they are, apart from one another, through a crash and a stop.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use continuum_tests::{Answer, Client, Member, Node, federation};
use hyper::Method;
use serde_json::{Value, json};

const JSON: (&str, &str) = ("content-type", "application/json");
const CONTRIBUTE: &str = "/federation/contribute";

fn nested(levels: usize) -> Vec<u8> {
    let mut text = b"{\"concepts\":[{\"name\":".to_vec();
    text.extend(std::iter::repeat_n(b'[', levels));
    text.extend(std::iter::repeat_n(b']', levels));
    text.extend(b"}]}");
    text
}

/// A contribution of one concept whose name is this JSON text.
fn named(text: &str) -> Vec<u8> {
    format!("{{\"concepts\":[{{\"name\":{text}}}]}}").into_bytes()
}

/// Bodies of a contribution, and the statuses each may be answered with.
#[allow(clippy::too_many_lines, reason = "one table, easier to read whole")]
fn bodies() -> Vec<(&'static str, Vec<u8>, &'static [u16])> {
    let long = "x".repeat(65 * 1024);
    vec![
        ("nothing", b"".to_vec(), &[422]),
        ("not JSON", b"{\"concepts\": [}".to_vec(), &[422]),
        ("cut short", b"{\"concepts\": [{\"name\": \"a\"".to_vec(), &[422]),
        (
            "something after the end",
            [named("\"a\""), b" x".to_vec()].concat(),
            &[422],
        ),
        (
            "not UTF-8",
            b"{\"concepts\":[{\"name\":\"\xff\xfe\"}]}".to_vec(),
            &[400],
        ),
        (
            "a byte order mark",
            [b"\xef\xbb\xbf".to_vec(), named("\"a\"")].concat(),
            &[400, 422],
        ),
        ("a lone surrogate", named("\"\\ud800\""), &[400, 422]),
        (
            "surrogates in the wrong order",
            named("\"\\udc00\\ud800\""),
            &[400, 422],
        ),
        ("NUL", named("\"a\\u0000b\""), &[400, 422]),
        ("a bare control character", named("\"a\u{1}b\""), &[422]),
        ("NaN", named("NaN"), &[422]),
        ("Infinity", named("-Infinity"), &[422]),
        ("1e400", named("1e400"), &[422]),
        (
            "a number of a million digits",
            named(&"9".repeat(1_000_000)),
            &[413, 422],
        ),
        ("an exponent of ten digits", named("1e9999999999"), &[422]),
        ("900 levels", nested(900), &[400]),
        ("a million levels", nested(1_000_000), &[400]),
        ("129 levels", nested(129), &[400]),
        ("more levels than a concept may have", nested(100), &[413]),
        ("duplicate keys", b"{\"concepts\":[{\"a\":1,\"a\":2}]}".to_vec(), &[422]),
        (
            "duplicate keys, one escaped",
            b"{\"concepts\":[{\"a\":1,\"\\u0061\":2}]}".to_vec(),
            &[422],
        ),
        ("a list for a body", b"[1,2]".to_vec(), &[422]),
        ("null for a body", b"null".to_vec(), &[422]),
        ("no concepts", b"{}".to_vec(), &[422]),
        ("concepts of another type", b"{\"concepts\":\"many\"}".to_vec(), &[422]),
        ("a concept of another type", b"{\"concepts\":[1]}".to_vec(), &[422]),
        ("an empty list", b"{\"concepts\":[]}".to_vec(), &[400]),
        ("an empty concept", b"{\"concepts\":[{}]}".to_vec(), &[400]),
        (
            "nothing left after anonymisation",
            b"{\"concepts\":[{\"id\":1,\"user_name\":\"x\"}]}".to_vec(),
            &[400],
        ),
        (
            "1,001 concepts",
            json!({"concepts": (0..1001).map(|n| json!({"n": n})).collect::<Vec<_>>()})
                .to_string()
                .into(),
            &[400],
        ),
        (
            "one bad among good",
            b"{\"concepts\":[{\"name\":\"good\"},{}]}".to_vec(),
            &[400],
        ),
        ("a concept over 64 KiB", named(&format!("\"{long}\"")), &[413]),
        (
            "a body over 4 MiB",
            named(&format!("\"{}\"", "x".repeat(5 * 1024 * 1024))),
            &[413],
        ),
    ]
}

/// Every refusal tells its reason in the same shape.
fn expect_problem(what: &str, answer: &Answer, statuses: &[u16]) -> Value {
    assert!(
        statuses.contains(&answer.status),
        "{what}: {} {}",
        answer.status,
        answer.text()
    );
    assert!(
        answer.header("content-type").starts_with("application/json"),
        "{what}: {}",
        answer.header("content-type")
    );
    let problem = answer.json();
    let detail = &problem["detail"];
    let empty =
        detail.as_str().is_some_and(str::is_empty) || detail.as_array().is_some_and(Vec::is_empty) || detail.is_null();
    assert!(!empty, "{what}: {problem}");
    assert_eq!(problem["status"], answer.status, "{what}");
    for field in ["type", "title", "code", "request_id"] {
        assert!(problem[field].is_string(), "{what}: no {field} in {problem}");
    }
    problem
}

/// The node still serves: a fresh member gives, finds what it gave, and finds everything.
async fn expect_healthy(node: &Node, after: &str) {
    let mut member = Member::new(node, format!("healthy after {after}"));
    let given = member
        .contribute(&[json!({"name": format!("found after {after}")})])
        .await
        .unwrap();
    assert_eq!(given.ok()["new_concepts"], 1, "{after}");
    let found = member
        .knowledge(&format!("found after {after}"), 10)
        .await
        .unwrap()
        .ok();
    assert_eq!(found["count"], 1, "{after}");
    assert!(
        member.knowledge("", 1000).await.unwrap().ok()["count"]
            .as_u64()
            .unwrap()
            >= 1,
        "{after}"
    );
    assert_eq!(
        member.client.get("/federation/stats").await.unwrap().status,
        200,
        "{after}"
    );
}

async fn send(client: &mut Client, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    client
        .call(Method::POST, CONTRIBUTE, headers, body.into())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_bodies_are_refused_and_break_nothing() {
    let mut node = Node::start().await;
    for (what, body, statuses) in bodies() {
        let mut client = node.client();
        let answer = send(&mut client, &[JSON, ("x-node-id", "hostile")], body).await;
        let problem = expect_problem(what, &answer, statuses);
        if what == "one bad among good" {
            assert!(
                problem.to_string().contains('1'),
                "the bad one is named by its index: {problem}"
            );
        }
        expect_healthy(&node, what).await;
    }
    let standing = Member::new(&node, "hostile").status().await.unwrap().ok();
    assert_eq!(
        federation::number(&standing["contribution_score"]),
        0.0,
        "a refused request earns nothing"
    );
    // What is on disk is as good as what was in memory.
    node.kill();
    node.restart().await;
    expect_healthy(&node, "a restart").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_names_and_heads_are_refused() {
    let node = Node::start().await;
    let good = named("\"a\"");
    let long = "n".repeat(257);
    type Head<'a> = (&'a str, Vec<(&'a str, &'a str)>, &'a [u16]);
    let heads: [Head<'_>; 6] = [
        ("no member", vec![JSON], &[401]),
        ("an empty member", vec![JSON, ("x-node-id", "")], &[401]),
        ("a long member", vec![JSON, ("x-node-id", &long)], &[422]),
        ("a control character", vec![JSON, ("x-node-id", "a\tb")], &[422]),
        ("no content type", vec![("x-node-id", "a")], &[415]),
        (
            "another content type",
            vec![("content-type", "text/plain"), ("x-node-id", "a")],
            &[415],
        ),
    ];
    for (what, head, statuses) in heads {
        let answer = send(&mut node.client(), &head, good.clone()).await;
        expect_problem(what, &answer, statuses);
    }
    let mut client = node.client();
    expect_problem(
        "an unknown route",
        &client.get("/federation/nowhere").await.unwrap(),
        &[404],
    );
    let wrong = client.get(CONTRIBUTE).await.unwrap();
    expect_problem("a wrong method", &wrong, &[405]);
    assert_eq!(wrong.header("allow"), "POST");
    // Names are data, never paths.
    for name in [
        "../../etc/passwd",
        "a/b",
        "..",
        "%2e%2e%2f",
        "C:\\nul",
        "'; drop table--",
        "\u{202e}right-to-left",
    ] {
        let body = json!({ "node_id": name });
        let answer = client.post("/federation/register", "", &body).await.unwrap().ok();
        assert_eq!(answer["node_id"], name);
    }
    for body in [
        json!({"node_id": "a\nb"}),
        json!({"node_id": 5}),
        json!({"node_id": "n".repeat(257)}),
        json!({"verify_constant": "five"}),
    ] {
        let answer = client.post("/federation/register", "", &body).await.unwrap();
        expect_problem(&body.to_string(), &answer, &[422]);
    }
    for body in [
        json!({"limit": 0}),
        json!({"limit": 1001}),
        json!({"limit": 1.5}),
        json!({"min_quality": -1}),
        json!({"query": 7}),
    ] {
        let answer = client.post("/federation/knowledge", "asker", &body).await.unwrap();
        expect_problem(&body.to_string(), &answer, &[422]);
    }
    let standing = Member::new(&node, "asker").status().await.unwrap().ok();
    assert_eq!(
        federation::number(&standing["consumption_score"]),
        0.0,
        "a refused request costs nothing"
    );
    expect_healthy(&node, "hostile names").await;
}

/// Names that the node must take: up to 256 bytes of UTF-8 without control characters. Several are what careless code
/// would take for one another, for a path, for markup or for a name of its own.
fn strange_names() -> Vec<String> {
    let longest = "n".repeat(256);
    let mut names: Vec<String> = [
        // Paths, and what stands for them.
        "../../x",
        "..",
        ".",
        "/",
        "/etc/passwd",
        "a/b",
        "C:\\nul",
        "%2e",
        "%2e%2e%2f",
        "%00",
        // Quotes, markup, other languages.
        "'; drop table members; --",
        "\"",
        "\\",
        "\\u0000",
        "{\"node_id\":\"x\"}",
        "<script>alert(1)</script>",
        "${jndi:ldap://x}",
        "a  b",
        "-rf",
        "null",
        // Names the node uses inside.
        "system",
        "shared",
        "usage/",
        "$serde_json::private::Number",
        // Scripts, directions, pictures; marks that show nothing.
        "узел-1",
        "节点",
        "\u{202e}tfel-ot-thgir",
        "شبكة",
        "👩‍👩‍👧‍👦",
        "\u{feff}mark",
        "zero\u{200b}width",
        "\u{10ffff}",
        // The same to the eye or after folding, and yet different members.
        "Node",
        "node",
        "ﬁ",
        "fi",
        "\u{e9}",
        "e\u{301}",
        // One the beginning of the other, up to the longest there is.
        &longest,
        &longest[1..],
    ]
    .map(str::to_owned)
    .into();
    names.push("é".repeat(128));
    names.push("😀".repeat(64));
    names
}

/// A member with a strange name, and all it has been told of itself.
struct Strange {
    member: Member,
    /// What its one contribution was answered.
    given: Value,
    /// Its standing after the last request.
    status: Value,
    questions: u64,
}

impl Strange {
    /// Registers, gives one concept of its own.
    async fn begin(node: &Node, number: usize, name: String) -> Strange {
        let mut member = Member::new(node, name);
        let registered = member.register(None).await.unwrap().ok();
        assert_eq!(registered["node_id"], member.name);
        let given = give(&mut member, number).await;
        assert_eq!(given["new_concepts"], 1, "{:?}", member.name);
        let status = Value::Null;
        Strange {
            member,
            given,
            status,
            questions: 0,
        }
    }

    /// Draws its own concept, which is charged, and reads its standing.
    async fn ask(&mut self, number: usize) {
        let name = self.member.name.clone();
        let found = self.member.knowledge(&concept_name(number), 10).await.unwrap().ok();
        assert_eq!(found["count"], 1, "{name:?}");
        assert_eq!(
            found["concepts"][0]["concept"]["name"],
            concept_name(number),
            "{name:?}"
        );
        self.questions += 1;
        self.status = self.member.status().await.unwrap().ok();
        assert_eq!(self.status["node_id"], name);
        assert_eq!(self.status["registered"], true, "{name:?}");
        assert_eq!(federation::number(&self.status["contribution_score"]), 1.0, "{name:?}");
        let consumed = federation::number(&self.status["consumption_score"]);
        assert_eq!(consumed, self.questions as f64, "{name:?}");
    }

    /// After a restart: its standing is what it was, its retry is answered as the first time and not credited, its concept
    /// is there.
    async fn expect_unchanged(&mut self, number: usize) {
        let name = self.member.name.clone();
        assert_eq!(self.member.status().await.unwrap().ok(), self.status, "{name:?}");
        let retried = give(&mut self.member, number).await;
        assert_eq!(retried, self.given, "{name:?}");
        self.ask(number).await;
    }
}

fn concept_name(number: usize) -> String {
    format!("given by strange member {number:02}")
}

/// The one contribution of a member, under an idempotency key that all members use.
async fn give(member: &mut Member, number: usize) -> Value {
    let headers = [JSON, ("x-node-id", &member.name), ("idempotency-key", "the-only-one")];
    let body = named(&format!("\"{}\"", concept_name(number)));
    let answer = member.client.call(Method::POST, CONTRIBUTE, &headers, body.into());
    answer.await.unwrap().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strange_names_are_members_like_any_other_through_a_crash_and_a_stop() {
    let names = strange_names();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    let mut node = Node::start().await;
    let mut members = Vec::new();
    for (number, name) in names.into_iter().enumerate() {
        let mut strange = Strange::begin(&node, number, name).await;
        strange.ask(number).await;
        members.push(strange);
    }
    let count = members.len() as u64;
    assert_eq!(federation::total_concepts(&mut node.client()).await, count);
    for orderly in [false, true] {
        if orderly {
            assert!(node.stop(Duration::from_secs(20)).await.success());
        } else {
            node.kill();
        }
        node.restart().await;
        let stats = node.client().get("/federation/stats").await.unwrap().ok();
        assert_eq!(stats["federation"]["total_concepts"], count);
        for (number, strange) in members.iter_mut().enumerate() {
            strange.expect_unchanged(number).await;
        }
        assert_eq!(federation::total_concepts(&mut node.client()).await, count);
    }
    // What was read is also what can be read by everybody: names in the pool break nobody's answer.
    let everything = Member::new(&node, "reader").knowledge("strange member", 1000).await;
    assert_eq!(everything.unwrap().ok()["count"], count);
    // Nothing outside its directory, or beside what belongs there, was made of a name.
    let data = node.launch().data_directory();
    let mut found: Vec<_> = std::fs::read_dir(data)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    found.sort();
    assert_eq!(found, ["LOCK", "db", "log", "node-id"]);
}
