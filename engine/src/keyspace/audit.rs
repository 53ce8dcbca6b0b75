//! Family `audit`: what was done, in order, each record sealed to the one before it.
//!
//! ```text
//!  0x01 ‖ sequence (u64 BE)   Sealed   body = one encoded Body; hash = SHA-256(hash of the record before ‖ body)
//!  0x02                       Head     the last sequence and its hash
//! ```
//!
//! Sequences begin at 1; the record before the first counts as 32 zero bytes. The body is kept as the bytes that were
//! hashed, so that a later shape of [`Body`] does not break old seals.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    NamespaceId,
    codec::First,
    registry::{Limits, NamespacePolicy},
};
use crate::{clock::Timestamp, crdt::Strategy};

/// One link of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Over the hash before and the body.
    pub hash: [u8; 32],
    /// An encoded [`Body`].
    pub body: Vec<u8>,
}
impl First for Sealed {}

/// One accepted command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// Its place; the same as in the key.
    pub sequence: u64,
    /// Ledger time.
    pub at: Timestamp,
    /// What was done.
    pub event: Event,
}
impl First for Body {}

/// What a command did. Persisted: only ever appended to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A member registered, perhaps again.
    Registered {
        /// Who.
        node: String,
        /// Whether it had been registered before.
        already: bool,
        /// Whether it is verified now.
        verified: bool,
    },
    /// A member gave.
    Contributed {
        /// Who.
        node: String,
        /// Concepts credited.
        new: u64,
        /// Concepts known before.
        duplicates: u64,
        /// SHA-256 over the content hashes of the request, in its order.
        concepts: [u8; 32],
        /// The pool's counter afterwards.
        pool_counter: u64,
    },
    /// A member took, and was charged 1.0.
    Charged {
        /// Who.
        node: String,
        /// The pool's counter then.
        pool_counter: u64,
    },
    /// The limits were changed.
    LimitsSet(Limits),
    /// A namespace was created.
    NamespaceCreated {
        /// Its name.
        name: String,
        /// Its number.
        id: NamespaceId,
        /// Its policy.
        policy: NamespacePolicy,
    },
    /// A namespace got another strategy.
    NamespacePolicySet {
        /// Its name.
        name: String,
        /// The strategy now.
        strategy: Strategy,
    },
    /// Members and concepts of another system were taken over.
    Adopted {
        /// Whom the concepts are attributed to.
        contributor: String,
        /// Members that had no account.
        members_new: u64,
        /// Members that had one.
        members_known: u64,
        /// Concepts that the pool did not have.
        concepts_new: u64,
        /// Concepts that it had, or that came twice.
        concepts_known: u64,
        /// SHA-256 over what was given: of each member the length of its name, its totals (8 bytes each, big endian) and its
        /// name, then of each concept its content hash.
        given: [u8; 32],
        /// The pool's counter afterwards.
        pool_counter: u64,
    },
    /// Who belongs to the cluster was changed; of a token only its sum.
    Members(crate::ledger::MemberChange),
}

/// The end of the chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The last sequence; 0 before the first record.
    pub sequence: u64,
    /// Its hash.
    pub hash: [u8; 32],
}
impl First for Head {}

/// The hash that seals `body` to the record with hash `before`.
#[must_use]
pub fn seal(before: &[u8; 32], body: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(before).chain_update(body).finalize().into()
}

pub(super) const SEALED: u8 = 0x01;
pub(super) const HEAD: u8 = 0x02;

/// Key of a [`Sealed`].
#[must_use]
pub fn sealed(sequence: u64) -> Vec<u8> {
    [&[SEALED], &sequence.to_be_bytes()[..]].concat()
}

/// The sequence in the key of a [`Sealed`]; `None` for any other key.
#[must_use]
pub fn sequence_of(key: &[u8]) -> Option<u64> {
    let (&SEALED, sequence) = key.split_first()? else {
        return None;
    };
    sequence.try_into().ok().map(u64::from_be_bytes)
}

/// End (exclusive) of the keys of [`Sealed`].
#[must_use]
pub fn sealed_end() -> Vec<u8> {
    vec![SEALED + 1]
}

/// Key of the [`Head`].
#[must_use]
pub fn head() -> Vec<u8> {
    vec![HEAD]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::{codec::golden, registry::Replication};

    #[test]
    fn golden_bytes() {
        let node = || "n".to_owned();
        let policy = NamespacePolicy {
            replication: Replication::Mesh,
            strategy: Strategy::MergeUnion,
        };
        let contributed = Event::Contributed {
            node: node(),
            new: 1,
            duplicates: 2,
            concepts: [6; 32],
            pool_counter: 9,
        };
        for (event, bytes) in [
            (
                Event::Registered {
                    node: node(),
                    already: false,
                    verified: true,
                },
                vec![0, 1, b'n', 0, 1],
            ),
            (contributed, [&[1, 1, b'n', 1, 2][..], &[6; 32], &[9]].concat()),
            (
                Event::Charged {
                    node: node(),
                    pool_counter: 9,
                },
                vec![2, 1, b'n', 9],
            ),
            (Event::LimitsSet(Limits::default()), vec![3, 100, 50]),
            (
                Event::NamespaceCreated {
                    name: "a".into(),
                    id: NamespaceId(16),
                    policy,
                },
                vec![4, 1, b'a', 16, 0, 2],
            ),
            (
                Event::NamespacePolicySet {
                    name: "a".into(),
                    strategy: Strategy::KeepSiblings,
                },
                vec![5, 1, b'a', 3],
            ),
            (
                Event::Adopted {
                    contributor: node(),
                    members_new: 1,
                    members_known: 2,
                    concepts_new: 3,
                    concepts_known: 4,
                    given: [6; 32],
                    pool_counter: 9,
                },
                [&[6, 1, b'n', 1, 2, 3, 4][..], &[6; 32], &[9]].concat(),
            ),
        ] {
            golden(
                &Body {
                    sequence: 7,
                    at: Timestamp(8),
                    event,
                },
                &[&[1, 7, 8], &bytes[..]].concat(),
            );
        }
    }

    #[test]
    fn golden_bytes_of_the_chain() {
        golden(
            &Sealed {
                hash: [5; 32],
                body: vec![1, 2],
            },
            &[&[1][..], &[5; 32], &[2, 1, 2]].concat(),
        );
        golden(
            &Head {
                sequence: 3,
                hash: [5; 32],
            },
            &[&[1, 3][..], &[5; 32]].concat(),
        );
        assert_eq!(sealed(258), [1, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(sequence_of(&sealed(258)), Some(258));
        assert_eq!(sequence_of(&head()), None);
        assert_eq!(head(), [2]);
        let hash = crate::json::ContentHash(seal(&[0; 32], b"abc"));
        assert_eq!(
            hash.to_string(),
            "365aa7d8f7f9402c4b9434502b4cc89ddb09fe50d7cd95b493b834c62d5a5370"
        );
    }
}
