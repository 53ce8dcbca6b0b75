//! The disk of one member runs full: the others go on, it answers nothing wrong, and comes back when there is room.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::{sync::Arc, time::Duration};

use continuum_tests::{
    Cluster, SmallDisk, skipped,
    workload::{self, Load, Workload},
};

const FILE_SYSTEM_BYTES: u64 = 256 * 1024 * 1024;
const FULL: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_disk_is_full_stops_nobody_else() {
    let name = "a_member_whose_disk_is_full_stops_nobody_else";
    let disk = match SmallDisk::mount(FILE_SYSTEM_BYTES) {
        Ok(disk) => Arc::new(disk),
        Err(reason) => return skipped(name, &reason),
    };
    let theirs = disk.path().join("data");
    let small = move |node, launch: continuum_tests::Launch| match node {
        2 => launch.data(&theirs),
        _ => launch,
    };
    let Some(mut cluster) = workload::adjusted(name, 3, Box::new(small)).await else {
        return;
    };
    for (label, leads) in [("full-follower", false), ("full-leader", true)] {
        let fill = async |cluster: &mut Cluster, load: &Load| {
            let to = if leads { "n2" } else { "n3" };
            cluster.admin(&["cluster", "transfer-leader", to]);
            let kept = disk.keep_full();
            tokio::time::sleep(FULL / 2).await;
            let before = load.answered();
            tokio::time::sleep(FULL / 2).await;
            let done = load.answered() - before;
            println!(
                "{done} calls while the disk was full; n{} leads",
                cluster.leader().await
            );
            drop(kept);
            assert!(done > 20, "the others do not go on");
        };
        let load = Workload::default();
        load.run(&mut cluster, label, fill).await;
    }
}
