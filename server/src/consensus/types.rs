//! Raft's types over ours, and the way between its entries and the records on disk.

use std::{collections::BTreeMap, fmt, io, sync::Arc};

use engine::{
    keyspace::{
        raft_log::{self, Payload},
        raft_state::{self, Applied},
    },
    ledger::{Decision, Proposal},
};
use openraft::{EntryPayload, alias};

pub(super) use engine::keyspace::raft_state::Peer;

openraft::declare_raft_types!(
    /// What raft is made of here.
    pub(super) Types:
        D = Proposals,
        R = Decisions,
        Node = Peer,
);

pub(super) type LogId = alias::LogIdOf<Types>;
pub(super) type Vote = alias::VoteOf<Types>;
pub(super) type Entry = alias::EntryOf<Types>;
pub(super) type Membership = openraft::Membership<u64, Peer>;
pub(super) type StoredMembership = alias::StoredMembershipOf<Types>;
pub(super) type SnapshotMeta = alias::SnapshotMetaOf<Types>;
type LeaderId = alias::LeaderIdOf<Types>;

/// What one entry asks of the ledger, in this order.
#[derive(Clone, Debug)]
pub(super) struct Proposals(pub(super) Arc<[Proposal]>);

impl fmt::Display for Proposals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} proposals", self.0.len())
    }
}

/// What came of them.
#[derive(Debug, Default)]
pub(super) struct Decisions(pub(super) Vec<Decision>);

/// An error that stops raft: what is on disk is not what it should be, or cannot be reached.
pub(super) fn fatal(error: impl fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

pub(super) fn log_id(id: raft_state::LogId) -> LogId {
    let leader_id = LeaderId {
        term: id.term,
        node_id: id.leader,
    };
    LogId::new(leader_id, id.index)
}

pub(super) fn stored_log_id(id: &LogId) -> raft_state::LogId {
    raft_state::LogId {
        term: id.leader_id.term,
        leader: id.leader_id.node_id,
        index: id.index,
    }
}

pub(super) fn vote(vote: raft_state::Vote) -> Vote {
    if vote.committed {
        Vote::new_committed(vote.term, vote.node)
    } else {
        Vote::new(vote.term, vote.node)
    }
}

pub(super) fn stored_vote(vote: &Vote) -> raft_state::Vote {
    raft_state::Vote {
        term: vote.leader_id.term,
        node: vote.leader_id.node_id,
        committed: vote.committed,
    }
}

/// Whether raft can have come to `last` under `vote`: it saves a vote before anything that rests on it.
pub(super) fn rests_on(last: Option<raft_state::LogId>, vote: Option<raft_state::Vote>) -> bool {
    last.map(|last| (last.term, last.leader)) <= vote.map(|vote| (vote.term, vote.node))
}

pub(super) fn membership(members: &raft_state::Membership) -> io::Result<Membership> {
    if members.voters.is_empty() {
        return Ok(Membership::default());
    }
    let voters = members.voters.iter().map(|set| set.iter().copied().collect()).collect();
    let peers: BTreeMap<u64, Peer> = members.peers.iter().cloned().collect();
    Membership::new(voters, peers).map_err(fatal)
}

pub(super) fn stored_membership(members: &Membership) -> raft_state::Membership {
    let voters = members.get_joint_config().iter();
    raft_state::Membership {
        voters: voters.map(|set| set.iter().copied().collect()).collect(),
        peers: members.nodes().map(|(id, peer)| (*id, peer.clone())).collect(),
    }
}

pub(super) fn members_of(applied: &Applied) -> io::Result<StoredMembership> {
    let at = applied.members_at.map(log_id);
    Ok(StoredMembership::new(at, membership(&applied.members)?))
}

pub(super) fn meta_of(applied: &Applied) -> io::Result<SnapshotMeta> {
    Ok(SnapshotMeta {
        last_log_id: applied.last.map(log_id),
        last_membership: members_of(applied)?,
    })
}

pub(super) fn entry(index: u64, stored: raft_log::Entry) -> io::Result<Entry> {
    let id = raft_state::LogId {
        term: stored.term,
        leader: stored.leader,
        index,
    };
    let payload = match stored.payload {
        Payload::Blank => EntryPayload::Blank,
        Payload::Proposals(proposals) => EntryPayload::Normal(Proposals(proposals)),
        Payload::Membership(members) => EntryPayload::Membership(membership(&members)?),
    };
    Ok(Entry {
        log_id: log_id(id),
        payload,
    })
}

pub(super) fn stored_entry(entry: &Entry) -> raft_log::Entry {
    raft_log::Entry {
        term: entry.log_id.leader_id.term,
        leader: entry.log_id.leader_id.node_id,
        payload: match &entry.payload {
            EntryPayload::Blank => Payload::Blank,
            EntryPayload::Normal(Proposals(proposals)) => Payload::Proposals(Arc::clone(proposals)),
            EntryPayload::Membership(members) => Payload::Membership(stored_membership(members)),
        },
    }
}
