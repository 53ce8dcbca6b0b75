//! Power cuts at any moment of a running engine: three lives for each seed, checked against a history of every key.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU64, Ordering},
};

use continuum_engine::{
    Batch, CommitError, Durability, Engine, Mutation, Pending, Supersede,
    clock::Stamp,
    crdt::{Kind, Operation},
    keyspace::{
        concept_index, concepts, dots,
        meta::{self, expiry},
    },
    store::{Family, View as _},
};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

use crate::node::*;

const SEEDS: u64 = 1000;
const WORKERS: usize = 4;
const LIVES: u64 = 3;
const KEYS: u32 = 12;

/// Every write ever offered to one key, in order, and which of them the store must show at least.
#[derive(Default)]
struct History {
    /// `None` is a delete.
    written: Vec<Option<u64>>,
    /// How many of `written` are covered by an acknowledgement.
    acknowledged: usize,
}

#[derive(Default)]
struct World {
    keys: BTreeMap<u32, History>,
    next_value: u64,
    /// The highest dot counter any caller was told of.
    counter_told: u64,
}

/// A commit on its way: the key, its place in the key's history, and whether it asked to be synced.
struct Offered {
    key: u32,
    place: usize,
    synced: bool,
    pending: Pending,
}

/// Each key has a twin that is written in the same batch: they must never differ.
fn names(key: u32) -> [String; 2] {
    [format!("k{key}"), format!("twin of k{key}")]
}

fn offer(world: &mut World, engine: &Engine, dice: &mut SmallRng) -> Offered {
    let key = dice.random_range(0..KEYS);
    let history = world.keys.entry(key).or_default();
    let value = dice.random_bool(0.85).then(|| {
        world.next_value += 1;
        world.next_value
    });
    history.written.push(value);
    let padding = "x".repeat(dice.random_range(0..400));
    let operation = match value {
        Some(value) => Operation::Put {
            kind: Kind::Register,
            json: format!("[{value},\"{padding}\"]"),
            // Long after the test: only the rows that say when are looked at.
            expires: dice.random_bool(0.3).then(|| Stamp(u64::MAX - dice.random_range(0..3))),
        },
        None => Operation::Delete,
    };
    let mutation = |name: &String| Mutation::Local {
        namespace: SPACE,
        key: name.as_bytes().to_vec(),
        operation: operation.clone(),
        supersede: Supersede::All,
    };
    let batch = Batch::of(names(key).iter().map(mutation).collect());
    let synced = dice.random_bool(0.8);
    let durability = if synced {
        Durability::Synced
    } else {
        Durability::Buffered
    };
    Offered {
        key,
        place: history.written.len(),
        synced,
        pending: engine.commit(batch, durability),
    }
}

/// Waits for one commit and takes down what its answer promises.
fn hear(world: &mut World, offered: Offered) -> Result<(), CommitError> {
    let receipt = offered.pending.wait()?;
    if offered.synced {
        let history = world.keys.get_mut(&offered.key).unwrap();
        history.acknowledged = history.acknowledged.max(offered.place);
        for effect in receipt.effects {
            let told = effect.state.context.0.values().copied().max().unwrap_or(0);
            world.counter_told = world.counter_told.max(told);
        }
    }
    Ok(())
}

fn live(world: &mut World, engine: &Engine, dice: &mut SmallRng) -> Vec<Offered> {
    let mut waiting = Vec::new();
    for _ in 0..dice.random_range(1..60) {
        waiting.push(offer(world, engine, dice));
        if dice.random_bool(0.2) {
            let offered = waiting.swap_remove(dice.random_range(0..waiting.len()));
            let heard = hear(world, offered);
            assert!(
                matches!(heard, Ok(()) | Err(CommitError::Busy)),
                "before the cut: {heard:?}"
            );
        }
    }
    waiting
}

fn shown(engine: &Engine, name: &str) -> Option<u64> {
    let state = engine.concept(SPACE, name.as_bytes()).unwrap()?;
    let text = values(&state)
        .first()?
        .trim_start_matches('[')
        .split(',')
        .next()?
        .to_owned();
    Some(text.parse().unwrap())
}

