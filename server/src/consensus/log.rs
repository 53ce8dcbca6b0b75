//! Raft's log on the engine.
//!
//! ```text
//!  append ─► recent (readable at once) ─► Engine::commit, a synced frame ─► acknowledger, in order ─► IOFlushed
//!  read   ─► recent, else family raft_log from the first entry on
//!  purge  ─► Purged row and the entries from the purge before, in one frame or step by step; nobody waits
//! ```
//!
//! Invariants: `IOFlushed` and a saved vote are answered after the sync that covers them, and of what comes behind a frame that
//! failed nothing is told as written. What is not in the store yet is in `recent`. Each frame of a purge says itself how far it goes, so
//! no frame leaves entries before the first one.

use std::{
    collections::VecDeque,
    fmt::Debug,
    io,
    ops::{Bound, Range, RangeBounds},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use engine::{
    Batch, Durability, Engine, Mutation, Pending,
    commit::BATCH_BYTES_MAX,
    keyspace::{
        raft_log,
        raft_state::{self, Purged},
    },
    store::Write,
};
use metrics::{Counter, Histogram};
use openraft::{RaftLogReader, storage::IOFlushed};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;

use super::{
    gather,
    types::{Entry, LogId, Types, Vote, entry, fatal, log_id, vote},
};
use crate::{
    metrics::{self as counts, Metrics},
    runtime::{tasks, time::Stopwatch},
};

mod storage;

/// Entries kept in memory beyond those that are not in the store yet, in bytes: those that are about to be applied or sent.
const RECENT_BYTES_MAX: usize = 2 << 20;
/// One frame takes no further entry beyond these bytes; a single larger entry is a frame of its own.
const FRAME_BYTES_MAX: usize = 4 << 20;
/// What an entry takes in a frame besides its bytes.
const ENTRY_BYTES: usize = 64;
/// What a frame takes in the log besides its entries.
const FRAME_SLACK_BYTES: usize = 4 << 10;
/// Entries read at once, where not all are needed at once.
const READ_ENTRIES_MAX: u64 = 4;
const _: () = assert!(
    READ_ENTRIES_MAX as usize * BATCH_BYTES_MAX < super::network::MESSAGE_BYTES_MAX,
    "what is read at once is sent at once"
);
/// Entries taken away by one frame.
const DELETED_ENTRIES_MAX: u64 = 16_384;

/// What is gathered is one frame, and a frame is one batch, of entries or of what takes them away.
const _: () = {
    assert!(gather::WEIGHT_MAX <= FRAME_BYTES_MAX);
    assert!(FRAME_BYTES_MAX + FRAME_SLACK_BYTES <= BATCH_BYTES_MAX);
    assert!((DELETED_ENTRIES_MAX as usize) * (size_of::<u64>() + ENTRY_BYTES) <= FRAME_BYTES_MAX);
};

/// What the place of an entry takes in its record, at most; commands that have none yet are that much smaller.
const PLACE_BYTES: usize = 32;

/// The largest record of commands without a place that can become an entry: it must fit a segment of the engine's log, too.
pub(super) fn record_bytes_max(engine: &Engine) -> usize {
    entry_bytes_max(engine) - ENTRY_BYTES - size_of::<u64>() - PLACE_BYTES
}

/// The largest entry that can be written, with what it takes in a frame.
fn entry_bytes_max(engine: &Engine) -> usize {
    engine.batch_bytes_max() - FRAME_SLACK_BYTES
}

/// The log; clones share it.
#[derive(Clone)]
pub(super) struct Log(Arc<Shared>);

struct Shared {
    engine: Engine,
    state: Mutex<State>,
    written: mpsc::UnboundedSender<Written>,
    appended_bytes: Counter,
}

struct State {
    vote: Option<Vote>,
    purged: Option<LogId>,
    /// The index of the first entry there could be: the one behind the last that was purged.
    first: u64,
    /// Of the last entry, if there is any.
    last: Option<LogId>,
    /// The latest entries, and what each weighs.
    recent: VecDeque<(Entry, usize)>,
    recent_bytes: usize,
    /// Entries before this index are in the store.
    stored: u64,
    /// How often entries were taken off the end.
    cuts: u64,
}

/// A frame on its way, in the order of the frames.
struct Written {
    pending: Pending,
    since: Stopwatch,
    then: Then,
}

/// What is to be done when it is synced.
enum Then {
    /// Entries before this index are in the store; whoever appended them is told with the last frame.
    Appended(u64, Option<Flushed>),
    /// Whoever waits is told.
    Tell(oneshot::Sender<io::Result<()>>),
    Nothing,
}

/// Whoever waits for an append. Dropped untold it is told that the append failed, else raft would wait for ever.
struct Flushed(Option<IOFlushed<Types>>);

impl Flushed {
    fn tell(mut self, outcome: io::Result<()>) {
        if let Some(waiting) = self.0.take() {
            waiting.io_completed(outcome);
        }
    }
}

impl Drop for Flushed {
    fn drop(&mut self) {
        if let Some(waiting) = self.0.take() {
            waiting.io_completed(Err(fatal("raft's log was closed before it was synced")));
        }
    }
}

impl Log {
    /// Looks where the log begins and ends, and starts the task that acknowledges. Within raft's own runtime.
    ///
    /// # Errors
    /// When the store cannot be read or is damaged.
    pub(super) fn open(engine: Engine, metrics: &Metrics) -> io::Result<Log> {
        let view = engine.view();
        let purged = raft_state::read(view).map_err(fatal)?.map(|Purged(id)| log_id(id));
        let first = purged.as_ref().map_or(0, |id| id.index + 1);
        let last = match raft_log::last(view, first).map_err(fatal)? {
            None => None,
            Some(index) => {
                let mut found = raft_log::entries(view, index, index + 1).map_err(fatal)?;
                let (_, last) = found.pop().ok_or_else(|| fatal(raft_log::missing(index)))?;
                Some(entry(index, last)?.log_id)
            }
        };
        let state = State {
            vote: raft_state::read(view).map_err(fatal)?.map(vote),
            stored: last.as_ref().map_or(first, |last| last.index + 1),
            purged,
            first,
            last,
            recent: VecDeque::new(),
            recent_bytes: 0,
            cuts: 0,
        };
        let (written, waiting) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            engine,
            state: Mutex::new(state),
            written,
            appended_bytes: metrics.counter(counts::RAFT_APPENDED_BYTES, &[]),
        });
        let seconds = metrics.histogram(counts::RAFT_APPEND_SECONDS, &[]);
        drop(tasks::spawn(acknowledge(Arc::downgrade(&shared), waiting, seconds)));
        Ok(Log(shared))
    }

    /// Sends a frame; what follows is done when it is synced.
    fn send(&self, writes: Vec<Write>, then: Then) {
        let pending = self
            .0
            .engine
            .commit(Batch::one(Mutation::Raft(writes)), Durability::Synced);
        let since = Stopwatch::start();
        // The acknowledger ends after the last log is gone. Should it have panicked, dropping this tells whoever waits.
        let _taken = self.0.written.send(Written { pending, since, then });
    }

    /// Sends a frame and waits until it is synced.
    async fn sync(&self, writes: Vec<Write>) -> io::Result<()> {
        let (sender, told) = oneshot::channel();
        self.send(writes, Then::Tell(sender));
        told.await.unwrap_or_else(|_| Err(fatal("the log is closed")))
    }

    /// Entries of `[from, to)` that are there.
    fn read(&self, from: u64, to: u64) -> io::Result<Vec<Entry>> {
        loop {
            let found = self.0.state.lock().find(from, to);
            if found.stored.is_empty() {
                return Ok(found.recent);
            }
            let stored = raft_log::entries(self.0.engine.view(), found.stored.start, found.stored.end);
            let (first, cuts) = {
                let state = self.0.state.lock();
                (state.first, state.cuts)
            };
            if cuts == found.cuts {
                return found.with(stored.map_err(fatal)?, first);
            }
            // The end was cut off meanwhile, and other entries may have come in its place.
        }
    }
}

