//! An image of the ledger whose transfer breaks off goes on where it ended: over a connection that breaks, and over the death of
//! whoever takes it, while others write.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use client::Put;
use continuum_tests::{
    Cluster, Launch,
    cluster::{self, SETTLED_WITHIN},
    workload,
};
use tokio::task::JoinSet;

/// So few entries are kept that whoever is away for a moment has missed them.
const SNAPSHOT_ENTRIES: &str = "100";
const KEEP_ENTRIES: &str = "20";
/// What the image holds, roughly.
const VALUE_BYTES: usize = 60 << 10;
const VALUES: usize = 200;
const IMAGE_BYTES: f64 = (VALUE_BYTES * VALUES) as f64;
/// The line to whoever takes it: a few seconds for all of it.
const LINE_BYTES_PER_S: u64 = 5 << 20;
/// What is on its way when a connection breaks is lost: windows, pieces, and the chunk that was not whole.
const LOST_MAX: f64 = 4.0 * 1024.0 * 1024.0;
/// What a sender takes for sent and is still in its own windows.
const UNDER_WAY_MAX: f64 = 4.0 * 1024.0 * 1024.0;

/// Between two writes: snapshots come due several times a second.
const WRITE_PAUSE: Duration = Duration::from_millis(3);

const COMING: &str = "continuum_raft_image_coming_bytes";
const RECEIVED: &str = "continuum_raft_image_received_bytes_total";
const RESUMED: &str = "continuum_raft_image_resumed_bytes_total";

async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// Text that cannot be made smaller.
fn text(bytes: usize) -> String {
    let letters = (0..bytes).map(|_| char::from(b'a' + rand::random::<u8>() % 26));
    format!("\"{}\"", letters.collect::<String>())
}

async fn put(cluster: &Cluster, node: u8, key: &str, json: String) {
    let namespace = cluster.client(node).namespace("left");
    let deadline = Instant::now() + SETTLED_WITHIN;
    while let Err(error) = namespace.put(key, Put::register(json.clone())).await {
        assert!(Instant::now() < deadline, "{error}");
    }
}

/// The last entry of a node's log, and the first.
async fn log(cluster: &Cluster, node: u8) -> (f64, f64) {
    let last = cluster.metric(node, "continuum_raft_last_index").await;
    (
        last,
        last - cluster.metric(node, "continuum_raft_log_entries").await + 1.0,
    )
}

/// Has the others go on without `away` until their log does not hold what it lacks.
async fn miss(cluster: &mut Cluster, away: u8, leader: u8) -> f64 {
    let (had, _) = log(cluster, away).await;
    cluster.node_mut(away).kill();
    let deadline = Instant::now() + SETTLED_WITHIN;
    while log(cluster, leader).await.1 <= had + 1.0 {
        assert!(Instant::now() < deadline, "the log behind {had} is still there");
        put(cluster, leader, "missed", "1".to_owned()).await;
    }
    had
}

/// Starts a node again, until it answers; it is not ready before it has the image.
async fn back(cluster: &mut Cluster, node: u8) {
    cluster.node_mut(node).respawn();
    let deadline = Instant::now() + SETTLED_WITHIN;
    while cluster.node(node).client().get("/livez").await.is_err() {
        assert!(Instant::now() < deadline, "n{node} does not answer");
        pause().await;
    }
}

/// Waits until so much of an image is there.
async fn until_half(cluster: &Cluster, node: u8) -> f64 {
    let deadline = Instant::now() + SETTLED_WITHIN;
    loop {
        let coming = cluster.metric(node, COMING).await;
        if coming > IMAGE_BYTES / 2.0 {
            return coming;
        }
        assert!(Instant::now() < deadline, "{coming} bytes of an image came");
        pause().await;
    }
}

/// Waits until what a node lacked is in place, and not only on its way.
async fn until_beyond(cluster: &Cluster, node: u8, had: f64) {
    let deadline = Instant::now() + SETTLED_WITHIN;
    while cluster.metric(node, "continuum_raft_applied_index").await <= had + 1.0 {
        assert!(Instant::now() < deadline, "n{node} does not come back");
        pause().await;
    }
}

/// Writes now and then until dropped: more snapshots come due than an image takes time.
struct Writing(Arc<AtomicBool>);

