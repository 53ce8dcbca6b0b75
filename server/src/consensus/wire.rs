//! Raft's messages as they travel, and back.

use engine::{keyspace::raft_log, ledger::Proposal};
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use proto::v1 as wire;
use raft_log::Payload;

use super::types::{self, Entry, LogId, Proposals, Types, Vote};

/// A message that is not one: a part is missing, a record is damaged or of a newer build, or what comes as a log is none.
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
    let request = AppendEntriesRequest {
        vote: vote(message.ballot)?,
        prev_log_id: message.previous.map(log_id),
        entries: message.entries.into_iter().map(entry).collect::<Result<_, _>>()?,
        leader_commit: message.committed.map(log_id),
    };
    check_append(&request)?;
    Ok(request)
}

/// Whether it is a piece of a leader's log: of one that was elected, without a gap, by leaders that followed each other. Openraft
/// takes it for one unseen, and would write an entry in the place of another.
fn check_append(request: &AppendEntriesRequest<Types>) -> Result<(), Unreadable> {
    let refuse = |what: String| Err(Unreadable(what));
    if !request.vote.committed {
        return refuse("the sender was not elected".to_owned());
    }
    let mut before = request.prev_log_id;
    for Entry { log_id, .. } in &request.entries {
        let next = before.map_or(Some(0), |before| before.index.checked_add(1));
        if next != Some(log_id.index) {
            return refuse(format!("entry {} does not follow {before:?}", log_id.index));
        }
        if before.is_some_and(|before| before.leader_id > log_id.leader_id) {
            return refuse(format!(
                "entry {} is of an earlier leader than the one before",
                log_id.index
            ));
        }
        before = Some(*log_id);
    }
    if before.is_some_and(|last| last.leader_id > request.vote.leader_id) {
        return refuse("the last entry is of a later leader than the one that sends it".to_owned());
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;

    use super::*;

    fn at(term: u64, index: u64) -> LogId {
        log_id(wire::LogId { term, leader: 1, index })
    }

    /// Entries, as term and index, behind `previous`.
    fn sent(previous: Option<(u64, u64)>, entries: &[(u64, u64)]) -> AppendEntriesRequest<Types> {
        let entry = |&(term, index): &(u64, u64)| Entry {
            log_id: at(term, index),
            payload: EntryPayload::Blank,
        };
        AppendEntriesRequest {
            vote: Vote::new_committed(5, 1),
            prev_log_id: previous.map(|(term, index)| at(term, index)),
            entries: entries.iter().map(entry).collect(),
            leader_commit: None,
        }
    }

    fn taken(request: &AppendEntriesRequest<Types>) -> Result<(), String> {
        let read = append_request(append(request)).map_err(|error| error.to_string())?;
        assert_eq!(read.prev_log_id, request.prev_log_id);
        assert_eq!(read.entries.len(), request.entries.len());
        Ok(())
    }

    #[test]
    fn a_piece_of_a_log_is_taken_and_anything_else_is_not() {
        let last = (5, u64::MAX);
        for request in [
            sent(None, &[]),
            sent(Some(last), &[]),
            sent(None, &[(0, 0), (5, 1)]),
            sent(Some((3, 7)), &[(3, 8), (4, 9), (5, 10)]),
            sent(Some((5, u64::MAX - 1)), &[last]),
        ] {
            assert_eq!(taken(&request), Ok(()), "{request:?}");
        }
        for (request, why) in [
            (sent(None, &[(5, 1)]), "entry 1 does not follow"),
            (sent(Some((3, 7)), &[(3, 7)]), "entry 7 does not follow"),
            (sent(Some((3, 7)), &[(3, 9)]), "entry 9 does not follow"),
            (sent(Some((3, 7)), &[(3, 8), (3, 10)]), "entry 10 does not follow"),
            (sent(Some((3, 7)), &[(3, 8), (3, 8)]), "entry 8 does not follow"),
            (sent(Some(last), &[(5, 0)]), "entry 0 does not follow"),
            (sent(Some((3, 7)), &[(2, 8)]), "entry 8 is of an earlier leader"),
            (sent(Some((3, 7)), &[(4, 8), (3, 9)]), "entry 9 is of an earlier leader"),
            (sent(Some((3, 7)), &[(6, 8)]), "of a later leader"),
            (sent(Some((6, 7)), &[]), "of a later leader"),
        ] {
            let refused = taken(&request).unwrap_err();
            assert!(refused.contains(why), "{request:?}: {refused}");
        }
        let candidate = AppendEntriesRequest {
            vote: Vote::new(5, 1),
            ..sent(Some((3, 7)), &[(3, 8)])
        };
        assert_eq!(taken(&candidate), Err("the sender was not elected".to_owned()));
    }
}
