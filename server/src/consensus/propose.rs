//! Commands on their way to whoever leads.
//!
//! ```text
//!  who leads? ─► this node: entries ─► raft ─► decided, applied
//!     ▲          another:   Peers.Propose ─► decided there ─► applied here as well (a moment is waited for)
//!     └── not taken: a moment later, again, as long as there is time
//! ```
//!
//! What raft has taken may be decided long after its caller was told that nobody knows: only a command under an idempotency key is
//! sent again then.

use std::{pin::pin, sync::Arc, time::Duration};

use engine::{CommitError, ledger::Decision};
use openraft::async_runtime::watch::WatchReceiver as _;
use proto::v1 as wire;
use tonic::{Code, Status};

use super::{
    entries::Decided,
    log::record_bytes_max,
    member::{Member, RETRY},
    network::Link,
    types::Proposals,
    wire as messages,
};
use crate::{
    runtime::time::{Stopwatch, sleep, within},
    transport::is_unconnected,
};

/// Time for commands to be decided, whoever leads.
const DECIDED_WITHIN: Duration = Duration::from_secs(5);
/// Of a leader that must be elected first, so much is waited for.
const LEADER_WITHIN: Duration = Duration::from_secs(3);
/// After another node has decided, its decision should be visible here within this time.
const VISIBLE_WITHIN: Duration = Duration::from_secs(1);

/// Why there are no decisions.
#[derive(Clone, Debug)]
pub(super) enum Undecided {
    /// Nothing happened, and nothing will: another time, perhaps elsewhere.
    Nothing(String),
    /// Nothing happened, and nothing would another time.
    Never(String),
    /// It may have happened, or may still.
    Unknown(String),
    /// Raft here has died.
    Died(String),
}

impl Member {
    /// Has `proposals` decided, in order; their decisions are durable.
    ///
    /// # Errors
    /// [`Undecided`].
    pub(super) async fn propose(&self, proposals: Proposals) -> Result<Vec<Decision>, Undecided> {
        let since = Stopwatch::start();
        let repeatable = proposals.0.iter().all(|proposal| proposal.idempotency.is_some());
        // Alone there is nobody to wait for, and so no limit: the disk decides.
        let limit = |limit: Duration| (!self.is_alone()).then(|| limit.saturating_sub(since.elapsed()));
        let mut unknown = None;
        loop {
            let left = limit(DECIDED_WITHIN);
            let tried = match self.leader() {
                Ok(leader) if leader == self.id => self.decide(&proposals, left).await,
                Ok(leader) => self.forward(leader, &proposals, left.unwrap_or(DECIDED_WITHIN)).await,
                Err(why) => Err(self.died().map_or(Undecided::Nothing(why), Undecided::Died)),
            };
            let why = match tried {
                Ok(decisions) => return Ok(decisions),
                Err(Undecided::Unknown(why)) if repeatable => {
                    unknown = Some(why.clone());
                    why
                }
                Err(Undecided::Nothing(why)) => why,
                Err(undecided) => return Err(undecided),
            };
            if limit(LEADER_WITHIN).is_some_and(|left| left.is_zero()) {
                return Err(unknown.map_or(Undecided::Nothing(why), Undecided::Unknown));
            }
            sleep(RETRY).await;
        }
    }

    /// By this node's raft, which leads or does not any more.
    async fn decide(&self, proposals: &Proposals, left: Option<Duration>) -> Result<Vec<Decision>, Undecided> {
        let mut written = pin!(self.entries.write(self.timed(proposals.clone())));
        let (_index, decisions) = loop {
            let answer = within(left.unwrap_or(DECIDED_WITHIN), written.as_mut()).await;
            match answer {
                Some(answer) => break answer?,
                // Alone there is nobody to wait for; others may vote since.
                None if left.is_none() && self.is_alone() => {}
                None => return Err(unconfirmed()),
            }
        };
        Ok(decisions)
    }

    /// What raft died of, if it has.
    fn died(&self) -> Option<String> {
        let metrics = self.raft.metrics();
        let now = metrics.borrow_watched();
        now.running_state.as_ref().err().map(ToString::to_string)
    }

