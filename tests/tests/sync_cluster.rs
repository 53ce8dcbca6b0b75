//! Three members under `strace`: whatever one of them promises to another, or to a client, was synced before.
//!
//! ```text
//!  vote            asked ─► sync of the voter's log ─► given
//!  an image        read  ─► sync of the log of the one it is for ─► installed
//!  entries         read  ─► sync of the follower's log ─► said to be stored
//!  contribution    read  ─► syncs of the logs of a majority ─► 200        at the leader, and at a follower that asks it
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::path::{Path, PathBuf};

use continuum_tests::{
    Admin, Member, Node, has_program,
    loopback::{WITHIN, status, three, until},
    skipped,
    trace::{Synced, Trace, strace_with_times},
    words::made,
};

/// Traced, a node is slow: it must not lose elections for it.
const ELECTION_MS: &str = "1500,3000";
const HEARTBEAT_MS: &str = "300";
/// Members that contribute at each node at once, and how often each does.
const MEMBERS: u64 = 3;
const CONTRIBUTIONS: u64 = 30;

fn trace_of(node: &Node) -> PathBuf {
    node.launch().directory().join("trace")
}

/// Contributes at every node at once; how many were acknowledged.
async fn contribute(nodes: &[&Node], round: u64) -> u64 {
    let mut running = tokio::task::JoinSet::new();
    for (at, node) in nodes.iter().enumerate() {
        for number in 0..MEMBERS {
            let mut member = Member::new(node, format!("member {round} {at} {number}"));
            running.spawn(async move {
                let mut granted = 0;
                for contribution in 0..CONTRIBUTIONS {
                    let answer = member.contribute(&[made(&member.name, contribution)]).await.unwrap();
                    assert!(answer.status == 200 || answer.status >= 500, "{}", answer.text());
                    granted += u64::from(answer.status == 200);
                }
                granted
            });
        }
    }
    let mut granted = 0;
    while let Some(ended) = running.join_next().await {
        granted += ended.unwrap();
    }
    granted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_members_promise_was_synced_before() {
    if !has_program("strace") {
        return skipped("what_members_promise_was_synced_before", "strace is not installed");
    }
    let nodes = three(|launch| {
        let words = strace_with_times(&launch.directory().join("trace"));
        launch
            .wrapped(words)
            .environment("CONTINUUM_RAFT_ELECTION_TIMEOUT", ELECTION_MS)
            .environment("CONTINUUM_RAFT_HEARTBEAT_INTERVAL", HEARTBEAT_MS)
    })
    .await;
    let all: Vec<&Node> = nodes.values().collect();
    let mut granted = 0;
    // Each of them leads for a while, by the votes of the others.
    for (round, leader) in (0..).zip(["two", "three", "one"]) {
        let handed = Admin::of(&nodes["one"]).run(&["cluster", "transfer-leader", leader]);
        assert_eq!(handed.code, Some(0), "{}", handed.err);
        until("it leads", async || status(&nodes["one"])["leader"] == leader).await;
        granted += contribute(&all, round).await;
    }
    let asked = 3 * 3 * MEMBERS * CONTRIBUTIONS;
    assert!(granted > asked * 9 / 10, "{granted} of {asked} were acknowledged");
    for node in &all {
        node.ask_to_stop();
    }
    let mut nodes = nodes;
    for node in nodes.values_mut() {
        node.wait_ended(WITHIN).await;
    }

    let (mut votes, mut appends) = (0, 0);
    for (name, node) in &nodes {
        let trace = Trace::read(&trace_of(node), node.launch().data_directory());
        let promises = trace.promises();
        println!(
            "{name}: {} votes, {} appends, {} images",
            promises.votes, promises.appends, promises.images
        );
        if let Some(&first) = promises.uncovered.first() {
            let count = promises.uncovered.len();
            let before = &trace.events[first.saturating_sub(20)..=first];
            panic!("{name}: {count} promised before a sync of its log, the first after: {before:#?}");
        }
        let without = trace.without_syncs(Synced::Log).promises();
        assert_eq!(
            without.uncovered.len() as u64,
            promises.votes + promises.appends + promises.images,
            "the check can fail"
        );
        votes += promises.votes;
        appends += promises.appends;
        assert!(promises.appends > 0, "{name} followed for a while");
    }
    // Of three rounds each had a vote at least besides the candidate's own.
    assert!(votes >= 3, "{votes} votes");
    assert!(appends > granted / 10, "{appends} appends for {granted} contributions");

    acknowledged(&nodes.values().collect::<Vec<_>>(), granted);
}

/// Every contribution that was acknowledged had been synced by two of three.
fn acknowledged(nodes: &[&Node], granted: u64) {
    let paths: Vec<(PathBuf, &Path)> = nodes
        .iter()
        .map(|node| (trace_of(node), node.launch().data_directory()))
        .collect();
    let paths: Vec<(&Path, &Path)> = paths.iter().map(|(trace, data)| (trace.as_path(), *data)).collect();
    let traces = Trace::together(&paths);
    let counted = |traces: &[Trace]| {
        let of_each: Vec<Vec<_>> = traces.iter().map(|trace| trace.grants().collect()).collect();
        let (mut all, mut by_majority) = (0, 0);
        for (place, (_, asked, _)) in of_each[0].iter().enumerate() {
            if *asked == continuum_tests::trace::Asked::Contribute {
                all += 1;
                by_majority += u64::from(of_each.iter().filter(|grants| grants[place].2).count() >= 2);
            }
        }
        (all, by_majority)
    };
    assert_eq!(
        counted(&traces),
        (granted, granted),
        "contributions, and those synced by a majority"
    );
    let one_alone: Vec<Trace> = traces
        .iter()
        .enumerate()
        .map(|(number, trace)| {
            if number == 0 {
                trace.clone()
            } else {
                trace.without_syncs(Synced::Log)
            }
        })
        .collect();
    assert_eq!(counted(&one_alone).1, 0, "the check can fail");
}
