//! A store of the Python system, read as it lies in its directory.
//!
//! ```text
//!  DIR/NODE.json                          a member: when it registered, whether it showed the constant   ┐
//!  DIR/contributions/contributions.json   members: totals given and taken, latest contributions          ├─► Member
//!  DIR/shared/knowledge.json              the pool: sum → concept, use; sum → who gave it                ──► Pooled
//!  DIR/replication/replication_NODE.json  one replica: key → value, who wrote it, its clock, its sum     ──► Key
//! ```
//!
//! Every concept of the pool and every replicated value is checked against the SHA-256 that stands beside it. What is wrong is
//! a [`Fault`] with its file and key; whatever has none is read all the same, and whoever imports decides whether that is
//! enough. A file that ends too early is a fault of the whole file: none of it is used.
//!
//! A replicated key becomes the state that Continuum would have: its writer, in the one life that the Python system had, the
//! how-many-eth write from its clock, the clock as what was seen. Two replicas of one store so join into what both saw.
//!
//! Memory: one store, which the Python system held in memory as a whole too. Nothing is written here, and no node is asked.

mod dumps;
mod members;
mod pool;
mod replicas;
mod slices;

#[cfg(test)]
mod tests;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use client::wire::{KeyState, PoolMember};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde_json::Value;

use crate::rules;

/// All that was found in a store.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Store {
    /// In the order of their ids.
    pub(crate) members: Vec<PoolMember>,
    /// In the order of the file.
    pub(crate) pool: Vec<Pooled>,
    /// Replica by replica; a key that two replicas hold is there twice.
    pub(crate) keys: Vec<KeyState>,
    /// Files that were read.
    pub(crate) files: usize,
    /// What cannot be used.
    pub(crate) faults: Vec<Fault>,
}

/// A concept of the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pooled {
    /// The concept: JSON, its fields in the order of the file.
    pub(crate) json: String,
    /// When it was first given.
    pub(crate) first_contributed: Option<prost_types::Timestamp>,
    /// How often it was delivered.
    pub(crate) usage_count: u64,
    /// Who gave it, the first one first; may be empty.
    pub(crate) contributors: Vec<String>,
    /// Where it stands, for whoever has to name it.
    pub(crate) place: String,
}

/// Something in the store that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The file, from the store's directory on.
    pub(crate) file: String,
    /// The key or sum in it; empty when it is the whole file.
    pub(crate) key: String,
    /// What is wrong.
    pub(crate) what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { file, key, what } = self;
        if key.is_empty() {
            write!(formatter, "{file}: {what}")
        } else {
            write!(formatter, "{file}: {key}: {what}")
        }
    }
}

/// Why nothing was read at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The directory holds none of the files.
    #[error("{} holds no store of the Python system: no shared/knowledge.json, no contributions/contributions.json, no replication/replication_*.json, no NODE.json", .0.display())]
    NoStore(PathBuf),
    /// The system refused.
    #[error("cannot read {}: {source}", .path.display())]
    Io {
        /// What was to be read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Reads a store. `namespace` is where its replicated keys are to go: it is part of what names the Python system's life.
///
/// # Errors
/// When it cannot be read, or is none. What is wrong within it is in [`Store::faults`].
pub(crate) fn read(directory: &Path, namespace: &str) -> Result<Store, Error> {
    let mut reading = Reading {
        directory,
        store: Store::default(),
    };
    members::read(&mut reading)?;
    pool::read(&mut reading)?;
    replicas::read(&mut reading, namespace)?;
    if reading.store.files == 0 {
        return Err(Error::NoStore(directory.to_owned()));
    }
    Ok(reading.store)
}

/// A store that is being read.
struct Reading<'a> {
    directory: &'a Path,
    store: Store,
}

