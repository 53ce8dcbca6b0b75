//! Followers and flushes: what is retired, and for whom it is kept.

use continuum_engine::{FollowError, Followed, store::Family};
use wal::Lsn;

use crate::node::*;

#[test]
fn a_follower_sees_every_batch_once_in_order() {
    let engine = Node::new("a").open();
    let mut follower = engine.follow("test", Lsn::ZERO).unwrap();
    assert!(follower.next().unwrap().is_none());
    for value in 1..=20 {
        write(&engine, put("k", &value.to_string()));
    }
    let followed: Vec<Followed> = std::iter::from_fn(|| follower.next().unwrap()).collect();
    assert_eq!(
        followed.iter().map(|followed| followed.lsn.0).collect::<Vec<_>>(),
        (1..=20).collect::<Vec<_>>()
    );
    for followed in &followed {
        let concepts = followed
            .writes
            .iter()
            .filter(|write| write.family == Family::Concepts)
            .count();
        assert_eq!(concepts, 1);
    }
    assert_eq!(follower.position(), Lsn(20));
    let mut late = engine.follow("late", Lsn(19)).unwrap();
    assert_eq!(late.next().unwrap().unwrap().lsn, Lsn(20));
}

#[test]
fn the_log_is_retired_behind_flushes_but_not_before_a_follower() {
    let node = Node::new("a");
    let engine = node.open();
    let json = format!("\"{}\"", "x".repeat(2000));
    let mut follower = engine.follow("test", Lsn::ZERO).unwrap();
    for value in 0..500 {
        write(&engine, put(&format!("k{value}"), &json));
    }
    let segments = |node: &Node| {
        wal::storage::Storage::list(&node.log)
            .unwrap()
            .iter()
            .filter(|name| name.ends_with(".log"))
            .count()
    };
    assert!(segments(&node) > 10, "kept for the follower");
    assert_eq!(follower.next().unwrap().unwrap().lsn, Lsn(1));
    follower.done(Lsn(400));
    // The flusher runs beside the writers: it may need a few more of them until it has caught up.
    let caught_up = (0..10_000).any(|_| {
        write(&engine, put("k0", &json));
        segments(&node) < 10
    });
    assert!(caught_up, "{} segments are left", segments(&node));
    drop(follower);
    engine.close().unwrap();
    assert!(segments(&node) <= 2, "{} segments are left", segments(&node));
    drop(engine);
    let engine = node.open();
    let late = engine
        .follow("late", Lsn::ZERO)
        .and_then(|mut follower| follower.next());
    assert!(
        matches!(late, Err(FollowError::Log(wal::Error::Retired { .. }))),
        "{:?}",
        late.map(|_| ())
    );
    for value in 0..500 {
        assert_eq!(read(&engine, &format!("k{value}")), std::slice::from_ref(&json));
    }
}

fn segments(node: &Node) -> usize {
    let names = wal::storage::Storage::list(&node.log).unwrap();
    names.iter().filter(|name| name.ends_with(".log")).count()
}

#[test]
fn flushed_log_is_kept_within_its_bounds_for_who_comes_late() {
    let mut node = Node::new("a");
    node.settings.log_keep_bytes = 10 * node.settings.segment_bytes;
    let engine = node.open();
    let json = format!("\"{}\"", "x".repeat(2000));
    for value in 0..100 {
        write(&engine, put(&format!("k{value}"), &json));
    }
    engine.close().unwrap();
    let few = segments(&node);
    assert!((4..=10).contains(&few), "{few} segments");
    drop(engine);
    // All of it was flushed, and all of it is there, also in the next life.
    let engine = node.open();
    let mut late = engine.follow("late", Lsn::ZERO).unwrap();
    assert_eq!(late.next().unwrap().unwrap().lsn, Lsn(1));
    drop(late);
    for value in 0..1_000 {
        write(&engine, put(&format!("k{value}"), &json));
    }
    // The flusher runs beside the writers: it may need a few more of them until it has caught up.
    let within = (0..10_000).any(|_| {
        write(&engine, put("k0", &json));
        segments(&node) <= 11
    });
    assert!(within, "{} segments are left", segments(&node));
    assert!(segments(&node) >= 8, "{} segments are left", segments(&node));
    let refused = engine.follow("late", Lsn::ZERO).map(|_| ());
    assert!(matches!(refused, Err(FollowError::Log(wal::Error::Retired { .. }))));
}

#[test]
fn on_a_disk_that_fills_up_no_log_is_kept_beyond_need() {
    let mut node = Node::new("a");
    node.settings.log_keep_bytes = 100 * node.settings.segment_bytes;
    let engine = node.open();
    let json = format!("\"{}\"", "x".repeat(2000));
    for value in 0..500 {
        write(&engine, put(&format!("k{value}"), &json));
    }
    assert!(segments(&node) > 10, "{} segments are kept", segments(&node));
    // Others take nearly everything: what was kept makes room again.
    let used = (segments(&node) as u64 + 1) * node.settings.segment_bytes;
    node.log.limit_space(Some(used));
    for value in 0..100 {
        write(&engine, put(&format!("k{value}"), &json));
    }
    assert!(engine.stopped().borrow().is_none());
    for value in 0..500 {
        assert_eq!(read(&engine, &format!("k{value}")), std::slice::from_ref(&json));
    }
}
