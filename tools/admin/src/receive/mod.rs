//! A backup as it arrives, file by file, and the directory that it becomes.
//!
//! ```text
//!  Admin/Backup ─► start ─► chunk, chunk, … ──────────────────► end, with the manifest
//!                    │         │                                │
//!                    ▼         ▼                                ▼
//!   NAME.partial/resume.json  db/…  written, summed and synced  sums compared ─► backup.json, then its sum
//!                                   beside each other              ─► resume.json removed ─► renamed to NAME
//! ```
//!
//! `resume.json` holds the id of the stream and the outline, so that a later process goes on where this one was killed. It is
//! locked while a process is at work on the directory.
//!
//! Invariants: `NAME` is there whole, synced and with every sum compared, or not at all; a file whose sum does not fit is
//! asked for again once, then it is damage at the node. What was received before is read again when it is gone on with, for
//! only what was synced survives a power cut.

mod folder;
mod line;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use client::wire::{BackupChunk, BackupEnd, BackupStart, Received};
use engine::backup::{DATABASE, MANIFEST, MANIFEST_SUM, Manifest, Outline, PARTIAL};
use serde::{Deserialize, Serialize};

use self::{
    folder::{check_room, failed, free_name, is_whole, lock, remove, rename, summed, sync},
    line::{Broken, Line},
};

use crate::{
    error::{Code, Failure},
    sum::Sum,
};

/// What a stream that broke is gone on with.
const RESUME: &str = "resume.json";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Resume {
    id: String,
    /// The snapshot that was asked for; empty for the present state.
    snapshot: String,
    outline: String,
}

/// A backup under way.
#[derive(Debug)]
pub(crate) struct Receiver {
    /// The directory it becomes.
    path: PathBuf,
    partial: PathBuf,
    resume: Resume,
    outline: Outline,
    /// Once it has come, and every file is what it says.
    manifest: Option<Manifest>,
    files: Vec<State>,
    /// The file that is received now.
    open: Option<usize>,
    /// Works on what has come.
    line: Option<Line>,
    /// Held as long as this works on the directory.
    _lock: File,
}

