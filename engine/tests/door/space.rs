//! A full disk: writes are refused, reads and deletes work, and it recovers by itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use continuum_engine::{
    CommitError, Durability, Engine, Environment,
    store::{Change, Compactions, Error, Family, Store, View, memory::Memory},
};
use parking_lot::Mutex;

use crate::node::*;

/// Segments of 64 KiB, a reserve as large, a hard mark of 8 KiB.
fn node(space: u64) -> Node {
    let mut node = Node::new("a");
    node.settings.free_hard_bytes = 8 << 10;
    node.settings.free_soft_bytes = 16 << 10;
    node.log.limit_space(Some(space));
    node
}

fn fill(engine: &Engine) -> u64 {
    let json = format!("\"{}\"", "x".repeat(1000));
    for written in 0..10_000 {
        match engine
            .commit(put(&format!("k{written}"), &json), Durability::Synced)
            .wait()
        {
            Ok(_) => {}
            Err(CommitError::NoSpace { needed_bytes, .. }) => {
                assert!(needed_bytes >= 8 << 10);
                return written;
            }
            Err(other) => panic!("{other}"),
        }
    }
    10_000
}

#[test]
fn under_the_hard_mark_deletes_and_reads_work_and_space_brings_writes_back() {
    let node = node(64 << 20);
    let engine = node.open();
    write(&engine, put("k", "1"));
    // Somebody else fills the disk.
    node.log.limit_space(Some(130 << 10));
    let refused = engine.commit(put("k", "2"), Durability::Synced).wait();
    assert!(matches!(refused, Err(CommitError::NoSpace { .. })), "{refused:?}");
    assert_eq!(read(&engine, "k"), ["1"]);
    write(&engine, delete("k"));
    assert_eq!(read(&engine, "k"), [""; 0]);
    node.log.limit_space(Some(64 << 20));
    write(&engine, put("k", "3"));
}

#[test]
fn a_reserve_cut_short_is_allocated_anew() {
    use wal::storage::Storage as _;
    let node = node(64 << 20);
    drop(node.log.create("reserve", 0).unwrap());
    drop(node.open());
    assert_eq!(node.log.open("reserve").unwrap().length().unwrap(), 64 << 10);
}

#[test]
fn when_no_segment_fits_the_reserve_keeps_deletes_going() {
    // The first segment, the reserve, and not quite a second segment.
    let node = node((64 + 64 + 40) << 10);
    let engine = node.open();
    let written = fill(&engine);
    assert!(written > 10, "only {written} writes fitted");
    let mut deleted = 0;
    for round in 0..40 {
        for key in 0..written {
            match engine.commit(delete(&format!("k{key}")), Durability::Synced).wait() {
                Ok(_) => deleted += 1,
                Err(CommitError::NoSpace { .. }) => panic!("delete {deleted} in round {round} was refused"),
                Err(other) => panic!("{other}"),
            }
        }
    }
    node.log.limit_space(None);
    write(&engine, put("again", "1"));
    engine.close().unwrap();
    drop(engine);
    let engine = node.open();
    assert_eq!(read(&engine, "again"), ["1"]);
    assert_eq!(read(&engine, "k0"), [""; 0]);
}

