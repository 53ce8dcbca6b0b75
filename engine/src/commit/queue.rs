//! What waits for the committer: rounds being filled, bounded in bytes, and orders of the engine itself.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::{
    BATCH_BYTES_MAX, Batch, CommitError, Durability, GROUP_BYTES_MAX, Pending,
    flusher::Flushed,
    gather::Gather,
    round::{Completion, Round},
    stop::Stop,
    sync_first::Entry,
};

/// Batches in the order they came, to become one group.
pub(super) struct Filling {
    pub(super) completion: Completion,
    pub(super) batches: Vec<Batch>,
    /// Whether any of them asked to be synced.
    pub(super) synced: bool,
    bytes: usize,
}

/// What the committer shall do next.
pub(super) enum Work {
    Round(Filling),
    /// The flusher has come to an end.
    Flushed(Flushed),
    /// Somebody wants everything synced before it is applied.
    SyncFirst(Entry),
    /// The time given has passed.
    Late,
    /// The queue is closed and empty.
    Closed,
}

/// The queue in front of the committer.
pub(crate) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    bytes_max: usize,
    stop: Arc<Stop>,
    /// How many want everything synced before it is applied.
    sync_first: AtomicUsize,
}

#[derive(Default)]
struct State {
    rounds: VecDeque<Filling>,
    bytes: usize,
    /// Batches waiting, in all rounds.
    batches: usize,
    /// The committer sleeps until so many batches wait.
    wake_at: usize,
    flushed: Option<Flushed>,
    entries: VecDeque<Entry>,
    /// Why no more batches are taken.
    closed: Option<String>,
    /// What every batch is answered for now.
    refusal: Option<CommitError>,
}

impl Queue {
    pub(crate) fn new(bytes_max: usize, stop: Arc<Stop>) -> Queue {
        Queue {
            state: Mutex::default(),
            arrived: Condvar::new(),
            bytes_max,
            stop,
            sync_first: AtomicUsize::new(0),
        }
    }

    /// Puts a batch at the end. Never blocks.
    pub(crate) fn push(&self, batch: Batch, durability: Durability) -> Pending {
        let bytes = batch.bytes();
        if bytes > BATCH_BYTES_MAX {
            let reason =
                format!("a batch of {bytes} bytes is over the maximum of {BATCH_BYTES_MAX}: write it in parts");
            return Pending::refused(CommitError::Invalid(reason));
        }
        let mut state = self.state.lock();
        if let Some(reason) = &state.closed {
            return Pending::refused(CommitError::Stopped(reason.clone()));
        }
        if let Some(refusal) = &state.refusal {
            return Pending::refused(refusal.clone());
        }
        if state.bytes > 0 && state.bytes + bytes > self.bytes_max {
            return Pending::refused(CommitError::Busy);
        }
        state.bytes += bytes;
        state.batches += 1;
        let synced = durability == Durability::Synced;
        let fits = |last: &Filling| last.bytes + bytes <= GROUP_BYTES_MAX && (last.synced || !synced);
        if !state.rounds.back().is_some_and(fits) {
            let completion = Completion::new(Round::new(Arc::clone(&self.stop)));
            state.rounds.push_back(Filling {
                completion,
                batches: Vec::new(),
                synced,
                bytes: 0,
            });
        }
        let last = state
            .rounds
            .back_mut()
            .expect("a round was just made when there was none");
        last.bytes += bytes;
        last.batches.push(batch);
        let pending = Pending::queued(Arc::clone(last.completion.round()), last.batches.len() - 1);
        // A second round means that the first is full: it will not grow any more.
        let wake = state.batches >= state.wake_at || state.rounds.len() > 1;
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
        pending
    }

