//! What becomes of those who wait for frames that fail.
#![allow(clippy::disallowed_methods, reason = "a test waits for what it appended")]

use engine::{
    Environment,
    keyspace::raft_log,
    store::{Change, Error, Family, Store, View, Write, memory::Memory},
};
use openraft::{
    EntryPayload,
    storage::{RaftLogStorage as _, RaftLogStorageExt as _},
    type_config::TypeConfigExt as _,
};
use tokio::sync::oneshot;

use super::{
    super::{
        tests::{Machine, clock, unwritten},
        types::{Proposals, Types, stored_entry},
    },
    *,
};
use engine::keyspace::raft_state;

fn at(term: u64, index: u64) -> LogId {
    log_id(raft_state::LogId { term, leader: 1, index })
}

fn blank(index: u64) -> Entry {
    Entry {
        log_id: at(1, index),
        payload: EntryPayload::Blank,
    }
}

fn row(index: u64) -> Write {
    raft_log::put(index, &stored_entry(&blank(index)))
}

/// A frame that the door refuses, for it is too large.
fn refused() -> Vec<Write> {
    let mut large = row(5);
    large.value = Some(vec![0; engine::commit::BATCH_BYTES_MAX + 1]);
    vec![large]
}

fn flushed() -> (Option<Flushed>, impl Future<Output = io::Result<()>>) {
    let (sender, told) = Types::oneshot();
    let told = async { told.await.expect("it is told, whatever happens") };
    (Some(Flushed(Some(IOFlushed::signal(sender)))), told)
}

#[tokio::test]
async fn a_failed_part_fails_its_append_and_whatever_follows() {
    let log = Log::open(Machine::new().open(), &Metrics::new()).unwrap();
    (0..3).for_each(|index| log.0.state.lock().push(blank(index), 1));
    let (before, told_before) = flushed();
    log.send(vec![row(0)], Then::Appended(1, before));
    log.send(refused(), Then::Appended(1, None));
    let (last_part, told) = flushed();
    log.send(vec![row(1)], Then::Appended(2, last_part));
    let (after, told_after) = flushed();
    log.send(vec![row(2)], Then::Appended(3, after));
    let (sender, vote) = oneshot::channel();
    log.send(vec![], Then::Tell(sender));
    assert!(told_before.await.is_ok());
    let error = told.await.unwrap_err().to_string();
    assert!(error.contains("was not written"), "{error}");
    assert!(told_after.await.is_err());
    assert!(vote.await.unwrap().is_err());
    assert_eq!(log.0.state.lock().stored, 1);
}

#[tokio::test]
async fn who_waits_is_told_when_nobody_acknowledges_any_more() {
    let engine = Machine::new().open();
    let (written, waiting) = mpsc::unbounded_channel();
    drop(waiting);
    let log = Log::open(engine.clone(), &Metrics::new()).unwrap();
    let mut orphan = Log(Arc::new(Shared {
        engine,
        state: Mutex::new(State {
            vote: None,
            purged: None,
            first: 0,
            last: None,
            recent: VecDeque::new(),
            recent_bytes: 0,
            stored: 0,
            cuts: 0,
        }),
        written,
        appended_bytes: Metrics::new().counter(counts::RAFT_APPENDED_BYTES, &[]),
    }));
    drop(log);
    let (sender, told) = Types::oneshot();
    orphan.append([blank(0)], IOFlushed::signal(sender)).await.unwrap();
    assert!(told.await.expect("it is told").is_err());
}

#[tokio::test]
async fn an_entry_that_does_not_fit_is_refused_before_anything_is_written() {
    let engine = Machine::new().open();
    let mut log = Log::open(engine.clone(), &Metrics::new()).unwrap();
    let bytes = engine.batch_bytes_max();
    let heavy = Entry {
        log_id: at(1, 1),
        payload: EntryPayload::Normal(Proposals([unwritten(bytes)].into())),
    };
    let (sender, told) = Types::oneshot();
    let refused = log
        .append([blank(0), heavy], IOFlushed::signal(sender))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("entry 1 has"), "{refused}");
    assert!(told.await.expect("it is told").is_err());
    assert_eq!(log.get_log_state().await.unwrap().last_log_id, None);
    assert_eq!(raft_log::entries(engine.view(), 0, u64::MAX).unwrap(), []);
    log.blocking_append([blank(0)]).await.unwrap();
}

/// What happens while somebody reads.
type Meanwhile = Box<dyn FnOnce() + Send>;

/// A store in which something happens between the next read of the log and what becomes of it.
#[derive(Default)]
struct Interrupting {
    store: Memory,
    meanwhile: Mutex<Option<Meanwhile>>,
}

impl View for Interrupting {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.store.get(family, key)
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        self.store.scan(family, from, to, visit)?;
        let meanwhile = (family == Family::RaftLog)
            .then(|| self.meanwhile.lock().take())
            .flatten();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
        Ok(())
    }
}

impl Store for Interrupting {
    fn write(&self, changes: &[Change<'_>]) -> Result<(), Error> {
        self.store.write(changes)
    }

    fn flush(&self) -> Result<(), Error> {
        self.store.flush()
    }

    fn get_durable(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.store.get_durable(family, key)
    }

    fn at_one_moment(&self, read: &mut dyn FnMut(&dyn View)) {
        self.store.at_one_moment(read);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_while_the_end_is_cut_off_is_read_again() {
    let store = Arc::new(Interrupting::default());
    let environment = Environment {
        node: "test".to_owned(),
        clock: clock(),
        entropy: || 7,
        log: Arc::new(wal::storage::Faulty::new()),
        store: Arc::clone(&store) as Arc<dyn Store>,
    };
    let engine = Engine::open(engine::Settings::default(), environment).unwrap();
    let mut before = Log::open(engine.clone(), &Metrics::new()).unwrap();
    before.blocking_append((0..10).map(blank)).await.unwrap();
    drop(before);
    // None of them is in its memory.
    let log = Log::open(engine, &Metrics::new()).unwrap();
    let (mut other, runtime) = (log.clone(), tokio::runtime::Handle::current());
    let replace = async move {
        other.truncate_after(Some(at(1, 3))).await.unwrap();
        let new = (4..6).map(|index| Entry {
            log_id: at(2, index),
            payload: EntryPayload::Blank,
        });
        other.blocking_append(new).await.unwrap();
    };
    *store.meanwhile.lock() = Some(Box::new(move || runtime.block_on(replace)));
    let found = tokio::task::spawn_blocking(move || log.read(0, 10))
        .await
        .unwrap()
        .unwrap();
    let expected: Vec<_> = (0..4).map(|index| at(1, index)).chain([at(2, 4), at(2, 5)]).collect();
    assert_eq!(found.iter().map(|entry| entry.log_id).collect::<Vec<_>>(), expected);
}
