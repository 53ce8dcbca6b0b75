//! The log beside the least any durable log can do: one write and one fdatasync into an allocated file.

use std::{fs, hint::black_box, os::unix::fs::FileExt as _, sync::Arc};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rustix::fs::FallocateFlags;
use wal::{
    Log, Lsn, Record, Settings,
    storage::{Disk, Storage},
};

const RECORD_BYTES: usize = 256;
const SEGMENT_BYTES: u64 = 64 << 20;

/// One group of `count` records, appended and synced; beside it the same bytes written to a plain file and synced.
fn append_and_sync(criterion: &mut Criterion) {
    let body = [0x5a; RECORD_BYTES];
    let mut group = criterion.benchmark_group("wal/append_and_sync");
    for count in [1_usize, 64] {
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("log", count), |bencher| {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let disk = Disk::open(directory.path()).expect("the directory opens");
            let mut log = open(Arc::new(disk));
            let records = vec![Record { header: 1, body: &body }; count];
            bencher.iter(|| {
                log.append(&records).expect("there is space");
                log.sync().expect("the disk syncs")
            });
        });
        group.bench_function(BenchmarkId::new("plain_file", count), |bencher| {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let file = fs::File::create_new(directory.path().join("plain")).expect("a new file");
            rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, SEGMENT_BYTES).expect("there is space");
            file.sync_all().expect("the disk syncs");
            let bytes = vec![0x5a; 48 + count * (RECORD_BYTES + 5)];
            let mut offset = 0;
            bencher.iter(|| {
                if offset + bytes.len() as u64 > SEGMENT_BYTES {
                    offset = 0;
                }
                file.write_all_at(&bytes, offset).expect("there is space");
                file.sync_data().expect("the disk syncs");
                offset += bytes.len() as u64;
            });
        });
    }
    group.finish();
}

/// Reading 64 MiB of records back from the page cache, with every CRC checked, and opening the same log after an orderly stop.
fn read_back(criterion: &mut Criterion) {
    const GROUPS: u64 = 4_000;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let disk: Arc<dyn Storage> = Arc::new(Disk::open(directory.path()).expect("the directory opens"));
    let body = [0x5a; RECORD_BYTES];
    let mut log = open(Arc::clone(&disk));
    for _ in 0..GROUPS {
        log.append(&[Record { header: 1, body: &body }; 60])
            .expect("there is space");
    }
    let last = log.sync().expect("the disk syncs");
    let mut group = criterion.benchmark_group("wal/read");
    group.sample_size(20);
    group.throughput(Throughput::Bytes(last.0 * RECORD_BYTES as u64));
    group.bench_function("all_records", |bencher| {
        bencher.iter(|| {
            let mut reader = log.reader(Lsn::ZERO).expect("nothing was retired");
            while let Some(entry) = reader.next().expect("the log is whole") {
                black_box(entry);
            }
        });
    });
    log.close().expect("the disk syncs");
    group.bench_function("open", |bencher| bencher.iter(|| open(Arc::clone(&disk))));
    group.finish();
}

fn open(storage: Arc<dyn Storage>) -> Log {
    let settings = Settings {
        segment_bytes: SEGMENT_BYTES,
        ..Settings::default()
    };
    Log::open(storage, settings, b"bench").expect("the log opens").0
}

criterion_group!(benches, append_and_sync, read_back);
criterion_main!(benches);
