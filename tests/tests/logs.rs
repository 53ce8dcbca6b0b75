//! The form of the log: text for a person at a terminal, one JSON object a line for everything else, and in both the one
//! line that says where the node listens and where its data lies.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::{
    ffi::OsString,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use continuum_tests::{Launch, has_program, network, node::binary, skipped};
use serde_json::Value;

const STOPPED_WITHIN: Duration = Duration::from_secs(20);

/// Starts a node, stops it, and gives back what it logged. With `terminal`, its standard error was one.
async fn logged(arguments: &[&str], terminal: bool) -> (String, PathBuf) {
    let mut launch = Launch::new();
    let copy = launch.directory().join("terminal.log");
    if terminal {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/terminal.py");
        let words: [OsString; 3] = ["python3".into(), script.into(), copy.clone().into()];
        launch = launch.wrapped(words);
    }
    for argument in arguments {
        launch = launch.argument(argument);
    }
    let mut node = launch.start().await;
    let data = launch.data_directory().canonicalize().unwrap();
    assert!(node.stop(STOPPED_WITHIN).await.success(), "{}", node.log());
    let text = if terminal {
        assert_eq!(node.log(), "", "everything is said on the terminal");
        std::fs::read_to_string(copy).unwrap()
    } else {
        node.log()
    };
    (text, data)
}

/// Every line as an object, or the line that is none.
fn as_json(log: &str) -> Result<Vec<Value>, &str> {
    let parse = |line| serde_json::from_str(line).ok().filter(Value::is_object).ok_or(line);
    log.lines().map(parse).collect()
}

/// A log in JSON: each line with its time, level and message, and one of them says where the data lies.
fn expect_json(log: &str, data: &Path) {
    let lines = as_json(log).unwrap_or_else(|line| panic!("not a line of JSON: {line}"));
    for line in &lines {
        for field in ["timestamp", "level", "message"] {
            assert!(line[field].is_string(), "no {field} in {line}");
        }
    }
    let serving: Vec<_> = lines.iter().filter(|line| line["message"] == "serving").collect();
    assert_eq!(serving.len(), 1, "{log}");
    assert_eq!(serving[0]["data"], data.to_str().unwrap());
    for field in ["grpc", "http", "node", "version"] {
        assert!(serving[0][field].is_string(), "no {field} in {}", serving[0]);
    }
}

/// A log for people: no line of it JSON, and one says where the data lies.
fn expect_text(log: &str, data: &Path) {
    let plain = without_colours(log);
    assert!(plain.lines().count() > 1, "{plain}");
    let json = plain.lines().find(|line| line.starts_with('{'));
    assert_eq!(json, None);
    let serving: Vec<&str> = plain.lines().filter(|line| line.contains(" serving ")).collect();
    assert_eq!(serving.len(), 1, "{plain}");
    let says = format!(" data={} ", data.display());
    assert!(
        serving[0].contains(" INFO ") && serving[0].contains(&says),
        "{}",
        serving[0]
    );
}

/// Text as it reads without the terminal's orders (`ESC [ … m`).
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    plain
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_terminal_gets_json() {
    let (log, data) = logged(&[], false).await;
    expect_json(&log, &data);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_gets_text() {
    if !has_program("python3") {
        return skipped("a_terminal_gets_text", "python3 is not installed");
    }
    let (log, data) = logged(&[], true).await;
    expect_text(&log, &data);
    assert!(log.contains('\u{1b}'), "a terminal shows colours: {log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_form_asked_for_wins() {
    let (log, data) = logged(&["--log-format", "text"], false).await;
    expect_text(&log, &data);
    assert!(!log.contains('\u{1b}'), "colours are for terminals: {log}");
    if !has_program("python3") {
        return skipped("the_form_asked_for_wins", "python3 is not installed");
    }
    let (log, data) = logged(&["--log-format", "json"], true).await;
    expect_json(&log, &data);
}

/// A process that is killed and reaped, also when its test panics.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn one_line_says_where_the_data_lies_when_nothing_was_configured() {
    let name = "one_line_says_where_the_data_lies_when_nothing_was_configured";
    let Some(mut words) = network::with_default_ports() else {
        return skipped(
            name,
            "ports 7000 and 8000 are taken and no network namespace can be made",
        );
    };
    words.push(binary().into());
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("stderr");
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).current_dir(directory.path());
    for (variable, _) in std::env::vars_os() {
        let told = variable.to_string_lossy();
        if told.starts_with("CONTINUUM_") || ["NODE_ID", "BIND_ADDRESS", "BOOTSTRAP_NODES"].contains(&&*told) {
            command.env_remove(&variable);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(File::create(&log).unwrap());
    let mut node = Reaped(command.spawn().unwrap());
    let deadline = Instant::now() + Duration::from_secs(60);
    let serving = loop {
        let text = std::fs::read_to_string(&log).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines = as_json(whole).unwrap_or_else(|line| panic!("not a line of JSON: {line}"));
        if let Some(line) = lines.into_iter().find(|line| line["message"] == "serving") {
            break line;
        }
        assert_eq!(node.0.try_wait().unwrap(), None, "ended before it served: {text}");
        assert!(Instant::now() < deadline, "does not say that it serves: {text}");
        std::thread::sleep(Duration::from_millis(5));
    };
    let data = directory.path().join("continuum-data").canonicalize().unwrap();
    assert_eq!(serving["data"], data.to_str().unwrap());
    assert_eq!(serving["grpc"], "127.0.0.1:7000");
    assert_eq!(serving["http"], "http://127.0.0.1:8000");
}
