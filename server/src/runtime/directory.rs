//! The data directory: made when absent, locked against a second process, and the name of the node it belongs to.
//!
//! ```text
//!  DIR/LOCK      held while a process uses the directory; holds its process id
//!  DIR/node-id   the node's name, one line
//!  DIR/RESTORING there while a restore has not come to its end: nobody starts on it
//!  DIR/log/      segments of the log
//!  DIR/db/       the database
//! ```

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use super::entropy;

const LOCK_FILE: &str = "LOCK";
const NAME_FILE: &str = "node-id";

/// Why the directory cannot be used, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process holds it.
    #[error("{} is in use by another continuumd (process {holder}): stop that one, or give this one its own --data-dir", .path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Who holds it, as far as known.
        holder: String,
    },
    /// Its writes carry another node's name.
    #[error("{} belongs to the node `{kept}`, not to `{given}`: start without --node-id or with --node-id {kept}, or give this node its own --data-dir", .path.display())]
    Another {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        kept: String,
        /// Who wants it.
        given: String,
    },
    /// A restore into it has not come to its end.
    #[error("{0}")]
    Unfinished(String),
    /// The system refused.
    #[error("cannot {action} {}: {source}{}", .path.display(), advice(.source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; make it writable for this user, or choose another with --data-dir"
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => "; --data-dir must name a directory",
        io::ErrorKind::StorageFull => "; free some space, or choose another place with --data-dir",
        _ => "",
    }
}

/// A data directory that no other process uses while this lives.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Makes the directory when absent, and locks it.
    ///
    /// # Errors
    /// When it cannot be made, is not writable, another process holds it, or a restore into it was interrupted.
    pub fn open(path: &Path) -> Result<Directory, Error> {
        let directory = Directory::lock(path)?;
        engine::backup::refuse_unfinished(&directory.path).map_err(Error::Unfinished)?;
        Ok(directory)
    }

    /// The same for whoever restores into it, or looks at what is there: an interrupted restore does not keep them out.
    ///
    /// # Errors
    /// When it cannot be made, is not writable, or another process holds it.
    pub fn lock(path: &Path) -> Result<Directory, Error> {
        let absent: Vec<&Path> = path.ancestors().skip(1).take_while(|above| !above.exists()).collect();
        fs::create_dir_all(path).map_err(failed("create the data directory", path))?;
        // A power cut must not take away what was just made, nor what a start cut short made: each stands in its parent.
        for made in std::iter::once(path).chain(absent) {
            let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = parent.unwrap_or(Path::new("."));
            File::open(parent)
                .and_then(|parent| parent.sync_all())
                .map_err(failed("sync the directory that holds the data directory,", parent))?;
        }
        let path = path.canonicalize().map_err(failed("find the data directory", path))?;
        let lock_path = path.join(LOCK_FILE);
        let mut options = OpenOptions::new();
        let mut lock = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(failed("write to the data directory:", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _unknown = lock.read_to_string(&mut holder);
                let holder = if holder.is_empty() {
                    "unknown".to_owned()
                } else {
                    holder.trim().to_owned()
                };
                return Err(Error::Locked { path, holder });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock", &lock_path)(source)),
        }
        let noted = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()));
        noted.map_err(failed("write", &lock_path))?;
        Ok(Directory { path, _lock: lock })
    }

    /// Where it is, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size of the file system it lies on, in bytes.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn disk_bytes(&self) -> Result<u64, Error> {
        let asked = rustix::fs::statvfs(&self.path).map_err(io::Error::from);
        let volume = asked.map_err(failed("ask for the size of the disk of", &self.path))?;
        Ok(volume.f_blocks.saturating_mul(volume.f_frsize))
    }

    /// Where the log's segments go; made when absent.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn log(&self) -> Result<PathBuf, Error> {
        self.subdirectory("log")
    }

    /// Where the database goes; made when absent.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn database(&self) -> Result<PathBuf, Error> {
        self.subdirectory("db")
    }

    fn subdirectory(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).map_err(failed("create", &path))?;
        Ok(path)
    }

    /// The node's name: the one given, else the one kept here, else a new one. What it is, is kept durably.
    ///
    /// # Errors
    /// When the name cannot be read or kept, or another node's is kept here.
    pub fn node_name(&self, given: Option<&str>) -> Result<String, Error> {
        let path = self.path.join(NAME_FILE);
        let kept = match fs::read_to_string(&path) {
            Ok(text) => Some(text.trim_end_matches('\n').to_owned()).filter(|name| !name.is_empty()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed("read", &path)(error)),
        };
        match (kept, given) {
            (Some(kept), Some(given)) if kept != given => Err(Error::Another {
                path: self.path.clone(),
                kept,
                given: given.to_owned(),
            }),
            (Some(kept), _) => Ok(kept),
            (None, given) => {
                let name = given.map_or_else(entropy::node_name, str::to_owned);
                self.keep(&path, &name)
                    .map_err(failed("keep the node's name in", &path))?;
                Ok(name)
            }
        }
    }

    /// Whole or not at all, also after a power cut: written aside, synced, renamed, and the directory synced.
    fn keep(&self, path: &Path, name: &str) -> io::Result<()> {
        let aside = path.with_extension("new");
        let mut file = File::create(&aside)?;
        writeln!(file, "{name}")?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        File::open(&self.path)?.sync_all()
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

#[cfg(test)]
mod tests;
