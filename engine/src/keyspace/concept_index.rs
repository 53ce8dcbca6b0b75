//! Family `concept_index`: every key of `concepts` in the order of its hash, for anti-entropy by ranges of the hash.
//!
//! ```text
//!  key    hash64(namespace ‖ key) (u64 BE) ‖ namespace (u32 BE) ‖ key
//!  value  ∅
//! ```
//!
//! Written once, with the first state of a key, so that updates pay nothing. The hash is XXH3-64 with seed 0, for ever.

use super::concepts;

/// Bytes of the hash before each concept key.
pub const HASH_BYTES: usize = 8;

/// The index key of a concept, given its key in family `concepts`.
#[must_use]
pub fn key(concept: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HASH_BYTES + concept.len());
    bytes.extend_from_slice(&xxhash_rust::xxh3::xxh3_64(concept).to_be_bytes());
    bytes.extend_from_slice(concept);
    bytes
}

/// Hash and concept key, from an index key; `None` when it is too short to be one.
#[must_use]
pub fn split(key: &[u8]) -> Option<(u64, &[u8])> {
    let (hash, concept) = key.split_first_chunk::<HASH_BYTES>()?;
    (concept.len() >= concepts::PREFIX_BYTES).then_some((u64::from_be_bytes(*hash), concept))
}

#[cfg(test)]
mod tests {
    use super::{super::NamespaceId, *};

    /// The hashes are what the `xxhash` package of Python gives for the same bytes.
    #[test]
    fn golden_bytes() {
        let concept = concepts::key(NamespaceId(16), b"k");
        let hash = [0xfe, 0x5a, 0xa8, 0x1a, 0x9e, 0x8a, 0x38, 0xbe];
        assert_eq!(key(&concept), [&hash[..], &[0, 0, 0, 16, b'k']].concat());

        let pooled = concepts::key(NamespaceId::SHARED, &[5; 32]);
        let hash = [0x5f, 0x23, 0xae, 0x8a, 0x6e, 0x5b, 0x60, 0xfc];
        assert_eq!(key(&pooled), [&hash[..], &[0, 0, 0, 1], &[5; 32]].concat());

        let longest = concepts::key(NamespaceId(16), &[b'k'; concepts::KEY_BYTES_MAX]);
        assert_eq!(
            key(&longest)[..HASH_BYTES],
            [0x87, 0xee, 0x6b, 0x3c, 0x1c, 0xd2, 0x3c, 0x80]
        );
    }

    #[test]
    fn keys_are_read_back() {
        let concept = concepts::key(NamespaceId(16), b"k");
        assert_eq!(split(&key(&concept)), Some((0xfe5a_a81a_9e8a_38be, &concept[..])));
        let without_key = concepts::key(NamespaceId(16), b"");
        assert!(split(&key(&without_key)).is_some_and(|(_, concept)| concept == without_key));
    }

    #[test]
    fn a_key_too_short_to_name_a_concept_is_refused() {
        let shortest = key(&concepts::key(NamespaceId(16), b""));
        for length in 0..shortest.len() {
            assert_eq!(split(&shortest[..length]), None, "{length} bytes");
        }
    }
}