impl Reading<'_> {
    fn fault(&mut self, file: &str, key: &str, what: impl Into<String>) {
        self.store.faults.push(Fault {
            file: file.to_owned(),
            key: key.to_owned(),
            what: what.into(),
        });
    }

    /// The text of a file that may be absent; one that is no text is a fault.
    fn text(&mut self, file: &str) -> Result<Option<String>, Error> {
        let path = self.directory.join(file);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            outcome => outcome.map_err(|source| Error::Io { path, source })?,
        };
        self.store.files += 1;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(error) => {
                let offset = error.utf8_error().valid_up_to();
                self.fault(
                    file,
                    "",
                    format!("it is no text at byte {offset}: nothing of it can be used"),
                );
                Ok(None)
            }
        }
    }

    /// The fields of the object that a file is; one that is none is a fault.
    fn fields<'t>(&mut self, file: &str, text: &'t str) -> Option<Vec<slices::Field<'t>>> {
        slices::fields(text)
            .map_err(|broken| {
                let lines = 1 + text.as_bytes()[..broken.offset]
                    .iter()
                    .filter(|&&byte| byte == b'\n')
                    .count();
                let what = format!("{} (line {lines}): nothing of it can be used", broken.what);
                self.fault(file, "", what);
            })
            .ok()
    }

    /// The fields of an object inside of a file.
    fn inner<'t>(&mut self, file: &str, name: &str, text: &'t str) -> Vec<slices::Field<'t>> {
        slices::fields(text).unwrap_or_else(|broken| {
            self.fault(file, name, broken.what);
            Vec::new()
        })
    }

    /// Names of the files in a folder that end as given, sorted; none when there is no such folder.
    fn names(&self, folder: &str) -> Result<Vec<String>, Error> {
        let path = self.directory.join(folder);
        let failed = |source| Error::Io {
            path: path.clone(),
            source,
        };
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.is_empty() => return Ok(Vec::new()),
            outcome => outcome.map_err(failed)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // A symbolic link to a file is as good as the file.
            if name.ends_with(".json") && entry.path().is_file() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// Reads one value strictly.
fn value(text: &str) -> Result<Value, String> {
    rules::json(text.as_bytes())
}

/// A name that stands in its quotes; as it stands there when it is none.
fn name(quoted: &str) -> Result<String, String> {
    match value(quoted) {
        Ok(Value::String(name)) => Ok(name),
        Ok(_) => Err("a name must be a string".to_owned()),
        Err(error) => Err(error),
    }
}

/// The id of a member, by the rules of the federation.
fn member_id(id: &str) -> Result<String, String> {
    let checked = engine::ledger::NodeId::new(id).map_err(|error| format!("{id:?} can be no member's id: {error}"))?;
    Ok(checked.as_str().to_owned())
}

/// A field's text, when it is there and not `null`.
fn text<'v>(object: &'v Value, name: &str) -> Result<Option<&'v str>, String> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(format!("`{name}` must be a string, was {other}")),
    }
}

/// A field's whole number, 0 when it is absent: Python counts with floats, `25.0`.
fn count(object: &Value, name: &str) -> Result<u64, String> {
    let wrong = |found: &Value| format!("`{name}` must be a whole number from 0 on, was {found}");
    match object.get(name) {
        None | Some(Value::Null) => Ok(0),
        Some(found @ Value::Number(number)) => {
            let digits = number.as_str();
            let whole = digits.strip_suffix(".0").unwrap_or(digits);
            whole.parse().map_err(|_| wrong(found))
        }
        Some(other) => Err(wrong(other)),
    }
}

/// A time as Python's `isoformat` wrote it; one without a zone is UTC, which the Python system kept its times in.
fn time(object: &Value, name: &str) -> Result<Option<prost_types::Timestamp>, String> {
    let Some(written) = text(object, name)? else {
        return Ok(None);
    };
    let zoned = written.parse::<Timestamp>();
    let read = zoned.or_else(|_| {
        written
            .parse::<DateTime>()?
            .to_zoned(TimeZone::UTC)
            .map(|zoned| zoned.timestamp())
    });
    let read =
        read.map_err(|_| format!("`{name}` must be a time such as 2026-11-22T13:51:19.718713+00:00, was {written:?}"))?;
    if read < Timestamp::UNIX_EPOCH {
        return Err(format!("`{name}` is before 1970: {written:?}"));
    }
    Ok(Some(prost_types::Timestamp {
        seconds: read.as_second(),
        nanos: read.subsec_nanosecond(),
    }))
}
