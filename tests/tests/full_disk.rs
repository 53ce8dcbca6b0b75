//! A disk that runs full: writes are refused and say so, reads and deletes go on, and space that is freed is enough.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use continuum_tests::{Answer, Launch, Member, Node, SmallDisk, grpc::Namespace, skipped};
use engine::store::{
    Change, Family, Store as _, View as _,
    rocks::{self, Rocks},
};
use serde_json::{Value, json};

const FILE_SYSTEM_BYTES: u64 = 256 * 1024 * 1024;
/// What somebody else left on the disk, and removes in the end.
const BALLAST_BYTES: u64 = 40 * 1024 * 1024;
const RECOVERED_WITHIN: Duration = Duration::from_secs(20);
/// Larger than a page, small enough that many fit.
const VALUE_BYTES: usize = 60_000;

/// Puts large concepts until the node refuses one: a flush may have made a little room since the last refusal.
async fn fill_over_grpc(namespace: &mut Namespace) -> tonic::Status {
    for number in 0..5_000 {
        let json = format!("\"{}\"", text(number, VALUE_BYTES));
        if let Err(refused) = namespace.put(&format!("filling {number}"), &json).await {
            return refused;
        }
    }
    panic!("300 MB more went onto a full disk");
}

/// Text that hardly compresses.
fn text(seed: u64, bytes: usize) -> String {
    let mut random = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(seed);
    (0..bytes)
        .map(|_| char::from(rand::RngExt::random_range(&mut random, b'a'..=b'z')))
        .collect()
}

/// Nearly 4 MiB of concepts that do not compress.
fn bulky(mark: u64) -> Vec<Value> {
    (0..60)
        .map(|number| {
            let text = text(mark * 1000 + number, VALUE_BYTES);
            json!({"name": format!("bulky {mark} {number}"), "text": text})
        })
        .collect()
}

