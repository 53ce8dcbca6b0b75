//! Snapshots: the node's state at one moment, kept beside it under a name; and the cuts that backups are streamed from.
//!
//! ```text
//!  DATA/snapshots/NAME          kept until it is deleted                     create, list, delete, lease
//!  DATA/snapshots/.cut-UUID     made for one backup                          cut, resume, release; else swept an hour after its last use
//!  DATA/snapshots/.gone-…       being removed; nothing else may begin so
//! ```
//!
//! Each is a backup directory as `engine::backup` describes it, most of it hard links to the database's own files: it costs
//! little until those would have been dropped. Of a cut nothing is summed when it is made: whoever streams it does that with what
//! is read, and leaves the sums here for whoever goes on with it. Cuts do not outlive the process: whoever streams one begins
//! anew. One snapshot is made at a time, and whoever comes meanwhile is refused; all else goes on beside it. The module
//! refuses to know who asks and what is in the files.

mod lease;

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use engine::{
    Engine, Occupied, Operation,
    backup::{self, Manifest, PARTIAL},
    clock::{Clock, Timestamp},
};
use parking_lot::{Mutex, MutexGuard};

pub use self::lease::Lease;
use self::lease::{Content, Place};
use crate::runtime::entropy;

/// Snapshots kept at once.
pub const SNAPSHOTS_MAX: usize = 64;
/// Cuts kept at once: each is a backup under way or one that broke off.
const CUTS_MAX: usize = 4;
/// Backups streamed at once.
pub const BACKUPS_MAX: usize = 2;
/// A cut that nobody reads is kept for so long, in microseconds, so that a backup that broke can be resumed.
const CUT_KEPT_US: u64 = 60 * 60 * 1_000_000;
/// So long is waited for another one that is being made: a small one may have come to its end by then.
const MAKING_WAIT: Duration = Duration::from_millis(500);
/// The longest name of a snapshot.
const NAME_BYTES_MAX: usize = 63;

const CUT_PREFIX: &str = ".cut-";
const GONE_PREFIX: &str = ".gone-";

/// Why nothing was made or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that is none.
    #[error(
        "a snapshot is named by 1 to {NAME_BYTES_MAX} of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit, and not ending with {PARTIAL}"
    )]
    Name,
    /// The name is taken.
    #[error("there is a snapshot {name:?} already: choose another name, or delete it")]
    Exists {
        /// The name.
        name: String,
    },
    /// No such snapshot.
    #[error("there is no snapshot {name:?}: list those there are")]
    Unknown {
        /// The name.
        name: String,
    },
    /// No such cut.
    #[error(
        "the backup cannot go on: the node no longer keeps the state it was made of (a restart, or an hour since); begin anew"
    )]
    CutGone,
    /// It is being streamed.
    #[error("the snapshot {name:?} is being streamed by a backup: delete it when that is done")]
    InUse {
        /// The name.
        name: String,
    },
    /// As many as may.
    #[error("there are {max} snapshots already, as many as may: delete some")]
    Full {
        /// How many.
        max: usize,
    },
    /// As many as may.
    #[error("{max} backups run at this node already, as many as may")]
    Busy {
        /// How many.
        max: usize,
    },
    /// The engine or the files.
    #[error(transparent)]
    Backup(#[from] backup::Error),
    /// The directory of snapshots.
    #[error("the snapshots in {} cannot be read or changed: {source}", .path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// One snapshot.
#[derive(Debug)]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// What it is made of, or why it cannot be used.
    pub manifest: Result<Manifest, backup::Error>,
}

/// A node's snapshots; clones share them.
#[derive(Clone)]
pub struct Snapshots(Arc<Shared>);

struct Shared {
    directory: PathBuf,
    engine: Engine,
    clock: Arc<dyn Clock>,
    /// Held while one is made, which may take long.
    making: Mutex<()>,
    /// Held for a moment: what is there does not change meanwhile, but for the one that is being made.
    turn: Mutex<()>,
    /// What is being streamed, and the cuts there are, by the name of the directory.
    used: Mutex<HashMap<String, Use>>,
}

struct Use {
    leases: usize,
    /// What a cut is made of; it is nowhere else.
    cut: Option<Arc<Content>>,
    /// When the last lease ended.
    since: Timestamp,
}

