//! Family `raft_state`: what raft must remember besides its log.
//!
//! ```text
//!  0x01   Vote        the last vote given; synced before it is answered
//!  0x02   Purged      the last entry that was taken off the front of the log
//!  0x03   Applied     the last entry in the raft-owned families and the members then; in the batch that applied it
//!  0x04   Snapshot    as Applied: how far the log may be purged
//!  0x05   Installing  a snapshot is being put in the place of the raft-owned families: begin again should it be found at start
//!  0x06   Voter       by which number raft knows this node
//! ```
//!
//! Here and in `raft_log` a *leader* is the number of the node that led in a term. A restore drops both families.

use serde::{Deserialize, Serialize};

use super::codec::{self, First, Record};
use crate::store::{self, Family, View, Write};

/// Where an entry stands in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogId {
    /// The term in which it was proposed.
    pub term: u64,
    /// Who led then.
    pub leader: u64,
    /// Its place, from 0.
    pub index: u64,
}

/// Who got this node's vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// In which term.
    pub term: u64,
    /// Who got it.
    pub node: u64,
    /// Whether a majority gave it: `node` leads.
    pub committed: bool,
}
impl First for Vote {}

/// The last entry taken off the front of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged(pub LogId);
impl First for Purged {}

/// Where a member is found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The name of the node.
    pub name: String,
    /// `HOST:PORT` of its gRPC face; empty of a cluster of one.
    pub address: String,
}

/// Who votes and who learns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The voters; two sets while one follows the other.
    pub voters: Vec<Vec<u64>>,
    /// Everybody, learners too, by ascending number.
    pub peers: Vec<(u64, Peer)>,
}

/// How far the raft-owned families have come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The last entry in them; `None`: what they hold came before raft.
    pub last: Option<LogId>,
    /// The entry that brought `members`.
    pub members_at: Option<LogId>,
    /// The members as of `last`.
    pub members: Membership,
    /// Proposals of the entry behind `last` that are in as well: one whose effects are large comes in parts.
    pub part: u32,
}
impl First for Applied {}

/// How far the log may be purged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot(pub Applied);
impl First for Snapshot {}

/// A snapshot under way into the families.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installing {
    /// Its file, without the directory.
    pub file: String,
    /// What will hold when it is in.
    pub then: Applied,
}
impl First for Installing {}

/// This node's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voter(pub u64);
impl First for Voter {}

pub(super) const VOTE: u8 = 0x01;
pub(super) const PURGED: u8 = 0x02;
pub(super) const APPLIED: u8 = 0x03;
pub(super) const SNAPSHOT: u8 = 0x04;
pub(super) const INSTALLING: u8 = 0x05;
pub(super) const VOTER: u8 = 0x06;

/// A record of which there is one.
pub trait Row: Record {
    /// Its key.
    const KEY: u8;
}

impl Row for Vote {
    const KEY: u8 = VOTE;
}
impl Row for Purged {
    const KEY: u8 = PURGED;
}
impl Row for Applied {
    const KEY: u8 = APPLIED;
}
impl Row for Snapshot {
    const KEY: u8 = SNAPSHOT;
}
impl Row for Installing {
    const KEY: u8 = INSTALLING;
}
impl Row for Voter {
    const KEY: u8 = VOTER;
}

/// Reads one record.
///
/// # Errors
/// When the store cannot be read or the record is damaged.
pub fn read<T: Row>(view: &dyn View) -> Result<Option<T>, store::Error> {
    view.get(Family::RaftState, &[T::KEY])?
        .map(|bytes| Ok(codec::decode(&bytes)?))
        .transpose()
}

/// Puts one record.
#[must_use]
pub fn put<T: Row>(row: &T) -> Write {
    Write {
        family: Family::RaftState,
        key: vec![T::KEY],
        value: Some(codec::encode(row)),
    }
}

/// Takes one record away.
#[must_use]
pub fn delete<T: Row>() -> Write {
    Write {
        family: Family::RaftState,
        key: vec![T::KEY],
        value: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{keyspace::codec::golden, store::memory::Memory};

    #[test]
    fn golden_bytes() {
        let last = LogId {
            term: 3,
            leader: 300,
            index: 7,
        };
        golden(
            &Vote {
                term: 3,
                node: 300,
                committed: true,
            },
            &[1, 3, 251, 44, 1, 1],
        );
        golden(&Purged(last), &[1, 3, 251, 44, 1, 7]);
        let peer = Peer {
            name: "a".to_owned(),
            address: "h:1".to_owned(),
        };
        let applied = Applied {
            last: Some(last),
            members_at: None,
            members: Membership {
                voters: vec![vec![9], vec![9, 8]],
                peers: vec![(8, peer.clone()), (9, peer)],
            },
            part: 5,
        };
        let members = [
            2, 1, 9, 2, 9, 8, 2, 8, 1, b'a', 3, b'h', b':', b'1', 9, 1, b'a', 3, b'h', b':', b'1', 5,
        ];
        let bytes = [&[1, 1, 3, 251, 44, 1, 7, 0][..], &members].concat();
        golden(&applied, &bytes);
        golden(&Snapshot(applied.clone()), &bytes);
        golden(&Applied::default(), &[1, 0, 0, 0, 0, 0]);
        let installing = Installing {
            file: "f".to_owned(),
            then: applied,
        };
        golden(&installing, &[&[1, 1, b'f'], &bytes[1..]].concat());
        golden(&Voter(300), &[1, 251, 44, 1]);
        let keys = [
            Vote::KEY,
            Purged::KEY,
            Applied::KEY,
            Snapshot::KEY,
            Installing::KEY,
            Voter::KEY,
        ];
        assert_eq!(keys, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn rows_are_put_read_and_taken_away() {
        let store = Memory::new();
        assert_eq!(read::<Voter>(&store).unwrap(), None);
        let row = put(&Voter(7));
        store.put(row.family, &row.key, &row.value.unwrap());
        assert_eq!(read::<Voter>(&store).unwrap(), Some(Voter(7)));
        assert_eq!((delete::<Voter>().key, delete::<Voter>().value), (vec![6], None));
    }
}
