//! Raft's frames: first in the queue, in order, never refused, and synced when that was asked for.

use std::time::{Duration, Instant};

use continuum_engine::{
    Batch, CommitError, Durability, Engine, Mutation, Pending,
    keyspace::{
        raft_log::{self, Entry, Payload},
        raft_state::{self, Applied, LogId, Purged, Vote},
    },
    store::{Family, Write},
};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

use crate::node::*;

fn entry(index: u64) -> Write {
    let blank = Entry {
        term: index,
        leader: 1,
        payload: Payload::Blank,
    };
    raft_log::put(index, &blank)
}

fn append(engine: &Engine, index: u64) -> Pending {
    engine.commit(Batch::one(Mutation::Raft(vec![entry(index)])), Durability::Synced)
}

fn at(index: u64) -> LogId {
    LogId {
        term: index,
        leader: 1,
        index,
    }
}

/// What applying an entry does: its effect, and how far that has come, in one batch.
fn apply(engine: &Engine, index: u64) -> Pending {
    let applied = Applied {
        last: Some(at(index)),
        ..Applied::default()
    };
    let effect = Write {
        family: Family::Ledger,
        key: b"effect".to_vec(),
        value: Some(index.to_be_bytes().to_vec()),
    };
    let mutations = vec![
        Mutation::Apply(vec![effect]),
        Mutation::Raft(vec![raft_state::put(&applied)]),
    ];
    engine.commit(Batch::of(mutations), Durability::Buffered)
}

fn indexes(engine: &Engine, first: u64) -> Vec<u64> {
    let entries = raft_log::entries(engine.view(), first, u64::MAX).unwrap();
    entries.iter().map(|(_, entry)| entry.term).collect()
}

#[test]
fn raft_and_the_ledger_keep_to_their_own_families() {
    let engine = Node::new("a").open();
    let of = |family| Write {
        family,
        key: vec![1],
        value: None,
    };
    for family in Family::ALL {
        let raft = engine.commit(Batch::one(Mutation::Raft(vec![of(family)])), Durability::Synced);
        let is_raft = matches!(family, Family::RaftLog | Family::RaftState);
        assert_eq!(raft.wait().is_ok(), is_raft, "{family:?}");
        let applied = engine.commit(Batch::one(Mutation::Apply(vec![of(family)])), Durability::Synced);
        let is_joined = matches!(
            family,
            Family::Concepts | Family::ConceptIndex | Family::Dots | Family::Meta
        );
        assert_eq!(applied.wait().is_ok(), !is_raft && !is_joined, "{family:?}");
    }
}

#[test]
fn frames_go_before_what_was_queued_and_share_its_sync() {
    let node = Node::new("a");
    let engine = node.open();
    write(&engine, put("k", "0"));
    // The committer is kept busy by one long batch after another, so that both kinds wait beside each other.
    let text = format!("\"{}\"", "x".repeat(8_000));
    let mut early = 0;
    for round in 0..50 {
        let clients: Vec<Pending> = (0..20)
            .map(|key| engine.commit(put(&format!("c{key}"), &text), Durability::Synced))
            .collect();
        let frame = append(&engine, round);
        let frame = frame.wait().unwrap().lsn;
        let behind = clients.into_iter().filter_map(|client| match client.wait() {
            Ok(receipt) => Some(receipt.lsn),
            Err(CommitError::Busy) => None,
            Err(other) => panic!("{other}"),
        });
        early += u64::from(behind.max().is_some_and(|last| frame < last));
    }
    assert!(early > 0, "never before one that was queued earlier");
    assert_eq!(indexes(&engine, 0), (0..50).collect::<Vec<_>>());
}