/// Where entries are.
struct Found {
    /// These are in the store, but for those that are purged meanwhile.
    stored: Range<u64>,
    /// These follow them.
    recent: Vec<Entry>,
    /// How often the end had been cut off.
    cuts: u64,
}

impl Found {
    /// All of them, with what the store had; `first` is the first that the log had when it had been read. Only what was purged
    /// may be missing.
    fn with(self, stored: Vec<(u64, raft_log::Entry)>, first: u64) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::with_capacity(stored.len() + self.recent.len());
        let mut next = self.stored.start.max(first);
        for (index, stored) in stored {
            if index < next {
                continue;
            }
            if index > next {
                break;
            }
            entries.push(entry(index, stored)?);
            next += 1;
        }
        if next < self.stored.end {
            return Err(fatal(raft_log::missing(next)));
        }
        entries.extend(self.recent);
        Ok(entries)
    }
}

impl State {
    /// The index behind the last entry.
    fn next(&self) -> u64 {
        self.last.as_ref().map_or(self.first, |last| last.index + 1)
    }

    /// Where the entries of `[from, to)` are, as far as the log has them.
    fn find(&self, from: u64, to: u64) -> Found {
        let (from, to) = (from.max(self.first), to.min(self.next()));
        let begin = self.recent_first();
        let place = |index: u64| usize::try_from(index.saturating_sub(begin)).unwrap_or(usize::MAX);
        let end = place(to).min(self.recent.len());
        let recent = self.recent.range(place(from).min(end)..end);
        Found {
            stored: from..to.min(begin),
            recent: recent.map(|(entry, _)| entry.clone()).collect(),
            cuts: self.cuts,
        }
    }

