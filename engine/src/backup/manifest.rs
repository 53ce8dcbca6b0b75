//! What a backup says of itself.
//!
//! ```text
//!  { "format": 1, "node": "replica-1", "cluster": "<32 hex>", "incarnation": "<16 hex>", "lsn": 4711, "made_at": <µs since 1970>,
//!    "files": [ { "path": "db/000012.sst", "bytes": 67108864, "sha256": "<64 hex>" }, … ] }          sorted by path
//! ```
//!
//! An [`Outline`] is the same before anything was summed: its files have no `sha256`.

use std::path::Path;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use wal::Lsn;

use super::{DATABASE, Error, MANIFEST, sums, verify};
use crate::clock::Timestamp;

/// The format this build writes and reads.
pub const FORMAT: u32 = 1;

/// What a backup says of itself: whose it is, and what files it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents<F> {
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
    pub files: Vec<F>,
}

/// What a backup says of itself.
pub type Manifest = Contents<FileSum>;

/// What is known of a backup before its files were read.
pub type Outline = Contents<FileLength>;

/// What is known of one file.
pub trait Entry: Serialize + DeserializeOwned + Clone {
    /// Where, from the backup's directory on, parts separated by `/`.
    fn path(&self) -> &str;
    /// Its length.
    fn bytes(&self) -> u64;
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

/// One file that was not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileLength {
    /// Where, from the backup's directory on, parts separated by `/`.
    pub path: String,
    /// Its length.
    pub bytes: u64,
}

impl Entry for FileSum {
    fn path(&self) -> &str {
        &self.path
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Entry for FileLength {
    fn path(&self) -> &str {
        &self.path
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The contents as they are written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<F> {
    format: u32,
    node: String,
    cluster: String,
    incarnation: String,
    lsn: u64,
    made_at: u64,
    files: Vec<F>,
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl<F: Entry> Contents<F> {
    /// Bytes of all files, the manifest and its sum not counted.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(Entry::bytes).sum()
    }

    /// The contents as they stand in a file.
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

    /// Reads contents.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn from_json(json: &[u8]) -> Result<Contents<F>, String> {
        let unreadable = |error: serde_json::Error| format!("{MANIFEST} is not the manifest of a backup: {error}");
        let Format { format } = serde_json::from_slice(json).map_err(unreadable)?;
        if format != FORMAT {
            return Err(format!(
                "{MANIFEST} is of format {format}, this build reads {FORMAT}: use the build that made the backup, or a newer one"
            ));
        }
        let written: Written<F> = serde_json::from_slice(json).map_err(unreadable)?;
        let number = |field: &str, text: &str| {
            let digits = (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten();
            digits.ok_or_else(|| format!("{MANIFEST}: {field} is not 16 hexadecimal digits"))
        };
        let cluster = u128::from_str_radix(&written.cluster, 16)
            .ok()
            .filter(|_| written.cluster.len() == 32)
            .ok_or_else(|| format!("{MANIFEST}: cluster is not 32 hexadecimal digits"))?;
        if let Some(file) = written.files.iter().find(|file| !is_inside(file.path())) {
            return Err(format!(
                "{MANIFEST} names a file outside of the backup: {}",
                file.path()
            ));
        }
        Ok(Contents {
            incarnation: number("incarnation", &written.incarnation)?,
            node: written.node,
            cluster: cluster.to_be_bytes(),
            lsn: Lsn(written.lsn),
            made_at: Timestamp(written.made_at),
            files: written.files,
        })
    }

    /// With other knowledge of the files.
    fn with_files<G>(&self, files: Vec<G>) -> Contents<G> {
        Contents {
            node: self.node.clone(),
            cluster: self.cluster,
            incarnation: self.incarnation,
            lsn: self.lsn,
            made_at: self.made_at,
            files,
        }
    }
}

impl Outline {
    /// The manifest, once the SHA-256 of every file is known, in the order of the files.
    #[must_use]
    pub fn with_sums(&self, sums: impl IntoIterator<Item = String>) -> Manifest {
        let summed = |(file, sha256): (&FileLength, String)| FileSum {
            path: file.path.clone(),
            bytes: file.bytes,
            sha256,
        };
        self.with_files(self.files.iter().zip(sums).map(summed).collect())
    }
}

impl Manifest {
    /// Reads the manifest of a backup and holds it against its own sum; the files are not looked at.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::NotABackup`], [`Error::Io`].
    pub fn read(directory: &Path) -> Result<Manifest, Error> {
        verify::manifest(directory)
    }

    /// The same without the sums.
    #[must_use]
    pub fn outline(&self) -> Outline {
        let length = |file: &FileSum| FileLength {
            path: file.path.clone(),
            bytes: file.bytes,
        };
        self.with_files(self.files.iter().map(length).collect())
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
