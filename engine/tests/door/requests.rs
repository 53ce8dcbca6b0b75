//! A batch with a request id is carried out once: sent twice, at once, over restarts and power cuts, on a full disk.

use std::sync::atomic::Ordering;

use continuum_engine::{
    Batch, CommitError, Condition, Durability, Expected, Mutation, Pending, Receipt, Request,
    crdt::Operation,
    keyspace::meta::requests::{self, KEPT_US},
    store::{Family, View as _},
};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

use crate::node::*;

fn named(id: &str, batch: Batch) -> Batch {
    let body = u128::from(xxhash(&format!("{:?}", batch.mutations))).to_le_bytes();
    let id = id.to_owned();
    Batch {
        request: Some(Request { id, body }),
        ..batch
    }
}

/// Any digest will do here.
fn xxhash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

fn replayed(receipt: &Receipt) -> bool {
    assert_eq!(receipt.replayed.is_some(), receipt.effects.is_empty());
    receipt.replayed.is_some()
}

#[test]
fn sent_again_nothing_is_written_and_the_flags_of_the_first_time_are_told() {
    let engine = Node::new("a").open();
    write(&engine, put("old", "1"));
    let batch = || {
        let mutations = vec![
            local("old", Operation::Delete),
            local("never", Operation::Delete),
            local("count", Operation::Add { delta: 5 }),
        ];
        named("1", Batch::of(mutations))
    };
    let first = write(&engine, batch());
    assert!(!replayed(&first));
    write(&engine, put("old", "2"));
    let last = *engine.committed().borrow();
    let again = write(&engine, batch());
    let Some(flags) = &again.replayed else {
        panic!("carried out twice")
    };
    assert_eq!([0, 1, 2].map(|index| flags.took_away(index)), [true, false, false]);
    assert_eq!((again.lsn, *engine.committed().borrow()), (last, last), "no record");
    assert_eq!(read(&engine, "old"), ["2"], "not deleted again");
    assert_eq!(sum(&engine, "count"), 5);
}

#[test]
fn of_many_sent_at_once_under_one_id_one_is_carried_out() {
    let engine = Node::new("a").open();
    for round in 0..20 {
        let id = format!("round {round}");
        // Queued at once, so that most share a group and nothing of the first is in the store yet.
        let pending: Vec<_> = (0..50)
            .map(|_| engine.commit(named(&id, add("count", 1)), Durability::Synced))
            .collect();
        let receipts: Vec<_> = pending.into_iter().map(|pending| pending.wait().unwrap()).collect();
        assert_eq!(receipts.iter().filter(|receipt| !replayed(receipt)).count(), 1);
        assert_eq!(sum(&engine, "count"), round + 1);
    }
}

#[test]
fn another_batch_under_the_same_id_is_refused() {
    let engine = Node::new("a").open();
    let pending: Vec<_> = (1..50)
        .map(|delta| engine.commit(named("1", add("count", delta)), Durability::Synced))
        .collect();
    let outcomes: Vec<_> = pending.into_iter().map(Pending::wait).collect();
    assert!(outcomes[0].is_ok(), "the first is carried out");
    for outcome in &outcomes[1..] {
        assert!(matches!(outcome, Err(CommitError::RequestReused)), "{outcome:?}");
    }
    assert_eq!(sum(&engine, "count"), 1);
}

#[test]
fn a_refused_batch_is_not_remembered() {
    let engine = Node::new("a").open();
    let conditional = |expected| {
        let condition = Condition {
            namespace: SPACE,
            key: b"k".to_vec(),
            expected,
        };
        named(
            "1",
            Batch {
                conditions: vec![condition],
                ..add("count", 1)
            },
        )
    };
    write(&engine, put("k", "1"));
    let refused = engine.commit(conditional(Expected::Nothing), Durability::Synced).wait();
    assert!(matches!(refused, Err(CommitError::Unexpected { .. })));
    let mismatch = Batch::of(vec![
        local("count", Operation::Add { delta: 1 }),
        local("count", register("1")),
    ]);
    let refused = engine.commit(named("2", mismatch), Durability::Synced).wait();
    assert!(matches!(refused, Err(CommitError::Rejected { index: 1, .. })));
    for id in ["1", "2"] {
        assert!(!replayed(&write(&engine, named(id, add("count", 1)))), "{id} is free");
    }
    // Carried out, a condition that no longer holds is none of a replay's business.
    write(&engine, delete("k"));
    let batch = || Batch {
        conditions: conditional(Expected::Nothing).conditions,
        ..named("3", put("k", "2"))
    };
    assert!(!replayed(&write(&engine, batch())));
    assert!(replayed(&write(&engine, batch())));
    assert_eq!(sum(&engine, "count"), 2);
}

