//! The state machine: committed entries, decided by the ledger.
//!
//! ```text
//!  entries of one call ─► one Overlay: apply, apply, apply … in order ─► its batch + the Applied row: one frame, not synced
//!                            (a new one beyond some bytes)                    applied ─► every proposer gets its decision
//! ```
//!
//! Invariants: what is in the raft-owned families and what the Applied row says are always of one batch. An entry may come in
//! several: the row says how many of its proposals are in. Nothing is synced here, for the log can say it all again.

use std::{
    io,
    panic::{self, AssertUnwindSafe},
};

use engine::{
    Batch, Durability, Engine, Mutation, backup,
    commit::BATCH_BYTES_MAX,
    image::Applied,
    keyspace::raft_state::{self, Installing},
    ledger::{self, Decision, Overlay, Proposal},
};
use metrics::{Counter, Histogram};
use openraft::{
    EntryPayload,
    alias::SnapshotOf,
    storage::{ApplyResponder, EntryResponder, RaftStateMachine},
};
use tokio_stream::{Stream, StreamExt as _};

use super::{
    images::Images,
    sequencer::{TRIED_BYTES, weight_of},
    snapshot::{self, Builder, Image},
    types::{
        Decisions, Entry, LogId, Proposals, SnapshotMeta, StoredMembership, Types, fatal, log_id, members_of,
        stored_log_id, stored_membership,
    },
};
use crate::metrics::{self as counts, Metrics};

/// One frame takes no further proposal beyond these bytes.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// What a proposal writes that was not tried out, for each byte that it weighs: rows and their keys beside short texts.
const WRITTEN_PER_WEIGHT: usize = 4;

/// The last proposal of a frame still fits the batch. One that was tried out gets a frame of its own.
const _: () = assert!(FRAME_BYTES_MAX + WRITTEN_PER_WEIGHT * TRIED_BYTES < BATCH_BYTES_MAX);
/// Entries that are in memory at once.
const ENTRIES_MAX: usize = 64;

/// The ledger behind raft.
pub(super) struct Machine {
    engine: Engine,
    cluster: String,
    applied: Applied,
    /// Those on their way.
    images: Images,
    commands: Counter,
    batch: Histogram,
}

/// An entry under way, and what came of its proposals so far.
struct Deciding {
    responder: Option<ApplyResponder<Types>>,
    decisions: Vec<Decision>,
}

impl Machine {
    /// Goes on where the database is. An install that was cut short has been made up for.
    ///
    /// # Errors
    /// When the database cannot be read, or what is in it is half of a snapshot.
    pub(super) fn open(engine: Engine, images: Images, metrics: &Metrics) -> io::Result<Machine> {
        let cluster = backup::hex(&engine.cluster());
        if let Some(Installing { file, .. }) = raft_state::read(engine.view()).map_err(fatal)? {
            return Err(fatal(format!(
                "the snapshot {file} was being put in place when the node ended, and nobody has said where it lies"
            )));
        }
        let applied = raft_state::read(engine.view()).map_err(fatal)?.unwrap_or_default();
        Ok(Machine {
            engine,
            cluster,
            applied,
            images,
            commands: metrics.counter(counts::COMMANDS, &[]),
            batch: metrics.histogram(counts::COMMAND_BATCH, &[]),
        })
    }

    /// Decides entries in order. Those whose effect is applied are answered.
    async fn decide(&mut self, entries: Vec<EntryResponder<Types>>) -> io::Result<()> {
        let mut entries = entries.into_iter().peekable();
        let mut under_way: Option<(Entry, Deciding)> = None;
        while under_way.is_some() || entries.peek().is_some() {
            let mut done = Vec::new();
            // openraft takes seconds to notice that whoever decides has panicked; an error it heeds at once.
            let decide = || self.frame(&mut entries, &mut under_way, &mut done);
            let frame = panic::catch_unwind(AssertUnwindSafe(decide));
            let frame = frame.unwrap_or_else(|_| Err(fatal("deciding panicked; its log line says where")))?;
            self.engine.commit(frame, Durability::Buffered).await.map_err(fatal)?;
            for Deciding { responder, decisions } in done {
                if let Some(responder) = responder {
                    responder.send(Decisions(decisions));
                }
            }
        }
        Ok(())
    }

