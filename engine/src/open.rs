//! The engine as its users hold it.

use std::{path::Path, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::watch;
use wal::{Lsn, storage::Storage};

use crate::{
    backup,
    clock::Clock,
    commit::{
        Batch, Disk, Durability, GROUP_BYTES_MAX, Pending, RECORD_FRAMING_BYTES,
        applier::Progress,
        committer::Parts,
        flusher,
        merge::{Merger, Resumed},
        queue::Queue,
        space::{Marks, RESERVE, Space},
        stop::Stop,
        threads::Threads,
    },
    crdt,
    follow::{FollowError, Follower},
    identity::Actor,
    keyspace::{
        NamespaceId,
        actors::Actors,
        concepts,
        meta::{self, Identity},
    },
    operations::Turn,
    recovery::{self, Recovered},
    store::{self, Family, Store, View, end_of_prefix, rocks},
    verify,
};

/// The longest name of a node, in bytes.
pub const NODE_BYTES_MAX: usize = 256;

/// The largest group the log takes: one batch of the largest size with its index rows.
const LOG_GROUP_BYTES_MAX: u64 = 32 << 20;

/// Of several keys that are read together, so many are looked up at once: as many as `RocksDB` takes in one go.
const KEYS_READ_AT_ONCE: usize = 32;

/// The folder of the log in a data directory.
pub(crate) const LOG: &str = "log";

/// What a segment needs besides one group.
const SEGMENT_OVERHEAD_BYTES: u64 = 8 << 10;

/// The engine's numbers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Memory for database blocks.
    pub block_cache_bytes: usize,
    /// A flush of the database every so many bytes of log; also bounds replay.
    pub flush_log_bytes: u64,
    /// Batches waiting for the committer, in bytes; more are answered [`crate::CommitError::Busy`].
    pub queue_bytes_max: usize,
    /// Bytes of one log segment, allocated before it is used; the reserve for deletes is as large.
    pub segment_bytes: u64,
    /// Free space under which a warning is logged, besides what the store needs to flush and to compact.
    pub free_soft_bytes: u64,
    /// Free space under which client writes are refused while deletes still work, besides what the store needs.
    pub free_hard_bytes: u64,
    /// Bytes that compactions and flushes together may write in a second; 0 sets no bound.
    pub compaction_bytes_per_s: u64,
    /// Log kept for those who come back late, although nobody needs it now: at most so many bytes, none on a disk that is
    /// filling up. 0 keeps nothing.
    pub log_keep_bytes: u64,
    /// … and no older than so many seconds.
    pub log_keep_s: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            block_cache_bytes: 32 << 20,
            flush_log_bytes: 64 << 20,
            queue_bytes_max: 32 << 20,
            segment_bytes: 64 << 20,
            free_soft_bytes: 512 << 20,
            free_hard_bytes: 128 << 20,
            compaction_bytes_per_s: 0,
            log_keep_bytes: 256 << 20,
            log_keep_s: 86_400,
        }
    }
}

impl Settings {
    /// Checks the numbers against one another.
    ///
    /// # Errors
    /// Which number is wrong, and what it may be.
    pub fn validate(&self) -> Result<(), String> {
        if self.free_soft_bytes < self.free_hard_bytes {
            let (soft, hard) = (self.free_soft_bytes, self.free_hard_bytes);
            return Err(format!(
                "free_soft_bytes ({soft}) must not be below free_hard_bytes ({hard})"
            ));
        }
        if self.flush_log_bytes == 0 || self.queue_bytes_max == 0 {
            return Err("flush_log_bytes and queue_bytes_max must be above 0".to_owned());
        }
        self.log().validate().map_err(|error| error.to_string())
    }

    pub(crate) fn database(&self, free_bytes: u64) -> rocks::Settings {
        rocks::Settings {
            block_cache_bytes: self.block_cache_bytes,
            flush_log_bytes: self.flush_log_bytes,
            compaction_bytes_per_s: self.compaction_bytes_per_s,
            free_bytes,
        }
    }

    fn marks(&self) -> Marks {
        Marks {
            soft_bytes: self.free_soft_bytes,
            hard_bytes: self.free_hard_bytes,
            reserve_bytes: self.segment_bytes,
        }
    }

    pub(crate) fn log(&self) -> wal::Settings {
        let group = LOG_GROUP_BYTES_MAX.min(self.segment_bytes.saturating_sub(SEGMENT_OVERHEAD_BYTES));
        wal::Settings {
            segment_bytes: self.segment_bytes,
            group_bytes_max: usize::try_from(group).unwrap_or(usize::MAX),
            ..wal::Settings::default()
        }
    }
}

