//! Bodies and names written to hurt: none may give a 5xx, and none may break a later read.

use super::*;

/// Bodies for `/federation/contribute`.
fn bodies() -> Vec<(&'static str, Vec<u8>)> {
    [texts(), numbers(), structures(), shapes()].concat()
}

/// `value` as the name of a concept.
fn concept(value: &str) -> Vec<u8> {
    format!(r#"{{"concepts":[{{"name":{value}}}]}}"#).into_bytes()
}

fn raw(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn texts() -> Vec<(&'static str, Vec<u8>)> {
    let mut invalid = concept("\"x\"");
    invalid[24] = 0xc3;
    vec![
        ("lone surrogate", concept(r#""\ud800""#)),
        ("lone low surrogate", concept(r#""\udc00x""#)),
        ("swapped surrogates", concept(r#""\udc00\ud800""#)),
        ("surrogate in a key", raw(r#"{"concepts":[{"\ud800":1}]}"#)),
        ("escaped NUL", concept(r#""a\u0000b""#)),
        ("raw NUL", concept("\"a\0b\"")),
        ("raw control", concept("\"a\u{1}b\"")),
        ("NUL body", vec![0; 1000]),
        ("invalid UTF-8", invalid),
        ("overlong UTF-8", [concept("\"x\""), vec![0xc0, 0x80]].concat()),
        (
            "UTF-16",
            "{\"concepts\":[]}".encode_utf16().flat_map(u16::to_le_bytes).collect(),
        ),
        ("byte order mark", raw("\u{feff}{\"concepts\":[{\"a\":1}]}")),
        ("markup", concept(r#""</script><script>alert(1)</script>\u2028""#)),
        ("right to left", concept("\"\u{202e}abc\u{200b}\"")),
        ("not a character", concept("\"\u{ffff}\u{fdd0}\"")),
        ("combining", concept(&format!("\"a{}\"", "\u{301}".repeat(10_000)))),
    ]
}

fn numbers() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("NaN", concept("NaN")),
        ("Infinity", concept("-Infinity")),
        ("1e400", concept("1e400")),
        ("giant exponent", concept("-1e999999999999999999")),
        ("tiny exponent", concept("1e-999999999999999999")),
        ("giant digits", concept(&"9".repeat(100_000))),
        ("tiny", concept(&format!("0.{}1", "0".repeat(60_000)))),
        ("leading zero", concept("01")),
        ("minus", concept("-")),
    ]
}

fn structures() -> Vec<(&'static str, Vec<u8>)> {
    let deep = format!(r#"{{"concepts":[{}{}]}}"#, "[".repeat(900), "]".repeat(900));
    let fields: Vec<String> = (0..5000).map(|number| format!("\"{number}\":{number}")).collect();
    vec![
        ("900 levels", deep.into_bytes()),
        ("only brackets", "[".repeat(4_000_000).into_bytes()),
        ("duplicate keys", raw(r#"{"concepts":[{"a":1,"a":2}]}"#)),
        ("duplicate concepts", raw(r#"{"concepts":[{"a":1}],"concepts":[]}"#)),
        ("escaped duplicate", raw(r#"{"concepts":[{"a":1,"\u0061":2}]}"#)),
        (
            "private number",
            raw(r#"{"concepts":[{"$serde_json::private::Number":"x"}]}"#),
        ),
        (
            "private text",
            raw(r#"{"concepts":[{"$serde_json::private::RawValue":"}"}]}"#),
        ),
        ("trailing comma", raw(r#"{"concepts":[{"a":1},]}"#)),
        ("comment", raw(r#"{"concepts":[/**/{"a":1}]}"#)),
        ("two values", raw(r#"{"concepts":[{"a":1}]} {}"#)),
        ("cut short", raw(r#"{"concepts":[{"a":"#)),
        (
            "prototype",
            raw(r#"{"concepts":[{"__proto__":{"x":1},"constructor":{}}]}"#),
        ),
        ("empty key", raw(r#"{"concepts":[{"":""}]}"#)),
        ("white space only", raw(" \n\t ")),
        (
            "many fields",
            format!(r#"{{"concepts":[{{{}}}]}}"#, fields.join(",")).into_bytes(),
        ),
    ]
}

fn shapes() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("null", raw("null")),
        ("number", raw("5")),
        ("string", raw("\"concepts\"")),
        ("list", raw("[[]]")),
        ("concepts null", raw(r#"{"concepts":null}"#)),
        ("concepts string", raw(r#"{"concepts":"x"}"#)),
        ("concepts number", raw(r#"{"concepts":1e5}"#)),
        ("concept null", raw(r#"{"concepts":[null]}"#)),
        ("concept list", raw(r#"{"concepts":[[{"a":1}]]}"#)),
        (
            "every field of another type",
            raw(r#"{"concepts":1,"node_id":[],"verify_constant":{},"query":1,"limit":"x","min_quality":[]}"#),
        ),
    ]
}

/// The pool answers, as JSON that Python's and our reader take.
async fn reads(node: &Node, after: &str) {
    for (round, query) in ["", "a", "\u{202e}", "script"].into_iter().enumerate() {
        let body = serde_json::json!({ "query": query, "limit": 1000 }).to_string();
        let known = node.knowledge(&format!("reader {after} {round}"), body).await;
        assert_eq!(known.status, 200, "after {after}: {known:?}");
        engine::json::parse(&known.body).unwrap_or_else(|error| panic!("after {after}: {error}"));
    }
    assert_eq!(node.get("/federation/stats").send().await.status, 200);
}

#[tokio::test]
async fn hostile_bodies_are_refused_or_harmless() {
    let node = node().await;
    node.contribute("first", concepts(["already here"])).await;
    for (name, body) in bodies() {
        for path in [
            "/federation/contribute",
            "/federation/knowledge",
            "/federation/register",
        ] {
            let caller = format!("sender of {name} {path}");
            let answer = node.post(path, &body).header("x-node-id", &caller).send().await;
            assert!(answer.status < 500, "{name} on {path}: {answer:?}");
            if answer.status != 200 {
                answer.refusal(answer.status, answer.json()["code"].as_str().unwrap());
            }
        }
        reads(&node, name).await;
    }
}

#[tokio::test]
async fn each_kind_of_bad_text_has_its_status() {
    let node = node().await;
    let status = |name: &str| {
        let body = bodies().into_iter().find(|(known, _)| *known == name).unwrap().1;
        let call = node.post("/federation/contribute", body).header("x-node-id", "a");
        async move { call.send().await }
    };
    for name in [
        "lone surrogate",
        "NaN",
        "1e400",
        "escaped NUL",
        "raw NUL",
        "trailing comma",
        "white space only",
    ] {
        let detail = status(name).await.refusal(422, "malformed_json");
        assert_eq!(
            (&detail[0]["type"], &detail[0]["loc"][0]),
            (&Value::from("json_invalid"), &Value::from("body")),
            "{name}"
        );
    }
    status("900 levels").await.refusal(400, "nested_too_deep");
    status("invalid UTF-8").await.refusal(400, "not_utf8");
    status("UTF-16").await.refusal(422, "malformed_json");
    let told = status("duplicate keys").await.refusal(422, "duplicate_key");
    assert!(
        told[0]["msg"].as_str().unwrap().ends_with("it stands in concepts[0]"),
        "{told}"
    );
    status("escaped duplicate").await.refusal(422, "duplicate_key");
}

#[tokio::test]
async fn names_are_data() {
    let node = node().await;
    let full = "é".repeat(128);
    let good = [
        "../../etc/passwd",
        "..",
        "/",
        "con",
        "a/b\\c",
        "naïve ☃ 名前 🦀",
        "' OR 1=1 --",
        "%2e%2e%2f%00",
        "{\"a\":1}",
        "a,b;c=d",
        "null",
        "\u{202e}abc",
        full.as_str(),
    ];
    for id in good {
        let registered = node
            .post("/federation/register", serde_json::json!({ "node_id": id }).to_string())
            .send()
            .await;
        assert_eq!(
            (registered.status, registered.json()["node_id"].as_str()),
            (200, Some(id)),
            "{registered:?}"
        );
        assert_eq!(
            node.contribute(id, concepts([id])).await.json()["contribution_score"],
            1.0,
            "{id}"
        );
        let status = node
            .get("/federation/status")
            .header("x-node-id", id)
            .send()
            .await
            .json();
        assert_eq!(
            (status["node_id"].as_str(), &status["registered"]),
            (Some(id), &Value::Bool(true))
        );
    }
    reads(&node, "names").await;
}

#[tokio::test]
async fn names_that_are_none_are_refused() {
    let node = node().await;
    let long = "é".repeat(128) + "x";
    for id in [long.as_str(), "a\tb", "line\u{85}feed", "\u{7f}"] {
        let body = serde_json::json!({ "node_id": id }).to_string();
        let detail = node
            .post("/federation/register", body)
            .send()
            .await
            .refusal(422, "invalid_request");
        assert_eq!(detail[0]["loc"], serde_json::json!(["body", "node_id"]));
    }
    // The last is "latin é" in Latin-1.
    for id in [
        long.as_bytes(),
        b"a\tb",
        "line\u{85}feed".as_bytes(),
        b"\xff\xfe",
        b"latin \xe9",
    ] {
        let refused = node
            .post("/federation/knowledge", "{}")
            .header("x-node-id", id)
            .send()
            .await;
        let detail = refused.refusal(422, "invalid_request");
        assert_eq!(detail[0]["loc"], serde_json::json!(["header", "x-node-id"]));
        node.get("/federation/status")
            .header("x-node-id", id)
            .send()
            .await
            .refusal(422, "invalid_request");
    }
    for id in [b"a\x01b".as_slice(), b"a\x00b", b"\x7f"] {
        // HTTP itself forbids these in a header; the face never sees them.
        let answer = node.get("/federation/status").header("x-node-id", id).send().await;
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (400, Some("unreadable_head")),
            "{answer:?}"
        );
    }
}
