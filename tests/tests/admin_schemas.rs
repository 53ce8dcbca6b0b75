//! Every verb of `continuum-admin`, run against a real node with `-o json`: what it prints is what its schema says.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::BTreeSet,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use continuum_tests::{Admin, Launch, Node, node::READY_WITHIN, skipped};
use serde_json::{Value, json};

/// What was printed, for which schema.
#[derive(Default)]
struct Printed(Vec<(&'static str, Value)>);

impl Printed {
    fn one(&mut self, admin: &Admin, schema: &'static str, words: &[&str]) -> Value {
        let ran = admin.ok(&[&["-o", "json"], words].concat());
        let data = ran.json();
        self.0.push((schema, data.clone()));
        data
    }

    fn lines(&mut self, admin: &Admin, schema: &'static str, words: &[&str]) -> Vec<Value> {
        let ran = admin.ok(&[&["-o", "json"], words].concat());
        let lines = ran.lines();
        self.0.extend(lines.iter().map(|line| (schema, line.clone())));
        lines
    }
}

/// The Python that has `jsonschema`, if there is one.
fn python() -> Option<String> {
    let python = std::env::var("CONTINUUM_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&python).args(["-c", "import jsonschema"]).output();
    has.is_ok_and(|output| output.status.success()).then_some(python)
}

const NO_PYTHON: &str = "Python has no `jsonschema`: run through tools/test";

/// Holds what was printed against the schemas.
fn check(python: &str, printed: &Printed) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut check = Command::new(python)
        .arg(tests.join("python/schemas.py"))
        .arg(tests.join("../tools/admin/schemas"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = check.stdin.take().unwrap();
    for (schema, data) in &printed.0 {
        writeln!(input, "{}", json!({ "schema": schema, "data": data })).unwrap();
    }
    drop(input);
    let output = check.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test]
async fn what_is_printed_is_what_the_schemas_say() {
    let Some(python) = python() else {
        return skipped("what_is_printed_is_what_the_schemas_say", NO_PYTHON);
    };
    let node = Node::start().await;
    let admin = Admin::of(&node);
    let mut printed = Printed::default();
    concepts(&admin, &mut printed);
    watches(&admin, &mut printed);
    files(&admin, &mut printed);
    lines_and_copies(&admin, &mut printed);
    contexts(&mut printed);
    cluster(&admin, &mut printed).await;
    stopped(node, &admin, &mut printed).await;
    check(&python, &printed);

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/admin/schemas");
    let there = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let there: BTreeSet<String> = there
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let used: BTreeSet<String> = printed.0.iter().map(|(schema, _)| (*schema).to_owned()).collect();
    assert_eq!(
        there, used,
        "a schema that nothing was held against, or the other way round"
    );
}

#[tokio::test]
async fn long_work_prints_what_the_schemas_say() {
    let Some(python) = python() else {
        return skipped("long_work_prints_what_the_schemas_say", NO_PYTHON);
    };
    let node = Node::start().await;
    let admin = Admin::of(&node);
    let mut printed = Printed::default();
    admin.ok(&["namespaces", "create", "notes"]);
    admin.ok(&["put", "notes", "k", "1"]);
    printed.one(&admin, "compact", &["compact"]);
    printed.one(
        &admin,
        "compact",
        &["compact", "--namespace", "notes", "--from", "a", "--to", "z"],
    );
    let report = printed.one(&admin, "verify", &["verify"]);
    assert_eq!(report["sound"], true);
    let ran = admin.ok(&["verify"]);
    assert!(
        !ran.out.is_empty() && ran.err.is_empty(),
        "data to one stream alone: {}",
        ran.err
    );
    check(&python, &printed);
}

/// Each type of key, written, read, scanned, deleted.
fn concepts(admin: &Admin, printed: &mut Printed) {
    printed.one(admin, "namespaces-list", &["namespaces", "list"]);
    printed.one(admin, "namespaces-create", &["namespaces", "create", "notes"]);
    printed.one(admin, "namespaces-get", &["namespaces", "get", "notes"]);
    printed.one(
        admin,
        "namespaces-set-policy",
        &["namespaces", "set-policy", "notes", "keep-siblings"],
    );
    let listed = printed.one(admin, "namespaces-list", &["namespaces", "list"]);
    assert_eq!(listed["namespaces"][0]["strategy"], "keep-siblings");
    let writes: [&[&str]; 6] = [
        &["register", r#"{"n": 1.50, "deep": [null, "é"]}"#],
        &["session", r#""short""#, "--ttl", "12h"],
        &["plan", "1", "--type", "sibling"],
        &["plan", "2", "--type", "sibling"],
        &["tags", r#"["red", {"b": 2}]"#, "--type", "set"],
        &["hits", "--type", "counter", "--", "-7"],
    ];
    for words in writes {
        printed.one(admin, "put", &[&["put", "notes"], words].concat());
        printed.one(admin, "put", &[&["put", "notes", "--dry-run"], words].concat());
    }
    for key in ["register", "session", "plan", "tags", "hits"] {
        printed.one(admin, "get", &["get", "notes", key]);
    }
    let scanned = printed.lines(admin, "scan", &["scan", "notes"]);
    assert_eq!(scanned.len(), 5);
    let bare = printed.lines(admin, "scan", &["scan", "notes", "--no-contexts"]);
    assert!(bare.iter().all(|line| line.get("context").is_none()));
    printed.one(admin, "delete", &["delete", "notes", "tags", "--dry-run"]);
    printed.one(admin, "delete", &["delete", "notes", "tags", "--yes"]);

    let words = ["namespaces", "create", "locks", "--replication", "consensus"];
    let created = printed.one(admin, "namespaces-create", &words);
    assert_eq!(created["replication"], "consensus");
    printed.one(admin, "namespaces-list", &["namespaces", "list"]);
    printed.one(admin, "put", &["put", "locks", "a", "1", "--if-absent"]);
    let held = printed.one(admin, "get", &["get", "locks", "a"]);
    assert_eq!((&held["revision"], &held["version"]), (&json!(1), &json!(1)));
    printed.one(
        admin,
        "put",
        &[
            "put",
            "locks",
            "a",
            "2",
            "--if-context",
            held["context"].as_str().unwrap(),
        ],
    );
    printed.lines(admin, "scan", &["scan", "locks"]);
    printed.one(admin, "delete", &["delete", "locks", "a", "--yes"]);
}

/// Every event.
fn watches(admin: &Admin, printed: &mut Printed) {
    let watching = admin.watch(&["watch", "notes", "--count", "2", "-o", "json"]);
    admin.ok(&["put", "notes", "hits", "1", "--type", "counter"]);
    admin.ok(&["delete", "notes", "hits", "--yes"]);
    let ran = watching.ended();
    assert_eq!(ran.code, Some(0));
    let events = ran.lines();
    let kinds: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["put", "deleted"]);
    let token = events[0]["token"].as_str().unwrap();
    let again = printed.lines(
        admin,
        "watch",
        &["watch", "notes", "--from-token", token, "--count", "1", "--progress"],
    );
    assert_eq!(
        again.last().unwrap()["event"],
        "deleted",
        "the token leads behind the put"
    );
    assert_eq!(again[0]["event"], "progress");
    printed.0.extend(events.into_iter().map(|event| ("watch", event)));
    // Begun after the scan, so that the change is none of its own.
    let watching = admin.watch(&[
        "watch", "notes", "--rescan", "--prefix", "r", "--count", "1", "-o", "json",
    ]);
    admin.ok(&["put", "notes", "r2", "1"]);
    let found = watching.ended().lines();
    assert_eq!(
        (&found[0]["event"], &found[1]["event"]),
        (&json!("found"), &json!("put"))
    );
    printed.0.extend(found.into_iter().map(|event| ("watch", event)));
}

/// The node and its files.
fn files(admin: &Admin, printed: &mut Printed) {
    printed.one(admin, "status", &["status"]);
    printed.one(admin, "snapshot-create", &["snapshot", "create", "before"]);
    let listed = printed.one(admin, "snapshot-list", &["snapshot", "list"]);
    assert_eq!(listed["snapshots"][0]["name"], "before");
    printed.one(admin, "snapshot-delete", &["snapshot", "delete", "before", "--dry-run"]);
    printed.one(admin, "snapshot-delete", &["snapshot", "delete", "before", "--yes"]);
    printed.one(admin, "compact", &["compact", "--dry-run"]);
    printed.one(admin, "log-level", &["log-level"]);
    printed.one(admin, "log-level", &["log-level", "debug", "--dry-run"]);
    printed.one(admin, "log-level", &["log-level", "debug"]);
}

/// Files in and out, backups and restores.
fn lines_and_copies(admin: &Admin, printed: &mut Printed) {
    let at = |name: &str| admin.home().join(name).to_str().unwrap().to_owned();
    let (file, folder) = (at("notes.jsonl"), at("backups"));
    printed.one(admin, "export", &["export", "notes", &file, "--dry-run"]);
    printed.one(admin, "export", &["export", "notes", &file]);
    printed.one(admin, "import", &["import", &file, "--dry-run"]);
    printed.one(admin, "import", &["import", &file]);
    let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/python-store");
    let python = ["import", "--from", "python", store.to_str().unwrap()];
    printed.one(admin, "import", &[&python[..], &["--dry-run"]].concat());
    printed.one(admin, "import", &python);
    let made = printed.one(admin, "backup-create", &["backup", "create", &folder]);
    printed.one(admin, "backup-list", &["backup", "list", &folder]);
    let backup = made["path"].as_str().unwrap();
    printed.one(admin, "backup-verify", &["backup", "verify", backup]);
    let restore = ["restore", backup, "--data-dir", &at("restored")];
    printed.one(admin, "restore", &[&restore[..], &["--dry-run"]].concat());
    printed.one(admin, "restore", &restore);
    // What is wrong has a form too.
    std::fs::create_dir(at("backups/cut.partial")).unwrap();
    std::fs::write(Path::new(backup).join("backup.json.sha256"), "none").unwrap();
    let listed = printed.one(admin, "backup-list", &["backup", "list", &folder]);
    assert_eq!(
        (&listed["backups"][0]["state"], &listed["backups"][1]["state"]),
        (&json!("damaged"), &json!("interrupted"))
    );
    let verified = admin.run(&["backup", "verify", backup, "-o", "json"]);
    assert_eq!(verified.code, Some(65));
    printed.0.push(("backup-verify", verified.json()));
}

/// One that stands alone, and others that come and go.
async fn cluster(admin: &Admin, printed: &mut Printed) {
    let alone = printed.one(admin, "cluster-status", &["cluster", "status"]);
    let first = alone["node"].as_str().unwrap().to_owned();
    printed.one(admin, "cluster-init", &["cluster", "init"]);
    let joining = |name: &str, token: &Value| {
        let launch = Launch::new().argument("--node-id").argument(name);
        launch.argument("--join").argument(token["token"].as_str().unwrap())
    };
    let token = printed.one(admin, "cluster-add-learner", &["cluster", "add-learner"]);
    assert_eq!(token["role"], "learner");
    let _learner = joining("two", &token).start().await;
    // One that only learns is replaced by another that only learns.
    let place = printed.one(
        admin,
        "cluster-replace",
        &["cluster", "replace", "two", "--valid", "5m"],
    );
    assert_eq!((&place["role"], &place["replaces"]), (&json!("learner"), &json!("two")));
    let three = joining("three", &place).start().await;
    let compared = printed.one(admin, "verify-cluster", &["verify", "--cluster"]);
    assert_eq!(compared["same"], true, "{compared}");
    let promoted = printed.one(admin, "cluster-promote", &["cluster", "promote", "three"]);
    assert_eq!(promoted["done"], true);
    let moved = printed.one(
        admin,
        "cluster-transfer-leader",
        &["cluster", "transfer-leader", "three"],
    );
    assert_eq!((&moved["leader"], &moved["before"]), (&json!("three"), &json!(first)));
    let status = printed.one(&Admin::of(&three), "cluster-status", &["cluster", "status"]);
    assert_eq!(status["members"].as_array().unwrap().len(), 2, "{status}");
    printed.one(
        admin,
        "cluster-transfer-leader",
        &["cluster", "transfer-leader", &first],
    );
    let demoted = printed.one(admin, "cluster-demote", &["cluster", "demote", "three"]);
    assert_eq!(demoted["done"], true);
    let lone = admin.run(&["cluster", "transfer-leader", "three"]);
    assert_eq!(lone.code, Some(1));
    assert!(lone.err.contains("cluster promote three"), "{}", lone.err);
    printed.one(admin, "cluster-remove", &["cluster", "remove", "three", "--dry-run"]);
    let removed = printed.one(admin, "cluster-remove", &["cluster", "remove", "three", "--yes"]);
    assert_eq!(removed["done"], true);
    let token = printed.one(admin, "cluster-token", &["cluster", "token"]);
    let token = token["token"].as_str().unwrap();
    let shown = admin.run(&["cluster", "join", token, "-o", "json"]);
    assert_eq!(shown.code, Some(64));
    assert!(shown.err.contains("continuumd --join"), "{}", shown.err);
    printed.0.push(("cluster-join", shown.json()));
}

/// The files of a node that does not run.
async fn stopped(mut node: Node, admin: &Admin, printed: &mut Printed) {
    admin.ok(&["snapshot", "create", "kept"]);
    let status = node.stop(READY_WITHIN).await;
    assert!(status.success());
    let data = node.launch().data_directory().to_str().unwrap().to_owned();
    let restored = admin.home().join("from-snapshot").to_str().unwrap().to_owned();
    let words = [
        "snapshot",
        "restore",
        "kept",
        "--from-data-dir",
        &data,
        "--data-dir",
        &restored,
    ];
    printed.one(admin, "snapshot-restore", &words);
    printed.one(admin, "verify", &["verify", "--data-dir", &data]);
    printed.one(admin, "wal-list", &["wal", "list", "--data-dir", &data]);
    let records = printed.lines(admin, "wal-dump", &["wal", "dump", "--data-dir", &data]);
    assert!(!records.is_empty());
}

/// What needs no node.
fn contexts(printed: &mut Printed) {
    let admin = Admin::alone();
    printed.one(&admin, "config-show", &["config", "show"]);
    printed.one(
        &admin,
        "config-set",
        &["config", "set", "home", "--endpoint", "db1:7000"],
    );
    printed.one(&admin, "config-use", &["config", "use", "home"]);
    printed.one(&admin, "config-show", &["config", "show"]);
    printed.one(&admin, "config-list", &["config", "list"]);
    let certificates = admin.home().join("certificates");
    let dir = certificates.to_str().unwrap();
    printed.one(
        &admin,
        "cert-create",
        &[
            "cert",
            "create",
            "--dir",
            dir,
            "--node",
            "db1=10.0.0.1",
            "--client",
            "me",
        ],
    );
    let ca = certificates.join("ca.pem");
    let tls = ["--endpoint", "db1:7000", "--tls-ca", ca.to_str().unwrap()];
    printed.one(
        &admin,
        "config-set",
        &[&["config", "set", "home"][..], &tls[..]].concat(),
    );
    printed.one(&admin, "config-show", &["config", "show"]);
    printed.one(&admin, "config-remove", &["config", "remove", "home"]);
    printed.one(&admin, "config-path", &["config", "path"]);
    printed.one(&admin, "completions", &["completions", "bash"]);
    printed.one(&admin, "man", &["man"]);
    let folder = admin.home().join("man");
    printed.one(&admin, "man", &["man", "--dir", folder.to_str().unwrap()]);
    assert!(folder.join("continuum-admin-snapshot-create.1").is_file());
}