/// Components handed in.
pub struct Environment {
    /// The node's name; the data directory keeps it and refuses another.
    pub node: String,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Fresh random bits for incarnations and secrets.
    pub entropy: fn() -> u64,
    /// Where the log lives.
    pub log: Arc<dyn Storage>,
    /// Where the state lives.
    pub store: Arc<dyn Store>,
}

impl Environment {
    /// Log and database in the folders `log` and `db` of one data directory, both locked against other processes.
    ///
    /// # Errors
    /// When the directory cannot be made or read, or another process has it open.
    pub fn in_directory(
        directory: &Path,
        settings: &Settings,
        node: &str,
        clock: Arc<dyn Clock>,
        entropy: fn() -> u64,
    ) -> Result<Environment, OpenError> {
        backup::refuse_unfinished(directory).map_err(OpenError::Refused)?;
        let log = wal::storage::Disk::open(directory.join(LOG))
            .map_err(|error| OpenError::Refused(format!("{}: {error}", directory.join(LOG).display())))?;
        verify::clear(directory);
        let settings = settings.database(log.free_bytes().unwrap_or(u64::MAX));
        let open = || rocks::Rocks::open(&directory.join(backup::DATABASE), &settings);
        let store = match open() {
            // Opening writes a little. That a full disk has room for it again is worth more than the reserve.
            Err(error) if error.is_no_space() && log.remove(RESERVE).is_ok() => open()?,
            outcome => outcome?,
        };
        // Both names must outlast a power cut before the log takes its first record: a log without its store is refused.
        std::fs::File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| OpenError::Refused(format!("{} cannot be synced: {error}", directory.display())))?;
        Ok(Environment {
            node: node.to_owned(),
            clock,
            entropy,
            log: Arc::new(log),
            store: Arc::new(store),
        })
    }
}

/// Why the engine does not open or close.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log.
    #[error(transparent)]
    Log(#[from] wal::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Something only the operator can put right; the text says what.
    #[error("{0}")]
    Refused(String),
}

/// The engine; clones share it. Reads go through [`Engine::view`], every change through [`Engine::commit`].
#[derive(Clone)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) queue: Arc<Queue>,
    stop: Arc<Stop>,
    pub(crate) progress: Arc<Progress>,
    actors: Arc<Actors>,
    pub(crate) store: Arc<dyn Store>,
    /// Where the log lives, asked for free space.
    pub(crate) storage: Arc<dyn Storage>,
    identity: Identity,
    context_key: meta::ContextKey,
    disk: Arc<Mutex<Disk>>,
    /// Whose turn it is to make or read a checkpoint of the store, or to compact it on demand.
    pub(crate) operation: Turn,
    /// Whether more of the log is kept than is needed.
    keeps_log: bool,
    /// The most that one batch may leave in the log.
    pub(crate) record_bytes_max: usize,
    threads: Mutex<Option<Threads>>,
}

impl Engine {
    /// Opens log and store, replays what the store lacks, and starts the engine's threads. Blocks.
    ///
    /// # Errors
    /// [`OpenError`]; its text says what to do. Nothing was changed that a later opening would miss.
    pub fn open(settings: Settings, environment: Environment) -> Result<Engine, OpenError> {
        settings.validate().map_err(OpenError::Refused)?;
        let node = &environment.node;
        if node.is_empty() || node.len() > NODE_BYTES_MAX {
            let refusal = format!("the node name {node:?} must have 1 to {NODE_BYTES_MAX} bytes");
            return Err(OpenError::Refused(refusal));
        }
        let Recovered {
            identity,
            context_key,
            log,
            replayed_bytes,
            applied,
            durable,
        } = recovery::recover(&settings, &environment)?;
        let Environment {
            clock,
            log: storage,
            store,
            ..
        } = environment;
        let actors = Arc::new(meta::actors(&*store)?);
        let resumed = Resumed::read(&*store)?;
        let stop = Arc::new(Stop::new());
        let queue = Arc::new(Queue::new(settings.queue_bytes_max, Arc::clone(&stop)));
        let progress = Arc::new(Progress::new(log.handle(), applied));
        let space = Space::open(Arc::clone(&storage), Arc::clone(&store), settings.marks()).map_err(wal::Error::Io)?;
        let disk = space.seen();
        let record = settings.log().group_bytes_max.saturating_sub(RECORD_FRAMING_BYTES);
        let merger = Merger::new(
            Arc::clone(&store),
            Arc::clone(&actors),
            clock,
            identity.actor(),
            resumed,
            record,
        );
        let parts = Parts {
            queue: Arc::clone(&queue),
            log,
            merger,
            space,
            progress: Arc::clone(&progress),
            stop: Arc::clone(&stop),
            group_bytes_max: GROUP_BYTES_MAX.min(settings.log().group_bytes_max / 2),
            flush_log_bytes: settings.flush_log_bytes,
            unflushed_bytes: replayed_bytes,
            durable,
            log_keep_bytes: settings.log_keep_bytes,
            log_keep: Duration::from_secs(settings.log_keep_s),
        };
        let threads = Threads::start(parts, &store)
            .map_err(|error| OpenError::Refused(format!("the engine's threads cannot be started: {error}")))?;
        let shared = Shared {
            queue,
            stop,
            progress,
            actors,
            store,
            storage,
            identity,
            context_key,
            disk,
            operation: Turn::default(),
            keeps_log: settings.log_keep_bytes > 0,
            record_bytes_max: record,
            threads: Mutex::new(Some(threads)),
        };
        Ok(Engine {
            shared: Arc::new(shared),
        })
    }

