//! Is everything on disk what was written?
//!
//! ```text
//!  log       every segment, every group, every record decoded; damage is noted and the walk goes on     wal::inspect
//!  database  every family, every block's sum, every row decoded by its codec; past what is damaged      store::rocks::Reader
//!  between   each concept has its row in the index and a row for each of its dots; the audit chain holds;
//!            the log reaches as far as the database
//!
//!  directory    a node that is not running: read as it lies there
//!  Engine       a running one: the log up to what is synced, the database by a checkpoint of hard links
//! ```
//!
//! Nothing is changed: no torn tail is cut, nothing is flushed in a directory that is only looked at. What is not looked at:
//! filters and indexes of tables beyond those a walk uses, and whether the disk would give the same bytes without its caches.

mod database;
mod log;

use std::path::Path;

use wal::{Lsn, storage::Disk};

use crate::{
    backup,
    commit::{queue::Queue, sync_first::SyncFirst},
    open::{LOG, OpenError},
    store::{Family, Store, rocks::Reader},
};

pub use log::{Change, changes};

/// The folder beside the database where a running node keeps what it verifies.
const FOLDER: &str = "verifying";

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The log in numbers.
    pub log: LogReport,
    /// Each family in numbers, in the order of [`Family::ALL`]; empty when the database cannot be opened at all.
    pub families: Vec<FamilyReport>,
    /// Everything that is wrong.
    pub damage: Vec<Damage>,
}

/// The log in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogReport {
    /// Segment files.
    pub segments: u64,
    /// Records that can be read.
    pub records: u64,
    /// Bytes of headers and groups that can be read.
    pub bytes: u64,
    /// The last record that can be read.
    pub last: Lsn,
    /// Bytes at the end that were never acknowledged; the next start drops them.
    pub torn_bytes: u64,
}

/// A family in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FamilyReport {
    /// Which.
    pub family: Family,
    /// Rows that can be read.
    pub keys: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// File, and byte where that is known; or the family.
    pub place: String,
    /// Which keys or records are affected, in words.
    pub key: Option<String>,
    /// What is wrong.
    pub what: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.key {
            Some(key) => write!(formatter, "{}: {key}: {}", self.place, self.what),
            None => write!(formatter, "{}: {}", self.place, self.what),
        }
    }
}

/// Is told bytes done and, roughly, bytes to do.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Verifies the data directory of a node that is not running. The caller holds its lock.
///
/// # Errors
/// When there is no data directory, or a restore into it was interrupted. Damage is no error: it is reported.
pub fn directory(path: &Path, progress: Progress<'_>) -> Result<Report, OpenError> {
    backup::refuse_unfinished(path).map_err(OpenError::Refused)?;
    let (log, database) = (path.join(LOG), path.join(backup::DATABASE));
    if !log.is_dir() && !database.is_dir() {
        let (path, database) = (path.display(), backup::DATABASE);
        return Err(OpenError::Refused(format!(
            "{path} is no data directory: there is neither a folder {LOG} nor a folder {database} in it"
        )));
    }
    let mut report = Report::default();
    let total_bytes = bytes_in(&log) + bytes_in(&database);
    match Disk::for_reading(&log) {
        Ok(storage) => {
            log::walk(&mut report, &mut |visit| wal::inspect::inspect(&storage, visit))?;
        }
        Err(error) => report.damage.push(Damage {
            place: LOG.to_owned(),
            key: None,
            what: format!("the log cannot be opened: {error}"),
        }),
    }
    let done_bytes = bytes_in(&log);
    progress(done_bytes, total_bytes);
    database::walk_files(&mut report, &database, &mut |bytes| {
        progress((done_bytes + bytes).min(total_bytes), total_bytes);
    });
    progress(total_bytes, total_bytes);
    Ok(report)
}

/// Verifies a running engine's data.
pub(crate) fn online(
    store: &dyn Store,
    queue: &Queue,
    handle: &wal::Handle,
    progress: Progress<'_>,
) -> Result<Report, OpenError> {
    let mut report = Report::default();
    {
        let _claim = handle.register("verify", Lsn::ZERO);
        log::walk(&mut report, &mut |visit| handle.inspect(visit))?;
    }
    let done_bytes = report.log.bytes;
    let Some(files) = store.files() else {
        database::walk_view(&mut report, store);
        return Ok(report);
    };
    let folder = Folder::beside(files.directory());
    {
        let held =
            SyncFirst::begin(queue).map_err(|error| OpenError::Refused(format!("nothing was verified: {error}")))?;
        files.checkpoint(&folder.0)?;
        drop(held);
    }
    let total_bytes = done_bytes + bytes_in(&folder.0);
    progress(done_bytes, total_bytes);
    // The log was read before: it may end before what the database holds now.
    report.log.last = report.log.last.max(handle.synced());
    database::walk_files(&mut report, &folder.0, &mut |bytes| {
        progress((done_bytes + bytes).min(total_bytes), total_bytes);
    });
    progress(total_bytes, total_bytes);
    Ok(report)
}

/// Removes what a process that was killed while it verified left beside its database: it would hold on to room.
pub(crate) fn clear(directory: &Path) {
    drop(Folder(directory.join(FOLDER)));
}

/// A folder that is gone when this is dropped.
struct Folder(std::path::PathBuf);

impl Folder {
    fn beside(database: &Path) -> Folder {
        let folder = database.with_file_name(FOLDER);
        drop(Folder(folder.clone()));
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.0.exists()
            && let Err(error) = std::fs::remove_dir_all(&self.0)
        {
            tracing::warn!(%error, folder = %self.0.display(), "what was verified cannot be removed");
        }
    }
}

/// Bytes of the files right in a folder; none when it cannot be read, as whoever opens it will be told.
fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let lengths = entries
        .filter_map(|entry| entry.metadata().ok())
        .filter(std::fs::Metadata::is_file);
    lengths.map(|file| file.len()).sum()
}

/// Opens a database to be walked.
fn open(folder: &Path) -> Result<Reader, String> {
    Reader::open(folder).map_err(|error| error.to_string())
}
