//! The folder of backups, and the files of one that is being made in it.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use engine::backup::{Manifest, Outline, PARTIAL};
use wal::storage::{Disk, Storage as _};

use super::RESUME;
use crate::{
    error::{Code, Failure},
    offline, packed, show,
    sum::Sum,
};

/// Room beside the files: the manifest, names.
const OVERHEAD_BYTES: u64 = 4 << 20;
/// Bytes read at once.
const BUFFER_BYTES: usize = 1 << 20;
/// Directories of one second and node.
const NAMES_MAX: u32 = 1_000;

/// Whether its maker was killed when all was done but the renaming: the note goes last, when everything is synced.
pub(super) fn is_whole(partial: &Path) -> bool {
    let is_noted = partial.join(RESUME).symlink_metadata().is_ok();
    !is_noted && Manifest::read(partial).is_ok()
}

/// Gives a backup its name; another process may just have done so.
pub(super) fn rename(partial: &Path, path: &Path) -> Result<(), Failure> {
    if path.symlink_metadata().is_err() || partial.symlink_metadata().is_ok() {
        fs::rename(partial, path).map_err(|error| failed("rename", partial, &error))?;
    }
    packed::sync_directory_of(path).map_err(|error| failed("sync the folder of", path, &error))
}

pub(super) fn lock(file: &File) -> io::Result<()> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::from(io::ErrorKind::WouldBlock),
        TryLockError::Error(error) => error,
    })
}

/// Whether all of it fits into `folder`.
pub(super) fn check_room(folder: &Path, outline: &Outline) -> Result<(), Failure> {
    let free_bytes = Disk::for_reading(folder).and_then(|folder| folder.free_bytes());
    let free_bytes = free_bytes.map_err(|error| failed("ask for the free space of", folder, &error))?;
    let needed_bytes = outline.bytes() + OVERHEAD_BYTES;
    if free_bytes >= needed_bytes {
        return Ok(());
    }
    let (free, needed) = (show::bytes(free_bytes), show::bytes(needed_bytes));
    let what = format!(
        "{} has {free} free, the backup needs {needed}: nothing was begun",
        folder.display()
    );
    Err(Failure::new(Code::CannotCreate, what).next("free some room there, or name a folder elsewhere"))
}

/// A name that is not taken: when it was made, and by whom.
pub(super) fn free_name(folder: &Path, outline: &Outline) -> Result<(PathBuf, PathBuf), Failure> {
    let seconds = i64::try_from(outline.made_at.0 / 1_000_000).unwrap_or(i64::MAX);
    let at = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let plain = |character: char| {
        if character.is_ascii_alphanumeric() || "._-".contains(character) {
            character
        } else {
            '_'
        }
    };
    let node: String = outline.node.chars().map(plain).collect();
    let name = format!("{}-{node}", at.strftime("%Y-%m-%dT%H-%M-%SZ"));
    for number in 1..=NAMES_MAX {
        let name = if number == 1 {
            name.clone()
        } else {
            format!("{name}-{number}")
        };
        let (path, partial) = (folder.join(&name), folder.join(format!("{name}{PARTIAL}")));
        if !path.exists() && !partial.exists() {
            return Ok((path, partial));
        }
    }
    Err(Failure::new(
        Code::CannotCreate,
        format!("{} and {NAMES_MAX} more are there", folder.join(name).display()),
    ))
}

/// Length and sum of a file.
pub(super) fn summed(path: &Path) -> Result<(u64, Sum), Failure> {
    let read = || {
        let (mut file, mut sum, mut bytes) = (File::open(path)?, Sum::default(), 0);
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return Ok((bytes, sum));
            }
            sum.add(&buffer[..count]);
            bytes += count as u64;
        }
    };
    read().map_err(|error| failed("read", path, &error))
}

pub(super) fn remove(path: &Path) -> Result<(), Failure> {
    fs::remove_file(path).map_err(|error| failed("remove", path, &error))
}

pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

pub(super) fn failed(doing: &str, path: &Path, error: &io::Error) -> Failure {
    let code = match offline::code_of(error) {
        Code::NoInput => Code::CannotCreate,
        code => code,
    };
    Failure::new(code, format!("cannot {doing} {}: {error}", path.display()))
}
