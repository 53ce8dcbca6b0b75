//! Networks that lose what they carry: whoever was told something was told the truth, and once it is whole again all goes on.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::time::Duration;

use continuum_tests::{
    Cluster, skipped, subnet,
    workload::{self, Workload},
};

/// Long enough for another leader; short enough that clients meet old and new.
const FAULT: Duration = Duration::from_millis(1_500);
const BEFORE: Duration = Duration::from_millis(200);

async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_answers_nothing_wrong() {
    let mut cluster = match Cluster::form(3).await {
        Ok(cluster) => cluster,
        Err(reason) => return skipped("a_leader_that_is_cut_off_answers_nothing_wrong", &reason),
    };
    workload::prepare(&mut cluster).await;
    for round in 0..10 {
        let load = Workload::default();
        load.run(&mut cluster, &format!("isolated-{round}"), async |cluster, _| {
            pause(BEFORE).await;
            let leader = cluster.leader().await;
            cluster.cut(&subnet::isolated(leader, 1..=3));
            pause(FAULT).await;
            cluster.heal();
        })
        .await;
    }
}
