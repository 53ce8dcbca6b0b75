//! Reads that see everything acknowledged before they began: one round of the leader with a majority, for all who ask at once.
//!
//! ```text
//!  caller ─► nobody makes a round ─► makes one ────────────────────────────────────────► index applied here
//!         └► one is under way     ─► waits for its end ─► the next: made by one of them, for all of them
//!
//!  a round   whoever leads asks a majority whether it still does; what was committed when it began is applied here ─► the index
//!            rounds of several members that wait for the leader at the same time are one of its own
//! ```
//!
//! Whoever comes while a round is under way cannot use it: it may have begun before a write that the caller knows of. There is
//! never more than one under way, however many read, and no task: the callers make the rounds themselves. One that goes away
//! in the middle hands its round on. A lease is never trusted: clocks may lie. Neither is openraft's word for who has answered:
//! see [`super::acknowledged`].

use std::{pin::Pin, sync::Arc, time::Duration};

use engine::CommitError;
use openraft::{ReadPolicy, async_runtime::watch::WatchReceiver as _, errors::RaftError};
use parking_lot::Mutex;
use proto::v1 as wire;
use tokio::sync::oneshot;

use super::{Sequencer, acknowledged::Electorate, member::Member};
use crate::runtime::{tasks, time::within};

/// Time for a majority to say who leads.
const ROUND_MAX: Duration = Duration::from_secs(2);
/// Time for this node to apply what others have.
const APPLIED_WITHIN: Duration = Duration::from_secs(2);

/// Makes sure of what is applied; clones share their rounds.
#[derive(Clone)]
pub struct Reads {
    member: Member,
    rounds: Rounds,
}

impl Reads {
    /// For the readers of one node.
    #[must_use]
    pub fn new(sequencer: &Sequencer) -> Reads {
        Reads {
            member: sequencer.member().clone(),
            rounds: Rounds::default(),
        }
    }

    /// Waits until everything acknowledged before the call is applied at this node; the index of raft's log up to which it is.
    ///
    /// # Errors
    /// [`CommitError::Unavailable`] when nobody leads, no majority answers, or this node is too far behind: try again.
    pub async fn linearize(&self) -> Result<u64, CommitError> {
        // Boxed: most callers make no round, and need not carry one.
        let round = async || -> Result<u64, CommitError> {
            let round: Pin<Box<dyn Future<Output = _> + Send + '_>> = Box::pin(self.member.read_index());
            round.await
        };
        self.rounds.join(round).await
    }

    /// The index of raft's log up to which it is applied at this node, at least, now; others may be ahead.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.member.applied()
    }
}

impl Member {
    /// Has whoever leads ask a majority whether it does, and waits until what was committed when it began is applied here.
    async fn read_index(&self) -> Result<u64, CommitError> {
        let at = match self.leader() {
            Ok(leader) if leader == self.id => self.own_read_index().await?,
            Ok(leader) => self.read_index_of(leader).await?,
            Err(why) => return Err(CommitError::Unavailable(why)),
        };
        let wait = self.raft.wait(Some(APPLIED_WITHIN));
        match wait.applied_index_at_least(Some(at), "a read").await {
            Ok(metrics) => Ok(metrics.last_applied.map_or(at, |applied| applied.index)),
            Err(_) => Err(CommitError::Unavailable(
                "this node is behind the others: retry, or ask another".to_owned(),
            )),
        }
    }

    /// Of this node, if it leads: the entry up to which everything is that was acknowledged before the call.
    ///
    /// # Errors
    /// When it does not lead, or no majority says that it does.
    pub(super) async fn own_read_index(&self) -> Result<u64, CommitError> {
        self.rounds.join(async || self.ask_majority().await).await
    }

    async fn ask_majority(&self) -> Result<u64, CommitError> {
        let round = within(ROUND_MAX, self.round()).await;
        round.unwrap_or_else(|| Err(CommitError::Unavailable("no majority answered in time".to_owned())))
    }

