//! The file that says that a node is on its way into a cluster.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use super::Error;

/// In the data directory.
const NAME: &str = "JOINING";

/// `JOINING` in a data directory: the number under which raft will know the node, in hex.
pub struct Marker {
    directory: PathBuf,
}

impl Marker {
    /// Of this data directory.
    #[must_use]
    pub fn in_directory(directory: &Path) -> Marker {
        Marker {
            directory: directory.to_owned(),
        }
    }

    /// The number, if there is the file.
    ///
    /// # Errors
    /// When it cannot be read or holds something else.
    pub fn read(&self) -> Result<Option<u64>, Error> {
        let path = self.directory.join(NAME);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Marker { path, source }),
        };
        let number = u64::from_str_radix(text.trim_end(), 16);
        let source = || io::Error::new(io::ErrorKind::InvalidData, "it holds no number");
        number.map(Some).map_err(|_| Error::Marker { path, source: source() })
    }

    /// Writes it, durably.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, number: u64) -> Result<(), Error> {
        let (path, aside) = (self.directory.join(NAME), self.directory.join("JOINING.new"));
        let kept = || {
            let mut file = File::create(&aside)?;
            writeln!(file, "{number:016x}")?;
            file.sync_all()?;
            fs::rename(&aside, &path)?;
            File::open(&self.directory)?.sync_all()
        };
        kept().map_err(|source| Error::Marker {
            path: path.clone(),
            source,
        })
    }
}
