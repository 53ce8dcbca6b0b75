//! Backups of a node that is being written to, and what restored copies of it may never do.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use continuum_engine::{
    Batch, CommitError, Durability, Engine, Environment, Mutation, Occupied, Operation, Settings,
    backup::{self, Restore},
    clock::Timestamp,
    identity::Actor,
    json::Anonymiser,
    keyspace::{
        concepts, dots, meta,
        raft_state::{self, Applied, Installing},
    },
    ledger::{self, Command, NodeId, Outcome, PoolConcept, Proposal},
    store::{
        Change, Error, Family, Files, Store, Table, View,
        rocks::{Reader, Rocks},
    },
};
use parking_lot::Mutex;
use wal::{Lsn, storage::Faulty};

use crate::node::*;

fn settings() -> Settings {
    Settings {
        segment_bytes: 1 << 20,
        flush_log_bytes: 256 << 10,
        free_soft_bytes: 0,
        free_hard_bytes: 0,
        ..Settings::default()
    }
}

fn open_as(directory: &Path, node: &str) -> Engine {
    let environment = Environment::in_directory(directory, &settings(), node, hand(), entropy).unwrap();
    Engine::open(settings(), environment).unwrap()
}

/// Two keys that are always written together.
fn pair(writer: u64, value: u64) -> Batch {
    let json = value.to_string();
    let side = |side: &str| local(&format!("{writer} {side}"), register(&json));
    Batch::of(vec![side("left"), side("right")])
}

fn found(reader: &Reader, key: &str) -> u64 {
    let row = reader
        .get(Family::Concepts, &concepts::key(SPACE, key.as_bytes()))
        .unwrap();
    let Some(row) = row else { return 0 };
    let state = concepts::decode(&row, &meta::actors(reader).unwrap()).unwrap();
    values(&state)[0].parse().unwrap()
}

#[test]
fn a_backup_under_load_is_one_moment_and_says_which() {
    const WRITERS: u64 = 4;
    let place = tempfile::tempdir().unwrap();
    let engine = open_as(&place.path().join("node"), "a");
    // LSN of every value, by writer; values count up from 1.
    let written: Vec<Mutex<Vec<Lsn>>> = (0..WRITERS).map(|_| Mutex::default()).collect();
    let done = AtomicBool::new(false);
    let mut backups = Vec::new();
    std::thread::scope(|scope| {
        for (writer, written) in (0..).zip(&written) {
            let (engine, done) = (&engine, &done);
            scope.spawn(move || {
                let durability = if writer % 2 == 0 {
                    Durability::Synced
                } else {
                    Durability::Buffered
                };
                for value in 1.. {
                    if done.load(Ordering::SeqCst) {
                        break;
                    }
                    let receipt = loop {
                        match engine.commit(pair(writer, value), durability).wait() {
                            Err(CommitError::Busy) => std::thread::yield_now(),
                            outcome => break outcome.unwrap(),
                        }
                    };
                    written.lock().push(receipt.lsn);
                }
            });
        }
        for number in 0..8 {
            // Every writer has written since the last one.
            let before: Vec<usize> = written.iter().map(|written| written.lock().len()).collect();
            while written
                .iter()
                .zip(&before)
                .any(|(written, before)| written.lock().len() < before + 20)
            {
                std::thread::yield_now();
            }
            let acknowledged: Vec<u64> = written.iter().map(|written| written.lock().len() as u64).collect();
            let path = place.path().join(format!("backup {number}"));
            let manifest = engine.checkpoint(&path, Timestamp(number)).unwrap();
            assert!(
                *engine.committed().borrow() >= manifest.lsn,
                "it holds what is not synced"
            );
            backups.push((path, manifest, acknowledged));
        }
        done.store(true, Ordering::SeqCst);
    });
    for (path, manifest, acknowledged) in backups {
        backup::verify(&path, &mut |_, _| {}).unwrap();
        let reader = Reader::open(&path.join("db")).unwrap();
        assert_eq!(meta::applied(&reader).unwrap(), manifest.lsn);
        for (writer, (written, acknowledged)) in (0..).zip(written.iter().zip(acknowledged)) {
            let value = found(&reader, &format!("{writer} left"));
            assert_eq!(found(&reader, &format!("{writer} right")), value, "half of a batch");
            assert!(
                value >= acknowledged,
                "{acknowledged} was acknowledged before, {value} is in it"
            );
            let written = written.lock();
            assert!(written[value as usize - 1] <= manifest.lsn);
            assert!(written.get(value as usize).is_none_or(|next| *next > manifest.lsn));
        }
    }
}

