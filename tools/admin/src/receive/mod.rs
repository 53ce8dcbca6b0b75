//! A backup as it arrives, file by file, and the directory that it becomes.
//!
//! ```text
//!  Admin/Backup ─► start ─► chunk, chunk, … ─► end
//!                    │         │                │
//!                    ▼         ▼                ▼
//!   NAME.partial/resume.json  db/…  summed     backup.json, then its sum ─► resume.json removed ─► renamed to NAME
//! ```
//!
//! `resume.json` holds the id of the stream and the manifest, so that a later process goes on where this one was killed. It is
//! locked while a process is at work on the directory.
//!
//! Invariants: `NAME` is there whole, synced and with every sum compared, or not at all; a file whose sum does not fit is
//! asked for again once, then it is damage at the node. What was received before is read again when it is gone on with, for
//! only what was synced survives a power cut.

#[cfg(test)]
mod tests;

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use client::wire::{BackupChunk, BackupStart, Received};
use engine::backup::{DATABASE, MANIFEST, MANIFEST_SUM, Manifest, PARTIAL};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Code, Failure},
    offline, packed,
    sum::Sum,
};

/// What a stream that broke is gone on with.
const RESUME: &str = "resume.json";
/// Bytes read at once.
const BUFFER_BYTES: usize = 1 << 20;
/// Directories of one second and node.
const NAMES_MAX: u32 = 1_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Resume {
    id: String,
    /// The snapshot that was asked for; empty for the present state.
    snapshot: String,
    manifest: String,
    manifest_sum: String,
}

/// A backup under way.
#[derive(Debug)]
pub(crate) struct Receiver {
    /// The directory it becomes.
    path: PathBuf,
    partial: PathBuf,
    resume: Resume,
    manifest: Manifest,
    files: Vec<State>,
    /// The file that is written now.
    open: Option<(usize, File, Sum)>,
    /// Held as long as this works on the directory.
    _lock: File,
}

/// How far one file is.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    received_bytes: u64,
    /// Whether it is here, compared and synced.
    whole: bool,
    /// Whether it arrived once with another sum.
    failed: bool,
}

/// Whether everything is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The backup is whole.
    Whole,
    /// Some files have to be sent again.
    Incomplete,
}

impl Receiver {
    /// Begins a directory for a new stream within `folder`.
    pub(crate) fn begin(folder: &Path, snapshot: &str, start: BackupStart) -> Result<Receiver, Failure> {
        let resume = Resume {
            id: start.id,
            snapshot: snapshot.to_owned(),
            manifest: text(start.manifest)?,
            manifest_sum: text(start.manifest_sum)?,
        };
        let manifest = read_manifest(&resume)?;
        fs::create_dir_all(folder).map_err(|error| failed("create", folder, &error))?;
        let (path, partial) = free_name(folder, &manifest)?;
        let database = partial.join(DATABASE);
        fs::create_dir_all(&database).map_err(|error| failed("create", &database, &error))?;
        let note = partial.join(RESUME);
        let written = File::create_new(&note).and_then(|mut file| {
            lock(&file)?;
            file.write_all(json(&resume).as_bytes())?;
            file.sync_all()?;
            sync(&partial)?;
            sync(folder)?;
            Ok(file)
        });
        let held = written.map_err(|error| failed("write", &note, &error))?;
        let files = vec![State::default(); manifest.files.len()];
        Ok(Receiver {
            path,
            partial,
            resume,
            manifest,
            files,
            open: None,
            _lock: held,
        })
    }

