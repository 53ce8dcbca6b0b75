//! What a commit does on a good day.

use std::sync::atomic::Ordering;

use continuum_engine::{
    Batch, CommitError, Durability, Mutation, Receipt,
    clock::Stamp,
    crdt::{Content, Dot, Entry, State, VersionVector},
    identity::Actor,
    store::{Family, Write},
};
use wal::Lsn;

use crate::node::*;

#[test]
fn what_is_acknowledged_is_read_and_outlives_a_power_cut() {
    let node = Node::new("a");
    let engine = node.open();
    let first = write(&engine, put("k", "1"));
    let second = write(&engine, put("k", "2"));
    write(&engine, put("other", "3"));
    write(&engine, delete("other"));
    assert_eq!((first.lsn, second.lsn), (Lsn(1), Lsn(2)));
    assert_eq!(values(&second.effects[0].state), ["2"]);
    assert_eq!(read(&engine, "k"), ["2"]);
    let actor = engine.actor();
    drop(engine);

    let node = node.power_cut(7);
    let engine = node.open();
    assert_eq!(engine.actor(), actor);
    assert_eq!(read(&engine, "k"), ["2"]);
    assert_eq!(
        engine.concept(SPACE, b"other").unwrap().map(|state| state.is_empty()),
        Some(true),
        "a tombstone"
    );
    assert_eq!(engine.concept(SPACE, b"never").unwrap(), None);
    let next = write(&engine, put("k", "4"));
    assert_eq!(next.lsn, Lsn(5));
    assert_eq!(
        next.effects[0].state.context,
        VersionVector([(actor, 5)].into()),
        "dots go on"
    );
}

#[test]
fn a_closed_engine_is_opened_without_replay_and_takes_no_more_writes() {
    let node = Node::new("a");
    let engine = node.open();
    write(&engine, put("k", "1"));
    engine.close().unwrap();
    engine.close().unwrap();
    assert!(matches!(
        engine.commit(put("k", "2"), Durability::Synced).wait(),
        Err(CommitError::Stopped(_))
    ));
    let node = node.power_cut(7);
    assert_eq!(node.applied(), Lsn(1), "flushed");
    let engine = node.open();
    assert_eq!(read(&engine, "k"), ["1"]);
}

#[test]
fn two_nodes_converge_on_a_clock_of_both() {
    let (a, b) = (Node::new("A"), Node::new("B"));
    let (a, b) = (a.open(), b.open());
    let of_a = write(&a, put("k", "\"a\"")).effects.remove(0).state;
    let of_b = write(&b, put("k", "\"b\"")).effects.remove(0).state;
    write(&a, join("k", &of_b));
    write(&b, join("k", &of_a));
    let (at_a, at_b) = (
        a.concept(SPACE, b"k").unwrap().unwrap(),
        b.concept(SPACE, b"k").unwrap().unwrap(),
    );
    assert_eq!(at_a, at_b);
    let folded: Vec<_> = at_a.context.folded().into_iter().collect();
    assert_eq!(folded, [("A".into(), 1), ("B".into(), 1)]);
    // Joining again changes nothing and writes nothing.
    let last = *a.committed().borrow();
    assert_eq!(write(&a, join("k", &of_b)).lsn, last);
    assert_eq!(*a.committed().borrow(), last);
}

#[test]
fn raft_owned_families_are_written_whole_and_others_refused() {
    let engine = Node::new("a").open();
    let apply = |family| {
        Batch::one(Mutation::Apply(vec![Write {
            family,
            key: b"x".to_vec(),
            value: Some(b"y".to_vec()),
        }]))
    };
    write(&engine, apply(Family::Ledger));
    assert_eq!(
        engine.view().get(Family::Ledger, b"x").unwrap().as_deref(),
        Some(&b"y"[..])
    );
    for family in [Family::Concepts, Family::ConceptIndex, Family::Dots, Family::Meta] {
        let outcome = engine.commit(apply(family), Durability::Synced).wait();
        assert!(
            matches!(outcome, Err(CommitError::Invalid(_))),
            "{family:?}: {outcome:?}"
        );
    }
}

