//! Family `requests`: what was answered under which idempotency key, for 24 hours.
//!
//! ```text
//!  0x01 ‖ caller length (u16 BE) ‖ caller ‖ key                  Answered   body hash and outcome
//!  0x02 ‖ sequence (u64 BE)                                      Asked      order of all: the oldest expire first
//!  0x03 ‖ caller length (u16 BE) ‖ caller ‖ number (u64 BE)      Turn       order of one caller's
//!  0x04 ‖ caller                                                 Caller     how many one caller has
//!  0x05                                                          Head       how many there are
//!  0x06 to 0x08                                                  …          of transactions: see [`transactions`]
//! ```
//!
//! Every removal is a few point reads and deletes, wherever it comes from: age, the bound of a caller or the bound of all.

pub mod transactions;

use serde::{Deserialize, Serialize};

use super::{codec::First, ledger::Balances, registry};
use crate::clock::Timestamp;

/// Keys remembered per caller; beyond, its own oldest is forgotten early. The limits accept 150 requests an hour, so a
/// caller within them never gets here in 24 hours.
pub const PER_CALLER_MAX: u64 = 4_096;
/// Keys remembered for all callers together; beyond, the oldest is forgotten early.
pub const TOTAL_MAX: u64 = 1 << 20;
/// How long a key is remembered, in microseconds.
pub const KEPT_US: u64 = 24 * 60 * 60 * 1_000_000;

/// A request that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// SHA-256 of the request body.
    pub body: [u8; 32],
    /// Ledger time of the answer.
    pub at: Timestamp,
    /// Its place among all; an [`Asked`] of another place is about an earlier use of the key.
    pub sequence: u64,
    /// What was answered.
    pub outcome: Outcome,
}
impl First for Answered {}

/// An outcome worth repeating; refusals are not recorded. Persisted: only ever appended to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Of a registration.
    Registered {
        /// Whether it had been registered before.
        already: bool,
        /// After the request.
        balances: Balances,
    },
    /// Of a contribution.
    Contributed {
        /// Concepts credited.
        new: u64,
        /// Concepts known before.
        duplicates: u64,
        /// After the request.
        balances: Balances,
    },
    /// Of a knowledge request.
    Charged {
        /// What the pool's counter was.
        pool_counter: u64,
        /// After the request.
        balances: Balances,
    },
    /// Of new limits.
    LimitsSet,
    /// Of a new namespace.
    NamespaceCreated {
        /// Its name.
        name: String,
        /// What it was created as.
        namespace: registry::Namespace,
    },
    /// Of a new namespace policy.
    NamespacePolicySet,
    /// Of members and concepts taken over.
    Adopted {
        /// Members that had no account.
        members_new: u64,
        /// Members that had one.
        members_known: u64,
        /// Concepts that the pool did not have.
        concepts_new: u64,
        /// Concepts that it had.
        concepts_known: u64,
    },
    /// Of a change of members.
    MembersChanged,
}

/// Whose request it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The caller.
    pub caller: String,
    /// Its idempotency key.
    pub key: String,
    /// Its place among the caller's.
    pub number: u64,
    /// Ledger time of the answer.
    pub at: Timestamp,
}
impl First for Asked {}

/// One of a caller's requests: its place among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn(pub u64);
impl First for Turn {}

/// What one caller has; gone when it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The number the next request gets.
    pub next: u64,
    /// How many are remembered: those with the highest numbers.
    pub live: u64,
}
impl First for Caller {}

/// What all have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The sequence the next request gets.
    pub next: u64,
    /// No sequence below this one is left.
    pub oldest: u64,
    /// How many are remembered.
    pub live: u64,
}
impl First for Head {}

pub(super) const ANSWERED: u8 = 0x01;
pub(super) const ASKED: u8 = 0x02;
pub(super) const TURN: u8 = 0x03;
pub(super) const CALLER: u8 = 0x04;
pub(super) const HEAD: u8 = 0x05;

/// Callers are at most this long, in bytes; the door cuts at 256.
fn caller_length(caller: &str) -> [u8; 2] {
    u16::try_from(caller.len())
        .expect("a caller is a node id of at most 256 bytes")
        .to_be_bytes()
}

