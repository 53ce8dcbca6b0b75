//! Under `strace`: a completed sync of the log stands between every request that changes something and its yes, and a failed
//! one is the last thing that happens.
//!
//! ```text
//!  members   POST /federation/register, contribute, knowledge      HTTP/1.1
//!  writers   Namespaces.Create, then Concepts.Put and Delete       gRPC, connections on which nothing is only read
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests drive real processes by the real clock"
)]

use std::{collections::BTreeMap, os::unix::process::ExitStatusExt as _, path::PathBuf, time::Duration};

use continuum_tests::{
    Answer, Launch, Member, Node,
    federation::{self, PI_PHI},
    grpc::Namespace,
    has_program, skipped,
    trace::{Asked, Synced, Trace, strace},
    words::made,
};

/// Members that ask at once, so that they share syncs.
const MEMBERS: u64 = 6;
/// Contributions of one member; its limit is 100.
const CONTRIBUTIONS: u64 = 90;
/// Every so many contributions the member asks for knowledge; its limit is 50.
const CONTRIBUTIONS_PER_QUESTION: u64 = 3;
/// Programs that write over gRPC beside the members.
const WRITERS: u64 = 2;
/// Keys each of them puts; every second one it deletes again.
const PUTS: u64 = 150;
/// Letters in each value: enough that the log goes on in another segment, the smallest there is, while requests are answered.
const VALUE_BYTES: usize = 60_000;
const SEGMENT_BYTES: &str = "16777216";
/// Which sync fails, counted from the first that belongs to a request.
const FAILING: [usize; 2] = [3, 40];

/// How many requests were granted, by what they asked for.
type Granted = BTreeMap<Asked, u64>;

fn traced(inject: Option<&str>) -> (Launch, PathBuf) {
    let launch = Launch::new();
    let trace = launch.directory().join("trace");
    let words = strace(&trace, inject);
    (launch.wrapped(words), trace)
}

/// Counts an answer; false when the node has gone away.
fn count(answer: std::io::Result<Answer>, asked: Asked, granted: &mut Granted) -> bool {
    match answer {
        Ok(answer) if answer.status == 200 => *granted.entry(asked).or_default() += 1,
        Ok(answer) => assert!(answer.status >= 500, "{}", answer.text()),
        Err(_) => return false,
    }
    true
}

/// Registers, gives, and asks in between, until the node goes away.
async fn give_and_ask(mut member: Member) -> Granted {
    let mut granted = Granted::new();
    if !count(member.register(Some(PI_PHI)).await, Asked::Register, &mut granted) {
        return granted;
    }
    for contribution in 0..CONTRIBUTIONS {
        let answer = member.contribute(&[made(&member.name, contribution)]).await;
        if !count(answer, Asked::Contribute, &mut granted) {
            break;
        }
        if contribution.is_multiple_of(CONTRIBUTIONS_PER_QUESTION) {
            let answer = member.knowledge("made", 5).await;
            if !count(answer, Asked::Knowledge, &mut granted) {
                break;
            }
        }
    }
    granted
}

/// What each member was granted.
async fn run_members(node: &Node) -> Vec<Granted> {
    let mut running = tokio::task::JoinSet::new();
    for number in 0..MEMBERS {
        let member = Member::new(node, format!("member {number}"));
        running.spawn(async move { (number, give_and_ask(member).await) });
    }
    let mut granted = vec![Granted::new(); usize::try_from(MEMBERS).unwrap()];
    while let Some(ended) = running.join_next().await {
        let (number, of_member) = ended.unwrap();
        granted[usize::try_from(number).unwrap()] = of_member;
    }
    granted
}

/// Creates a namespace, puts keys and deletes every second one; how many calls that were.
async fn put_and_delete(node: &Node, name: String) -> u64 {
    let mut namespace = Namespace::create(node, &name).await;
    let value = format!("\"{}\"", "v".repeat(VALUE_BYTES));
    let mut calls = 1;
    for number in 0..PUTS {
        let key = format!("key {number}");
        namespace.put(&key, &value).await.unwrap();
        calls += 1;
        if number.is_multiple_of(2) {
            assert!(namespace.delete(&key).await.unwrap(), "{key} was there");
            calls += 1;
        }
    }
    calls
}