    /// The door: queues `batch` and returns at once. The batch is carried out whether or not the answer is waited for.
    pub fn commit(&self, batch: Batch, durability: Durability) -> Pending {
        self.shared.queue.push(batch, durability)
    }

    /// Applied state.
    #[must_use]
    pub fn view(&self) -> &dyn View {
        &*self.shared.store
    }

    /// The state of one concept; `None` when it was never written.
    ///
    /// # Errors
    /// When the store cannot be read or the state is damaged.
    pub fn concept(&self, namespace: NamespaceId, key: &[u8]) -> Result<Option<crdt::State>, store::Error> {
        let bytes = self
            .shared
            .store
            .get(Family::Concepts, &concepts::key(namespace, key))?;
        bytes
            .map(|bytes| Ok(concepts::decode(&bytes, &self.shared.actors)?))
            .transpose()
    }

    /// The states of several concepts, each with its place among `keys`, in their order; visits until `visit` returns false. They
    /// are read a few at a time, so that memory holds a few, and so not of one moment.
    ///
    /// # Errors
    /// When the store cannot be read or a state is damaged.
    pub fn concepts_at(
        &self,
        namespace: NamespaceId,
        keys: &[impl AsRef<[u8]>],
        visit: &mut dyn FnMut(usize, Option<crdt::State>) -> bool,
    ) -> Result<(), store::Error> {
        let mut place = 0;
        for keys in keys.chunks(KEYS_READ_AT_ONCE) {
            let keys: Vec<Vec<u8>> = keys.iter().map(|key| concepts::key(namespace, key.as_ref())).collect();
            for row in self.shared.store.get_many(Family::Concepts, &keys)? {
                let state = row.map(|row| concepts::decode(&row, &self.shared.actors)).transpose()?;
                if !visit(place, state) {
                    return Ok(());
                }
                place += 1;
            }
        }
        Ok(())
    }

    /// The state in a row of [`Family::Concepts`], as [`Follower`] hands it out.
    ///
    /// # Errors
    /// When the state is damaged.
    pub fn decode_concept(&self, row: &[u8]) -> Result<crdt::State, store::Error> {
        Ok(concepts::decode(row, &self.shared.actors)?)
    }