/// Contributes until the node refuses. How many contributions it took, and the refusal.
async fn fill(member: &mut Member) -> (u64, Answer) {
    for mark in 0..100 {
        let answer = member.contribute(&bulky(mark)).await.unwrap();
        if answer.status != 200 {
            return (mark, answer);
        }
    }
    panic!("400 MB went onto a disk of 256 MiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_serves_reads_and_recovers() {
    let disk = match SmallDisk::mount(FILE_SYSTEM_BYTES) {
        Ok(disk) => disk,
        Err(reason) => return skipped("a_full_disk_refuses_writes_serves_reads_and_recovers", &reason),
    };
    let ballast = disk.ballast(BALLAST_BYTES);
    let launch = Launch::new().data(disk.path().join("data"));
    let mut node = launch.start().await;
    let mut namespace = Namespace::create(&node, "kept").await;
    for number in 0..20 {
        namespace.put(&format!("key {number}"), "\"kept\"").await.unwrap();
    }
    let mut member = Member::new(&node, "filler");
    let (accepted, refusal) = fill(&mut member).await;
    assert!(accepted > 3, "only {accepted} contributions were accepted");
    assert_eq!(refusal.status, 503, "{}", refusal.text());
    assert!(
        refusal.json()["detail"].to_string().contains("disk"),
        "the refusal says why: {}",
        refusal.text()
    );
    let refused = fill_over_grpc(&mut namespace).await;
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
    // Reads of both faces, and deletes, go on.
    assert_eq!(node.client().get("/federation/stats").await.unwrap().status, 200);
    let status = member.status().await.unwrap().ok();
    assert_eq!(status["contribution_score"].as_f64(), Some((accepted * 60) as f64));
    assert_eq!(namespace.get("key 3").await.unwrap().as_deref(), Some("\"kept\""));
    for number in 0..10 {
        assert!(namespace.delete(&format!("key {number}")).await.unwrap());
    }
    assert_eq!(namespace.get("key 3").await.unwrap(), None);
    assert_eq!(namespace.get("key 13").await.unwrap().as_deref(), Some("\"kept\""));
    // The node goes on by itself once there is space.
    drop(ballast);
    accepted_again(&mut namespace).await;
    assert_eq!(
        member
            .contribute(&[json!({"name": "after the flood"})])
            .await
            .unwrap()
            .ok()["new_concepts"],
        1
    );
    // And everything acknowledged on the way is there after a kill.
    node.kill();
    node.restart().await;
    let status = member.status().await.unwrap().ok();
    assert_eq!(status["contribution_score"].as_f64(), Some((accepted * 60 + 1) as f64));
    let mut namespace = Namespace::open(&node, "kept").await;
    assert_eq!(namespace.get("another").await.unwrap().as_deref(), Some("1"));
    assert_eq!(namespace.get("key 13").await.unwrap().as_deref(), Some("\"kept\""));
    assert_eq!(namespace.get("key 3").await.unwrap(), None);
    drop(node);
}

/// Waits until the node takes writes again.
async fn accepted_again(namespace: &mut Namespace) {
    let freed = Instant::now();
    while let Err(status) = namespace.put("another", "1").await {
        assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status}");
        assert!(freed.elapsed() < RECOVERED_WITHIN, "still refused: {status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What one namespace must hold, and how to ask whether it does.
struct Kept {
    namespace: Namespace,
    values: BTreeMap<String, String>,
    deleted: BTreeSet<String>,
}

impl Kept {
    async fn new(node: &Node) -> Kept {
        Kept {
            namespace: Namespace::create(node, "kept").await,
            values: BTreeMap::new(),
            deleted: BTreeSet::new(),
        }
    }

    async fn put(&mut self, key: &str, seed: u64) -> Result<(), tonic::Status> {
        let json = format!("\"{}\"", text(seed, VALUE_BYTES));
        self.namespace.put(key, &json).await?;
        self.values.insert(key.to_owned(), json);
        self.deleted.remove(key);
        Ok(())
    }

    /// A compaction may take the room for a moment.
    async fn put_patiently(&mut self, key: &str, seed: u64) {
        let since = Instant::now();
        while let Err(refused) = self.put(key, seed).await {
            assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
            assert!(since.elapsed() < RECOVERED_WITHIN, "still refused: {refused}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn delete(&mut self, key: &str) -> Result<(), tonic::Status> {
        self.namespace.delete(key).await?;
        self.values.remove(key);
        self.deleted.insert(key.to_owned());
        Ok(())
    }

    /// Every write is refused as for a full disk.
    async fn assert_refused(&mut self) {
        let refused = self.namespace.put("refused", "1").await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
        assert!(refused.message().contains("disk"), "{refused}");
    }

    async fn assert_all(&mut self) {
        for (key, json) in &self.values {
            let found = self.namespace.get(key).await.unwrap();
            assert!(found.as_deref() == Some(json), "{key} is not what was acknowledged");
        }
        for key in &self.deleted {
            assert_eq!(self.namespace.get(key).await.unwrap(), None, "{key} was deleted");
        }
    }

    /// The same from a node that was killed and started anew.
    async fn assert_all_after_a_kill(&mut self, node: &mut Node) {
        node.kill();
        node.restart().await;
        self.namespace = Namespace::open(node, "kept").await;
        self.assert_all().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_filled_by_another_program_is_waited_for() {
    let disk = match SmallDisk::mount(FILE_SYSTEM_BYTES) {
        Ok(disk) => disk,
        Err(reason) => return skipped("a_disk_filled_by_another_program_is_waited_for", &reason),
    };
    // Little in memory: the reserve has room for its flush, so deletes go on. Much: whether it has depends on what was
    // flushed while the disk was being filled.
    for (life, values) in [60_u64, 250].into_iter().enumerate() {
        let launch = Launch::new()
            .data(disk.path().join(format!("data {life}")))
            .argument("--storage-flush-log-bytes=64MiB");
        let mut node = launch.start().await;
        let mut kept = Kept::new(&node).await;
        for number in 0..values {
            kept.put(&format!("key {number}"), number).await.unwrap();
        }
        let ballast = disk.fill();
        assert_eq!(disk.free_bytes(), 0);
        let full_since = Instant::now();
        let mut deletes = 0;
        // Long enough for every look at the disk, and for the flush of a full disk, to come by.
        while full_since.elapsed() < Duration::from_secs(7) {
            kept.assert_refused().await;
            match kept.delete(&format!("key {}", deletes % values)).await {
                Ok(()) => deletes += 1,
                Err(refused) => {
                    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
                    assert!(refused.message().contains("not even deletes"), "{refused}");
                }
            }
            assert!(kept.namespace.get("key 59").await.is_ok());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(deletes > 0 || life > 0, "no delete was served");
        kept.assert_all().await;
        assert!(node.ended().is_none(), "the process lives");
        assert!(!node.log().contains("could not be flushed"), "{}", node.log());
        drop(ballast);
        accepted_again(&mut kept.namespace).await;
        kept.put_patiently("after", 1).await;
        kept.assert_all().await;
        kept.assert_all_after_a_kill(&mut node).await;
        drop(node);
        std::fs::remove_dir_all(launch.data_directory()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_another_program_keeps_full_is_outlived() {
    let disk = match SmallDisk::mount(FILE_SYSTEM_BYTES) {
        Ok(disk) => disk,
        Err(reason) => return skipped("a_disk_that_another_program_keeps_full_is_outlived", &reason),
    };
    let mut node = Launch::new().data(disk.path().join("data")).start().await;
    let mut kept = Kept::new(&node).await;
    for number in 0..100 {
        kept.put(&format!("key {number}"), number).await.unwrap();
    }
    // What the node gives up for its flush is taken before the flush has it.
    let kept_full = disk.keep_full();
    let full_since = Instant::now();
    while full_since.elapsed() < Duration::from_secs(10) {
        // Neither is promised now; but an answer is, and that what it says holds.
        let _ = kept.delete("key 0").await;
        kept.assert_refused().await;
        assert!(kept.namespace.get("key 99").await.unwrap().is_some());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(node.ended().is_none(), "the process lives");
    drop(kept_full);
    accepted_again(&mut kept.namespace).await;
    kept.put_patiently("after", 1).await;
    kept.assert_all().await;
    kept.assert_all_after_a_kill(&mut node).await;
    drop(node);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_fills_its_disk_by_itself_gives_back_what_is_deleted() {
    let disk = match SmallDisk::mount(FILE_SYSTEM_BYTES) {
        Ok(disk) => disk,
        Err(reason) => {
            return skipped(
                "a_node_that_fills_its_disk_by_itself_gives_back_what_is_deleted",
                &reason,
            );
        }
    };
    let mut node = Launch::new().data(disk.path().join("data")).start().await;
    let mut kept = Kept::new(&node).await;
    // Every new value comes with an overwritten one, so compactions have something to drop. A flush or a compaction may
    // make a little room after a refusal: full is what stays so.
    let (mut number, mut refusals) = (0, 0);
    while refusals < 100 {
        assert!(number < 10_000, "600 MB went onto a disk of 256 MiB");
        let outcome = match kept.put(&format!("key {number}"), number).await {
            Ok(()) => kept.put(&format!("key {}", number / 2), number + 1_000_000).await,
            refused => refused,
        };
        match outcome {
            Ok(()) => {
                refusals = 0;
                number += 1;
            }
            Err(refused) => {
                assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
                refusals += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    assert!(number > 400, "only {number} values of 60 kB fitted");
    kept.assert_all().await;
    // Half of it goes, and that alone brings writes back.
    for half in (0..number).step_by(2) {
        kept.delete(&format!("key {half}")).await.unwrap();
    }
    accepted_again(&mut kept.namespace).await;
    for more in 0..50 {
        kept.put_patiently(&format!("more {more}"), more).await;
    }
    assert!(!node.log().contains("could not be flushed"), "{}", node.log());
    kept.assert_all().await;
    kept.assert_all_after_a_kill(&mut node).await;
    drop(node);
}

fn write(store: &Rocks, key: u64, value: &[u8]) -> Result<(), engine::store::Error> {
    store.write(&[Change {
        family: Family::Concepts,
        key: &key.to_be_bytes(),
        value: Some(value),
    }])
}

/// What the node relies on when all its care was in vain.
#[test]
fn the_database_heals_by_itself_after_a_flush_that_met_a_full_disk() {
    let disk = match SmallDisk::mount(FILE_SYSTEM_BYTES) {
        Ok(disk) => disk,
        Err(reason) => {
            return skipped(
                "the_database_heals_by_itself_after_a_flush_that_met_a_full_disk",
                &reason,
            );
        }
    };
    let path = disk.path().join("db");
    // Write buffers that are small beside the disk: so much must be free again.
    let settings = rocks::Settings {
        flush_log_bytes: 8 << 20,
        ..rocks::Settings::default()
    };
    let store = Rocks::open(&path, &settings).unwrap();
    assert!(store.resume_bytes() < FILE_SYSTEM_BYTES / 2);
    let value = text(1, VALUE_BYTES);
    for key in 0..300 {
        write(&store, key, value.as_bytes()).unwrap();
    }
    let ballast = disk.fill();
    assert!(store.flush().unwrap_err().is_no_space());
    assert!(write(&store, 300, b"refused").unwrap_err().is_no_space());
    assert!(store.flush().unwrap_err().is_no_space());
    let read = |store: &Rocks, key: u64| store.get(Family::Concepts, &key.to_be_bytes()).unwrap();
    assert_eq!(read(&store, 299).as_deref(), Some(value.as_bytes()));
    drop(ballast);
    let freed = Instant::now();
    while let Err(error) = write(&store, 301, b"again") {
        assert!(error.is_no_space(), "{error}");
        assert!(freed.elapsed() < RECOVERED_WITHIN, "still refused: {error}");
        std::thread::sleep(Duration::from_millis(20));
    }
    store.flush().unwrap();
    drop(store);
    let store = Rocks::open(&path, &settings).unwrap();
    assert_eq!(read(&store, 299).as_deref(), Some(value.as_bytes()));
    assert_eq!(read(&store, 300), None);
    assert_eq!(read(&store, 301).as_deref(), Some(&b"again"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_starts_on_a_full_disk() {
    let disk = match SmallDisk::mount(FILE_SYSTEM_BYTES) {
        Ok(disk) => disk,
        Err(reason) => return skipped("a_node_starts_on_a_full_disk", &reason),
    };
    let mut node = Launch::new().data(disk.path().join("data")).start().await;
    let mut kept = Kept::new(&node).await;
    for number in 0..20 {
        kept.put(&format!("key {number}"), number).await.unwrap();
    }
    node.kill();
    let ballast = disk.fill();
    kept.assert_all_after_a_kill(&mut node).await;
    kept.assert_refused().await;
    drop(ballast);
    accepted_again(&mut kept.namespace).await;
    kept.put_patiently("after", 1).await;
    kept.assert_all_after_a_kill(&mut node).await;
    drop(node);
}
