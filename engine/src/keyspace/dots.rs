//! Family `dots`: which key each write event changed, so that what a peer lacks can be found from its version vector.
//!
//! ```text
//!  key    actor (u32 BE, a number of Actors) ‖ counter (u64 BE)
//!  value  1 ‖ key in family concepts (namespace ‖ key)
//! ```
//!
//! Rows below the stable cut of all members are trimmed; nothing else removes them.

/// Version byte of a row.
const VERSION: u8 = 1;

/// The key of one dot.
#[must_use]
pub fn key(actor: u32, counter: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&actor.to_be_bytes());
    bytes[4..].copy_from_slice(&counter.to_be_bytes());
    bytes
}

/// Actor's number and counter; `None` when `key` is not one of this family.
#[must_use]
pub fn split(key: &[u8]) -> Option<(u32, u64)> {
    let (actor, counter) = key.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*actor), u64::from_be_bytes(counter.try_into().ok()?)))
}

/// Appends the value of a row, given the key in family `concepts`.
pub fn encode_into(concept: &[u8], bytes: &mut Vec<u8>) {
    bytes.push(VERSION);
    bytes.extend_from_slice(concept);
}

/// The key in family `concepts`; `None` when the row is damaged or of another version.
#[must_use]
pub fn decode(value: &[u8]) -> Option<&[u8]> {
    value
        .split_first()
        .and_then(|(version, concept)| (*version == VERSION).then_some(concept))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::{NamespaceId, concepts};

    fn row(concept: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_into(concept, &mut bytes);
        bytes
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(key(258, 772), [0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 3, 4]);
        assert_eq!(row(&concepts::key(NamespaceId(16), b"k")), [1, 0, 0, 0, 16, b'k']);
    }

    #[test]
    fn rows_are_read_back_and_sort_by_actor_and_counter() {
        for (actor, counter) in [(0, 1), (258, 772), (u32::MAX, u64::MAX)] {
            assert_eq!(split(&key(actor, counter)), Some((actor, counter)));
        }
        assert!(key(0, u64::MAX) < key(1, 0) && key(1, 255) < key(1, 256));
        let concept = concepts::key(NamespaceId(16), b"k");
        assert_eq!(decode(&row(&concept)), Some(&concept[..]));
    }

    #[test]
    fn other_lengths_and_versions_are_refused() {
        let whole = key(258, 772);
        for length in 0..whole.len() {
            assert_eq!(split(&whole[..length]), None, "{length} bytes");
        }
        assert_eq!(split(&[&whole[..], &[0]].concat()), None, "a byte more");
        assert_eq!(decode(&[]), None, "no version byte");
        assert_eq!(decode(&[0, 0, 0, 0, 16, b'k']), None, "version 0 is never written");
        assert_eq!(decode(&[2, 0, 0, 0, 16, b'k']), None, "a newer version");
    }
}
