//! `kill -9` under a client: what it writes is carried out once, what it watches is missed never. `CONTINUUM_LONG=1` kills
//! thirty times as often.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::{collections::BTreeMap, time::Duration};

use client::{Client, Event, Namespace, Put, ResumeToken, Selection, Settings, Strategy, Write};
use continuum_tests::{Node, long};
use rand::RngExt as _;

/// Patient enough for restarts on a busy machine.
fn connect(node: &Node) -> Client {
    let settings = Settings {
        call_timeout: Duration::from_secs(60),
        backoff_min: Duration::from_millis(5),
        backoff_max: Duration::from_millis(100),
        attempts_max: 100_000,
        unreachable_rounds_max: 100_000,
        ..Settings::of([node.grpc().to_string()])
    };
    Client::connect(settings).unwrap()
}

async fn create(node: &Node, name: &str) -> Namespace {
    let client = connect(node);
    client.namespaces().create(name, Strategy::LastWriteWins).await.unwrap();
    client.namespace(name)
}

fn kills() -> usize {
    if long() { 300 } else { 10 }
}

async fn total(namespace: &Namespace, key: &str) -> i64 {
    namespace.get(key).await.unwrap().unwrap().counter().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_increment_of_a_bulk_write_counts_once() {
    const KEYS: i64 = 20;
    let mut node = Node::start().await;
    let counts = create(&node, "counts").await;
    let chunk = || (0..KEYS).map(|key| Write::put(format!("k{key}"), Put::counter(1)));
    let mut bulk = counts.bulk();
    let (mut sent, mut acknowledged) = (0, 0);
    for _ in 0..kills() {
        // Between two kills as much as the node takes in a moment: some of it is always under way when it dies.
        for _ in 0..rand::rng().random_range(1..60) {
            for done in bulk.send(chunk()).await.unwrap() {
                assert_eq!(done.chunk, acknowledged, "acknowledgements come in order");
                done.outcome.unwrap();
                acknowledged += 1;
            }
            sent += 1;
        }
        node.kill();
        let (_, done) = tokio::join!(node.restart(), bulk.settle());
        for done in done.unwrap() {
            assert_eq!(done.chunk, acknowledged);
            done.outcome.unwrap();
            acknowledged += 1;
        }
        assert_eq!(acknowledged, sent);
    }
    for key in 0..KEYS {
        assert_eq!(
            total(&counts, &format!("k{key}")).await,
            i64::try_from(sent).unwrap(),
            "k{key}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_increment_of_single_writes_counts_once() {
    const WRITERS: usize = 8;
    let mut node = Node::start().await;
    let counts = create(&node, "counts").await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (counts, stopped) = (counts.clone(), stopped.clone());
            tokio::spawn(async move {
                let mut written = 0;
                while !*stopped.borrow() {
                    counts.put("hits", Put::counter(1)).await.unwrap();
                    written += 1;
                }
                written
            })
        })
        .collect();
    for _ in 0..kills() {
        let pause = rand::rng().random_range(1..50);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        node.restart().await;
    }
    stop.send(true).unwrap();
    let mut written = 0;
    for writer in writers {
        written += writer.await.unwrap();
    }
    assert!(written > 0);
    assert_eq!(total(&counts, "hits").await, written);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_outlives_its_node() {
    const KEYS: u64 = 10;
    let mut node = Node::start().await;
    let kept = create(&node, "kept").await;
    let mut watch = kept.watch(Selection::default(), &ResumeToken::default()).await.unwrap();
    let writer = {
        let kept = kept.clone();
        let rounds = 40 * kills() as u64;
        tokio::spawn(async move {
            for number in 0..rounds {
                for key in 0..KEYS {
                    kept.put(format!("k{key}"), Put::register(number.to_string()))
                        .await
                        .unwrap();
                }
            }
            kept.put("end", Put::register("0")).await.unwrap();
            rounds
        })
    };
    let watcher = tokio::spawn(async move {
        let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        loop {
            match watch.next().await.unwrap().unwrap() {
                Event::Put { concept, .. } if concept.key == "end" => return seen,
                Event::Put { concept, .. } => {
                    let number = concept.register().unwrap().parse().unwrap();
                    seen.entry(concept.key).or_default().push(number);
                }
                Event::Progress { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    });
    let mut killed = 0;
    while !writer.is_finished() && killed < kills() {
        let pause = rand::rng().random_range(1..100);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        node.restart().await;
        killed += 1;
    }
    let rounds = writer.await.unwrap();
    let seen = watcher.await.unwrap();
    assert!(
        killed > 2,
        "the writer was done before its node was killed often enough: {killed}"
    );
    assert_eq!(seen.len() as u64, KEYS);
    for (key, mut numbers) in seen {
        // Twice is allowed, backwards is not, and every number was a change that had to be told.
        assert!(numbers.is_sorted(), "{key}: {numbers:?}");
        numbers.dedup();
        assert_eq!(numbers, (0..rounds).collect::<Vec<_>>(), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_outlives_its_node() {
    const KEYS: usize = 20_000;
    let mut node = Node::start().await;
    let kept = create(&node, "kept").await;
    let keys: Vec<String> = (0..KEYS).map(|key| format!("k{key:06}")).collect();
    let value = format!("\"{}\"", "x".repeat(500));
    let mut bulk = kept.bulk();
    for keys in keys.chunks(1_000) {
        bulk.send(keys.iter().map(|key| Write::put(key, Put::register(&value))))
            .await
            .unwrap();
    }
    bulk.settle().await.unwrap();
    let mut scan = kept.scan(Selection::default()).await.unwrap();
    let mut seen = Vec::new();
    while let Some(concept) = scan.next().await {
        seen.push(concept.unwrap().key);
        if seen.len() == 100 {
            node.restart().await;
        }
    }
    assert_eq!(seen, keys);
}
