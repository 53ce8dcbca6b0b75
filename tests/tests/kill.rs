//! `kill -9` at random points under load: whatever was acknowledged is there afterwards, and the ledger adds up.
//! `CONTINUUM_LONG=1` runs a thousand rounds.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use continuum_tests::{Member, Node, federation, grpc::Namespace, long, words::made};
use rand::RngExt as _;
use serde_json::Value;

const CONTRIBUTORS: usize = 3;
const WRITERS: usize = 3;
/// Concepts in one contribution.
const GIVEN: u64 = 4;
/// Within the limit of contributions per hour, for each round has members of its own.
const CONTRIBUTIONS_MAX: u64 = 100;
/// One of each road.
const NAMESPACES: [&str; 2] = ["kept", "agreed"];

/// What the node has promised.
#[derive(Debug, Default)]
struct Promised {
    /// Member → concepts acknowledged, and whether one more contribution may or may not have counted.
    given: BTreeMap<String, (u64, bool)>,
    /// Namespace, key → what may be found there: what was acknowledged or seen last, and what was sent after it.
    written: BTreeMap<(&'static str, String), BTreeSet<Option<String>>>,
}

/// Contributes until the node goes away.
async fn contribute(mut member: Member, promised: Arc<Mutex<Promised>>) {
    for contribution in 0..CONTRIBUTIONS_MAX {
        let concepts: Vec<Value> = (0..GIVEN)
            .map(|number| made(&member.name, contribution * GIVEN + number))
            .collect();
        promised.lock().unwrap().given.entry(member.name.clone()).or_default().1 = true;
        let Ok(answer) = member.contribute(&concepts).await else {
            return;
        };
        assert_eq!(answer.ok()["new_concepts"], GIVEN);
        let mut promised = promised.lock().unwrap();
        let entry = promised.given.get_mut(&member.name).unwrap();
        *entry = (entry.0 + GIVEN, false);
    }
}

/// Writes the keys of one writer over and over until the node goes away.
async fn write(
    mut namespace: Namespace,
    name: &'static str,
    writer: usize,
    round: usize,
    promised: Arc<Mutex<Promised>>,
) {
    for count in 0.. {
        let key = format!("writer {writer} key {}", count % 10);
        let place = (name, key.clone());
        let value = format!("{{\"round\":{round},\"count\":{count}}}");
        let nothing_yet = || BTreeSet::from([None]);
        promised
            .lock()
            .unwrap()
            .written
            .entry(place.clone())
            .or_insert_with(nothing_yet)
            .insert(Some(value.clone()));
        if namespace.put(&key, &value).await.is_err() {
            return;
        }
        promised
            .lock()
            .unwrap()
            .written
            .insert(place, BTreeSet::from([Some(value)]));
    }
}

/// Asks for what was promised to the members named like `of`, and for everything that was written. What is found settles
/// what was unsure: it must not change any more.
async fn check(node: &Node, of: &str, promised: &Mutex<Promised>) {
    let asked: Vec<String> = promised
        .lock()
        .unwrap()
        .given
        .keys()
        .filter(|name| name.starts_with(of))
        .cloned()
        .collect();
    for name in asked {
        let mut member = Member::new(node, name.clone());
        let score = federation::number(&member.status().await.unwrap().ok()["contribution_score"]) as u64;
        let (least, unsure) = promised.lock().unwrap().given[&name];
        let possible = [least, least + if unsure { GIVEN } else { 0 }];
        assert!(
            possible.contains(&score),
            "{name} has {score}, possible are {possible:?}"
        );
        promised.lock().unwrap().given.insert(name.clone(), (score, false));
        // A reader of its own, for readers have limits too.
        let mut reader = Member::new(node, format!("reader of {name}"));
        let found = reader.knowledge(&format!("made by {name}"), 1000).await.unwrap().ok();
        let names: BTreeSet<&str> = found["concepts"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|entry| entry["concept"]["name"].as_str())
            .collect();
        for number in 0..score {
            let name = format!("{name} {number}");
            assert!(
                names.contains(name.as_str()),
                "{name} was acknowledged or credited, and is gone"
            );
        }
        assert_eq!(
            names.len() as u64,
            score,
            "{name} is credited what the pool holds of it"
        );
    }
    let credited: u64 = promised.lock().unwrap().given.values().map(|(score, _)| score).sum();
    let total = federation::total_concepts(&mut node.client()).await;
    assert_eq!(credited, total, "each concept of the pool is credited once");
    let mut found = BTreeMap::new();
    for name in NAMESPACES {
        let keys = Namespace::open(node, name).await.list().await.unwrap().into_iter();
        found.extend(keys.map(|(key, value)| ((name, key), value)));
    }
    for (key, possible) in &mut promised.lock().unwrap().written {
        let value = found.get(key).cloned();
        assert!(
            possible.contains(&value),
            "{key:?} holds {value:?}, possible is one of {possible:?}"
        );
        *possible = BTreeSet::from([value]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_kill_9() {
    let rounds = if long() { 1000 } else { 50 };
    let mut node = Node::start().await;
    drop(Namespace::create(&node, NAMESPACES[0]).await);
    drop(Namespace::create_consensus(&node, NAMESPACES[1]).await);
    let promised: Arc<Mutex<Promised>> = Arc::default();
    let started = Instant::now();
    for round in 0..rounds {
        let mut load = tokio::task::JoinSet::new();
        for contributor in 0..CONTRIBUTORS {
            let member = Member::new(&node, format!("round-{round:04}-member-{contributor}"));
            load.spawn(contribute(member, Arc::clone(&promised)));
        }
        for (writer, name) in (0..WRITERS).flat_map(|writer| NAMESPACES.map(|name| (writer, name))) {
            let namespace = Namespace::open(&node, name).await;
            load.spawn(write(namespace, name, writer, round, Arc::clone(&promised)));
        }
        let run_for = Duration::from_millis(rand::rng().random_range(1..200));
        tokio::time::sleep(run_for).await;
        node.kill();
        while let Some(ended) = load.join_next().await {
            ended.unwrap();
        }
        node.restart().await;
        check(&node, &format!("round-{round:04}-"), &promised).await;
    }
    let given: u64 = promised
        .lock()
        .unwrap()
        .given
        .values()
        .map(|(acknowledged, _)| acknowledged)
        .sum();
    let kept = |name| {
        promised
            .lock()
            .unwrap()
            .written
            .keys()
            .filter(|(of, _)| *of == name)
            .count()
    };
    assert!(
        NAMESPACES.map(kept).into_iter().all(|keys| keys > WRITERS),
        "hardly anything was written"
    );
    assert!(
        given > rounds as u64,
        "the load was too light to say anything: {given} concepts"
    );
    println!(
        "{rounds} rounds, {given} concepts acknowledged, {:?}",
        started.elapsed()
    );
}