    /// One frame of what is next. An entry that does not fit is left in `under_way`.
    fn frame(
        &mut self,
        entries: &mut impl Iterator<Item = EntryResponder<Types>>,
        under_way: &mut Option<(Entry, Deciding)>,
        done: &mut Vec<Deciding>,
    ) -> io::Result<Batch> {
        let engine = self.engine.clone();
        let mut overlay = Overlay::new(engine.view(), &self.cluster);
        let mut decided = 0;
        while overlay.bytes() < FRAME_BYTES_MAX {
            let begun = under_way.take().or_else(|| {
                let (entry, responder) = entries.next()?;
                let decisions = Vec::new();
                Some((entry, Deciding { responder, decisions }))
            });
            let Some((entry, mut deciding)) = begun else { break };
            if let EntryPayload::Normal(Proposals(proposals)) = &entry.payload {
                let rest = &proposals[(self.applied.part as usize).min(proposals.len())..];
                let taken = self.proposals(&mut overlay, rest, &mut deciding)?;
                decided += taken;
                if taken < rest.len() {
                    self.applied.part += u32::try_from(taken).map_err(fatal)?;
                    *under_way = Some((entry, deciding));
                    break;
                }
            }
            let at = stored_log_id(&entry.log_id);
            if let EntryPayload::Membership(members) = &entry.payload {
                self.applied.members = stored_membership(members);
                self.applied.members_at = Some(at);
            }
            self.applied.last = Some(at);
            self.applied.part = 0;
            done.push(deciding);
        }
        if decided > 0 {
            self.batch.record(decided as f64);
            self.commands.increment(decided as u64);
        }
        let mut batch = overlay.into_batch();
        batch
            .mutations
            .push(Mutation::Raft(vec![raft_state::put(&self.applied)]));
        Ok(batch)
    }

    /// Decides as many as the overlay has room for; how many.
    fn proposals(&self, overlay: &mut Overlay<'_>, rest: &[Proposal], deciding: &mut Deciding) -> io::Result<usize> {
        for (taken, proposal) in rest.iter().enumerate() {
            let heavy = weight_of(&proposal.command) > TRIED_BYTES;
            if overlay.bytes() >= FRAME_BYTES_MAX || heavy && !overlay.is_empty() {
                return Ok(taken);
            }
            let decision = ledger::apply(overlay, proposal.clone());
            deciding
                .decisions
                .push(decision.map_err(|error| fatal(format!("the ledger cannot decide: {error}")))?);
        }
        Ok(rest.len())
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Image;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied.last.map(log_id), members_of(&self.applied)?))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + Send,
    {
        let mut waiting = Vec::new();
        while let Some(entry) = entries.next().await {
            waiting.push(entry?);
            if waiting.len() >= ENTRIES_MAX {
                self.decide(std::mem::take(&mut waiting)).await?;
            }
        }
        self.decide(waiting).await
    }

    /// Whoever takes an image goes on from the log, if it is still there.
    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        if !force && self.images.put_off_snapshot() {
            return None;
        }
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            engine: self.engine.clone(),
            applied: self.applied.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, image: Image) -> Result<(), io::Error> {
        let expected = Applied {
            last: meta.last_log_id.as_ref().map(stored_log_id),
            members_at: meta.last_membership.log_id().as_ref().map(stored_log_id),
            members: stored_membership(meta.last_membership.membership()),
            part: 0,
        };
        self.applied = snapshot::install(self.engine.clone(), image, self.images.directory().ok(), expected).await?;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<Types, Image>>, io::Error> {
        snapshot::current(&self.engine)
    }
}

#[cfg(test)]
mod tests;
