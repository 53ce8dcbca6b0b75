//! Checkpoints, tables and compactions on demand.

use std::path::Path;

use rocksdb::{
    BottommostLevelCompaction, CompactOptions, DBWithThreadMode, SingleThreaded, checkpoint::Checkpoint,
    properties::BACKGROUND_ERRORS,
};

use super::{Rocks, failed};
use crate::store::{Error, Family, Files, Table};

/// Flush before a checkpoint however little there is: without RocksDB's own log what is not flushed would be missing.
const ALWAYS_FLUSH: u64 = 0;

impl Files for Rocks {
    fn directory(&self) -> &Path {
        self.database.path()
    }

    fn checkpoint(&self, directory: &Path) -> Result<(), Error> {
        Checkpoint::new(&self.database)
            .and_then(|checkpoint| checkpoint.create_checkpoint_with_log_size(directory, ALWAYS_FLUSH))
            .map_err(failed)
    }

    fn tables(&self, family: Family) -> Result<Vec<Table>, Error> {
        tables(&self.database, family)
    }

    fn rewrite(&self, family: Family, from: Option<&[u8]>, to: Option<&[u8]>) -> Result<(), Error> {
        let failures_before = self.background_failures()?;
        let mut options = CompactOptions::default();
        // Else what lies on the lowest level already would stay as it is, deleted keys and all.
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        // Ordinary compactions go on beside it, so that level zero does not pile up.
        options.set_exclusive_manual_compaction(false);
        self.database
            .compact_range_cf_opt(self.handle(family), from, to, &options);
        // RocksDB's C interface does not say whether that has failed; it only counts.
        if self.background_failures()? == failures_before {
            return Ok(());
        }
        let family = family.name();
        Err(Error(format!(
            "family {family} could not be rewritten: a compaction failed, the reason stands in the database's own log"
        )))
    }
}

impl Rocks {
    fn background_failures(&self) -> Result<u64, Error> {
        let failures = self.database.property_int_value(BACKGROUND_ERRORS).map_err(failed)?;
        Ok(failures.unwrap_or_default())
    }
}

/// The tables of a family, by their lowest keys.
pub(super) fn tables(database: &DBWithThreadMode<SingleThreaded>, family: Family) -> Result<Vec<Table>, Error> {
    let files = database.live_files().map_err(failed)?;
    let of_family = files
        .into_iter()
        .filter(|file| file.column_family_name == family.name());
    let tables = of_family.map(|file| Table {
        file: file.name.trim_start_matches('/').to_owned(),
        bytes: file.size as u64,
        first: file.start_key.unwrap_or_default(),
        last: file.end_key.unwrap_or_default(),
        entries: file.num_entries,
    });
    let mut tables: Vec<Table> = tables.collect();
    tables.sort_by(|left, right| left.first.cmp(&right.first));
    Ok(tables)
}
