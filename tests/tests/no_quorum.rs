//! Nobody can reach a majority: whoever asks is told so in time, nothing is charged, and all goes on by itself afterwards.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::time::{Duration, Instant};

use client::{Changed, Code, Put};
use continuum_tests::{
    Cluster, Member,
    cluster::SETTLED_WITHIN,
    federation::{self, PI_PHI},
    subnet::{self, Loss},
    words::made,
    workload::{self, Load, Workload},
};

/// What a node may take to notice.
const NOTICED_WITHIN: Duration = Duration::from_secs(2);
/// What it may take to answer then: it waits 3 s for a leader, and those before have waited as long. Clients wait 10 s.
const ANSWERED_WITHIN: Duration = Duration::from_secs(8);

fn everybody_apart() -> Vec<Loss> {
    (1..=3).flat_map(|node| subnet::isolated(node, 1..=3)).collect()
}

async fn ready(cluster: &Cluster, node: u8, status: u16, within: Duration) {
    let deadline = Instant::now() + within;
    loop {
        let answer = cluster.node(node).client().get("/readyz").await.unwrap();
        if answer.status == status {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "n{node} should answer {status}: {}",
            answer.text()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the pool holds so many concepts, and sees that there are no more.
async fn holds(cluster: &Cluster, node: u8, count: u64) {
    let deadline = Instant::now() + SETTLED_WITHIN;
    loop {
        let total = federation::total_concepts(&mut cluster.node(node).client()).await;
        if total == count {
            return;
        }
        assert!(
            total < count && Instant::now() < deadline,
            "n{node} holds {total} concepts, not {count}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every way of changing the ledger is refused at this node, and so is a read that would have to be sure.
async fn refused(cluster: &Cluster, node: u8, name: &str) {
    let since = Instant::now();
    let member = || Member::new(cluster.node(node), name);
    let (mut gives, mut takes, mut comes) = (member(), member(), Member::new(cluster.node(node), "newcomer"));
    let left = cluster.patient_client(node).namespace("left");
    let concepts = [made("refused", u64::from(node))];
    let (given, taken, come, put, got) = tokio::join!(
        gives.contribute(&concepts),
        takes.knowledge("", 1),
        comes.register(Some(PI_PHI)),
        left.put("nobody", Put::register("1")),
        left.get("nobody"),
    );
    assert!(since.elapsed() < ANSWERED_WITHIN, "n{node}: {:?}", since.elapsed());
    for answer in [given, taken, come] {
        let answer = answer.unwrap();
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(answer.json()["code"], "no_quorum");
        assert!(answer.header("retry-after").parse::<u64>().unwrap() > 0);
    }
    let put = put.unwrap_err();
    assert_eq!(
        (put.code(), put.changed()),
        (Code::Unavailable, Some(Changed::No)),
        "{put}"
    );
    assert_eq!(got.unwrap_err().code(), Code::Unavailable);
    // Neither life nor what needs no decision depends on the others.
    assert_eq!(cluster.node(node).client().get("/livez").await.unwrap().status, 200);
    left.get_stale("nobody").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_nothing_is_charged_and_all_goes_on_afterwards() {
    let name = "without_a_quorum_nothing_is_charged_and_all_goes_on_afterwards";
    let Some(mut cluster) = workload::cluster(name, 3).await else {
        return;
    };
    let processes = [1, 2, 3].map(|node| cluster.node(node).id());
    for node in 1..=3 {
        let mut member = Member::new(cluster.node(node), format!("member {node}"));
        assert_eq!(
            member
                .contribute(&[made("before", u64::from(node))])
                .await
                .unwrap()
                .status,
            200
        );
        assert_eq!(member.knowledge("", 1).await.unwrap().status, 200);
    }
    for round in 0..2 {
        let part = async |cluster: &mut Cluster, load: &Load| {
            cluster.cut(&everybody_apart());
            for node in 1..=3 {
                ready(cluster, node, 503, NOTICED_WITHIN).await;
            }
            tokio::join!(
                Box::pin(refused(cluster, 1, "member 1")),
                Box::pin(refused(cluster, 2, "member 2")),
                Box::pin(refused(cluster, 3, "member 3")),
            );
            assert_eq!(load.read_at_once(1).await, 0, "a read without a majority");
            cluster.heal();
            for node in 1..=3 {
                ready(cluster, node, 200, SETTLED_WITHIN).await;
            }
        };
        let load = Workload::default();
        load.run(&mut cluster, &format!("apart-{round}"), part).await;
    }
    for node in 1..=3 {
        // What the others were given since comes a moment later.
        holds(&cluster, node, 2 + u64::from(node)).await;
        let mut member = Member::new(cluster.node(node), format!("member {node}"));
        let status = member.status().await.unwrap().ok();
        assert_eq!(federation::number(&status["contribution_score"]), 1.0, "{status}");
        assert_eq!(federation::number(&status["consumption_score"]), 1.0, "{status}");
        let newcomer = Member::new(cluster.node(node), "newcomer").status().await.unwrap();
        assert_ne!(newcomer.json()["registered"], true, "{}", newcomer.text());
        let given = member.contribute(&[made("after", u64::from(node))]).await.unwrap();
        assert_eq!(given.ok()["new_concepts"], 1);
    }
    holds(&cluster, 1, 6).await;
    assert_eq!(
        processes,
        [1, 2, 3].map(|node| cluster.node(node).id()),
        "nobody was restarted"
    );
}