#[test]
fn a_power_cut_leaves_the_log_without_a_hole_and_nothing_applied_that_is_not_in_it() {
    for seed in 0..200 {
        let mut node = Node::new("a");
        let mut dice = SmallRng::seed_from_u64(seed);
        let mut next = 0;
        for _ in 0..3 {
            let engine = node.open();
            let (mut told, mut waiting) = (next, Vec::new());
            for _ in 0..dice.random_range(1..40) {
                if dice.random_bool(0.5) {
                    drop(engine.commit(put("k", "1"), Durability::Buffered));
                }
                waiting.push((next, append(&engine, next)));
                next += 1;
                if dice.random_bool(0.5) {
                    for (index, pending) in waiting.drain(..) {
                        pending.wait().unwrap();
                        told = index + 1;
                    }
                    // As raft does: only what is synced is applied.
                    let applied = apply(&engine, told - 1);
                    if dice.random_bool(0.5) {
                        applied.wait().unwrap();
                    }
                }
            }
            let after = node.power_cut(seed);
            drop(engine);
            node = after;
            let engine = node.open();
            let found = indexes(&engine, 0);
            assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>(), "seed {seed}");
            assert!(
                found.len() as u64 >= told,
                "seed {seed}: {told} told, {} there",
                found.len()
            );
            let applied: Option<Applied> = raft_state::read(engine.view()).unwrap();
            let effect = engine.view().get(Family::Ledger, b"effect").unwrap();
            let effect = effect.map(|bytes| u64::from_be_bytes(bytes.try_into().unwrap()));
            assert_eq!(
                applied.and_then(|applied| applied.last).map(|at| at.index),
                effect,
                "seed {seed}"
            );
            assert!(effect.is_none_or(|index| index < told), "seed {seed}");
            next = found.len() as u64;
        }
    }
}

#[test]
fn a_vote_that_was_answered_outlives_a_power_cut() {
    let node = Node::new("a");
    let engine = node.open();
    let vote = Vote {
        term: 3,
        node: 7,
        committed: true,
    };
    let batch = Batch::one(Mutation::Raft(vec![
        raft_state::put(&vote),
        raft_state::put(&Purged(at(4))),
    ]));
    engine.commit(batch, Durability::Synced).wait().unwrap();
    let node = node.power_cut(7);
    drop(engine);
    let engine = node.open();
    assert_eq!(raft_state::read(engine.view()).unwrap(), Some(vote));
    assert_eq!(raft_state::read(engine.view()).unwrap(), Some(Purged(at(4))));
}

#[test]
fn frames_draw_on_the_reserve_and_wait_when_nothing_is_left() {
    let mut node = Node::new("a");
    node.settings.free_hard_bytes = 8 << 10;
    node.settings.free_soft_bytes = 16 << 10;
    // The first segment, the reserve, and not quite a second segment.
    node.log.limit_space(Some((64 + 64 + 40) << 10));
    let engine = node.open();
    let json = format!("\"{}\"", "x".repeat(1000));
    let refused = (0..1_000).find_map(|key| {
        let written = engine.commit(put(&format!("k{key}"), &json), Durability::Synced);
        written.wait().err()
    });
    assert!(matches!(refused, Some(CommitError::NoSpace { .. })), "{refused:?}");
    // Flushes let segments go, so some frames fit for a while: until the disk is taken away altogether.
    append(&engine, 0).wait().unwrap();
    node.log.limit_space(Some(0));
    let waiting: Vec<Pending> = (1..400).map(|index| append(&engine, index)).collect();
    std::thread::sleep(Duration::from_millis(200));
    assert!(engine.queued_bytes() > 0, "all were written on a disk without room");
    assert!(matches!(engine.admits(), Err(CommitError::NoSpace { .. })));
    node.log.limit_space(None);
    for pending in waiting {
        pending.wait().unwrap();
    }
    assert_eq!(indexes(&engine, 0), (0..400).collect::<Vec<_>>());
    let since = Instant::now();
    while engine.admits().is_err() {
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", engine.admits());
        std::thread::sleep(Duration::from_millis(5));
    }
    engine.close().unwrap();
}

#[test]
fn a_moment_is_not_changed_by_what_comes_after() {
    let engine = Node::new("a").open();
    apply(&engine, 1).wait().unwrap();
    engine.at_one_moment(&mut |moment| {
        apply(&engine, 2).wait().unwrap();
        let applied: Applied = raft_state::read(moment).unwrap().unwrap();
        assert_eq!(applied.last, Some(at(1)));
    });
    let applied: Applied = raft_state::read(engine.view()).unwrap().unwrap();
    assert_eq!(applied.last, Some(at(2)));
}
