//! Flushes of the store, on a thread of their own so that commits go on.
//!
//! The committer orders one after it synced the log, and from then until the flush is over it syncs every group before
//! it is applied: so what a flush puts on disk is never ahead of the log.

use std::sync::mpsc::Receiver;

use wal::Lsn;

use super::queue::Queue;
use crate::{
    keyspace::meta,
    store::{Error, Store},
};

/// Order to flush.
pub(super) struct Flush;

/// What came of it: the last record now durably in the store.
pub(super) struct Flushed(pub(super) Result<Lsn, Error>);

/// The body of the flusher thread: ends when the committer does.
pub(super) fn run(orders: &Receiver<Flush>, store: &dyn Store, queue: &Queue) {
    for Flush in orders {
        queue.flushed(Flushed(flush(store)));
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
