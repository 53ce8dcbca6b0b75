//! Imports and exports: every form in and out again, over kills of either side, and files that are not what they should be.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use continuum_tests::{Admin, Member, Node, node::READY_WITHIN};
use serde_json::{Value, json};

/// How long something that must happen may take on a busy machine.
const PATIENCE: Duration = READY_WITHIN;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

/// Keys of every type, with concurrent values, deletions, expiries and what needs escapes.
fn fill(admin: &Admin) {
    admin.ok(&["namespaces", "create", "notes", "--strategy", "keep-siblings"]);
    let writes: [&[&str]; 12] = [
        &["register", "{\"b\": 1.50,\n \"a\": [1e3, \"é\", \"\\u00e9\"]}"],
        &["two", "1"],
        &["two", "2"],
        &["session", "\"short\"", "--ttl", "12h"],
        &["plan", "1", "--type", "sibling"],
        &["plan", "{\"x\": 2}", "--type", "sibling"],
        &["tags", "[\"red\", {\"b\": 2}, \"blue\"]", "--type", "set"],
        &["tags", "--type", "set", "--remove", "\"red\""],
        &["hits", "5", "--type", "counter"],
        &["hits", "--type", "counter", "--", "-7"],
        &["gone", "[\"x\"]", "--type", "set"],
        &["ключ \"\\\u{1f600}", "1"],
    ];
    for words in writes {
        admin.ok(&[&["put", "notes"], words].concat());
    }
    admin.ok(&["delete", "notes", "gone", "--yes"]);
}

fn export(admin: &Admin, namespace: &str, file: &Path) -> Value {
    admin.ok(&["export", namespace, text(file), "-o", "json"]).json()
}

#[tokio::test]
async fn export_import_export_is_equal_byte_for_byte() {
    let (node, other) = (Node::start().await, Node::start().await);
    let (admin, other) = (Admin::of(&node), Admin::of(&other));
    fill(&admin);
    let first = admin.home().join("first.jsonl");
    let told = export(&admin, "notes", &first);
    assert_eq!((&told["keys"], &told["form"]), (&json!(8), &json!("lossless")));
    let lines = fs::read_to_string(&first).unwrap();
    assert!(lines.contains("\"entries\":[]"), "the deleted key is there");
    for (turn, name) in ["second.jsonl", "third.jsonl.gz", "fourth.jsonl.zst"]
        .into_iter()
        .enumerate()
    {
        let packed = admin.home().join(name);
        export(&admin, "notes", &packed);
        // Twice: the second time changes nothing.
        for _ in 0..=turn {
            let imported = other.ok(&["import", text(&packed), "-o", "json"]).json();
            assert_eq!(
                imported,
                json!({"form": "lossless", "namespace": "notes", "keys": 8, "bad": 0, "dry_run": false})
            );
        }
        let again = admin.home().join("again.jsonl");
        other.ok(&["export", "notes", text(&again), "--yes"]);
        assert!(fs::read(&again).unwrap() == fs::read(&first).unwrap(), "{name}");
    }
    let strategy = &other.ok(&["namespaces", "get", "notes", "-o", "json"]).json()["strategy"];
    assert_eq!(strategy, "keep-siblings", "made as it was there");
    for key in [
        "register",
        "two",
        "session",
        "plan",
        "tags",
        "hits",
        "ключ \"\\\u{1f600}",
    ] {
        assert_eq!(
            other.ok(&["get", "notes", key]).out,
            admin.ok(&["get", "notes", key]).out,
            "{key}"
        );
    }
    assert_eq!(other.run(&["get", "notes", "gone"]).code, Some(1));
}

#[tokio::test]
async fn a_copy_under_another_name_leaves_the_original_sound() {
    let node = Node::start().await;
    let admin = Admin::of(&node);
    fill(&admin);
    let file = admin.home().join("notes.jsonl");
    export(&admin, "notes", &file);
    let copies = ["one.jsonl", "two.jsonl"].map(|name| admin.home().join(name));
    for copy in &copies {
        admin.ok(&["import", text(&file), "--namespace", "copy"]);
        export(&admin, "copy", copy);
    }
    assert!(
        fs::read(&copies[0]).unwrap() == fs::read(&copies[1]).unwrap(),
        "the second time changes nothing"
    );
    for key in ["register", "two", "plan", "tags", "hits"] {
        assert_eq!(
            admin.ok(&["get", "copy", key]).out,
            admin.ok(&["get", "notes", key]).out,
            "{key}"
        );
    }
    // One write names one key: two namespaces with the same would be told as damage.
    admin.ok(&["verify"]);
}

