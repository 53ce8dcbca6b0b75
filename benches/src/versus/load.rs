//! How many puts and gets a second, and how long each takes.

use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{Client, KEYS, VALUE_BYTES, key, value};
use crate::report::quantile;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// One put of [`VALUE_BYTES`].
    Put,
    /// One linearizable get.
    Get,
}

/// One trial of one store.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// Answers a second, of all clients together.
    pub rate: f64,
    /// Milliseconds for one call, the median.
    pub p50: f64,
    /// Milliseconds that one call in a hundred takes or exceeds.
    pub p99: f64,
}

/// Has `count` clients ask for as long as `lasting`; clients share `connections` where there are fewer of them.
///
/// # Panics
/// When a call fails, or a get finds something else than was written.
pub async fn trial<C: Client>(connections: &[C], count: usize, call: Call, lasting: Duration, seed: u64) -> Trial {
    let started = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for number in 0..count {
        let mut client = connections[number % connections.len()].clone();
        let mut random = StdRng::seed_from_u64(seed + number as u64);
        let value = value();
        running.spawn(async move {
            let mut times = Vec::new();
            while started.elapsed() < lasting {
                let key = key(random.random_range(0..KEYS));
                let asked = Instant::now();
                match call {
                    Call::Put => client.put(key, value.clone()).await.expect("a put"),
                    Call::Get => assert_eq!(client.get(key).await.expect("a get"), VALUE_BYTES),
                }
                times.push(asked.elapsed().as_secs_f64() * 1e3);
            }
            times
        });
    }
    let mut times = Vec::new();
    while let Some(ended) = running.join_next().await {
        times.append(&mut ended.expect("a client whose calls were answered"));
    }
    let rate = times.len() as f64 / started.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    Trial {
        rate,
        p50: quantile(&times, 0.5),
        p99: quantile(&times, 0.99),
    }
}

/// Writes every key once.
///
/// # Panics
/// When a put fails.
pub async fn fill<C: Client>(connections: &[C]) {
    let mut running = tokio::task::JoinSet::new();
    let tasks = 64;
    for first in 0..tasks {
        let mut client = connections[first as usize % connections.len()].clone();
        running.spawn(async move {
            for number in (first..KEYS).step_by(tasks as usize) {
                client.put(key(number), value()).await.expect("a put");
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("a client whose calls were answered");
    }
}
