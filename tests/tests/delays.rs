//! Networks that take their time, a different one for each piece of each connection: what is told stays true, and things go on.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::time::Duration;

use continuum_tests::{
    Cluster,
    workload::{self, Load, Workload, rounds},
};

/// How long it lasts.
const SLOW_FOR: Duration = Duration::from_secs(5);
/// The longest delay of a piece, by round: below what an election waits for, and above.
const DELAYS_MAX_MS: [u64; 2] = [200, 450];
/// What is answered meanwhile, at least: a write at a follower takes some four delays, the clients sixteen.
const ANSWERED_MIN: usize = 40;

fn delay(cluster: &Cluster, most: Duration) {
    for node in cluster.members() {
        cluster.proxy(node).delay(Duration::ZERO..=most);
    }
}

async fn leader_changes(cluster: &Cluster) -> f64 {
    let mut changes = 0.0;
    for node in cluster.members() {
        changes += cluster.metric(node, "continuum_raft_leader_changes_total").await;
    }
    changes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delays_by_chance_deceive_nobody_and_things_go_on() {
    let name = "delays_by_chance_deceive_nobody_and_things_go_on";
    let Some(mut cluster) = workload::proxied(name, 3, Box::new(|_, launch| launch)).await else {
        return;
    };
    for round in rounds(DELAYS_MAX_MS.len()) {
        let most = Duration::from_millis(DELAYS_MAX_MS[round % DELAYS_MAX_MS.len()]);
        let slow = async |cluster: &mut Cluster, load: &Load| {
            let (changes, passed) = (leader_changes(cluster).await, cluster.proxy(1).passed());
            delay(cluster, most);
            // What was on its way without a delay is answered.
            tokio::time::sleep(2 * most).await;
            let before = load.answered();
            tokio::time::sleep(SLOW_FOR).await;
            let answered = load.answered() - before;
            assert!(
                cluster.proxy(1).passed() > passed,
                "members reach each other by another way"
            );
            delay(cluster, Duration::ZERO);
            let changes = leader_changes(cluster).await - changes;
            println!("up to {most:?} late: {answered} calls answered, {changes} leaders seen to come");
            // Beyond what elections wait for there may be no leader for long.
            if round % DELAYS_MAX_MS.len() == 0 {
                assert!(answered >= ANSWERED_MIN, "{answered} calls in {SLOW_FOR:?}");
            }
        };
        let load = Workload::default();
        load.run(&mut cluster, &format!("delayed-{round}"), slow).await;
    }
}