#[tokio::test]
async fn plain_lines_are_not_added_to_what_stands_side_by_side() {
    let node = Node::start().await;
    let admin = Admin::of(&node);
    admin.ok(&["namespaces", "create", "notes", "--strategy", "keep-siblings"]);
    let lines = "{\"key\": \"k\", \"value\": 1}\n";
    let refused = admin.run_reading(&["import", "-", "--namespace", "notes"], lines);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("once more"), "{}", refused.err);
    assert_eq!(admin.run(&["get", "notes", "k"]).code, Some(1));
}

#[tokio::test]
async fn what_is_newer_at_the_node_stays() {
    let node = Node::start().await;
    let admin = Admin::of(&node);
    admin.ok(&["namespaces", "create", "notes"]);
    for (key, value) in [("changed", "1"), ("deleted", "1")] {
        admin.ok(&["put", "notes", key, value]);
    }
    let file = admin.home().join("notes.jsonl");
    export(&admin, "notes", &file);
    admin.ok(&["put", "notes", "changed", "2"]);
    admin.ok(&["delete", "notes", "deleted", "--yes"]);
    admin.ok(&["import", text(&file)]);
    assert_eq!(admin.ok(&["get", "notes", "changed"]).out, "2\n");
    assert_eq!(
        admin.run(&["get", "notes", "deleted"]).code,
        Some(1),
        "a deletion is not undone"
    );
}

#[tokio::test]
async fn the_plain_form_is_read_again() {
    let node = Node::start().await;
    let admin = Admin::of(&node);
    admin.ok(&["namespaces", "create", "notes"]);
    admin.ok(&["put", "notes", "a", "{\"b\": 1.50,\n\"a\":1E5}"]);
    admin.ok(&["put", "notes", "tags", "[\"red\", 2]", "--type", "set"]);
    let plain = admin.ok(&["export", "notes", "-", "--plain"]).out;
    assert_eq!(
        plain,
        "{\"key\":\"a\",\"value\":{\"b\":1.50,\"a\":1E5}}\n{\"key\":\"tags\",\"value\":[\"red\",2],\"type\":\"set\"}\n"
    );
    let words = ["import", "-", "--namespace", "copy", "--create-namespace", "-o", "json"];
    let imported = admin.run_reading(&words, &plain);
    assert_eq!(imported.code, Some(0), "{}", imported.err);
    assert_eq!(imported.json()["keys"], 2);
    let again = admin.ok(&["export", "copy", "-", "--plain"]).out;
    assert_eq!(again, plain);
    // What cannot be written twice without counting twice.
    admin.ok(&["put", "notes", "hits", "5", "--type", "counter"]);
    let plain = admin.ok(&["export", "notes", "-", "--plain"]).out;
    let refused = admin.run_reading(&["import", "-", "--namespace", "copy"], &plain);
    assert_eq!(refused.code, Some(65));
    assert!(
        refused
            .err
            .contains("line 2: a plain line of counter would count twice"),
        "{}",
        refused.err
    );
}

#[tokio::test]
async fn a_bad_line_is_named_and_nothing_behind_it_is_written() {
    let node = Node::start().await;
    let admin = Admin::of(&node);
    admin.ok(&["namespaces", "create", "notes"]);
    let mut lines: Vec<String> = (0..3_000)
        .map(|number| json!({"key": format!("k{number:04}"), "value": number}).to_string())
        .collect();
    lines[1_700] = "{\"key\":\"k1700\",\"value\":NaN}".to_owned();
    let file = admin.home().join("lines.jsonl");
    fs::write(&file, lines.join("\n")).unwrap();
    let dry = admin.run(&["import", text(&file), "--namespace", "notes", "--dry-run"]);
    assert_eq!(dry.code, Some(65), "{}", dry.err);
    assert_eq!(
        admin.ok(&["scan", "notes", "-o", "json"]).lines().len(),
        0,
        "a dry run writes nothing"
    );
    let refused = admin.run(&["import", text(&file), "--namespace", "notes"]);
    assert_eq!(refused.code, Some(65));
    assert!(
        refused.err.contains("lines.jsonl, line 1701: malformed JSON"),
        "{}",
        refused.err
    );
    assert!(refused.err.contains("1,700 keys are written"), "{}", refused.err);
    assert_eq!(admin.ok(&["scan", "notes", "-o", "json"]).lines().len(), 1_700);
    let skipped = admin.ok(&[
        "import",
        text(&file),
        "--namespace",
        "notes",
        "--skip-bad",
        "-o",
        "json",
    ]);
    assert!(skipped.err.contains("line 1701"), "{}", skipped.err);
    let told = skipped.json();
    assert_eq!((&told["keys"], &told["bad"]), (&json!(2_999), &json!(1)));
    // What only the node can tell: a key that holds another type.
    admin.ok(&["delete", "notes", "k0003", "--yes"]);
    admin.ok(&["put", "notes", "k0003", "1", "--type", "counter"]);
    let refused = admin.run(&["import", text(&file), "--namespace", "notes"]);
    assert_eq!(refused.code, Some(65));
    assert!(refused.err.contains("line 4:"), "{}", refused.err);
    let told = admin
        .ok(&[
            "import",
            text(&file),
            "--namespace",
            "notes",
            "--skip-bad",
            "-o",
            "json",
        ])
        .json();
    assert_eq!((&told["keys"], &told["bad"]), (&json!(2_998), &json!(2)));
}

