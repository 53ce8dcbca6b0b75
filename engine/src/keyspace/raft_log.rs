//! Family `raft_log`: the entries that raft has not purged yet.
//!
//! ```text
//!  index (u64 BE)   term ‖ leader ‖ payload: 0 blank │ 1 list of proposals │ 2 membership
//! ```
//!
//! Indexes follow one another without a hole. The first is the one behind [`super::raft_state::Purged`], or 0: nobody looks
//! before it, for there lie the remains of what was purged. A proposal lies here as [`crate::ledger::Proposal`] is.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    codec::{self, First, Undecodable},
    raft_state::Membership,
};
use crate::{
    ledger::Proposal,
    store::{self, Family, View, Write},
};

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The term in which it was proposed.
    pub term: u64,
    /// Who led then.
    pub leader: u64,
    /// What is in it.
    pub payload: Payload,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: a new leader's first.
    Blank,
    /// What the ledger decides, in this order. Shared, for an entry is handed around.
    Proposals(Arc<[Proposal]>),
    /// Other members.
    Membership(Membership),
}

/// An entry as it lies on disk; `P` is a list when read and a slice when written.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stored<P> {
    term: u64,
    leader: u64,
    payload: StoredPayload<P>,
}

#[derive(Debug, Serialize, Deserialize)]
enum StoredPayload<P> {
    Blank,
    Proposals(P),
    Membership(Membership),
}

impl First for Stored<Vec<Proposal>> {}

/// Key of the entry at `index`.
#[must_use]
pub fn key(index: u64) -> Vec<u8> {
    index.to_be_bytes().to_vec()
}

/// The index in a key; `None` when it is none.
#[must_use]
pub fn index(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.try_into().ok()?))
}

/// The bytes of `entry`.
#[must_use]
pub fn encode(entry: &Entry) -> Vec<u8> {
    let payload = match &entry.payload {
        Payload::Blank => StoredPayload::Blank,
        Payload::Proposals(proposals) => StoredPayload::Proposals(&**proposals),
        Payload::Membership(members) => StoredPayload::Membership(members.clone()),
    };
    let mut bytes = Vec::with_capacity(64);
    let (term, leader) = (entry.term, entry.leader);
    codec::encode_twin_into::<Stored<Vec<Proposal>>>(&Stored::<&[Proposal]> { term, leader, payload }, &mut bytes);
    bytes
}

/// The entry in `bytes`.
///
/// # Errors
/// When they are damaged or of a newer version.
pub fn decode(bytes: &[u8]) -> Result<Entry, Undecodable> {
    let stored: Stored<Vec<Proposal>> = codec::decode(bytes)?;
    Ok(Entry {
        term: stored.term,
        leader: stored.leader,
        payload: match stored.payload {
            StoredPayload::Blank => Payload::Blank,
            StoredPayload::Proposals(proposals) => Payload::Proposals(proposals.into()),
            StoredPayload::Membership(members) => Payload::Membership(members),
        },
    })
}

/// Puts an entry.
#[must_use]
pub fn put(index: u64, entry: &Entry) -> Write {
    Write {
        family: Family::RaftLog,
        key: key(index),
        value: Some(encode(entry)),
    }
}

/// Takes an entry away.
#[must_use]
pub fn delete(index: u64) -> Write {
    Write {
        family: Family::RaftLog,
        key: key(index),
        value: None,
    }
}

/// The entries of `[from, to)` that are there, in order, each with its index. Those at either end may be missing: whoever asks
/// knows which were taken off the front, and where the log ends.
///
/// # Errors
/// When the store cannot be read, an entry is damaged, or one is missing between two others.
pub fn entries(view: &dyn View, from: u64, to: u64) -> Result<Vec<(u64, Entry)>, store::Error> {
    let mut entries: Vec<(u64, Entry)> = Vec::new();
    let mut outcome = Ok(());
    view.scan(Family::RaftLog, &key(from), Some(&key(to)), &mut |found, value| {
        let Some(found) = index(found) else {
            outcome = Err(store::Error("the key of an entry of raft's log is damaged".to_owned()));
            return false;
        };
        let expected = entries.last().map_or(found, |(last, _)| last + 1);
        if found != expected {
            outcome = Err(missing(expected));
            return false;
        }
        match decode(value) {
            Ok(entry) => entries.push((found, entry)),
            Err(error) => outcome = Err(error.into()),
        }
        outcome.is_ok()
    })?;
    outcome.map(|()| entries)
}

/// What to say of an entry that should be there.
#[must_use]
pub fn missing(index: u64) -> store::Error {
    store::Error(format!("entry {index} of raft's log is missing"))
}

/// The index of the last entry, with `first` the index of the first there could be; `None` when there is none. Entries follow
/// one another, so a few looks find it.
///
/// # Errors
/// When the store cannot be read, or there are others behind the one that would be the last.
pub fn last(view: &dyn View, first: u64) -> Result<Option<u64>, store::Error> {
    let last = search(view, first)?;
    let next = last.map_or(first, |last| last + 1);
    let mut is_end = true;
    view.scan(Family::RaftLog, &key(next), None, &mut |_, _| {
        is_end = false;
        false
    })?;
    if is_end { Ok(last) } else { Err(missing(next)) }
}

fn search(view: &dyn View, first: u64) -> Result<Option<u64>, store::Error> {
    let is_there = |index| Ok::<_, store::Error>(view.get(Family::RaftLog, &key(index))?.is_some());
    if !is_there(first)? {
        return Ok(None);
    }
    let mut step = 1;
    while is_there(first + step)? {
        step *= 2;
    }
    // `there` is, `beyond` is not.
    let (mut there, mut beyond) = (first + step / 2, first + step);
    while there + 1 < beyond {
        let middle = there + (beyond - there) / 2;
        if is_there(middle)? {
            there = middle;
        } else {
            beyond = middle;
        }
    }
    Ok(Some(there))
}

#[cfg(test)]
mod tests;
