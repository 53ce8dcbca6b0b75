//! What time alone makes due is carried out: expired values become deletions, old request ids are forgotten.
//!
//! ```text
//!  every second ─► engine::due(now) ─► a batch ─► Engine::commit ─► rest ─► due(now) … until nothing is due
//! ```
//!
//! A look begins where the one before it had found nothing more, for the rows of what is gone lie in the database for a while
//! and would be passed over again each second; now and then one begins at the beginning. A full disk does not stop it: what it
//! writes only takes away. It refuses to know which values are this node's to delete.

use std::{sync::Arc, time::Duration};

use engine::{
    Batch, CommitError, Due, Durability, Engine, Mutation,
    clock::{Clock, Stamp, Timestamp},
    store,
};

use crate::runtime::{
    tasks::{self, Stop},
    time::{Stopwatch, sleep},
};

/// How often it is looked.
const INTERVAL: Duration = Duration::from_secs(1);
/// So many looks begin at the newest row that can be due, then one at the oldest there is.
const LOOKS_BEFORE_A_WHOLE_ONE: u32 = 600;
/// A row is written at most so long after its time to live began to run, however busy the engine is.
const ROWS_LATE_MAX: Duration = Duration::from_mins(1);
/// After a batch it rests this many times as long as the batch took, so that requests wait for few of its writes.
const REST: u32 = 4;
/// But not for longer, when the batch had to wait for the disk.
const REST_MAX: Duration = Duration::from_secs(1);

/// Carries out what becomes due, until `stop`.
pub(super) async fn run(engine: Engine, clock: Arc<dyn Clock>, stop: Stop) {
    let mut looks = 0;
    let mut from = Stamp::default();
    loop {
        tokio::select! {
            () = sleep(INTERVAL) => {}
            () = stop.given() => return,
        }
        if looks == LOOKS_BEFORE_A_WHOLE_ONE {
            (looks, from) = (0, Stamp::default());
        }
        looks += 1;
        if let Err(error) = keep_up(&engine, &*clock, &mut from, &stop).await {
            tracing::error!(%error, "what has expired cannot be found, and stays until it can");
        }
    }
}

/// One look: batch after batch, from `from` on, until nothing is due, or the engine takes nothing now.
async fn keep_up(engine: &Engine, clock: &dyn Clock, from: &mut Stamp, stop: &Stop) -> Result<(), store::Error> {
    while !stop.is_given() {
        let now = clock.now();
        let Due { mutations, last } = look(engine, *from, now).await?;
        if mutations.is_empty() {
            *from = settled(now).max(*from);
            return Ok(());
        }
        let since = Stopwatch::start();
        let committed = tokio::select! {
            committed = engine.commit(Batch::of(mutations.clone()), Durability::Synced) => committed,
            () = stop.given() => return Ok(()),
        };
        match committed {
            Ok(_) => {}
            // The next look finds the same.
            Err(CommitError::Busy | CommitError::NoSpace { .. } | CommitError::Stopped(_)) => return Ok(()),
            Err(_) => {
                one_by_one(engine, mutations).await;
                *from = last.next().max(*from);
                return Ok(());
            }
        }
        tokio::select! {
            () = sleep((since.elapsed() * REST).min(REST_MAX)) => {}
            () = stop.given() => {}
        }
    }
    Ok(())
}

/// What cannot be carried out must not keep the others of its batch from it.
async fn one_by_one(engine: &Engine, mutations: Vec<Mutation>) {
    for mutation in mutations {
        if let Err(error) = engine.commit(Batch::one(mutation), Durability::Synced).await {
            tracing::error!(%error, "one value that has expired is not deleted; it is tried again in some minutes");
        }
    }
}

/// Beside the workers: up to some hundred keys are read.
async fn look(engine: &Engine, from: Stamp, now: Timestamp) -> Result<Due, store::Error> {
    let engine = engine.clone();
    let looked = tasks::blocking(move || engine::due(engine.view(), from, now)).await;
    looked.unwrap_or_else(|| Err(store::Error("the look did not finish".to_owned())))
}

/// What is due below this has been found by a look at `now`.
fn settled(now: Timestamp) -> Stamp {
    let late = u64::try_from(ROWS_LATE_MAX.as_micros()).unwrap_or(u64::MAX);
    Stamp::at(Timestamp(now.0.saturating_sub(late)))
}
