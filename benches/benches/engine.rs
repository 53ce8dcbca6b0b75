//! Durable puts of 256 bytes with 1, 16, 64 and 256 writers: the engine beside raw RocksDB.
//!
//! Criterion's own order runs one contestant after the other; the interleaved figures are `measure --only engine`.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]
#![allow(clippy::disallowed_methods, reason = "measuring is what the real clock is for")]

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use continuum_benches::engine_puts::{Door, Raw, WRITERS};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Time for `puts` puts shared by `writers` threads.
fn timed(writers: usize, puts: u64, put: &(dyn Fn(u64) + Sync)) -> Duration {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let left = AtomicU64::new(puts);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..writers {
            scope.spawn(|| {
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                    .is_ok()
                {
                    put(NEXT.fetch_add(1, Ordering::Relaxed));
                }
            });
        }
    });
    start.elapsed()
}

fn durable_puts(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory for the databases");
    let raw = Raw::open(&directory.path().join("rocksdb"));
    let door = Door::open(&directory.path().join("engine"));
    let mut group = criterion.benchmark_group("durable_puts_256B");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(3))
        .throughput(Throughput::Elements(1));
    for writers in WRITERS {
        group.bench_function(BenchmarkId::new("rocksdb", writers), |bencher| {
            bencher.iter_custom(|puts| timed(writers, puts, &|number| raw.put(number)));
        });
        group.bench_function(BenchmarkId::new("engine", writers), |bencher| {
            bencher.iter_custom(|puts| timed(writers, puts, &|number| door.put(number)));
        });
    }
    group.finish();
    door.0.close().expect("the engine closes after the trials");
}

criterion_group!(benches, durable_puts);
criterion_main!(benches);