    /// Waits for work, no longer than to `deadline`; a round may wait for company, as `gather` decides. `unanswered` tells
    /// how many batches are on their way now.
    pub(super) fn take(&self, deadline: Instant, gather: &mut Gather, unanswered: &dyn Fn() -> usize) -> Work {
        let mut state = self.state.lock();
        loop {
            if let Some(flushed) = state.flushed.take() {
                return Work::Flushed(flushed);
            }
            if let Some(entry) = state.entries.pop_front() {
                return Work::SyncFirst(entry);
            }
            if !state.rounds.is_empty() {
                self.gather(&mut state, gather, deadline, unanswered);
                if let Some(round) = state.rounds.pop_front() {
                    state.bytes -= round.bytes;
                    state.batches -= round.batches.len();
                    return Work::Round(round);
                }
            }
            if state.closed.is_some() {
                return Work::Closed;
            }
            state.wake_at = 1;
            if self.arrived.wait_until(&mut state, deadline).timed_out() {
                return Work::Late;
            }
        }
    }

    /// Lets the first round grow. Not one that asks for no sync, and not one that is full already.
    fn gather(
        &self,
        state: &mut MutexGuard<'_, State>,
        gather: &mut Gather,
        deadline: Instant,
        unanswered: &dyn Fn() -> usize,
    ) {
        let may_grow = |state: &State| {
            let is_asked_for = state.flushed.is_some() || !state.entries.is_empty();
            state.rounds.len() == 1 && state.rounds[0].synced && state.closed.is_none() && !is_asked_for
        };
        if !may_grow(state) {
            return;
        }
        let Some((target, longest)) = gather.wait(state.batches, unanswered()) else {
            return;
        };
        let until = deadline.min(after(longest));
        let mut in_vain = false;
        while state.batches < target && may_grow(state) && !in_vain {
            state.wake_at = target;
            in_vain = self.arrived.wait_until(state, until).timed_out();
        }
        gather.waited(state.batches, in_vain);
    }

    /// Whether a batch waits.
    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().batches == 0
    }

    /// Hands the committer what the flusher did.
    pub(super) fn flushed(&self, flushed: Flushed) {
        self.state.lock().flushed = Some(flushed);
        self.arrived.notify_one();
    }

    /// Asks the committer to let somebody in; the reason when it takes no more of anything.
    pub(super) fn enter(&self, entry: Entry) -> Result<(), String> {
        let mut state = self.state.lock();
        if let Some(reason) = &state.closed {
            return Err(reason.clone());
        }
        state.entries.push_back(entry);
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    /// Whether everything must be synced before it is applied.
    pub(super) fn is_sync_first(&self) -> bool {
        self.sync_first.load(Ordering::Acquire) > 0
    }

    /// One more wants it so.
    pub(super) fn begin_sync_first(&self) {
        self.sync_first.fetch_add(1, Ordering::AcqRel);
    }

    /// One less does.
    pub(super) fn end_sync_first(&self) {
        self.sync_first.fetch_sub(1, Ordering::AcqRel);
    }

    /// Answers every further batch with `refusal`, or takes them again; those queued stay where they are.
    pub(super) fn refuse(&self, refusal: Option<CommitError>) {
        self.state.lock().refusal = refusal;
    }

    /// Whether it was closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed.is_some()
    }

    /// Why nothing more is done.
    pub(super) fn reason_to_stop(&self) -> String {
        self.stop.reason().unwrap_or_else(|| "it was closed".to_owned())
    }

    /// Takes no more batches; those queued are still carried out.
    pub(crate) fn close(&self) {
        self.state
            .lock()
            .closed
            .get_or_insert_with(|| "it was closed".to_owned());
        self.arrived.notify_one();
    }

    /// Takes no more batches and tells the callers of those queued that the engine has stopped.
    pub(crate) fn abandon(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.closed = self.stop.reason();
            state.bytes = 0;
            state.batches = 0;
            (std::mem::take(&mut state.rounds), std::mem::take(&mut state.entries))
        };
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Bytes waiting.
    pub(crate) fn bytes(&self) -> usize {
        self.state.lock().bytes
    }
}

/// A moment from now; the committer's own time.
#[expect(clippy::disallowed_methods, reason = "the committer's threads may read the clock")]
pub(super) fn after(duration: Duration) -> Instant {
    Instant::now() + duration
}
