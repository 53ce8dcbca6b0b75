//! The order of commands: raft, on this node alone or among others.
//!
//! ```text
//!  propose ─► room (bytes; callers wait here) ─► queue ─► sequencer: all that wait (≤ 1 MiB, ≤ 1,024 commands), one batch
//!                                                          │ at most two batches on their way; the next gathers meanwhile
//!                                                          ▼
//!  propose  this node leads: to its raft; another does: to that one, and wait until what was decided is here too
//!              ▼
//!  entries  batches of this node and of others that wait at the same time: one entry
//!              ▼
//!  member   raft (openraft)     log       append ─► Engine::commit, synced with every other write of the group
//!              │                network   to the other members; peers: what they ask of this one
//!              │ committed      snapshot  a position now, bytes when somebody needs them
//!              ▼
//!           machine  one Overlay: apply, apply, apply … in order ─► Engine::commit, buffered, `Applied` in the same batch
//!              └─► every caller gets its decision
//!
//!  clocks   what goes into the log bears a time that most voters' clocks agree with
//!
//!  reads    what was acknowledged before the call is applied here: a majority is asked, once for all who read at once
//! ```
//!
//! Invariants:
//! - A decision is told only when its entry is durable and applied, refusals included: a refusal may rest on an earlier
//!   command of the same entry. What a power cut takes of the effects is applied again from the log.
//! - Raft is never refused a write. Commands are refused before they are proposed, when the disk has no room for them.
//! - A failure while deciding or writing is not an outcome: raft stops, and the process with it.
//! - Nothing outside of this module names openraft.
//!
//! It refuses to know what a command means.

mod acknowledged;
mod clocks;
mod entries;
mod gather;
mod handover;
mod images;
mod log;
mod machine;
mod member;
mod network;
mod numbers;
mod peers;
mod propose;
mod quorum;
mod reads;
mod roster;
mod sequencer;
mod snapshot;
mod types;
mod view;
mod wire;

pub use member::{Company, Founding, Settings as RaftSettings};
pub use peers::{Peers, Refused};
pub use reads::Reads;
pub use sequencer::{Sequencer, Settings};
pub use view::{Seen, View};

#[cfg(test)]
mod tests;
