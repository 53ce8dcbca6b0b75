//! Namespaces with `replication = consensus`: the same calls by another road.
//!
//! ```text
//!  Put, Delete, Batch, Write ─► writes    conditions become compares ─┐
//!  Transact                  ─► transact  compares, then, otherwise  ─┴─► Sequencer::propose ─► one revision
//!
//!  Get, GetMany, List, Scan  ─► Reads::linearize, shared by all who read at once ─► this node's rows, and an index
//!                               stale_ok: this node's rows as they are
//!  Watch                     ─► the same feed of the log as every watch
//! ```
//!
//! A context of such a key seals the revision of its last write (0: the key holds nothing).

mod transact;
mod writes;

use engine::{
    CommitError,
    keyspace::{NamespaceId, consensus::Row},
    ledger::{Command, Idempotency, Namespace, Outcome, Refusal, Replication, Transacted, Transaction},
};
use prost_types::Timestamp;
use proto::v1::{Concept, Value, concept};

pub(super) use writes::Draft;

use super::{concepts::Service, status::Refused, token, writes::Named};

/// Whose names of transactions are one space for the cluster: whoever comes by this face.
const CALLER: &str = "concepts";

impl Service {
    /// The index of raft's log up to which it is applied here, for a read of `namespace`: everything that was acknowledged before,
    /// unless `stale_ok`. 0, and nobody is asked, where the namespace replicates by mesh.
    pub(super) async fn index(&self, namespace: &Namespace, stale_ok: bool) -> Result<u64, Refused> {
        match namespace.policy.replication {
            Replication::Mesh => Ok(0),
            Replication::Consensus if stale_ok => Ok(self.reads().applied()),
            Replication::Consensus => Ok(self.reads().linearize().await?),
        }
    }

    /// Has a transaction decided: what it did, and whether it did that before.
    async fn transact(
        &self,
        transaction: Transaction,
        idempotency: Option<Idempotency>,
    ) -> Result<(Transacted, bool), Refused> {
        let command = Command::Transact(transaction);
        let decision = self.sequencer().propose(command, idempotency).await?;
        match decision.outcome {
            Outcome::Transacted(transacted) => Ok((transacted, decision.repeated)),
            Outcome::Refused(Refusal::KeyReused) => Err(CommitError::RequestReused.into()),
            Outcome::Refused(refusal) => Err(refusal.into()),
            _ => Err(Refused::Confused),
        }
    }

    /// How rows of `namespace` become messages.
    pub(super) fn row_reader(&self, namespace: NamespaceId, with_contexts: bool) -> RowReader<'_> {
        RowReader {
            key: self.key(),
            namespace,
            with_contexts,
        }
    }
}

/// The name of a transaction: the id is taken out of `message`, if there is one, and sealed to the rest of it.
fn named<M: Named>(message: &mut M) -> Result<Option<Idempotency>, Refused> {
    let name = super::writes::identified(message)?;
    Ok(name.map(|(key, body)| Idempotency {
        caller: CALLER.to_owned(),
        key,
        body,
    }))
}

/// How a namespace is read: fixed for one call.
#[derive(Clone, Copy)]
pub(super) struct RowReader<'a> {
    key: &'a token::Key,
    namespace: NamespaceId,
    with_contexts: bool,
}

impl RowReader<'_> {
    /// The concept as callers see it.
    pub(super) fn concept(&self, key: String, row: Row) -> Concept {
        let context = if self.with_contexts {
            token::seal_revision(self.key, self.namespace, key.as_bytes(), row.modified)
        } else {
            Vec::new()
        };
        let value = Value {
            json: row.json,
            written_at: Some(timestamp(row.at)),
            ..Value::default()
        };
        Concept {
            key,
            value: Some(concept::Value::Register(value)),
            context,
            revision: row.modified,
            created_revision: row.created,
            version: row.version,
            ..Concept::default()
        }
    }
}

fn timestamp(at: engine::clock::Timestamp) -> Timestamp {
    // Below 2^45 seconds, and below 10^9 nanoseconds: both always fit.
    Timestamp {
        seconds: i64::try_from(at.0 / 1_000_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(at.0 % 1_000_000 * 1_000).unwrap_or(0),
    }
}
