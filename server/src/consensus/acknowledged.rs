//! Which of this node's requests the others have taken, while it leads: what a linearizable read rests on.
//!
//! ```text
//!  network   a request is handed out ─► it gets a number ─► sent ─► its own answer ─► that member took this number, under this ballot
//!  reads     a number is drawn ───────────────────────────────────► a majority took later ones, under the ballot of before
//! ```
//!
//! Openraft keeps an account of its own, by log ids, in which an answer "up to entry 10" stands for every request that ends there, those
//! sent later and not answered yet among them: one that is read late counts as if it had been given to a request of this moment
//! (`replication/inflight_append_queue.rs`). Members that answered, elected another leader and took a write there would then make
//! a read here sure that misses it. So answers are counted by their place in the stream.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use openraft::raft::{StreamAppendError, StreamAppendResult};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::types::{Types, Vote};

/// What all members took; clones are the same.
#[derive(Clone)]
pub(super) struct Acknowledged(Arc<Shared>);

struct Shared {
    numbers: AtomicU64,
    /// The latest request that each member took, by the member's number.
    latest: watch::Sender<HashMap<u64, Taken>>,
}

/// One request.
#[derive(Clone, Copy, Debug)]
struct Taken {
    vote: Vote,
    number: u64,
}

/// Who must answer a leader.
#[derive(Clone, Debug)]
pub(super) struct Electorate {
    /// The leader itself, which needs no answer of its own.
    pub(super) own: u64,
    /// Its ballot.
    pub(super) vote: Vote,
    /// Of each of these sets a majority.
    pub(super) voters: Vec<BTreeSet<u64>>,
}

impl Acknowledged {
    pub(super) fn new() -> Acknowledged {
        Acknowledged(Arc::new(Shared {
            numbers: AtomicU64::new(0),
            latest: watch::Sender::default(),
        }))
    }

    /// What is sent from now on has a higher number.
    pub(super) fn now(&self) -> u64 {
        self.0.numbers.fetch_add(1, Ordering::SeqCst)
    }

    /// Waits until a majority has taken what was sent after `since`, under the ballot of `electorate`; perhaps for ever.
    pub(super) async fn majority(&self, since: u64, electorate: &Electorate) {
        let mut latest = self.0.latest.subscribe();
        // The sender lives as long as `self`.
        let _came = latest.wait_for(|latest| electorate.have_taken(since, latest)).await;
    }

    /// For the requests of one stream to `member`.
    pub(super) fn stream(&self, member: u64) -> Unanswered {
        Unanswered {
            acknowledged: self.clone(),
            member,
            requests: Arc::default(),
        }
    }
}

impl Electorate {
    fn have_taken(&self, since: u64, latest: &HashMap<u64, Taken>) -> bool {
        let took = |voter: &u64| {
            let taken = latest.get(voter);
            *voter == self.own || taken.is_some_and(|taken| taken.vote == self.vote && taken.number > since)
        };
        let majority = |voters: &BTreeSet<u64>| voters.iter().filter(|voter| took(voter)).count() > voters.len() / 2;
        self.voters.iter().all(majority)
    }
}

/// Requests of one stream whose answers have not come, the oldest first; each has one, in their order. Clones are the same.
#[derive(Clone)]
pub(super) struct Unanswered {
    acknowledged: Acknowledged,
    member: u64,
    requests: Arc<Mutex<VecDeque<Taken>>>,
}

impl Unanswered {
    /// A request under `vote` is about to be sent.
    pub(super) fn sent(&self, vote: Vote) {
        // Numbered in the order in which they are sent.
        let mut requests = self.requests.lock();
        let number = self.acknowledged.now();
        requests.push_back(Taken { vote, number });
    }

