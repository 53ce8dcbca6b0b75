//! What transactions did, under the names their callers gave them: a space of its own within family `requests`.
//!
//! ```text
//!  0x06 ‖ caller length (u16 BE) ‖ caller ‖ key     Carried   body hash and outcome
//!  0x07 ‖ place (u64 BE)                            Asked     order of all: the oldest are forgotten first
//!  0x08                                             Head      the next place, and the oldest that is remembered
//! ```
//!
//! Apart from the members' requests, because a busy program draws thousands of names in a second: it must not make the ledger
//! forget a contribution of this morning, and three rows for a write are cheaper than five. Places have no gaps.

use serde::{Deserialize, Serialize};

use super::caller_length;
use crate::{clock::Timestamp, keyspace::codec::First};

/// Names remembered, of all callers together; beyond, the oldest is forgotten early.
pub const TOTAL_MAX: u64 = 1 << 18;

/// Values that a transaction read are remembered with it up to so many bytes in all; the others are told as left out.
pub const READ_BYTES_MAX: usize = 4 << 10;

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transacted {
    /// The first compare that did not hold; `None`: all held, and `then` was carried out.
    pub failed: Option<Failed>,
    /// Its own, if it changed something; else that of the last one before it that did.
    pub revision: u64,
    /// Ledger time of the decision.
    pub at: Timestamp,
    /// One for each action that was carried out, in order.
    pub results: Vec<Performed>,
}

/// A compare that did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Its place, from 0.
    pub compare: u32,
    /// Revision of what was found; `None`: the key holds nothing.
    pub found: Option<u64>,
}

/// What one action did. Persisted: only ever appended to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Performed {
    /// A put; the key was modified at the revision of its transaction.
    Put {
        /// Revision of the write that made the key.
        created: u64,
        /// Writes since then, this one included.
        version: u64,
    },
    /// A deletion.
    Deleted {
        /// Whether something was there.
        found: bool,
    },
    /// A read; `None`: the key holds nothing.
    Got(Option<Got>),
}

/// What a transaction read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Got {
    /// Revision of the write that made the key.
    pub created: u64,
    /// Revision of the last write.
    pub modified: u64,
    /// Writes since the key was made.
    pub version: u64,
    /// Ledger time of the last write.
    pub at: Timestamp,
    /// The value; `None`: left out, for it is more than is told, or more than is remembered.
    pub json: Option<String>,
}

/// A transaction that was carried out under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Digest of what was asked.
    pub body: [u8; 32],
    /// Its place; an [`Asked`] of another place is about an earlier use of the name.
    pub place: u64,
    /// What it did.
    pub outcome: Transacted,
}
impl First for Carried {}

/// Which name was used at a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Whose.
    pub caller: String,
    /// The name.
    pub key: String,
    /// Ledger time.
    pub at: Timestamp,
}
impl First for Asked {}

/// Where the places begin and end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The place the next name gets.
    pub next: u64,
    /// The oldest place that is remembered; `next` when none is.
    pub oldest: u64,
}
impl First for Head {}

pub(in crate::keyspace) const CARRIED: u8 = 0x06;
pub(in crate::keyspace) const ASKED: u8 = 0x07;
pub(in crate::keyspace) const HEAD: u8 = 0x08;

/// Key of a [`Carried`].
#[must_use]
pub fn carried(caller: &str, key: &str) -> Vec<u8> {
    [
        &[CARRIED],
        &caller_length(caller)[..],
        caller.as_bytes(),
        key.as_bytes(),
    ]
    .concat()
}

/// Key of an [`Asked`].
#[must_use]
pub fn asked(place: u64) -> Vec<u8> {
    [&[ASKED], &place.to_be_bytes()[..]].concat()
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
        let got = Got {
            created: 1,
            modified: 2,
            version: 3,
            at: Timestamp(4),
            json: Some("5".to_owned()),
        };
        let outcome = Transacted {
            failed: Some(Failed {
                compare: 6,
                found: Some(7),
            }),
            revision: 8,
            at: Timestamp(9),
            results: vec![
                Performed::Put {
                    created: 10,
                    version: 11,
                },
                Performed::Deleted { found: true },
                Performed::Got(None),
                Performed::Got(Some(got.clone())),
                Performed::Got(Some(Got { json: None, ..got })),
            ],
        };
        let carried = Carried {
            body: [12; 32],
            place: 13,
            outcome,
        };
        let results = [
            5, 0, 10, 11, 1, 1, 2, 0, 2, 1, 1, 2, 3, 4, 1, 1, b'5', 2, 1, 1, 2, 3, 4, 0,
        ];
        golden(
            &carried,
            &[&[1][..], &[12; 32], &[13, 1, 6, 1, 7, 8, 9], &results].concat(),
        );
        let asked_by = Asked {
            caller: "c".to_owned(),
            key: "k".to_owned(),
            at: Timestamp(9),
        };
        golden(&asked_by, &[1, 1, b'c', 1, b'k', 9]);
        golden(&Head { next: 3, oldest: 2 }, &[1, 3, 2]);
        assert_eq!(super::carried("ab", "k"), [6, 0, 2, b'a', b'b', b'k']);
        assert_eq!(asked(258), [7, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(head(), [8]);
    }
}
