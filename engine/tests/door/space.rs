//! A full disk: writes are refused, reads and deletes work, and it recovers by itself.

use continuum_engine::{CommitError, Durability, Engine};

use crate::node::*;

/// Segments of 64 KiB, a reserve as large, a hard mark of 8 KiB.
fn node(space: u64) -> Node {
    let mut node = Node::new("a");
    node.settings.free_hard_bytes = 8 << 10;
    node.settings.free_soft_bytes = 16 << 10;
    node.log.limit_space(Some(space));
    node
}

fn fill(engine: &Engine) -> u64 {
    let json = format!("\"{}\"", "x".repeat(1000));
    for written in 0..10_000 {
        match engine
            .commit(put(&format!("k{written}"), &json), Durability::Synced)
            .wait()
        {
            Ok(_) => {}
            Err(CommitError::NoSpace { needed_bytes, .. }) => {
                assert!(needed_bytes >= 8 << 10);
                return written;
            }
            Err(other) => panic!("{other}"),
        }
    }
    10_000
}

#[test]
fn under_the_hard_mark_deletes_and_reads_work_and_space_brings_writes_back() {
    let node = node(64 << 20);
    let engine = node.open();
    write(&engine, put("k", "1"));
    // Somebody else fills the disk.
    node.log.limit_space(Some(130 << 10));
    let refused = engine.commit(put("k", "2"), Durability::Synced).wait();
    assert!(matches!(refused, Err(CommitError::NoSpace { .. })), "{refused:?}");
    assert_eq!(read(&engine, "k"), ["1"]);
    write(&engine, delete("k"));
    assert_eq!(read(&engine, "k"), [""; 0]);
    node.log.limit_space(Some(64 << 20));
    write(&engine, put("k", "3"));
}

#[test]
fn a_reserve_cut_short_is_allocated_anew() {
    use wal::storage::Storage as _;
    let node = node(64 << 20);
    drop(node.log.create("reserve", 0).unwrap());
    drop(node.open());
    assert_eq!(node.log.open("reserve").unwrap().length().unwrap(), 64 << 10);
}

#[test]
fn when_no_segment_fits_the_reserve_keeps_deletes_going() {
    // The first segment, the reserve, and not quite a second segment.
    let node = node((64 + 64 + 40) << 10);
    let engine = node.open();
    let written = fill(&engine);
    assert!(written > 10, "only {written} writes fitted");
    let mut deleted = 0;
    for round in 0..40 {
        for key in 0..written {
            match engine.commit(delete(&format!("k{key}")), Durability::Synced).wait() {
                Ok(_) => deleted += 1,
                Err(CommitError::NoSpace { .. }) => panic!("delete {deleted} in round {round} was refused"),
                Err(other) => panic!("{other}"),
            }
        }
    }
    node.log.limit_space(None);
    write(&engine, put("again", "1"));
    engine.close().unwrap();
    drop(engine);
    let engine = node.open();
    assert_eq!(read(&engine, "again"), ["1"]);
    assert_eq!(read(&engine, "k0"), [""; 0]);
}

#[test]
fn with_the_reserve_spent_everything_is_refused_until_space_is_back() {
    let node = node(64 << 20);
    let engine = node.open();
    let written = 30;
    for key in 0..written {
        write(&engine, put(&format!("k{key}"), "1"));
    }
    // Not even a freed reserve makes room for another segment.
    node.log.limit_space(Some(100 << 10));
    let mut refused = 0;
    for round in 0..100 {
        let key = format!("k{}", round % written);
        for batch in [put(&key, "1"), delete(&key)] {
            match engine.commit(batch, Durability::Synced).wait() {
                Ok(_) => {}
                Err(CommitError::NoSpace { .. }) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert!(refused >= 100);
    assert!(engine.stopped().borrow().is_none(), "no space does not stop the engine");
    node.log.limit_space(None);
    let last = write(&engine, put("back", "1"));
    drop(engine);
    let engine = node.power_cut(3).open();
    assert_eq!(read(&engine, "back"), ["1"]);
    assert_eq!(*engine.committed().borrow(), last.lsn);
}
