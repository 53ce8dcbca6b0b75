//! From a backup to a data directory that a node can start on.
//!
//! | step | done once | begun anew when interrupted |
//! |---|---|---|
//! | verify | every byte of the backup is read, nothing is written | verified again |
//! | mark | `RESTORING` names the backup | |
//! | copy | files into `db.copy`, each summed while it is copied; renamed to `db` | files that are whole are kept |
//! | rename the life | incarnation, cluster, secret; raft's vote and log dropped: one flush | drawn again, nobody has seen them |
//! | log | an empty one that goes on behind the backup's LSN | removed and made again |
//! | name | `node-id` | written again |
//! | unmark | `RESTORING` removed, last of all | |
//!
//! A directory with the mark is no data directory: nobody opens it. The restored node is another incarnation, so its dots are
//! new; it is another cluster too, so that dots of the pool, whose author is the cluster, are new, and tokens of the cluster
//! backed up are refused. A node that rejoins keeps cluster and secret, and leaves the pool's dots to its peers: never let two
//! that rejoined one cluster both work alone.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use wal::{Log, Lsn};

use super::{
    DATABASE, Error, MANIFEST, Manifest,
    error::failed,
    sums,
    verify::{self, check, damaged, fault},
};
use crate::{
    NODE_BYTES_MAX, OpenError, Settings, format,
    keyspace::{
        codec,
        meta::{self, ContextKey, Identity},
        registry,
    },
    open::LOG,
    store::{self, Change, Family, Store as _, View as _, rocks::Rocks},
};

/// The mark of a restore that has not come to its end.
pub const MARKER: &str = "RESTORING";

/// Where files are copied until all are there.
const COPY: &str = "db.copy";
/// Where a data directory keeps the node's name.
const NODE_ID: &str = "node-id";
/// What an empty directory may hold: the lock of whoever restores, what a new file system brings along, and a mark whose
/// writing was cut short.
const IGNORED: [&str; 3] = ["LOCK", "lost+found", "RESTORING.new"];
/// Room besides the database and the log: the marker, the manifest, one flush.
const OVERHEAD_BYTES: u64 = 16 << 20;
/// Segments of the log that a restored node begins with, of which it has next to nothing to keep in them.
const SEGMENT_BYTES_MAX: u64 = 1 << 20;
/// Rows deleted at once.
const ROWS_PER_WRITE: usize = 1_000;

/// How to restore.
#[derive(Clone, Debug)]
pub struct Restore {
    /// Another name for the node; `None` keeps its own.
    pub node: Option<String>,
    /// Stay a member of the cluster the backup was made in, instead of founding one.
    pub rejoin: bool,
    /// Fresh random bits.
    pub entropy: fn() -> u64,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The backup.
    pub manifest: Manifest,
    /// The node's name.
    pub node: String,
    /// The cluster it belongs to now.
    pub cluster: [u8; 16],
    /// Its new life.
    pub incarnation: u64,
    /// The log goes on behind this record.
    pub lsn: Lsn,
    /// Whether an interrupted restore was taken up again.
    pub resumed: bool,
}

/// What has been done when a [`Steps`] is asked whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Verified,
    Marked,
    CopiedFile,
    Copied,
    Opened,
    Renamed,
    LogMade,
    Named,
    Unmarked,
}

/// Where tests cut a restore short.
pub(super) type Steps<'a> = &'a mut dyn FnMut(Step) -> Result<(), Error>;

/// Makes `target` the data directory of a node restored from the backup `source`. The caller holds the lock of the data
/// directory. `progress` is told bytes done and to do: each byte is read once to verify it and once to copy it.
///
/// # Errors
/// [`Error`]. Before the whole backup was verified nothing is written. After a later error, or a power cut, the same call goes
/// on where it was.
pub fn restore(
    source: &Path,
    target: &Path,
    options: &Restore,
    settings: &Settings,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Restored, Error> {
    restore_in_steps(source, target, options, settings, progress, &mut |_| Ok(()))
}

/// Refuses a directory in which a restore has not come to its end; the text says what to do.
///
/// # Errors
/// That text.
pub fn refuse_unfinished(directory: &Path) -> Result<(), String> {
    if directory.join(MARKER).symlink_metadata().is_err() {
        return Ok(());
    }
    Err(format!(
        "a restore into {} was interrupted: run the same restore again, it goes on where it was; or remove the directory",
        directory.display()
    ))
}

pub(super) fn restore_in_steps(
    source: &Path,
    target: &Path,
    options: &Restore,
    settings: &Settings,
    progress: &mut dyn FnMut(u64, u64),
    step: Steps<'_>,
) -> Result<Restored, Error> {
    settings.validate().map_err(Error::Refused)?;
    check_name(options.node.as_deref())?;
    let manifest = verify::manifest(source)?;
    let mark = Mark::of(&manifest, options);
    let resumed = mark.fits(target)?;
    let total_bytes = manifest.bytes() * 2;
    let manifest = verify::verify(source, &mut |done, _| progress(done, total_bytes))?;
    step(Step::Verified)?;
    let done_bytes = manifest.bytes();
    let mut copied = |bytes: u64| progress((done_bytes + bytes).min(total_bytes), total_bytes);

    let target = Target::prepare(target)?;
    target.check_room(&manifest, settings, resumed)?;
    mark.put(&target)?;
    step(Step::Marked)?;
    target.copy(source, &manifest, &mut copied, step)?;
    let identity = target.rename_life(&manifest, options, settings, step)?;
    step(Step::Renamed)?;
    target.make_log(&identity, manifest.lsn, settings)?;
    step(Step::LogMade)?;
    target.write(NODE_ID, format!("{}\n", identity.node).as_bytes())?;
    target.sync()?;
    step(Step::Named)?;
    let marker = target.path.join(MARKER);
    fs::remove_file(&marker).map_err(failed("remove", &marker))?;
    target.sync()?;
    step(Step::Unmarked)?;
    Ok(Restored {
        lsn: manifest.lsn,
        manifest,
        node: identity.node,
        cluster: identity.cluster,
        incarnation: identity.incarnation,
        resumed,
    })
}

fn check_name(name: Option<&str>) -> Result<(), Error> {
    let Some(name) = name else { return Ok(()) };
    if name.is_empty() || name.len() > NODE_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(Error::Refused(format!(
            "the node name {name:?} must have 1 to {NODE_BYTES_MAX} bytes and no control characters"
        )));
    }
    Ok(())
}

