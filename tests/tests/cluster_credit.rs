//! Nobody is credited twice and the limits are exact, whichever member of a cluster is asked and whoever leads.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use continuum_tests::{
    Client, Cluster, Member,
    cluster::SETTLED_WITHIN,
    federation::{self, PI_PHI},
    words::made,
    workload,
};
use hyper::Method;
use serde_json::{Value, json};

/// Requests of one member, half of each kind, and the connections they come over.
const REQUESTS: u64 = 10_000;
const CONNECTIONS: u64 = 300;

/// Members that contribute while leaders are killed, and how often each of them does: within what an hour allows.
const MEMBERS: u64 = 100;
const CONTRIBUTIONS: u64 = 50;
/// How often a contribution is sent again although it was acknowledged.
const AGAIN: u64 = 2;
/// Members at work at once.
const AT_WORK: u64 = 20;
/// Concepts that several members contribute.
const SHARED: u64 = 1_000;
/// Leaders that are killed.
const KILLS: u64 = 3;
/// A request without an answer is given up.
const ANSWERED_WITHIN: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_at_all_members_meet_exact_limits() {
    let name = "ten_thousand_requests_at_all_members_meet_exact_limits";
    let Some(cluster) = workload::cluster(name, 3).await else {
        return;
    };
    let registered = Member::new(cluster.node(1), "busy").register(Some(PI_PHI)).await;
    assert_eq!(registered.unwrap().ok()["access_level"], "twilight");
    let next = Arc::new(AtomicU64::new(0));
    let mut running = tokio::task::JoinSet::new();
    for connection in 0..CONNECTIONS {
        let node = cluster.node(u8::try_from(connection % 3).unwrap() + 1);
        running.spawn(ask(Member::new(node, "busy"), Arc::clone(&next)));
    }
    let mut counted: BTreeMap<(bool, u16), u64> = BTreeMap::new();
    while let Some(part) = running.join_next().await {
        for (kind, count) in part.unwrap() {
            *counted.entry(kind).or_default() += count;
        }
    }
    let expected = [
        ((true, 200), 100),
        ((true, 429), 4_900),
        ((false, 200), 50),
        ((false, 429), 4_950),
    ];
    assert_eq!(counted, BTreeMap::from(expected));
    for node in 1..=3 {
        wait_total(&cluster, node, 100).await;
        let status = Member::new(cluster.node(node), "busy").status().await.unwrap().ok();
        assert_eq!(federation::number(&status["contribution_score"]), 100.0);
        assert_eq!(federation::number(&status["consumption_score"]), 50.0);
    }
}

/// One connection's share of the requests; how they were answered.
async fn ask(mut member: Member, next: Arc<AtomicU64>) -> BTreeMap<(bool, u16), u64> {
    let mut counted: BTreeMap<(bool, u16), u64> = BTreeMap::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= REQUESTS {
            return counted;
        }
        let gives = number.is_multiple_of(2);
        let answer = match gives {
            true => member.contribute(&[made("fresh", number)]).await.unwrap(),
            false => member.knowledge("fresh", 5).await.unwrap(),
        };
        *counted.entry((gives, answer.status)).or_default() += 1;
    }
}

