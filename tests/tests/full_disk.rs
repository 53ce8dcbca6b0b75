//! A disk that runs full: writes are refused and say so, reads and deletes go on, and space that is freed is enough.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use continuum_tests::{Answer, Launch, Member, grpc::Namespace, skipped};
use serde_json::{Value, json};

const FILE_SYSTEM_BYTES: u64 = 256 * 1024 * 1024;
/// What somebody else left on the disk, and removes in the end.
const BALLAST_BYTES: u64 = 40 * 1024 * 1024;
const RECOVERED_WITHIN: Duration = Duration::from_secs(20);

/// A file system of its own, unmounted at the end.
struct SmallDisk {
    directory: tempfile::TempDir,
}

impl SmallDisk {
    /// `Err` says what this machine does not allow.
    fn mount() -> Result<SmallDisk, String> {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        File::create(&image).unwrap().set_len(FILE_SYSTEM_BYTES).unwrap();
        let disk = SmallDisk { directory };
        std::fs::create_dir(disk.path()).unwrap();
        run("mkfs.ext4", &["-q", "-F", "-m", "0", &image.to_string_lossy()])?;
        run(
            "mount",
            &["-o", "loop", &image.to_string_lossy(), &disk.path().to_string_lossy()],
        )?;
        Ok(disk)
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = run("umount", &[&self.path().to_string_lossy()]);
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new("env")
        .env("PATH", path)
        .arg(program)
        .args(arguments)
        .output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

fn ballast(at: &Path, bytes: u64) {
    let file = File::create(at).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).unwrap();
}

/// Puts large concepts until the node refuses one: a flush may have made a little room since the last refusal.
async fn fill_over_grpc(namespace: &mut Namespace) -> tonic::Status {
    let json = format!("\"{}\"", "x".repeat(60_000));
    for number in 0..2_000 {
        if let Err(refused) = namespace.put(&format!("filling {number}"), &json).await {
            return refused;
        }
    }
    panic!("120 MB more went onto a full disk");
}

/// Nearly 4 MiB of concepts that do not compress.
fn bulky(mark: u64) -> Vec<Value> {
    let mut random = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(mark);
    (0..60)
        .map(|number| {
            let text: String = (0..60_000)
                .map(|_| char::from(rand::RngExt::random_range(&mut random, b'a'..=b'z')))
                .collect();
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
    let disk = match SmallDisk::mount() {
        Ok(disk) => disk,
        Err(reason) => return skipped("a_full_disk_refuses_writes_serves_reads_and_recovers", &reason),
    };
    let ballast_path = disk.path().join("ballast");
    ballast(&ballast_path, BALLAST_BYTES);
    // Marks that fit a disk this small; the defaults would refuse from the start. Under the hard mark a compaction must
    // still find room for all that it rewrites, which is at most what the pool has grown to until then.
    let launch = Launch::new()
        .data(disk.path().join("data"))
        .argument("--storage-segment-bytes=16MiB")
        .argument("--storage-flush-log-bytes=8MiB")
        .argument("--storage-free-soft-bytes=96MiB")
        .argument("--storage-free-hard-bytes=80MiB");
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
    std::fs::remove_file(&ballast_path).unwrap();
    let freed = Instant::now();
    while let Err(status) = namespace.put("another", "1").await {
        assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status}");
        assert!(freed.elapsed() < RECOVERED_WITHIN, "still refused: {status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
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