/// Key of an [`Answered`].
#[must_use]
pub fn answered(caller: &str, key: &str) -> Vec<u8> {
    [
        &[ANSWERED],
        &caller_length(caller)[..],
        caller.as_bytes(),
        key.as_bytes(),
    ]
    .concat()
}

/// Key of an [`Asked`].
#[must_use]
pub fn asked(sequence: u64) -> Vec<u8> {
    [&[ASKED], &sequence.to_be_bytes()[..]].concat()
}

/// Key of a [`Turn`].
#[must_use]
pub fn turn(caller: &str, number: u64) -> Vec<u8> {
    [
        &[TURN],
        &caller_length(caller)[..],
        caller.as_bytes(),
        &number.to_be_bytes(),
    ]
    .concat()
}

/// Key of a [`Caller`].
#[must_use]
pub fn caller(caller: &str) -> Vec<u8> {
    [&[CALLER], caller.as_bytes()].concat()
}

/// Key of the [`Head`].
#[must_use]
pub fn head() -> Vec<u8> {
    vec![HEAD]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crdt::Strategy,
        keyspace::{
            NamespaceId,
            codec::golden,
            registry::{NamespacePolicy, Replication},
        },
    };

    #[test]
    fn golden_bytes() {
        let balances = Balances {
            registered_at: None,
            verified: false,
            contributed: 3,
            consumed: 4,
        };
        let answered_with = |outcome| Answered {
            body: [8; 32],
            at: Timestamp(9),
            sequence: 10,
            outcome,
        };
        let front = [&[1][..], &[8; 32], &[9, 10]].concat();
        let policy = NamespacePolicy {
            replication: Replication::Consensus,
            strategy: Strategy::KeepSiblings,
        };
        for (outcome, bytes) in [
            (
                Outcome::Registered {
                    already: true,
                    balances,
                },
                &[0, 1, 0, 0, 3, 4][..],
            ),
            (
                Outcome::Contributed {
                    new: 1,
                    duplicates: 2,
                    balances,
                },
                &[1, 1, 2, 0, 0, 3, 4],
            ),
            (
                Outcome::Charged {
                    pool_counter: 7,
                    balances,
                },
                &[2, 7, 0, 0, 3, 4],
            ),
            (Outcome::LimitsSet, &[3]),
            (
                Outcome::NamespaceCreated {
                    name: "ab".into(),
                    namespace: registry::Namespace {
                        id: NamespaceId(16),
                        policy,
                    },
                },
                &[4, 2, b'a', b'b', 16, 1, 3],
            ),
            (Outcome::NamespacePolicySet, &[5]),
            (
                Outcome::Adopted {
                    members_new: 1,
                    members_known: 2,
                    concepts_new: 3,
                    concepts_known: 4,
                },
                &[6, 1, 2, 3, 4],
            ),
        ] {
            golden(&answered_with(outcome), &[&front, bytes].concat());
        }
    }

    #[test]
    fn golden_bytes_of_keys_and_orders() {
        golden(
            &Asked {
                caller: "c".into(),
                key: "k".into(),
                number: 11,
                at: Timestamp(9),
            },
            &[1, 1, b'c', 1, b'k', 11, 9],
        );
        golden(&Turn(5), &[1, 5]);
        golden(&Caller { next: 2, live: 1 }, &[1, 2, 1]);
        golden(
            &Head {
                next: 3,
                oldest: 2,
                live: 1,
            },
            &[1, 3, 2, 1],
        );
        assert_eq!(answered("ab", "k"), [1, 0, 2, b'a', b'b', b'k']);
        assert_eq!(asked(258), [2, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(turn("ab", 258), [3, 0, 2, b'a', b'b', 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(caller("ab"), [4, b'a', b'b']);
        assert_eq!(head(), [5]);
    }

    #[test]
    fn callers_and_keys_do_not_run_into_each_other() {
        assert_ne!(answered("ab", "c"), answered("a", "bc"));
    }
}
