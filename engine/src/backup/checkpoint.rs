//! Making a backup of a running node, or only the cut that one is made of.
//!
//! ```text
//!  link ─► the log is synced ─► RocksDB checkpoint: hard links ─► Outline         an instant; of the engine's operations
//!  cut                  as it is: whoever reads the files sums them
//!  checkpoint           every file read, summed and synced ─► manifest ─► its sum ─► renamed        beside everything else
//! ```

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use wal::storage::Storage as _;

use super::{DATABASE, Error, FileLength, MANIFEST, MANIFEST_SUM, Manifest, Outline, PARTIAL, error::failed, sums};
use crate::{
    clock::Timestamp,
    commit::{queue::Queue, sync_first::SyncFirst},
    keyspace::{
        meta::{self, Identity},
        raft_state::{self, Installing},
    },
    operations::{Occupied, Operation},
    store::{Family, Files, Store, View, rocks::Reader},
};

/// What a checkpoint takes besides its tables: a manifest, options, and what is flushed while it is made.
const OVERHEAD_BYTES: u64 = 16 << 20;

/// A backup whose files are there and were not read yet; dropped before it is whole, it is gone.
pub(crate) struct Draft {
    place: Place,
    outline: Outline,
    is_whole: bool,
}

/// Links what `directory` is to be a backup of: everything acknowledged before the call. Two of one name at a time would
/// remove each other's.
///
/// # Errors
/// [`Error`]; nothing of that name is left behind.
pub(crate) fn draft(store: &dyn Store, queue: &Queue, directory: &Path, made_at: Timestamp) -> Result<Draft, Error> {
    let files = files_of(store)?;
    refuse_half_a_ledger(store)?;
    let place = Place::prepare(directory)?;
    let outline = link(files, queue, &place.parent, &place.partial, made_at)?;
    Ok(Draft {
        place,
        outline,
        is_whole: false,
    })
}

/// Makes `directory`, which must not be there, the files of a backup that nobody has summed. It is not synced.
///
/// # Errors
/// [`Error`]; nothing of that name is left behind.
pub(crate) fn cut(store: &dyn Store, queue: &Queue, directory: &Path, made_at: Timestamp) -> Result<Outline, Error> {
    let parent = directory.parent().unwrap_or(Path::new("."));
    refuse_half_a_ledger(store)?;
    link(files_of(store)?, queue, parent, directory, made_at)
}

fn files_of(store: &dyn Store) -> Result<&dyn Files, Error> {
    let refusal = "this node keeps its data in memory: there are no files to back up";
    store.files().ok_or_else(|| Error::Refused(refusal.to_owned()))
}

/// What is linked while a snapshot of raft's is put in place restores as half of one ledger and half of another.
fn refuse_half_a_ledger(view: &dyn View) -> Result<(), Error> {
    match raft_state::read::<Installing>(view)? {
        None => Ok(()),
        Some(_) => Err(Error::Occupied(Occupied {
            by: Operation::Installation,
        })),
    }
}

/// Where a backup is made.
struct Place {
    parent: PathBuf,
    partial: PathBuf,
    whole: PathBuf,
}

impl Place {
    fn prepare(directory: &Path) -> Result<Place, Error> {
        let refused = |reason: &str| Err(Error::Refused(format!("{} {reason}", directory.display())));
        if directory.symlink_metadata().is_ok() {
            return refused("is there already: name a directory that is not");
        }
        let Some(name) = directory.file_name() else {
            return refused("has no name of its own: name a directory that is not there yet");
        };
        let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new(".")).to_owned();
        let parent = parent.canonicalize().map_err(failed("find the directory", &parent))?;
        let mut partial = name.to_owned();
        partial.push(PARTIAL);
        let place = Place {
            partial: parent.join(partial),
            whole: parent.join(name),
            parent,
        };
        place.clear()?;
        Ok(place)
    }

    /// Removes what an interrupted backup of the same name left, and only that.
    fn clear(&self) -> Result<(), Error> {
        let entries = match fs::read_dir(&self.partial) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            outcome => outcome.map_err(failed("read", &self.partial))?,
        };
        for entry in entries {
            let name = entry.map_err(failed("read", &self.partial))?.file_name();
            let ours = [DATABASE, "db.tmp", MANIFEST, MANIFEST_SUM];
            if !ours.iter().any(|ours| name == *ours) {
                let (partial, name) = (self.partial.display(), name.to_string_lossy());
                return Err(Error::Refused(format!(
                    "{partial} is in the way, and {name} in it is of no backup: move it away"
                )));
            }
        }
        fs::remove_dir_all(&self.partial).map_err(failed("remove what an interrupted backup left in", &self.partial))
    }
}

