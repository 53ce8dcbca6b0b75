//! Raft's entries, where this node leads: one for all who ask at once, whoever they are.
//!
//! ```text
//!  this node's batches ─┐
//!  other members'      ─┴─► queue ─► all that wait, as one entry ─► raft ─► to each its part of the decisions
//!                                    at most two on their way; the next gathers meanwhile
//! ```
//!
//! An entry costs the same whatever it holds: every member writes, syncs, acknowledges and applies it. So the busier the cluster,
//! the more goes into one. What nobody waits for any more when its entry is made goes into none: its caller was told that nobody
//! knows, and behind a disk that stands still such commands would pile up and come true long after.

use std::sync::Arc;

use engine::{
    Engine,
    ledger::{Decision, Proposal},
};
use openraft::{
    Raft,
    errors::{ClientWriteError, RaftError},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::{
    gather::{Gathered, Gatherer, Limits, Next},
    machine::Machine,
    propose::Undecided,
    sequencer::weight_of,
    types::{Proposals, Types},
};
use crate::runtime::tasks;

/// Entries on their way at once: while one is synced the next gathers.
const IN_FLIGHT_MAX: usize = 2;

/// What was decided, and the index of the entry that says so.
pub(super) type Decided = (u64, Vec<Decision>);

/// Makes entries; clones share the queue.
#[derive(Clone)]
pub(super) struct Entries(mpsc::UnboundedSender<Option<Asked>>);

/// Proposals that stay together, in their order.
struct Asked {
    proposals: Proposals,
    weight: usize,
    answer: oneshot::Sender<Result<Decided, Undecided>>,
}

impl Gathered for Asked {
    fn weight(&self) -> usize {
        self.weight
    }

    fn commands(&self) -> usize {
        self.proposals.0.len()
    }
}

impl Entries {
    /// Starts the task that makes them, until the last clone has gone.
    pub(super) fn start(raft: Raft<Types, Machine>, engine: &Engine) -> Entries {
        let (sender, queue) = mpsc::unbounded_channel();
        let gatherer = Gatherer::new(queue, Limits::of_an_entry(engine));
        drop(tasks::spawn(run(gatherer, move |together, permit| {
            drop(tasks::spawn(write(raft.clone(), together, permit)));
        })));
        Entries(sender)
    }

    /// Has `proposals` decided by this node's raft, in order. Whoever stops waiting takes them back, unless they are in an entry
    /// already.
    ///
    /// # Errors
    /// [`Undecided`].
    pub(super) async fn write(&self, proposals: Proposals) -> Result<Decided, Undecided> {
        let ended = || Undecided::Died("raft here has ended".to_owned());
        let weight = proposals.0.iter().map(|proposal| weight_of(&proposal.command)).sum();
        let (answer, answered) = oneshot::channel();
        let asked = Asked {
            proposals,
            weight,
            answer,
        };
        self.0.send(Some(asked)).map_err(|_| ended())?;
        answered.await.unwrap_or_else(|_| Err(ended()))
    }
}

/// Makes entries of what is asked; `write` takes each, and with it the permit until it is decided.
async fn run(mut gatherer: Gatherer<Asked>, write: impl Fn(Vec<Asked>, OwnedSemaphorePermit)) {
    let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    loop {
        // Whatever comes while there is no permit goes into the next entry.
        let Ok(permit) = Arc::clone(&in_flight).acquire_owned().await else {
            return;
        };
        let (mut together, next) = gatherer.gather().await;
        together.retain(|asked| !asked.answer.is_closed());
        if !together.is_empty() {
            write(together, permit);
        }
        if next == Next::Nothing {
            return;
        }
    }
}

/// Writes one entry, and gives to each its part of what came of it.
async fn write(raft: Raft<Types, Machine>, together: Vec<Asked>, _permit: OwnedSemaphorePermit) {
    let all = match &together[..] {
        [one] => one.proposals.clone(),
        several => {
            let each = several.iter().flat_map(|asked| asked.proposals.0.iter());
            Proposals(each.cloned().collect::<Vec<Proposal>>().into())
        }
    };
    let (index, mut decisions) = match decide(&raft, all).await {
        Ok((index, decisions)) => (index, decisions.into_iter()),
        Err(undecided) => {
            for asked in together {
                let _left = asked.answer.send(Err(undecided.clone()));
            }
            return;
        }
    };
    for Asked { proposals, answer, .. } in together {
        let own = decisions.by_ref().take(proposals.0.len()).collect();
        let _left = answer.send(Ok((index, own)));
    }
}

async fn decide(raft: &Raft<Types, Machine>, proposals: Proposals) -> Result<Decided, Undecided> {
    let answer = raft.client_write(proposals).await.map_err(|error| undecided(&error))?;
    Ok((answer.log_id.index, answer.data.0))
}

/// What raft's refusal means.
fn undecided(error: &RaftError<Types, ClientWriteError<Types>>) -> Undecided {
    match error {
        // A leader's first moments, when its lease is not there yet; or it leads no more.
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => {
            Undecided::Nothing("the leader has just changed".to_owned())
        }
        // This node's log has lost the entry: another leader may have kept it.
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => {
            Undecided::Unknown("another node leads now, and may have decided it or not".to_owned())
        }
        error => Undecided::Died(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use openraft::errors::{Fatal, ForwardToLeader};

    use super::{super::tests::unwritten, *};

    /// Of as many bytes as its number says; and who waits for it.
    fn asked(number: usize) -> (Asked, oneshot::Receiver<Result<Decided, Undecided>>) {
        let (answer, answered) = oneshot::channel();
        let asked = Asked {
            proposals: Proposals([unwritten(number)].into()),
            weight: number,
            answer,
        };
        (asked, answered)
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_goes_into_no_entry() {
        let (queue, waiting) = mpsc::unbounded_channel();
        // Three at once: one is kept for the next entry.
        let limits = Limits {
            commands: 3,
            weight: usize::MAX,
        };
        let (entry, mut entries) = mpsc::unbounded_channel();
        let making = run(Gatherer::new(waiting, limits), move |together, permit| {
            let numbers: Vec<usize> = together.iter().map(Gathered::weight).collect();
            entry.send((numbers, together, permit)).expect("the test looks");
        });
        let ask = |number| {
            let (asked, caller) = asked(number);
            assert!(queue.send(Some(asked)).is_ok());
            caller
        };
        let test = async {
            // As many as may be on their way: the disk stands still.
            let mut under_way = Vec::new();
            for number in 1..=IN_FLIGHT_MAX {
                let caller = ask(number);
                under_way.push((caller, entries.recv().await.expect("an entry")));
            }
            let mut callers: Vec<_> = (3..=9).map(ask).collect();
            for given_up in [3, 5, 6, 7, 8] {
                callers[given_up - 3].close();
            }
            drop(under_way);
            let mut made = Vec::new();
            for _ in 0..2 {
                let (numbers, ..) = entries.recv().await.expect("an entry");
                made.push(numbers);
            }
            assert_eq!(made, [vec![4], vec![9]]);
            assert!(queue.send(None).is_ok());
        };
        tokio::join!(making, test);
    }

    #[test]
    fn what_another_leader_may_have_kept_is_unknown() {
        let refused = |error: ClientWriteError<Types>| undecided(&RaftError::APIError(error));
        let discarded = refused(ClientWriteError::LogEntryDiscarded(ForwardToLeader::empty()));
        assert!(matches!(discarded, Undecided::Unknown(_)), "{discarded:?}");
        let elsewhere = refused(ClientWriteError::ForwardToLeader(ForwardToLeader::empty()));
        assert!(matches!(elsewhere, Undecided::Nothing(_)), "{elsewhere:?}");
        let died = undecided(&RaftError::Fatal(Fatal::Stopped));
        assert!(matches!(died, Undecided::Died(_)), "{died:?}");
    }
}
