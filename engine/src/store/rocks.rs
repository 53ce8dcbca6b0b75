//! `RocksDB` behind the seam: the only module that names it.
//!
//! ```text
//!  write        WAL off; memory tables only                    (the engine's log holds the same changes, synced)
//!  flush        all families together: atomic_flush            (one moment on disk, with its applied_lsn)
//!  get_durable  ReadTier::Persisted: skips memory tables       (what may be dropped from the log)
//! ```
//!
//! Write buffers are sized so that `RocksDB` never flushes by itself: the engine's flusher does, after it synced the log,
//! so that the database on disk is never ahead of the log. For the same reason it must not flush when it is closed.
//!
//! # A full disk
//!
//! What `RocksDB` 11.8 does when it meets `ENOSPC` (`db/error_handler.cc`, `file/sst_file_manager_impl.cc`):
//!
//! | in a | severity | then |
//! |---|---|---|
//! | flush, or a write of the manifest | hard | reads go on, every write and flush fails with the same error |
//! | compaction | soft | its outputs are removed; writes and flushes go on; compactions wait for room |
//!
//! From both it recovers by itself: every database has an `SstFileManager`, its own when none is given, that looks at the
//! free space every five seconds, flushes again and takes writes again. After a hard error it waits until as much as a
//! write buffer is free ([`Store::resume_bytes`]), which is why a small disk wants a small `flush_log_bytes`.
//!
//! None of this is the ordinary course: the engine asks what flushes and compactions need and keeps so much free. With automatic compactions
//! off, `RocksDB` does not stall writes for the number of files in level zero.

use std::{os::unix::fs::MetadataExt as _, path::Path};

use parking_lot::Mutex;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DBCompressionType,
    DBPinnableSlice, DBRawIteratorWithThreadMode, DBWithThreadMode, FlushOptions, LogLevel, Options, ReadOptions,
    ReadTier, SingleThreaded, SnapshotWithThreadMode, WriteBatch, WriteOptions, properties,
};

use super::{Change, Compactions, Error, Family, Files, Store, View};

mod files;
mod reader;

pub use reader::{Hidden, Reader};

/// Numbers of the database.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Memory for blocks read from disk, indexes and filters included; shared by all families.
    pub block_cache_bytes: usize,
    /// The log between two flushes by the engine; write buffers are sized from it.
    pub flush_log_bytes: u64,
    /// Bytes that compactions and flushes together may write in a second, flushes first; 0 sets no bound.
    pub compaction_bytes_per_s: u64,
    /// Free space at opening: where it holds no compaction, none is begun before [`Store::compact`] says so.
    pub free_bytes: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            block_cache_bytes: 64 << 20,
            flush_log_bytes: 64 << 20,
            compaction_bytes_per_s: 0,
            free_bytes: u64::MAX,
        }
    }
}

/// How many times the log between two flushes fits one write buffer: an entry of a memory table takes more room than in the
/// log (some 40 bytes of node and sequence number each), and commits go on while a flush runs.
const WRITE_BUFFER_PER_FLUSH: u64 = 8;

/// What a flush writes besides the changes themselves: the manifest, an index and a filter for each family, and the group
/// that is being committed meanwhile.
const FLUSH_OVERHEAD_BYTES: u64 = 4 << 20;

/// The largest compaction that room is kept for. One file of 64 MiB is merged with some ten of the next level, level zero
/// with the 256 MiB of level one; a larger one that finds no room is given up by `RocksDB`, and nothing is lost.
const COMPACTION_BYTES_MAX: u64 = 1 << 30;

/// Level zero is compacted when it has so many files (`RocksDB`'s default).
const LEVEL_ZERO_FILES: &str = "4";

/// An arena grows by so many bytes; small, because twelve idle families hold one each.
const ARENA_BLOCK_BYTES: usize = 256 << 10;

/// Share of a write buffer given to its Bloom filter, which spares the committer the search for keys that are not there.
/// Allocated with the first write.
const MEMTABLE_BLOOM_RATIO: f64 = 0.004;