#[tokio::test]
async fn files_that_are_cut_or_not_there_are_told_apart() {
    let node = Node::start().await;
    let admin = Admin::of(&node);
    fill(&admin);
    let file = admin.home().join("notes.jsonl");
    export(&admin, "notes", &file);
    let whole = fs::read_to_string(&file).unwrap();
    let cut = whole.lines().take(4).collect::<Vec<_>>().join("\n");
    fs::write(&file, cut).unwrap();
    let refused = admin.run(&["import", text(&file), "--dry-run"]);
    assert_eq!(refused.code, Some(65));
    assert!(refused.err.contains("cut off after 3 keys"), "{}", refused.err);
    let packed = admin.home().join("notes.jsonl.gz");
    export(&admin, "notes", &packed);
    let bytes = fs::read(&packed).unwrap();
    fs::write(&packed, &bytes[..bytes.len() - 5]).unwrap();
    let refused = admin.run(&["import", text(&packed)]);
    assert_eq!(refused.code, Some(65), "{}", refused.err);
    assert_eq!(
        admin.run(&["import", "no-such-file", "--namespace", "notes"]).code,
        Some(66)
    );
    assert_eq!(
        admin
            .run(&["import", text(&file), "--namespace", "none", "--plain"])
            .code,
        Some(1)
    );
    let nowhere = admin.run_reading(&["import", "-"], "{\"key\":\"k\",\"value\":1}\n");
    assert_eq!(nowhere.code, Some(64), "{}", nowhere.err);
    // An export does not write over a file unasked, and leaves nothing of one that failed.
    assert_eq!(admin.run(&["export", "notes", text(&file)]).code, Some(64));
    assert_eq!(
        admin
            .run(&["export", "none", text(&admin.home().join("none.jsonl"))])
            .code,
        Some(1)
    );
    assert!(!admin.home().join("none.jsonl.partial").exists());
}