#[test]
fn a_refused_batch_leaves_no_trace() {
    let engine = Node::new("a").open();
    let stranger = State::single(
        Dot {
            actor: Actor::new("never-seen", 1),
            counter: 1,
        },
        Entry {
            stamp: Stamp(1),
            expires: None,
            content: Content::Register("0".to_owned()),
        },
    );
    let batch = Batch::of(vec![
        local("k", register("1")),
        Mutation::Join {
            namespace: SPACE,
            key: b"j".to_vec(),
            state: stranger,
        },
        local("k", continuum_engine::crdt::Operation::Add { delta: 1 }),
    ]);
    let before = engine.commit(put("before", "0"), Durability::Synced);
    let refused = engine.commit(batch, Durability::Synced);
    let after = engine.commit(put("k2", "2"), Durability::Synced);
    assert!(matches!(refused.wait(), Err(CommitError::Rejected { index: 2, .. })));
    let before = before.wait().unwrap();
    let after = after.wait().unwrap();
    assert_eq!(after.lsn.0, before.lsn.0 + 1, "no record");
    assert_eq!(
        after.effects[0].state.context,
        VersionVector([(engine.actor(), 2)].into()),
        "no dot"
    );
    assert!(engine.concept(SPACE, b"k").unwrap().is_none() && engine.concept(SPACE, b"j").unwrap().is_none());
    let mut rows = Vec::new();
    engine
        .view()
        .scan(Family::Meta, b"actor/", Some(b"actor0"), &mut |key, _| {
            rows.push(key.to_vec());
            true
        })
        .unwrap();
    assert_eq!(rows.len(), 1, "no actor row");
}

#[test]
fn every_write_sees_those_before_it_in_the_same_group() {
    let engine = Node::new("a").open();
    let pending: Vec<_> = (0..1000)
        .map(|_| engine.commit(add("sum", 1), Durability::Synced))
        .collect();
    for pending in pending {
        pending.wait().unwrap();
    }
    assert_eq!(sum(&engine, "sum"), 1000);
}

#[test]
fn a_round_whose_records_outgrow_the_log_is_written_in_parts() {
    let mut node = Node::new("a");
    node.settings.flush_log_bytes = 1 << 20;
    let engine = node.open();
    // Each change is small, but writes the whole set, which grows to 24 KiB; a group of the log holds 56 KiB.
    let change = |element: usize| {
        let add = vec![format!("\"{element} {}\"", "x".repeat(400))];
        Batch::one(local(
            "set",
            continuum_engine::crdt::Operation::Change {
                add,
                remove: Vec::new(),
            },
        ))
    };
    let pending: Vec<_> = (0..60)
        .map(|element| engine.commit(change(element), Durability::Synced))
        .collect();
    let too_large = Mutation::Apply(vec![Write {
        family: Family::Pool,
        key: b"x".to_vec(),
        value: Some(vec![0; 60 << 10]),
    }]);
    let too_large = engine.commit(Batch::one(too_large), Durability::Synced);
    let last = engine.commit(change(60), Durability::Synced);
    for pending in pending {
        pending.wait().unwrap();
    }
    assert!(matches!(too_large.wait(), Err(CommitError::TooLarge { .. })));
    assert_eq!(last.wait().unwrap().lsn, Lsn(61));
    assert_eq!(engine.concept(SPACE, b"set").unwrap().unwrap().entries.len(), 61);
}

#[test]
fn sixty_four_writers_read_what_they_wrote() {
    let engine = Node::new("a").open();
    std::thread::scope(|scope| {
        for writer in 0..64 {
            let engine = engine.clone();
            scope.spawn(move || {
                for round in 0..50 {
                    let (key, json) = (format!("k{writer}"), format!("{round}"));
                    write(&engine, put(&key, &json));
                    assert_eq!(read(&engine, &key), [json]);
                    write(&engine, add("all", 1));
                }
            });
        }
    });
    assert_eq!(sum(&engine, "all"), 64 * 50);
    assert_eq!(*engine.committed().borrow(), Lsn(64 * 50 * 2));
}

