//! What the store does with the disk, flushes above all, on a thread of its own so that commits go on.
//!
//! The committer orders one after it synced the log, and from then until the flush is over it syncs every group before
//! it is applied: so what a flush puts on disk is never ahead of the log.

use std::sync::mpsc::Receiver;

use wal::Lsn;

use super::queue::Queue;
use crate::{
    keyspace::meta,
    store::{Compactions, Error, Store},
};

/// What the committer wants done, in this order.
pub(super) enum Order {
    /// Flush, and say what came of it.
    Flush,
    /// Compact so from now on.
    Compact(Compactions),
}

/// What came of it: the last record now durably in the store.
pub(super) struct Flushed(pub(super) Result<Lsn, Error>);

/// The body of the flusher thread: ends when the committer does.
pub(super) fn run(orders: &Receiver<Order>, store: &dyn Store, queue: &Queue) {
    for order in orders {
        match order {
            Order::Flush => queue.flushed(Flushed(flush(store))),
            Order::Compact(when) => {
                if let Err(error) = store.compact(when) {
                    tracing::error!(%error, ?when, "the store's compactions could not be changed");
                }
            }
        }
    }
}

/// Flushes now.
///
/// # Errors
/// When nothing new is durable.
pub(crate) fn flush(store: &dyn Store) -> Result<Lsn, Error> {
    store.flush()?;
    meta::applied_durably(store)
}