/// Starts an import of lines that come from here, and waits until the first of them are at the node.
fn importing(admin: &Admin, lines: &str, key: &str) -> std::process::Child {
    let mut command = admin.command(["import", "-", "--namespace", "notes"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.as_mut().unwrap().write_all(lines.as_bytes()).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while admin.run(&["get", "notes", key]).code != Some(0) {
        assert!(Instant::now() < deadline, "the first lines are not written");
        thread::sleep(Duration::from_millis(5));
    }
    child
}

fn lines_of(numbers: std::ops::Range<u32>) -> String {
    numbers
        .map(|number| format!("{{\"key\":\"k{number:05}\",\"value\":{number}}}\n"))
        .collect()
}

#[tokio::test]
async fn an_import_that_was_killed_is_run_again() {
    let node = Node::start().await;
    let admin = Admin::of(&node);
    admin.ok(&["namespaces", "create", "notes"]);
    let mut child = importing(&admin, &lines_of(0..5_000), "k00499");
    child.kill().unwrap();
    child.wait().unwrap();
    let had = admin.ok(&["scan", "notes", "-o", "json"]).lines().len();
    assert!((500..10_000).contains(&had), "{had}");
    let whole = admin.run_reading(&["import", "-", "--namespace", "notes"], &lines_of(0..10_000));
    assert_eq!(whole.code, Some(0), "{}", whole.err);
    assert_eq!(admin.ok(&["export", "notes", "-", "--plain"]).out, lines_of(0..10_000));
}

#[tokio::test]
async fn an_import_outlives_the_node() {
    let mut node = Node::start().await;
    let admin = Admin::of(&node);
    admin.ok(&["namespaces", "create", "notes"]);
    let mut child = importing(&admin, &lines_of(0..5_000), "k00499");
    node.restart().await;
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines_of(5_000..10_000).as_bytes()).unwrap();
    drop(stdin);
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(admin.ok(&["export", "notes", "-", "--plain"]).out, lines_of(0..10_000));
}

#[tokio::test]
async fn a_store_of_the_python_system_is_taken_over() {
    let node = Node::start().await;
    let (admin, mut client) = (Admin::of(&node), node.client());
    let store = data("python-store");
    let words = ["import", "--from", "python", text(&store), "-o", "json"];
    let dry = admin.ok(&[&words[..], &["--dry-run"]].concat()).json();
    assert_eq!(
        dry["found"],
        json!({"files": 7, "members": 3, "concepts": 43, "keys": 3})
    );
    assert_eq!(
        client.get("/federation/stats").await.unwrap().ok()["federation"]["total_concepts"],
        0
    );
    let first = admin.ok(&words).json();
    assert_eq!(
        (&first["members"], &first["concepts"]),
        (&json!({"new": 3, "known": 0}), &json!({"new": 43, "known": 0}))
    );
    let export = admin.home().join("replicated.jsonl");
    admin.ok(&["export", "replicated", text(&export)]);
    let states = fs::read_to_string(&export).unwrap();
    assert!(
        states.contains("\"register\":\"{\\\"value\\\":\\\"two\\\"}\""),
        "{states}"
    );
    // Again: nothing changes.
    let again = admin.ok(&words).json();
    assert_eq!(
        (&again["members"], &again["concepts"]),
        (&json!({"new": 0, "known": 3}), &json!({"new": 0, "known": 43}))
    );
    admin.ok(&["export", "replicated", text(&export), "--yes"]);
    assert_eq!(fs::read_to_string(&export).unwrap(), states);
    let stats = client.get("/federation/stats").await.unwrap().ok();
    assert_eq!(stats["federation"]["total_concepts"], 43);
    assert_eq!(stats["federation"]["total_contributors"], 3);
    for (member, given, taken, level) in [
        ("site-berlin", 25.0, 0.0, "contributor"),
        ("site-lagos", 15.0, 2.0, "contributor"),
        ("my-node-1", 3.0, 1.0, "twilight"),
    ] {
        let status = Member::new(&node, member).status().await.unwrap().ok();
        assert_eq!(status["registered"], true, "{status}");
        assert_eq!(
            (&status["contribution_score"], &status["consumption_score"]),
            (&json!(given), &json!(taken)),
            "{status}"
        );
        assert_eq!(status["access_level"], level, "{status}");
    }
    let keys = admin.ok(&["scan", "replicated", "-o", "json"]).lines();
    let clocks: Vec<&Value> = keys.iter().map(|line| &line["clock"]).collect();
    assert_eq!(
        clocks,
        [
            &json!({"replica-1": 1}),
            &json!({"replica-1": 2}),
            &json!({"replica-2": 1})
        ]
    );
    assert_eq!(keys[0]["written_at"], "2026-11-22T13:51:20.018Z");
}

#[tokio::test]
async fn a_damaged_store_of_the_python_system_is_refused_before_anything_is_written() {
    let node = Node::start().await;
    let admin = Admin::of(&node);
    let store = admin.home().join("store");
    for file in ["shared/knowledge.json", "replication/replication_replica-1.json"] {
        let path = store.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(data("python-store").join(file), &path).unwrap();
    }
    let pool = store.join("shared/knowledge.json");
    let changed = fs::read_to_string(&pool)
        .unwrap()
        .replacen("\"entity\"", "\"entitx\"", 1);
    fs::write(&pool, changed).unwrap();
    let words = ["import", "--from", "python", text(&store), "-o", "json"];
    let refused = admin.run(&words);
    assert_eq!(refused.code, Some(65), "{}", refused.err);
    let bad = &refused.json()["bad"][0];
    assert_eq!(bad["file"], "shared/knowledge.json");
    assert_eq!(
        bad["key"],
        "f4329bfb28bcb3b3b048c547bf4e212c9a30ddd97d15633fcbe159b9dc9943bb"
    );
    let stats = node.client().get("/federation/stats").await.unwrap().ok();
    assert_eq!(stats["federation"]["total_concepts"], 0);
    assert_eq!(admin.run(&["namespaces", "get", "replicated"]).code, Some(1));
    let done = admin.ok(&[&words[..], &["--skip-bad"]].concat()).json();
    assert_eq!(done["concepts"]["new"], 42);
}