#[tokio::test]
async fn commits_can_be_awaited() {
    let engine = Node::new("a").open();
    let tasks: Vec<_> = (0..100)
        .map(|task| {
            let engine = engine.clone();
            tokio::spawn(async move {
                engine
                    .commit(put(&format!("k{task}"), "1"), Durability::Synced)
                    .await
                    .unwrap()
                    .lsn
            })
        })
        .collect();
    let mut lsns = Vec::new();
    for task in tasks {
        lsns.push(task.await.unwrap().0);
    }
    lsns.sort_unstable();
    assert_eq!(lsns, (1..=100).collect::<Vec<_>>());
}

#[test]
fn concepts_are_listed_by_prefix_and_place() {
    let engine = Node::new("a").open();
    for key in ["a", "b", "b/1", "b/2", "b/3", "c"] {
        write(&engine, put(key, "1"));
    }
    write(&engine, delete("b/2"));
    let list = |prefix: &str, after: Option<&str>, most: usize| {
        let mut keys = Vec::new();
        engine
            .concepts(SPACE, prefix.as_bytes(), after.map(str::as_bytes), &mut |key, state| {
                keys.push(format!(
                    "{}{}",
                    String::from_utf8_lossy(key),
                    if state.is_empty() { " gone" } else { "" }
                ));
                keys.len() < most
            })
            .unwrap();
        keys
    };
    assert_eq!(list("", None, 9), ["a", "b", "b/1", "b/2 gone", "b/3", "c"]);
    assert_eq!(list("b", None, 9), ["b", "b/1", "b/2 gone", "b/3"]);
    assert_eq!(list("b", Some("b/1"), 9), ["b/2 gone", "b/3"]);
    assert_eq!(list("b", Some("a"), 2), ["b", "b/1"]);
    assert_eq!(list("b", Some("c"), 9), [""; 0]);
}

#[test]
fn what_is_too_large_is_refused_and_a_full_queue_says_busy() {
    let mut node = Node::new("a");
    node.settings.queue_bytes_max = 10_000;
    let engine = node.open();
    let long = "k".repeat(continuum_engine::keyspace::concepts::KEY_BYTES_MAX + 1);
    assert!(matches!(
        engine.commit(put(&long, "1"), Durability::Synced).wait(),
        Err(CommitError::Invalid(_))
    ));
    let heavy = Mutation::Apply(vec![Write {
        family: Family::Pool,
        key: b"x".to_vec(),
        value: Some(vec![0; 13 << 20]),
    }]);
    assert!(matches!(
        engine.commit(Batch::one(heavy), Durability::Synced).wait(),
        Err(CommitError::Invalid(_))
    ));
    let json = format!("\"{}\"", "x".repeat(3000));
    let pending: Vec<_> = (0..1000)
        .map(|_| engine.commit(put("k", &json), Durability::Synced))
        .collect();
    let outcomes: Vec<_> = pending.into_iter().map(continuum_engine::Pending::wait).collect();
    assert!(outcomes.iter().any(|outcome| matches!(outcome, Err(CommitError::Busy))));
    assert!(outcomes.iter().any(Result::is_ok));
    assert!(
        outcomes
            .iter()
            .all(|outcome| matches!(outcome, Ok(_) | Err(CommitError::Busy)))
    );
    write(&engine, put("k", "\"later\""));
}

#[test]
fn stamps_and_actors_of_others_survive_a_restart() {
    let node = Node::new("a");
    let engine = node.open();
    let stamped = |receipt: &Receipt| receipt.effects[0].state.entries.values().next().unwrap().stamp;
    let before = stamped(&write(&engine, put("k", "1")));
    let other = Actor::new("elsewhere", 9);
    let dot = Dot {
        actor: other,
        counter: 4,
    };
    let entry = Entry {
        stamp: Stamp(1),
        expires: None,
        content: Content::Register("7".to_owned()),
    };
    write(&engine, join("j", &State::single(dot, entry)));
    drop(engine);
    let node = node.power_cut(7);
    node.clock.0.store(5, Ordering::Relaxed);
    let engine = node.open();
    assert_eq!(read(&engine, "j"), ["7"]);
    assert!(
        stamped(&write(&engine, put("k", "2"))) > before,
        "the clock was set back, stamps were not"
    );
}
