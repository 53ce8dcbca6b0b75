//! Commands on their way to whoever leads.
//!
//! ```text
//!  who leads? ─► this node: raft          ─► decided, applied
//!     ▲          another:   Peers.Propose ─► decided there ─► applied here as well (a moment is waited for)
//!     └── not taken: a moment later, again, as long as there is time
//! ```
//!
//! What raft has taken may be decided long after its caller was told that nobody knows: only a command under an idempotency key is
//! sent again then.

use std::{pin::pin, time::Duration};

use engine::{CommitError, ledger::Decision};
use openraft::{
    async_runtime::watch::WatchReceiver as _,
    errors::{ClientWriteError, RaftError},
};
use proto::v1 as wire;
use tonic::{Code, Status};

use super::{
    member::{Member, RETRY},
    network::Link,
    types::Proposals,
    wire as messages,
};
use crate::runtime::time::{Stopwatch, sleep, within};

/// Time for commands to be decided, whoever leads.
const DECIDED_WITHIN: Duration = Duration::from_secs(5);
/// Of a leader that must be elected first, so much is waited for.
const LEADER_WITHIN: Duration = Duration::from_secs(3);
/// After another node has decided, its decision should be visible here within this time.
const VISIBLE_WITHIN: Duration = Duration::from_secs(1);

/// Said of an entry that this node's log has lost: another leader may have kept it.
const DISCARDED: &str = "another node leads now, and may have decided it or not";

/// Why there are no decisions.
#[derive(Debug)]
pub(super) enum Undecided {
    /// Nothing happened, and nothing will.
    Nothing(String),
    /// It may have happened, or may still.
    Unknown(String),
    /// Raft here has died.
    Died(String),
}

/// One try.
enum Tried {
    Decided(Vec<Decision>),
    /// Nothing happened: another time, perhaps elsewhere.
    NotTaken(String),
    Failed(Undecided),
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
                Err(why) => match self.died() {
                    Some(died) => Tried::Failed(Undecided::Died(died)),
                    None => Tried::NotTaken(why),
                },
            };
            let why = match tried {
                Tried::Decided(decisions) => return Ok(decisions),
                Tried::Failed(Undecided::Unknown(why)) if repeatable => {
                    unknown = Some(why.clone());
                    why
                }
                Tried::Failed(undecided) => return Err(undecided),
                Tried::NotTaken(why) => why,
            };
            if limit(LEADER_WITHIN).is_some_and(|left| left.is_zero()) {
                return Err(unknown.map_or(Undecided::Nothing(why), Undecided::Unknown));
            }
            sleep(RETRY).await;
        }
    }

    /// By this node's raft, which leads or does not any more.
    async fn decide(&self, proposals: &Proposals, left: Option<Duration>) -> Tried {
        let written = self.raft.client_write(proposals.clone());
        let written = match left {
            None => {
                let mut written = pin!(written);
                loop {
                    if let Some(answer) = within(DECIDED_WITHIN, written.as_mut()).await {
                        break Some(answer);
                    }
                    // Others may vote since.
                    if !self.is_alone() {
                        break None;
                    }
                }
            }
            Some(left) => within(left, written).await,
        };
        match written {
            Some(Ok(answer)) => Tried::Decided(answer.data.0),
            // A leader's first moments, when its lease is not there yet; or it leads no more.
            Some(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
                Tried::NotTaken("the leader has just changed".to_owned())
            }
            Some(Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)))) => {
                Tried::Failed(Undecided::Unknown(DISCARDED.to_owned()))
            }
            Some(Err(error)) => Tried::Failed(Undecided::Died(error.to_string())),
            None => Tried::Failed(Undecided::Unknown("no majority confirmed it in time".to_owned())),
        }
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
    async fn forward(&self, leader: u64, proposals: &Proposals, left: Duration) -> Tried {
        let Some(link) = self.link(leader) else {
            return Tried::NotTaken("the leader is not known yet".to_owned());
        };
        let mut client = match link.client() {
            Ok(client) => client,
            Err(error) => return Tried::NotTaken(error.to_string()),
        };
        let record = messages::proposals(proposals);
        let mut request = link.request(wire::ProposeRequest { record });
        request.set_timeout(left);
        let answer = match within(left, client.propose(request)).await {
            Some(Ok(answer)) => answer.into_inner(),
            Some(Err(status)) => return unanswered(&status),
            None => return Tried::Failed(Undecided::Unknown("the leader did not answer in time".to_owned())),
        };
        let wait = self.raft.wait(Some(VISIBLE_WITHIN));
        // Late, it is decided all the same.
        drop(wait.applied_index_at_least(Some(answer.index), "visible here").await);
        match engine::ledger::decode_decisions(&answer.decisions) {
            Ok(decisions) if decisions.len() == proposals.0.len() => Tried::Decided(decisions),
            Ok(_) => Tried::Failed(Undecided::Unknown("the leader answered another question".to_owned())),
            Err(error) => Tried::Failed(Undecided::Unknown(error.to_string())),
        }
    }

    /// Has commands of another member decided here, at once or not at all; also the index of their entry.
    ///
    /// # Errors
    /// [`Undecided`].
    pub(super) async fn decide_for_another(&self, proposals: Proposals) -> Result<(u64, Vec<Decision>), Undecided> {
        if self.leader() != Ok(self.id) {
            return Err(Undecided::Nothing("this node does not lead".to_owned()));
        }
        // Raft writes what it has taken, so what could not be written is refused before.
        self.engine
            .admits()
            .map_err(|full: CommitError| Undecided::Nothing(full.to_string()))?;
        match within(DECIDED_WITHIN, self.raft.client_write(proposals)).await {
            Some(Ok(answer)) => Ok((answer.log_id.index, answer.data.0)),
            Some(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
                Err(Undecided::Nothing("the leader has just changed".to_owned()))
            }
            Some(Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)))) => {
                Err(Undecided::Unknown(DISCARDED.to_owned()))
            }
            Some(Err(error)) => Err(Undecided::Died(error.to_string())),
            None => Err(Undecided::Unknown("no majority confirmed it in time".to_owned())),
        }
    }
}

/// What the leader's silence or refusal means for what it was sent.
fn unanswered(status: &Status) -> Tried {
    let why = || status.message().to_owned();
    let causes = std::iter::successors(std::error::Error::source(status), |cause| cause.source());
    let mut causes = causes;
    match status.code() {
        // Said by the other side before it did anything.
        Code::FailedPrecondition | Code::PermissionDenied => Tried::NotTaken(why()),
        _ if causes.any(|cause| cause.is::<tonic::ConnectError>()) => {
            Tried::NotTaken("the leader cannot be reached".to_owned())
        }
        _ => Tried::Failed(Undecided::Unknown(format!(
            "the leader's answer was lost: {}",
            status.message()
        ))),
    }
}