    /// Takes up an interrupted backup of `snapshot` within `folder`, if there is one that `fits` and nobody works on. What
    /// cannot be gone on with is left alone.
    pub(crate) fn take_up(
        folder: &Path,
        snapshot: &str,
        fits: impl Fn(&Manifest) -> bool,
    ) -> Result<Option<Receiver>, Failure> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            outcome => outcome.map_err(|error| failed("read", folder, &error))?,
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort_unstable();
        for name in names.iter().filter_map(|name| name.strip_suffix(PARTIAL)) {
            let partial = folder.join(format!("{name}{PARTIAL}"));
            let Some((held, resume)) = noted(&partial) else {
                continue;
            };
            let Ok(manifest) = read_manifest(&resume) else { continue };
            if resume.snapshot != snapshot || !fits(&manifest) {
                continue;
            }
            let mut receiver = Receiver {
                path: folder.join(name),
                partial,
                files: vec![State::default(); manifest.files.len()],
                resume,
                manifest,
                open: None,
                _lock: held,
            };
            receiver.look()?;
            return Ok(Some(receiver));
        }
        Ok(None)
    }

    /// What there is of each file: whole ones are read and compared.
    fn look(&mut self) -> Result<(), Failure> {
        for index in 0..self.files.len() {
            let path = self.file_path(index);
            let expected = &self.manifest.files[index];
            let Ok(found) = path.symlink_metadata() else { continue };
            if !found.is_file() || found.len() > expected.bytes {
                remove(&path)?;
            } else if found.len() == expected.bytes {
                let (_, sum) = summed(&path)?;
                if sum.digits() == expected.sha256 {
                    // A power cut may have come between its last byte and its sync.
                    File::open(&path)
                        .and_then(|file| file.sync_all())
                        .map_err(|error| failed("sync", &path, &error))?;
                    self.files[index].received_bytes = found.len();
                    self.files[index].whole = true;
                } else {
                    remove(&path)?;
                }
            } else {
                self.files[index].received_bytes = found.len();
            }
        }
        Ok(())
    }

    /// The name of the stream.
    pub(crate) fn id(&self) -> &str {
        &self.resume.id
    }

    /// What was received, for a stream that goes on.
    pub(crate) fn received(&self) -> Vec<Received> {
        let states = self.files.iter().zip(&self.manifest.files);
        let some = states.filter(|(state, _)| state.received_bytes > 0);
        some.map(|(state, file)| Received {
            path: file.path.clone(),
            bytes: state.received_bytes,
        })
        .collect()
    }

    /// Bytes received.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.files.iter().map(|state| state.received_bytes).sum()
    }

    /// What the backup says of itself.
    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where it is until it is whole.
    pub(crate) fn partial(&self) -> &Path {
        &self.partial
    }

    /// The first message of a stream that goes on: it must be about the same backup.
    pub(crate) fn go_on(&mut self, start: &BackupStart) -> Result<(), Failure> {
        self.open = None;
        if start.id == self.resume.id && start.manifest == self.resume.manifest.as_bytes() {
            return Ok(());
        }
        Err(confused(
            "it goes on with another backup than the one that was asked for",
        ))
    }

    /// The bytes of a chunk.
    pub(crate) fn chunk(&mut self, chunk: &BackupChunk) -> Result<(), Failure> {
        let index = chunk.file as usize;
        let expected = self
            .manifest
            .files
            .get(index)
            .ok_or_else(|| confused("a chunk of a file that it did not announce"))?;
        let (from, bytes) = (self.files[index].received_bytes, chunk.data.len() as u64);
        if self.files[index].whole || chunk.offset != from || bytes > expected.bytes - from {
            let at = chunk.offset;
            return Err(confused(&format!(
                "{} was to go on at byte {from}, {bytes} bytes for byte {at} came",
                expected.path
            )));
        }
        self.open(index)?;
        let path = self.file_path(index);
        let (_, file, sum) = self.open.as_mut().expect("opened above");
        file.write_all(&chunk.data)
            .map_err(|error| failed("write", &path, &error))?;
        sum.add(&chunk.data);
        self.files[index].received_bytes += bytes;
        if self.files[index].received_bytes == self.manifest.files[index].bytes {
            self.close()?;
        }
        Ok(())
    }

    /// Opens a file to write on where it ends; what is there is read again for its sum.
    fn open(&mut self, index: usize) -> Result<(), Failure> {
        if self.open.as_ref().is_some_and(|(open, ..)| *open == index) {
            return Ok(());
        }
        let path = self.file_path(index);
        let sum = if self.files[index].received_bytes > 0 {
            summed(&path)?.1
        } else {
            Sum::default()
        };
        let begun = self.files[index].received_bytes > 0;
        let file = File::options()
            .append(begun)
            .write(true)
            .create(!begun)
            .truncate(!begun)
            .open(&path);
        let file = file.map_err(|error| failed("write", &path, &error))?;
        self.open = Some((index, file, sum));
        Ok(())
    }

    /// The file that is open is all there: synced if it is what it should be, else it is to be sent again.
    fn close(&mut self) -> Result<(), Failure> {
        let Some((index, file, sum)) = self.open.take() else {
            return Ok(());
        };
        let path = self.file_path(index);
        if sum.digits() == self.manifest.files[index].sha256 {
            file.sync_all().map_err(|error| failed("sync", &path, &error))?;
            self.files[index].whole = true;
            return Ok(());
        }
        remove(&path)?;
        if self.files[index].failed {
            let name = &self.manifest.files[index].path;
            let what = format!(
                "{name} arrived twice with another SHA-256 than the node's manifest has: it is damaged at the node"
            );
            return Err(Failure::new(Code::Data, what).next("run `continuum-admin verify` for that node"));
        }
        self.files[index] = State {
            failed: true,
            ..State::default()
        };
        Ok(())
    }

    /// Everything was sent.
    pub(crate) fn end(&mut self) -> Result<Ended, Failure> {
        for index in 0..self.files.len() {
            // Nobody sends the bytes of a file that has none.
            if !self.files[index].whole && self.manifest.files[index].bytes == 0 {
                self.open(index)?;
                self.close()?;
            }
        }
        let whole = self.files.iter().all(|state| state.whole);
        Ok(if whole { Ended::Whole } else { Ended::Incomplete })
    }

    /// Makes a backup of it, and returns where it is.
    pub(crate) fn finish(self) -> Result<(PathBuf, Manifest), Failure> {
        let write = |name: &str, content: &str| {
            let path = self.partial.join(name);
            let written = File::create(&path).and_then(|mut file| {
                file.write_all(content.as_bytes())?;
                file.sync_all()
            });
            written.map_err(|error| failed("write", &path, &error))
        };
        let synced = |path: &Path| sync(path).map_err(|error| failed("sync", path, &error));
        synced(&self.partial.join(DATABASE))?;
        write(MANIFEST, &self.resume.manifest)?;
        write(MANIFEST_SUM, &self.resume.manifest_sum)?;
        synced(&self.partial)?;
        remove(&self.partial.join(RESUME))?;
        synced(&self.partial)?;
        fs::rename(&self.partial, &self.path).map_err(|error| failed("rename", &self.partial, &error))?;
        packed::sync_directory_of(&self.path).map_err(|error| failed("sync the folder of", &self.path, &error))?;
        Ok((self.path, self.manifest))
    }

    /// Removes what was received.
    pub(crate) fn discard(self) -> Result<(), Failure> {
        fs::remove_dir_all(&self.partial).map_err(|error| failed("remove", &self.partial, &error))
    }

    fn file_path(&self, index: usize) -> PathBuf {
        // The manifest's own reader has refused every path that leads elsewhere than into the folder of the database.
        self.partial.join(&self.manifest.files[index].path)
    }
}

