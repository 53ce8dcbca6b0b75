//! Three processes become one cluster by tokens, lose their leader under load, and lose nothing else.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use continuum_tests::{
    Admin, Client, Launch, Member, Node, federation,
    loopback::{WITHIN, joining, launch, status, token, until, votes},
    words::made,
};
use hyper::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// An answer of a node that cannot reach its leader comes by then.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const WRITERS: usize = 4;
/// Concepts in one contribution.
const GIVEN: u64 = 4;
/// Every so many contributions are sent twice.
const AGAIN_EVERY: u64 = 5;
/// A member that is dead is called again and again, at each heartbeat (20 a second), but not as fast as the processor can.
const LOOKED_AT_FOR: Duration = Duration::from_secs(2);
const CONNECTIONS_MAX: usize = 200;
/// Contributions of one member, within what an hour allows.
const CONTRIBUTIONS: u64 = 50;

async fn three() -> BTreeMap<String, Node> {
    let one = launch("one").start().await;
    let admin = Admin::of(&one);
    let alone = status(&one);
    assert_eq!(
        (&alone["initialised"], &alone["members"][0]["role"], &alone["leader"]),
        (&json!(false), &json!("alone"), &json!("one")),
        "{alone}"
    );
    let early = admin.run(&["cluster", "token"]);
    assert_eq!((early.code, early.out.as_str()), (Some(65), ""));
    assert!(early.err.contains("cluster init"), "{}", early.err);
    let given = Member::new(&one, "early").contribute(&[made("early", 0)]).await;
    assert_eq!(given.unwrap().ok()["new_concepts"], 1);
    assert!(admin.ok(&["cluster", "init"]).err.contains("cluster token"));
    admin.ok(&["cluster", "init"]);
    let two = joining(launch("two"), &token(&one, &[])).start().await;
    // Any member makes tokens.
    let three = joining(launch("three"), &token(&two, &["--valid", "1m"])).start().await;
    let nodes = [("one", one), ("two", two), ("three", three)];
    let nodes: BTreeMap<String, Node> = nodes.map(|(name, node)| (name.to_owned(), node)).into();
    for node in nodes.values() {
        votes(node, 3).await;
    }
    nodes
}

