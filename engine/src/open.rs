//! The engine as its users hold it.
#![allow(unused, missing_docs)] // skeleton

use std::{path::PathBuf, sync::Arc};

use wal::Lsn;

use crate::{clock::Clock, commit::{Batch, Durability, Pending}, crdt, identity::Actor, keyspace::NamespaceId, store::{self, Store, View}};

#[derive(Clone, Debug)]
pub struct Settings {
    pub block_cache_bytes: usize,
    /// A flush of the database every so many bytes of log; also bounds replay.
    pub flush_log_bytes: u64,
    pub queue_bytes_max: usize,
    pub segment_bytes: u64,
    /// Free space under which a warning is logged.
    pub free_soft_bytes: u64,
    /// Free space under which client writes are refused while deletes still work.
    pub free_hard_bytes: u64,
}
/// Components handed in.
pub struct Environment {
    pub node: String,
    pub clock: Arc<dyn Clock>,
    /// Fresh random bits for incarnations and secrets.
    pub entropy: fn() -> u64,
    pub log: Arc<dyn wal::storage::Storage>,
    pub store: Arc<dyn Store>,
}
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Log(#[from] wal::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("{0}")]
    Refused(String),
}

/// The engine; clones share it. Reads go through [`Engine::view`], every change through [`Engine::commit`].
#[derive(Clone)]
pub struct Engine {}
impl Engine {
    pub fn open(settings: Settings, environment: Environment) -> Result<Engine, OpenError> {
        unimplemented!()
    }
    /// The door.
    pub fn commit(&self, batch: Batch, durability: Durability) -> Pending {
        unimplemented!()
    }
    /// Applied state.
    pub fn view(&self) -> &dyn View {
        unimplemented!()
    }
    pub fn concept(&self, namespace: NamespaceId, key: &[u8]) -> Result<Option<crdt::State>, store::Error> {
        unimplemented!()
    }
    /// Concepts with `prefix`, in key order, strictly after `after`; visits until `visit` returns false. Tombstones included.
    pub fn concepts(&self, namespace: NamespaceId, prefix: &[u8], after: Option<&[u8]>, visit: &mut dyn FnMut(&[u8], crdt::State) -> bool) -> Result<(), store::Error> {
        unimplemented!()
    }
    /// The last LSN that is both synced and applied.
    pub fn committed(&self) -> tokio::sync::watch::Receiver<Lsn> {
        unimplemented!()
    }
    pub fn actor(&self) -> Actor {
        unimplemented!()
    }
    /// Drains the queue, flushes and joins the threads.
    pub fn close(&self) -> Result<(), OpenError> {
        unimplemented!()
    }
}
