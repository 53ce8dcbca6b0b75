//! Family `concepts`: the CRDT state of every key of a mesh namespace, the pool's included.
//!
//! ```text
//!  key    namespace (u32 BE) ‖ key
//!  value  1 ‖ context: [(actor u32, counter)] ‖ entries: [(actor u32, counter, stamp, expires?, content)]
//!         content: 0 register JSON │ 1 sibling JSON │ 2 element JSON │ 3 increments, decrements
//! ```
//!
//! Actors are numbers of [`Actors`]. Both lists stand in the order of the actors spelled out, which two nodes share.

use serde::{Deserialize, Serialize};

use super::{
    NamespaceId,
    actors::Actors,
    codec::{self, First, Undecodable},
};
use crate::{
    clock::Stamp,
    crdt::{Content, Dot, Entry, State, VersionVector},
};

/// Bytes of the namespace before each key.
pub const PREFIX_BYTES: usize = 4;

/// The longest key of a concept, in bytes.
pub const KEY_BYTES_MAX: usize = 4096;

/// The database's key of a concept.
#[must_use]
pub fn key(namespace: NamespaceId, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PREFIX_BYTES + key.len());
    bytes.extend_from_slice(&namespace.0.to_be_bytes());
    bytes.extend_from_slice(key);
    bytes
}

/// Namespace and key of a concept, from the database's key; `None` when it is too short to be one.
#[must_use]
pub fn split(key: &[u8]) -> Option<(NamespaceId, &[u8])> {
    let (namespace, key) = key.split_first_chunk::<PREFIX_BYTES>()?;
    Some((NamespaceId(u32::from_be_bytes(*namespace)), key))
}

/// A state as it lies on disk; `S` is `String` when read and `&str` when written.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stored<S> {
    context: Vec<(u32, u64)>,
    entries: Vec<StoredEntry<S>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredEntry<S> {
    actor: u32,
    counter: u64,
    stamp: Stamp,
    expires: Option<Stamp>,
    content: StoredContent<S>,
}

#[derive(Debug, Serialize, Deserialize)]
enum StoredContent<S> {
    Register(S),
    Sibling(S),
    Element(S),
    Sums { increments: u64, decrements: u64 },
}

impl First for Stored<String> {}

/// Appends the bytes of `state`, asking `number` for the number of each actor.
pub fn encode_into(state: &State, number: &mut dyn FnMut(&crate::identity::Actor) -> u32, bytes: &mut Vec<u8>) {
    let context = state
        .context
        .0
        .iter()
        .map(|(actor, counter)| (number(actor), *counter))
        .collect();
    let entries = state
        .entries
        .iter()
        .map(|(dot, entry)| StoredEntry {
            actor: number(&dot.actor),
            counter: dot.counter,
            stamp: entry.stamp,
            expires: entry.expires,
            content: match &entry.content {
                Content::Register(json) => StoredContent::Register(json.as_str()),
                Content::Sibling(json) => StoredContent::Sibling(json.as_str()),
                Content::Element(json) => StoredContent::Element(json.as_str()),
                Content::Sums { increments, decrements } => StoredContent::Sums {
                    increments: *increments,
                    decrements: *decrements,
                },
            },
        })
        .collect();
    codec::encode_twin_into::<Stored<String>>(&Stored::<&str> { context, entries }, bytes);
}

/// The state in `bytes`.
///
/// # Errors
/// When the bytes are damaged, of a newer version, or name an actor that is not in `actors`.
pub fn decode(bytes: &[u8], actors: &Actors) -> Result<State, Undecodable> {
    let stored: Stored<String> = codec::decode(bytes)?;
    let mut state = State {
        context: VersionVector::default(),
        ..State::default()
    };
    for (actor, counter) in stored.context {
        state.context.0.insert(actors.actor(actor)?, counter);
    }
    for entry in stored.entries {
        let dot = Dot {
            actor: actors.actor(entry.actor)?,
            counter: entry.counter,
        };
        let content = match entry.content {
            StoredContent::Register(json) => Content::Register(json),
            StoredContent::Sibling(json) => Content::Sibling(json),
            StoredContent::Element(json) => Content::Element(json),
            StoredContent::Sums { increments, decrements } => Content::Sums { increments, decrements },
        };
        state.entries.insert(
            dot,
            Entry {
                stamp: entry.stamp,
                expires: entry.expires,
                content,
            },
        );
    }
    if !state.is_sound() {
        let reason = "an entry is not in the context".to_owned();
        return Err(Undecodable::Damaged {
            record: "state",
            length: bytes.len(),
            reason,
        });
    }
    Ok(state)
}

#[cfg(test)]
mod tests;
