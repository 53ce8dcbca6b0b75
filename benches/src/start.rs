//! From process start to ready: empty, after a clean stop and after `kill -9` with the whole pool; and memory at rest.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use continuum_tests::{Launch, Member, Node, words};

use crate::{
    contribute::load,
    report::{Better, Figure},
};

const STOPPED_WITHIN: Duration = Duration::from_secs(30);
/// Until background threads have done what a start leaves to them.
const REST: Duration = Duration::from_secs(2);
const MIB: f64 = 1024.0 * 1024.0;

async fn ready_ms(launch: &Launch) -> (f64, Node) {
    let started = Instant::now();
    let node = launch.start().await;
    (started.elapsed().as_secs_f64() * 1e3, node)
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Milliseconds from process start to the first answer that needed the whole search index.
async fn answered_ms(launch: &Launch, repetition: usize) -> (f64, Node) {
    let started = Instant::now();
    let node = launch.start().await;
    let mut member = Member::new(&node, format!("first to ask {repetition}"));
    // A request that is sent away because the index is still being built has paid: its retry is free.
    while member.knowledge("entity", 1).await.expect("an answer").status != 200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (started.elapsed().as_secs_f64() * 1e3, node)
}

/// All figures of this part.
///
/// # Panics
/// When a node does not start or stop.
pub async fn figures(repetitions: usize) -> Vec<Figure> {
    let mut empty = Vec::new();
    let mut resting = Vec::new();
    for _ in 0..repetitions {
        let (took, node) = ready_ms(&Launch::new()).await;
        empty.push(took);
        tokio::time::sleep(REST).await;
        resting.push(node.resident_bytes() as f64 / MIB);
    }
    let launch = Launch::new();
    let mut node = launch.start().await;
    load(&node, "loader", &words::all()).await;
    node.kill();
    // Every start after the kill begins from the same bytes: a start that has recovered leaves less to the next.
    let mut killed = Vec::new();
    let mut full = Vec::new();
    for repetition in 0..repetitions {
        let again = launch
            .clone()
            .data(launch.directory().join(format!("killed-{repetition}")));
        copy(launch.data_directory(), again.data_directory()).expect("room for a copy of the data");
        let (took, node) = ready_ms(&again).await;
        killed.push(took);
        tokio::time::sleep(REST).await;
        full.push(node.resident_bytes() as f64 / MIB);
        drop(node);
        std::fs::remove_dir_all(again.data_directory()).expect("our own copy");
    }
    let mut clean = Vec::new();
    let (_, mut node) = ready_ms(&launch).await;
    let mut answered = Vec::new();
    for repetition in 0..repetitions {
        assert!(node.stop(STOPPED_WITHIN).await.success(), "a clean stop");
        let (took, mut next) = ready_ms(&launch).await;
        clean.push(took);
        assert!(next.stop(STOPPED_WITHIN).await.success(), "a clean stop");
        let (took, next) = answered_ms(&launch, repetition).await;
        answered.push(took);
        node = next;
    }
    vec![
        Figure::new("start", "empty directory to ready", "ms", Better::Lower, &empty)
            .beside("etcd, quoted", 640.0)
            .bar(640.0),
        Figure::new("start", "whole pool, after a clean stop", "ms", Better::Lower, &clean).bar(300.0),
        Figure::new(
            "start",
            "whole pool, after a clean stop, to the first knowledge answer",
            "ms",
            Better::Lower,
            &answered,
        ),
        Figure::new("start", "whole pool, after kill -9", "ms", Better::Lower, &killed).bar(2_000.0),
        Figure::new(
            "start",
            "resident memory, empty, at rest",
            "MiB",
            Better::Lower,
            &resting,
        )
        .bar(100.0),
        Figure::new(
            "start",
            "resident memory, whole pool, at rest",
            "MiB",
            Better::Lower,
            &full,
        ),
    ]
}