    /// The next answer has come.
    pub(super) fn answered(&self, answer: &StreamAppendResult<Types>) {
        let Some(taken) = self.requests.lock().pop_front() else {
            return;
        };
        // Whose log is another has compared the ballots before.
        if let Ok(_) | Err(StreamAppendError::Conflict(_)) = answer {
            self.acknowledged.0.latest.send_modify(|latest| {
                let before = latest.entry(self.member).or_insert(taken);
                // A heartbeat and an append overtake each other.
                if before.number < taken.number {
                    *before = taken;
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use engine::keyspace::raft_state;

    use super::{
        super::types::{LogId, log_id},
        *,
    };
    use crate::runtime::time::within;

    fn ballot(term: u64) -> Vote {
        Vote::new_committed(term, 1)
    }

    fn taken(index: u64) -> StreamAppendResult<Types> {
        Ok(Some(place(index)))
    }

    fn place(index: u64) -> LogId {
        let (term, leader) = (1, 1);
        log_id(raft_state::LogId { term, leader, index })
    }

    fn electorate(voters: &[&[u64]]) -> Electorate {
        Electorate {
            own: 1,
            vote: ballot(1),
            voters: voters.iter().map(|set| set.iter().copied().collect()).collect(),
        }
    }

    /// Whether it is sure now.
    async fn sure(acknowledged: &Acknowledged, since: u64, voters: &[&[u64]]) -> bool {
        let electorate = electorate(voters);
        let majority = pin!(acknowledged.majority(since, &electorate));
        within(std::time::Duration::ZERO, majority).await.is_some()
    }

    #[tokio::test]
    async fn an_answer_that_was_given_before_the_read_makes_nothing_sure() {
        let acknowledged = Acknowledged::new();
        let follower = acknowledged.stream(2);
        // An entry; and behind it, to say that it is decided, a request that ends at the same place.
        follower.sent(ballot(1));
        let read = acknowledged.now();
        follower.sent(ballot(1));
        follower.answered(&taken(10));
        assert!(!sure(&acknowledged, read, &[&[1, 2, 3]]).await);
        follower.answered(&taken(10));
        assert!(sure(&acknowledged, read, &[&[1, 2, 3]]).await);
        assert!(!sure(&acknowledged, acknowledged.now(), &[&[1, 2, 3]]).await);
    }

    #[tokio::test]
    async fn a_majority_of_every_set_takes_it_under_the_ballot_asked_for() {
        let acknowledged = Acknowledged::new();
        let read = acknowledged.now();
        let answer = |member, vote, answer| {
            let stream = acknowledged.stream(member);
            stream.sent(vote);
            stream.answered(&answer);
        };
        let five: &[u64] = &[1, 2, 3, 4, 5];
        assert!(sure(&acknowledged, read, &[&[1]]).await);
        answer(2, ballot(1), taken(10));
        assert!(!sure(&acknowledged, read, &[five]).await);
        answer(3, ballot(2), taken(10));
        answer(4, ballot(1), Err(StreamAppendError::HigherVote(ballot(2))));
        assert!(!sure(&acknowledged, read, &[five]).await);
        // Its log is another; it follows all the same.
        answer(5, ballot(1), Err(StreamAppendError::Conflict(place(10))));
        assert!(sure(&acknowledged, read, &[five]).await);
        assert!(!sure(&acknowledged, read, &[five, &[2, 3, 4]]).await);
        assert!(sure(&acknowledged, read, &[five, &[2, 3, 5]]).await);
        // The leader is no voter any more.
        assert!(!sure(&acknowledged, read, &[&[2, 3, 4]]).await);
    }

    #[tokio::test]
    async fn who_waits_hears_of_it_and_a_late_answer_takes_nothing_back() {
        let acknowledged = Acknowledged::new();
        let (appends, heartbeats) = (acknowledged.stream(2), acknowledged.stream(2));
        appends.sent(ballot(1));
        let read = acknowledged.now();
        let electorate = electorate(&[&[1, 2, 3]]);
        let answers = async {
            tokio::task::yield_now().await;
            heartbeats.sent(ballot(1));
            heartbeats.answered(&taken(10));
            appends.answered(&taken(10));
            // More answers than requests.
            appends.answered(&taken(11));
        };
        tokio::join!(acknowledged.majority(read, &electorate), answers);
        assert!(sure(&acknowledged, read, &[&[1, 2, 3]]).await);
    }
}
