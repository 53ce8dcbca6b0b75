//! Reading a file forwards in large pieces.

use std::io;

use crate::storage::File;

/// A piece of a file in memory, moved along as its reader goes.
pub(crate) struct Window {
    bytes: Vec<u8>,
    /// Where `bytes` begins in the file.
    offset: u64,
    /// How much is read at once, at least.
    ahead: usize,
}

impl Window {
    pub(crate) fn new(ahead: usize) -> Window {
        Window {
            bytes: Vec::new(),
            offset: 0,
            ahead,
        }
    }

    /// The `length` bytes at `offset`; fewer only at the end of the file.
    pub(crate) fn at(&mut self, file: &dyn File, offset: u64, length: usize) -> io::Result<&[u8]> {
        let held = offset >= self.offset && offset + length as u64 <= self.offset + self.bytes.len() as u64;
        if !held {
            self.fill(file, offset, length.max(self.ahead))?;
        }
        let start = (offset - self.offset) as usize;
        Ok(&self.bytes[start..(start + length).min(self.bytes.len())])
    }

    /// Forgets what it holds: the file has changed, or is another one.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    fn fill(&mut self, file: &dyn File, offset: u64, length: usize) -> io::Result<()> {
        self.bytes.resize(length, 0);
        self.offset = offset;
        let outcome = read_full(file, &mut self.bytes, offset);
        self.bytes.truncate(*outcome.as_ref().unwrap_or(&0));
        outcome.map(|_| ())
    }
}

/// Reads until `buffer` is full or the file ends; returns the bytes read.
pub(crate) fn read_full(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}
