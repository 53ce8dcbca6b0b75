//! Rows of `meta` that make a retried write harmless: what was carried out under which request id, for 24 hours.
//!
//! ```text
//!  "request/" ‖ id              Carried   digest of the batch, when, its place, what its mutations took away
//!  "asked/" ‖ place (u64 BE)    Asked     order of all: the oldest are forgotten first
//!  "requests"                   Head      the next place, and the oldest that is remembered
//! ```
//!
//! They are the node's own: a request id is good at the node that took the write. All three go into the record of the log
//! that carries the batch out. Places have no gaps, so that how many are remembered follows from the head.

use serde::{Deserialize, Serialize};

use crate::{clock::Timestamp, keyspace::codec::First};

/// The longest id, in bytes.
pub const ID_BYTES_MAX: usize = 64;
/// Requests remembered; beyond, the oldest is forgotten early.
pub const TOTAL_MAX: u64 = 1 << 20;
/// How long one is remembered, in microseconds.
pub const KEPT_US: u64 = 24 * 60 * 60 * 1_000_000;

/// A batch that was carried out under a request id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Digest of what was asked: another batch under the same id is refused.
    pub body: [u8; 16],
    /// When it was carried out.
    pub at: Timestamp,
    /// Its place among all; an [`Asked`] of another place is about an earlier use of the id.
    pub place: u64,
    /// What each mutation did, as [`Carried::flags`] packs it.
    pub took_away: Vec<u8>,
}
impl First for Carried {}

impl Carried {
    /// Packs what each mutation took away: bit n of the list is that of the n-th, the lowest of a byte first, without the
    /// zero bytes at its end.
    #[must_use]
    pub fn flags(took_away: impl IntoIterator<Item = bool>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (index, _) in took_away.into_iter().enumerate().filter(|(_, flag)| *flag) {
            bytes.resize(index / 8 + 1, 0);
            bytes[index / 8] |= 1 << (index % 8);
        }
        bytes
    }

    /// Whether the mutation at `index` took something away.
    #[must_use]
    pub fn took_away(&self, index: usize) -> bool {
        self.took_away
            .get(index / 8)
            .is_some_and(|byte| byte >> (index % 8) & 1 == 1)
    }

    /// Whether it need not be remembered any more.
    #[must_use]
    pub fn is_old(&self, now: Timestamp) -> bool {
        is_old(self.at, now)
    }
}

/// Which id was used at a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The id.
    pub id: String,
    /// When.
    pub at: Timestamp,
}
impl First for Asked {}

impl Asked {
    /// Whether it need not be remembered any more.
    #[must_use]
    pub fn is_old(&self, now: Timestamp) -> bool {
        is_old(self.at, now)
    }
}

/// Where the places begin and end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The place the next request gets.
    pub next: u64,
    /// The oldest place that is remembered; `next` when none is.
    pub oldest: u64,
}
impl First for Head {}

fn is_old(at: Timestamp, now: Timestamp) -> bool {
    now.0 >= at.0.saturating_add(KEPT_US)
}

/// Name of the [`Head`].
pub const HEAD: &[u8] = b"requests";
pub(in crate::keyspace) const CARRIED: &[u8] = b"request/";
pub(in crate::keyspace) const ASKED: &[u8] = b"asked/";

/// Key of a [`Carried`].
#[must_use]
pub fn carried(id: &str) -> Vec<u8> {
    [CARRIED, id.as_bytes()].concat()
}

/// Key of an [`Asked`].
#[must_use]
pub fn asked(place: u64) -> Vec<u8> {
    [ASKED, &place.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::codec::golden;

    #[test]
    fn golden_bytes() {
        let carried_out = Carried {
            body: [8; 16],
            at: Timestamp(9),
            place: 300,
            took_away: Carried::flags([true, false, false, false, false, false, false, false, true, false]),
        };
        golden(&carried_out, &[&[1][..], &[8; 16], &[9, 251, 44, 1, 2, 1, 1]].concat());
        let id = "ab".to_owned();
        golden(&Asked { id, at: Timestamp(9) }, &[1, 2, b'a', b'b', 9]);
        golden(&Head { next: 300, oldest: 2 }, &[1, 251, 44, 1, 2]);
        assert_eq!(HEAD, b"requests");
        assert_eq!(carried("ab"), b"request/ab");
        assert_eq!(asked(258), [&b"asked/"[..], &[0, 0, 0, 0, 0, 0, 1, 2]].concat());
    }

    #[test]
    fn flags_are_read_as_they_were_packed() {
        for length in [0, 1, 7, 8, 9, 1_000] {
            let flags: Vec<bool> = (0..length).map(|index| index % 3 == 1).collect();
            let carried = Carried {
                body: [0; 16],
                at: Timestamp(0),
                place: 0,
                took_away: Carried::flags(flags.iter().copied()),
            };
            let read: Vec<bool> = (0..length).map(|index| carried.took_away(index)).collect();
            assert_eq!(read, flags);
            assert!(!carried.took_away(length + 8));
        }
        assert!(
            Carried::flags([false; 1_000]).is_empty(),
            "a thousand puts take no room"
        );
    }

    #[test]
    fn a_request_is_remembered_for_a_day() {
        let asked = Asked {
            id: String::new(),
            at: Timestamp(5),
        };
        assert!(!asked.is_old(Timestamp(4)), "a clock set back forgets nothing");
        assert!(!asked.is_old(Timestamp(4 + KEPT_US)));
        assert!(asked.is_old(Timestamp(5 + KEPT_US)));
    }
}
