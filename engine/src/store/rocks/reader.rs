//! A database that is only read: a backup, a checkpoint, or the data of a node that is not running.
//!
//! Nothing is written, not even a log file, and no lock is taken. A table that is missing or damaged does not keep the others
//! from being read.

use std::path::{Path, PathBuf};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DBRawIteratorWithThreadMode, DBWithThreadMode,
    LogLevel, Options, ReadOptions, SingleThreaded,
};

use super::{explain_open, failed};
use crate::store::{Error, Family, Table, View};

/// Tables open at once.
const OPEN_TABLES_MAX: i32 = 256;

/// Memory for blocks: each is read once, or a few times in a row.
const CACHE_BYTES: usize = 16 << 20;

/// Read ahead of a walk.
const READAHEAD_BYTES: usize = 1 << 20;

/// The database, read.
pub struct Reader {
    directory: PathBuf,
    database: DBWithThreadMode<SingleThreaded>,
}

/// Keys of a family that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// The last key before them; `None`: they begin with the family.
    pub after: Option<Vec<u8>>,
    /// The first key behind them; `None`: they end with the family.
    pub before: Option<Vec<u8>>,
    /// What the database said: as a rule file and offset.
    pub errors: Vec<String>,
}

type Iterator<'a> = DBRawIteratorWithThreadMode<'a, DBWithThreadMode<SingleThreaded>>;

impl Reader {
    /// Opens the database in `directory`.
    ///
    /// # Errors
    /// When there is none, or its manifest is damaged.
    pub fn open(directory: &Path) -> Result<Reader, Error> {
        let mut options = Options::default();
        options.set_paranoid_checks(false);
        options.set_max_open_files(OPEN_TABLES_MAX);
        options.set_log_level(LogLevel::Warn);
        options.set_skip_stats_update_on_db_open(true);
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
        let mut family_options = Options::default();
        family_options.set_block_based_table_factory(&table);
        let families = Family::ALL.map(|family| ColumnFamilyDescriptor::new(family.name(), family_options.clone()));
        let database = DBWithThreadMode::open_cf_descriptors_read_only(&options, directory, families, false)
            .map_err(|error| explain_open(directory, &error.into_string()))?;
        Ok(Reader {
            directory: directory.to_owned(),
            database,
        })
    }

    /// Where it lies.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The tables of a family, by their lowest keys.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn tables(&self, family: Family) -> Result<Vec<Table>, Error> {
        super::files::tables(&self.database, family)
    }

    /// Visits every key of a family that can be read, in order, whatever is damaged, until `visit` returns false; what cannot be
    /// read is handed to `hidden`.
    ///
    /// # Errors
    /// When its tables cannot be listed.
    pub fn walk(
        &self,
        family: Family,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
        hidden: &mut dyn FnMut(Hidden),
    ) -> Result<(), Error> {
        let tables = self.tables(family)?;
        let mut bounds: Vec<&[u8]> = tables
            .iter()
            .flat_map(|table| [&table.first[..], &table.last])
            .collect();
        bounds.sort_unstable();
        bounds.dedup();
        let mut after: Option<Vec<u8>> = None;
        let mut from = Vec::new();
        loop {
            let Some(error) = self.walk_on(family, &from, &mut after, visit) else {
                return Ok(());
            };
            // Behind the damage the next table begins or ends somewhere: from there it is read backwards.
            let is_behind = |bound: &&&[u8]| after.as_deref().is_none_or(|after| **bound > after) && ***bound > *from;
            let mut errors = vec![error];
            let mut before = None;
            for bound in bounds.iter().filter(is_behind) {
                let (key, error) = self.first_behind(family, bound, after.as_deref());
                errors.extend(error);
                // Always further on, whatever a damaged table answers.
                before = key.filter(|key| *key > from);
                if before.is_some() {
                    break;
                }
            }
            errors.dedup();
            hidden(Hidden {
                after: after.clone(),
                before: before.clone(),
                errors,
            });
            match before {
                Some(key) => from = key,
                None => return Ok(()),
            }
        }
    }

    /// Walks from `from` to the end, or to an error, or until no more is wanted; `after` becomes the last key visited.
    fn walk_on(
        &self,
        family: Family,
        from: &[u8],
        after: &mut Option<Vec<u8>>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Option<String> {
        let mut iterator = self.iterator(family);
        iterator.seek(from);
        while let Some((key, value)) = iterator.item() {
            if !visit(key, value) {
                return None;
            }
            let last = after.get_or_insert_default();
            last.clear();
            last.extend_from_slice(key);
            iterator.next();
        }
        iterator.status().err().map(rocksdb::Error::into_string)
    }

    /// The lowest key that can be read going down from `bound` while staying above `after`, and what stopped there.
    fn first_behind(&self, family: Family, bound: &[u8], after: Option<&[u8]>) -> (Option<Vec<u8>>, Option<String>) {
        let mut iterator = self.iterator(family);
        iterator.seek(bound);
        let mut lowest = None;
        while let Some(key) = iterator.key() {
            if after.is_some_and(|after| key <= after) {
                break;
            }
            lowest = Some(key.to_vec());
            iterator.prev();
        }
        (lowest, iterator.status().err().map(rocksdb::Error::into_string))
    }

    fn iterator(&self, family: Family) -> Iterator<'_> {
        let mut options = ReadOptions::default();
        options.set_verify_checksums(true);
        options.set_readahead_size(READAHEAD_BYTES);
        options.fill_cache(false);
        self.database.raw_iterator_cf_opt(self.handle(family), options)
    }

    fn handle(&self, family: Family) -> &ColumnFamily {
        self.database
            .cf_handle(family.name())
            .expect("every family is opened with the database")
    }
}

impl View for Reader {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let value = self.database.get_pinned_cf(self.handle(family), key).map_err(failed)?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        super::scan(&self.database, self.handle(family), from, to, visit)
    }
}