/// The room that [`explain_open`] asks for; opening writes a manifest and the options.
const OPEN_BYTES: u64 = 16 << 20;

/// The database.
pub struct Rocks {
    database: DBWithThreadMode<SingleThreaded>,
    unlogged: WriteOptions,
    write_buffer_bytes: u64,
    compactions: Mutex<Compactions>,
}

impl Rocks {
    /// Opens the database in `directory`, making it when absent.
    ///
    /// # Errors
    /// When another process has it open, when it was written by a newer build with more families, or when it cannot be read.
    pub fn open(directory: &Path, settings: &Settings) -> Result<Rocks, Error> {
        let cache = Cache::new_lru_cache(settings.block_cache_bytes);
        let compactions = if settings.free_bytes < compaction_bytes(table_bytes(directory)) {
            Compactions::Off
        } else {
            Compactions::On
        };
        let mut families = Vec::with_capacity(Family::ALL.len());
        for family in Family::ALL {
            let options = family_options(family, settings, compactions, &cache).map_err(failed)?;
            families.push(ColumnFamilyDescriptor::new(family.name(), options));
        }
        let options = database_options(settings).map_err(failed)?;
        let database = DBWithThreadMode::<SingleThreaded>::open_cf_descriptors(&options, directory, families)
            .map_err(|error| explain_open(directory, &error.into_string()))?;
        let mut unlogged = WriteOptions::default();
        unlogged.disable_wal(true);
        Ok(Rocks {
            database,
            unlogged,
            write_buffer_bytes: write_buffer_bytes(settings),
            compactions: Mutex::new(compactions),
        })
    }

    /// Bytes of the files that make up the present state.
    fn live_bytes(&self) -> u64 {
        let of = |family| {
            let handle = self.handle(family);
            let bytes = self
                .database
                .property_int_value_cf(handle, properties::LIVE_SST_FILES_SIZE);
            bytes.ok().flatten().unwrap_or(0)
        };
        Family::ALL.into_iter().map(of).sum()
    }

    fn handle(&self, family: Family) -> &ColumnFamily {
        self.database
            .cf_handle(family.name())
            .expect("every family is opened with the database")
    }

    fn get_from(&self, tier: ReadTier, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let mut options = ReadOptions::default();
        options.set_read_tier(tier);
        let value = self
            .database
            .get_pinned_cf_opt(self.handle(family), key, &options)
            .map_err(failed)?;
        Ok(value.map(|value| value.to_vec()))
    }
}

/// How often the limiter lets bytes through, and how rarely a compaction goes before a flush that waits.
const LIMITER_REFILL_US: i64 = 100_000;
const LIMITER_FAIRNESS: i32 = 100;

fn database_options(settings: &Settings) -> Result<Options, rocksdb::Error> {
    let mut options = Options::default();
    if let Ok(rate @ 1..) = i64::try_from(settings.compaction_bytes_per_s) {
        // RocksDB asks it for flushes at high priority and for compactions at low.
        options.set_ratelimiter(rate, LIMITER_REFILL_US, LIMITER_FAIRNESS);
    }
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_atomic_flush(true);
    // The committer is the only writer, so the cheaper memory table insertion does.
    options.set_allow_concurrent_memtable_write(false);
    options.set_enable_write_thread_adaptive_yield(false);
    options.set_max_background_jobs(2);
    options.set_bytes_per_sync(1 << 20);
    options.set_keep_log_file_num(2);
    options.set_log_level(LogLevel::Warn);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_skip_stats_update_on_db_open(true);
    options.set_max_file_opening_threads(2);
    // Closed without a flush of ours, it must not write what the log may not have synced. There is no setter for this one.
    options.get_options_from_string("avoid_flush_during_shutdown=true")
}

fn write_buffer_bytes(settings: &Settings) -> u64 {
    (settings.flush_log_bytes * WRITE_BUFFER_PER_FLUSH).max(64 << 20)
}

