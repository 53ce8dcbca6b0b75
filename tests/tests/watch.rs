//! `kill -9` under a stream of writes and a watch: whoever watches again with its last token misses no change that was
//! acknowledged, and sees the changes of each key in order. `CONTINUUM_LONG=1` runs three hundred rounds.
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

use continuum_tests::{
    Node,
    grpc::{self, Namespace},
    long,
};
use proto::v1::{
    BatchWrite, PutRequest, WatchRequest, WriteRequest, batch_write, change, concept, concepts_client::ConceptsClient,
    put_request::Write, watch_response::Event, write_response::Outcome,
};
use rand::RngExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

const NAMESPACE: &str = "kept";
/// Each chunk writes each of them once, with the number of the chunk.
const KEYS: u64 = 10;
/// How long a watch may take for what is there already.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the writer knows.
#[derive(Debug, Default)]
struct Written {
    /// Chunks sent; numbers are not used again.
    sent: u64,
    acknowledged: BTreeSet<u64>,
}

/// What the watcher knows.
#[derive(Debug, Default)]
struct Seen {
    token: Vec<u8>,
    /// Key → numbers, in the order in which they came.
    numbers: BTreeMap<String, Vec<u64>>,
}

fn chunk(number: u64) -> WriteRequest {
    let one = |key: u64| BatchWrite {
        write: Some(batch_write::Write::Put(PutRequest {
            namespace: NAMESPACE.to_owned(),
            key: format!("k{key}"),
            write: Some(Write::Register(number.to_string())),
            ..PutRequest::default()
        })),
    };
    WriteRequest {
        writes: (0..KEYS).map(one).collect(),
        ..WriteRequest::default()
    }
}

/// Sends chunks until the node goes away.
async fn write(mut client: ConceptsClient<Channel>, written: Arc<Mutex<Written>>) {
    let (chunks, receiver) = mpsc::channel(1);
    let Ok(answer) = client.write(ReceiverStream::new(receiver)).await else {
        return;
    };
    let first = written.lock().unwrap().sent;
    let sender = {
        let written = Arc::clone(&written);
        tokio::spawn(async move {
            loop {
                let number = written.lock().unwrap().sent;
                if chunks.send(chunk(number)).await.is_err() {
                    return;
                }
                written.lock().unwrap().sent += 1;
            }
        })
    };
    let mut answers = answer.into_inner();
    while let Ok(Some(answer)) = answers.message().await {
        match answer.outcome.unwrap() {
            Outcome::Written(done) => assert_eq!(u64::from(done.writes), KEYS),
            Outcome::Fault(fault) => panic!("{fault:?}"),
        }
        written.lock().unwrap().acknowledged.insert(first + answer.chunk);
    }
    drop(answers);
    sender.await.unwrap();
    // The last one may have been taken from us and not counted.
    written.lock().unwrap().sent += 1;
}

/// Watches until the node goes away, or until `until` was seen under every key.
async fn watch(mut client: ConceptsClient<Channel>, seen: Arc<Mutex<Seen>>, until: Option<u64>) {
    let request = WatchRequest {
        namespace: NAMESPACE.to_owned(),
        prefix: "k".to_owned(),
        resume_token: seen.lock().unwrap().token.clone(),
        ..WatchRequest::default()
    };
    let Ok(answer) = client.watch(request).await else {
        return;
    };
    let mut messages = answer.into_inner();
    while let Ok(Some(message)) = messages.message().await {
        let mut seen = seen.lock().unwrap();
        match message.event.unwrap() {
            Event::Progress(_) => {}
            Event::Resync(resync) => panic!("the log reaches back: {resync:?}"),
            Event::Changes(changes) => {
                for change in changes.changes {
                    let (key, number) = read(change.change.unwrap());
                    seen.numbers.entry(key).or_default().push(number);
                }
            }
        }
        seen.token = message.resume_token;
        let reached = |numbers: &Vec<u64>| numbers.last().copied() == until;
        if until.is_some() && seen.numbers.len() as u64 == KEYS && seen.numbers.values().all(reached) {
            return;
        }
    }
    assert_eq!(until, None, "the watch ended early");
}

