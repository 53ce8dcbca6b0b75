//! Deliveries: seen by the index at once, made durable in batches.
//!
//! ```text
//!  concepts[system, "usage/" ‖ content hash] = counter (CRDT): the sum over all nodes of what each delivered
//! ```
//!
//! What a crash may lose is one interval's counts: they order results, they are nobody's credit.

use std::{collections::HashMap, time::Duration};

use engine::{
    Batch, CommitError, Durability, Engine, Mutation, Supersede, crdt::Operation, json::ContentHash,
    keyspace::NamespaceId,
};
use parking_lot::Mutex;
use tokio::sync::Mutex as Turn;

use super::{
    Error,
    search::{usage_key, usage_of},
};
use crate::runtime::{
    tasks::{self, Stop},
    time::{Stopwatch, sleep},
};

/// Counters moved by one batch.
const BATCH_COUNTERS_MAX: usize = 250;
/// After a batch a flush rests this many times as long as the batch took, so that requests wait for few of its writes.
const REST: u32 = 4;
/// But not for longer, when the batch had to wait for the disk.
const REST_MAX: Duration = Duration::from_secs(1);

/// Deliveries that are not durable yet.
pub(super) struct Usage {
    engine: Engine,
    pending: Mutex<HashMap<ContentHash, i64>>,
    /// One flush at a time.
    turn: Turn<()>,
}

impl Usage {
    pub(super) fn new(engine: Engine) -> Usage {
        Usage {
            engine,
            pending: Mutex::default(),
            turn: Turn::new(()),
        }
    }

    /// One delivery more of each.
    pub(super) fn add(&self, hashes: impl Iterator<Item = ContentHash>) {
        let mut pending = self.pending.lock();
        for hash in hashes {
            *pending.entry(hash).or_default() += 1;
        }
    }

    /// Makes counts at least what is given, and durable: little by little, as a flush does. Again: does nothing.
    pub(super) async fn raise(&self, mut given: Vec<(ContentHash, u64)>) -> Result<(), Error> {
        // Meanwhile no flush is under way: what was counted is either durable or pending.
        let _turn = self.turn.lock().await;
        given.sort_unstable();
        for part in given.chunks(BATCH_COUNTERS_MAX) {
            let missing = self.missing(part).await?;
            if missing.is_empty() {
                continue;
            }
            let since = Stopwatch::start();
            let mutations = missing.iter().map(|(hash, delta)| moved(hash, *delta)).collect();
            self.engine.commit(Batch::of(mutations), Durability::Synced).await?;
            sleep((since.elapsed() * REST).min(REST_MAX)).await;
        }
        Ok(())
    }

    /// What the counts lack of what is given.
    async fn missing(&self, given: &[(ContentHash, u64)]) -> Result<Vec<(ContentHash, i64)>, Error> {
        let counted: Vec<(ContentHash, u64, u64)> = {
            let pending = self.pending.lock();
            let counted = |hash| pending.get(hash).map_or(0, |count| count.unsigned_abs());
            given
                .iter()
                .map(|(hash, least)| (*hash, *least, counted(hash)))
                .collect()
        };
        let engine = self.engine.clone();
        let read = tasks::blocking(move || {
            let mut missing = Vec::new();
            for (hash, least, pending) in counted {
                let present = usage_of(&engine, &hash)?.saturating_add(pending);
                match i64::try_from(least.saturating_sub(present)) {
                    Ok(0) => {}
                    Ok(delta) => missing.push((hash, delta)),
                    Err(_) => return Err(Error::Internal(format!("a usage count of {least} is out of range"))),
                }
            }
            Ok(missing)
        });
        let read = read.await;
        read.unwrap_or_else(|| Err(Error::Internal("usage counts could not be read".to_owned())))
    }

    /// Makes what was counted until now durable: little by little, and without a pause after the word to stop. On an error
    /// the rest stays for the next flush.
    pub(super) async fn flush(&self, stop: &Stop) -> Result<(), CommitError> {
        let _turn = self.turn.lock().await;
        let mut rest: Vec<(ContentHash, i64)> = std::mem::take(&mut *self.pending.lock()).into_iter().collect();
        // Neighbours in the database are written together.
        rest.sort_unstable();
        while !rest.is_empty() {
            let batch = rest.split_off(rest.len().saturating_sub(BATCH_COUNTERS_MAX));
            let since = Stopwatch::start();
            let mutations = batch.iter().map(|(hash, delta)| moved(hash, *delta)).collect();
            if let Err(error) = self.engine.commit(Batch::of(mutations), Durability::Synced).await {
                let mut pending = self.pending.lock();
                for (hash, delta) in rest.into_iter().chain(batch) {
                    *pending.entry(hash).or_default() += delta;
                }
                return Err(error);
            }
            tokio::select! {
                () = sleep((since.elapsed() * REST).min(REST_MAX)) => {}
                () = stop.given() => {}
            }
        }
        Ok(())
    }
}

fn moved(hash: &ContentHash, delta: i64) -> Mutation {
    Mutation::Local {
        namespace: NamespaceId::SYSTEM,
        key: usage_key(hash),
        operation: Operation::Add { delta },
        supersede: Supersede::All,
    }
}
