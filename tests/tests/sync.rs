//! Under `strace`: a completed sync stands between every contribution and its 200, and a failed one is the last thing that
//! happens.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::{os::unix::process::ExitStatusExt as _, path::PathBuf, time::Duration};

use continuum_tests::{
    Launch, Member, Node, federation, has_program, skipped,
    trace::{Trace, strace},
    words::made,
};

/// Members that contribute at once, so that they share syncs.
const MEMBERS: u64 = 6;
/// Contributions of one member; its limit is 100.
const CONTRIBUTIONS: u64 = 90;
/// Which sync fails, counted from the first that belongs to a contribution.
const FAILING: [usize; 2] = [3, 40];

fn traced(inject: Option<&str>) -> (Launch, PathBuf) {
    let launch = Launch::new();
    let trace = launch.directory().join("trace");
    let words = strace(&trace, inject);
    (launch.wrapped(words), trace)
}

/// Contributes with all members at once, until the node goes away. How many concepts each was acknowledged.
async fn contribute_all(node: &Node) -> Vec<u64> {
    let members: Vec<Member> = (0..MEMBERS)
        .map(|number| Member::new(node, format!("member {number}")))
        .collect();
    let mut running = tokio::task::JoinSet::new();
    for (number, mut member) in members.into_iter().enumerate() {
        running.spawn(async move {
            let mut acknowledged = 0;
            for contribution in 0..CONTRIBUTIONS {
                match member.contribute(&[made(&member.name, contribution)]).await {
                    Ok(answer) if answer.status == 200 => acknowledged += 1,
                    Ok(answer) => assert!(answer.status >= 500, "{}", answer.text()),
                    Err(_) => break,
                }
            }
            (number, acknowledged)
        });
    }
    let mut acknowledged = vec![0; usize::try_from(MEMBERS).unwrap()];
    while let Some(ended) = running.join_next().await {
        let (number, count) = ended.unwrap();
        acknowledged[number] = count;
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completed_sync_precedes_each_200() {
    if !has_program("strace") {
        return skipped("a_completed_sync_precedes_each_200", "strace is not installed");
    }
    let (launch, trace) = traced(None);
    let mut node = launch.start().await;
    let acknowledged: u64 = contribute_all(&node).await.into_iter().sum();
    assert_eq!(acknowledged, MEMBERS * CONTRIBUTIONS);
    assert!(node.stop(Duration::from_secs(20)).await.success());
    let trace = Trace::read(&trace);
    let (uncovered, looked_at) = trace.uncovered();
    assert_eq!(
        looked_at as u64, acknowledged,
        "every contribution and its answer are in the trace"
    );
    assert!(
        uncovered.is_empty(),
        "answered before a sync: {:?}",
        &trace.events[uncovered[0].saturating_sub(20)..=uncovered[0]]
    );
    assert_eq!(
        trace.without_syncs().uncovered().0.len(),
        looked_at,
        "the check can fail"
    );
}

/// Fails the `nth` sync of whichever thread gets there, and asks afterwards for everything that was acknowledged.
async fn fail_sync(nth: usize) {
    let (launch, trace) = traced(Some(&format!("fdatasync:error=EIO:when={nth}")));
    let mut node = launch.start().await;
    let acknowledged = contribute_all(&node).await;
    let status = node.wait_ended(Duration::from_secs(20)).await;
    assert!(
        !status.success(),
        "a failed sync ends the process with an error, not {status}"
    );
    assert_ne!(status.signal(), Some(9), "the node ended by itself");
    let trace = Trace::read(&trace);
    assert_eq!(
        trace.acknowledged_after_failed_sync(),
        Some(0),
        "nothing is acknowledged after a failed sync"
    );
    // The same data without the fault.
    let mut node = launch.clone().wrapped(Vec::<String>::new()).start().await;
    for (number, acknowledged) in acknowledged.iter().enumerate() {
        let mut member = Member::new(&node, format!("member {number}"));
        let score = federation::number(&member.status().await.unwrap().ok()["contribution_score"]);
        assert!(
            score >= *acknowledged as f64,
            "member {number} has {score}, was acknowledged {acknowledged}"
        );
    }
    assert!(
        acknowledged.iter().sum::<u64>() > 0,
        "the fault came before anything was acknowledged"
    );
    assert!(node.stop(Duration::from_secs(20)).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_stops_the_node() {
    if !has_program("strace") {
        return skipped("a_failed_sync_stops_the_node", "strace is not installed");
    }
    // strace counts for each thread by itself: the thread that opens the database must not be the one that is failed.
    let (launch, trace) = traced(None);
    let mut node = launch.start().await;
    assert_eq!(
        Member::new(&node, "first")
            .contribute(&[made("first", 0)])
            .await
            .unwrap()
            .status,
        200
    );
    assert!(node.stop(Duration::from_secs(20)).await.success());
    let to_start = Trace::read(&trace).syncs_to_start();
    for failing in FAILING {
        fail_sync(to_start + failing).await;
    }
}
