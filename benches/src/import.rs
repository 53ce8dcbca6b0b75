//! A million concepts through one gRPC stream into a node with its defaults: whether memory stays bounded, and whether the end
//! is as fast as the beginning.
//!
//! The keys come in no order, so that what is merged on disk overlaps, and the texts hardly compress.

use std::time::Duration;

use continuum_tests::{Node, grpc};
use proto::v1::BatchWrite;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::{
    bulk,
    engine_puts::VALUE_BYTES,
    report::{Better, Figure},
    scan,
};

const NAMESPACE: &str = "imported";
const CONCEPTS: usize = 1_000_000;
const CHUNKS: usize = CONCEPTS / bulk::CHUNK;
const TENTH: usize = CHUNKS / 10;
/// Random letters that values are cut from: making each letter anew would take the client longer than sending it.
const LETTERS: usize = 1 << 20;
const SEED: u64 = 1_000_000;
/// What the node's settings give to the block cache by default.
const BLOCK_CACHE_MIB: f64 = 32.0;
const MIB: f64 = 1024.0 * 1024.0;

/// One run: when each chunk was durable, and the most memory the node had resident.
struct Run {
    durable: Vec<Duration>,
    peak_mib: f64,
}

impl Run {
    /// Concepts per second of the chunks in `[from, to)`.
    fn rate(&self, from: usize, to: usize) -> f64 {
        let began = from
            .checked_sub(1)
            .map_or(Duration::ZERO, |before| self.durable[before]);
        ((to - from) * bulk::CHUNK) as f64 / (self.durable[to - 1] - began).as_secs_f64()
    }
}

/// Chunk after chunk, each made when it is asked for.
fn chunks() -> impl Iterator<Item = Vec<BatchWrite>> + Send + 'static {
    let mut random = StdRng::seed_from_u64(SEED);
    let letters: String = (0..LETTERS)
        .map(|_| char::from(random.random_range(b'a'..=b'z')))
        .collect();
    let text_bytes = VALUE_BYTES - 2;
    (0..CHUNKS).map(move |chunk| {
        let mut write = |number: u64| {
            let start = random.random_range(0..LETTERS - text_bytes);
            let key = format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            bulk::register(NAMESPACE, key, format!("\"{}\"", &letters[start..start + text_bytes]))
        };
        let first = (chunk * bulk::CHUNK) as u64;
        (first..first + bulk::CHUNK as u64).map(&mut write).collect()
    })
}

async fn run() -> Run {
    let node = Node::start().await;
    let _created = grpc::Namespace::create(&node, NAMESPACE).await;
    let channel = grpc::channel(&node).await;
    let durable = bulk::write(&channel, chunks()).await;
    let peak_mib = node.resident_bytes_max() as f64 / MIB;
    assert_eq!(durable.len(), CHUNKS, "an acknowledgement of each chunk");
    assert_eq!(
        scan::count(&channel, NAMESPACE).await,
        CONCEPTS,
        "a scan finds everything"
    );
    Run { durable, peak_mib }
}

/// All figures of this part.
pub async fn figures(repetitions: usize) -> Vec<Figure> {
    let mut runs = Vec::new();
    for _ in 0..repetitions {
        runs.push(run().await);
    }
    let of = |what: &dyn Fn(&Run) -> f64| -> Vec<f64> { runs.iter().map(what).collect() };
    let first = of(&|run| run.rate(0, TENTH));
    let last = of(&|run| run.rate(CHUNKS - TENTH, CHUNKS));
    let over: Vec<f64> = first.iter().zip(&last).map(|(first, last)| last / first).collect();
    let figure = |name: &str, unit, better, samples: &[f64]| Figure::new("import", name, unit, better, samples);
    vec![
        figure(
            "a million concepts of 256 B, one stream, durable",
            "concepts/s",
            Better::Higher,
            &of(&|run| run.rate(0, CHUNKS)),
        ),
        figure("… its first tenth", "concepts/s", Better::Higher, &first),
        figure("… its last tenth", "concepts/s", Better::Higher, &last),
        figure("… the last over the first", "×", Better::Higher, &over).bar(0.7),
        figure(
            "most memory resident, over a block cache of 32 MiB",
            "MiB",
            Better::Lower,
            &of(&|run| run.peak_mib - BLOCK_CACHE_MIB),
        )
        .bar(256.0),
    ]
}
