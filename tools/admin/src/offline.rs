//! Files of a node that does not run: locked while they are used, and the engine's words about them.
//!
//! Whatever opens a data directory here holds its lock, the one that `continuumd` holds: neither gets in while the other
//! is there.

use std::{fs, io, path::Path};

use engine::backup;
use server::runtime::directory::{self, Directory};

use crate::error::{Code, Failure};

/// What is in a data directory besides the database.
const LOCK: &str = "LOCK";
/// The parts of a data directory that a node has used.
const PARTS: [&str; 2] = ["log", "db"];

/// Locks a data directory that a node has used.
pub(crate) fn lock(path: &Path) -> Result<Directory, Failure> {
    let found = PARTS.iter().any(|part| path.join(part).is_dir());
    if !found {
        let what = format!(
            "{} is no data directory of a node: it has neither log/ nor db/",
            path.display()
        );
        return Err(Failure::new(Code::NoInput, what).next("name the directory that continuumd has as --data-dir"));
    }
    open(path)
}

/// Makes a directory and locks it, for a node to be.
pub(crate) fn claim(path: &Path) -> Result<Claim, Failure> {
    let made = !path.exists();
    Ok(Claim {
        directory: Directory::lock(path).map_err(|error| refused(&error))?,
        made,
    })
}

/// A directory in which a node is restored.
pub(crate) struct Claim {
    pub(crate) directory: Directory,
    /// Whether it was not there before.
    made: bool,
}

impl Claim {
    /// Takes back what was made, if nothing was put into it.
    pub(crate) fn give_back(self) {
        let path = self.directory.path().to_owned();
        let only_lock =
            fs::read_dir(&path).is_ok_and(|entries| entries.flatten().all(|entry| entry.file_name() == LOCK));
        if self.made && only_lock {
            // Best effort: an empty directory does no harm.
            let _ = fs::remove_file(path.join(LOCK)).and_then(|()| fs::remove_dir(&path));
        }
    }
}

fn open(path: &Path) -> Result<Directory, Failure> {
    Directory::open(path).map_err(|error| refused(&error))
}

fn refused(error: &directory::Error) -> Failure {
    match error {
        directory::Error::Locked { path, holder } => Failure::new(
            Code::Temporary,
            format!("{} is in use by process {holder}", path.display()),
        )
        .next("stop that one first: this works on the files of a node that does not run"),
        directory::Error::Another { .. } | directory::Error::Unfinished(_) => {
            Failure::new(Code::Data, error.to_string())
        }
        directory::Error::Io { source, .. } => Failure::new(code_of(source), error.to_string()),
    }
}

/// What scripts are told of an error of the system.
pub(crate) fn code_of(error: &io::Error) -> Code {
    match error.kind() {
        io::ErrorKind::NotFound => Code::NoInput,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Code::NotAllowed,
        io::ErrorKind::InvalidData => Code::Data,
        _ => Code::Io,
    }
}

/// What the engine says of a backup.
pub(crate) fn failure(error: &backup::Error) -> Failure {
    let what = error.to_string();
    match error {
        backup::Error::NotABackup { .. } => Failure::new(Code::Data, what)
            .next("name a directory that `backup create` made; `backup list DIR` shows those in DIR"),
        backup::Error::Damaged { .. } => Failure::new(Code::Data, what),
        backup::Error::Refused(_) | backup::Error::NoSpace { .. } => Failure::new(Code::CannotCreate, what),
        backup::Error::Io { source, .. } => {
            Failure::new(code_of(source), what).next("once it is put right, run the same command again: it goes on")
        }
        backup::Error::Occupied(_) => Failure::new(Code::Temporary, what),
        backup::Error::Engine(_) | backup::Error::Store(_) | backup::Error::Open(_) => {
            Failure::new(Code::Software, what)
        }
    }
}
