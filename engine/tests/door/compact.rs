//! Compaction on demand: what was overwritten leaves the disk, in steps that can be stopped.

use std::{fs, os::unix::fs::FileExt as _, path::Path};

use continuum_engine::{
    CompactProgress, Engine, Environment, Settings, backup,
    keyspace::NamespaceId,
    store::{Family, Table, rocks::Reader},
    verify,
};
use rand::{RngExt as _, SeedableRng as _};

use crate::node::*;

fn open(directory: &Path, compaction_bytes_per_s: u64) -> Engine {
    let settings = Settings {
        segment_bytes: 1 << 20,
        flush_log_bytes: 256 << 10,
        free_soft_bytes: 0,
        free_hard_bytes: 0,
        compaction_bytes_per_s,
        ..Settings::default()
    };
    let environment = Environment::in_directory(directory, &settings, "a", hand(), entropy).unwrap();
    Engine::open(settings, environment).unwrap()
}

/// Text that does not compress.
fn noise(chance: &mut rand::rngs::StdRng) -> String {
    (0..200).map(|_| format!("{:016x}", chance.random::<u64>())).collect()
}

#[test]
fn what_was_overwritten_is_gone_and_what_is_there_stays() {
    let place = tempfile::tempdir().unwrap();
    let engine = open(place.path(), 0);
    let mut chance = rand::rngs::StdRng::seed_from_u64(7);
    for key in 0..300 {
        write(&engine, put(&format!("k{key}"), &format!("\"{}\"", noise(&mut chance))));
    }
    // Down to the lowest level, where an ordinary compaction would leave them.
    assert!(engine.compact(None, &mut |_| true).unwrap().finished);
    for key in 0..270 {
        write(&engine, delete(&format!("k{key}")));
    }
    let stopped = engine.compact(None, &mut |_| false).unwrap();
    assert!(!stopped.finished && stopped.progress.done_bytes == 0 && stopped.progress.total_bytes > 0);
    let elsewhere = (NamespaceId(99), Vec::new(), None);
    assert_eq!(
        engine
            .compact(Some(&elsewhere), &mut |_| true)
            .unwrap()
            .progress
            .total_bytes,
        0
    );

    let mut seen: Vec<CompactProgress> = Vec::new();
    let mut progress = |progress| {
        seen.push(progress);
        true
    };
    let range = (SPACE, b"k1".to_vec(), None);
    let compacted = engine.compact(Some(&range), &mut progress).unwrap();
    let (before, after) = (compacted.before_bytes, compacted.after_bytes);
    assert!(
        compacted.finished && after * 3 < before,
        "{before} bytes before, {after} after"
    );
    assert!(
        seen.is_sorted_by_key(|progress| progress.done_bytes) && seen.len() >= 2,
        "{seen:?}"
    );
    assert_eq!(seen.last(), Some(&compacted.progress));
    for key in 0..300 {
        assert_eq!(read(&engine, &format!("k{key}")).len(), usize::from(key >= 270));
    }
    engine.close().unwrap();
    drop(engine);
    assert_eq!(verify::directory(place.path(), &mut |_, _| true).unwrap().damage, []);
}

/// The tables of the concepts, as they lie there.
fn tables(directory: &Path) -> Vec<Table> {
    let reader = Reader::open(&directory.join("db")).unwrap();
    reader.tables(Family::Concepts).unwrap()
}

#[test]
fn what_lies_on_the_lowest_level_already_is_rewritten_too() {
    let place = tempfile::tempdir().unwrap();
    let engine = open(place.path(), 0);
    let mut chance = rand::rngs::StdRng::seed_from_u64(7);
    for key in 0..300 {
        write(&engine, put(&format!("k{key}"), &format!("\"{}\"", noise(&mut chance))));
    }
    assert!(engine.compact(None, &mut |_| true).unwrap().finished);
    let before = tables(place.path());
    assert!(engine.compact(None, &mut |_| true).unwrap().finished);
    let after = tables(place.path());
    let kept = |table: &&Table| after.iter().any(|now| now.file == table.file);
    assert!(
        !before.is_empty() && before.iter().filter(kept).count() == 0,
        "{before:?}\n{after:?}"
    );
    engine.close().unwrap();
}

#[test]
fn a_piece_that_could_not_be_rewritten_is_no_success() {
    let place = tempfile::tempdir().unwrap();
    let engine = open(place.path(), 0);
    let mut chance = rand::rngs::StdRng::seed_from_u64(7);
    for key in 0..300 {
        write(&engine, put(&format!("k{key}"), &format!("\"{}\"", noise(&mut chance))));
    }
    assert!(engine.compact(None, &mut |_| true).unwrap().finished);
    let table = tables(place.path())
        .into_iter()
        .max_by_key(|table| table.bytes)
        .unwrap();
    // Written over in place: RocksDB has the file open.
    let path = place.path().join("db").join(&table.file);
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 200).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 200).unwrap();
    let failed = engine.compact(None, &mut |_| true).unwrap_err();
    assert!(
        failed.to_string().contains("family concepts could not be rewritten"),
        "{failed}"
    );
}

#[test]
fn with_a_bound_on_its_rate_a_node_flushes_and_compacts() {
    let place = tempfile::tempdir().unwrap();
    let engine = open(place.path(), 4 << 20);
    let mut chance = rand::rngs::StdRng::seed_from_u64(7);
    for key in 0..400 {
        write(&engine, put(&format!("k{key}"), &format!("\"{}\"", noise(&mut chance))));
    }
    assert!(engine.compact(None, &mut |_| true).unwrap().finished);
    engine.close().unwrap();
}

#[test]
fn a_store_in_memory_has_nothing_to_compact() {
    let refused = Node::new("a").open().compact(None, &mut |_| true).unwrap_err();
    assert!(matches!(refused, backup::Error::Refused(_)), "{refused}");
}
