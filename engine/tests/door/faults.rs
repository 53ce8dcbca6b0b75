//! The disk fails, and when exactly a commit is acknowledged.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use continuum_engine::{
    CommitError, Durability, Engine, Environment,
    store::{Change, Error, Family, Store, View, memory::Memory},
};
use parking_lot::{Condvar, Mutex};
use wal::storage::{Faulty, File, Storage};

use crate::node::*;

#[test]
fn after_a_failed_sync_nothing_is_acknowledged() {
    for syncs in 0..40 {
        let node = Node::new("a");
        let engine = node.open();
        write(&engine, put("first", "0"));
        node.log.fail_syncs_after(syncs);
        let mut acknowledged = 0;
        let mut failed = None;
        for value in 1..200 {
            match engine.commit(put("k", &value.to_string()), Durability::Synced).wait() {
                Ok(_) if failed.is_none() => acknowledged = value,
                Ok(_) => panic!("write {value} was acknowledged after write {failed:?} had failed"),
                Err(CommitError::Stopped(reason)) => {
                    assert!(reason.contains("restart"), "{reason}");
                    failed.get_or_insert(value);
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert!(
            failed.is_some(),
            "{syncs} syncs were not enough for 200 writes one by one"
        );
        assert!(engine.stopped().borrow().is_some(), "whoever watches learns of it");
        assert!(engine.close().is_err());
        drop(engine);
        let node = node.power_cut(syncs);
        let engine = node.open();
        let found: u64 = read(&engine, "k").first().map_or(0, |json| json.parse().unwrap());
        assert!(
            found >= acknowledged,
            "{syncs}: {acknowledged} was acknowledged, {found} found"
        );
    }
}

#[test]
fn a_failed_write_stops_the_engine_and_what_waits_is_told() {
    let node = Node::new("a");
    let engine = node.open();
    node.log.fail_writes_after(0);
    let pending: Vec<_> = (0..100)
        .map(|_| engine.commit(put("k", "1"), Durability::Synced))
        .collect();
    for pending in pending {
        assert!(matches!(pending.wait(), Err(CommitError::Stopped(_))));
    }
}

/// A directory whose syncs wait until the test lets them.
#[derive(Clone, Default)]
struct Gate {
    directory: Faulty,
    shut: Arc<(Mutex<bool>, Condvar)>,
}

struct GateFile(Box<dyn File>, Gate);

impl Gate {
    fn set(&self, shut: bool) {
        *self.shut.0.lock() = shut;
        self.shut.1.notify_all();
    }

    fn pass(&self) {
        let mut shut = self.shut.0.lock();
        while *shut {
            self.shut.1.wait(&mut shut);
        }
    }
}

impl Storage for Gate {
    fn create(&self, name: &str, length: u64) -> io::Result<Box<dyn File>> {
        Ok(Box::new(GateFile(self.directory.create(name, length)?, self.clone())))
    }
    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        Ok(Box::new(GateFile(self.directory.open(name)?, self.clone())))
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.directory.list()
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.directory.remove(name)
    }
    fn sync_directory(&self) -> io::Result<()> {
        self.directory.sync_directory()
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.directory.free_bytes()
    }
}

impl File for GateFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.1.pass();
        self.0.sync()
    }
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }
}

async fn within_a_moment<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(std::time::Duration::from_millis(100), future)
        .await
        .ok()
}

#[tokio::test]
async fn synced_waits_for_its_sync_and_is_invisible_before_buffered_does_not() {
    let (node, gate) = (Node::new("a"), Gate::default());
    let environment = Environment {
        log: Arc::new(gate.clone()),
        ..node.environment()
    };
    let engine = Engine::open(node.settings.clone(), environment).unwrap();
    let first = engine.commit(put("first", "1"), Durability::Synced).await.unwrap();
    gate.set(true);

    let buffered = within_a_moment(engine.commit(put("b", "1"), Durability::Buffered)).await;
    let buffered = buffered.expect("a buffered commit does not wait for a sync").unwrap();
    assert_eq!(read(&engine, "b"), ["1"], "it is applied at once");
    let mut synced = engine.commit(put("s", "1"), Durability::Synced);
    assert!(
        within_a_moment(&mut synced).await.is_none(),
        "acknowledged before its sync"
    );
    assert_eq!(read(&engine, "s"), [""; 0], "visible before its sync");
    assert_eq!(*engine.committed().borrow(), first.lsn, "published before its sync");
    let mut follower = engine.follow("test", first.lsn).unwrap();
    assert!(follower.next().unwrap().is_none(), "followed before its sync");

    gate.set(false);
    let synced = synced.await.unwrap();
    assert_eq!((buffered.lsn.0, synced.lsn.0), (first.lsn.0 + 1, first.lsn.0 + 2));
    assert_eq!(*engine.committed().borrow(), synced.lsn);
    assert_eq!(follower.next().unwrap().unwrap().lsn, buffered.lsn);
}

