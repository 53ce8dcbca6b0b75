//! What expires is deleted by the node that wrote it, and by no other.

use std::{collections::BTreeSet, sync::atomic::Ordering};

use continuum_engine::{
    Batch, CommitError, Due, Durability, Engine, Mutation, Supersede,
    clock::{Clock as _, Stamp},
    crdt::{Kind, Operation, State},
    due,
    keyspace::{
        codec,
        meta::{
            self, expiry,
            requests::{self, KEPT_US},
        },
    },
    store::{Family, View as _, end_of_prefix},
};

use crate::node::*;

/// The hand clock begins at this.
const START_MS: u64 = 1_000_000;

fn until(kind: Kind, json: &str, after_ms: u64) -> Operation {
    Operation::Put {
        kind,
        json: json.to_owned(),
        expires: Some(Stamp::from_milliseconds(START_MS + after_ms)),
    }
}

fn pass(node: &Node, milliseconds: u64) {
    node.clock.0.fetch_add(milliseconds * 1_000, Ordering::Relaxed);
}

fn look(node: &Node, engine: &Engine) -> Due {
    due(engine.view(), Stamp(0), node.clock.now()).unwrap()
}

/// Carries out all that is due; how many batches it took.
fn keep_up(node: &Node, engine: &Engine) -> usize {
    let mut batches = 0;
    loop {
        let Due { mutations, .. } = look(node, engine);
        if mutations.is_empty() {
            return batches;
        }
        let batch = Batch::of(mutations);
        assert!(batch.only_deletes());
        write(engine, batch);
        batches += 1;
    }
}

fn rows(node: &Node) -> BTreeSet<Vec<u8>> {
    let mut rows = BTreeSet::new();
    let (from, to) = (expiry::from(Stamp(0)), expiry::through(Stamp(u64::MAX)));
    let mut take = |row: &[u8], value: &[u8]| value.is_empty() && rows.insert(row.to_vec());
    node.store.scan(Family::Meta, &from, Some(&to), &mut take).unwrap();
    rows
}

fn state(engine: &Engine, key: &str) -> State {
    engine.concept(SPACE, key.as_bytes()).unwrap().unwrap()
}

#[test]
fn what_expires_becomes_a_tombstone_after_a_restart_and_a_power_cut_too() {
    for restart in [false, true] {
        let node = Node::new("a");
        let engine = node.open();
        write(&engine, Batch::one(local("k", until(Kind::Register, "1", 100))));
        write(&engine, put("other", "1"));
        let engine = if restart {
            engine.close().unwrap();
            drop(engine);
            node.open()
        } else {
            engine
        };
        assert_eq!(rows(&node).len(), 1);
        pass(&node, 99);
        assert_eq!(keep_up(&node, &engine), 0, "it has not expired");
        pass(&node, 1);
        let node = if restart { node.power_cut(7) } else { node };
        let engine = if restart { node.open() } else { engine };
        assert_eq!(keep_up(&node, &engine), 1);
        let state = state(&engine, "k");
        assert!(state.is_empty());
        assert_eq!(
            state.context.0[&engine.actor()],
            3,
            "a write, another, and the deletion"
        );
        assert_eq!(read(&engine, "other"), ["1"]);
        assert!(rows(&node).is_empty());
    }
}

#[test]
fn a_key_that_was_written_again_stays() {
    let node = Node::new("a");
    let engine = node.open();
    let expiring = |key, after_ms| Batch::one(local(key, until(Kind::Register, "1", after_ms)));
    for key in ["plain", "longer", "deleted", "twice"] {
        write(&engine, expiring(key, 100));
    }
    write(&engine, put("plain", "2"));
    write(&engine, expiring("longer", 200));
    write(&engine, delete("deleted"));
    write(&engine, expiring("twice", 100));
    assert_eq!(rows(&node).len(), 2, "only what is there expires");
    pass(&node, 150);
    keep_up(&node, &engine);
    assert_eq!(read(&engine, "plain"), ["2"]);
    assert_eq!(read(&engine, "longer"), ["1"]);
    assert!(read(&engine, "twice").is_empty());
    pass(&node, 50);
    keep_up(&node, &engine);
    assert!(read(&engine, "longer").is_empty());
    pass(&node, 1_000_000);
    let last = *engine.committed().borrow();
    assert_eq!(keep_up(&node, &engine), 0);
    assert_eq!(*engine.committed().borrow(), last);
}

#[test]
fn of_several_siblings_only_the_nodes_own_expired_ones_go() {
    let (a, b) = (Node::new("A"), Node::new("B"));
    let (at_a, at_b) = (a.open(), b.open());
    let sibling = |after_ms: Option<u64>| {
        let operation = match after_ms {
            Some(after_ms) => until(Kind::Siblings, "1", after_ms),
            None => Operation::Put {
                kind: Kind::Siblings,
                json: "2".to_owned(),
                expires: None,
            },
        };
        Batch::one(Mutation::Local {
            namespace: SPACE,
            key: b"k".to_vec(),
            operation,
            supersede: Supersede::Nothing,
        })
    };
    let foreign = write(&at_b, sibling(Some(90))).effects.remove(0).state;
    for after_ms in [Some(100), Some(200), None] {
        write(&at_a, sibling(after_ms));
    }
    write(&at_a, join("k", &foreign));
    assert_eq!(rows(&a).len(), 2, "none for what is another's");
    pass(&a, 100);
    keep_up(&a, &at_a);
    let left = state(&at_a, "k");
    let nodes: Vec<&str> = left.entries.keys().map(|dot| &*dot.actor.node).collect();
    assert_eq!(nodes, ["A", "A", "B"]);

    // The writer deletes it, and that reaches this node like any deletion.
    pass(&b, 100);
    keep_up(&b, &at_b);
    write(&at_a, join("k", &state(&at_b, "k")));
    assert_eq!(state(&at_a, "k").entries.len(), 2);
    // What A has deleted does not come back to it with B's older knowledge, and leaves no row.
    write(&at_a, join("k", &foreign));
    assert_eq!((state(&at_a, "k").entries.len(), rows(&a).len()), (2, 1));
}

