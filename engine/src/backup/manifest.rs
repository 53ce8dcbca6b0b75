//! What a backup says of itself.
//!
//! ```text
//!  { "format": 1, "node": "replica-1", "cluster": "<32 hex>", "incarnation": "<16 hex>", "lsn": 4711, "made_at": <µs since 1970>,
//!    "files": [ { "path": "db/000012.sst", "bytes": 67108864, "sha256": "<64 hex>" }, … ] }          sorted by path
//! ```

use std::path::Path;

use serde::{Deserialize, Serialize};
use wal::Lsn;

use super::{DATABASE, Error, MANIFEST, sums, verify};
use crate::clock::Timestamp;

/// The format this build writes and reads.
pub const FORMAT: u32 = 1;

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Name of the node that was backed up.
    pub node: String,
    /// The cluster it belonged to.
    pub cluster: [u8; 16],
    /// Its life then.
    pub incarnation: u64,
    /// The last record of its log that is in the backup.
    pub lsn: Lsn,
    /// When it was made.
    pub made_at: Timestamp,
    /// Every file besides the manifest and its sum, sorted by path.
    pub files: Vec<FileSum>,
}

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSum {
    /// Where, from the backup's directory on, parts separated by `/`.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its content, in small hexadecimal digits.
    pub sha256: String,
}

/// The manifest as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    node: String,
    cluster: String,
    incarnation: String,
    lsn: u64,
    made_at: u64,
    files: Vec<FileSum>,
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl Manifest {
    /// Bytes of all files, the manifest and its sum not counted.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The manifest as it stands in its file.
    #[must_use]
    pub fn to_json(&self) -> String {
        let written = Written {
            format: FORMAT,
            node: self.node.clone(),
            cluster: sums::hex(&self.cluster),
            incarnation: format!("{:016x}", self.incarnation),
            lsn: self.lsn.0,
            made_at: self.made_at.0,
            files: self.files.clone(),
        };
        let mut json = serde_json::to_string_pretty(&written).expect("strings and numbers are JSON");
        json.push('\n');
        json
    }

    /// Reads the manifest of a backup and holds it against its own sum; the files are not looked at.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::NotABackup`], [`Error::Io`].
    pub fn read(directory: &Path) -> Result<Manifest, Error> {
        verify::manifest(directory)
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_json(json: &[u8]) -> Result<Manifest, String> {
        let unreadable = |error: serde_json::Error| format!("{MANIFEST} is not the manifest of a backup: {error}");
        let Format { format } = serde_json::from_slice(json).map_err(unreadable)?;
        if format != FORMAT {
            return Err(format!(
                "{MANIFEST} is of format {format}, this build reads {FORMAT}: use the build that made the backup, or a newer one"
            ));
        }
        let written: Written = serde_json::from_slice(json).map_err(unreadable)?;
        let number = |field: &str, text: &str| {
            let digits = (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten();
            digits.ok_or_else(|| format!("{MANIFEST}: {field} is not 16 hexadecimal digits"))
        };
        let cluster = u128::from_str_radix(&written.cluster, 16)
            .ok()
            .filter(|_| written.cluster.len() == 32)
            .ok_or_else(|| format!("{MANIFEST}: cluster is not 32 hexadecimal digits"))?;
        if let Some(file) = written.files.iter().find(|file| !is_inside(&file.path)) {
            return Err(format!("{MANIFEST} names a file outside of the backup: {}", file.path));
        }
        Ok(Manifest {
            incarnation: number("incarnation", &written.incarnation)?,
            node: written.node,
            cluster: cluster.to_be_bytes(),
            lsn: Lsn(written.lsn),
            made_at: Timestamp(written.made_at),
            files: written.files,
        })
    }

    /// What stands in the file of the manifest's sum.
    #[must_use]
    pub fn sum_line(json: &[u8]) -> String {
        format!("{}  {MANIFEST}\n", sums::of_bytes(json))
    }
}

/// Whether a path of a manifest is one that a backup may hold: a name right in the folder of the database.
fn is_inside(path: &str) -> bool {
    let name = path.strip_prefix(DATABASE).and_then(|rest| rest.strip_prefix('/'));
    name.is_some_and(|name| !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']))
}
