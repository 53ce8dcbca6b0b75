//! Making a backup of a running node.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use wal::storage::Storage as _;

use super::{DATABASE, Error, FileSum, MANIFEST, MANIFEST_SUM, Manifest, PARTIAL, error::failed, sums};
use crate::{
    clock::Timestamp,
    commit::{queue::Queue, sync_first::SyncFirst},
    keyspace::meta::{self, Identity},
    store::{Family, Files, Store, rocks::Reader},
};

/// What a checkpoint takes besides its tables: a manifest, options, and what is flushed while it is made.
const OVERHEAD_BYTES: u64 = 16 << 20;

/// Makes `directory` a backup of everything acknowledged before the call.
///
/// # Errors
/// [`Error`]; nothing of that name is left behind.
pub(crate) fn checkpoint(
    store: &dyn Store,
    queue: &Queue,
    directory: &Path,
    made_at: Timestamp,
) -> Result<Manifest, Error> {
    let Some(files) = store.files() else {
        let refusal = "this node keeps its data in memory: there are no files to back up";
        return Err(Error::Refused(refusal.to_owned()));
    };
    let place = Place::prepare(directory)?;
    check_room(files, &place.parent)?;
    let outcome = fill(files, queue, &place, made_at);
    if outcome.is_err() && place.partial.exists() {
        // The first error is the one to act on; what is left is recognised by its name.
        let _ = fs::remove_dir_all(&place.partial);
    }
    outcome
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

fn fill(files: &dyn Files, queue: &Queue, place: &Place, made_at: Timestamp) -> Result<Manifest, Error> {
    let Place { parent, partial, whole } = place;
    fs::create_dir(partial).map_err(failed("create", partial))?;
    let database = partial.join(DATABASE);
    {
        let _held = SyncFirst::begin(queue)?;
        files.checkpoint(&database)?;
    }
    let reader = Reader::open(&database)?;
    let lsn = meta::applied(&reader)?;
    let identity: Identity = meta::read(&reader, meta::IDENTITY)?
        .ok_or_else(|| crate::store::Error("the identity of the node is missing".to_owned()))?;
    drop(reader);
    let manifest = Manifest {
        node: identity.node,
        cluster: identity.cluster,
        incarnation: identity.incarnation,
        lsn,
        made_at,
        files: sum_all(&database)?,
    };
    let json = manifest.to_json();
    let write = |name: &str, content: &[u8]| {
        let path = partial.join(name);
        sums::write(&path, content).map_err(failed("write", &path))
    };
    let sync = |path: &Path| sums::sync_directory(path).map_err(failed("sync", path));
    sync(&database)?;
    write(MANIFEST, json.as_bytes())?;
    sync(partial)?;
    write(MANIFEST_SUM, Manifest::sum_line(json.as_bytes()).as_bytes())?;
    sync(partial)?;
    fs::rename(partial, whole).map_err(failed("rename the finished backup to", whole))?;
    sync(parent)?;
    Ok(manifest)
}

/// Sums every file, and syncs it: what was copied, not linked, may not be durable yet.
fn sum_all(database: &Path) -> Result<Vec<FileSum>, Error> {
    let mut sums = Vec::new();
    for entry in fs::read_dir(database).map_err(failed("read", database))? {
        let path = entry.map_err(failed("read", database))?.path();
        let (bytes, sha256) = fs::File::open(&path)
            .and_then(|file| file.sync_all())
            .and_then(|()| sums::of_file(&path, &mut |_| {}))
            .map_err(failed("read", &path))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        sums.push(FileSum {
            path: format!("{DATABASE}/{name}"),
            bytes,
            sha256,
        });
    }
    sums.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(sums)
}