/// What a compaction of so many bytes of files needs free.
fn compaction_bytes(live_bytes: u64) -> u64 {
    // Outputs are allocated a tenth larger than they are thought to become.
    let inputs = live_bytes.min(COMPACTION_BYTES_MAX);
    inputs + inputs / 8
}

/// Bytes allocated for tables in a database's directory; none when it cannot be read, as whoever uses it will be told.
fn table_bytes(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let tables = entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "sst"));
    let allocated = tables
        .filter_map(|entry| entry.metadata().ok())
        .map(|table| table.blocks() * 512);
    allocated.sum()
}

/// One part of a filter or an index.
const METADATA_BLOCK_BYTES: usize = 8 << 10;

fn family_options(
    family: Family,
    settings: &Settings,
    compactions: Compactions,
    cache: &Cache,
) -> Result<Options, rocksdb::Error> {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(16 << 10);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_format_version(5);
    table.set_bloom_filter(10.0, false);
    // The filter of a large file is one block of megabytes, more than a shard of a small cache holds: every look for a new
    // key would read and check it whole. In parts, only those looked at are kept.
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_metadata_block_size(METADATA_BLOCK_BYTES);
    table.set_pin_top_level_index_and_filter(true);

    // Of several keys each is searched from where the one before was found. There is no setter for this one.
    let mut options = Options::default().get_options_from_string("memtable_batch_lookup_optimization=true")?;
    options.set_block_based_table_factory(&table);
    options.set_disable_auto_compactions(compactions == Compactions::Off);
    options.set_write_buffer_size(usize::try_from(write_buffer_bytes(settings)).unwrap_or(usize::MAX));
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    options.set_max_write_buffer_number(6);
    options.set_arena_block_size(ARENA_BLOCK_BYTES);
    if family == Family::Concepts {
        options.set_memtable_whole_key_filtering(true);
        options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_RATIO);
    }
    // A stall would block the committer. The engine refuses client batches long before this many files wait.
    options.set_level_zero_slowdown_writes_trigger(64);
    options.set_level_zero_stop_writes_trigger(128);
    Ok(options)
}

fn failed(error: rocksdb::Error) -> Error {
    Error(error.into_string())
}

fn explain_open(directory: &Path, error: &str) -> Error {
    let directory = directory.display();
    if error.contains("lock") {
        Error(format!(
            "{directory} is in use by another process: stop it, or choose another data directory ({error})"
        ))
    } else if error.contains("Column families not opened") {
        Error(format!(
            "{directory} was written by a newer build: start that one ({error})"
        ))
    } else if Error(error.to_owned()).is_no_space() {
        let mebibytes = OPEN_BYTES >> 20;
        Error(format!(
            "{directory} cannot be opened on a full disk: free {mebibytes} MiB on its file system and start again, nothing is lost ({error})"
        ))
    } else {
        Error(format!("{directory} cannot be opened: {error}"))
    }
}

impl View for Rocks {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let value = self.database.get_pinned_cf(self.handle(family), key).map_err(failed)?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn get_many(&self, family: Family, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let in_order = false;
        let values = self.database.batched_multi_get_cf(self.handle(family), keys, in_order);
        let copy = |value: Option<DBPinnableSlice<'_>>| value.map(|value| value.to_vec());
        values
            .into_iter()
            .map(|value| value.map(copy).map_err(failed))
            .collect()
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        scan(&self.database, self.handle(family), from, to, visit)
    }
}

fn scan(
    database: &DBWithThreadMode<SingleThreaded>,
    family: &ColumnFamily,
    from: &[u8],
    to: Option<&[u8]>,
    visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
) -> Result<(), Error> {
    let mut options = ReadOptions::default();
    if let Some(to) = to {
        options.set_iterate_upper_bound(to);
    }
    walk(database.raw_iterator_cf_opt(family, options), from, visit)
}

