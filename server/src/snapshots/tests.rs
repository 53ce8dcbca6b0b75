//! What the calls in `api::grpc::tests::admin` do not reach: names, and what an earlier process left.

use std::sync::Arc;

use engine::{Environment, clock::Timestamp};

use super::*;
use crate::runtime::time::SystemClock;

fn engine(directory: &Path) -> Engine {
    let settings = engine::Settings {
        segment_bytes: 8 << 20,
        free_soft_bytes: 0,
        free_hard_bytes: 0,
        ..engine::Settings::default()
    };
    let environment = Environment::in_directory(directory, &settings, "node-1", Arc::new(SystemClock), entropy::bits);
    Engine::open(settings, environment.expect("a fresh directory")).expect("open")
}

#[test]
fn what_was_half_made_or_half_removed_is_gone_after_the_next_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = engine(directory.path());
    let open = || Snapshots::open(directory.path(), engine.clone(), Arc::new(SystemClock)).expect("open");
    open().create("kept").expect("made");
    let folder = directory.path().join("snapshots");
    for left in [".cut-1", ".gone-kept", ".gone-.cut-2", "new.partial", ".cut-3.partial"] {
        fs::create_dir_all(folder.join(left).join("db")).expect("made");
    }
    fs::write(folder.join(".gone-file"), "").expect("written");
    // Somebody's own: a backup that was made here, a copy under another name.
    for others in ["2026-11-23T18-07-04Z-node", "Kept-2"] {
        fs::create_dir_all(folder.join(others).join("db")).expect("made");
    }
    let listed = open().list().expect("listed");
    assert_eq!(listed.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["kept"]);
    assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 3);
    engine.close().expect("closed");
}

#[test]
fn there_are_no_more_than_may_be() {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = engine(directory.path());
    let snapshots = Snapshots::open(directory.path(), engine.clone(), Arc::new(SystemClock)).expect("open");
    for number in 0..SNAPSHOTS_MAX {
        fs::create_dir_all(directory.path().join(format!("snapshots/s{number}"))).expect("made");
    }
    assert!(matches!(
        snapshots.create("one-more"),
        Err(Error::Full { max: SNAPSHOTS_MAX })
    ));
    snapshots.delete("s7").expect("deleted");
    snapshots.create("one-more").expect("made");
    engine.close().expect("closed");
}

#[test]
fn while_one_is_made_the_next_is_refused_and_all_else_goes_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = engine(directory.path());
    let snapshots = Snapshots::open(directory.path(), engine.clone(), Arc::new(SystemClock)).expect("open");
    for name in ["streamed", "old"] {
        snapshots.create(name).expect("made");
    }
    let lease = snapshots.cut().expect("made");
    let cut = lease.id().to_owned();
    drop(lease);
    let making = snapshots.0.making.lock();
    std::thread::scope(|scope| {
        // Beside the thread that makes one, as callers are.
        scope.spawn(|| {
            let is_occupied = |error: Error| matches!(error, Error::Backup(backup::Error::Occupied(_)));
            assert!(snapshots.create("new").is_err_and(is_occupied));
            drop(snapshots.cut().expect("files are linked while others are summed"));
            snapshots.sweep().expect("swept");
            drop(snapshots.lease("streamed").expect("leased"));
            drop(snapshots.resume(&cut).expect("resumed"));
            snapshots.delete("old").expect("deleted");
            assert_eq!((snapshots.count().expect("counted"), snapshots.leases()), (1, 0));
        });
    });
    drop(making);
    snapshots.create("new").expect("made");
    engine.close().expect("closed");
}

#[test]
fn a_snapshot_without_a_name_is_named_after_the_time() {
    assert_eq!(name_of(Timestamp(1_795_457_224_000_001)), "2026-11-23t18-07-04z");
    check_name(&name_of(Timestamp(u64::MAX))).expect("a name, whatever the clock says");
}