/// What must hold after the power is back; the histories then go on from what was found.
fn check(world: &mut World, engine: &Engine, node: &Node) -> Result<(), String> {
    for (key, history) in &mut world.keys {
        let [found, twin] = names(*key).map(|name| shown(engine, &name));
        if found != twin {
            return Err(format!("half a batch: key {key} has {found:?}, its twin {twin:?}"));
        }
        let at_least = history.acknowledged;
        let may_be_absent = at_least == 0;
        let matching = (at_least.max(1)..=history.written.len())
            .rev()
            .find(|place| history.written[place - 1] == found);
        match matching {
            Some(place) => history.written.truncate(place),
            None if found.is_none() && may_be_absent => history.written.clear(),
            None => {
                return Err(format!(
                    "key {key} shows {found:?}, acknowledged was write {at_least} of {:?}",
                    history.written
                ));
            }
        }
        history.acknowledged = history.written.len();
    }
    check_rows(node)?;
    let next = engine
        .commit(put("next", "0"), Durability::Synced)
        .wait()
        .map_err(|error| error.to_string())?;
    let counter = next.effects[0].state.context.0[&engine.actor()];
    if counter <= world.counter_told {
        return Err(format!(
            "dot {counter} was given out again, {} was told before",
            world.counter_told
        ));
    }
    world.counter_told = counter;
    Ok(())
}

/// Every concept has its index row, every present value the row of its dot, and those that expire, and no others, a row that
/// says when.
fn check_rows(node: &Node) -> Result<(), String> {
    let actors = meta::actors(&*node.store).unwrap();
    let mut missing = None;
    let mut expiries = BTreeSet::new();
    node.store
        .scan(Family::Concepts, &[], None, &mut |key, value| {
            let has_index = node
                .store
                .get(Family::ConceptIndex, &concept_index::key(key))
                .unwrap()
                .is_some();
            let state = concepts::decode(value, &actors).unwrap();
            let has_dots = state.entries.keys().all(|dot| {
                let row = dots::key(actors.number(&dot.actor).unwrap(), dot.counter);
                node.store
                    .get(Family::Dots, &row)
                    .unwrap()
                    .as_deref()
                    .and_then(dots::decode)
                    == Some(key)
            });
            let stamps = state.entries.values().filter_map(|entry| entry.expires);
            expiries.extend(stamps.map(|stamp| expiry::key(stamp, key)));
            if !has_index || !has_dots {
                missing = Some(format!(
                    "{}: index {has_index}, dots {has_dots}",
                    String::from_utf8_lossy(key)
                ));
            }
            missing.is_none()
        })
        .unwrap();
    let mut rows = BTreeSet::new();
    let (from, to) = (expiry::from(Stamp(0)), expiry::through(Stamp(u64::MAX)));
    node.store
        .scan(Family::Meta, &from, Some(&to), &mut |row, _| rows.insert(row.to_vec()))
        .unwrap();
    if rows != expiries {
        return Err(format!("{} rows for {} that expire", rows.len(), expiries.len()));
    }
    missing.map_or(Ok(()), Err)
}

fn run(seed: u64, prepare: impl Fn(&Node)) -> Result<(), String> {
    let mut dice = SmallRng::seed_from_u64(seed);
    let mut world = World::default();
    let mut node = Node::new("a");
    for life in 0..LIVES {
        prepare(&node);
        let engine = node.try_open().map_err(|error| error.to_string())?;
        let waiting = live(&mut world, &engine, &mut dice);
        let survivor = node.power_cut(seed * LIVES + life);
        for offered in waiting {
            // Whatever was not answered by now is told that the engine has stopped: it may have happened or not.
            let _ = hear(&mut world, offered);
        }
        drop(engine);
        node = survivor;
        let engine = node.try_open().map_err(|error| error.to_string())?;
        check(&mut world, &engine, &node)?;
        if dice.random_bool(0.5) {
            engine.close().map_err(|error| error.to_string())?;
        }
        drop(engine);
    }
    Ok(())
}

#[test]
fn no_acknowledged_write_is_lost_over_a_thousand_seeds() {
    // Most of a seed is threads waiting for one another: several seeds at a time keep the cores busy.
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let seed @ 0..SEEDS = next.fetch_add(1, Ordering::Relaxed) {
                    if let Err(violation) = run(seed, |_| ()) {
                        panic!("seed {seed}: {violation}");
                    }
                }
            });
        }
    });
}

#[test]
fn syncs_that_lie_are_noticed() {
    let violations = (0..50)
        .filter(|&seed| run(seed, |node| node.log.lie_about_syncs()).is_err())
        .count();
    assert!(
        violations > 10,
        "only {violations} of 50 seeds noticed that nothing was synced"
    );
}