impl Snapshots {
    /// Over the folder `snapshots` of a data directory: removes what an earlier process left half made or half removed.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn open(data_directory: &Path, engine: Engine, clock: Arc<dyn Clock>) -> Result<Snapshots, Error> {
        let directory = data_directory.join("snapshots");
        let snapshots = Snapshots(Arc::new(Shared {
            directory,
            engine,
            clock,
            making: Mutex::default(),
            turn: Mutex::default(),
            used: Mutex::default(),
        }));
        for name in snapshots.entries()? {
            // Only what this module itself may have left: whatever else lies here is somebody's.
            if !is_left_over(&name) {
                continue;
            }
            if let Err(error) = snapshots.remove(&name) {
                tracing::warn!(%error, name, "what an earlier process left cannot be removed");
            }
        }
        Ok(snapshots)
    }

    /// Makes one of the present state; it holds every write acknowledged before. Blocks. An empty name: named after the time.
    ///
    /// # Errors
    /// [`Error`]; nothing was made.
    pub fn create(&self, name: &str) -> Result<Snapshot, Error> {
        let now = self.0.clock.now();
        let name = if name.is_empty() { name_of(now) } else { name.to_owned() };
        check_name(&name)?;
        let _making = self.begin()?;
        let taken = self.names()?;
        if taken.contains(&name) {
            return Err(Error::Exists { name });
        }
        if taken.len() >= SNAPSHOTS_MAX {
            return Err(Error::Full { max: SNAPSHOTS_MAX });
        }
        let path = self.prepared(&name)?;
        let manifest = self.0.engine.checkpoint(&path, now)?;
        Ok(Snapshot {
            manifest: Ok(manifest),
            path,
            name,
        })
    }

    /// All of them, in the order of their names.
    ///
    /// # Errors
    /// When the folder cannot be read. One that is damaged is listed as such.
    pub fn list(&self) -> Result<Vec<Snapshot>, Error> {
        let names = self.names()?;
        let snapshot = |name: String| {
            let path = self.0.directory.join(&name);
            Snapshot {
                manifest: Manifest::read(&path),
                path,
                name,
            }
        };
        Ok(names.into_iter().map(snapshot).collect())
    }

    /// How many there are.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn count(&self) -> Result<usize, Error> {
        Ok(self.names()?.len())
    }

    /// Removes one, or the cut that a [`Lease::id`] names. Blocks.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::InUse`] or [`Error::Io`].
    pub fn delete(&self, name: &str) -> Result<(), Error> {
        let is_cut = name.starts_with(CUT_PREFIX);
        if !is_cut {
            check_name(name)?;
        }
        let _turn = self.0.turn.lock();
        let there = if is_cut { self.cuts()? } else { self.names()? };
        if !there.iter().any(|taken| taken == name) {
            let name = name.to_owned();
            return Err(Error::Unknown { name });
        }
        if self.0.used.lock().get(name).is_some_and(|used| used.leases > 0) {
            let name = name.to_owned();
            return Err(Error::InUse { name });
        }
        self.remove(name)
    }

    /// A snapshot, kept as long as the lease.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Busy`], or why it cannot be used.
    pub fn lease(&self, name: &str) -> Result<Lease, Error> {
        check_name(name)?;
        let _turn = self.0.turn.lock();
        if !self.names()?.iter().any(|taken| taken == name) {
            let name = name.to_owned();
            return Err(Error::Unknown { name });
        }
        self.leased(name)
    }

    /// A fresh cut of the present state. Blocks.
    ///
    /// # Errors
    /// [`Error::Busy`], or why it cannot be made.
    pub fn cut(&self) -> Result<Lease, Error> {
        let now = self.0.clock.now();
        let name = format!("{CUT_PREFIX}{}", entropy::uuid());
        // Before anything is made, and nobody sweeps away what is leased.
        let place = self.reserve(&name)?;
        {
            let _turn = self.0.turn.lock();
            self.sweep_now(now)?;
            self.make_place()?;
        }
        let path = self.prepared(&name)?;
        let content = Arc::new(Content::unsummed(self.0.engine.cut(&path, now)?));
        if let Some(used) = self.0.used.lock().get_mut(&name) {
            used.cut = Some(Arc::clone(&content));
        }
        Ok(Lease::new(path, content, place))
    }

    /// Waits a moment for the right to make one.
    fn begin(&self) -> Result<MutexGuard<'_, ()>, Error> {
        let by = Operation::Checkpoint;
        let making = self.0.making.try_lock_for(MAKING_WAIT);
        making.ok_or(Error::Backup(backup::Error::Occupied(Occupied { by })))
    }

    /// What an earlier lease named, to go on with it.
    ///
    /// # Errors
    /// [`Error::CutGone`], [`Error::Unknown`], [`Error::Busy`].
    pub fn resume(&self, id: &str) -> Result<Lease, Error> {
        if !id.starts_with(CUT_PREFIX) {
            return self.lease(id);
        }
        let _turn = self.0.turn.lock();
        let place = self.reserve(id)?;
        let content = self.0.used.lock().get(id).and_then(|used| used.cut.clone());
        let path = self.0.directory.join(id);
        Ok(Lease::new(path, content.ok_or(Error::CutGone)?, place))
    }

    /// Removes cuts that nobody has read for an hour. Blocks.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn sweep(&self) -> Result<(), Error> {
        let now = self.0.clock.now();
        let _turn = self.0.turn.lock();
        self.sweep_now(now)
    }

    fn sweep_now(&self, now: Timestamp) -> Result<(), Error> {
        for cut in self.cuts()? {
            let stale = {
                let used = self.0.used.lock();
                used.get(&cut)
                    .is_none_or(|used| used.leases == 0 && now.0.saturating_sub(used.since.0) >= CUT_KEPT_US)
            };
            if stale {
                self.remove(&cut)?;
            }
        }
        for gone in self.entries()?.into_iter().filter(|name| name.starts_with(GONE_PREFIX)) {
            self.remove(&gone)?;
        }
        Ok(())
    }

    /// How many leases there are.
    #[cfg(test)]
    pub(crate) fn leases(&self) -> usize {
        self.0.used.lock().values().map(|used| used.leases).sum()
    }

    /// Of cuts whose backups broke off, the one that has waited longest goes when there are too many.
    fn make_place(&self) -> Result<(), Error> {
        let cuts = self.cuts()?;
        if cuts.len() < CUTS_MAX {
            return Ok(());
        }
        let oldest = {
            let used = self.0.used.lock();
            let idle = cuts.into_iter().filter_map(|cut| {
                let used = used.get(&cut)?;
                (used.leases == 0).then_some((used.since, cut))
            });
            idle.min()
        };
        match oldest {
            Some((_, cut)) => self.remove(&cut),
            None => Err(Error::Busy { max: BACKUPS_MAX }),
        }
    }

    fn leased(&self, name: &str) -> Result<Lease, Error> {
        let path = self.0.directory.join(name);
        let content = Arc::new(Content::summed(&Manifest::read(&path)?));
        let place = self.reserve(name)?;
        Ok(Lease::new(path, content, place))
    }

    /// A place among the backups that are streamed.
    fn reserve(&self, name: &str) -> Result<Place, Error> {
        let mut used = self.0.used.lock();
        let leases: usize = used.values().map(|used| used.leases).sum();
        if leases >= BACKUPS_MAX {
            return Err(Error::Busy { max: BACKUPS_MAX });
        }
        let entry = used.entry(name.to_owned()).or_insert(Use {
            leases: 0,
            cut: None,
            since: Timestamp(0),
        });
        entry.leases += 1;
        Ok(Place::new(name, self))
    }

    fn release(&self, id: &str) {
        let mut used = self.0.used.lock();
        let Some(entry) = used.get_mut(id) else { return };
        entry.leases = entry.leases.saturating_sub(1);
        entry.since = self.0.clock.now();
        // A cut that was made stays, to be gone on with.
        if entry.leases == 0 && entry.cut.is_none() {
            used.remove(id);
        }
    }

    /// Where one is to be made.
    fn prepared(&self, name: &str) -> Result<PathBuf, Error> {
        let directory = &self.0.directory;
        fs::create_dir_all(directory).map_err(|source| self.failed(source))?;
        Ok(directory.join(name))
    }

    /// Out of sight at once, then gone.
    fn remove(&self, name: &str) -> Result<(), Error> {
        let directory = &self.0.directory;
        let gone = if name.starts_with(GONE_PREFIX) {
            directory.join(name)
        } else {
            let gone = directory.join(format!("{GONE_PREFIX}{name}"));
            let renamed = fs::rename(directory.join(name), &gone);
            renamed
                .and_then(|()| File::open(directory)?.sync_all())
                .map_err(|source| self.failed(source))?;
            gone
        };
        self.0.used.lock().remove(name);
        let removed = if gone.is_dir() {
            fs::remove_dir_all(&gone)
        } else {
            fs::remove_file(&gone)
        };
        removed.map_err(|source| self.failed(source))
    }

    fn names(&self) -> Result<Vec<String>, Error> {
        let mut names = self.entries()?;
        names.retain(|name| check_name(name).is_ok());
        names.sort_unstable();
        Ok(names)
    }

    fn cuts(&self) -> Result<Vec<String>, Error> {
        let mut names = self.entries()?;
        names.retain(|name| name.starts_with(CUT_PREFIX) && !name.ends_with(PARTIAL));
        Ok(names)
    }

    fn entries(&self) -> Result<Vec<String>, Error> {
        let entries = match fs::read_dir(&self.0.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|source| self.failed(source))?,
        };
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names
            .collect::<io::Result<Vec<String>>>()
            .map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> Error {
        let path = self.0.directory.clone();
        Error::Io { path, source }
    }
}

/// Whether a name is one that only an interrupted call leaves behind, or a cut, which does not outlive its process.
fn is_left_over(name: &str) -> bool {
    let half_made = name.strip_suffix(PARTIAL).is_some_and(|name| check_name(name).is_ok());
    half_made || name.starts_with(CUT_PREFIX) || name.starts_with(GONE_PREFIX)
}

fn check_name(name: &str) -> Result<(), Error> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let first = name.bytes().next().is_some_and(plain);
    let rest = name
        .bytes()
        .all(|byte| plain(byte) || matches!(byte, b'.' | b'_' | b'-'));
    if first && rest && name.len() <= NAME_BYTES_MAX && !name.ends_with(PARTIAL) {
        return Ok(());
    }
    Err(Error::Name)
}

/// `2026-11-23t18-07-04z`
fn name_of(now: Timestamp) -> String {
    let seconds = i64::try_from(now.0 / 1_000_000).unwrap_or(i64::MAX);
    let at = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    at.strftime("%Y-%m-%dt%H-%M-%Sz").to_string()
}

#[cfg(test)]
mod tests;