impl Writing {
    fn start(cluster: &Cluster, node: u8) -> Writing {
        let stop = Arc::new(AtomicBool::new(false));
        let (namespace, stopped) = (cluster.client(node).namespace("right"), Arc::clone(&stop));
        tokio::spawn(async move {
            for number in 0_u64.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // Told or not: it is there for the log's sake.
                let _ = namespace.put("steady", Put::register(number.to_string())).await;
                tokio::time::sleep(WRITE_PAUSE).await;
            }
        });
        Writing(stop)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A node that has missed what is in no log any more, and comes back while others write: it gets half of an image.
async fn half_sent(cluster: &mut Cluster, away: u8, leader: u8) -> (f64, Writing) {
    let had = miss(cluster, away, leader).await;
    let writing = Writing::start(cluster, leader);
    back(cluster, away).await;
    until_half(cluster, away).await;
    (had, writing)
}

/// What came, and what need not come again, once all of it is in place.
async fn came(cluster: &mut Cluster, away: u8, leader: u8, had: f64) -> f64 {
    until_beyond(cluster, away, had).await;
    assert_eq!(cluster.leader().await, leader, "another leader has another image");
    let (received, resumed) = (
        cluster.metric(away, RECEIVED).await,
        cluster.metric(away, RESUMED).await,
    );
    println!("{received} bytes came, and {resumed} did not come again");
    assert!(
        resumed > IMAGE_BYTES / 2.0 - LOST_MAX,
        "{resumed} bytes did not come again"
    );
    received
}

/// A cluster whose log is short and whose image is large.
async fn large(name: &str) -> Option<Cluster> {
    let short = |_, launch: Launch| {
        launch
            .environment("CONTINUUM_RAFT_SNAPSHOT_ENTRIES", SNAPSHOT_ENTRIES)
            .environment("CONTINUUM_RAFT_KEEP_ENTRIES", KEEP_ENTRIES)
    };
    let mut cluster = workload::proxied(name, 3, Box::new(short)).await?;
    let leader = cluster.leader().await;
    for some in (0..VALUES).collect::<Vec<_>>().chunks(20) {
        let mut puts = JoinSet::new();
        for number in some {
            let namespace = cluster.client(leader).namespace("left");
            let key = format!("value {number}");
            puts.spawn(async move { namespace.put(key, Put::register(text(VALUE_BYTES))).await.unwrap() });
        }
        puts.join_all().await;
    }
    Some(cluster)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_breaks_off_is_not_sent_twice() {
    let Some(mut cluster) = large("an_image_that_breaks_off_is_not_sent_twice").await else {
        return;
    };
    let leader = cluster.leader().await;
    let away = leader % 3 + 1;
    cluster.proxy(away).narrow(Some(LINE_BYTES_PER_S));

    // The connection breaks in the middle.
    let (had, writing) = half_sent(&mut cluster, away, leader).await;
    cluster.proxy(away).break_after(1);
    let received = came(&mut cluster, away, leader, had).await;
    assert_eq!(cluster.proxy(away).breaks(), 1);
    assert!(
        received > IMAGE_BYTES * 0.9 && received < IMAGE_BYTES + LOST_MAX,
        "{received} bytes came"
    );
    let sent = format!(
        "continuum_peer_image_sent_bytes_total{{member=\"{}\"}}",
        cluster::name(away)
    );
    let sent = cluster.metric(leader, &sent).await;
    assert!(sent < IMAGE_BYTES + UNDER_WAY_MAX + LOST_MAX, "{sent} bytes were sent");
    drop(writing);

    // Whoever takes it is killed in the middle.
    let (had, writing) = half_sent(&mut cluster, away, leader).await;
    cluster.node_mut(away).kill();
    back(&mut cluster, away).await;
    let received = came(&mut cluster, away, leader, had).await;
    assert!(received < IMAGE_BYTES / 2.0 + LOST_MAX, "{received} bytes came");
    drop(writing);

    let incoming = cluster.node(away).launch().data_directory().join("incoming");
    let deadline = Instant::now() + SETTLED_WITHIN;
    while std::fs::read_dir(&incoming).map_or(0, Iterator::count) > 0 {
        assert!(Instant::now() < deadline, "nobody needs what came any more");
        pause().await;
    }
    cluster.proxy(away).narrow(None);
    cluster.node_mut(away).wait_ready().await;
    let value = cluster.client(away).namespace("left").get("value 7").await.unwrap();
    assert!(value.is_some(), "what the image brought is there");
}