#[test]
fn with_the_reserve_spent_everything_is_refused_until_space_is_back() {
    let node = node(64 << 20);
    let engine = node.open();
    let written = 30;
    for key in 0..written {
        write(&engine, put(&format!("k{key}"), "1"));
    }
    // Not even a freed reserve makes room for another segment.
    node.log.limit_space(Some(100 << 10));
    let mut refused = 0;
    for round in 0..100 {
        let key = format!("k{}", round % written);
        for batch in [put(&key, "1"), delete(&key)] {
            match engine.commit(batch, Durability::Synced).wait() {
                Ok(_) => {}
                Err(CommitError::NoSpace { .. }) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert!(refused >= 100);
    assert!(engine.stopped().borrow().is_none(), "no space does not stop the engine");
    node.log.limit_space(None);
    let last = write(&engine, put("back", "1"));
    drop(engine);
    let engine = node.power_cut(3).open();
    assert_eq!(read(&engine, "back"), ["1"]);
    assert_eq!(*engine.committed().borrow(), last.lsn);
}

/// A store that needs room on the disk, and can run out of it.
#[derive(Default)]
struct Hungry {
    inner: Memory,
    is_full: AtomicBool,
    flushes: AtomicU64,
    told: Mutex<Vec<Compactions>>,
}

impl Hungry {
    fn check_room(&self) -> Result<(), Error> {
        if self.is_full.load(Ordering::SeqCst) {
            return Err(Error("IO error: No space left on device".to_owned()));
        }
        Ok(())
    }
}

impl View for Hungry {
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

impl Store for Hungry {
    fn write(&self, changes: &[Change<'_>]) -> Result<(), Error> {
        self.check_room()?;
        self.inner.write(changes)
    }
    fn flush(&self) -> Result<(), Error> {
        self.check_room()?;
        self.flushes.fetch_add(1, Ordering::SeqCst);
        self.inner.flush()
    }
    fn at_one_moment(&self, read: &mut dyn FnMut(&dyn View)) {
        self.inner.at_one_moment(read);
    }
    fn get_durable(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.inner.get_durable(family, key)
    }
    fn flush_bytes(&self, unflushed_bytes: u64) -> u64 {
        unflushed_bytes
    }
    fn compaction_bytes(&self) -> u64 {
        32 << 10
    }
    fn compact(&self, when: Compactions) -> Result<(), Error> {
        self.told.lock().push(when);
        Ok(())
    }
}

fn open_with(node: &Node, store: &Arc<Hungry>) -> Engine {
    let environment = Environment {
        store: Arc::clone(store) as Arc<dyn Store>,
        ..node.environment()
    };
    Engine::open(node.settings.clone(), environment).unwrap()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(10), "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn compactions_are_off_while_there_is_no_room_for_one() {
    let node = node(64 << 20);
    let store = Arc::new(Hungry::default());
    let engine = open_with(&node, &store);
    let last = || store.told.lock().last().copied();
    eventually("on with room", || last() == Some(Compactions::On));
    // Room for a compaction, none for writes; nobody writes, so it is seen by looking.
    node.log.limit_space(Some((128 + 36) << 10));
    eventually("eager when full", || last() == Some(Compactions::Eager));
    node.log.limit_space(Some((128 + 30) << 10));
    eventually("off without room", || last() == Some(Compactions::Off));
    assert!(!engine.disk().compacts && engine.disk().free_bytes == 30 << 10);
    node.log.limit_space(None);
    eventually("on again", || last() == Some(Compactions::On));
    assert_eq!(store.told.lock().len(), 4, "told only when it changes");
}

#[test]
fn a_flush_without_room_waits_and_deletes_wait_with_it() {
    let mut node = node(64 << 20);
    node.settings.flush_log_bytes = 128 << 10;
    let store = Arc::new(Hungry::default());
    let engine = open_with(&node, &store);
    let json = format!("\"{}\"", "x".repeat(1000));
    for key in 0..80 {
        write(&engine, put(&format!("k{key}"), &json));
    }
    let flushes = store.flushes.load(Ordering::SeqCst);
    // More than the reserve holds would have to be flushed, and other programs take everything.
    node.log.limit_space(Some(0));
    let full_since = Instant::now();
    while full_since.elapsed() < Duration::from_millis(2500) {
        for batch in [put("k1", "1"), delete("k1")] {
            let refused = engine.commit(batch, Durability::Synced).wait();
            let expected = matches!(refused, Err(CommitError::NoSpace { deletes: false, .. }));
            assert!(expected, "{refused:?}");
        }
        assert_eq!(read(&engine, "k1"), std::slice::from_ref(&json));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(store.flushes.load(Ordering::SeqCst), flushes);
    // Room for the flush and still none for writes: it is made up for although nobody writes.
    node.log.limit_space(Some(400 << 10));
    eventually("flushed", || store.flushes.load(Ordering::SeqCst) > flushes);
    node.log.limit_space(None);
    write(&engine, put("k1", "1"));
}

#[test]
fn a_store_that_ran_out_of_space_is_waited_for() {
    let node = node(64 << 20);
    let store = Arc::new(Hungry::default());
    let engine = open_with(&node, &store);
    write(&engine, put("k", "1"));
    store.is_full.store(true, Ordering::SeqCst);
    // This one is in the log before anybody knows.
    let caught = engine.commit(put("k", "2"), Durability::Synced);
    let mut queued = Vec::new();
    eventually("refused at the door", || {
        let mut pending = engine.commit(delete("j"), Durability::Buffered);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(&mut pending).poll(&mut context) {
            std::task::Poll::Ready(Err(CommitError::NoSpace { deletes: false, .. })) => true,
            std::task::Poll::Ready(other) => panic!("{other:?}"),
            std::task::Poll::Pending => {
                queued.push(pending);
                false
            }
        }
    });
    assert_eq!(read(&engine, "k"), ["1"]);
    store.is_full.store(false, Ordering::SeqCst);
    caught.wait().unwrap();
    for pending in queued {
        pending.wait().unwrap();
    }
    write(&engine, put("j", "3"));
    assert!(engine.stopped().borrow().is_none());
}

#[test]
fn a_node_is_stopped_while_its_store_has_no_space() {
    let node = node(64 << 20);
    let store = Arc::new(Hungry::default());
    let engine = open_with(&node, &store);
    write(&engine, put("k", "1"));
    store.is_full.store(true, Ordering::SeqCst);
    let caught = engine.commit(put("k", "2"), Durability::Synced);
    let told = engine.close().unwrap_err().to_string();
    assert!(told.contains("free some room"), "{told}");
    assert!(matches!(caught.wait(), Err(CommitError::Stopped(_))));
    drop(engine);
    store.is_full.store(false, Ordering::SeqCst);
    assert_eq!(read(&open_with(&node, &store), "k"), ["2"], "it was in the log");
}

#[test]
fn without_room_for_the_last_flush_a_node_is_closed_and_opened_again() {
    let node = node(64 << 20);
    let store = Arc::new(Hungry::default());
    let engine = open_with(&node, &store);
    write(&engine, put("k", "1"));
    store.is_full.store(true, Ordering::SeqCst);
    engine.close().unwrap();
    drop(engine);
    store.is_full.store(false, Ordering::SeqCst);
    assert_eq!(read(&open_with(&node, &store), "k"), ["1"]);
}