/// How many calls all writers made, one writer after the other.
async fn run_writers(node: &Node) -> u64 {
    let mut calls = 0;
    for number in 0..WRITERS {
        calls += put_and_delete(node, format!("traced-{number}")).await;
    }
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completed_sync_precedes_each_200() {
    if !has_program("strace") {
        return skipped("a_completed_sync_precedes_each_200", "strace is not installed");
    }
    let (launch, trace) = traced(None);
    let launch = launch.argument("--storage-segment-bytes").argument(SEGMENT_BYTES);
    let mut node = launch.start().await;
    let (members, calls) = tokio::join!(run_members(&node), run_writers(&node));
    let questions = CONTRIBUTIONS.div_ceil(CONTRIBUTIONS_PER_QUESTION);
    let of_member = Granted::from([
        (Asked::Register, 1),
        (Asked::Contribute, CONTRIBUTIONS),
        (Asked::Knowledge, questions),
    ]);
    assert_eq!(members, vec![of_member; members.len()]);
    assert_eq!(calls, WRITERS * (1 + PUTS + PUTS / 2));
    assert!(node.stop(Duration::from_secs(20)).await.success());

    let trace = Trace::read(&trace, launch.data_directory());
    let coverage = trace.coverage();
    let expected = Granted::from([
        (Asked::Register, MEMBERS),
        (Asked::Contribute, MEMBERS * CONTRIBUTIONS),
        (Asked::Knowledge, MEMBERS * questions),
        (Asked::Rpc, calls),
    ]);
    assert_eq!(
        coverage.granted, expected,
        "every request and its answer are in the trace"
    );
    if let Some(&first) = coverage.uncovered.first() {
        let count = coverage.uncovered.len();
        let before = &trace.events[first.saturating_sub(20)..=first];
        panic!("{count} answered before a sync of the log, the first after: {before:#?}");
    }
    let without = trace.without_syncs(Synced::Log).coverage();
    let all: u64 = expected.values().sum();
    assert_eq!(without.uncovered.len() as u64, all, "the check can fail");
    // The names of the log's files are as durable as what lies in them.
    let (made, lost) = trace.segments_made();
    assert!(made > 1, "the log went on in another segment: {made} were made");
    assert_eq!(
        lost, 0,
        "of {made} segments were not followed by a sync of the directory"
    );
    let without = trace.without_syncs(Synced::LogDirectory);
    assert_eq!(without.segments_made(), (made, made), "the check can fail");
}

/// Fails the `nth` sync of whichever thread gets there, and asks afterwards for everything that was acknowledged.
async fn fail_sync(nth: usize) {
    let (launch, trace) = traced(Some(&format!("fdatasync:error=EIO:when={nth}")));
    let mut node = launch.start().await;
    let granted = run_members(&node).await;
    let status = node.wait_ended(Duration::from_secs(20)).await;
    assert!(
        !status.success(),
        "a failed sync ends the process with an error, not {status}"
    );
    assert_ne!(status.signal(), Some(9), "the node ended by itself");
    let trace = Trace::read(&trace, launch.data_directory());
    assert_eq!(
        trace.granted_after_failed_sync(),
        Some(0),
        "nothing is acknowledged after a failed sync"
    );
    let uncovered = trace.coverage().uncovered;
    assert!(uncovered.is_empty(), "a sync that failed covers nothing");
    // The same data without the fault.
    let mut node = launch.clone().wrapped(Vec::<String>::new()).start().await;
    for (number, granted) in granted.iter().enumerate() {
        let mut member = Member::new(&node, format!("member {number}"));
        let status = member.status().await.unwrap().ok();
        for (score, asked) in [
            ("contribution_score", Asked::Contribute),
            ("consumption_score", Asked::Knowledge),
        ] {
            let promised = granted.get(&asked).copied().unwrap_or(0) as f64;
            let found = federation::number(&status[score]);
            assert!(
                found >= promised,
                "{score} of member {number} is {found}, acknowledged were {promised}"
            );
        }
    }
    let acknowledged: u64 = granted.iter().flat_map(BTreeMap::values).sum();
    assert!(acknowledged > 0, "the fault came before anything was acknowledged");
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
    let to_start = Trace::read(&trace, launch.data_directory()).syncs_to_start();
    for failing in FAILING {
        fail_sync(to_start + failing).await;
    }
}