fn walk(
    mut iterator: DBRawIteratorWithThreadMode<'_, DBWithThreadMode<SingleThreaded>>,
    from: &[u8],
    visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
) -> Result<(), Error> {
    iterator.seek(from);
    while let Some((key, value)) = iterator.item() {
        if !visit(key, value) {
            return Ok(());
        }
        iterator.next();
    }
    iterator.status().map_err(failed)
}

/// The database as it was when the snapshot was taken.
struct Moment<'a> {
    rocks: &'a Rocks,
    snapshot: SnapshotWithThreadMode<'a, DBWithThreadMode<SingleThreaded>>,
}

impl View for Moment<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let value = self
            .snapshot
            .get_pinned_cf(self.rocks.handle(family), key)
            .map_err(failed)?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        let mut options = ReadOptions::default();
        if let Some(to) = to {
            options.set_iterate_upper_bound(to);
        }
        walk(
            self.snapshot.raw_iterator_cf_opt(self.rocks.handle(family), options),
            from,
            visit,
        )
    }
}

impl Store for Rocks {
    fn write(&self, changes: &[Change<'_>]) -> Result<(), Error> {
        let mut handles = [None; Family::ALL.len()];
        let bytes: usize = changes
            .iter()
            .map(|change| change.key.len() + change.value.map_or(0, <[u8]>::len) + 16)
            .sum();
        let mut batch = WriteBatch::with_capacity_bytes(bytes);
        for change in changes {
            let handle = *handles[change.family.index()].get_or_insert_with(|| self.handle(change.family));
            match change.value {
                Some(value) => batch.put_cf(handle, change.key, value),
                None => batch.delete_cf(handle, change.key),
            }
        }
        self.database.write_opt(batch, &self.unlogged).map_err(failed)
    }

    fn flush(&self) -> Result<(), Error> {
        let handles = Family::ALL.map(|family| self.handle(family));
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.database
            .flush_cfs_opt(&handles.each_ref().map(|handle| *handle), &options)
            .map_err(failed)
    }

    fn at_one_moment(&self, read: &mut dyn FnMut(&dyn View)) {
        let moment = Moment {
            rocks: self,
            snapshot: self.database.snapshot(),
        };
        read(&moment);
    }

    fn get_durable(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.get_from(ReadTier::Persisted, family, key)
    }

    fn flush_bytes(&self, unflushed_bytes: u64) -> u64 {
        // The log holds the same changes, framed a little tighter than in a table with its index and filter.
        unflushed_bytes + unflushed_bytes / 4 + FLUSH_OVERHEAD_BYTES
    }

    fn compaction_bytes(&self) -> u64 {
        let live_bytes = self.live_bytes();
        let running = self.database.property_int_value(properties::NUM_RUNNING_COMPACTIONS);
        // What a running one has written is no longer free, and as much comes back when it ends.
        let written_bytes = if running.is_ok_and(|running| running.is_some_and(|running| running > 0)) {
            table_bytes(self.database.path()).saturating_sub(live_bytes)
        } else {
            0
        };
        compaction_bytes(live_bytes).saturating_sub(written_bytes)
    }

    fn resume_bytes(&self) -> u64 {
        self.write_buffer_bytes
    }

    fn compact(&self, when: Compactions) -> Result<(), Error> {
        let mut now = self.compactions.lock();
        if *now == when {
            return Ok(());
        }
        let (disabled, files) = match when {
            Compactions::Off => ("true", LEVEL_ZERO_FILES),
            Compactions::On => ("false", LEVEL_ZERO_FILES),
            Compactions::Eager => ("false", "1"),
        };
        let options = [
            ("disable_auto_compactions", disabled),
            ("level0_file_num_compaction_trigger", files),
        ];
        for family in Family::ALL {
            match self
                .database
                .set_options_cf(self.handle(family), &options)
                .map_err(failed)
            {
                // They hold; only the file that tells of them could not be written, and it is never read.
                Err(error) if error.is_no_space() => {}
                outcome => outcome?,
            }
        }
        *now = when;
        Ok(())
    }

    fn files(&self) -> Option<&dyn Files> {
        Some(self)
    }
}
