//! How `continuum-admin` behaves towards people and scripts: streams, exit codes, colours, questions, readers that leave.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::{
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::Stdio,
};

use continuum_tests::{Admin, Node, node::built};

async fn notes() -> (Node, Admin) {
    let node = Node::start().await;
    let admin = Admin::of(&node);
    admin.ok(&["namespaces", "create", "notes"]);
    (node, admin)
}

#[tokio::test]
async fn what_is_written_is_read_back() {
    let (_node, admin) = notes().await;
    let json = r#"{"b": 1.50, "a": [1e3, "é"]}"#;
    admin.ok(&["put", "notes", "register", json]);
    assert_eq!(
        admin.ok(&["get", "notes", "register"]).out,
        format!("{json}\n"),
        "as it was written"
    );

    let file = admin.home().join("value.json");
    std::fs::write(&file, "[1, 2]\n").unwrap();
    admin.ok(&["put", "notes", "file", &format!("@{}", file.display())]);
    assert_eq!(admin.ok(&["get", "notes", "file"]).out, "[1, 2]\n");

    assert_eq!(
        admin.run_reading(&["put", "notes", "read", "-"], "\"piped\"").code,
        Some(0)
    );
    assert_eq!(admin.ok(&["get", "notes", "read"]).out, "\"piped\"\n");

    admin.ok(&["put", "notes", "hits", "5", "--type", "counter"]);
    admin.ok(&["put", "notes", "hits", "--type", "counter", "--", "-7"]);
    assert_eq!(admin.ok(&["get", "notes", "hits"]).out, "-2\n");

    admin.ok(&["put", "notes", "tags", r#"["red", "blue"]"#, "--type", "set"]);
    admin.ok(&["put", "notes", "tags", "--type", "set", "--remove", "\"red\""]);
    assert_eq!(admin.ok(&["get", "notes", "tags"]).out, "\"blue\"\n");

    for value in ["1", "2"] {
        admin.ok(&["put", "notes", "plan", value, "--type", "sibling"]);
    }
    assert_eq!(admin.ok(&["get", "notes", "plan"]).out, "2\n1\n", "newest first");
    let context = admin.ok(&["get", "notes", "plan", "-o", "json"]).json()["context"].clone();
    admin.ok(&[
        "put",
        "notes",
        "plan",
        "3",
        "--type",
        "sibling",
        "--context-token",
        context.as_str().unwrap(),
    ]);
    assert_eq!(
        admin.ok(&["get", "notes", "plan"]).out,
        "3\n",
        "what was read is replaced"
    );
}

#[tokio::test]
async fn a_condition_that_does_not_hold_changes_nothing() {
    let (_node, admin) = notes().await;
    admin.ok(&["put", "notes", "lock", "1", "--if-absent"]);
    let ran = admin.run(&["put", "notes", "lock", "2", "--if-absent"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("nothing was changed"), "{}", ran.err);
    let context = admin.ok(&["get", "notes", "lock", "-o", "json"]).json()["context"].clone();
    let context = context.as_str().unwrap();
    admin.ok(&["put", "notes", "lock", "3", "--if-context", context]);
    assert_eq!(
        admin.run(&["put", "notes", "lock", "4", "--if-context", context]).code,
        Some(1)
    );
    assert_eq!(
        admin
            .run(&["delete", "notes", "lock", "--yes", "--if-context", context])
            .code,
        Some(1)
    );
    assert_eq!(admin.ok(&["get", "notes", "lock"]).out, "3\n");
}

#[tokio::test]
async fn data_go_to_one_stream_and_words_to_the_other() {
    let (_node, admin) = notes().await;
    let ran = admin.ok(&["put", "notes", "k", "1"]);
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", "notes/k is written\n"));
    let ran = admin.ok(&["put", "notes", "k", "1", "--quiet"]);
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""));
    let ran = admin.ok(&["get", "notes", "k"]);
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("1\n", ""));
    let ran = admin.ok(&["snapshot", "list"]);
    assert_eq!(ran.out.lines().count(), 1, "the heading alone: {}", ran.out);
    assert!(ran.err.starts_with("there are no snapshots"), "{}", ran.err);
    let ran = admin.run(&["get", "notes", "absent"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    for words in [&["status"][..], &["scan", "notes"], &["namespaces", "list"]] {
        let ran = admin.ok(words);
        assert!(!ran.out.is_empty() && ran.err.is_empty(), "{words:?}: {}", ran.err);
        assert!(!ran.out.contains('\x1b'), "{words:?} coloured what is no terminal");
    }
}

#[tokio::test]
async fn exit_codes_are_those_of_the_help() {
    let (node, admin) = notes().await;
    let rows: &[(&[&str], i32, &str)] = &[
        (&["get", "notes", "absent"], 1, "holds nothing"),
        (&["delete", "notes", "absent", "--yes"], 1, "holds nothing"),
        (
            &["snapshot", "delete", "absent", "--yes"],
            1,
            "there is no snapshot absent",
        ),
        (&["get", "absent", "k"], 1, "absent"),
        (&["fly"], 64, "unrecognized subcommand"),
        (&["get", "notes"], 64, "required"),
        (&["watch", "notes", "--from-token", "xyz"], 64, "hexadecimal"),
        (&["get", "notes", "k", "--timeout", "10"], 64, "such as 10s"),
        (&["delete", "notes", "k", "--dry-run=maybe"], 64, "unexpected value"),
        (
            &["put", "notes", "k", "bare words"],
            65,
            "a text needs quotes of its own",
        ),
        (&["put", "notes", "k", "x", "--type", "counter"], 65, "no whole number"),
        (&["put", "notes", "", "1"], 65, "KEY_LENGTH"),
        (&["put", "notes", "k", "@/absent/file"], 66, "cannot read /absent/file"),
        (&["namespaces", "create", "notes"], 73, "NAMESPACE_EXISTS"),
        (&["put", "shared", "k", "1"], 77, "RESERVED_NAMESPACE"),
        (&["log-level", "a=b=c"], 65, ""),
        (&["get", "notes", "k", "--context", "absent"], 64, "cannot be used with"),
    ];
    for (words, code, text) in rows {
        let ran = admin.run(words);
        assert_eq!(ran.code, Some(*code), "{words:?}: {}", ran.err);
        assert!(ran.err.contains(text), "{words:?}: {}", ran.err);
        assert_eq!(ran.out, "", "{words:?}");
    }
    drop(node);
    let ran = admin.run(&["put", "notes", "k", "1"]);
    assert_eq!(ran.code, Some(69), "{}", ran.err);
    for text in [
        "refused",
        "nothing was changed",
        "is continuumd running?",
        "--endpoint HOST:PORT",
    ] {
        assert!(ran.err.contains(text), "{}", ran.err);
    }
}

#[tokio::test]
async fn a_node_that_says_nothing_is_left_in_time() {
    // It listens, and never answers.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let endpoint = silent.local_addr().unwrap().to_string();
    let ran = Admin::alone().run(&["put", "n", "k", "1", "--endpoint", &endpoint, "--timeout", "300ms"]);
    assert_eq!(ran.code, Some(75), "{}", ran.err);
    assert!(ran.err.contains("may have been carried out"), "{}", ran.err);
}

#[tokio::test]
async fn nothing_is_destroyed_unasked() {
    let (_node, admin) = notes().await;
    admin.ok(&["put", "notes", "k", "1"]);
    admin.ok(&["snapshot", "create", "kept"]);
    for words in [["delete", "notes", "k"], ["snapshot", "delete", "kept"]] {
        let ran = admin.run(&words);
        assert_eq!(ran.code, Some(64), "{words:?}: {}", ran.err);
        assert!(
            ran.err.contains("nothing was changed") && ran.err.contains("--yes"),
            "{}",
            ran.err
        );
    }
    let before = admin.ok(&["status", "-o", "json"]).json()["lsn"].clone();
    let tries: [&[&str]; 7] = [
        &["delete", "notes", "k", "--dry-run"],
        &["delete", "notes", "k", "--dry-run", "--yes"],
        &["put", "notes", "k", "2", "--dry-run"],
        &["namespaces", "set-policy", "notes", "keep-siblings", "--dry-run"],
        &["snapshot", "delete", "kept", "--dry-run", "--yes"],
        &["compact", "--dry-run"],
        &["log-level", "trace", "--dry-run"],
    ];
    for words in tries {
        let ran = admin.ok(words);
        assert!(
            ran.err.starts_with("would ") && ran.err.contains("nothing was changed"),
            "{}",
            ran.err
        );
    }
    assert_eq!(
        admin.ok(&["status", "-o", "json"]).json()["lsn"],
        before,
        "nothing was written"
    );
    assert_eq!(admin.ok(&["get", "notes", "k"]).out, "1\n");
    assert!(admin.ok(&["snapshot", "list"]).out.contains("kept"));
    assert!(admin.ok(&["namespaces", "list"]).out.contains("last-write-wins"));
    assert_ne!(admin.ok(&["log-level"]).out, "trace\n");
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_failure() {
    let (_node, admin) = notes().await;
    for key in 0..300 {
        // Together more than a pipe holds.
        let value = format!("\"{}\"", "x".repeat(1_000));
        admin.ok(&["put", "notes", &format!("k{key}"), &value]);
    }
    for form in ["table", "json"] {
        let mut command = admin.command(["scan", "notes", "-o", form]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut first)
            .unwrap();
        // The pipe is closed here.
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }
}

#[tokio::test]
async fn a_watch_outlives_its_node() {
    let (mut node, admin) = notes().await;
    let watching = admin.watch(&["watch", "notes", "--count", "2"]);
    admin.ok(&["put", "notes", "k", "1"]);
    node.restart().await;
    admin.ok(&["put", "notes", "k", "2"]);
    let ran = watching.ended();
    assert_eq!(ran.code, Some(0));
    let values: Vec<&str> = ran
        .out
        .lines()
        .map(|line| line.split_whitespace().last().unwrap())
        .collect();
    assert_eq!(values, ["1", "2"], "{}", ran.out);
}

#[tokio::test]
async fn several_clusters_have_names() {
    let (node, _) = notes().await;
    let admin = Admin::alone();
    let endpoint = node.grpc().to_string();
    let ran = admin.run(&["config", "set", "home"]);
    assert_eq!(ran.code, Some(64), "{}", ran.err);
    admin.ok(&[
        "config",
        "set",
        "away",
        "--endpoint",
        "db1:7000",
        "--endpoint",
        "db2:7000",
    ]);
    admin.ok(&["config", "set", "home", "--endpoint", &endpoint]);
    let listed = admin.ok(&["config", "list"]).out;
    assert!(
        listed.contains("*  away") && listed.contains("db1:7000 db2:7000"),
        "{listed}"
    );
    // A flag, then the variable, then the context in use.
    assert!(
        admin
            .ok(&["--context", "home", "namespaces", "list"])
            .out
            .contains("notes")
    );
    let mut command = admin.command(["namespaces", "list"]);
    let ran = command.env("CONTINUUM_ADMIN_ENDPOINT", &endpoint).output().unwrap();
    assert!(String::from_utf8_lossy(&ran.stdout).contains("notes"));
    admin.ok(&["config", "use", "home"]);
    assert!(admin.ok(&["namespaces", "list"]).out.contains("notes"));
    let ran = admin.run(&["--context", "hone", "status"]);
    assert_eq!(ran.code, Some(78));
    assert!(ran.err.contains("there are: away, home"), "{}", ran.err);
    admin.ok(&["config", "remove", "home"]);
    assert!(admin.ok(&["config", "show"]).out.contains("127.0.0.1:7000"));
    let path = admin.ok(&["config", "path"]).out;
    std::fs::write(path.trim_end(), "current = 7").unwrap();
    assert_eq!(admin.run(&["config", "list"]).code, Some(78));
}

/// Standard error is a terminal; what the program says there.
fn at_a_terminal(admin: &Admin, no_color: bool) -> String {
    let said = admin.home().join("said");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/terminal.py");
    let plain = admin.command(["get", "notes", "absent"]);
    let mut command = std::process::Command::new("python3");
    command
        .arg(script)
        .arg(&said)
        .arg(built("continuum-admin"))
        .args(plain.get_args());
    command
        .env("XDG_CONFIG_HOME", admin.home())
        .env("TERM", "xterm")
        .env_remove("NO_COLOR");
    if no_color {
        command.env("NO_COLOR", "1");
    }
    let ran = command.output().unwrap();
    assert_eq!(ran.status.code(), Some(1));
    let text = std::fs::read_to_string(&said).unwrap();
    std::fs::remove_file(said).unwrap();
    text
}

#[tokio::test]
async fn colours_are_for_terminals_that_want_them() {
    let (_node, admin) = notes().await;
    let coloured = at_a_terminal(&admin, false);
    assert!(
        coloured.contains('\x1b') && coloured.contains("holds nothing"),
        "{coloured}"
    );
    let plain = at_a_terminal(&admin, true);
    assert!(!plain.contains('\x1b') && plain.contains("holds nothing"), "{plain}");
}
