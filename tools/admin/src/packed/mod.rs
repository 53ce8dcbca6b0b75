//! Files that are plain, gzip or zstd by their names, read line by line and written whole or not at all.
//!
//! ```text
//!  NAME        plain        Source ──► Lines     bounded in memory, whatever the file holds
//!  NAME.gz     gzip
//!  NAME.zst    zstd         Target ──► NAME.partial ── finish: synced ──► renamed to NAME
//!  -           plain        standard input, standard output
//! ```
//!
//! A target that is dropped before it was finished removes what it wrote; after a kill `NAME.partial` stays, and the next
//! one of that name writes over it. `NAME` is there whole or as it was before.

mod zstd;

#[cfg(test)]
mod tests;

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use flate2::{Compression, bufread::MultiGzDecoder, write::GzEncoder};

/// Stands for standard input or output.
pub(crate) const STANDARD: &str = "-";
/// What is appended to the name of a file until it is whole.
pub(crate) const PARTIAL: &str = ".partial";
/// The longest line that is read: a whole key of 1 MiB, every byte of it escaped, and what is around it.
pub(crate) const LINE_BYTES_MAX: usize = 16 << 20;
/// Bytes read or written at once.
const BUFFER_BYTES: usize = 256 << 10;

/// How a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    fn of(path: &Path) -> Packing {
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("gz" | "gzip") => Packing::Gzip,
            Some("zst" | "zstd") => Packing::Zstd,
            _ => Packing::Plain,
        }
    }
}

/// A file that is read.
pub(crate) struct Source {
    unpacked: Box<dyn BufRead>,
    /// How far the file as it lies was read, and its length where it is known.
    read_bytes: Counter,
    total_bytes: Option<u64>,
}

impl Source {
    /// Opens a file, or standard input.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn open(path: &Path) -> io::Result<Source> {
        let read_bytes = Counter::default();
        if path == Path::new(STANDARD) {
            let counted = Counted(io::stdin().lock(), read_bytes.clone());
            return Ok(Source {
                unpacked: Box::new(BufReader::with_capacity(BUFFER_BYTES, counted)),
                read_bytes,
                total_bytes: None,
            });
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let total_bytes = metadata.is_file().then_some(metadata.len());
        let counted = BufReader::with_capacity(BUFFER_BYTES, Counted(file, read_bytes.clone()));
        let unpacked: Box<dyn BufRead> = match Packing::of(path) {
            Packing::Plain => Box::new(counted),
            Packing::Gzip => Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(counted))),
            Packing::Zstd => Box::new(BufReader::with_capacity(BUFFER_BYTES, zstd::Decoder::new(counted))),
        };
        Ok(Source {
            unpacked,
            read_bytes,
            total_bytes,
        })
    }

    /// Its lines.
    pub(crate) fn lines(self) -> Lines {
        Lines {
            source: self,
            number: 0,
            line: Vec::new(),
        }
    }
}

/// The lines of a file, one at a time.
pub(crate) struct Lines {
    source: Source,
    number: u64,
    line: Vec<u8>,
}

impl Lines {
    /// The next line without its end, and its number from 1; `None` at the end of the file.
    ///
    /// # Errors
    /// When the file cannot be read or unpacked, or the line is longer than [`LINE_BYTES_MAX`].
    pub(crate) fn next(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        self.line.clear();
        let mut within = (&mut self.source.unpacked).take(LINE_BYTES_MAX as u64 + 1);
        if within.read_until(b'\n', &mut self.line)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        if self.line.len() > LINE_BYTES_MAX {
            let what = format!("line {} is longer than {} MiB", self.number, LINE_BYTES_MAX >> 20);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Ok(Some((self.number, line)))
    }

    /// Bytes of the file read so far, as it lies on the disk.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.source.read_bytes.get()
    }

    /// Bytes of the file as it lies on the disk, where they are known.
    pub(crate) fn total_bytes(&self) -> Option<u64> {
        self.source.total_bytes
    }
}

/// A file that is written.
pub(crate) struct Target {
    /// Empty once it was finished.
    packer: Option<Packer>,
    place: Option<Place>,
}

/// Where a file goes.
struct Place {
    path: PathBuf,
    partial: PathBuf,
}

enum Packer {
    Standard(io::Stdout),
    Plain(BufWriter<File>),
    Gzip(GzEncoder<BufWriter<File>>),
    Zstd(zstd::Encoder<BufWriter<File>>),
}

impl Packer {
    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Packer::Standard(stdout) => stdout,
            Packer::Plain(file) => file,
            Packer::Gzip(encoder) => encoder,
            Packer::Zstd(encoder) => encoder,
        }
    }

    /// Everything is on its way; the file, where there is one.
    fn end(self) -> io::Result<Option<File>> {
        let file = match self {
            Packer::Standard(mut stdout) => return stdout.flush().map(|()| None),
            Packer::Plain(file) => file,
            Packer::Gzip(encoder) => encoder.finish()?,
            Packer::Zstd(encoder) => encoder.finish()?,
        };
        Ok(Some(file.into_inner().map_err(io::IntoInnerError::into_error)?))
    }
}

impl Target {
    /// Begins a file, or standard output.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn create(path: &Path) -> io::Result<Target> {
        if path == Path::new(STANDARD) {
            return Ok(Target {
                packer: Some(Packer::Standard(io::stdout())),
                place: None,
            });
        }
        let partial = partial(path);
        let file = BufWriter::with_capacity(BUFFER_BYTES, File::create(&partial)?);
        let packer = match Packing::of(path) {
            Packing::Plain => Packer::Plain(file),
            Packing::Gzip => Packer::Gzip(GzEncoder::new(file, Compression::default())),
            Packing::Zstd => Packer::Zstd(zstd::Encoder::new(file)),
        };
        Ok(Target {
            packer: Some(packer),
            place: Some(Place {
                path: path.to_owned(),
                partial,
            }),
        })
    }

    /// Makes the file durable under its name.
    ///
    /// # Errors
    /// When the system refuses; nothing is there under the name then that was not there before.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        let packer = self.packer.take().expect("only this takes it");
        let ended = packer.end().and_then(|file| match (&self.place, file) {
            (Some(place), Some(file)) => {
                file.sync_all()?;
                fs::rename(&place.partial, &place.path)?;
                sync_directory_of(&place.path)
            }
            _ => Ok(()),
        });
        if ended.is_err() {
            self.remove();
        }
        ended
    }

    fn remove(&self) {
        if let Some(place) = &self.place {
            // Best effort: whatever stays is written over the next time.
            let _ = fs::remove_file(&place.partial);
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.packer.as_mut().expect("not finished yet").writer().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.packer.as_mut().expect("not finished yet").writer().flush()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.packer.take().is_some() {
            self.remove();
        }
    }
}

/// The name of a file until it is whole.
pub(crate) fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(PARTIAL);
    PathBuf::from(name)
}

/// Makes the name of a file durable.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Bytes that went through.
#[derive(Clone, Debug, Default)]
struct Counter(std::rc::Rc<std::cell::Cell<u64>>);

impl Counter {
    fn get(&self) -> u64 {
        self.0.get()
    }
}

struct Counted<R>(R, Counter);

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.0.set(self.1.get() + count as u64);
        Ok(count)
    }
}
