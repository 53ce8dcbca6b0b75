//! Family `pool`: which concepts the federation shares, and who gave them.
//!
//! ```text
//!  0x01 ‖ content hash (32)   Pooled    who gave it first, when, under which dot; who else gave it
//!  0x02 ‖ counter (u64 BE)    Indexed   the same the other way round: a follower reads what is above the counter it has
//!  0x03                       Head      dot counter and totals
//! ```
//!
//! The concept itself lies in `concepts[shared, content hash]`. Counters begin at 1, have no gaps and are never reused.
//! Accounts are numbers here (family `ledger` knows their names), so that an attribution costs a few bytes.

use serde::{Deserialize, Serialize};

use super::codec::First;
use crate::{clock::Timestamp, json::ContentHash};

/// Others than the first contributor that are remembered for one concept. Later ones are not: an attribution grants
/// nothing, and a concept that everybody sends must not grow without end.
pub const ATTRIBUTIONS_MAX: usize = 64;

/// What is known of one pool concept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pooled {
    /// Its dot's counter.
    pub counter: u64,
    /// Ledger time of the first contribution; of an adopted concept when it was first given to the other system.
    pub first_at: Timestamp,
    /// Account of the first contributor, the one who was credited; of an adopted concept the one that stands for the other
    /// system's members.
    pub contributor: u32,
    /// Accounts that gave it again, in order of their first time; at most [`ATTRIBUTIONS_MAX`].
    pub attributed: Vec<u32>,
}
impl First for Pooled {}

/// One step of the pool's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Indexed {
    /// Content hash.
    pub hash: [u8; 32],
    /// Ledger time of the first contribution.
    pub first_at: Timestamp,
}
impl First for Indexed {}

/// Totals of the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The highest dot counter given out.
    pub counter: u64,
    /// Concepts in the pool.
    pub concepts: u64,
    /// Accounts credited with at least one concept, here or in a system whose members were adopted.
    pub contributors: u64,
}
impl First for Head {}

pub(super) const POOLED: u8 = 0x01;
pub(super) const INDEXED: u8 = 0x02;
pub(super) const HEAD: u8 = 0x03;

/// Key of a [`Pooled`].
#[must_use]
pub fn pooled(hash: &ContentHash) -> Vec<u8> {
    [&[POOLED], &hash.0[..]].concat()
}

/// Key of an [`Indexed`].
#[must_use]
pub fn indexed(counter: u64) -> Vec<u8> {
    [&[INDEXED], &counter.to_be_bytes()[..]].concat()
}

/// The counter in the key of an [`Indexed`]; `None` for any other key.
#[must_use]
pub fn counter_of(key: &[u8]) -> Option<u64> {
    let (&INDEXED, counter) = key.split_first()? else {
        return None;
    };
    counter.try_into().ok().map(u64::from_be_bytes)
}

/// End (exclusive) of the keys of [`Indexed`].
#[must_use]
pub fn indexed_end() -> Vec<u8> {
    vec![INDEXED + 1]
}

/// Key of the [`Head`].
#[must_use]
pub fn head() -> Vec<u8> {
    vec![HEAD]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::codec::golden;

    #[test]
    fn golden_bytes() {
        golden(
            &Pooled {
                counter: 300,
                first_at: Timestamp(7),
                contributor: 2,
                attributed: vec![1, 251],
            },
            &[1, 251, 44, 1, 7, 2, 2, 1, 251, 251, 0],
        );
        golden(
            &Indexed {
                hash: [9; 32],
                first_at: Timestamp(7),
            },
            &[&[1][..], &[9; 32], &[7]].concat(),
        );
        golden(
            &Head {
                counter: 3,
                concepts: 2,
                contributors: 1,
            },
            &[1, 3, 2, 1],
        );
        assert_eq!(pooled(&ContentHash([5; 32])), [&[1][..], &[5; 32]].concat());
        assert_eq!(indexed(258), [2, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(head(), [3]);
    }

    #[test]
    fn counters_are_read_back_and_sort() {
        assert_eq!(counter_of(&indexed(u64::MAX)), Some(u64::MAX));
        assert_eq!(counter_of(&head()), None);
        assert_eq!(counter_of(&[]), None);
        assert!(indexed(255) < indexed(256) && indexed(u64::MAX) < indexed_end());
    }
}
