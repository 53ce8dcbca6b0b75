//! The whole of WordNet written over one gRPC stream, then read back by `Concepts/Scan`.
//!
//! The client is a plain one: it decodes every message with prost and counts. It runs on the same cores as the node, so that
//! its work is part of each figure. Everything is read twice over: from memory, as it was written, and from the compressed
//! files on disk, after a restart.

use std::time::{Duration, Instant};

use continuum_tests::{Node, grpc, words};
use proto::v1::{ScanRequest, concepts_client::ConceptsClient};
use serde_json::Value;
use tonic::transport::Channel;

use crate::{
    bulk,
    engine_puts::median,
    report::{Better, Figure},
};

const NAMESPACE: &str = "wordnet";
/// Scans of each kind in one repetition.
const SCANS: usize = 3;
const STOPPED_WITHIN: Duration = Duration::from_secs(30);

/// One run, in concepts per second.
struct Run {
    written: f64,
    from_memory: Scans,
    from_files: Scans,
}

/// Scans of everything, in concepts per second.
#[derive(Default)]
struct Scans {
    with_contexts: Vec<f64>,
    without_contexts: Vec<f64>,
}

impl Scans {
    async fn of(channel: &Channel) -> Scans {
        let mut scans = Scans::default();
        for _ in 0..SCANS {
            scans.with_contexts.push(rate(channel, false).await);
            scans.without_contexts.push(rate(channel, true).await);
        }
        scans
    }
}

/// Chunks that write every concept under its name in WordNet.
fn chunks(concepts: &[Value]) -> Vec<Vec<proto::v1::BatchWrite>> {
    let write = |concept: &Value| {
        let key = concept["id"].as_str().expect("concepts of WordNet have an id");
        bulk::register(NAMESPACE, key.to_owned(), concept.to_string())
    };
    concepts
        .chunks(bulk::CHUNK)
        .map(|chunk| chunk.iter().map(write).collect())
        .collect()
}

/// Concepts per second of one scan of everything.
async fn rate(channel: &Channel, omit_contexts: bool) -> f64 {
    let started = Instant::now();
    let found = walk(channel, NAMESPACE, omit_contexts).await;
    let rate = found as f64 / started.elapsed().as_secs_f64();
    assert_eq!(found, words::COUNT, "a scan finds everything");
    rate
}

/// How many concepts a scan of the namespace finds.
pub async fn count(channel: &Channel, namespace: &str) -> usize {
    walk(channel, namespace, true).await
}

async fn walk(channel: &Channel, namespace: &str, omit_contexts: bool) -> usize {
    let request = ScanRequest {
        namespace: namespace.to_owned(),
        omit_contexts,
        ..ScanRequest::default()
    };
    let scan = ConceptsClient::new(channel.clone()).scan(request).await;
    let mut pages = scan.expect("a scan").into_inner();
    let mut found = 0;
    while let Some(page) = pages.message().await.expect("a page") {
        let whole = |concept: &proto::v1::Concept| concept.context.is_empty() == omit_contexts;
        assert!(page.concepts.iter().all(whole), "contexts as asked for");
        found += page.concepts.len();
    }
    found
}

async fn run(concepts: &[Value]) -> Run {
    let mut node = Node::start().await;
    let _created = grpc::Namespace::create(&node, NAMESPACE).await;
    let channel = grpc::channel(&node).await;
    let durable = bulk::write(&channel, chunks(concepts).into_iter()).await;
    let took = durable.last().expect("an acknowledgement of each chunk");
    let from_memory = Scans::of(&channel).await;
    assert!(node.stop(STOPPED_WITHIN).await.success(), "a clean stop");
    let node = node.launch().start().await;
    Run {
        written: words::COUNT as f64 / took.as_secs_f64(),
        from_memory,
        from_files: Scans::of(&grpc::channel(&node).await).await,
    }
}

/// All figures of this part.
pub async fn figures(repetitions: usize) -> Vec<Figure> {
    let concepts = words::all();
    let mut runs = Vec::new();
    for _ in 0..repetitions {
        runs.push(run(&concepts).await);
    }
    let written: Vec<f64> = runs.iter().map(|run| run.written).collect();
    let of = |kind: fn(&Run) -> &Vec<f64>| -> Vec<f64> { runs.iter().flat_map(kind).copied().collect() };
    let with_contexts = of(|run| &run.from_memory.with_contexts);
    let itself: Vec<f64> = with_contexts.iter().map(|rate| rate / median(&with_contexts)).collect();
    let figure = |name: &str, rates: &[f64]| Figure::new("scan", name, "concepts/s", Better::Higher, rates);
    vec![
        figure("bulk write of 117,659 concepts, one stream, durable", &written).bar(20_000.0),
        figure("scan of 117,659 concepts, with contexts", &with_contexts).bar(200_000.0),
        figure("… without", &of(|run| &run.from_memory.without_contexts)),
        figure(
            "… with contexts, from files after a restart",
            &of(|run| &run.from_files.with_contexts),
        )
        .bar(200_000.0),
        figure("… without, from files", &of(|run| &run.from_files.without_contexts)),
        Figure::new(
            "scan",
            "A/A: scan with contexts over its own median",
            "×",
            Better::Higher,
            &itself,
        ),
    ]
}