/// The content of the marker: which backup is being restored, and as what. Half of one identity and half of another is none.
struct Mark(String);

impl Mark {
    fn of(manifest: &Manifest, options: &Restore) -> Mark {
        let sum = Manifest::sum_line(manifest.to_json().as_bytes());
        let how = if options.rejoin {
            "rejoins its cluster"
        } else {
            "founds a cluster"
        };
        let name = options.node.as_deref().unwrap_or(&manifest.node);
        Mark(format!("{sum}{how}\nas {name}\n"))
    }

    /// Whether `target` is an interrupted restore of the same backup; an empty or absent one is not, and is well too.
    fn fits(&self, target: &Path) -> Result<bool, Error> {
        let entries = match fs::read_dir(target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            outcome => outcome.map_err(failed("read", target))?,
        };
        let names: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.file_name())).collect();
        let names = names.map_err(failed("read", target))?;
        let marker = target.join(MARKER);
        let shown = target.display();
        match fs::read(&marker) {
            Ok(found) if found == self.0.as_bytes() => Ok(true),
            Ok(_) => Err(Error::Refused(format!(
                "another restore into {shown} was interrupted, of another backup or with other options: finish that one, or remove the directory, or name another"
            ))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match names
                    .iter()
                    .find(|name| !IGNORED.iter().any(|ignored| *name == ignored))
                {
                    None => Ok(false),
                    Some(name) => Err(Error::Refused(format!(
                        "{shown} is not empty, {} is in it: restore into a directory that is empty or not there yet",
                        name.to_string_lossy()
                    ))),
                }
            }
            Err(error) => Err(failed("read", &marker)(error)),
        }
    }

    fn put(&self, target: &Target) -> Result<(), Error> {
        target.write(MARKER, self.0.as_bytes())?;
        target.sync()
    }
}

/// The data directory to be.
struct Target {
    path: PathBuf,
}

impl Target {
    fn prepare(path: &Path) -> Result<Target, Error> {
        let absent: Vec<&Path> = path.ancestors().take_while(|above| !above.exists()).collect();
        fs::create_dir_all(path).map_err(failed("create", path))?;
        for made in absent {
            let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = parent.unwrap_or(Path::new("."));
            sums::sync_directory(parent).map_err(failed("sync", parent))?;
        }
        Ok(Target { path: path.to_owned() })
    }

    /// A resumed restore has taken most of its room already.
    fn check_room(&self, manifest: &Manifest, settings: &Settings, resumed: bool) -> Result<(), Error> {
        use wal::storage::Storage as _;
        let volume = wal::storage::Disk::for_reading(&self.path).and_then(|target| target.free_bytes());
        let free_bytes = volume.map_err(failed("ask for the free space of", &self.path))?;
        // Two segments, for a moment: the first of every log, and the one behind the skip.
        let needed_bytes = manifest.bytes() + segments(settings).segment_bytes * 2 + OVERHEAD_BYTES;
        if !resumed && free_bytes < needed_bytes {
            return Err(Error::NoSpace {
                path: self.path.clone(),
                free_bytes,
                needed_bytes,
            });
        }
        Ok(())
    }