/// What a directory notes of its stream, locked; nothing when there is no note, or somebody works on it.
fn noted(partial: &Path) -> Option<(File, Resume)> {
    let mut held = File::options().read(true).write(true).open(partial.join(RESUME)).ok()?;
    lock(&held).ok()?;
    let mut note = String::new();
    held.read_to_string(&mut note).ok()?;
    Some((held, serde_json::from_str(&note).ok()?))
}

fn lock(file: &File) -> io::Result<()> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::from(io::ErrorKind::WouldBlock),
        TryLockError::Error(error) => error,
    })
}

/// The manifest, once it fits its sum.
fn read_manifest(resume: &Resume) -> Result<Manifest, Failure> {
    if Manifest::sum_line(resume.manifest.as_bytes()) != resume.manifest_sum {
        return Err(confused("its manifest does not fit its sum"));
    }
    Manifest::from_json(resume.manifest.as_bytes()).map_err(|what| confused(&what))
}

/// A name that is not taken: when it was made, and by whom.
fn free_name(folder: &Path, manifest: &Manifest) -> Result<(PathBuf, PathBuf), Failure> {
    let seconds = i64::try_from(manifest.made_at.0 / 1_000_000).unwrap_or(i64::MAX);
    let at = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let plain = |character: char| {
        if character.is_ascii_alphanumeric() || "._-".contains(character) {
            character
        } else {
            '_'
        }
    };
    let node: String = manifest.node.chars().map(plain).collect();
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
fn summed(path: &Path) -> Result<(u64, Sum), Failure> {
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

fn remove(path: &Path) -> Result<(), Failure> {
    fs::remove_file(path).map_err(|error| failed("remove", path, &error))
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn text(bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|_| confused("its manifest is no text"))
}

fn json(resume: &Resume) -> String {
    serde_json::to_string_pretty(resume).expect("strings are JSON")
}

fn confused(what: &str) -> Failure {
    Failure::new(Code::Software, format!("the node's backup makes no sense: {what}"))
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> Failure {
    let code = match offline::code_of(error) {
        Code::NoInput => Code::CannotCreate,
        code => code,
    };
    Failure::new(code, format!("cannot {doing} {}: {error}", path.display()))
}
