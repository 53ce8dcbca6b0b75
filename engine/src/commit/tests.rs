use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use wal::{Lsn, storage::Faulty};

use super::*;
use crate::{
    Engine, Environment, OpenError, Settings,
    clock::{Clock, Stamp, Timestamp},
    crdt::{Content, Kind, Operation, State, VersionVector},
    identity::Actor,
    store::{Family, View as _, memory::Memory},
};

const SPACE: NamespaceId = NamespaceId::FIRST_USER;

/// A clock that the test moves.
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

/// One node whose process can be killed and whose power can be cut.
struct Node {
    name: &'static str,
    clock: Arc<Hand>,
    log: Faulty,
    store: Arc<Memory>,
    settings: Settings,
}

fn entropy() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Node {
    fn new(name: &'static str) -> Node {
        let settings = Settings {
            segment_bytes: 256 << 10,
            flush_log_bytes: 64 << 10,
            free_soft_bytes: 0,
            free_hard_bytes: 0,
            ..Settings::default()
        };
        let clock = Arc::new(Hand(AtomicU64::new(1_000_000_000)));
        Node { name, clock, log: Faulty::new(), store: Arc::new(Memory::new()), settings }
    }

    fn environment(&self) -> Environment {
        Environment {
            node: self.name.to_owned(),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            entropy,
            log: Arc::new(self.log.clone()),
            store: Arc::clone(&self.store) as Arc<dyn crate::store::Store>,
        }
    }

    fn try_open(&self) -> Result<Engine, OpenError> {
        Engine::open(self.settings.clone(), self.environment())
    }

    fn open(&self) -> Engine {
        self.try_open().unwrap()
    }
}

fn put(key: &str, json: &str) -> Batch {
    put_seen(key, json, Supersede::All)
}

fn put_seen(key: &str, json: &str, supersede: Supersede) -> Batch {
    let operation = Operation::Put { kind: Kind::Register, json: json.to_owned(), expires: None };
    Batch::one(Mutation::Local { namespace: SPACE, key: key.into(), operation, supersede })
}

fn delete(key: &str) -> Batch {
    let operation = Operation::Delete;
    Batch::one(Mutation::Local { namespace: SPACE, key: key.into(), operation, supersede: Supersede::All })
}

fn join(key: &str, state: &State) -> Batch {
    Batch::one(Mutation::Join { namespace: SPACE, key: key.into(), state: state.clone() })
}

fn values(state: &State) -> Vec<&str> {
    let text = |content| match content {
        &Content::Register(ref json) => json.as_str(),
        other => panic!("{other:?}"),
    };
    state.entries.values().map(|entry| text(&entry.content)).collect()
}

fn read(engine: &Engine, key: &str) -> Vec<String> {
    let state = engine.concept(SPACE, key.as_bytes()).unwrap().unwrap_or_default();
    values(&state).into_iter().map(str::to_owned).collect()
}

fn write(engine: &Engine, batch: Batch) -> Receipt {
    engine.commit(batch, Durability::Synced).wait().unwrap()
}

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

    node.store.crash();
    let node = Node { log: node.log.power_cut(7), ..node };
    let engine = node.open();
    assert_eq!(engine.actor(), actor);
    assert_eq!(read(&engine, "k"), ["2"]);
    assert_eq!(engine.concept(SPACE, b"other").unwrap().map(|state| state.is_empty()), Some(true), "a tombstone");
    assert_eq!(engine.concept(SPACE, b"never").unwrap(), None);
    let next = write(&engine, put("k", "4"));
    assert_eq!(next.lsn, Lsn(5));
    assert_eq!(next.effects[0].state.context, VersionVector([(actor, 5)].into()), "dots go on");
}

#[test]
fn a_closed_engine_is_opened_without_replay_and_takes_no_more_writes() {
    let node = Node::new("a");
    let engine = node.open();
    write(&engine, put("k", "1"));
    engine.close().unwrap();
    engine.close().unwrap();
    assert!(matches!(engine.commit(put("k", "2"), Durability::Synced).wait(), Err(CommitError::Stopped(_))));
    node.store.crash();
    assert_eq!(meta_applied(&node), Lsn(1), "flushed");
    let engine = node.open();
    assert_eq!(read(&engine, "k"), ["1"]);
}

fn meta_applied(node: &Node) -> Lsn {
    crate::keyspace::meta::applied(&*node.store).unwrap()
}

#[test]
fn two_nodes_converge_on_a_clock_of_both() {
    let (a, b) = (Node::new("A"), Node::new("B"));
    let (a, b) = (a.open(), b.open());
    let of_a = write(&a, put("k", "\"a\"")).effects.remove(0).state;
    let of_b = write(&b, put("k", "\"b\"")).effects.remove(0).state;
    write(&a, join("k", &of_b));
    write(&b, join("k", &of_a));
    let (at_a, at_b) = (a.concept(SPACE, b"k").unwrap().unwrap(), b.concept(SPACE, b"k").unwrap().unwrap());
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
    let apply = |family| Batch::one(Mutation::Apply(vec![Write { family, key: b"x".to_vec(), value: Some(b"y".to_vec()) }]));
    write(&engine, apply(Family::Ledger));
    assert_eq!(engine.view().get(Family::Ledger, b"x").unwrap().as_deref(), Some(&b"y"[..]));
    for family in [Family::Concepts, Family::ConceptIndex, Family::Dots, Family::Meta] {
        let outcome = engine.commit(apply(family), Durability::Synced).wait();
        assert!(matches!(outcome, Err(CommitError::Invalid(_))), "{family:?}: {outcome:?}");
    }
}

#[test]
fn stamps_and_actors_of_others_survive_a_restart() {
    let node = Node::new("a");
    let engine = node.open();
    let stamped = |receipt: &Receipt| receipt.effects[0].state.entries.values().next().unwrap().stamp;
    let before = stamped(&write(&engine, put("k", "1")));
    let other = Actor::new("elsewhere", 9);
    let dot = crate::crdt::Dot { actor: other, counter: 4 };
    let entry = crate::crdt::Entry { stamp: Stamp(1), expires: None, content: Content::Register("7".to_owned()) };
    write(&engine, join("j", &State::single(dot, entry)));
    drop(engine);
    node.store.crash();
    node.clock.0.store(5, Ordering::Relaxed);
    let engine = node.open();
    assert_eq!(read(&engine, "j"), ["7"]);
    assert!(stamped(&write(&engine, put("k", "2"))) > before, "the clock was set back, stamps were not");
}
