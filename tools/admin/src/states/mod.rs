//! The lossless form of a namespace: JSON Lines that keep types, concurrent values, contexts, stamps and deletions.
//!
//! ```text
//!  {"continuum_export":1,"namespace":{"name":"notes","replication":"mesh","strategy":"last_write_wins"}}
//!  {"key":"k","context":[["replica-1","00000000000000a7",3]],"entries":[{"dot":["replica-1","00000000000000a7",3],"stamp":…,"register":"{\"a\":1}"}]}
//!  {"key":"gone","context":[["replica-1","00000000000000a7",4]],"entries":[]}
//!  {"end":{"keys":2,"sha256":"…"}}
//! ```
//!
//! Keys come in byte order; numbers, names and texts have one spelling each; nothing stands in it that differs between two
//! nodes which hold the same: so what is exported, imported elsewhere and exported again is equal byte for byte. The JSON of a
//! value is a string, so that its own bytes survive. The sum is that of all lines before the last: a file that was cut or
//! changed is noticed.

mod line;

#[cfg(test)]
mod tests;

use client::wire::KeyState;
use serde::{Deserialize, Serialize};

use crate::sum::Sum;

/// The form that this program writes and reads.
pub(crate) const FORM: u32 = 1;

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    continuum_export: u32,
    /// What was exported.
    pub(crate) namespace: Namespace,
}

/// A namespace as it was created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Namespace {
    /// Its name.
    pub(crate) name: String,
    /// `mesh` or `consensus`.
    pub(crate) replication: String,
    /// What becomes of concurrent registers: `last_write_wins` and the others.
    pub(crate) strategy: String,
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Last {
    end: End,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    keys: u64,
    sha256: String,
}

/// Makes the lines of an export.
pub(crate) struct Writer {
    keys: u64,
    sum: Sum,
}

impl Writer {
    /// Begins one: with its first line, its end included.
    pub(crate) fn begin(namespace: Namespace) -> (Writer, String) {
        let header = Header {
            continuum_export: FORM,
            namespace,
        };
        let mut writer = Writer {
            keys: 0,
            sum: Sum::default(),
        };
        let line = writer.told(json(&header));
        (writer, line)
    }

    /// The line of one key.
    pub(crate) fn key(&mut self, state: &KeyState) -> String {
        self.keys += 1;
        self.told(json(&line::Line::from(state)))
    }

    /// Keys so far.
    pub(crate) fn keys(&self) -> u64 {
        self.keys
    }

    /// The last line.
    pub(crate) fn end(self) -> String {
        let end = End {
            keys: self.keys,
            sha256: self.sum.digits(),
        };
        let mut line = json(&Last { end });
        line.push('\n');
        line
    }

    fn told(&mut self, mut line: String) -> String {
        line.push('\n');
        self.sum.add(line.as_bytes());
        line
    }
}

/// Reads the lines of an export.
#[derive(Debug)]
pub(crate) struct Reader {
    keys: u64,
    sum: Sum,
    last: Option<String>,
    ended: bool,
}

/// What a line says.
#[derive(Debug, PartialEq)]
pub(crate) enum Read {
    /// The state of a key.
    Key(KeyState),
    /// The file is whole.
    End,
}

impl Reader {
    /// Begins with the first line; `None` when it is no header, so that the file is of another form.
    ///
    /// # Errors
    /// When it is a header that cannot be read.
    pub(crate) fn begin(first: &[u8]) -> Option<Result<(Reader, Header), String>> {
        #[derive(Deserialize)]
        struct Form {
            continuum_export: u64,
        }
        let Form { continuum_export: form } = serde_json::from_slice(first).ok()?;
        if form != u64::from(FORM) {
            return Some(Err(format!(
                "the export is of form {form}, this program reads {FORM}: use a newer continuum-admin"
            )));
        }
        let mut reader = Reader {
            keys: 0,
            sum: Sum::default(),
            last: None,
            ended: false,
        };
        reader.heard(first);
        let header = serde_json::from_slice(first).map_err(|error| format!("the header cannot be read: {error}"));
        Some(header.map(|header| (reader, header)))
    }

    /// The next line.
    ///
    /// # Errors
    /// What is wrong with it, or with all that came before it.
    pub(crate) fn next(&mut self, line: &[u8]) -> Result<Read, String> {
        if self.ended {
            return Err("something follows the last line of the export".to_owned());
        }
        if line.starts_with(b"{\"end\":") {
            let Last { end } =
                serde_json::from_slice(line).map_err(|error| format!("the last line cannot be read: {error}"))?;
            self.ended = true;
            return self.whole(&end);
        }
        let state = line::Line::read(line)?;
        if self.last.as_ref().is_some_and(|last| *last >= state.key) {
            return Err(format!(
                "the key {:?} is not in order: lines were moved or doubled",
                state.key
            ));
        }
        self.last = Some(state.key.clone());
        self.keys += 1;
        self.heard(line);
        Ok(Read::Key(state))
    }

    /// The file has no more lines.
    ///
    /// # Errors
    /// When it should have.
    pub(crate) fn end(&self) -> Result<(), String> {
        if self.ended {
            return Ok(());
        }
        Err(format!(
            "the export is cut off after {} keys: its last line is missing",
            self.keys
        ))
    }

    fn heard(&mut self, line: &[u8]) {
        self.sum.add(line);
        self.sum.add(b"\n");
    }

    fn whole(&mut self, end: &End) -> Result<Read, String> {
        if end.keys != self.keys {
            return Err(format!(
                "the last line tells of {} keys, there were {}",
                end.keys, self.keys
            ));
        }
        if end.sha256 != std::mem::take(&mut self.sum).digits() {
            return Err("the lines do not fit the SHA-256 in the last one: the file was changed".to_owned());
        }
        Ok(Read::End)
    }
}

fn json(line: &impl Serialize) -> String {
    serde_json::to_string(line).expect("strings and numbers are JSON")
}