fn read(change: change::Change) -> (String, u64) {
    match change {
        change::Change::Put(found) => match found.value {
            Some(concept::Value::Register(value)) => (found.key, value.json.parse().unwrap()),
            other => panic!("{other:?}"),
        },
        change::Change::Deleted(key) => panic!("{key} was never deleted"),
    }
}

/// What was seen must not have been lost by the kill.
async fn check_kept(node: &Node, seen: &Mutex<Seen>) {
    let mut namespace = Namespace::open(node, NAMESPACE).await;
    let last: Vec<(String, u64)> = {
        let seen = seen.lock().unwrap();
        let last = |(key, numbers): (&String, &Vec<u64>)| (key.clone(), *numbers.last().unwrap());
        seen.numbers.iter().map(last).collect()
    };
    for (key, number) in last {
        let held: u64 = namespace.get(&key).await.unwrap().unwrap().parse().unwrap();
        assert!(held >= number, "{key} holds {held}, a watch had shown {number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_misses_nothing_over_kill_9_and_keeps_each_key_in_order() {
    let rounds = if long() { 300 } else { 15 };
    let mut node = Node::start().await;
    drop(Namespace::create(&node, NAMESPACE).await);
    let (written, seen): (Arc<Mutex<Written>>, Arc<Mutex<Seen>>) = Default::default();
    // Where the watch begins: before anything is written.
    let first = watch(ConceptsClient::new(grpc::channel(&node).await), Arc::clone(&seen), None);
    drop(tokio::time::timeout(Duration::from_millis(500), first).await);
    assert!(!seen.lock().unwrap().token.is_empty());
    let started = Instant::now();
    for _ in 0..rounds {
        let mut load = tokio::task::JoinSet::new();
        let client = || async { ConceptsClient::new(grpc::channel(&node).await) };
        load.spawn(write(client().await, Arc::clone(&written)));
        load.spawn(watch(client().await, Arc::clone(&seen), None));
        let run_for = Duration::from_millis(rand::rng().random_range(20..300));
        tokio::time::sleep(run_for).await;
        node.kill();
        while let Some(ended) = load.join_next().await {
            ended.unwrap();
        }
        node.restart().await;
        check_kept(&node, &seen).await;
    }
    let mut client = ConceptsClient::new(grpc::channel(&node).await);
    let last = written.lock().unwrap().sent;
    let writes = chunk(last).writes;
    let batch = proto::v1::BatchRequest {
        writes,
        ..proto::v1::BatchRequest::default()
    };
    client.batch(batch).await.unwrap();
    let rest = watch(client, Arc::clone(&seen), Some(last));
    tokio::time::timeout(PATIENCE, rest).await.expect("the rest, in time");

    let (written, seen) = (written.lock().unwrap(), seen.lock().unwrap());
    let acknowledged = written.acknowledged.len();
    for (key, numbers) in &seen.numbers {
        assert!(numbers.is_sorted(), "{key} is out of order");
        let distinct: BTreeSet<u64> = numbers.iter().copied().collect();
        let missed: Vec<&u64> = written.acknowledged.difference(&distinct).collect();
        assert!(missed.is_empty(), "{key} misses {missed:?}");
    }
    let whole = seen.numbers["k0"].iter().collect::<BTreeSet<_>>();
    for (key, numbers) in &seen.numbers {
        assert_eq!(
            numbers.iter().collect::<BTreeSet<_>>(),
            whole,
            "{key}: chunks are whole or not there"
        );
    }
    assert!(
        acknowledged > rounds,
        "the load was too light to say anything: {acknowledged} chunks"
    );
    println!(
        "{rounds} rounds, {acknowledged} chunks acknowledged, {} seen, {:?}",
        whole.len(),
        started.elapsed()
    );
}
