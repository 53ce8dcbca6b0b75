//! The one place that turns records into bytes on disk and back.
//!
//! ```text
//!  record = version (1 byte) ‖ bincode 2, standard configuration (little endian, variable-length integers)
//!
//!  decode::<V3>  byte 3 ──► V3
//!                byte 2 ──► V2 ──migrate──► V3
//!                byte 1 ──► V1 ──migrate──► V2 ──migrate──► V3
//!                byte 4 ──► refused: written by a newer build
//! ```
//!
//! A record type in use today is version 1: it says so by `impl First for T {}`. When its shape changes, the old type
//! stays under another name, and the new one implements [`Record`] by hand with the old as its `Previous`. Version bytes
//! are for ever: never reused, never renumbered; 0 is never written. Golden bytes in each family's tests hold `bincode`
//! to what it wrote before. Between nodes these bytes travel only where all of them must have the same: as raft's entries
//! and what was decided about them, and in images.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The largest record that is decoded, in bytes: a damaged length must not ask for all memory.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

const CONFIGURATION: bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<RECORD_BYTES_MAX>,
> = bincode::config::standard().with_limit::<RECORD_BYTES_MAX>();

/// Bytes that are not the record they should be: damage, or a newer build's work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// The version byte is above what this build knows.
    #[error(
        "a {record} of version {found} was written by a newer build; this one reads up to version {known}: start the newer build"
    )]
    Newer {
        /// The Rust type expected.
        record: &'static str,
        /// The version byte found.
        found: u8,
        /// The highest version this build reads.
        known: u8,
    },
    /// The bytes do not decode, or more bytes follow the record.
    #[error("a {record} of {length} bytes is damaged: {reason}")]
    Damaged {
        /// The Rust type expected.
        record: &'static str,
        /// How many bytes there were.
        length: usize,
        /// What did not fit.
        reason: String,
    },
}

/// A type with a place in the chain of versions of one kind of record.
pub trait Record: Serialize + DeserializeOwned {
    /// The version byte, from 1 on.
    const VERSION: u8;
    /// The version before this one; [`Never`] for the first.
    type Previous: Record;
    /// Reads the version before as this one.
    fn migrate(previous: Self::Previous) -> Self;
}

/// Marks a record type that has had one shape only: version 1.
pub trait First: Serialize + DeserializeOwned {}

impl<T: First> Record for T {
    const VERSION: u8 = 1;
    type Previous = Never;
    fn migrate(previous: Never) -> T {
        match previous {}
    }
}

/// What came before the first version: nothing.
#[derive(Debug, Serialize, Deserialize)]
pub enum Never {}

impl Record for Never {
    const VERSION: u8 = 0;
    type Previous = Never;
    fn migrate(previous: Never) -> Never {
        previous
    }
}

/// The bytes of `record`, its version first.
#[must_use]
pub fn encode<T: Record>(record: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    encode_into(record, &mut bytes);
    bytes
}

/// Appends the bytes of `record` to `bytes`.
pub fn encode_into<T: Record>(record: &T, bytes: &mut Vec<u8>) {
    encode_twin_into::<T>(record, bytes);
}

/// Appends what `T` would encode to from a twin of it that borrows its parts: the same fields, in the same order.
pub fn encode_twin_into<T: Record>(twin: &impl Serialize, bytes: &mut Vec<u8>) {
    bytes.push(T::VERSION);
    append(twin, bytes);
}

/// Appends `part` without a version byte, for records that are written piece by piece.
pub fn append(part: &impl Serialize, bytes: &mut Vec<u8>) {
    bincode::serde::encode_into_std_write(part, bytes, CONFIGURATION)
        .expect("writing to memory does not fail, and record types have lengths known to serde");
}

/// Takes one part written by [`append`] off the front of `bytes`; what it borrows lives in them.
///
/// # Errors
/// [`Undecodable::Damaged`].
pub fn take<'a, T: Deserialize<'a>>(bytes: &mut &'a [u8]) -> Result<T, Undecodable> {
    let (part, used) =
        bincode::serde::borrow_decode_from_slice(bytes, CONFIGURATION).map_err(|error| Undecodable::Damaged {
            record: std::any::type_name::<T>(),
            length: bytes.len(),
            reason: error.to_string(),
        })?;
    *bytes = &bytes[used..];
    Ok(part)
}

/// Bytes that are copied as a whole instead of one by one; the same on disk as a list of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Bytes<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Bytes<'a>, D::Error> {
        <&[u8]>::deserialize(deserializer).map(Bytes)
    }
}

/// The record in `bytes`, migrated from whatever earlier version it was written in.
///
/// # Errors
/// [`Undecodable`], when the bytes are damaged or of a newer version.
pub fn decode<T: Record>(bytes: &[u8]) -> Result<T, Undecodable> {
    let record = std::any::type_name::<T>();
    match bytes.split_first() {
        None => Err(Undecodable::Damaged {
            record,
            length: 0,
            reason: "no version byte".to_owned(),
        }),
        Some((&version, _)) if version > T::VERSION => Err(Undecodable::Newer {
            record,
            found: version,
            known: T::VERSION,
        }),
        Some((&version, body)) if version == T::VERSION && version != Never::VERSION => decode_body(body),
        Some((0, _)) => Err(Undecodable::Damaged {
            record,
            length: bytes.len(),
            reason: "version 0 is never written".to_owned(),
        }),
        Some(_) => decode::<T::Previous>(bytes).map(T::migrate),
    }
}