/// Contributes at `nodes` in turn until told to stop; each contribution goes on, under its key, until it is acknowledged.
async fn contribute(nodes: Vec<SocketAddr>, writer: usize, stop: Arc<AtomicBool>, acknowledged: Arc<AtomicU64>) {
    let mut turn = writer;
    for count in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let member = format!("writer {writer} {}", count / CONTRIBUTIONS);
        let concepts: Vec<Value> = (0..GIVEN).map(|number| made(&member, count * GIVEN + number)).collect();
        let (body, key) = (json!({ "concepts": concepts }).to_string(), format!("{count}"));
        let headers = [
            ("content-type", "application/json"),
            ("x-node-id", &*member),
            ("idempotency-key", &*key),
        ];
        // Some are sent again although they were acknowledged, to another node: they are told the same.
        let times = if count % AGAIN_EVERY == 0 { 2 } else { 1 };
        for _ in 0..times {
            let answer = acknowledged_by(&nodes, &mut turn, &headers, &body).await;
            assert_eq!(answer["new_concepts"], GIVEN, "each contribution counts once");
            turn += 1;
        }
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends a contribution to `nodes` in turn, from `turn` on, until one of them acknowledges it.
async fn acknowledged_by(nodes: &[SocketAddr], turn: &mut usize, headers: &[(&str, &str)], body: &str) -> Value {
    let deadline = Instant::now() + WITHIN;
    loop {
        let mut client = Client::new(nodes[*turn % nodes.len()]);
        let body = body.to_owned().into();
        let sent = client.call(Method::POST, "/federation/contribute", headers, body);
        if let Ok(Ok(answer)) = tokio::time::timeout(ANSWER_WITHIN, sent).await {
            if answer.status == 200 {
                return answer.json();
            }
            assert!([409, 503].contains(&answer.status), "{}", answer.text());
        }
        assert!(Instant::now() < deadline, "never acknowledged");
        *turn += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a node's pool holds, and what the members of the writers are credited there.
async fn ledger(node: &Node, contributions: u64) -> (u64, u64) {
    let total = federation::total_concepts(&mut node.client()).await;
    let mut credited = 0;
    let blocks = contributions / CONTRIBUTIONS + 1;
    let writers = (0..WRITERS).flat_map(|writer| (0..blocks).map(move |block| format!("writer {writer} {block}")));
    let at_each = ["one", "two", "three"].map(|name| format!("at {name}"));
    for name in writers.chain(at_each).chain(["early".to_owned()]) {
        let answer = Member::new(node, name).status().await.unwrap();
        if answer.status == 200 {
            credited += federation::number(&answer.json()["contribution_score"]) as u64;
        }
    }
    (total, credited)
}

/// How often anybody connects to an address where nobody answers.
async fn connections_to_the_dead(address: SocketAddr) -> usize {
    let grave = TcpListener::bind(address).await.unwrap();
    let mut count = 0;
    let counted = async {
        loop {
            drop(grave.accept().await);
            count += 1;
        }
    };
    let _over = tokio::time::timeout(LOOKED_AT_FOR, counted).await;
    count
}

/// Every byte of the three ledgers.
fn all_hold_the_same(any: &Node) {
    let compared = Admin::of(any).ok(&["-o", "json", "verify", "--cluster"]).json();
    assert_eq!(
        (compared["same"].as_bool(), compared["members"].as_array().map(Vec::len)),
        (Some(true), Some(3)),
        "{compared}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_killed_and_nothing_acknowledged_is_lost() {
    let mut nodes = three().await;
    for (name, node) in &nodes {
        let given = Member::new(node, format!("at {name}"))
            .contribute(&[made(name, 0)])
            .await;
        assert_eq!(given.unwrap().ok()["new_concepts"], 1);
    }
    let leader = status(&nodes["one"])["leader"].as_str().unwrap().to_owned();
    let mut killed = nodes.remove(&leader).unwrap();
    let survivors: Vec<SocketAddr> = nodes.values().map(Node::http).collect();
    let (stop, acknowledged): (Arc<AtomicBool>, Arc<AtomicU64>) = Default::default();
    let mut load = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        load.spawn(contribute(survivors.clone(), writer, stop, acknowledged));
    }
    until("the load runs", async || acknowledged.load(Ordering::Relaxed) > 20).await;
    killed.kill();
    let before = acknowledged.load(Ordering::Relaxed);
    let since = Instant::now();
    until("the survivors go on", async || {
        acknowledged.load(Ordering::Relaxed) > before + 2 * WRITERS as u64
    })
    .await;
    println!("{before} contributions, leader killed, on after {:?}", since.elapsed());
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = load.join_next().await {
        ended.unwrap();
    }

    let contributions = acknowledged.load(Ordering::Relaxed);
    let wanted = contributions * GIVEN + 4;
    for node in nodes.values() {
        let mut found = (0, 0);
        // What the other of them has acknowledged arrives a moment later.
        until("what was acknowledged is there", async || {
            found = ledger(node, contributions).await;
            found.0 >= wanted
        })
        .await;
        assert_eq!(found, (wanted, wanted), "each concept is there once and credited once");
        assert_ne!(status(node)["leader"], leader.as_str());
    }
    let connections = connections_to_the_dead(killed.grpc()).await;
    assert!((1..=CONNECTIONS_MAX).contains(&connections), "{connections}");
    // The token it came with has done its work and is no harm.
    killed.restart().await;
    votes(&killed, 3).await;
    until("the restarted one has caught up", async || {
        ledger(&killed, contributions).await == (wanted, wanted)
    })
    .await;
    all_hold_the_same(&killed);
    Admin::of(&killed).ok(&["cluster", "transfer-leader", &leader]);
    assert_eq!(status(&killed)["leader"], leader.as_str());

    nothing_is_decided_once_others_are_gone(&killed, nodes).await;
}

/// Without a majority that is what is told, and the code says that it may pass.
async fn nothing_is_decided_once_others_are_gone(survivor: &Node, mut others: BTreeMap<String, Node>) {
    for node in others.values_mut() {
        node.kill();
    }
    until("no quorum", async || {
        let ran = Admin::of(survivor).run(&["cluster", "status"]);
        ran.code == Some(75) && ran.err.contains("nothing can be decided") && ran.out.contains("nobody")
    })
    .await;
    let gone = others.keys().next().unwrap();
    for words in [
        &["remove", gone, "--yes"][..],
        &["demote", gone],
        &["transfer-leader", gone],
    ] {
        let ran = Admin::of(survivor).run(&[&["--timeout", "1s", "cluster"], words].concat());
        assert_eq!(ran.code, Some(75), "{}", ran.err);
        assert!(ran.err.contains("nothing was changed"), "{}", ran.err);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_lets_in_one_node_that_has_no_other_cluster() {
    let one = launch("one").start().await;
    let admin = Admin::of(&one);
    admin.ok(&["cluster", "init"]);
    let first = token(&one, &[]);
    let two = joining(launch("two"), &first).start().await;
    votes(&one, 2).await;
    refused(joining(launch("three"), &first), "`two` has joined with this token").await;
    refused(joining(launch("three"), "ctm1.half"), "no join token").await;

    let mut stranger = launch("stranger").start().await;
    let given = Member::new(&stranger, "kept").contribute(&[made("kept", 0)]).await;
    assert_eq!(given.unwrap().ok()["new_concepts"], 1);
    assert!(stranger.stop(WITHIN).await.success());
    let second = token(&one, &[]);
    refused(
        joining(stranger.launch().clone(), &second),
        "belong to another cluster than the join token",
    )
    .await;
    // Nothing of its own was changed by that.
    stranger.restart().await;
    assert_eq!(federation::total_concepts(&mut stranger.client()).await, 1);

    // The same token is still good for a node without data; one that was lost is replaced under its name.
    let mut three = joining(launch("three"), &second).start().await;
    votes(&one, 3).await;
    three.kill();
    refused(
        joining(launch("three"), &token(&one, &[])),
        "`three` is a member already",
    )
    .await;
    let place = admin.ok(&["cluster", "replace", "three"]);
    let three = joining(launch("three"), place.out.trim_end()).start().await;
    votes(&three, 3).await;
    until("the lost one is out", async || {
        status(&three)["members"].as_array().unwrap().len() == 3
    })
    .await;
    let removed = admin.ok(&["cluster", "remove", "three", "--yes"]);
    assert!(removed.err.contains("three is out"), "{}", removed.err);
    votes(&two, 2).await;
    assert_eq!(admin.run(&["cluster", "remove", "three", "--yes"]).code, Some(1));
}

/// Starts it, and expects it to end with these words.
async fn refused(launch: Launch, words: &str) {
    let mut node = launch.spawn();
    let ended = node.wait_ended(WITHIN).await;
    assert!(!ended.success(), "{}", node.log());
    assert!(node.log().contains(words), "{ended}: {words}: {}", node.log());
    println!("{ended}: {words}");
}
