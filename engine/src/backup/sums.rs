//! SHA-256 of files, and bytes as hexadecimal digits.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read as _, Write as _},
    path::Path,
};

use sha2::{Digest as _, Sha256};

/// Read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Small hexadecimal digits, as `sha256sum` prints them.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// SHA-256 of bytes in memory.
pub(super) fn of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Length and SHA-256 of a file; `read` is told of every piece.
pub(super) fn of_file(path: &Path, read: &mut dyn FnMut(u64)) -> io::Result<(u64, String)> {
    pump(&mut File::open(path)?, None, read)
}

/// Copies a file to one that is not there yet, and syncs it; length and SHA-256 of what was copied.
pub(super) fn copy(from: &Path, to: &Path, read: &mut dyn FnMut(u64)) -> io::Result<(u64, String)> {
    let mut copy = File::options().write(true).create_new(true).open(to)?;
    let sum = pump(&mut File::open(from)?, Some(&mut copy), read)?;
    copy.sync_all()?;
    Ok(sum)
}

fn pump(from: &mut File, mut to: Option<&mut File>, read: &mut dyn FnMut(u64)) -> io::Result<(u64, String)> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let (mut bytes, mut sum) = (0, Sha256::new());
    loop {
        let count = match from.read(&mut chunk) {
            Ok(0) => return Ok((bytes, hex(&sum.finalize()))),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            outcome => outcome?,
        };
        sum.update(&chunk[..count]);
        if let Some(to) = &mut to {
            to.write_all(&chunk[..count])?;
        }
        bytes += count as u64;
        read(count as u64);
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Writes a whole small file, durably but for its name.
pub(super) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}