    /// The way to a member that raft knows.
    pub(super) fn link(&self, member: u64) -> Option<Link> {
        let metrics = self.raft.metrics();
        let now = metrics.borrow_watched();
        let peer = now.membership_config.membership().get_node(&member)?;
        Some(self.network.link(member, peer))
    }

    /// By the member that leads.
    async fn forward(&self, leader: u64, proposals: &Proposals, left: Duration) -> Result<Vec<Decision>, Undecided> {
        let unknown_yet = || Undecided::Nothing("the leader is not known yet".to_owned());
        let link = self.link(leader).ok_or_else(unknown_yet)?;
        let mut client = link.client().map_err(|error| Undecided::Nothing(error.to_string()))?;
        let record = messages::proposals(proposals);
        let mut request = link.request(wire::ProposeRequest { record });
        request.set_timeout(left);
        let answer = match self.answer_of(leader, left, client.propose(request)).await {
            Some(Ok(answer)) => answer.into_inner(),
            Some(Err(status)) => return Err(unanswered(&status)),
            None => return Err(Undecided::Unknown("the leader did not answer in time".to_owned())),
        };
        let wait = self.raft.wait(Some(VISIBLE_WITHIN));
        // Late, it is decided all the same.
        drop(wait.applied_index_at_least(Some(answer.index), "visible here").await);
        match engine::ledger::decode_decisions(&answer.decisions) {
            Ok(decisions) if decisions.len() == proposals.0.len() => Ok(decisions),
            Ok(_) => Err(Undecided::Unknown("the leader answered another question".to_owned())),
            Err(error) => Err(Undecided::Unknown(error.to_string())),
        }
    }

    /// Has commands of another member decided here, at once or not at all; also the index of their entry.
    ///
    /// # Errors
    /// [`Undecided`].
    pub(super) async fn decide_for_another(&self, proposals: Proposals) -> Result<Decided, Undecided> {
        if self.leader() != Ok(self.id) {
            return Err(Undecided::Nothing("this node does not lead".to_owned()));
        }
        // Raft writes what it has taken, so what could not be written is refused before.
        self.engine
            .admits()
            .map_err(|full: CommitError| Undecided::Nothing(full.to_string()))?;
        let timed = self.timed(proposals.clone());
        // Another time may take more bytes.
        if !Arc::ptr_eq(&timed.0, &proposals.0) && messages::proposals(&timed).len() > record_bytes_max(&self.engine) {
            return Err(Undecided::Never(format!(
                "commands are over the maximum of {} bytes",
                record_bytes_max(&self.engine)
            )));
        }
        let written = within(DECIDED_WITHIN, self.entries.write(timed)).await;
        written.unwrap_or_else(|| Err(unconfirmed()))
    }
}

fn unconfirmed() -> Undecided {
    Undecided::Unknown("no majority confirmed it in time".to_owned())
}

/// What the leader's silence or refusal means for what it was sent.
fn unanswered(status: &Status) -> Undecided {
    let why = || status.message().to_owned();
    match status.code() {
        // Said by the other side before it did anything.
        Code::FailedPrecondition | Code::PermissionDenied => Undecided::Nothing(why()),
        Code::InvalidArgument => Undecided::Never(why()),
        _ if is_unconnected(status) => Undecided::Nothing("the leader cannot be reached".to_owned()),
        _ => Undecided::Unknown(format!("the leader's answer was lost: {}", status.message())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_lost_leaves_it_unknown_and_a_refusal_does_not() {
        for (code, nothing) in [
            (Code::FailedPrecondition, true),
            (Code::PermissionDenied, true),
            (Code::Unavailable, false),
            (Code::DeadlineExceeded, false),
            (Code::Cancelled, false),
            (Code::Unknown, false),
        ] {
            let found = unanswered(&Status::new(code, "why"));
            let expected = matches!(
                (&found, nothing),
                (Undecided::Nothing(_), true) | (Undecided::Unknown(_), false)
            );
            assert!(expected, "{code:?}: {found:?}");
        }
        let never = unanswered(&Status::invalid_argument("too large"));
        assert!(matches!(never, Undecided::Never(_)), "{never:?}");
    }
}
