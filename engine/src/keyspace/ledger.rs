//! Family `ledger`: accounts, their windows of accepted requests, their latest contributions.
//!
//! ```text
//!  0x01 ‖ node name                           Account   balances; small, for every accepted request rewrites it
//!  0x02 ‖ account (u32 BE)                    Name      of the account, for numbers kept elsewhere
//!  0x03 ‖ account (u32 BE) ‖ kind (u8)        Window    stamps accepted in the last hour
//!  0x04 ‖ account (u32 BE) ‖ slot (u8)        Event     one of the last 100 contributions; slot = number of the event mod 100
//!  0x05                                       Head      ledger time, next account number
//! ```
//!
//! Account numbers begin at 1 and are never reused.

use serde::{Deserialize, Serialize};

use super::codec::First;
use crate::clock::Timestamp;

/// Contribution events kept per account.
pub const EVENTS_MAX: u8 = 100;

/// What stands behind a member's name. Scores are whole numbers of concepts and requests, so that limits compare exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balances {
    /// First registration; an adoption may make it earlier.
    pub registered_at: Option<Timestamp>,
    /// Whether the constant was shown.
    pub verified: bool,
    /// Concepts credited, ever.
    pub contributed: u64,
    /// Knowledge requests charged, ever.
    pub consumed: u64,
}

/// One member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its number.
    pub number: u32,
    /// Its scores.
    pub balances: Balances,
    /// Contribution events so far, kept or not.
    pub events: u64,
}
impl First for Account {}

/// The name of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name(pub String);
impl First for Name {}

/// Accepted requests of one kind, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Microseconds: the first since the epoch, each other since the one before it. Differences take a third of the bytes.
    pub steps: Vec<u64>,
}
impl First for Window {}

/// One contribution, as the account remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Ledger time.
    pub at: Timestamp,
    /// Concepts credited.
    pub new: u64,
    /// Concepts sent that were in the pool before (or twice in the request).
    pub duplicates: u64,
    /// The pool's counter after the contribution: the credited concepts are the `new` counters up to it. 0 of a contribution to
    /// another system, which was taken over.
    pub pool_counter: u64,
}
impl First for Event {}

/// What all accounts share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Ledger time: never goes back.
    pub time: Timestamp,
    /// The highest account number given out.
    pub accounts: u32,
}
impl First for Head {}

pub(super) const ACCOUNT: u8 = 0x01;
pub(super) const NAME: u8 = 0x02;
pub(super) const WINDOW: u8 = 0x03;
pub(super) const EVENT: u8 = 0x04;
pub(super) const HEAD: u8 = 0x05;

/// Key of an [`Account`].
#[must_use]
pub fn account(name: &str) -> Vec<u8> {
    [&[ACCOUNT], name.as_bytes()].concat()
}

/// Key of a [`Name`].
#[must_use]
pub fn name(account: u32) -> Vec<u8> {
    [&[NAME], &account.to_be_bytes()[..]].concat()
}

/// Key of a [`Window`]; `kind` is a persisted number.
#[must_use]
pub fn window(account: u32, kind: u8) -> Vec<u8> {
    [&[WINDOW], &account.to_be_bytes()[..], &[kind]].concat()
}

/// Key of the `number`-th [`Event`] of an account (from 0).
#[must_use]
pub fn event(account: u32, number: u64) -> Vec<u8> {
    let slot = u8::try_from(number % u64::from(EVENTS_MAX)).expect("a remainder of a byte is a byte");
    [&[EVENT], &account.to_be_bytes()[..], &[slot]].concat()
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
        let balances = Balances {
            registered_at: Some(Timestamp(9)),
            verified: true,
            contributed: 300,
            consumed: 5,
        };
        golden(
            &Account {
                number: 2,
                balances,
                events: 4,
            },
            &[1, 2, 1, 9, 1, 251, 44, 1, 5, 4],
        );
        golden(&Name("né".into()), &[1, 3, b'n', 0xc3, 0xa9]);
        golden(
            &Window {
                steps: vec![1_700_000_000_000_000, 70_000],
            },
            &[1, 2, 253, 0, 64, 30, 24, 36, 10, 6, 0, 252, 112, 17, 1, 0],
        );
        golden(
            &Event {
                at: Timestamp(9),
                new: 1,
                duplicates: 2,
                pool_counter: 3,
            },
            &[1, 9, 1, 2, 3],
        );
        golden(
            &Head {
                time: Timestamp(9),
                accounts: 7,
            },
            &[1, 9, 7],
        );
        assert_eq!(account("né"), [1, b'n', 0xc3, 0xa9]);
        assert_eq!(name(258), [2, 0, 0, 1, 2]);
        assert_eq!(window(258, 1), [3, 0, 0, 1, 2, 1]);
        assert_eq!(event(258, 205), [4, 0, 0, 1, 2, 5]);
        assert_eq!(head(), [5]);
    }
}
