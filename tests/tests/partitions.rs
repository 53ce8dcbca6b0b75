//! Networks that lose what they carry: whoever was told something was told the truth, and once it is whole again all goes on.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::time::Duration;

use continuum_tests::{
    Cluster,
    subnet::{self, Loss},
    workload::{self, Load, Workload, rounds},
};

/// Long enough for another leader; short enough that clients meet old and new.
const FAULT: Duration = Duration::from_millis(1_200);
/// Others decide by then when a leader is silent: a second is usual.
const DECIDED_WITHIN: Duration = Duration::from_millis(2_500);
/// What is well before, in each history.
const BEFORE: Duration = Duration::from_millis(200);

async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

fn others(cluster: &Cluster, node: u8) -> Vec<u8> {
    cluster.members().into_iter().filter(|other| *other != node).collect()
}

/// The network loses these for a while.
async fn lose(cluster: &mut Cluster, losses: &[Loss]) {
    cluster.cut(losses);
    pause(FAULT).await;
    cluster.heal();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_answers_nothing_wrong() {
    let name = "a_leader_that_is_cut_off_answers_nothing_wrong";
    let Some(mut cluster) = workload::cluster(name, 3).await else {
        return;
    };
    for round in rounds(6) {
        let isolate = async |cluster: &mut Cluster, load: &Load| {
            pause(BEFORE).await;
            let leader = cluster.leader().await;
            cluster.cut(&subnet::isolated(leader, others(cluster, leader)));
            let asked = async {
                pause(FAULT / 2).await;
                load.read_at_once(leader).await
            };
            let others = others(cluster, leader);
            let (took, answered) = tokio::join!(load.decides(&others), asked);
            assert!(took < DECIDED_WITHIN, "the others took {took:?} to go on");
            assert_eq!(answered, 0, "reads at a leader that hears nobody");
            pause(FAULT / 2).await;
            cluster.heal();
        };
        let load = Workload::default();
        load.run(&mut cluster, &format!("isolated-{round}"), isolate).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loss_in_one_direction_deceives_nobody() {
    let name = "loss_in_one_direction_deceives_nobody";
    let Some(mut cluster) = workload::cluster(name, 3).await else {
        return;
    };
    for round in rounds(7) {
        let deafen = async |cluster: &mut Cluster, _: &Load| {
            pause(BEFORE).await;
            let leader = cluster.leader().await;
            let others = others(cluster, leader);
            let share = 1.0;
            let losses: Vec<Loss> = match round % 3 {
                // The leader is not heard.
                0 => others
                    .iter()
                    .map(|&to| Loss {
                        from: leader,
                        to,
                        share,
                    })
                    .collect(),
                // It does not hear.
                1 => others
                    .iter()
                    .map(|&from| Loss {
                        from,
                        to: leader,
                        share,
                    })
                    .collect(),
                // Of one other it is heard and does not hear, with the other it is the other way round.
                _ => {
                    let (from, to) = (others[0], others[1]);
                    let unheard = Loss {
                        from,
                        to: leader,
                        share,
                    };
                    vec![
                        unheard,
                        Loss {
                            from: leader,
                            to,
                            share,
                        },
                    ]
                }
            };
            lose(cluster, &losses).await;
        };
        let load = Workload::default();
        load.run(&mut cluster, &format!("one-way-{round}"), deafen).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_all_packets_may_be_lost() {
    let name = "a_part_of_all_packets_may_be_lost";
    let Some(mut cluster) = workload::cluster(name, 3).await else {
        return;
    };
    for round in rounds(3) {
        let thin = async |cluster: &mut Cluster, _: &Load| {
            pause(BEFORE).await;
            let share = [0.05, 0.2, 0.4][round % 3];
            let pairs = [(1, 2), (2, 1), (1, 3), (3, 1), (2, 3), (3, 2)];
            lose(cluster, &pairs.map(|(from, to)| Loss { from, to, share })).await;
        };
        let load = Workload::default();
        load.run(&mut cluster, &format!("lossy-{round}"), thin).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_that_come_and_go_lose_nothing() {
    let name = "links_that_come_and_go_lose_nothing";
    let Some(mut cluster) = workload::cluster(name, 3).await else {
        return;
    };
    for round in rounds(4) {
        let flap = async |cluster: &mut Cluster, _: &Load| {
            pause(BEFORE).await;
            let leader = cluster.leader().await;
            let node = if round % 2 == 0 {
                leader
            } else {
                others(cluster, leader)[0]
            };
            let others = others(cluster, node);
            for beat in 0..6 {
                cluster.cut(&subnet::isolated(node, others.iter().copied()));
                // Below and above what an election takes.
                pause(Duration::from_millis(60 + 70 * beat)).await;
                cluster.heal();
                pause(Duration::from_millis(60)).await;
            }
        };
        let load = Workload::default();
        load.run(&mut cluster, &format!("flapping-{round}"), flap).await;
    }
}

/// Two of three do not see each other; the third sees both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_of_three_goes_on() {
    let name = "a_chain_of_three_goes_on";
    let Some(mut cluster) = workload::cluster(name, 3).await else {
        return;
    };
    for round in rounds(4) {
        let chain = async |cluster: &mut Cluster, load: &Load| {
            pause(BEFORE).await;
            let leader = cluster.leader().await;
            let others = others(cluster, leader);
            let ends = if round % 3 == 2 {
                (others[0], others[1])
            } else {
                (leader, others[round % 2])
            };
            cluster.cut(&subnet::cut(ends.0, ends.1));
            // Two of three see each other.
            load.decides(&cluster.members()).await;
            pause(FAULT).await;
            load.decides(&cluster.members()).await;
            cluster.heal();
        };
        let load = Workload::default();
        load.run(&mut cluster, &format!("chain-{round}"), chain).await;
    }
}

/// Each of five sees its two neighbours only: everyone a majority, and everyone another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ring_of_majorities_goes_on() {
    let name = "a_ring_of_majorities_goes_on";
    let Some(mut cluster) = workload::cluster(name, 5).await else {
        return;
    };
    for round in rounds(4) {
        let ring = async |cluster: &mut Cluster, load: &Load| {
            pause(BEFORE).await;
            // A node's neighbours are the next and the one before; those two apart do not see each other.
            let apart = (1..=5).flat_map(|node| subnet::cut(node, (node + 1) % 5 + 1));
            cluster.cut(&apart.collect::<Vec<Loss>>());
            pause(FAULT).await;
            load.decides(&cluster.members()).await;
            cluster.heal();
        };
        let load = Workload {
            nodes: (1..=5).collect(),
            ..Workload::default()
        };
        load.run(&mut cluster, &format!("ring-{round}"), ring).await;
    }
}
