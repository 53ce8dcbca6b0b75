//! Whom the engine opens for, and whom it refuses with what to do.

use std::sync::Arc;

use continuum_engine::{
    format,
    keyspace::{codec, meta},
    store::{Change, Family, Store as _, memory::Memory},
};
use wal::{Lsn, storage::Faulty};

use crate::node::*;

fn refusal(node: &Node) -> String {
    node.try_open().err().expect("refused").to_string()
}

#[test]
fn another_name_is_refused() {
    let node = Node::new("a");
    drop(node.open());
    let renamed = Node { name: "b", ..node };
    let refusal = refusal(&renamed);
    assert!(
        refusal.contains("\"a\"") && refusal.contains("\"b\"") && refusal.contains("data directory of its own"),
        "{refusal}"
    );
}

#[test]
fn a_newer_format_is_refused() {
    let node = Node::new("a");
    drop(node.open());
    node.store.put(
        Family::Meta,
        meta::FORMAT,
        &codec::encode(&meta::Format(format::CURRENT + 1)),
    );
    assert!(refusal(&node).contains("start the newer build"));
}

#[test]
fn a_log_without_its_store_and_a_store_with_another_log_are_refused() {
    let node = Node::new("a");
    write(&node.open(), put("k", "1"));
    let orphan = Node {
        store: Arc::new(Memory::new()),
        log: node.log.copy(),
        ..Node::new("a")
    };
    assert!(refusal(&orphan).contains("the store beside it is empty"));
    let other = Node::new("a");
    drop(other.open());
    let mixed = Node {
        store: node.store,
        log: other.log,
        ..Node::new("a")
    };
    assert!(refusal(&mixed).contains("bring together"), "{}", refusal(&mixed));
}

#[test]
fn a_store_ahead_of_its_log_is_left_a_hole() {
    let node = Node::new("a");
    write(&node.open(), put("k", "1"));
    let applied = meta::encode_applied(Lsn(10));
    node.store
        .write(&[Change {
            family: Family::Meta,
            key: meta::APPLIED_LSN,
            value: Some(&applied),
        }])
        .unwrap();
    let engine = node.open();
    assert_eq!(*engine.committed().borrow(), Lsn(10));
    assert_eq!(write(&engine, put("k", "2")).lsn, Lsn(11));
    drop(engine);
    assert_eq!(read(&node.power_cut(0).open(), "k"), ["2"]);
}

#[test]
fn a_store_whose_log_is_gone_is_refused() {
    let mut node = Node::new("a");
    write(&node.open(), put("k", "1"));
    node.log = Faulty::new();
    let Err(continuum_engine::OpenError::Refused(refusal)) = node.try_open() else {
        panic!("records after the last flush are missing, and nobody was told");
    };
    assert!(refusal.contains("its log is gone"), "{refusal}");
}

#[test]
fn damage_to_acknowledged_records_is_refused_with_the_place() {
    let node = Node::new("a");
    let engine = node.open();
    for value in 0..20 {
        write(&engine, put("k", &value.to_string()));
    }
    drop(engine);
    let name = "00000000000000000001.log";
    let name = if wal::storage::Storage::list(&node.log)
        .unwrap()
        .iter()
        .any(|found| found == name)
    {
        name
    } else {
        "00000000000000000000.log"
    };
    node.log.flip_bit(name, 4096 + 60, 3);
    let refusal = refusal(&node);
    assert!(refusal.contains(name) && refusal.contains("damaged"), "{refusal}");
}

#[test]
fn secrets_and_identity_are_drawn_once() {
    let node = Node {
        log: Faulty::new(),
        ..Node::new("a")
    };
    let engine = node.open();
    let first = (engine.actor(), engine.cluster(), *engine.context_key());
    assert!(first.1 != [0; 16] && first.2 != [0; 32]);
    drop(engine);
    let engine = node.power_cut(5).open();
    assert_eq!(
        (engine.actor(), engine.cluster(), *engine.context_key()),
        first,
        "durable before the first write"
    );
    let other = Node::new("a").open();
    assert_ne!(
        other.actor(),
        first.0,
        "the same name in another directory is another actor"
    );
    assert_ne!(other.context_key(), &first.2);
}
