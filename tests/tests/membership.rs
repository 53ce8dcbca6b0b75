//! Members come and go while clients work; whoever has missed too much gets an image of the ledger.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::time::{Duration, Instant};

use continuum_tests::{
    Cluster,
    cluster::{self, SETTLED_WITHIN},
    subnet,
    workload::{self, Load, Workload, rounds},
};

/// So few entries are kept that whoever is away for a moment has missed them.
const SNAPSHOT_ENTRIES: &str = "100";
const KEEP_ENTRIES: &str = "20";
/// A member that was taken out is asked for so long.
const OUT: Duration = Duration::from_millis(300);

async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

async fn short_of_log(name: &str) -> Option<Cluster> {
    let short = |_, launch: continuum_tests::Launch| {
        launch
            .environment("CONTINUUM_RAFT_SNAPSHOT_ENTRIES", SNAPSHOT_ENTRIES)
            .environment("CONTINUUM_RAFT_KEEP_ENTRIES", KEEP_ENTRIES)
    };
    workload::adjusted(name, 3, Box::new(short)).await
}

/// The first entry that the node's log still has, and the last.
async fn log(cluster: &Cluster, node: u8) -> (f64, f64) {
    let last = cluster.metric(node, "continuum_raft_last_index").await;
    let entries = cluster.metric(node, "continuum_raft_log_entries").await;
    (last - entries + 1.0, last)
}

/// The other members of which a node tells numbers.
async fn told_of(cluster: &Cluster, node: u8) -> Vec<String> {
    let text = cluster.node(node).client().get("/metrics").await.unwrap().text();
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("continuum_peer_connections{member=\""));
    let mut told: Vec<String> = lines
        .filter_map(|line| Some(line.split_once('"')?.0.to_owned()))
        .collect();
    told.sort();
    told
}

/// Waits until a node tells numbers of exactly its fellow members.
async fn until_told_of_fellows(cluster: &Cluster, node: u8) {
    let fellows = cluster.members().into_iter().filter(|member| *member != node);
    let fellows: Vec<String> = fellows.map(cluster::name).collect();
    let deadline = Instant::now() + SETTLED_WITHIN;
    loop {
        let told = told_of(cluster, node).await;
        if told == fellows {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "n{node} tells of {told:?} and not of {fellows:?}"
        );
        pause(Duration::from_millis(50)).await;
    }
}

async fn remove(cluster: &mut Cluster, node: u8) {
    cluster.admin(&["cluster", "remove", &cluster::name(node), "--yes"]);
    pause(OUT).await;
    cluster.lose(node);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_become_five_and_three_others_while_clients_work() {
    let name = "three_become_five_and_three_others_while_clients_work";
    let Some(mut cluster) = workload::cluster(name, 3).await else {
        return;
    };
    let change = async |cluster: &mut Cluster, load: &Load| {
        cluster.join(4).await;
        cluster.join(5).await;
        cluster.wait_voters(5).await;
        let leader = cluster.leader().await;
        // Of those that were there first, the leader among them if it is one.
        let first = if leader <= 3 { leader } else { 1 };
        remove(cluster, first).await;
        load.read_at_once(first).await;
        cluster.wait_voters(4).await;
        let leader = cluster.leader().await;
        let second = [1, 2, 3]
            .into_iter()
            .find(|node| ![first, leader].contains(node))
            .unwrap();
        remove(cluster, second).await;
        cluster.wait_voters(3).await;
    };
    let load = Workload {
        nodes: (1..=5).collect(),
        ..Workload::default()
    };
    load.run(&mut cluster, "members", change).await;
    // Two more with the numbers that are free, and two go.
    let again = async |cluster: &mut Cluster, _: &Load| {
        for node in 1..=5 {
            if !cluster.members().contains(&node) {
                cluster.join(node).await;
            }
        }
        cluster.wait_voters(5).await;
        let leader = cluster.leader().await;
        until_told_of_fellows(cluster, leader).await;
        remove(cluster, 4).await;
        remove(cluster, 5).await;
        cluster.wait_voters(3).await;
        for node in cluster.members() {
            until_told_of_fellows(cluster, node).await;
        }
    };
    load.run(&mut cluster, "members-again", again).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_away_too_long_gets_an_image_while_clients_write() {
    let name = "a_member_that_was_away_too_long_gets_an_image_while_clients_write";
    let Some(mut cluster) = short_of_log(name).await else {
        return;
    };
    for round in rounds(2) {
        let lag = async |cluster: &mut Cluster, _: &Load| {
            let leader = cluster.leader().await;
            let away = leader % 3 + 1;
            let (_, had) = log(cluster, away).await;
            match round % 2 {
                0 => cluster.cut(&subnet::isolated(away, 1..=3)),
                _ => cluster.node_mut(away).kill(),
            }
            let deadline = Instant::now() + SETTLED_WITHIN;
            while log(cluster, leader).await.0 <= had + 1.0 {
                assert!(Instant::now() < deadline, "the log behind {had} is still there");
                pause(Duration::from_millis(50)).await;
            }
            match round % 2 {
                0 => cluster.heal(),
                _ => cluster.node_mut(away).restart().await,
            }
            while log(cluster, away).await.1 <= had + 1.0 {
                assert!(Instant::now() < deadline, "n{away} does not come back");
                pause(Duration::from_millis(50)).await;
            }
        };
        let load = Workload::default();
        load.run(&mut cluster, &format!("lagging-{round}"), lag).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_data_are_gone_is_replaced_while_clients_write() {
    let name = "a_member_whose_data_are_gone_is_replaced_while_clients_write";
    let Some(mut cluster) = short_of_log(name).await else {
        return;
    };
    for round in rounds(2) {
        let wipe = async |cluster: &mut Cluster, load: &Load| {
            let leader = cluster.leader().await;
            // Once a follower, once the leader.
            let lost = if round % 2 == 0 { leader % 3 + 1 } else { leader };
            cluster.lose(lost);
            let before = load.answered();
            while load.answered() < before + 200 {
                pause(Duration::from_millis(20)).await;
            }
            let token = cluster.admin(&["cluster", "replace", &cluster::name(lost)]).out;
            cluster.join_with(lost, token.trim_end()).await;
            cluster.wait_voters(3).await;
        };
        let load = Workload::default();
        load.run(&mut cluster, &format!("replaced-{round}"), wipe).await;
    }
}
