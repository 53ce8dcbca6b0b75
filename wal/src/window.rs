//! Reading a file forwards in large pieces.

use std::io;

use crate::storage::File;

/// A piece of a file in memory, moved along as its reader goes. It reads little at first and more each time.
pub(crate) struct Window {
    bytes: Vec<u8>,
    /// Where `bytes` begins in the file.
    offset: u64,
    /// How much is read the next time, at least.
    ahead: usize,
    ahead_min: usize,
    ahead_max: usize,
}

impl Window {
    pub(crate) fn new(ahead_min: usize, ahead_max: usize) -> Window {
        Window {
            bytes: Vec::new(),
            offset: 0,
            ahead: ahead_min,
            ahead_min,
            ahead_max,
        }
    }

    /// The `length` bytes at `offset`; fewer only at the end of the file.
    pub(crate) fn at(&mut self, file: &dyn File, offset: u64, length: usize) -> io::Result<&[u8]> {
        let held = offset >= self.offset && offset + length as u64 <= self.offset + self.bytes.len() as u64;
        if !held {
            self.fill(file, offset, length.max(self.ahead))?;
            self.ahead = (self.ahead * 2).min(self.ahead_max);
        }
        let start = (offset - self.offset) as usize;
        Ok(&self.bytes[start..(start + length).min(self.bytes.len())])
    }

    /// Forgets what it holds, because the file has changed, and begins again with little.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(self.ahead_min);
        self.ahead = self.ahead_min;
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
