//! benches
#![allow(clippy::disallowed_methods, reason = "measuring is what the real clock is for")]

pub mod engine_puts;
