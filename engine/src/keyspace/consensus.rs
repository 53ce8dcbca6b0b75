//! Family `consensus`: the keys of namespaces with `replication = consensus`.
//!
//! ```text
//!  namespace (u32 BE) ‖ key     Row    1 ‖ created ‖ modified ‖ version ‖ at ‖ JSON text
//!  0x00                         Head   1 ‖ revision
//! ```
//!
//! A key that holds nothing has no row: a deletion takes it away, and leaves no tombstone. Revisions are one count for the whole
//! cluster and never go back, so what was read of a key that went and came again is never taken for what it holds now. The
//! key of the head is shorter than a namespace's number: no walk over a namespace meets it.

use serde::{Deserialize, Serialize};

use super::{NamespaceId, codec::First};
use crate::clock::Timestamp;

pub use super::concepts::{PREFIX_BYTES, key, split};

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Revision of the write that made the key.
    pub created: u64,
    /// Revision of the last write.
    pub modified: u64,
    /// Writes since the key was made, from 1.
    pub version: u64,
    /// Ledger time of the last write.
    pub at: Timestamp,
    /// JSON text, numbers and key order as sent.
    pub json: String,
}
impl First for Row {}

/// What all keys share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Transactions so far that changed something.
    pub revision: u64,
}
impl First for Head {}

const HEAD: u8 = 0x00;

/// Key of the [`Head`].
#[must_use]
pub fn head() -> Vec<u8> {
    vec![HEAD]
}

/// Whether this is the key of a [`Row`].
#[must_use]
pub fn is_row(key: &[u8]) -> bool {
    split(key).is_some_and(|(namespace, key)| namespace >= NamespaceId::FIRST_USER && !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::codec::golden;

    #[test]
    fn golden_bytes() {
        let row = Row {
            created: 1,
            modified: 300,
            version: 2,
            at: Timestamp(9),
            json: "{}".to_owned(),
        };
        golden(&row, &[1, 1, 251, 44, 1, 2, 9, 2, b'{', b'}']);
        golden(&Head { revision: 300 }, &[1, 251, 44, 1]);
        assert_eq!(key(NamespaceId(258), b"k"), [0, 0, 1, 2, b'k']);
        assert_eq!(head(), [0]);
    }

    #[test]
    fn the_head_and_what_clients_cannot_write_are_no_rows() {
        assert!(is_row(&key(NamespaceId::FIRST_USER, b"k")));
        let others = [
            head(),
            vec![],
            vec![0, 0, 1],
            key(NamespaceId::SHARED, b"k"),
            key(NamespaceId(16), b""),
        ];
        for other in others {
            assert!(!is_row(&other), "{other:?}");
        }
    }
}
