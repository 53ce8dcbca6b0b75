//! What waits for the committer: rounds being filled, bounded in bytes, and orders of the engine itself.
//!
//! ```text
//!  raft's   not synced │ synced, in order     taken first; a synced one takes the next of the others along: one sync for both
//!  others   in the order they came
//! ```
//!
//! Raft's frames are never refused for want of room: whoever hands raft something asks [`Queue::admits`] before. Their number is
//! bounded by those who propose.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::{
    BATCH_BYTES_MAX, Batch, CommitError, Durability, GROUP_BYTES_MAX, Pending,
    flusher::Flushed,
    gather::Gather,
    round::{Completion, Outcome, Round},
    stop::Stop,
    sync_first::Entry,
};

/// Batches in the order they came, to become one group.
pub(super) struct Filling {
    pub(super) completion: Completion,
    pub(super) batches: Vec<Batch>,
    /// Whether any of them asked to be synced.
    pub(super) synced: bool,
    /// Whether they are raft's.
    pub(super) raft: bool,
    /// What became of the first of them, while the others wait for room.
    pub(super) outcomes: Vec<Outcome>,
    bytes: usize,
}

/// What the committer shall do next.
pub(super) enum Work {
    /// A round, and one to be synced with it.
    Round(Filling, Option<Filling>),
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
    /// Whether flushes are so far behind that only raft's frames are written.
    behind: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Raft's: those that ask for no sync before the others.
    raft: VecDeque<Filling>,
    raft_bytes: usize,
    rounds: VecDeque<Filling>,
    bytes: usize,
    /// Batches waiting, in all rounds but raft's.
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
            behind: AtomicBool::new(false),
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
        let synced = durability == Durability::Synced;
        if batch.is_raft() {
            state.raft_bytes += bytes;
            let pending = state.raft_round(synced, &self.stop).push(batch, bytes);
            drop(state);
            self.arrived.notify_one();
            return pending;
        }
        if let Some(refusal) = &state.refusal {
            return Pending::refused(refusal.clone());
        }
        if state.bytes > 0 && state.bytes + bytes > self.bytes_max {
            return Pending::refused(CommitError::Busy);
        }
        state.bytes += bytes;
        state.batches += 1;
        let fits = |last: &Filling| last.bytes + bytes <= GROUP_BYTES_MAX && (last.synced || !synced);
        if !state.rounds.back().is_some_and(fits) {
            state.rounds.push_back(Filling::new(synced, false, &self.stop));
        }
        let last = state
            .rounds
            .back_mut()
            .expect("a round was just made when there was none");
        let pending = last.push(batch, bytes);
        // A second round means that the first is full: it will not grow any more.
        let wake = state.batches >= state.wake_at || state.rounds.len() > 1;
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
        pending
    }

    /// Waits for work, no longer than to `deadline`; a round may wait for company, as `gather` decides. `unanswered` tells
    /// how many batches are on their way now. While raft's frames are `held` they stay where they are.
    pub(super) fn take(
        &self,
        deadline: Instant,
        held: bool,
        gather: &mut Gather,
        unanswered: &dyn Fn() -> usize,
    ) -> Work {
        let mut state = self.state.lock();
        loop {
            if let Some(flushed) = state.flushed.take() {
                return Work::Flushed(flushed);
            }
            if let Some(entry) = state.entries.pop_front() {
                return Work::SyncFirst(entry);
            }
            let held = held && state.closed.is_none();
            if !held && let Some(round) = state.take_raft() {
                let company = if round.synced { state.take_other() } else { None };
                return Work::Round(round, company);
            }
            if !state.rounds.is_empty() {
                self.gather(&mut state, held, gather, deadline, unanswered);
                if !held && !state.raft.is_empty() {
                    continue;
                }
                if let Some(round) = state.take_other() {
                    return Work::Round(round, None);
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
        held: bool,
        gather: &mut Gather,
        deadline: Instant,
        unanswered: &dyn Fn() -> usize,
    ) {
        let may_grow = |state: &State| {
            let is_asked_for = state.flushed.is_some() || !state.entries.is_empty() || !held && !state.raft.is_empty();
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

    /// Whether no batch waits.
    pub(super) fn is_empty(&self) -> bool {
        let state = self.state.lock();
        state.batches == 0 && state.raft.is_empty()
    }

    /// Puts a round of raft's back for which there was no room: before all others of its kind.
    pub(super) fn put_back(&self, filling: Filling) {
        let mut state = self.state.lock();
        state.raft_bytes += filling.bytes;
        let place = state
            .raft
            .iter()
            .take_while(|before| !before.synced && filling.synced)
            .count();
        state.raft.insert(place, filling);
    }

    /// Whether a write that adds something would be taken now, as far as that can be told.
    ///
    /// # Errors
    /// What it would be answered.
    pub(crate) fn admits(&self) -> Result<(), CommitError> {
        let state = self.state.lock();
        match (&state.closed, &state.refusal) {
            (Some(reason), _) => Err(CommitError::Stopped(reason.clone())),
            (None, Some(refusal)) => Err(refusal.clone()),
            (None, None) if self.behind.load(Ordering::Acquire) => Err(CommitError::Busy),
            (None, None) => Ok(()),
        }
    }

    /// Says whether flushes are far behind.
    pub(super) fn tell_behind(&self, behind: bool) {
        self.behind.store(behind, Ordering::Release);
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
            state.raft_bytes = 0;
            state.batches = 0;
            let rounds = (std::mem::take(&mut state.raft), std::mem::take(&mut state.rounds));
            (rounds, std::mem::take(&mut state.entries))
        };
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Bytes waiting.
    pub(crate) fn bytes(&self) -> usize {
        let state = self.state.lock();
        state.bytes + state.raft_bytes
    }
}

impl Filling {
    fn new(synced: bool, raft: bool, stop: &Arc<Stop>) -> Filling {
        Filling {
            completion: Completion::new(Round::new(Arc::clone(stop)), !raft),
            batches: Vec::new(),
            synced,
            raft,
            outcomes: Vec::new(),
            bytes: 0,
        }
    }

    fn push(&mut self, batch: Batch, bytes: usize) -> Pending {
        self.bytes += bytes;
        self.batches.push(batch);
        Pending::queued(Arc::clone(self.completion.round()), self.batches.len() - 1)
    }
}

impl State {
    /// Where the next frame of raft's goes.
    fn raft_round(&mut self, synced: bool, stop: &Arc<Stop>) -> &mut Filling {
        // One that was put back is not to grow: part of it may be written already.
        let fits =
            |round: &Filling| round.synced == synced && round.bytes < GROUP_BYTES_MAX && round.outcomes.is_empty();
        let end = if synced {
            self.raft.len()
        } else {
            self.raft.iter().take_while(|round| !round.synced).count()
        };
        let place = match end.checked_sub(1) {
            Some(last) if fits(&self.raft[last]) => last,
            _ => {
                self.raft.insert(end, Filling::new(synced, true, stop));
                end
            }
        };
        &mut self.raft[place]
    }

    fn take_raft(&mut self) -> Option<Filling> {
        let round = self.raft.pop_front()?;
        self.raft_bytes -= round.bytes;
        Some(round)
    }

    fn take_other(&mut self) -> Option<Filling> {
        let round = self.rounds.pop_front()?;
        self.bytes -= round.bytes;
        self.batches -= round.batches.len();
        Some(round)
    }
}

/// A moment from now; the committer's own time.
#[expect(clippy::disallowed_methods, reason = "the committer's threads may read the clock")]
pub(super) fn after(duration: Duration) -> Instant {
    Instant::now() + duration
}