/// How far one file is.
#[derive(Clone, Debug, Default)]
struct State {
    received_bytes: u64,
    /// SHA-256 of all of it, once it is here and synced.
    sum: Option<String>,
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
            outline: text(start.outline)?,
        };
        let outline = Outline::from_json(resume.outline.as_bytes()).map_err(|what| confused(&what))?;
        fs::create_dir_all(folder).map_err(|error| failed("create", folder, &error))?;
        check_room(folder, &outline)?;
        let (path, partial) = free_name(folder, &outline)?;
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
        Ok(Receiver::over(path, partial, resume, outline, held))
    }

    fn over(path: PathBuf, partial: PathBuf, resume: Resume, outline: Outline, held: File) -> Receiver {
        Receiver {
            path,
            partial,
            resume,
            files: vec![State::default(); outline.files.len()],
            outline,
            manifest: None,
            open: None,
            line: None,
            _lock: held,
        }
    }

    /// Takes up an interrupted backup of `snapshot` within `folder`, if there is one that `fits` and nobody works on. One that
    /// lacks nothing but its name gets it. What cannot be gone on with is left alone.
    pub(crate) fn take_up(
        folder: &Path,
        snapshot: &str,
        fits: impl Fn(&Outline) -> bool,
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
            if is_whole(&partial) {
                rename(&partial, &folder.join(name))?;
                continue;
            }
            let Some((held, resume)) = noted(&partial) else {
                continue;
            };
            let Ok(outline) = Outline::from_json(resume.outline.as_bytes()) else {
                continue;
            };
            if resume.snapshot != snapshot || !fits(&outline) {
                continue;
            }
            let mut receiver = Receiver::over(folder.join(name), partial, resume, outline, held);
            receiver.look()?;
            return Ok(Some(receiver));
        }
        Ok(None)
    }

    /// What there is of each file: of those that are all there the sum.
    fn look(&mut self) -> Result<(), Failure> {
        for index in 0..self.files.len() {
            let path = self.file_path(index);
            let expected_bytes = self.outline.files[index].bytes;
            let Ok(found) = path.symlink_metadata() else { continue };
            if !found.is_file() || found.len() > expected_bytes {
                remove(&path)?;
                continue;
            }
            if found.len() == expected_bytes {
                let (_, sum) = summed(&path)?;
                // A power cut may have come between its last byte and its sync.
                File::open(&path)
                    .and_then(|file| file.sync_all())
                    .map_err(|error| failed("sync", &path, &error))?;
                self.files[index].sum = Some(sum.digits());
            }
            self.files[index].received_bytes = found.len();
        }
        Ok(())
    }

    /// The name of the stream.
    pub(crate) fn id(&self) -> &str {
        &self.resume.id
    }

    /// What was received, for a stream that goes on.
    pub(crate) fn received(&self) -> Vec<Received> {
        let states = self.files.iter().zip(&self.outline.files);
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

    /// What files it has.
    pub(crate) fn outline(&self) -> &Outline {
        &self.outline
    }

    /// Where it is until it is whole.
    pub(crate) fn partial(&self) -> &Path {
        &self.partial
    }

    /// The first message of a stream that goes on: it must be about the same backup.
    pub(crate) fn go_on(&mut self, start: &BackupStart) -> Result<(), Failure> {
        self.settle()?;
        if start.id == self.resume.id && start.outline == self.resume.outline.as_bytes() {
            return Ok(());
        }
        Err(confused(
            "it goes on with another backup than the one that was asked for",
        ))
    }

    /// The bytes of a chunk.
    pub(crate) fn chunk(&mut self, chunk: BackupChunk) -> Result<(), Failure> {
        let index = chunk.file as usize;
        let expected = self
            .outline
            .files
            .get(index)
            .ok_or_else(|| confused("a chunk of a file that it did not announce"))?;
        let (from, bytes) = (self.files[index].received_bytes, chunk.data.len() as u64);
        let is_last = expected.bytes.checked_sub(from) == Some(bytes);
        if bytes == 0 || chunk.offset != from || bytes > expected.bytes - from {
            let at = chunk.offset;
            return Err(confused(&format!(
                "{} was to go on at byte {from}, {bytes} bytes for byte {at} came",
                expected.path
            )));
        }
        let line = self.open(index)?;
        let given = line
            .bytes(chunk.data)
            .and_then(|()| if is_last { line.end() } else { Ok(()) });
        self.or_broken(given)?;
        self.files[index].received_bytes += bytes;
        if is_last {
            self.open = None;
        }
        Ok(())
    }

    /// Goes on with a file where it ends; what is there is read again for its sum.
    fn open(&mut self, index: usize) -> Result<&Line, Failure> {
        if self.open != Some(index) {
            // What comes before is read from the disk.
            if self.files[index].received_bytes > 0 {
                self.settle()?;
            }
            let path = self.file_path(index);
            let begun = self.files[index].received_bytes > 0;
            let sum = if begun { summed(&path)?.1 } else { Sum::default() };
            let file = File::options()
                .append(begun)
                .write(true)
                .create(!begun)
                .truncate(!begun)
                .open(&path);
            let file = file.map_err(|error| failed("write", &path, &error))?;
            let given = self.line.get_or_insert_with(Line::start).begin(index, file, path, sum);
            self.or_broken(given)?;
            self.open = Some(index);
        }
        Ok(self.line.get_or_insert_with(Line::start))
    }

    /// Why something could not be given to the line.
    fn or_broken(&mut self, given: Result<(), Broken>) -> Result<(), Failure> {
        match given {
            Ok(()) => Ok(()),
            Err(Broken) => {
                self.settle()?;
                Err(confused("what was received cannot be kept"))
            }
        }
    }

    /// Waits until what was received is on disk.
    fn settle(&mut self) -> Result<(), Failure> {
        self.open = None;
        let Some(line) = self.line.take() else { return Ok(()) };
        for (index, sum) in line.settle()? {
            self.files[index].sum = Some(sum);
        }
        Ok(())
    }

    /// Everything was sent: compares it with the manifest. A file that is not what it should be is to be sent again.
    pub(crate) fn end(&mut self, end: BackupEnd) -> Result<Ended, Failure> {
        for index in 0..self.files.len() {
            // Nobody sends the bytes of a file that has none.
            if self.files[index].sum.is_none() && self.outline.files[index].bytes == 0 {
                let given = self.open(index)?.end();
                self.or_broken(given)?;
                self.open = None;
            }
        }
        self.settle()?;
        let manifest = read_manifest(&text(end.manifest)?, &text(end.manifest_sum)?)?;
        if manifest.outline() != self.outline {
            return Err(confused("it ends with another manifest than it began with"));
        }
        let mut whole = true;
        for (index, file) in manifest.files.iter().enumerate() {
            let sum = self.files[index].sum.as_ref();
            if sum.is_some_and(|sum| *sum != file.sha256) {
                self.refuse(index)?;
            }
            whole &= self.files[index].sum.is_some();
        }
        if !whole {
            return Ok(Ended::Incomplete);
        }
        self.manifest = Some(manifest);
        Ok(Ended::Whole)
    }

    /// A file is not what the manifest says.
    fn refuse(&mut self, index: usize) -> Result<(), Failure> {
        remove(&self.file_path(index))?;
        if self.files[index].failed {
            let name = &self.outline.files[index].path;
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
        let manifest = self.manifest.ok_or_else(|| confused("it has no manifest"))?;
        let json = manifest.to_json();
        synced(&self.partial.join(DATABASE))?;
        write(MANIFEST, &json)?;
        write(MANIFEST_SUM, &Manifest::sum_line(json.as_bytes()))?;
        synced(&self.partial)?;
        remove(&self.partial.join(RESUME))?;
        synced(&self.partial)?;
        rename(&self.partial, &self.path)?;
        Ok((self.path, manifest))
    }

    /// Removes what was received.
    pub(crate) fn discard(self) -> Result<(), Failure> {
        fs::remove_dir_all(&self.partial).map_err(|error| failed("remove", &self.partial, &error))
    }

    fn file_path(&self, index: usize) -> PathBuf {
        // The outline's own reader has refused every path that leads elsewhere than into the folder of the database.
        self.partial.join(&self.outline.files[index].path)
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

/// The manifest, once it fits its sum.
fn read_manifest(json: &str, sum: &str) -> Result<Manifest, Failure> {
    if Manifest::sum_line(json.as_bytes()) != sum {
        return Err(confused("its manifest does not fit its sum"));
    }
    Manifest::from_json(json.as_bytes()).map_err(|what| confused(&what))
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