    /// Concepts with `prefix`, in key order, strictly after `after`; visits until `visit` returns false. Tombstones included.
    ///
    /// # Errors
    /// When the store cannot be read or a state is damaged.
    pub fn concepts(
        &self,
        namespace: NamespaceId,
        prefix: &[u8],
        after: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], crdt::State) -> bool,
    ) -> Result<(), store::Error> {
        let from = concepts::key(namespace, prefix);
        let to = end_of_prefix(&from);
        // The smallest key above `after` is `after` and a zero byte.
        let from = match after {
            Some(after) => from.max([&concepts::key(namespace, after)[..], &[0]].concat()),
            None => from,
        };
        let mut damage = None;
        self.shared.store.scan(
            Family::Concepts,
            &from,
            to.as_deref(),
            &mut |key, value| match concepts::decode(value, &self.shared.actors) {
                Ok(state) => visit(&key[concepts::PREFIX_BYTES..], state),
                Err(error) => {
                    damage = Some(error);
                    false
                }
            },
        )?;
        damage.map_or(Ok(()), |error| Err(error.into()))
    }

    /// The last LSN that is both synced and applied. Copy what `borrow` shows and let go of it at once: the engine cannot
    /// publish while it is held.
    #[must_use]
    pub fn committed(&self) -> watch::Receiver<Lsn> {
        self.shared.progress.committed()
    }

    /// Follows committed batches above `after`; the log keeps them until the follower is [`Follower::done`] with them.
    ///
    /// # Errors
    /// [`FollowError::Log`] with [`wal::Error::Retired`] when they are no longer there: begin from the present state.
    pub fn follow(&self, name: &str, after: Lsn) -> Result<Follower, FollowError> {
        Follower::new(self.shared.progress.log(), self.committed(), name, after)
    }

    /// Who keeps the log's past, and up to where each has used it: every follower, by name.
    #[must_use]
    pub fn followers(&self) -> Vec<(String, Lsn)> {
        self.shared.progress.log().consumers()
    }

    /// What the log takes of the disk, and the first record that is still in it.
    ///
    /// # Errors
    /// When a file cannot be looked at.
    pub fn log_extent(&self) -> Result<(wal::Extent, Lsn), store::Error> {
        let log = self.shared.progress.log();
        let extent = log.extent().map_err(|error| store::Error(error.to_string()))?;
        Ok((extent, log.first()))
    }

    /// Keys and bytes of a family in its files: about what it holds, for overwritten and deleted keys are counted too and what
    /// was not flushed yet is not.
    ///
    /// # Errors
    /// When the files cannot be listed.
    pub fn family_extent(&self, family: Family) -> Result<(u64, u64), store::Error> {
        let Some(files) = self.shared.store.files() else {
            return Ok((0, 0));
        };
        let tables = files.tables(family)?;
        let sum = |(entries, bytes), table: &store::Table| (entries + table.entries, bytes + table.bytes);
        Ok(tables.iter().fold((0, 0), sum))
    }

    /// Why the engine stopped by itself, once it has: the process must then exit and be started again.
    #[must_use]
    pub fn stopped(&self) -> watch::Receiver<Option<String>> {
        self.shared.stop.watch()
    }

    /// Bytes waiting for the committer.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.shared.queue.bytes()
    }

    /// How much room the disk has, and what the engine makes of it.
    #[must_use]
    pub fn disk(&self) -> Disk {
        *self.shared.disk.lock()
    }

    /// The author of this node's own writes.
    #[must_use]
    pub fn actor(&self) -> Actor {
        self.shared.identity.actor()
    }

    /// The cluster this node belongs to: random, drawn at the first start of its first node.
    #[must_use]
    pub fn cluster(&self) -> [u8; 16] {
        self.shared.identity.cluster
    }

    /// The secret that seals context tokens.
    #[must_use]
    pub fn context_key(&self) -> &[u8; 32] {
        &self.shared.context_key.0
    }

    /// Takes no more batches; those queued are still carried out. Whoever waits for room on a full disk is told at once, so
    /// that the callers can be stopped before [`Engine::close`].
    pub fn stop_taking(&self) {
        self.shared.queue.close();
    }

    /// Takes no more batches, carries out those queued, flushes, and joins the threads. Blocks. Again: does nothing.
    ///
    /// # Errors
    /// When the engine had stopped by itself, or the flush failed for another reason than a full disk: the log has
    /// everything, the next opening replays it.
    pub fn close(&self) -> Result<(), OpenError> {
        self.shared.queue.close();
        let Some(threads) = self.shared.threads.lock().take() else {
            return Ok(());
        };
        let Some(mut log) = threads.join() else {
            let reason = self.shared.stop.reason().unwrap_or_default();
            return Err(OpenError::Refused(format!("the engine had stopped: {reason}")));
        };
        match flusher::flush(&*self.shared.store) {
            // What is kept for late comers stays; the next life lets go of it.
            Ok(durable) if self.shared.keeps_log => tracing::debug!(durable = durable.0, "flushed"),
            Ok(durable) => drop(log.retire(durable)?),
            Err(error) if error.is_no_space() => {
                tracing::warn!(%error, "closed without a flush: the next start reads the log instead");
            }
            Err(error) => return Err(error.into()),
        }
        log.close()?;
        Ok(())
    }
}

impl Drop for Shared {
    /// Without [`Engine::close`] the threads still end in order, but nothing is flushed: the next opening replays.
    fn drop(&mut self) {
        self.queue.close();
        if let Some(threads) = self.threads.lock().take() {
            drop(threads.join());
        }
    }
}
