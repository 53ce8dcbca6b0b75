//! The cluster as this node sees it, and the way to whoever leads.

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use tonic::transport::Channel;

use super::Sequencer;
use crate::runtime::time::{Stopwatch, sleep};

/// Between two looks at who leads.
const LOOK: Duration = Duration::from_millis(20);

/// The cluster as one node sees it.
#[derive(Clone, Debug)]
pub struct View {
    /// Raft's number of this node.
    pub id: u64,
    /// Raft's number of whoever leads.
    pub leader: Option<u64>,
    /// Raft's term.
    pub term: u64,
    /// The last entry known to be decided.
    pub committed: Option<u64>,
    /// The last entry applied here.
    pub applied: Option<u64>,
    /// Why nothing can be decided now.
    pub trouble: Option<String>,
    /// Raft's members, by number.
    pub members: Vec<Seen>,
}

/// A member that raft knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Raft's number.
    pub id: u64,
    /// The node's name.
    pub name: String,
    /// `HOST:PORT`.
    pub address: String,
    /// Whether it votes.
    pub votes: bool,
    /// The last entry it is known to have; only the leader knows.
    pub matched: Option<u64>,
}

impl Sequencer {
    /// The cluster as this node sees it now.
    #[must_use]
    pub fn view(&self) -> View {
        let member = self.member();
        let trouble = member.leader().err();
        let metrics = member.raft.metrics();
        let now = metrics.borrow_watched();
        let config = now.membership_config.membership();
        let matched = |id: &u64| {
            let progress = now.replication.as_ref()?.get(id)?;
            progress.as_ref().map(|log_id| log_id.index)
        };
        let seen = config.nodes().map(|(id, peer)| Seen {
            id: *id,
            name: peer.name.clone(),
            address: peer.address.clone(),
            votes: config.voter_ids().any(|voter| voter == *id),
            matched: matched(id),
        });
        View {
            id: member.id,
            // One that is not heard any more does not lead.
            leader: now.current_leader.filter(|_| trouble.is_none()),
            term: now.current_term,
            committed: now.local_committed.map(|log_id| log_id.index),
            applied: now.last_applied.map(|log_id| log_id.index),
            members: seen.collect(),
            trouble,
        }
    }

    /// The way to whoever leads; `None` when this node does.
    ///
    /// # Errors
    /// Why there is nobody to ask.
    pub fn at_leader(&self) -> Result<Option<Channel>, String> {
        let member = self.member();
        let leader = member.leader()?;
        if leader == member.id {
            return Ok(None);
        }
        let metrics = member.raft.metrics();
        let now = metrics.borrow_watched();
        let peer = now.membership_config.membership().get_node(&leader);
        let peer = peer.ok_or_else(|| "the leader is not known yet".to_owned())?;
        let channel = member.network.transport.channel(&peer.address, &peer.name);
        channel.map(Some).map_err(|error| error.to_string())
    }

    /// Lets `to` lead instead of this node; whether it does within `limit`.
    ///
    /// # Errors
    /// When raft here has died.
    pub async fn hand_over(&self, to: u64, limit: Duration) -> Result<bool, String> {
        let member = self.member();
        let asked = member.raft.trigger().transfer_leader(to).await;
        asked.map_err(|error| error.to_string())?;
        let since = Stopwatch::start();
        while since.elapsed() < limit {
            if member.leader() == Ok(to) {
                return Ok(true);
            }
            sleep(LOOK).await;
        }
        Ok(false)
    }
}