/// A database that cuts the power while a checkpoint is made of it.
struct Cut {
    rocks: Rocks,
    log: Faulty,
    seed: u64,
    /// What was in the database then, and what survived of the log.
    seen: Mutex<Option<(Lsn, Faulty)>>,
}

impl View for Cut {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.rocks.get(family, key)
    }
    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        self.rocks.scan(family, from, to, visit)
    }
}

impl Store for Cut {
    fn write(&self, changes: &[Change<'_>]) -> Result<(), Error> {
        self.rocks.write(changes)
    }
    fn flush(&self) -> Result<(), Error> {
        self.rocks.flush()
    }
    fn at_one_moment(&self, read: &mut dyn FnMut(&dyn View)) {
        self.rocks.at_one_moment(read);
    }
    fn get_durable(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.rocks.get_durable(family, key)
    }
    fn files(&self) -> Option<&dyn Files> {
        Some(self)
    }
}

impl Files for Cut {
    fn directory(&self) -> &Path {
        self.rocks.files().unwrap().directory()
    }
    fn checkpoint(&self, directory: &Path) -> Result<(), Error> {
        let survived = self.log.power_cut(self.seed);
        self.rocks.files().unwrap().checkpoint(directory)?;
        let reader = Reader::open(directory)?;
        *self.seen.lock() = Some((meta::applied(&reader)?, survived));
        Ok(())
    }
    fn tables(&self, family: Family) -> Result<Vec<Table>, Error> {
        self.rocks.files().unwrap().tables(family)
    }
    fn rewrite(&self, family: Family, from: Option<&[u8]>, to: Option<&[u8]>) -> Result<(), Error> {
        self.rocks.files().unwrap().rewrite(family, from, to)
    }
}

#[test]
fn a_backup_is_never_ahead_of_the_synced_log() {
    for seed in 0..10 {
        let place = tempfile::tempdir().unwrap();
        let (log, rocks) = (
            Faulty::new(),
            Rocks::open(&place.path().join("db"), &Default::default()).unwrap(),
        );
        let store = Arc::new(Cut {
            rocks,
            log: log.clone(),
            seed,
            seen: Mutex::default(),
        });
        let node = Node::new("a");
        let environment = Environment {
            log: Arc::new(log),
            store: Arc::clone(&store) as Arc<dyn Store>,
            ..node.environment()
        };
        let engine = Engine::open(settings(), environment).unwrap();
        // Applied at once, synced only later.
        for value in 0..20 {
            engine
                .commit(put("k", &value.to_string()), Durability::Buffered)
                .wait()
                .unwrap();
        }
        let _ = engine.checkpoint(&place.path().join("backup"), Timestamp(1));
        drop(engine);
        let (applied, survived) = store.seen.lock().take().expect("a checkpoint was made");
        assert_eq!(applied, Lsn(20));
        let (log, _) = wal::Log::open(Arc::new(survived), wal::Settings::default(), &[]).unwrap();
        assert!(
            log.last() >= applied,
            "seed {seed}: the log ends at {}, the backup at {applied}",
            log.last()
        );
    }
}

fn contribute(engine: &Engine, texts: std::ops::Range<u32>) {
    let cluster: String = engine.cluster().iter().map(|byte| format!("{byte:02x}")).collect();
    let concept = |text: u32| {
        let concept = serde_json::json!({"name": text});
        PoolConcept::new(concept, &Anonymiser::default()).expect("a name is left")
    };
    let count = texts.len() as u64;
    let proposal = Proposal {
        at: Timestamp(1),
        idempotency: None,
        command: Command::Contribute {
            node: NodeId::new("member").unwrap(),
            concepts: texts.map(concept).collect(),
        },
    };
    let mut overlay = ledger::Overlay::new(engine.view(), &cluster);
    let decision = ledger::apply(&mut overlay, proposal).unwrap();
    assert!(matches!(decision.outcome, Outcome::Contributed { new, .. } if new == count));
    engine.commit(overlay.into_batch(), Durability::Synced).wait().unwrap();
}

/// Every dot given out, the pool's included.
fn all_dots(engine: &Engine) -> BTreeSet<(Actor, u64)> {
    let actors = meta::actors(engine.view()).unwrap();
    let mut found = BTreeSet::new();
    let mut take = |key: &[u8], _: &[u8]| {
        let (actor, counter) = dots::split(key).unwrap();
        found.insert((actors.actor(actor).unwrap(), counter))
    };
    engine.view().scan(Family::Dots, &[], None, &mut take).unwrap();
    found
}

#[test]
fn two_restores_of_one_backup_never_give_out_the_same_dot() {
    let place = tempfile::tempdir().unwrap();
    let node = open_as(&place.path().join("node"), "a");
    for key in 0..20 {
        write(&node, put(&format!("k{key}"), "1"));
    }
    contribute(&node, 0..10);
    let backup = place.path().join("backup");
    node.checkpoint(&backup, Timestamp(1)).unwrap();
    let before = all_dots(&node);
    assert_eq!(before.len(), 30);
    // The node itself goes on as well.
    let mut lives: BTreeMap<String, BTreeSet<(Actor, u64)>> = BTreeMap::new();
    let mut live_on = |engine: &Engine, life: u32| {
        for key in 0..20 {
            write(engine, put(&format!("k{key}"), &life.to_string()));
        }
        contribute(engine, 100 * life..100 * life + 10);
        let new = &all_dots(engine) - &before;
        assert_eq!(new.len(), 30, "every write has a dot of its own");
        lives.insert(life.to_string(), new);
    };
    live_on(&node, 1);
    for life in 2..4 {
        let target = place.path().join(life.to_string());
        let options = Restore {
            node: None,
            rejoin: false,
            entropy,
        };
        backup::restore(&backup, &target, &options, &settings(), &mut |_, _| {}).unwrap();
        let engine = open_as(&target, "a");
        assert_eq!(all_dots(&engine), before);
        live_on(&engine, life);
    }
    let all: BTreeSet<_> = lives.values().flatten().collect();
    assert_eq!(all.len(), 90, "a dot was given out twice");
}

#[test]
fn half_a_ledger_is_not_backed_up() {
    let place = tempfile::tempdir().unwrap();
    let engine = open_as(&place.path().join("node"), "a");
    contribute(&engine, 0..5);
    let row = Installing {
        file: "image".to_owned(),
        then: Applied::default(),
    };
    let frame = |write| {
        engine
            .commit(Batch::one(Mutation::Raft(vec![write])), Durability::Synced)
            .wait()
            .unwrap()
    };
    frame(raft_state::put(&row));
    let expected = Occupied {
        by: Operation::Installation,
    };
    let (backup, cut) = (place.path().join("backup"), place.path().join("cut"));
    for refused in [
        engine.checkpoint(&backup, Timestamp(1)).map(drop),
        engine.cut(&cut, Timestamp(1)).map(drop),
    ] {
        match refused {
            Err(backup::Error::Occupied(occupied)) => assert_eq!(occupied, expected),
            other => panic!("{other:?}"),
        }
    }
    assert!(expected.to_string().contains("try again"), "{expected}");
    let names = std::fs::read_dir(place.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["node"], "nothing of it is left");
    frame(raft_state::delete::<Installing>());
    engine.checkpoint(&backup, Timestamp(1)).unwrap();
    engine.cut(&cut, Timestamp(1)).unwrap();
}