    /// Copies the database: file by file, then all of it at once by a name.
    fn copy(
        &self,
        source: &Path,
        manifest: &Manifest,
        copied: &mut dyn FnMut(u64),
        step: Steps<'_>,
    ) -> Result<(), Error> {
        let database = self.path.join(DATABASE);
        if database.exists() {
            copied(manifest.bytes());
            return Ok(());
        }
        let folder = self.path.join(COPY);
        fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
        let mut done_bytes = 0;
        for file in &manifest.files {
            let name = Path::new(&file.path).file_name().unwrap_or_default();
            let (from, to) = (source.join(&file.path), folder.join(name));
            let before_bytes = done_bytes;
            let mut read = |bytes| {
                done_bytes += bytes;
                copied(done_bytes);
            };
            if check(&to, file, &mut |_| {}).is_some() {
                remove_if_there(&to)?;
                let found = sums::copy(&from, &to, &mut read).map_err(failed("copy a file of the backup to", &to))?;
                if found != (file.bytes, file.sha256.clone()) {
                    remove_if_there(&to)?;
                    return Err(damaged(source, vec![fault(&file.path, super::Wrong::Sum)]));
                }
            }
            done_bytes = before_bytes + file.bytes;
            step(Step::CopiedFile)?;
        }
        sums::sync_directory(&folder).map_err(failed("sync", &folder))?;
        fs::rename(&folder, &database).map_err(failed("rename the copied database to", &database))?;
        self.sync()?;
        step(Step::Copied)
    }

    /// Makes the database that of another life, durably.
    fn rename_life(
        &self,
        manifest: &Manifest,
        options: &Restore,
        settings: &Settings,
        step: Steps<'_>,
    ) -> Result<Identity, Error> {
        // As if there were no room: without a word from an engine it begins no compactions.
        let store = Rocks::open(&self.path.join(DATABASE), &settings.database(0))?;
        step(Step::Opened)?;
        format::upgrade(&store).map_err(|error| OpenError::Refused(error.to_string()))?;
        let applied = meta::applied(&store)?;
        if applied != manifest.lsn {
            let (found, expected) = (applied, manifest.lsn);
            return Err(Error::NotABackup {
                path: self.path.clone(),
                reason: format!("its database holds records up to {found}, {MANIFEST} says {expected}"),
            });
        }
        let identity = Identity {
            node: options.node.clone().unwrap_or_else(|| manifest.node.clone()),
            incarnation: another(options.entropy, manifest.incarnation),
            cluster: if options.rejoin {
                manifest.cluster
            } else {
                drawn(options.entropy)
            },
        };
        let mut records = vec![(meta::IDENTITY, codec::encode(&identity))];
        if !options.rejoin {
            let key = ContextKey(drawn(options.entropy));
            records.push((meta::CONTEXT_KEY, codec::encode(&key)));
        }
        let mut changes: Vec<Change<'_>> = records
            .iter()
            .map(|(key, value)| Change {
                family: Family::Meta,
                key,
                value: Some(value),
            })
            .collect();
        let left_behind = [registry::roster(), registry::invitations()];
        if !options.rejoin {
            // A new cluster has none of the members of the old one.
            changes.extend(left_behind.iter().map(|key| Change {
                family: Family::Registry,
                key,
                value: None,
            }));
        }
        store.write(&changes)?;
        forget(&store, Family::RaftLog)?;
        forget(&store, Family::RaftState)?;
        store.flush()?;
        Ok(identity)
    }

    /// An empty log that goes on behind `lsn`, and says whose it is.
    fn make_log(&self, identity: &Identity, lsn: Lsn, settings: &Settings) -> Result<(), Error> {
        let path = self.path.join(LOG);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &path)(error)),
            _ => {}
        }
        let storage = wal::storage::Disk::open(&path).map_err(failed("create", &path))?;
        let made = || {
            let (mut log, _) = Log::open(Arc::new(storage), segments(settings).log(), &codec::encode(identity))?;
            log.skip_past(lsn)?;
            // The first segment, before the skip, would say that the records are to come.
            log.retire(lsn)?;
            log.close()
        };
        made().map_err(OpenError::Log)?;
        Ok(())
    }

    /// A small file, whole or not at all.
    fn write(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let (path, aside) = (self.path.join(name), self.path.join(format!("{name}.new")));
        sums::write(&aside, content)
            .and_then(|()| fs::rename(&aside, &path))
            .map_err(failed("write", &path))
    }

    fn sync(&self) -> Result<(), Error> {
        sums::sync_directory(&self.path).map_err(failed("sync", &self.path))
    }
}

/// What the log is made with: the node that starts on it makes its own segments as large as it likes.
fn segments(settings: &Settings) -> Settings {
    Settings {
        segment_bytes: settings.segment_bytes.min(SEGMENT_BYTES_MAX),
        ..settings.clone()
    }
}

fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Deletes every row of a family.
fn forget(store: &Rocks, family: Family) -> Result<(), store::Error> {
    loop {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        store.scan(family, &[], None, &mut |key, _| {
            keys.push(key.to_vec());
            keys.len() < ROWS_PER_WRITE
        })?;
        if keys.is_empty() {
            return Ok(());
        }
        let deletes: Vec<Change<'_>> = keys
            .iter()
            .map(|key| Change {
                family,
                key,
                value: None,
            })
            .collect();
        store.write(&deletes)?;
    }
}

fn drawn<const BYTES: usize>(entropy: fn() -> u64) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&entropy().to_le_bytes()[..chunk.len()]);
    }
    bytes
}

/// Random bits that are not those of the life before.
fn another(entropy: fn() -> u64, before: u64) -> u64 {
    loop {
        let drawn = entropy();
        if drawn != before {
            return drawn;
        }
    }
}
