//! Clocks that are an hour off: what is told is linearizable all the same, whoever leads by such a clock lets another lead, and ledger
//! time neither runs back nor away.
//!
//! ```text
//!  libfaketime in each process: a file says by how much its wall clock is off, and is read again now and then
//!  monotonic time is left alone: time-outs are measured by it
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use continuum_tests::{
    Cluster, Launch, Member,
    cluster::{self, SETTLED_WITHIN},
    skipped,
    workload::{self, Load, Workload},
};
use tempfile::TempDir;

/// Where Debian's package `faketime` puts it.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];
/// Seconds until the file is read again.
const READ_EVERY_S: &str = "1";
/// Ledger time is never further from the true time: what one wrong clock may do, and a busy machine.
const LEDGER_OFF_MAX_S: f64 = 5.0;
/// A leader whose clock is seen to be wrong does not lead any more by then: a second until it is seen, a few looks, an election.
const HANDS_OVER_WITHIN: Duration = Duration::from_secs(12);
const HOUR_S: f64 = 3_600.0;

/// Says by how much a node's clock is off.
fn set(folder: &Path, node: u8, hours: i32) {
    let next = folder.join("next");
    fs::write(&next, format!("{hours:+}h\n")).unwrap();
    fs::rename(&next, folder.join(node.to_string())).unwrap();
}

/// What the clock of a node says, in seconds against ours: a refusal of a request bears no time, its health does.
async fn off(cluster: &Cluster, node: u8) -> f64 {
    let health = cluster.node(node).client().get("/health").await.unwrap().ok();
    seconds(health["timestamp"].as_str().unwrap()) - now()
}

fn now() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_secs_f64()
}

/// Seconds since 1970 of `2026-01-02T03:04:05.678901+00:00`.
fn seconds(text: &str) -> f64 {
    let number = |from: usize, to: usize| text[from..to].parse::<i64>().unwrap();
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    // Days of the civil calendar, by years that begin in March.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468;
    let whole = days * 86_400 + number(11, 13) * 3_600 + number(14, 16) * 60 + number(17, 19);
    whole as f64 + text[19..text.len() - 6].parse::<f64>().unwrap_or(0.0)
}

async fn until_off(cluster: &Cluster, node: u8, hours: i32) {
    let deadline = Instant::now() + SETTLED_WITHIN;
    loop {
        let off = off(cluster, node).await;
        if (off - f64::from(hours) * HOUR_S).abs() < 60.0 {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "the clock of n{node} is {off} s off and not {hours} h"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Registers somebody new at each node; each must be registered no earlier than the one before. Returns ledger time.
async fn registered_in_order(cluster: &Cluster, round: &str, mut last: f64) -> f64 {
    for node in [1, 2, 3, 2, 1] {
        let deadline = Instant::now() + SETTLED_WITHIN;
        let name = format!("{round} {node} {last}");
        let registered = loop {
            let answer = Member::new(cluster.node(node), &*name).register(None).await.unwrap();
            if answer.status == 200 {
                break answer.json();
            }
            assert!(Instant::now() < deadline, "{}", answer.text());
        };
        let at = seconds(registered["registered_at"].as_str().unwrap());
        assert!(at >= last, "{round}: ledger time ran back from {last} to {at}");
        let off = at - now();
        assert!(off.abs() < LEDGER_OFF_MAX_S, "{round}: ledger time is {off} s off");
        last = at;
    }
    last
}

/// Waits until another node leads, by itself.
async fn until_another_leads(cluster: &mut Cluster, before: u8) -> u8 {
    let since = Instant::now();
    loop {
        let leader = cluster.leader().await;
        if leader != before {
            println!(
                "n{leader} leads instead of n{before} after {:.1} s",
                since.elapsed().as_secs_f64()
            );
            return leader;
        }
        assert!(
            since.elapsed() < HANDS_OVER_WITHIN,
            "n{before} leads on by a wrong clock"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What a node says of its clock; `None` when it is right, or the node is not ready.
async fn clock_trouble(cluster: &Cluster, node: u8) -> Option<String> {
    let told = cluster.node(node).client().get("/readyz?verbose").await.unwrap().json();
    let mut checks = told["checks"].as_array()?.iter();
    let clock = checks.find(|check| check["name"] == "clock")?;
    Some(clock["detail"].as_str()?.to_owned())
}

async fn until_clock(cluster: &Cluster, node: u8, is: impl Fn(&Option<String>) -> bool) {
    let deadline = Instant::now() + SETTLED_WITHIN;
    loop {
        let told = clock_trouble(cluster, node).await;
        if is(&told) {
            return;
        }
        assert!(Instant::now() < deadline, "n{node} says of its clock: {told:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_clock_is_wrong_hands_over_and_ledger_time_stays_true() {
    let name = "a_leader_whose_clock_is_wrong_hands_over_and_ledger_time_stays_true";
    let Some(library) = LIBRARIES.iter().find(|library| Path::new(library).exists()) else {
        return skipped(name, "there is no libfaketime");
    };
    let folder = TempDir::with_prefix("continuum-clocks-").unwrap();
    let files: PathBuf = folder.path().to_owned();
    (1..=3).for_each(|node| set(&files, node, 0));
    let faked = move |node: u8, launch: Launch| {
        launch
            .environment("LD_PRELOAD", library)
            .environment(
                "FAKETIME_TIMESTAMP_FILE",
                &files.join(node.to_string()).to_string_lossy(),
            )
            .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .environment("FAKETIME_CACHE_DURATION", READ_EVERY_S)
    };
    let Some(mut cluster) = workload::adjusted(name, 3, Box::new(faked)).await else {
        return;
    };
    let mut ledger = registered_in_order(&cluster, "right", 0.0).await;
    for (round, hours) in [("ahead", 1), ("behind", -1)] {
        let turn = async |cluster: &mut Cluster, _: &Load| {
            let wrong = cluster.leader().await;
            set(folder.path(), wrong, hours);
            ledger = registered_in_order(cluster, round, ledger).await;
            let leader = until_another_leads(cluster, wrong).await;
            // What the wrong one proposes from now on is decided elsewhere.
            ledger = registered_in_order(cluster, round, ledger).await;
            until_clock(cluster, wrong, |told| {
                told.as_ref().is_some_and(|told| told.contains("set it right"))
            })
            .await;
            assert_eq!(clock_trouble(cluster, leader).await, None);
            let metric = format!(
                "continuum_peer_clock_ahead_seconds{{member=\"{}\"}}",
                cluster::name(wrong)
            );
            let ahead = cluster.metric(leader, &metric).await;
            assert!((ahead - f64::from(hours) * HOUR_S).abs() < LEDGER_OFF_MAX_S, "{ahead}");
            // Made to lead, it does not for long, and does no harm meanwhile.
            cluster.admin(&["cluster", "transfer-leader", &cluster::name(wrong)]);
            ledger = registered_in_order(cluster, round, ledger).await;
            until_another_leads(cluster, wrong).await;
            set(folder.path(), wrong, 0);
            until_off(cluster, wrong, 0).await;
            ledger = registered_in_order(cluster, round, ledger).await;
            until_clock(cluster, wrong, Option::is_none).await;
        };
        let load = Workload::default();
        load.run(&mut cluster, round, turn).await;
    }
    for node in 1..=3 {
        cluster.node_mut(node).restart().await;
    }
    registered_in_order(&cluster, "restarted", ledger).await;
}
