//! Compare, then write: conditions are decided by the committer, over what earlier batches of the same group did.

use continuum_engine::{
    Batch, CommitError, Condition, Durability, Engine, Expected, Mutation, Supersede,
    crdt::{Kind, Operation, Rejected, Strategy},
    store::Family,
};

use crate::node::*;

fn on(key: &str, expected: Expected, mutations: Vec<Mutation>) -> Batch {
    let condition = Condition {
        namespace: SPACE,
        key: key.into(),
        expected,
    };
    Batch {
        conditions: vec![condition],
        ..Batch::of(mutations)
    }
}

fn seen(engine: &Engine, key: &str) -> Expected {
    let state = engine.concept(SPACE, key.as_bytes()).unwrap().unwrap_or_default();
    Expected::Seen(state.context)
}

#[test]
fn of_many_batches_in_one_group_with_the_same_expectation_one_is_written() {
    let engine = Node::new("a").open();
    write(&engine, put("k", "0"));
    for (round, expected) in [seen(&engine, "k"), seen(&engine, "new"), Expected::Nothing]
        .into_iter()
        .enumerate()
    {
        let key = ["k", "new", "newer"][round];
        // Queued at once, so that most share a group and nothing of the winner is in the store yet.
        let pending: Vec<_> = (0..50)
            .map(|value| {
                let batch = on(key, expected.clone(), vec![local(key, register(&value.to_string()))]);
                engine.commit(batch, Durability::Synced)
            })
            .collect();
        let outcomes: Vec<_> = pending.into_iter().map(continuum_engine::Pending::wait).collect();
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{key}");
        let winner = outcomes.iter().position(Result::is_ok).unwrap();
        assert_eq!(read(&engine, key), [winner.to_string()]);
        for refused in outcomes.into_iter().filter_map(Result::err) {
            let CommitError::Unexpected { index: 0, found } = refused else {
                panic!("{refused:?}")
            };
            assert_eq!(values(&found), [winner.to_string()], "the refusal shows what was found");
        }
    }
}

#[test]
fn a_failed_condition_leaves_no_trace_and_names_itself() {
    let engine = Node::new("a").open();
    let before = write(&engine, put("a", "1"));
    let mut batch = on(
        "b",
        Expected::Nothing,
        vec![local("b", register("2")), local("c", register("2"))],
    );
    batch.conditions.push(Condition {
        namespace: SPACE,
        key: b"a".to_vec(),
        expected: Expected::Nothing,
    });
    let refused = engine.commit(batch, Durability::Synced).wait().unwrap_err();
    assert!(
        matches!(refused, CommitError::Unexpected { index: 1, .. }),
        "{refused:?}"
    );
    assert!(read(&engine, "b").is_empty() && read(&engine, "c").is_empty());
    let after = write(&engine, put("d", "1"));
    assert_eq!(after.lsn.0, before.lsn.0 + 1, "no record");
}

#[test]
fn what_a_refused_batch_would_have_written_is_not_there_for_the_next_of_its_group() {
    let engine = Node::new("a").open();
    write(&engine, add("count", 1));
    // Queued at once, so that most follow their refused neighbour in one group.
    let pending: Vec<_> = (0..50)
        .map(|number| {
            let key = format!("k{number}");
            let half = vec![local(&key, register("1")), local("count", register("1"))];
            let refused = engine.commit(Batch::of(half), Durability::Synced);
            let next = on(&key, Expected::Nothing, vec![local(&key, register("2"))]);
            (key, refused, engine.commit(next, Durability::Synced))
        })
        .collect();
    for (key, refused, next) in pending {
        assert!(matches!(refused.wait(), Err(CommitError::Rejected { index: 1, .. })));
        next.wait().unwrap();
        assert_eq!(read(&engine, &key), ["2"]);
    }
}

#[test]
fn what_expired_is_nothing_and_what_was_deleted_is_not_what_was_read() {
    let node = Node::new("a");
    let engine = node.open();
    let expiring = Operation::Put {
        kind: Kind::Register,
        json: "1".to_owned(),
        expires: Some(continuum_engine::clock::Stamp::from_milliseconds(1_001_000)),
    };
    write(&engine, Batch::one(local("k", expiring)));
    let read_then = seen(&engine, "k");
    let create = || on("k", Expected::Nothing, vec![local("k", register("2"))]);
    let early = engine.commit(create(), Durability::Synced).wait();
    assert!(matches!(early, Err(CommitError::Unexpected { .. })));
    node.clock.0.fetch_add(2_000_000, std::sync::atomic::Ordering::Relaxed);
    write(&engine, create());
    write(&engine, delete("k"));
    let late = engine
        .commit(on("k", read_then, vec![local("k", register("3"))]), Durability::Synced)
        .wait();
    assert!(matches!(late, Err(CommitError::Unexpected { .. })));
    write(&engine, create());
    assert_eq!(read(&engine, "k"), ["2"]);
}

#[test]
fn a_deletion_by_one_who_read_nothing_is_decided_by_what_is_there_then() {
    let engine = Node::new("a").open();
    let unread = |strategy| Mutation::Local {
        namespace: SPACE,
        key: b"k".to_vec(),
        operation: Operation::Delete,
        supersede: Supersede::Unread(strategy),
    };
    // Within one batch: the deletion sees the put before it.
    let batch = Batch::of(vec![local("k", register("1")), unread(Strategy::LastWriteWins)]);
    let receipt = write(&engine, batch);
    assert!(!receipt.effects[0].took_away() && receipt.effects[1].took_away());
    assert!(read(&engine, "k").is_empty());
    write(&engine, put("k", "2"));
    let batch = Batch::of(vec![local("other", register("1")), unread(Strategy::KeepSiblings)]);
    let refused = engine.commit(batch, Durability::Synced).wait().unwrap_err();
    let expected = Rejected::ContextRequired;
    assert!(
        matches!(&refused, CommitError::Rejected { index: 1, reason } if *reason == expected),
        "{refused:?}"
    );
    assert_eq!(read(&engine, "k"), ["2"]);
}

#[test]
fn a_follower_may_ask_for_one_family() {
    let engine = Node::new("a").open();
    write(
        &engine,
        Batch::of(vec![local("k", register("1")), local("k", register("2"))]),
    );
    let mut follower = engine.follow("test", wal::Lsn::ZERO).unwrap();
    let followed = follower.next_in(&[Family::Concepts]).unwrap().unwrap();
    assert_eq!(followed.writes.len(), 2, "one for each write of the key");
    let last = followed.writes[1].value.as_ref().unwrap();
    assert_eq!(values(&engine.decode_concept(last).unwrap()), ["2"]);
    assert!(follower.next_in(&[Family::Concepts]).unwrap().is_none());
}