#[test]
fn a_restored_node_deletes_what_it_wrote_in_its_former_lives() {
    let node = Node::new("a");
    let engine = node.open();
    write(&engine, Batch::one(local("k", until(Kind::Register, "1", 100))));
    engine.close().unwrap();
    let restored = node.power_cut(1);
    let mut identity: meta::Identity = meta::read(&*restored.store, meta::IDENTITY).unwrap().unwrap();
    identity.incarnation += 1_000_000;
    let bytes = codec::encode(&identity);
    restored.store.put(Family::Meta, meta::IDENTITY, &bytes);
    let engine = restored.open();
    assert_eq!(engine.actor().incarnation, identity.incarnation);
    // Another life wrote this; peers have it, and give it back.
    let other_life = Node::new("a").open();
    let given_back = write(&other_life, Batch::one(local("back", until(Kind::Register, "1", 100))));
    write(&engine, join("back", &given_back.effects[0].state));
    pass(&restored, 100);
    keep_up(&restored, &engine);
    for key in ["k", "back"] {
        assert!(state(&engine, key).is_empty(), "{key}");
    }
    assert!(rows(&restored).is_empty());
}

#[test]
fn much_that_is_due_comes_in_batches_bounded_by_number_and_size() {
    let node = Node::new("a");
    let engine = node.open();
    for part in 0..6 {
        let keys = (0..100).map(|key| local(&format!("{part} {key}"), until(Kind::Register, "1", 100)));
        write(&engine, Batch::of(keys.collect()));
    }
    pass(&node, 100);
    assert_eq!(keep_up(&node, &engine), 3, "600 keys, 256 at a time");
    let large = format!("\"{}\"", "x".repeat(20_000));
    for key in 0..30 {
        write(
            &engine,
            Batch::one(local(&key.to_string(), until(Kind::Register, &large, 150))),
        );
    }
    pass(&node, 50);
    assert_eq!(keep_up(&node, &engine), 3, "600 kB, 256 KiB at a time");
    assert!(rows(&node).is_empty());
    // Nothing is passed over twice by who goes on behind the last.
    write(&engine, Batch::one(local("k", until(Kind::Register, "1", 151))));
    pass(&node, 1);
    let Due { mutations, last } = look(&node, &engine);
    assert_eq!(mutations.len(), 1);
    assert!(
        due(engine.view(), last.next(), node.clock.now())
            .unwrap()
            .mutations
            .is_empty()
    );
}

#[test]
fn on_a_full_disk_what_has_expired_still_goes() {
    let mut node = Node::new("a");
    node.settings.free_hard_bytes = 8 << 10;
    node.settings.free_soft_bytes = 16 << 10;
    node.log.limit_space(Some(64 << 20));
    let engine = node.open();
    write(&engine, Batch::one(local("k", until(Kind::Register, "1", 100))));
    node.log.limit_space(Some(130 << 10));
    let refused = engine.commit(put("k", "2"), Durability::Synced).wait();
    assert!(matches!(refused, Err(CommitError::NoSpace { .. })), "{refused:?}");
    pass(&node, 100);
    assert_eq!(keep_up(&node, &engine), 1);
    assert!(state(&engine, "k").is_empty());
}

#[test]
fn old_requests_are_forgotten_with_it() {
    let node = Node::new("a");
    let engine = node.open();
    let request = |number: u64| continuum_engine::Request {
        id: format!("request {number:>8}"),
        body: [0; 16],
    };
    for number in 0..600 {
        let batch = Batch {
            request: Some(request(number)),
            ..add("count", 1)
        };
        write(&engine, batch);
        if number == 299 {
            pass(&node, 1);
        }
    }
    let count = || {
        let mut count = 0;
        let mut visit = |_: &[u8], _: &[u8]| {
            count += 1;
            true
        };
        for prefix in [&b"asked/"[..], b"request/"] {
            let to = end_of_prefix(prefix);
            node.store
                .scan(Family::Meta, prefix, to.as_deref(), &mut visit)
                .unwrap();
        }
        count
    };
    assert_eq!((keep_up(&node, &engine), count()), (0, 1_200));
    pass(&node, KEPT_US / 1_000 - 1);
    assert_eq!((keep_up(&node, &engine), count()), (2, 600));
    assert!(node.store.get(Family::Meta, &requests::asked(299)).unwrap().is_none());
    pass(&node, 1);
    assert_eq!((keep_up(&node, &engine), count()), (2, 0));
}
