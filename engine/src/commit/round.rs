//! Batches that share a group, and how all their callers are woken at once.
//!
//! A wake-up for each caller costs a system call each; a round has one cell that all its callers wait for.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

use super::{CommitError, Receipt, stop::Stop};

pub(super) type Outcome = Result<Receipt, CommitError>;

/// What all callers of one group wait for.
pub(super) struct Round {
    /// One for each batch, in order, each taken once by its caller. `None`: the engine stopped before the round was done.
    outcomes: OnceLock<Option<Vec<Mutex<Option<Outcome>>>>>,
    wakers: Mutex<Vec<Waker>>,
    stop: Arc<Stop>,
}

impl Round {
    pub(super) fn new(stop: Arc<Stop>) -> Arc<Round> {
        Arc::new(Round {
            outcomes: OnceLock::new(),
            wakers: Mutex::default(),
            stop,
        })
    }

    fn finish(&self, outcomes: Option<Vec<Outcome>>) {
        let outcomes = outcomes.map(|outcomes| outcomes.into_iter().map(|outcome| Mutex::new(Some(outcome))).collect());
        if self.outcomes.set(outcomes).is_ok() {
            // A task that looked before `set` has left its waker before this lock is ours, or looks again after it.
            let wakers = std::mem::take(&mut *self.wakers.lock());
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    fn take(&self, outcomes: &Option<Vec<Mutex<Option<Outcome>>>>, index: usize) -> Outcome {
        let outcome = outcomes
            .as_ref()
            .and_then(|outcomes| outcomes.get(index)?.lock().take());
        outcome.unwrap_or_else(|| {
            let reason = self
                .stop
                .reason()
                .unwrap_or_else(|| "a thread of the engine panicked".to_owned());
            Err(CommitError::Stopped(reason))
        })
    }
}

/// The engine's side of a round: dropped unfinished, as a panic or a stop does, it tells all callers so.
pub(super) struct Completion {
    round: Arc<Round>,
    /// Whether its callers are among those that may come back with the next batch: raft's are not.
    counted: bool,
}

impl Completion {
    pub(super) fn new(round: Arc<Round>, counted: bool) -> Completion {
        Completion { round, counted }
    }

    pub(super) fn round(&self) -> &Arc<Round> {
        &self.round
    }

    pub(super) fn is_counted(&self) -> bool {
        self.counted
    }

    pub(super) fn finish(self, outcomes: Vec<Outcome>) {
        self.round.finish(Some(outcomes));
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.round.finish(None);
    }
}

/// A commit under way: await it, or [`Pending::wait`] on a plain thread. Dropping it does not undo the commit.
#[must_use = "a commit may be refused; dropping this leaves the outcome unknown"]
pub struct Pending(Place);

enum Place {
    Queued { round: Arc<Round>, index: usize },
    Refused(Option<CommitError>),
}

impl Pending {
    pub(super) fn queued(round: Arc<Round>, index: usize) -> Pending {
        Pending(Place::Queued { round, index })
    }

    pub(super) fn refused(error: CommitError) -> Pending {
        Pending(Place::Refused(Some(error)))
    }

    /// Blocks this thread until the commit is done. Not for async tasks: they await.
    ///
    /// # Errors
    /// [`CommitError`]; each variant says whether anything happened.
    pub fn wait(self) -> Result<Receipt, CommitError> {
        match self.0 {
            Place::Queued { round, index } => round.take(round.outcomes.wait(), index),
            Place::Refused(error) => Err(error.expect("a refusal is handed out once, here or by poll")),
        }
    }
}

impl Future for Pending {
    type Output = Result<Receipt, CommitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Place::Refused(error) => Poll::Ready(Err(error.take().expect("a future is not polled after it was ready"))),
            Place::Queued { round, index } => {
                if let Some(outcomes) = round.outcomes.get() {
                    return Poll::Ready(round.take(outcomes, *index));
                }
                let mut wakers = round.wakers.lock();
                if let Some(outcomes) = round.outcomes.get() {
                    return Poll::Ready(round.take(outcomes, *index));
                }
                if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                    wakers.push(context.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}