#[test]
fn buffered_commits_are_synced_soon_with_no_other_write() {
    let node = Node::new("a");
    let engine = node.open();
    write(&engine, put("first", "1"));
    let buffered = engine.commit(put("b", "1"), Durability::Buffered).wait().unwrap();
    wait_committed(&engine, buffered.lsn);
    let node = node.power_cut(1);
    drop(engine);
    assert_eq!(read(&node.open(), "b"), ["1"]);
}

/// A store that fails, or panics, in its writes, or fails in its flushes.
#[derive(Default)]
struct Broken {
    inner: Memory,
    panics: bool,
    writes_fail: bool,
    flushes_fail: AtomicBool,
}

impl View for Broken {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.inner.get(family, key)
    }
    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        self.inner.scan(family, from, to, visit)
    }
}

impl Store for Broken {
    fn write(&self, changes: &[Change<'_>]) -> Result<(), Error> {
        if self.writes_fail && changes.iter().any(|change| change.family == Family::Concepts) {
            assert!(!self.panics, "planted");
            return Err(Error("planted".to_owned()));
        }
        self.inner.write(changes)
    }
    fn flush(&self) -> Result<(), Error> {
        if self.flushes_fail.load(Ordering::Relaxed) {
            return Err(Error("planted".to_owned()));
        }
        self.inner.flush()
    }
    fn at_one_moment(&self, read: &mut dyn FnMut(&dyn View)) {
        self.inner.at_one_moment(read);
    }
    fn get_durable(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.inner.get_durable(family, key)
    }
}

#[test]
fn a_store_that_fails_or_panics_poisons_the_engine() {
    for panics in [false, true] {
        let node = Node::new("a");
        let store = Arc::new(Broken {
            panics,
            writes_fail: true,
            ..Broken::default()
        });
        let engine = Engine::open(
            node.settings.clone(),
            Environment {
                store,
                ..node.environment()
            },
        )
        .unwrap();
        for _ in 0..10 {
            let outcome = engine.commit(put("k", "1"), Durability::Synced).wait();
            assert!(matches!(outcome, Err(CommitError::Stopped(_))), "{outcome:?}");
        }
        let reason = engine.stopped().borrow().clone().unwrap_or_default();
        assert!(reason.contains("planted"), "{reason}");
    }
}

#[test]
fn flushes_that_fail_lose_nothing_and_bound_what_is_taken() {
    let node = Node::new("a");
    let store = Arc::new(Broken::default());
    let engine = Engine::open(
        node.settings.clone(),
        Environment {
            store: store.clone(),
            ..node.environment()
        },
    )
    .unwrap();
    store.flushes_fail.store(true, Ordering::Relaxed);
    let json = format!("\"{}\"", "x".repeat(1000));
    let mut taken = 0;
    let refused = loop {
        match engine
            .commit(put(&format!("k{taken}"), &json), Durability::Synced)
            .wait()
        {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, CommitError::Busy), "{refused}");
    assert!(
        (20..200).contains(&taken),
        "four flushes of 16 KiB may be outstanding, not {taken} writes"
    );
    store.flushes_fail.store(false, Ordering::Relaxed);
    let start = std::time::Instant::now();
    while engine.commit(put("back", "1"), Durability::Synced).wait().is_err() {
        assert!(start.elapsed().as_secs() < 20, "it recovers by itself");
        std::thread::yield_now();
    }
    assert_eq!(read(&engine, "k0"), [json]);
}

#[test]
fn a_clock_set_back_while_running_does_not_turn_stamps() {
    let node = Node::new("a");
    let engine = node.open();
    let stamp = |json: &str| {
        write(&engine, put("k", json)).effects[0]
            .state
            .entries
            .values()
            .next()
            .unwrap()
            .stamp
    };
    let first = stamp("1");
    node.clock.0.store(1, Ordering::Relaxed);
    assert!(stamp("2") > first);
}