/// Waits until the pool of a node holds so many.
async fn wait_total(cluster: &Cluster, node: u8, count: u64) {
    let deadline = Instant::now() + SETTLED_WITHIN;
    loop {
        let total = federation::total_concepts(&mut cluster.node(node).client()).await;
        if total == count {
            return;
        }
        assert!(Instant::now() < deadline, "n{node} holds {total} concepts, not {count}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What all writers share.
struct Work {
    clients: Vec<Client>,
    next: AtomicU64,
    requests: AtomicU64,
    acknowledged: AtomicU64,
    credited: AtomicU64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credits_are_what_was_accepted_however_often_it_was_sent() {
    let name = "credits_are_what_was_accepted_however_often_it_was_sent";
    let Some(mut cluster) = workload::cluster(name, 3).await else {
        return;
    };
    let work = Arc::new(Work {
        clients: (1..=3).map(|node| cluster.node(node).client()).collect(),
        next: AtomicU64::new(0),
        requests: AtomicU64::new(0),
        acknowledged: AtomicU64::new(0),
        credited: AtomicU64::new(0),
    });
    let mut running = tokio::task::JoinSet::new();
    for writer in 0..AT_WORK {
        running.spawn(contribute(Arc::clone(&work), writer));
    }
    let all = MEMBERS * CONTRIBUTIONS;
    for kill in 1..=KILLS {
        while work.acknowledged.load(Ordering::Relaxed) < all * kill / (KILLS + 1) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let leader = cluster.leader().await;
        cluster.node_mut(leader).kill();
        tokio::time::sleep(Duration::from_millis(700)).await;
        cluster.node_mut(leader).restart().await;
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    let requests = work.requests.load(Ordering::Relaxed);
    assert_eq!(work.acknowledged.load(Ordering::Relaxed), all);
    assert!(
        requests >= all * (1 + AGAIN) && requests - all >= 10_000,
        "{requests} requests for {all} contributions"
    );
    let credited = work.credited.load(Ordering::Relaxed);
    println!("{requests} requests for {all} contributions, {credited} concepts credited, {KILLS} leaders killed");
    assert_eq!(credited, all + SHARED, "each concept is credited once");
    for node in 1..=3 {
        wait_total(&cluster, node, credited).await;
        let mut scores = 0;
        for member in 0..MEMBERS {
            let status = Member::new(cluster.node(node), member_name(member))
                .status()
                .await
                .unwrap()
                .ok();
            scores += federation::number(&status["contribution_score"]) as u64;
        }
        assert_eq!(scores, credited, "at n{node} the members have what they were told");
    }
}

fn member_name(member: u64) -> String {
    format!("member {member}")
}

/// Works for one member after the other: each contribution until it is acknowledged, and then again at other nodes.
async fn contribute(work: Arc<Work>, writer: u64) {
    let addresses = work.clients.len() as u64;
    let mut clients: Vec<Client> = work.clients.iter().map(Client::another).collect();
    loop {
        let member = work.next.fetch_add(1, Ordering::Relaxed);
        if member >= MEMBERS {
            return;
        }
        let name = member_name(member);
        for count in 0..CONTRIBUTIONS {
            let number = member * CONTRIBUTIONS + count;
            let concepts = [made("own", number), made("shared", number % SHARED)];
            let body = json!({ "concepts": concepts }).to_string();
            let key = format!("key-{count}");
            let mut first: Option<Value> = None;
            for time in 0..=AGAIN {
                let place = usize::try_from((writer + number + time) % addresses).unwrap();
                let answer = acknowledged(&work, &mut clients, place, &name, &key, &body).await;
                match &first {
                    None => first = Some(answer),
                    Some(first) => assert_eq!(*first, answer, "a retry is told the same"),
                }
            }
            let new = first.unwrap()["new_concepts"].as_u64().unwrap();
            work.credited.fetch_add(new, Ordering::Relaxed);
            work.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Sends it to one node after the other, from `place` on, until one acknowledges it.
async fn acknowledged(
    work: &Work,
    clients: &mut [Client],
    mut place: usize,
    member: &str,
    key: &str,
    body: &str,
) -> Value {
    let headers = [
        ("content-type", "application/json"),
        ("x-node-id", member),
        ("idempotency-key", key),
    ];
    let deadline = Instant::now() + SETTLED_WITHIN;
    loop {
        work.requests.fetch_add(1, Ordering::Relaxed);
        let body = body.to_owned().into();
        let sent = clients[place].call(Method::POST, "/federation/contribute", &headers, body);
        match tokio::time::timeout(ANSWERED_WITHIN, sent).await {
            Ok(Ok(answer)) if answer.status == 200 => return answer.json(),
            Ok(Ok(answer)) => assert!([409, 503].contains(&answer.status), "{}", answer.text()),
            // The next request must not wait for the answer to this one.
            Ok(Err(_)) | Err(_) => clients[place] = clients[place].another(),
        }
        assert!(Instant::now() < deadline, "never acknowledged");
        place = (place + 1) % clients.len();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
