//! What one batch leaves in the log: outcomes, not requests.
//!
//! ```text
//!  record = header byte 1 (writes) ‖ body
//!  body   = version 1 ‖ change*                          to the end of the record
//!  change = family (u8) ‖ key (length, bytes) ‖ value (0, or 1 and length, bytes)      bincode, as in keyspace::codec
//! ```
//!
//! Replaying a record puts its changes into the store once more, in order; doing so twice changes nothing.

use serde::{Deserialize, Serialize};

use crate::{
    keyspace::codec::{self, Bytes, Undecodable},
    store::{Change, Family},
};

/// Header byte of a record that holds changes. Numbers of kinds are never reused.
pub const KIND_WRITES: u8 = 1;

/// Version of the body.
const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Part<'a>(Family, #[serde(borrow)] Bytes<'a>, #[serde(borrow)] Option<Bytes<'a>>);

/// Begins a body at the end of `bytes`.
pub fn begin(bytes: &mut Vec<u8>) {
    bytes.push(VERSION);
}

/// Appends one change to a body.
pub fn push(change: Change<'_>, bytes: &mut Vec<u8>) {
    codec::append(&Part(change.family, Bytes(change.key), change.value.map(Bytes)), bytes);
}

/// Appends the changes of a body to `changes`; they borrow from it.
///
/// # Errors
/// When the body is damaged or of a newer version.
pub fn read<'a>(body: &'a [u8], changes: &mut Vec<Change<'a>>) -> Result<(), Undecodable> {
    let record = "log record";
    match body.split_first() {
        Some((&VERSION, mut rest)) => {
            while !rest.is_empty() {
                let Part(family, key, value) = codec::take(&mut rest)?;
                changes.push(Change {
                    family,
                    key: key.0,
                    value: value.map(|bytes| bytes.0),
                });
            }
            Ok(())
        }
        Some((&found, _)) if found > VERSION => Err(Undecodable::Newer {
            record,
            found,
            known: VERSION,
        }),
        _ => Err(Undecodable::Damaged {
            record,
            length: body.len(),
            reason: "no version byte".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_and_back() {
        let written = [
            Change {
                family: Family::Concepts,
                key: b"key",
                value: Some(b"value"),
            },
            Change {
                family: Family::Meta,
                key: b"",
                value: None,
            },
            Change {
                family: Family::Pool,
                key: &[7; 300],
                value: Some(b""),
            },
        ];
        let mut bytes = Vec::new();
        begin(&mut bytes);
        for change in written {
            push(change, &mut bytes);
        }
        let mut golden = vec![
            1, 1, 3, b'k', b'e', b'y', 1, 5, b'v', b'a', b'l', b'u', b'e', 12, 0, 0, 5, 251, 44, 1,
        ];
        golden.extend([7; 300]);
        golden.extend([1, 0]);
        assert_eq!(bytes, golden);
        let mut changes = Vec::new();
        read(&bytes, &mut changes).unwrap();
        assert_eq!(changes, written);
    }

    #[test]
    fn damage_and_newer_versions_are_refused() {
        for body in [&[][..], &[0], &[1, 13, 0, 0], &[1, 1, 9, b'k'], &[1, 1, 0, 2], &[1, 1]] {
            assert!(
                matches!(read(body, &mut Vec::new()), Err(Undecodable::Damaged { .. })),
                "{body:?}"
            );
        }
        assert!(matches!(
            read(&[2], &mut Vec::new()),
            Err(Undecodable::Newer { found: 2, known: 1, .. })
        ));
    }
}
