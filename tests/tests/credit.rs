//! Nobody is credited twice, and the limits are exact, however many ask at once.
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
};

use continuum_tests::{
    Member, Node,
    federation::{self, PI_PHI},
    words::made,
};
use hyper::Method;
use serde_json::{Value, json};

/// Members that contribute at once.
const MEMBERS: u64 = 60;
/// Concepts there are, and how many of them each member contributes.
const DISTINCT: u64 = 300;
const GIVEN: u64 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlapping_contributions_credit_each_concept_once() {
    let node = Node::start().await;
    let mut running = tokio::task::JoinSet::new();
    for number in 0..MEMBERS {
        let mut member = Member::new(&node, format!("member {number}"));
        // Windows that overlap all around; every concept is in twenty of them.
        let concepts: Vec<Value> = (0..GIVEN)
            .map(|offset| made("everyone", (number * DISTINCT / MEMBERS + offset) % DISTINCT))
            .collect();
        running.spawn(async move {
            let answer = member.contribute(&concepts).await.unwrap().ok();
            let count = |field: &str| answer[field].as_u64().unwrap();
            assert_eq!(count("new_concepts") + count("duplicate_concepts"), GIVEN);
            assert_eq!(count("total_submitted"), GIVEN);
            let score = federation::number(&member.status().await.unwrap().ok()["contribution_score"]);
            assert_eq!(score, count("new_concepts") as f64);
            count("new_concepts")
        });
    }
    let mut credited = 0;
    while let Some(new) = running.join_next().await {
        credited += new.unwrap();
    }
    assert_eq!(credited, DISTINCT);
    assert_eq!(federation::total_concepts(&mut node.client()).await, DISTINCT);
}

/// How often a member sends one contribution, all at once.
const SENT: u64 = 20;

/// The same contribution, over so many connections at once; the answers that were 200. `key` makes it a retry that the node
/// can tell; another that is under way is then refused with 409.
async fn send_at_once(node: &Node, member: &str, key: Option<&str>) -> Vec<Value> {
    let concepts: Vec<Value> = (0..GIVEN).map(|number| made(member, number)).collect();
    let body = json!({ "concepts": concepts }).to_string();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..SENT {
        let mut client = node.client();
        let (body, member, key) = (body.clone(), member.to_owned(), key.map(str::to_owned));
        running.spawn(async move {
            let mut headers = vec![("content-type", "application/json"), ("x-node-id", &*member)];
            headers.extend(key.as_deref().map(|key| ("idempotency-key", key)));
            client
                .call(Method::POST, "/federation/contribute", &headers, body.into())
                .await
                .unwrap()
        });
    }
    let mut granted = Vec::new();
    while let Some(answer) = running.join_next().await {
        let answer = answer.unwrap();
        if key.is_some() && answer.status == 409 {
            continue;
        }
        granted.push(answer.ok());
    }
    granted
}

async fn score(node: &Node, member: &str) -> u64 {
    let status = Member::new(node, member).status().await.unwrap().ok();
    federation::number(&status["contribution_score"]) as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_contribution_sent_again_is_credited_once() {
    let mut node = Node::start().await;
    // Without a key each is a request of its own: one of them is new, the others find everything known.
    let new = |answers: &[Value]| -> u64 {
        let counts = answers.iter().map(|answer| answer["new_concepts"].as_u64().unwrap());
        counts.sum()
    };
    let plain = send_at_once(&node, "plain", None).await;
    assert_eq!((plain.len() as u64, new(&plain)), (SENT, GIVEN));
    // With a key all are the same request, and have the same answer.
    let keyed = send_at_once(&node, "keyed", Some("once")).await;
    assert!(!keyed.is_empty(), "one of them was not under way already");
    assert!(keyed.iter().all(|answer| *answer == keyed[0]), "{keyed:#?}");
    assert_eq!(keyed[0]["new_concepts"], GIVEN);
    for round in ["at once", "after a crash"] {
        assert_eq!(score(&node, "plain").await, GIVEN, "{round}");
        assert_eq!(score(&node, "keyed").await, GIVEN, "{round}");
        assert_eq!(
            federation::total_concepts(&mut node.client()).await,
            2 * GIVEN,
            "{round}"
        );
        // What a program does that does not know whether its request was carried out.
        node.kill();
        node.restart().await;
        assert_eq!(new(&send_at_once(&node, "plain", None).await), 0, "{round}");
        let again = send_at_once(&node, "keyed", Some("once")).await;
        assert!(again.iter().all(|answer| *answer == keyed[0]), "{again:#?}");
    }
}

/// Requests of one member, half of each kind.
const REQUESTS: u64 = 10_000;
/// Connections they come over.
const CONNECTIONS: u64 = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_of_one_member_meet_exact_limits() {
    let node = Node::start().await;
    let registered = Member::new(&node, "busy").register(Some(PI_PHI)).await.unwrap().ok();
    assert_eq!(registered["access_level"], "twilight");
    let next = Arc::new(AtomicU64::new(0));
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let mut member = Member::new(&node, "busy");
        let next = Arc::clone(&next);
        running.spawn(async move {
            let mut counted: BTreeMap<(bool, u16), u64> = BTreeMap::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= REQUESTS {
                    return counted;
                }
                let gives = number.is_multiple_of(2);
                let answer = if gives {
                    member.contribute(&[made("fresh", number)]).await.unwrap()
                } else {
                    member.knowledge("fresh", 5).await.unwrap()
                };
                if answer.status == 429 {
                    let wait: u64 = answer.header("retry-after").parse().unwrap();
                    assert!((1..=3600).contains(&wait), "Retry-After: {wait}");
                    assert_eq!(answer.json()["code"], "rate_limited");
                }
                *counted.entry((gives, answer.status)).or_default() += 1;
            }
        });
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
    let status = Member::new(&node, "busy").status().await.unwrap().ok();
    assert_eq!(federation::number(&status["contribution_score"]), 100.0);
    assert_eq!(federation::number(&status["consumption_score"]), 50.0);
    assert_eq!(federation::total_concepts(&mut node.client()).await, 100);
}
