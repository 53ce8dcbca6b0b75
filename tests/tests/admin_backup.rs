//! Backups and restores as an operator makes them: from a node under load, over kills of either side, from damage.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use continuum_tests::{Admin, Launch, Node, node::READY_WITHIN};
use serde_json::json;

/// How long something that must happen may take on a busy machine.
const PATIENCE: Duration = READY_WITHIN;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The words, and those that may be looked at by programs.
fn wordnet() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/wordnet-concepts.jsonl.gz")
}

/// A node with the words in it.
async fn node_with_words() -> (Node, Admin) {
    let node = Node::start().await;
    let admin = Admin::of(&node);
    let file = wordnet();
    let words = [
        "import",
        text(&file),
        "--namespace",
        "wordnet",
        "--create-namespace",
        "--key-field",
        "id",
        "-o",
        "json",
    ];
    let imported = admin.ok(&words).json();
    assert_eq!((&imported["keys"], &imported["bad"]), (&json!(117_659), &json!(0)));
    (node, admin)
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn export(admin: &Admin, name: &str) -> Vec<u8> {
    let file = admin.home().join(name);
    admin.ok(&["export", "wordnet", text(&file)]);
    fs::read(file).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Bytes in the files of the one interrupted backup in a folder.
fn partial_bytes(folder: &Path) -> Option<u64> {
    let partial = names(folder).into_iter().find(|name| name.ends_with(".partial"))?;
    let files = fs::read_dir(folder.join(partial).join("db")).ok()?;
    Some(
        files
            .flatten()
            .filter_map(|file| file.metadata().ok())
            .map(|file| file.len())
            .sum(),
    )
}

/// A backup on its way, slow enough to be caught.
fn slow_backup(admin: &Admin, folder: &Path) -> Child {
    let words = ["backup", "create", text(folder), "--bytes-per-s", "2MiB", "-o", "json"];
    let mut command = admin.command(words);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("a part of the backup is there", || {
        partial_bytes(folder).filter(|bytes| *bytes > 1 << 20)
    });
    child
}

#[tokio::test]
async fn a_newcomer_loads_watches_backs_up_destroys_and_restores() {
    let (mut node, admin) = node_with_words().await;
    // Watches a key change.
    let watching = admin.watch(&[
        "watch",
        "wordnet",
        "--prefix",
        "n00001740",
        "--count",
        "1",
        "-o",
        "json",
    ]);
    admin.ok(&["put", "wordnet", "n00001740", "{\"name\": \"entity\", \"seen\": true}"]);
    assert_eq!(watching.ended().lines()[0]["event"], "put");
    // Makes a backup, and looks at it.
    let before = export(&admin, "before.jsonl");
    let folder = admin.home().join("backups");
    let made = admin.ok(&["backup", "create", text(&folder), "-o", "json"]).json();
    let backup = made["path"].as_str().unwrap();
    assert_eq!(made["resumed"], false);
    let listed = admin.ok(&["backup", "list", text(&folder), "-o", "json"]).json();
    assert_eq!(
        (&listed["backups"][0]["state"], &listed["backups"][0]["lsn"]),
        (&json!("whole"), &made["lsn"])
    );
    assert_eq!(
        admin.ok(&["backup", "verify", backup, "-o", "json"]).json()["sound"],
        true
    );
    // Destroys the store, and restores it in the same place.
    node.kill();
    let data = node.launch().data_directory().to_owned();
    fs::remove_dir_all(&data).unwrap();
    let alone = Admin::alone();
    let tried = alone
        .ok(&["restore", backup, "--data-dir", text(&data), "--dry-run", "-o", "json"])
        .json();
    assert_eq!(tried["dry_run"], true);
    assert!(!data.exists(), "a dry run makes nothing");
    let restored = alone.ok(&["restore", backup, "--data-dir", text(&data), "-o", "json"]);
    assert!(restored.err.contains("continuumd --data-dir"), "{}", restored.err);
    let restored = restored.json();
    assert_eq!(restored["node"], made["node"]);
    assert_ne!(restored["incarnation"], made["incarnation"], "another life");
    assert_ne!(restored["cluster"], made["cluster"], "another cluster");
    node.restart().await;
    // Nothing is missing.
    assert!(
        export(&admin, "after.jsonl") == before,
        "what was restored is not what was backed up"
    );
    assert!(before.len() > 20 << 20, "{} bytes were compared", before.len());
    assert_eq!(admin.ok(&["verify", "-o", "json"]).json()["sound"], true);
    admin.ok(&["put", "wordnet", "new", "1"]);
}

#[tokio::test]
async fn a_backup_that_was_killed_goes_on_where_it_was() {
    let (_node, admin) = node_with_words().await;
    let folder = admin.home().join("backups");
    let mut child = slow_backup(&admin, &folder);
    child.kill().unwrap();
    child.wait().unwrap();
    let had = partial_bytes(&folder).unwrap();
    let listed = admin.ok(&["backup", "list", text(&folder), "-o", "json"]).json();
    assert_eq!(listed["backups"][0]["state"], "interrupted");
    let partial = folder.join(listed["backups"][0]["name"].as_str().unwrap());
    let refused = admin.run(&[
        "restore",
        text(&partial),
        "--data-dir",
        text(&admin.home().join("data")),
    ]);
    assert_eq!(refused.code, Some(65), "{}", refused.err);
    // Acknowledged after the cut: not in it, and no harm to it.
    admin.ok(&["put", "wordnet", "later", "1"]);
    let ran = admin.ok(&["backup", "create", text(&folder), "-o", "json"]);
    assert!(ran.err.contains("going on with"), "{}", ran.err);
    let made = ran.json();
    assert_eq!(made["resumed"], true);
    assert!(made["bytes"].as_u64().unwrap() > had);
    assert_eq!(names(&folder).len(), 1, "nothing is left beside it");
    assert_eq!(
        admin
            .ok(&["backup", "verify", made["path"].as_str().unwrap(), "-o", "json"])
            .json()["sound"],
        true
    );
}

#[tokio::test]
async fn a_backup_outlives_the_node_and_begins_anew_when_its_cut_is_gone() {
    let (mut node, admin) = node_with_words().await;
    let folder = admin.home().join("backups");
    let child = slow_backup(&admin, &folder);
    node.restart().await;
    let ended = child.wait_with_output().unwrap();
    let told = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success(), "{told}");
    assert!(told.contains("beginning anew"), "{told}");
    assert_eq!(names(&folder).len(), 1, "nothing is left beside it");
    let path = folder.join(&names(&folder)[0]);
    assert_eq!(
        admin.ok(&["backup", "verify", text(&path), "-o", "json"]).json()["sound"],
        true
    );
}

#[tokio::test]
async fn a_restore_that_was_killed_goes_on_and_nothing_starts_on_the_half_of_it() {
    let (_node, admin) = node_with_words().await;
    let folder = admin.home().join("backups");
    let made = admin.ok(&["backup", "create", text(&folder), "-o", "json"]).json();
    let backup = made["path"].as_str().unwrap();
    let before = export(&admin, "before.jsonl");
    let mut interrupted = None;
    for attempt in 0..20 {
        let data = admin.home().join(format!("data-{attempt}"));
        let mut child = admin
            .command(["restore", backup, "--data-dir", text(&data)])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let marker = data.join("RESTORING");
        let ended = until("the restore has begun to write", || {
            let ended = child.try_wait().unwrap();
            (marker.exists() || ended.is_some()).then_some(ended)
        });
        let _it_may_have_ended = child.kill();
        child.wait().unwrap();
        if ended.is_none() && marker.exists() {
            interrupted = Some(data);
            break;
        }
    }
    let data = interrupted.expect("one of twenty restores was caught");
    let mut refused = Launch::new().data(&data).spawn();
    assert!(!refused.wait_ended(PATIENCE).await.success());
    assert!(
        refused.log().contains("run the same restore again"),
        "{}",
        refused.log()
    );
    let ran = admin
        .ok(&["restore", backup, "--data-dir", text(&data), "-o", "json"])
        .json();
    assert_eq!(ran["resumed"], true);
    let restored = Launch::new().data(&data).start().await;
    assert!(export(&Admin::of(&restored), "after.jsonl") == before);
}

#[tokio::test]
async fn damage_in_a_backup_is_named_and_nothing_is_restored_from_it() {
    let node = Node::start().await;
    let admin = Admin::of(&node);
    admin.ok(&["namespaces", "create", "notes"]);
    admin.ok(&["put", "notes", "k", "1"]);
    let folder = admin.home().join("backups");
    let made = admin.ok(&["backup", "create", text(&folder), "-o", "json"]).json();
    let backup = PathBuf::from(made["path"].as_str().unwrap());
    let victim = names(&backup.join("db"))
        .into_iter()
        .find(|name| name.ends_with(".sst"))
        .unwrap();
    let mut bytes = fs::read(backup.join("db").join(&victim)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(backup.join("db").join(&victim), &bytes).unwrap();
    let verified = admin.run(&["backup", "verify", text(&backup), "-o", "json"]);
    assert_eq!(verified.code, Some(65), "{}", verified.err);
    assert_eq!(verified.json()["damage"][0]["file"], format!("db/{victim}"));
    let data = admin.home().join("data");
    let refused = admin.run(&["restore", text(&backup), "--data-dir", text(&data)]);
    assert_eq!(refused.code, Some(65), "{}", refused.err);
    assert!(refused.err.contains(&victim), "{}", refused.err);
    assert!(!data.exists(), "nothing was made");
    fs::write(backup.join("backup.json"), b"{}").unwrap();
    let listed = admin.ok(&["backup", "list", text(&folder), "-o", "json"]).json();
    assert_eq!(listed["backups"][0]["state"], "damaged");
}

#[tokio::test]
async fn a_restore_keeps_off_what_is_there_and_off_running_nodes() {
    let node = Node::start().await;
    let admin = Admin::of(&node);
    let folder = admin.home().join("backups");
    let made = admin.ok(&["backup", "create", text(&folder), "-o", "json"]).json();
    let backup = made["path"].as_str().unwrap();
    let refused = admin.run(&["restore", backup, "--data-dir", text(node.launch().data_directory())]);
    assert_eq!(refused.code, Some(75), "{}", refused.err);
    assert!(
        refused.err.contains(&format!("in use by process {}", node.id())),
        "{}",
        refused.err
    );
    let full = admin.home().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("mine"), "mine").unwrap();
    for words in [
        &["restore", backup, "--data-dir", text(&full)][..],
        &["restore", backup, "--data-dir", text(&full), "--dry-run"],
    ] {
        let refused = admin.run(words);
        assert_eq!(refused.code, Some(73), "{}", refused.err);
        assert!(refused.err.contains("mine is in it"), "{}", refused.err);
    }
    let rejoined = admin
        .ok(&[
            "restore",
            backup,
            "--data-dir",
            text(&admin.home().join("re")),
            "--rejoin",
            "-o",
            "json",
        ])
        .json();
    assert_eq!(rejoined["cluster"], made["cluster"]);
    assert_ne!(rejoined["incarnation"], made["incarnation"]);
}

#[tokio::test]
async fn a_snapshot_is_restored_beside_its_running_node() {
    let node = Node::start().await;
    let admin = Admin::of(&node);
    admin.ok(&["namespaces", "create", "notes"]);
    admin.ok(&["put", "notes", "k", "1"]);
    admin.ok(&["snapshot", "create", "before"]);
    admin.ok(&["put", "notes", "k", "2"]);
    let data = admin.home().join("data");
    let from = text(node.launch().data_directory());
    let words = [
        "snapshot",
        "restore",
        "before",
        "--from-data-dir",
        from,
        "--data-dir",
        text(&data),
        "--node-id",
        "copy",
        "-o",
        "json",
    ];
    assert_eq!(admin.ok(&words).json()["node"], "copy");
    let missing = admin.run(&[
        "snapshot",
        "restore",
        "none",
        "--from-data-dir",
        from,
        "--data-dir",
        text(&data),
    ]);
    assert_eq!(missing.code, Some(1), "{}", missing.err);
    let copy = Launch::new().data(&data).start().await;
    assert_eq!(Admin::of(&copy).ok(&["get", "notes", "k"]).out, "1\n");
}
