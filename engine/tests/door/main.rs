//! The door from outside: what a commit promises, with the power cut, the disk failing and the disk full.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may fail by panic, and drives a runtime of its own"
)]

mod backup;
mod basics;
mod compact;
mod conditions;
mod expiry;
mod faults;
mod following;
mod image;
mod node;
mod opening;
mod operations;
mod power_cut;
mod raft;
mod requests;
mod rocks;
mod space;
mod verify;
