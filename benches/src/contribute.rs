//! The whole of WordNet contributed over HTTP, and what ten more concepts cost as the pool grows.

use std::time::{Duration, Instant};

use continuum_tests::{Member, Node, words};
use serde_json::Value;

use crate::report::{Better, Figure, quantile};

/// Concepts in one contribution.
const GIVEN: usize = 1000;
/// Members that contribute at once, each within its 100 contributions an hour.
const MEMBERS: usize = 4;
/// Contributions of ten concepts timed at each size of the pool.
const SMALL_SAMPLES: usize = 40;
const SMALL_GIVEN: u64 = 10;
/// Ten concepts in 1.4 s.
const PYTHON_CONCEPTS_PER_SECOND: f64 = 7.1;
/// Sizes of the pool before the small contributions.
const SIZES: [usize; 3] = [0, 10_000, words::COUNT];

/// One run: seconds spent loading, and the median of small contributions at each of [`SIZES`], in milliseconds.
struct Run {
    loading: Duration,
    small_ms: [f64; SIZES.len()],
}

/// Contributes `concepts` with several members at once, in requests of a thousand.
///
/// # Panics
/// When the node refuses one.
pub async fn load(node: &Node, mark: &str, concepts: &[Value]) -> Duration {
    let requests: Vec<&[Value]> = concepts.chunks(GIVEN).collect();
    let mut shares: Vec<Vec<Vec<Value>>> = vec![Vec::new(); MEMBERS];
    for (number, request) in requests.into_iter().enumerate() {
        shares[number % MEMBERS].push(request.to_vec());
    }
    let started = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for (number, share) in shares.into_iter().enumerate() {
        let mut member = Member::new(node, format!("{mark} {number}"));
        running.spawn(async move {
            for request in share {
                let answer = member.contribute(&request).await.expect("an answer").ok();
                assert_eq!(answer["new_concepts"], request.len());
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("a member that contributed everything");
    }
    started.elapsed()
}

/// The median milliseconds of contributing ten fresh concepts.
async fn small(node: &Node, mark: &str) -> f64 {
    let mut member = Member::new(node, mark);
    let mut samples = Vec::with_capacity(SMALL_SAMPLES);
    for number in 0..SMALL_SAMPLES as u64 {
        let concepts: Vec<Value> = (0..SMALL_GIVEN)
            .map(|concept| words::made(mark, number * SMALL_GIVEN + concept))
            .collect();
        let started = Instant::now();
        let answer = member.contribute(&concepts).await.expect("an answer");
        samples.push(started.elapsed().as_secs_f64() * 1e3);
        assert_eq!(answer.ok()["new_concepts"], SMALL_GIVEN);
    }
    samples.sort_by(f64::total_cmp);
    quantile(&samples, 0.5)
}

async fn run(concepts: &[Value]) -> Run {
    let node = Node::start().await;
    let mut loading = Duration::ZERO;
    let mut small_ms = [0.0; SIZES.len()];
    let mut loaded = 0;
    for (stage, size) in SIZES.into_iter().enumerate() {
        loading += load(&node, &format!("loader {stage}"), &concepts[loaded..size]).await;
        loaded = size;
        small_ms[stage] = small(&node, &format!("small {size}")).await;
    }
    Run { loading, small_ms }
}

/// All figures of this part.
pub async fn figures(repetitions: usize) -> Vec<Figure> {
    let concepts = words::all();
    let mut runs = Vec::new();
    for _ in 0..repetitions {
        runs.push(run(&concepts).await);
    }
    let rates: Vec<f64> = runs
        .iter()
        .map(|run| words::COUNT as f64 / run.loading.as_secs_f64())
        .collect();
    let mut figures = vec![
        Figure::new(
            "contribute",
            "117,659 concepts, requests of 1,000, 4 members",
            "concepts/s",
            Better::Higher,
            &rates,
        )
        .beside(
            "Python system at 50,000, 10 at a time, quoted",
            PYTHON_CONCEPTS_PER_SECOND,
        )
        .bar(5_000.0),
    ];
    for (stage, size) in SIZES.into_iter().enumerate() {
        let samples: Vec<f64> = runs.iter().map(|run| run.small_ms[stage]).collect();
        let figure = Figure::new(
            "contribute",
            format!("10 concepts, pool of {size}"),
            "ms",
            Better::Lower,
            &samples,
        );
        figures.push(match size {
            0 => figure.beside("Python system, quoted", 8.0),
            words::COUNT => figure.beside("Python system at 50,000, quoted", 1_400.0),
            _ => figure,
        });
    }
    let growth: Vec<f64> = runs
        .iter()
        .map(|run| run.small_ms[SIZES.len() - 1] / run.small_ms[0])
        .collect();
    figures.push(
        Figure::new(
            "contribute",
            "10 concepts, pool of 117,659 over pool of 0",
            "×",
            Better::Lower,
            &growth,
        )
        .beside("Python system, quoted", 175.0)
        .bar(1.5),
    );
    figures
}