    async fn round(&self) -> Result<u64, CommitError> {
        let died = |fatal: &dyn std::fmt::Display| CommitError::Stopped(format!("raft does not answer: {fatal}"));
        // Before the index is told: a ballot that is won only then says nothing of what was committed in between. In a task of its
        // own, for openraft takes it for an error when whoever asked has left.
        let (own, raft) = (self.id, self.raft.clone());
        let electorate = tasks::spawn(async move {
            let electorate = raft.with_raft_state(move |state| Electorate {
                own,
                vote: *state.vote_ref(),
                voters: state
                    .membership_state
                    .effective()
                    .membership()
                    .get_joint_config()
                    .clone(),
            });
            electorate.await
        });
        let electorate = electorate.await.map_err(|error| died(&error))?;
        let electorate = electorate.map_err(|fatal| died(&fatal))?;
        let since = self.network.acknowledged.now();
        let linearizer = match self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(linearizer) => linearizer,
            Err(RaftError::APIError(error)) => {
                let why = format!("a read could not be made sure of: {error}");
                return Err(CommitError::Unavailable(why));
            }
            Err(RaftError::Fatal(fatal)) => return Err(died(&fatal)),
        };
        self.network.acknowledged.majority(since, &electorate).await;
        Ok(linearizer.read_log_id().index())
    }

    async fn read_index_of(&self, leader: u64) -> Result<u64, CommitError> {
        let unavailable =
            |why: &dyn std::fmt::Display| CommitError::Unavailable(format!("the leader did not answer: {why}"));
        let link = self.link(leader).ok_or_else(|| unavailable(&"it is not known yet"))?;
        let mut client = link.client().map_err(|error| unavailable(&error))?;
        let asked = client.read_index(link.request(wire::ReadIndexRequest {}));
        let answer = self.answer_of(leader, ROUND_MAX, asked).await;
        match answer {
            Some(Ok(answer)) => Ok(answer.into_inner().index),
            Some(Err(status)) => Err(unavailable(&status.message())),
            None => Err(unavailable(&"no answer in time")),
        }
    }

    fn applied(&self) -> u64 {
        let metrics = self.raft.metrics();
        let applied = metrics.borrow_watched().last_applied;
        applied.map_or(0, |applied| applied.index)
    }
}

/// Rounds that callers share; clones are the same.
#[derive(Clone, Default)]
pub(super) struct Rounds(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    under_way: bool,
    /// Came since the one under way began.
    waiting: Vec<oneshot::Sender<Turn>>,
}

/// What becomes of a caller that waits.
enum Turn {
    /// Somebody made a round for it.
    Over(Result<u64, CommitError>),
    /// It makes the next.
    Yours(Lead),
}

impl Rounds {
    /// What a round says that begins after the call; `make` makes one.
    async fn join(&self, make: impl AsyncFnOnce() -> Result<u64, CommitError>) -> Result<u64, CommitError> {
        let mut lead = match self.enter() {
            Ok(lead) => lead,
            Err(turn) => match turn.await {
                Ok(Turn::Over(outcome)) => return outcome,
                Ok(Turn::Yours(lead)) => lead,
                Err(_) => return Err(CommitError::Busy),
            },
        };
        let outcome = make().await;
        for waiting in lead.with.drain(..) {
            let _caller_left = waiting.send(Turn::Over(outcome.clone()));
        }
        outcome
    }

    fn enter(&self) -> Result<Lead, oneshot::Receiver<Turn>> {
        let mut state = self.0.lock();
        if state.under_way {
            let (sender, receiver) = oneshot::channel();
            state.waiting.push(sender);
            return Err(receiver);
        }
        state.under_way = true;
        drop(state);
        Ok(Lead {
            rounds: Some(self.clone()),
            with: Vec::new(),
        })
    }
}

