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
