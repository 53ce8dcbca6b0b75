//! Random bits and names.
#![allow(clippy::disallowed_methods)] // this module is the replacement the ban names

/// 64 bits from the operating system.
///
/// # Panics
/// When the system has no randomness: nothing safe could be built on a guess.
#[must_use]
pub fn bits() -> u64 {
    getrandom::u64().expect("the operating system provides randomness")
}

/// A version 4 UUID in its usual spelling.
#[must_use]
pub fn uuid() -> String {
    let bytes = (u128::from(bits()) << 64) | u128::from(bits());
    uuid::Builder::from_random_bytes(bytes.to_be_bytes())
        .into_uuid()
        .to_string()
}

/// A name for a node that was given none: short enough to read aloud, long enough not to meet its like.
#[must_use]
pub fn node_name() -> String {
    format!("node-{:010x}", bits() >> 24)
}
