//! Rows of `meta` that say when something of this node's own expires, so that it need not be searched for.
//!
//! ```text
//!  "expiry/" ‖ stamp (u64 BE) ‖ key in family concepts      ∅
//! ```
//!
//! There is one for each stamp at which an entry written under this node's name expires, in whatever life it was written, and
//! none for the entries of others: who wrote a value issues its deletion. It goes in the record that takes the last such
//! entry away.

use crate::{
    clock::Stamp,
    keyspace::{NamespaceId, concepts},
    store::end_of_prefix,
};

pub(in crate::keyspace) const EXPIRY: &[u8] = b"expiry/";
const STAMP_BYTES: usize = 8;

/// Key of the row for what expires at `stamp` under `concept`, a key in family `concepts`.
#[must_use]
pub fn key(stamp: Stamp, concept: &[u8]) -> Vec<u8> {
    [EXPIRY, &stamp.0.to_be_bytes(), concept].concat()
}

/// Where the rows from `stamp` on begin.
#[must_use]
pub fn from(stamp: Stamp) -> Vec<u8> {
    key(stamp, &[])
}

/// End (exclusive) of the rows up to and including those of `stamp`.
#[must_use]
pub fn through(stamp: Stamp) -> Vec<u8> {
    match stamp.next() {
        next if next > stamp => from(next),
        _ => end_of_prefix(EXPIRY).expect("a prefix of letters has an end"),
    }
}

/// What a row's key says: when, in which namespace, which key there. `None` for any other key.
#[must_use]
pub fn parts(row: &[u8]) -> Option<(Stamp, NamespaceId, &[u8])> {
    let (stamp, concept) = row.strip_prefix(EXPIRY)?.split_at_checked(STAMP_BYTES)?;
    let (namespace, key) = concepts::split(concept)?;
    Some((Stamp(u64::from_be_bytes(stamp.try_into().ok()?)), namespace, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_and_back() {
        let concept = concepts::key(NamespaceId::FIRST_USER, b"k");
        let row = key(Stamp(258), &concept);
        let golden = [&b"expiry/"[..], &[0, 0, 0, 0, 0, 0, 1, 2], &[0, 0, 0, 16, b'k']].concat();
        assert_eq!(row, golden);
        assert_eq!(parts(&row), Some((Stamp(258), NamespaceId::FIRST_USER, &b"k"[..])));
        for length in 0..row.len() - 1 {
            assert_eq!(parts(&row[..length]), None, "{length}");
        }
        assert_eq!(parts(b"asked/\0\0\0\0\0\0\x01\x02\0\0\0\x10k"), None);
    }

    #[test]
    fn rows_lie_between_the_bounds_of_their_stamps() {
        let concept = concepts::key(NamespaceId(u32::MAX), &[0xff; 8]);
        for stamp in [0, 1, 255, 256, u64::MAX - 1, u64::MAX].map(Stamp) {
            let row = key(stamp, &concept);
            assert!(from(stamp) <= row && row < through(stamp), "{stamp:?}");
            assert!(stamp == Stamp(0) || through(Stamp(stamp.0 - 1)) <= from(stamp));
        }
    }
}
