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
//! Whoever waits is asked several times in a second whether it goes on; told to stop, it leaves nothing behind.
//!
//! Nothing is changed: no torn tail is cut, nothing is flushed in a directory that is only looked at. What is not looked at:
//! filters and indexes of tables beyond those a walk uses, and whether the disk would give the same bytes without its caches.

mod database;
mod log;
mod meter;

use std::path::Path;

use wal::{Lsn, storage::Disk};

use self::meter::{Meter, Metered};
use crate::{
    CommitError, Occupied, backup,
    commit::{queue::Queue, sync_first::SyncFirst},
    keyspace::raft_state::{self, Installing},
    open::{LOG, OpenError},
    operations::Operation,
    store::{self, Family, Store, rocks::Reader},
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

/// Is told bytes done and, roughly, bytes to do, several times in a second; false stops.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was told to stop.
    #[error("nothing is reported: the verification was told to stop")]
    Stopped,
    /// Something else is being done with the files.
    #[error(transparent)]
    Occupied(#[from] Occupied),
    /// The engine takes no part in it now.
    #[error("nothing was verified: {0}")]
    Engine(#[from] CommitError),
    /// The log or the store cannot be read at all, or what is there is no data directory; the text says what to do.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl From<wal::Error> for Error {
    fn from(error: wal::Error) -> Error {
        Error::Open(error.into())
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Error {
        Error::Open(error.into())
    }
}

/// Verifies the data directory of a node that is not running. The caller holds its lock.
///
/// # Errors
/// When there is no data directory, a restore into it was interrupted, or it was told to stop. Damage is no error: it is
/// reported.
pub fn directory(path: &Path, progress: Progress<'_>) -> Result<Report, Error> {
    backup::refuse_unfinished(path).map_err(OpenError::Refused)?;
    let (log, database) = (path.join(LOG), path.join(backup::DATABASE));
    if !log.is_dir() && !database.is_dir() {
        let (path, database) = (path.display(), backup::DATABASE);
        let refusal =
            format!("{path} is no data directory: there is neither a folder {LOG} nor a folder {database} in it");
        return Err(OpenError::Refused(refusal).into());
    }
    let mut report = Report::default();
    let meter = Meter::new(progress, bytes_in(&log) + bytes_in(&database));
    if meter.part(bytes_in(&log)) {
        match Disk::for_reading(&log) {
            Ok(storage) => {
                log::walk(&mut report, &meter, &mut |visit| wal::inspect::inspect(&storage, visit))?;
            }
            Err(error) => report.damage.push(Damage {
                place: LOG.to_owned(),
                key: None,
                what: format!("the log cannot be opened: {error}"),
            }),
        }
    }
    if !meter.is_stopped() {
        database::walk_files(&mut report, &meter, &database);
    }
    whole(report, &meter)
}

/// Verifies a running engine's data.
pub(crate) fn online(
    store: &dyn Store,
    queue: &Queue,
    handle: &wal::Handle,
    progress: Progress<'_>,
) -> Result<Report, Error> {
    // While a snapshot of raft's is put in place the ledger is half of one state and half of another.
    if raft_state::read::<Installing>(store)?.is_some() {
        let by = Operation::Installation;
        return Err(Occupied { by }.into());
    }
    let mut report = Report::default();
    let log_bytes = handle.extent().map_err(wal::Error::Io)?.bytes;
    let files = store.files();
    let meter = Meter::new(
        progress,
        log_bytes + files.map_or(0, |files| bytes_in(files.directory())),
    );
    if meter.part(log_bytes) {
        let _claim = handle.register("verify", Lsn::ZERO);
        log::walk(&mut report, &meter, &mut |visit| handle.inspect(visit))?;
    }
    if meter.is_stopped() {
        return Err(Error::Stopped);
    }
    let Some(files) = files else {
        database::walk_view(&mut report, &meter, store);
        return whole(report, &meter);
    };
    let folder = Folder::beside(files.directory());
    {
        let _held = SyncFirst::begin(queue)?;
        files.checkpoint(&folder.0)?;
    }
    // The log was read before: it may end before what the database holds now.
    report.log.last = report.log.last.max(handle.synced());
    database::walk_files(&mut report, &meter, &folder.0);
    whole(report, &meter)
}

/// Half of a report would pass for a sound whole.
fn whole(report: Report, meter: &Meter<'_>) -> Result<Report, Error> {
    if meter.end() { Ok(report) } else { Err(Error::Stopped) }
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
