//! Raft's messages as they travel, and back.

use engine::{keyspace::raft_log, ledger::Proposal};
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use proto::v1 as wire;
use raft_log::Payload;

use super::types::{self, Entry, LogId, Proposals, Types, Vote};

/// A message that is not one: a part is missing, or a record is damaged or of a newer build.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unreadable(String);

pub(super) fn missing(what: &str) -> Unreadable {
    Unreadable(format!("the message has no {what}"))
}

pub(super) fn ballot(vote: &Vote) -> wire::Ballot {
    let vote = types::stored_vote(vote);
    wire::Ballot {
        term: vote.term,
        node: vote.node,
        committed: vote.committed,
    }
}

pub(super) fn vote(ballot: Option<wire::Ballot>) -> Result<Vote, Unreadable> {
    let wire::Ballot { term, node, committed } = ballot.ok_or_else(|| missing("vote"))?;
    Ok(types::vote(engine::keyspace::raft_state::Vote {
        term,
        node,
        committed,
    }))
}

fn place(id: &LogId) -> wire::LogId {
    let id = types::stored_log_id(id);
    wire::LogId {
        term: id.term,
        leader: id.leader,
        index: id.index,
    }
}

fn log_id(id: wire::LogId) -> LogId {
    let wire::LogId { term, leader, index } = id;
    types::log_id(engine::keyspace::raft_state::LogId { term, leader, index })
}

pub(super) fn append(request: &AppendEntriesRequest<Types>) -> wire::AppendRequest {
    let entry = |entry: &Entry| wire::LogEntry {
        index: entry.log_id.index,
        record: raft_log::encode(&types::stored_entry(entry)),
    };
    wire::AppendRequest {
        ballot: Some(ballot(&request.vote)),
        previous: request.prev_log_id.as_ref().map(place),
        entries: request.entries.iter().map(entry).collect(),
        committed: request.leader_commit.as_ref().map(place),
    }
}

pub(super) fn append_request(message: wire::AppendRequest) -> Result<AppendEntriesRequest<Types>, Unreadable> {
    let entry = |entry: wire::LogEntry| {
        let wrong = |error: &dyn std::fmt::Display| Unreadable(format!("entry {}: {error}", entry.index));
        let stored = raft_log::decode(&entry.record).map_err(|error| wrong(&error))?;
        types::entry(entry.index, stored).map_err(|error| wrong(&error))
    };
    Ok(AppendEntriesRequest {
        vote: vote(message.ballot)?,
        prev_log_id: message.previous.map(log_id),
        entries: message.entries.into_iter().map(entry).collect::<Result<_, _>>()?,
        leader_commit: message.committed.map(log_id),
    })
}

pub(super) fn appended(result: &StreamAppendResult<Types>) -> wire::AppendResponse {
    use wire::append_response::Outcome;
    let outcome = match result {
        Ok(last) => Outcome::Stored(wire::Stored {
            last: last.as_ref().map(place),
        }),
        Err(StreamAppendError::Conflict(id)) => Outcome::Conflict(place(id)),
        Err(StreamAppendError::HigherVote(vote)) => Outcome::Higher(ballot(vote)),
    };
    wire::AppendResponse { outcome: Some(outcome) }
}

pub(super) fn append_result(message: wire::AppendResponse) -> Result<StreamAppendResult<Types>, Unreadable> {
    use wire::append_response::Outcome;
    Ok(match message.outcome.ok_or_else(|| missing("outcome"))? {
        Outcome::Stored(stored) => Ok(stored.last.map(log_id)),
        Outcome::Conflict(id) => Err(StreamAppendError::Conflict(log_id(id))),
        Outcome::Higher(higher) => Err(StreamAppendError::HigherVote(vote(Some(higher))?)),
    })
}

pub(super) fn vote_message(request: &VoteRequest<Types>, pre: bool) -> wire::VoteRequest {
    wire::VoteRequest {
        ballot: Some(ballot(&request.vote)),
        last: request.last_log_id.as_ref().map(place),
        leadership_transfer: request.leadership_transfer,
        pre,
    }
}

pub(super) fn vote_request(message: wire::VoteRequest) -> Result<VoteRequest<Types>, Unreadable> {
    let mut request = VoteRequest::new(vote(message.ballot)?, message.last.map(log_id));
    request.leadership_transfer = message.leadership_transfer;
    Ok(request)
}

pub(super) fn vote_answer(response: &VoteResponse<Types>) -> wire::VoteResponse {
    wire::VoteResponse {
        ballot: Some(ballot(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(place),
    }
}

pub(super) fn vote_response(message: wire::VoteResponse) -> Result<VoteResponse<Types>, Unreadable> {
    Ok(VoteResponse::new(
        vote(message.ballot)?,
        message.last.map(log_id),
        message.granted,
    ))
}

pub(super) fn transfer(request: &TransferLeaderRequest<Types>) -> wire::TransferLeaderRequest {
    wire::TransferLeaderRequest {
        ballot: Some(ballot(request.from_leader())),
        last: request.last_log_id().map(place),
        to: *request.to_node_id(),
    }
}

pub(super) fn transfer_request(
    message: wire::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<Types>, Unreadable> {
    let last = message.last.map(log_id);
    Ok(TransferLeaderRequest::new(vote(message.ballot)?, message.to, last))
}

/// Proposals travel as an entry that has no place yet.
pub(super) fn proposals(proposals: &Proposals) -> Vec<u8> {
    raft_log::encode(&raft_log::Entry {
        term: 0,
        leader: 0,
        payload: Payload::Proposals(proposals.0.clone()),
    })
}

pub(super) fn proposed(record: &[u8]) -> Result<std::sync::Arc<[Proposal]>, Unreadable> {
    match raft_log::decode(record)
        .map_err(|error| Unreadable(error.to_string()))?
        .payload
    {
        Payload::Proposals(proposals) => Ok(proposals),
        Payload::Blank | Payload::Membership(_) => Err(missing("commands")),
    }
}
