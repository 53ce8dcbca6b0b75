//! JSON at the door: strict parsing, canonical form, anonymisation, identity, text of the values.
//!
//! ```text
//!  bytes ──parse──► Value ──Anonymiser──► Value ──to_text──► what the pool stores (numbers and key order as sent)
//!                                           ├──canonical──► RFC 8785 ──SHA-256──► ContentHash
//!                                           └──texts──► strings, numbers, booleans ──fold──► what search matches
//! ```
//!
//! Invariants:
//! - What [`parse()`] lets through is safe for every later reader: valid UTF-8, at most [`DEPTH_MAX`] levels, no duplicate
//!   keys, no lone surrogates, no NUL, every number within the range of a double. Time is linear in the body.
//! - Number text and key order stay as sent; only the canonical form normalises them.
//! - Equal values have equal canonical forms, whatever their key order and number spelling; list order, case and white
//!   space inside strings matter.
//!
//! Stored text is read back with [`parse()`] and nothing else: `serde_json`'s own reader gives the key
//! `$serde_json::private::Number` a meaning under `arbitrary_precision`.
//!
//! This module refuses to know what a concept, a pool or an HTTP status is.

mod anonymise;
mod canonical;
mod parse;
mod text;

#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use serde_json::Value;
use sha2::{Digest, Sha256};

pub use anonymise::{Anonymiser, RuleError};
pub use canonical::{canonical, canonical_number};
pub use parse::{DEPTH_MAX, Located, PLACE_STEPS_MAX, ParseError, Position, parse, parse_located};
pub use text::{Text, Texts, fold, fold_into, texts};

/// SHA-256 of the canonical JSON of an anonymised concept. Shown and parsed as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct ContentHash(pub [u8; 32]);

impl ContentHash {
    /// The identity of an already anonymised value.
    #[must_use]
    pub fn of(anonymised: &Value) -> ContentHash {
        ContentHash(Sha256::digest(canonical(anonymised).as_bytes()).into())
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ContentHash({self})")
    }
}

/// Text that is not a content hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a content hash is 64 hexadecimal digits")]
pub struct HashFormatError;

impl FromStr for ContentHash {
    type Err = HashFormatError;

    fn from_str(text: &str) -> Result<ContentHash, HashFormatError> {
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
            return Err(HashFormatError);
        };
        let mut bytes = [0; 32];
        if pairs.len() != bytes.len() {
            return Err(HashFormatError);
        }
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            *byte = hexadecimal(pair[0]).ok_or(HashFormatError)? << 4 | hexadecimal(pair[1]).ok_or(HashFormatError)?;
        }
        Ok(ContentHash(bytes))
    }
}

fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// Compact JSON text with numbers and key order as sent: what is stored and delivered.
#[must_use]
pub fn to_text(value: &Value) -> String {
    serde_json::to_string(value).expect("a tree of JSON values with string keys always serialises")
}

/// Levels of nesting: 0 for a scalar, 1 for a flat object or list.
#[must_use]
pub fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}