fn decode_body<T: Record>(body: &[u8]) -> Result<T, Undecodable> {
    let damaged = |reason: String| Undecodable::Damaged {
        record: std::any::type_name::<T>(),
        length: body.len() + 1,
        reason,
    };
    let (record, used) =
        bincode::serde::decode_from_slice(body, CONFIGURATION).map_err(|error| damaged(error.to_string()))?;
    if used != body.len() {
        return Err(damaged(format!("{} bytes follow the record", body.len() - used)));
    }
    Ok(record)
}

/// Pins the bytes of a record, both ways, and that nothing near them is read as one.
#[cfg(test)]
#[track_caller]
pub(crate) fn golden<T: Record + PartialEq + std::fmt::Debug>(record: &T, bytes: &[u8]) {
    assert_eq!(encode(record), bytes, "{record:?} is written otherwise than before");
    assert_eq!(decode::<T>(bytes).as_ref(), Ok(record));
    refuses_all_but(bytes, decode::<T>);
}

/// Checks that `decode`, which reads `bytes`, refuses them cut anywhere, with a byte more, and under another version.
#[cfg(test)]
#[track_caller]
pub(crate) fn refuses_all_but<T>(bytes: &[u8], decode: impl Fn(&[u8]) -> Result<T, Undecodable>) {
    let is_damaged = |bytes: &[u8]| matches!(decode(bytes), Err(Undecodable::Damaged { .. }));
    for length in 0..bytes.len() {
        assert!(is_damaged(&bytes[..length]), "{bytes:?} cut to {length} bytes is read");
    }
    assert!(is_damaged(&[bytes, &[0]].concat()), "{bytes:?} and a zero byte is read");
    let of_version = |version: u8| [&[version], &bytes[1..]].concat();
    assert!(is_damaged(&of_version(0)), "version 0 is never written");
    let newer = bytes[0] + 1;
    assert!(
        matches!(decode(&of_version(newer)), Err(Undecodable::Newer { found, .. }) if found == newer),
        "{bytes:?} as version {newer} is read, or not called newer"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct One {
        name: String,
    }
    impl First for One {}

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Two {
        name: String,
        weight: u64,
    }
    impl Record for Two {
        const VERSION: u8 = 2;
        type Previous = One;
        fn migrate(previous: One) -> Two {
            Two {
                name: previous.name,
                weight: 1,
            }
        }
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(encode(&One { name: "ab".into() }), [1, 2, b'a', b'b']);
        assert_eq!(
            encode(&Two {
                name: "ab".into(),
                weight: 300
            }),
            [2, 2, b'a', b'b', 251, 44, 1]
        );
    }

    #[test]
    fn an_older_version_is_migrated() {
        assert_eq!(
            decode::<Two>(&[1, 2, b'a', b'b']),
            Ok(Two {
                name: "ab".into(),
                weight: 1
            })
        );
        assert_eq!(
            decode::<Two>(&[2, 2, b'a', b'b', 7]),
            Ok(Two {
                name: "ab".into(),
                weight: 7
            })
        );
    }

    #[test]
    fn a_newer_version_is_refused_and_says_what_to_do() {
        let error = decode::<One>(&[2, 2, b'a', b'b', 7]).expect_err("newer");
        assert!(matches!(error, Undecodable::Newer { found: 2, known: 1, .. }));
        assert!(error.to_string().contains("start the newer build"), "{error}");
    }

    #[test]
    fn parts_are_taken_off_in_order_and_bytes_are_a_list_of_bytes() {
        let mut bytes = Vec::new();
        append(&Bytes(b"key"), &mut bytes);
        append(&7u32, &mut bytes);
        assert_eq!(bytes, [3, b'k', b'e', b'y', 7]);
        assert_eq!(encode(&List(b"key".to_vec()))[1..], bytes[..4]);
        let mut rest = &bytes[..];
        assert_eq!(take::<Bytes<'_>>(&mut rest), Ok(Bytes(b"key")));
        assert_eq!(take::<u32>(&mut rest), Ok(7));
        assert!(rest.is_empty() && take::<u32>(&mut rest).is_err());
    }

    #[derive(Serialize, Deserialize)]
    struct List(Vec<u8>);
    impl First for List {}

    #[test]
    fn damage_is_refused() {
        for bytes in [
            &[][..],
            &[0],
            &[1],
            &[1, 3, b'a', b'b'],
            &[1, 2, b'a', b'b', 0],
            &[1, 2, 0xff, 0xff],
            &[1, 253, 255, 255, 255, 255, 255, 255, 255, 127],
        ] {
            assert!(
                matches!(decode::<One>(bytes), Err(Undecodable::Damaged { .. })),
                "{bytes:?}"
            );
            assert!(decode::<Two>(bytes).is_err());
        }
    }
}