    /// The index from which on entries are in memory.
    fn recent_first(&self) -> u64 {
        self.next() - self.recent.len() as u64
    }

    fn has_in_memory(&self, index: u64) -> bool {
        self.recent_first() <= index
    }

    fn push(&mut self, entry: Entry, bytes: usize) {
        if self.last.is_none() {
            // The same, but in openraft's own tests, which begin a log where they like.
            self.first = entry.log_id.index;
        }
        self.last = Some(entry.log_id);
        self.recent_bytes += bytes;
        self.recent.push_back((entry, bytes));
    }

    /// Forgets what is in the store, the oldest first.
    fn shrink(&mut self) {
        while self.recent_bytes > RECENT_BYTES_MAX && self.recent_first() < self.stored {
            let Some((_, bytes)) = self.recent.pop_front() else {
                return;
            };
            self.recent_bytes -= bytes;
        }
    }

    /// Forgets entries before `first`, which are purged.
    fn forget(&mut self, first: u64) {
        while self.recent_first() < first {
            let Some((_, bytes)) = self.recent.pop_front() else {
                return;
            };
            self.recent_bytes -= bytes;
        }
    }

    /// Forgets entries from `next` on.
    fn truncate(&mut self, next: u64, last: Option<LogId>) {
        let keep = next.saturating_sub(self.recent_first());
        while self.recent.len() as u64 > keep {
            let Some((_, bytes)) = self.recent.pop_back() else {
                break;
            };
            self.recent_bytes -= bytes;
        }
        self.last = last;
        self.stored = self.stored.min(next);
        self.cuts += 1;
    }
}

/// Tells of frames that are synced, in their order, until the log is gone. Once one has failed all that follow have: a log
/// with a hole is none.
async fn acknowledge(log: std::sync::Weak<Shared>, mut waiting: mpsc::UnboundedReceiver<Written>, seconds: Histogram) {
    let mut failed: Option<String> = None;
    while let Some(Written { pending, since, then }) = waiting.recv().await {
        let outcome = pending.await;
        if let (Err(error), None) = (&outcome, &failed) {
            failed = Some(format!("raft's log ends before a frame that was not written: {error}"));
        }
        let synced = failed.as_ref().map_or(Ok(()), |reason| Err(fatal(reason)));
        match then {
            Then::Appended(next, told) => {
                seconds.record(since.seconds());
                if let (Ok(()), Some(log)) = (&synced, log.upgrade()) {
                    let mut state = log.state.lock();
                    state.stored = next.min(state.next());
                    state.shrink();
                }
                if let Some(told) = told {
                    told.tell(synced);
                }
            }
            Then::Tell(told) => {
                let _left = told.send(synced);
            }
            Then::Nothing => {
                if let Err(error) = synced {
                    tracing::warn!(%error, "raft's log was not purged; raft does it again after the next start");
                }
            }
        }
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, io::Error> {
        let (from, to) = ends(&range);
        self.read(from, to)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.0.state.lock().vote)
    }

    /// What is sent to another member; nothing when `start` was purged. Openraft sends what it gets as following what that member
    /// has, without looking; of nothing it makes a heartbeat.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let end = end.min(start.saturating_add(READ_ENTRIES_MAX));
        let read = if self.0.state.lock().has_in_memory(start) {
            self.read(start, end)
        } else {
            // A member that is far behind: what it lacks may come from the disk, and the leader's heartbeats must not wait for that.
            let log = self.clone();
            let read = tasks::blocking(move || log.read(start, end)).await;
            read.unwrap_or_else(|| Err(fatal("reading raft's log panicked")))
        };
        let begins_there = |read: &Vec<Entry>| read.first().is_some_and(|first| first.log_id.index == start);
        Ok(Some(read?).filter(begins_there).unwrap_or_default())
    }

    async fn entries_stream<R>(&mut self, range: R) -> impl Stream<Item = Result<Entry, io::Error>> + Send
    where
        R: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (next, end) = ends(&range);
        Entries {
            log: self.clone(),
            next,
            end,
            read: VecDeque::new(),
        }
    }
}

fn ends(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(to) => *to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

/// Entries of a range, a few in memory at once.
struct Entries {
    log: Log,
    next: u64,
    end: u64,
    read: VecDeque<Entry>,
}

impl Stream for Entries {
    type Item = Result<Entry, io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.read.is_empty() && self.next < self.end {
            match self
                .log
                .read(self.next, self.end.min(self.next.saturating_add(READ_ENTRIES_MAX)))
            {
                Ok(entries) => self.read = entries.into(),
                Err(error) => {
                    self.end = self.next;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        let entry = self.read.pop_front();
        match &entry {
            Some(entry) => self.next = entry.log_id.index + 1,
            None => self.end = self.next,
        }
        Poll::Ready(entry.map(Ok))
    }
}

#[cfg(test)]
mod tests;
