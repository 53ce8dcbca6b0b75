//! The order of commands: a log of one now, raft behind the same `propose` later.
#![allow(unused, missing_docs)] // skeleton

use engine::{CommitError, Engine, ledger};

/// Drains all waiting commands, applies them in order over one overlay and commits their union as one batch.
#[derive(Clone)]
pub struct Sequencer {}

impl Sequencer {
    /// Decides `command`; the answer is durable. `CommitError` means nothing is known to have been charged or credited.
    pub async fn propose(&self, command: ledger::Command, idempotency: Option<ledger::Idempotency>) -> Result<ledger::Outcome, CommitError> {
        unimplemented!()
    }
}
