//! A cluster under full load that makes a snapshot every few thousand entries and purges its log all the while: the shape of
//! openraft's issue 2116. Ten minutes with `CONTINUUM_LONG=1`.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use continuum_tests::{
    Node,
    grpc::Namespace,
    long,
    loopback::{status, three, until},
};

const LASTS: Duration = Duration::from_secs(30);
const LASTS_LONG: Duration = Duration::from_mins(10);
/// A snapshot after so many entries, and how many are kept behind it.
const SNAPSHOT_ENTRIES: u64 = 2_000;
const KEEP_ENTRIES: u64 = 500;
/// Callers at each node, each with keys of its own.
const CALLERS: u64 = 8;
const KEYS: u64 = 50;
const VALUE_BYTES: usize = 256;

/// A number of the node's own metrics.
async fn metric(node: &Node, name: &str) -> u64 {
    let text = node.client().get("/metrics").await.unwrap().text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}")).parse::<f64>().unwrap() as u64
}

/// Puts until the time is over; how often, and how often not.
async fn put(mut namespace: Namespace, caller: String, until: Instant, done: Arc<AtomicU64>, refused: Arc<AtomicU64>) {
    for count in 0.. {
        if Instant::now() >= until {
            return;
        }
        let value = format!("\"{count} {}\"", "v".repeat(VALUE_BYTES));
        match namespace.put(&format!("{caller} {}", count % KEYS), &value).await {
            Ok(()) => drop(done.fetch_add(1, Ordering::Relaxed)),
            // Two cores for four processes: now and then an election is lost to the load.
            Err(status) => {
                assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
                refused.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_and_purges_under_full_load_are_survived_by_all() {
    let lasts = if long() { LASTS_LONG } else { LASTS };
    let mut nodes = three(|launch| {
        launch
            .environment("CONTINUUM_RAFT_SNAPSHOT_ENTRIES", &SNAPSHOT_ENTRIES.to_string())
            .environment("CONTINUUM_RAFT_KEEP_ENTRIES", &KEEP_ENTRIES.to_string())
    })
    .await;
    let first = &nodes["one"];
    drop(Namespace::create_consensus(first, "load").await);
    let (done, refused): (Arc<AtomicU64>, Arc<AtomicU64>) = Default::default();
    let end = Instant::now() + lasts;
    let mut callers = tokio::task::JoinSet::new();
    for (name, node) in &nodes {
        until("the namespace is known", async || {
            Namespace::open(node, "load").await.list().await.is_ok()
        })
        .await;
        for caller in 0..CALLERS {
            let namespace = Namespace::open(node, "load").await;
            let caller = format!("{name} {caller}");
            callers.spawn(put(namespace, caller, end, Arc::clone(&done), Arc::clone(&refused)));
        }
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }

    // None of them ended, and what all of them applied is the same.
    let mut applied = 0;
    until("all have applied the same", async || {
        let mut of_each = Vec::new();
        for node in nodes.values() {
            of_each.push(status(node)["applied"].as_u64().unwrap_or_default());
        }
        applied = of_each[0];
        of_each.iter().all(|index| *index == applied)
    })
    .await;
    let mut lists = Vec::new();
    for (name, node) in &mut nodes {
        assert_eq!(node.ended(), None, "{name} ended");
        let log = node.log();
        let wrong = log
            .lines()
            .find(|line| line.contains("\"level\":\"ERROR\"") || line.contains("panicked"));
        assert_eq!(wrong, None, "{name}");
        let (snapshot, entries) = (
            metric(node, "continuum_raft_snapshot_index").await,
            metric(node, "continuum_raft_log_entries").await,
        );
        println!("{name}: applied {applied}, snapshot at {snapshot}, {entries} entries kept");
        assert!(applied > 3 * SNAPSHOT_ENTRIES, "{applied} entries are no load");
        assert!(snapshot + 2 * SNAPSHOT_ENTRIES > applied, "{snapshot} of {applied}");
        assert!(entries < 3 * SNAPSHOT_ENTRIES + KEEP_ENTRIES, "{entries}");
        lists.push(Namespace::open(node, "load").await.list().await.unwrap());
    }
    let (done, refused) = (done.load(Ordering::Relaxed), refused.load(Ordering::Relaxed));
    println!("{done} puts in {lasts:?}, {refused} refused, {applied} entries");
    assert!(refused < done / 20, "{refused} of {done} were refused");
    assert!(
        !lists[0].is_empty() && lists.iter().all(|list| *list == lists[0]),
        "the ledgers differ"
    );
}
