//! Processes that are killed, or stand still: nothing that was acknowledged is lost, and nobody is told what was true before.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::time::{Duration, Instant};

use continuum_tests::{
    Cluster,
    workload::{self, Load, Workload, rounds},
};

const BEFORE: Duration = Duration::from_millis(200);
/// How long a killed process is away.
const AWAY: Duration = Duration::from_millis(1_000);
/// How long a process stands still.
const STILL: Duration = Duration::from_secs(5);
/// Others decide by then: a second is usual.
const DECIDED_WITHIN: Duration = Duration::from_millis(2_500);
/// For so long it is asked again and again, once it goes on.
const ASKED: Duration = Duration::from_millis(400);

async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// `kill -9` of all of these at once; restarted a little later.
async fn kill(cluster: &mut Cluster, nodes: &[u8]) {
    for &node in nodes {
        cluster.node_mut(node).kill();
    }
    pause(AWAY).await;
    for &node in nodes {
        cluster.node_mut(node).respawn();
    }
    for &node in nodes {
        cluster.node_mut(node).wait_ready().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_of_three_may_be_killed_and_all_at_once() {
    let name = "any_of_three_may_be_killed_and_all_at_once";
    let Some(mut cluster) = workload::cluster(name, 3).await else {
        return;
    };
    for round in rounds(8) {
        let crash = async |cluster: &mut Cluster, _: &Load| {
            pause(BEFORE).await;
            let leader = cluster.leader().await;
            let follower = leader % 3 + 1;
            match round % 4 {
                0 | 2 => kill(cluster, &[leader]).await,
                1 => kill(cluster, &[follower]).await,
                _ => kill(cluster, &[1, 2, 3]).await,
            }
        };
        let load = Workload::default();
        load.run(&mut cluster, &format!("killed-{round}"), crash).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_of_five_may_be_killed_with_the_leader_in_it() {
    let name = "a_minority_of_five_may_be_killed_with_the_leader_in_it";
    let Some(mut cluster) = workload::cluster(name, 5).await else {
        return;
    };
    for round in rounds(2) {
        let crash = async |cluster: &mut Cluster, _: &Load| {
            pause(BEFORE).await;
            let leader = cluster.leader().await;
            kill(cluster, &[leader, leader % 5 + 1]).await;
        };
        let load = Workload {
            nodes: (1..=5).collect(),
            ..Workload::default()
        };
        load.run(&mut cluster, &format!("minority-{round}"), crash).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stood_still_does_not_tell_what_was() {
    let name = "a_leader_that_stood_still_does_not_tell_what_was";
    let Some(mut cluster) = workload::cluster(name, 3).await else {
        return;
    };
    for round in rounds(2) {
        let freeze = async |cluster: &mut Cluster, load: &Load| {
            pause(BEFORE).await;
            let leader = cluster.leader().await;
            cluster.node(leader).stand_still();
            let others: Vec<u8> = (1..=3).filter(|node| *node != leader).collect();
            let took = load.decides(&others).await;
            assert!(took < DECIDED_WITHIN, "the others took {took:?} to go on");
            pause(STILL.saturating_sub(took)).await;
            cluster.node(leader).go_on();
            let since = Instant::now();
            let mut answered = 0;
            while since.elapsed() < ASKED {
                answered += load.read_at_once(leader).await;
            }
            println!("{answered} reads were answered by n{leader}, which had led");
        };
        let load = Workload::default();
        load.run(&mut cluster, &format!("still-{round}"), freeze).await;
    }
}
