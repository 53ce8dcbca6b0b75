//! The order of commands: a log of one now, raft behind the same `propose` later.
//!
//! ```text
//!  propose ─► room (bytes; callers wait here) ─► queue ─► sequencer thread
//!                                                          │ takes all that wait (≤ 1 MiB, ≤ 1,024 commands)
//!                                                          ▼
//!                                        one Overlay: apply, apply, apply … in order
//!                                                          │ their union, one batch
//!                                                          ▼
//!                                        Engine::commit, synced ─► every caller gets its outcome
//!                                        (meanwhile the next batch gathers in the queue)
//! ```
//!
//! Invariants:
//! - An outcome is told only when everything it rests on is durable, refusals included: a refusal may rest on an earlier
//!   command of the same batch.
//! - When a batch is not committed, none of its commands happened and each caller is told so.
//! - A failure while deciding is not an outcome: the sequencer stops, and the process with it.
//!
//! It refuses to know what a command means.

mod sequencer;

pub use sequencer::{Sequencer, Settings};