/// Hard links take no room; on another file system everything is copied.
fn check_room(files: &dyn Files, parent: &Path) -> Result<(), Error> {
    let device = |path: &Path| {
        fs::metadata(path)
            .map(|found| found.dev())
            .map_err(failed("read", path))
    };
    let mut needed_bytes = OVERHEAD_BYTES;
    if device(parent)? != device(files.directory())? {
        for family in Family::ALL {
            needed_bytes += files.tables(family)?.iter().map(|table| table.bytes).sum::<u64>();
        }
    }
    let volume = wal::storage::Disk::for_reading(parent).and_then(|parent| parent.free_bytes());
    let free_bytes = volume.map_err(failed("ask for the free space of", parent))?;
    if free_bytes < needed_bytes {
        return Err(Error::NoSpace {
            path: parent.to_owned(),
            free_bytes,
            needed_bytes,
        });
    }
    Ok(())
}

/// Makes `folder` within `parent` and the database's files in it.
fn link(files: &dyn Files, queue: &Queue, parent: &Path, folder: &Path, made_at: Timestamp) -> Result<Outline, Error> {
    check_room(files, parent)?;
    fs::create_dir(folder).map_err(failed("create", folder))?;
    let linked = || {
        let database = folder.join(DATABASE);
        {
            let _held = SyncFirst::begin(queue)?;
            files.checkpoint(&database)?;
        }
        let reader = Reader::open(&database)?;
        // Again, for it may have begun meanwhile.
        refuse_half_a_ledger(&reader)?;
        let lsn = meta::applied(&reader)?;
        let identity: Identity = meta::read(&reader, meta::IDENTITY)?
            .ok_or_else(|| crate::store::Error("the identity of the node is missing".to_owned()))?;
        drop(reader);
        Ok(Outline {
            node: identity.node,
            cluster: identity.cluster,
            incarnation: identity.incarnation,
            lsn,
            made_at,
            files: lengths(&database)?,
        })
    };
    let outline = linked();
    if outline.is_err() {
        // The first error is the one to act on; what is left is recognised by its name.
        let _ = fs::remove_dir_all(folder);
    }
    outline
}

fn lengths(database: &Path) -> Result<Vec<FileLength>, Error> {
    let length = |entry: io::Result<fs::DirEntry>| {
        let entry = entry?;
        Ok(FileLength {
            path: format!("{DATABASE}/{}", entry.file_name().to_string_lossy()),
            bytes: entry.metadata()?.len(),
        })
    };
    let lengths: io::Result<Vec<FileLength>> = fs::read_dir(database).and_then(|entries| entries.map(length).collect());
    let mut lengths = lengths.map_err(failed("read", database))?;
    lengths.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(lengths)
}

impl Draft {
    /// Makes a backup of it: sums every file, and says so in the manifest.
    ///
    /// # Errors
    /// [`Error`]; nothing of that name is left behind.
    pub(crate) fn finish(mut self) -> Result<Manifest, Error> {
        let Place { parent, partial, whole } = &self.place;
        let manifest = self.outline.with_sums(self.sums()?);
        let json = manifest.to_json();
        let write = |name: &str, content: &[u8]| {
            let path = partial.join(name);
            sums::write(&path, content).map_err(failed("write", &path))
        };
        let sync = |path: &Path| sums::sync_directory(path).map_err(failed("sync", path));
        sync(&partial.join(DATABASE))?;
        write(MANIFEST, json.as_bytes())?;
        sync(partial)?;
        write(MANIFEST_SUM, Manifest::sum_line(json.as_bytes()).as_bytes())?;
        sync(partial)?;
        fs::rename(partial, whole).map_err(failed("rename the finished backup to", whole))?;
        sync(parent)?;
        self.is_whole = true;
        Ok(manifest)
    }

    /// Sums every file, and syncs it: what was copied, not linked, may not be durable yet.
    fn sums(&self) -> Result<Vec<String>, Error> {
        let sum = |file: &FileLength| {
            let path = self.place.partial.join(&file.path);
            let read = fs::File::open(&path)
                .and_then(|file| file.sync_all())
                .and_then(|()| sums::of_file(&path, &mut |_| {}));
            let (bytes, sum) = read.map_err(failed("read", &path))?;
            if bytes != file.bytes {
                return Err(Error::Refused(format!(
                    "{} was cut or written to while it was read: nobody else may touch it",
                    path.display()
                )));
            }
            Ok(sum)
        };
        self.outline.files.iter().map(sum).collect()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_whole && self.place.partial.exists() {
            let _ = fs::remove_dir_all(&self.place.partial);
        }
    }
}