/// The round under way: whoever holds it makes it, or hands it on by dropping it.
struct Lead {
    /// `None` once it is in other hands.
    rounds: Option<Rounds>,
    /// Those for whom it is made as well.
    with: Vec<oneshot::Sender<Turn>>,
}

impl Drop for Lead {
    fn drop(&mut self) {
        let Some(rounds) = self.rounds.take() else { return };
        let mut with = std::mem::take(&mut self.with);
        loop {
            {
                let mut state = rounds.0.lock();
                with.append(&mut state.waiting);
                if with.is_empty() {
                    state.under_way = false;
                    return;
                }
            }
            let Some(next) = with.pop() else { return };
            let lead = Lead {
                rounds: Some(rounds.clone()),
                with,
            };
            let Err(Turn::Yours(mut back)) = next.send(Turn::Yours(lead)) else {
                return;
            };
            // That caller has left; what comes back must not hand on by itself.
            back.rounds = None;
            with = std::mem::take(&mut back.with);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::sync::Semaphore;

    use super::*;
    use crate::runtime::tasks;

    /// Rounds that end when the test lets them, and say their number.
    #[derive(Clone)]
    struct Slow {
        rounds: Rounds,
        begun: Arc<AtomicU64>,
        ends: Arc<Semaphore>,
    }

    impl Slow {
        fn new() -> Slow {
            Slow {
                rounds: Rounds::default(),
                begun: Arc::default(),
                ends: Arc::new(Semaphore::new(0)),
            }
        }

        async fn join(self) -> Result<u64, CommitError> {
            let make = async || {
                let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
                self.ends.acquire().await.expect("open").forget();
                Ok(number)
            };
            self.rounds.join(make).await
        }

        fn call(&self) -> tokio::task::JoinHandle<Result<u64, CommitError>> {
            tasks::spawn(self.clone().join())
        }

        async fn until(&self, condition: impl Fn(&Slow) -> bool) {
            while !condition(self) {
                tokio::task::yield_now().await;
            }
        }

        fn waiting(&self) -> usize {
            self.rounds.0.lock().waiting.len()
        }

        fn begun(&self) -> u64 {
            self.begun.load(Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn who_comes_during_a_round_shares_the_next() {
        let slow = Slow::new();
        let first = slow.call();
        slow.until(|slow| slow.begun() == 1).await;
        let others: Vec<_> = (0..500).map(|_| slow.call()).collect();
        slow.until(|slow| slow.waiting() == 500).await;
        slow.ends.add_permits(1);
        assert_eq!(first.await.unwrap().unwrap(), 1);
        slow.until(|slow| slow.begun() == 2).await;
        let late = slow.call();
        slow.until(|slow| slow.waiting() == 1).await;
        slow.ends.add_permits(2);
        for other in others {
            assert_eq!(other.await.unwrap().unwrap(), 2);
        }
        assert_eq!(late.await.unwrap().unwrap(), 3);
        assert!(!slow.rounds.0.lock().under_way);
    }

    #[tokio::test]
    async fn a_caller_that_leaves_hands_its_round_on() {
        let slow = Slow::new();
        let first = slow.call();
        slow.until(|slow| slow.begun() == 1).await;
        let others: Vec<_> = (0..9).map(|_| slow.call()).collect();
        slow.until(|slow| slow.waiting() == 9).await;
        // The one in the middle of a round leaves, and so do some that wait, the next to make one among them.
        first.abort();
        slow.until(|slow| slow.begun() == 2).await;
        for other in &others[5..] {
            other.abort();
        }
        slow.until(|slow| slow.begun() == 3).await;
        slow.ends.add_permits(1);
        let mut told = 0;
        for other in others {
            if let Ok(outcome) = other.await {
                assert_eq!(outcome.unwrap(), 3);
                told += 1;
            }
        }
        assert_eq!(told, 5);
        slow.ends.add_permits(1);
        assert_eq!(slow.clone().join().await.unwrap(), 4);
    }
}
