//! What becomes of those who wait for frames that fail.
#![allow(clippy::disallowed_methods, reason = "a test waits for what it appended")]

use engine::{keyspace::raft_log, store::Write};
use openraft::{EntryPayload, storage::RaftLogStorage as _, type_config::TypeConfigExt as _};
use tokio::sync::oneshot;

use super::{
    super::{
        tests::Machine,
        types::{Types, stored_entry},
    },
    *,
};
use engine::keyspace::raft_state;

fn blank(index: u64) -> Entry {
    let id = raft_state::LogId {
        term: 1,
        leader: 1,
        index,
    };
    Entry {
        log_id: log_id(id),
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