#[test]
fn on_a_full_disk_what_was_carried_out_is_told_and_what_is_new_is_refused() {
    let mut node = Node::new("a");
    node.settings.free_hard_bytes = 8 << 10;
    node.settings.free_soft_bytes = 16 << 10;
    node.log.limit_space(Some(64 << 20));
    let engine = node.open();
    write(&engine, named("1", add("count", 1)));
    for space in [130 << 10, 0] {
        node.log.limit_space(Some(space));
        let new = engine.commit(named("2", add("count", 1)), Durability::Synced).wait();
        assert!(matches!(new, Err(CommitError::NoSpace { .. })), "{new:?}");
        assert!(
            replayed(&write(&engine, named("1", add("count", 1)))),
            "with {space} bytes"
        );
    }
    node.log.limit_space(Some(64 << 20));
    assert!(
        !replayed(&write(&engine, named("2", add("count", 1)))),
        "the refusal left nothing"
    );
    assert_eq!(sum(&engine, "count"), 2);
}

#[test]
fn after_a_day_an_id_is_free_and_its_rows_are_let_go() {
    let node = Node::new("a");
    let engine = node.open();
    for id in 0..10 {
        write(&engine, named(&id.to_string(), add("count", 1)));
    }
    node.clock.0.fetch_add(KEPT_US - 1, Ordering::Relaxed);
    assert!(replayed(&write(&engine, named("3", add("count", 1)))));
    node.clock.0.fetch_add(1, Ordering::Relaxed);
    assert!(!replayed(&write(&engine, named("3", add("count", 1)))));
    write(&engine, Batch::one(Mutation::Forget { through: 9 }));
    let asked = |place| node.store.get(Family::Meta, &requests::asked(place)).unwrap();
    assert!((0..10).all(|place| asked(place).is_none()) && asked(10).is_some());
    let carried = |id: &str| node.store.get(Family::Meta, &requests::carried(id)).unwrap();
    assert!(carried("1").is_none() && carried("3").is_some(), "3 was used again");
    assert!(replayed(&write(&engine, named("3", add("count", 1)))));
}

const SEEDS: u64 = 300;
const LIVES: u64 = 3;

/// One request: what it moves the counter by, and whether its caller was told that it is carried out.
struct Asked {
    id: String,
    delta: i64,
    told: bool,
}

/// Every request is sent until it is acknowledged, over power cuts: the counter moves once for each.
fn run(seed: u64, prepare: impl Fn(&Node)) -> Result<[u64; 2], String> {
    let mut dice = SmallRng::seed_from_u64(seed);
    let mut node = Node::new("a");
    let mut total = 0;
    // Of those whose callers were not told: not carried out, carried out.
    let mut untold = [0; 2];
    for life in 0..LIVES {
        prepare(&node);
        let engine = node.try_open().map_err(|error| error.to_string())?;
        let mut waiting = Vec::new();
        let mut asked = Vec::new();
        for number in 0..dice.random_range(1..40) {
            let (id, delta) = (format!("{life} {number}"), dice.random_range(1..1_000));
            // Who does not wait for the sync is told nothing that a power cut would leave true.
            let durability = if dice.random_bool(0.7) {
                Durability::Synced
            } else {
                Durability::Buffered
            };
            let pending = engine.commit(named(&id, add("count", delta)), durability);
            waiting.push((id, delta, durability, pending));
            if dice.random_bool(0.3) {
                let (id, delta, durability, pending) = waiting.swap_remove(dice.random_range(0..waiting.len()));
                let told = pending.wait().is_ok() && durability == Durability::Synced;
                asked.push(Asked { id, delta, told });
            }
        }
        let survivor = node.power_cut(seed * LIVES + life);
        for (id, delta, durability, pending) in waiting {
            let told = pending.wait().is_ok() && durability == Durability::Synced;
            asked.push(Asked { id, delta, told });
        }
        drop(engine);
        node = survivor;
        let engine = node.try_open().map_err(|error| error.to_string())?;
        for Asked { id, delta, told } in asked {
            let receipt = write(&engine, named(&id, add("count", delta)));
            if told && !replayed(&receipt) {
                return Err(format!("{id} was acknowledged and carried out again"));
            }
            if !told {
                untold[usize::from(replayed(&receipt))] += 1;
            }
            total += i128::from(delta);
        }
        let found = sum(&engine, "count");
        if found != total {
            return Err(format!("the counter shows {found}, {total} was asked for"));
        }
        if dice.random_bool(0.5) {
            engine.close().map_err(|error| error.to_string())?;
        }
    }
    Ok(untold)
}

#[test]
fn over_power_cuts_each_request_counts_once() {
    let mut untold = [0; 2];
    for seed in 0..SEEDS {
        match run(seed, |_| ()) {
            Ok(of_seed) => untold = [untold[0] + of_seed[0], untold[1] + of_seed[1]],
            Err(violation) => panic!("seed {seed}: {violation}"),
        }
    }
    assert!(untold.iter().all(|cases| *cases > 0), "both must be met: {untold:?}");
}

#[test]
fn syncs_that_lie_are_noticed_here_too() {
    let noticed = (0..30)
        .filter(|&seed| run(seed, |node| node.log.lie_about_syncs()).is_err())
        .count();
    assert!(
        noticed > 5,
        "only {noticed} of 30 seeds noticed that nothing was synced"
    );
}
