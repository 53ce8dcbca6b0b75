//! A node's files while it does not run: verified, listed, dumped, and left alone while it does.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use continuum_tests::{Admin, Node};
use serde_json::json;

/// How long a node may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(60);

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A stopped node with some keys: its data directory, and everything that keeps it.
async fn stopped() -> (Node, Admin, PathBuf) {
    let mut node = Node::start().await;
    let admin = Admin::of(&node);
    admin.ok(&["namespaces", "create", "notes"]);
    let value = format!("{{\"text\": \"{}\"}}", "treasure ".repeat(20));
    for number in 0..50 {
        admin.ok(&["put", "notes", &format!("key-{number:02}"), &value]);
    }
    admin.ok(&["delete", "notes", "key-07", "--yes"]);
    assert!(node.stop(STOP_WITHIN).await.success());
    let data = node.launch().data_directory().to_owned();
    (node, admin, data)
}

/// The largest file in a folder that ends as given.
fn largest(folder: &Path, end: &str) -> PathBuf {
    let files = files(folder)
        .into_iter()
        .filter(|path| path.to_str().unwrap().ends_with(end));
    files.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

/// The file in a folder that holds these bytes.
fn holding(folder: &Path, needle: &[u8]) -> PathBuf {
    let holds = |path: &PathBuf| {
        fs::read(path)
            .unwrap()
            .windows(needle.len())
            .any(|window| window == needle)
    };
    files(folder).into_iter().find(holds).unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

/// Flips one bit of the byte that begins `needle` in a file.
fn damage(file: &Path, needle: &[u8]) {
    let mut bytes = fs::read(file).unwrap();
    let at = bytes.windows(needle.len()).position(|window| window == needle);
    bytes[at.expect("what is to be damaged is in the file")] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn a_sound_store_is_sound_and_stays_as_it_is() {
    let (mut node, admin, data) = stopped().await;
    let report = admin.ok(&["verify", "--data-dir", text(&data), "-o", "json"]).json();
    assert_eq!((&report["sound"], &report["damage"]), (&json!(true), &json!([])));
    let concepts = report["families"]
        .as_array()
        .unwrap()
        .iter()
        .find(|family| family["name"] == "concepts")
        .unwrap();
    assert!(concepts["keys"].as_u64().unwrap() >= 50, "{concepts}");
    let listed = admin
        .ok(&["wal", "list", "--data-dir", text(&data), "-o", "json"])
        .json();
    assert_eq!(listed["damage"], json!([]));
    let last = listed["segments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|segment| segment["last_lsn"].as_u64().unwrap())
        .max();
    assert_eq!(report["log"]["last_lsn"].as_u64(), last);
    admin.ok(&["wal", "list", "--data-dir", text(&data)]);
    node.restart().await;
    assert_eq!(admin.run(&["get", "notes", "key-07"]).code, Some(1));
    admin.ok(&["get", "notes", "key-08"]);
}

#[tokio::test]
async fn the_log_tells_what_was_written() {
    let (_node, admin, data) = stopped().await;
    let all = admin
        .ok(&["wal", "dump", "--data-dir", text(&data), "--limit", "0", "-o", "json"])
        .lines();
    let about = |needle: &str| {
        all.iter()
            .filter(|line| line["changes"].to_string().contains(needle))
            .collect::<Vec<_>>()
    };
    let of_key = about("key-07");
    assert_eq!(of_key.len(), 2, "written and deleted");
    assert!(of_key[0]["changes"].to_string().contains("treasure"), "{}", of_key[0]);
    let (first, last) = (of_key[0]["lsn"].as_u64().unwrap(), of_key[1]["lsn"].as_u64().unwrap());
    let between = [
        "wal",
        "dump",
        "--data-dir",
        text(&data),
        "--from",
        &first.to_string(),
        "--to",
        &last.to_string(),
        "-o",
        "json",
    ];
    let shown = admin.ok(&between).lines();
    assert_eq!(shown.len() as u64, last - first + 1);
    assert_eq!(
        (shown[0]["lsn"].as_u64(), shown.last().unwrap()["lsn"].as_u64()),
        (Some(first), Some(last))
    );
    let some = admin.ok(&["wal", "dump", "--data-dir", text(&data), "--limit", "3"]);
    assert!(some.err.contains("there is more: --from"), "{}", some.err);
}

#[tokio::test]
async fn damage_in_the_log_is_named_by_its_records() {
    let (_node, admin, data) = stopped().await;
    let segment = holding(&data.join("log"), b"key-03");
    damage(&segment, b"key-03");
    let name = segment.file_name().unwrap().to_str().unwrap().to_owned();
    let report = admin.run(&["verify", "--data-dir", text(&data), "-o", "json"]);
    assert_eq!(report.code, Some(65), "{}", report.err);
    let found = report.json();
    assert_eq!(found["sound"], false);
    let damage = &found["damage"][0];
    assert!(
        damage["place"]
            .as_str()
            .unwrap()
            .starts_with(&format!("log/{name}, byte ")),
        "{damage}"
    );
    assert!(damage["key"].as_str().unwrap().starts_with("record"), "{damage}");
    let listed = admin.run(&["wal", "list", "--data-dir", text(&data), "-o", "json"]);
    assert_eq!(listed.code, Some(65), "{}", listed.err);
    assert_eq!(listed.json()["damage"][0]["file"], name);
    let dumped = admin.run(&["wal", "dump", "--data-dir", text(&data), "--limit", "0", "-o", "json"]);
    assert_eq!(dumped.code, Some(65), "{}", dumped.err);
    assert!(!dumped.out.contains("key-03"), "what is damaged is not shown");
    assert!(dumped.out.contains("key-40"), "what stands behind it is");
}

#[tokio::test]
async fn damage_in_the_database_is_named_by_its_keys() {
    let (_node, admin, data) = stopped().await;
    let table = largest(&data.join("db"), ".sst");
    let mut bytes = fs::read(&table).unwrap();
    // The first block of data lies at the head of the file.
    bytes[20] ^= 1;
    fs::write(&table, bytes).unwrap();
    let report = admin.run(&["verify", "--data-dir", text(&data), "-o", "json"]);
    assert_eq!(report.code, Some(65), "{}", report.err);
    let found = report.json();
    let damage = found["damage"].as_array().unwrap();
    assert!(!damage.is_empty());
    let file = table.file_name().unwrap().to_str().unwrap();
    assert!(found["damage"].to_string().contains(file), "{found}");
    let people = admin.run(&["verify", "--data-dir", text(&data)]);
    assert!(people.out.contains(file), "{}", people.out);
}

#[tokio::test]
async fn files_of_a_running_node_are_left_alone() {
    let node = Node::start().await;
    let admin = Admin::of(&node);
    let data = text(node.launch().data_directory()).to_owned();
    for words in [
        &["verify", "--data-dir", &data][..],
        &["wal", "list", "--data-dir", &data],
        &["wal", "dump", "--data-dir", &data],
    ] {
        let refused = admin.run(words);
        assert_eq!(refused.code, Some(75), "{words:?}: {}", refused.err);
        assert!(
            refused.err.contains(&format!("in use by process {}", node.id())),
            "{}",
            refused.err
        );
    }
    let nothing = admin.home().join("nothing");
    for words in [
        &["verify", "--data-dir", text(&nothing)][..],
        &["wal", "list", "--data-dir", text(&nothing)],
    ] {
        let refused = admin.run(words);
        assert_eq!(refused.code, Some(66), "{words:?}: {}", refused.err);
    }
    assert!(!nothing.exists(), "looking makes nothing");
}
