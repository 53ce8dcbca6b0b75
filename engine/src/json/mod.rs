//! JSON at the door: strict parsing, canonical form, anonymisation, text of the values.
#![allow(unused, missing_docs)] // skeleton

/// SHA-256 of the canonical JSON of an anonymised concept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(pub [u8; 32]);
