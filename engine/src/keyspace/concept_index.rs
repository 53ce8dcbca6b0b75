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
