//! Chunks of an image: framing, checksums, and what is in them.
//!
//! ```text
//!  chunk   = length of body (u32 LE) ‖ XXH3-64 of (number of the chunk (u64 LE) ‖ body) (u64 LE) ‖ body
//!  body    = kind (u8) ‖ content
//!   1 header   version 1 ‖ cluster (16) ‖ Applied          the first
//!   2 rows     a log record's body: version 1 ‖ (family, key, value)*
//!   3 states   actors: list of (node, incarnation) ‖ (key, state)*, actors as places in the list
//!   4 end      rows (u64), states (u64)                    the last
//! ```

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::keyspace::{
    codec::{First, RECORD_BYTES_MAX},
    raft_state::Applied,
};

pub(super) const HEADER: u8 = 1;
pub(super) const ROWS: u8 = 2;
pub(super) const STATES: u8 = 3;
pub(super) const END: u8 = 4;

/// What a file begins with, besides its framing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) cluster: [u8; 16],
    pub(super) applied: Applied,
}
impl First for Header {}

/// What a file ends with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) rows: u64,
    pub(super) states: u64,
}
impl First for End {}

fn sum(number: u64, body: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(body);
    hasher.digest()
}

/// What stands before a body: its length and its sum.
const HEAD_BYTES: usize = 12;

/// The bytes of a chunk with this body.
pub(super) fn bytes(body: &[u8]) -> u64 {
    (HEAD_BYTES + body.len()) as u64
}

/// Writes chunks, one after the other.
pub(super) struct Writer<W> {
    out: W,
    number: u64,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W) -> Writer<W> {
        Writer { out, number: 0 }
    }

    /// Writes a body, its kind in front.
    pub(super) fn put(&mut self, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&sum(self.number, body).to_le_bytes())?;
        self.out.write_all(body)?;
        self.number += 1;
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

/// What is wrong with a chunk.
pub(super) enum Wrong {
    Io(io::Error),
    Damaged(String),
}

/// Reads chunks.
pub(super) struct Reader<R> {
    from: R,
    pub(super) number: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(from: R) -> Reader<R> {
        Reader { from, number: 0 }
    }

    /// The next body; `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, Wrong> {
        let mut head = [0; HEAD_BYTES];
        let mut filled = 0;
        while filled < head.len() {
            match self.from.read(&mut head[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(Wrong::Damaged("it is cut short".to_owned())),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Wrong::Io(error)),
            }
        }
        let (length, expected) = head.split_at(4);
        let length = u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
        let expected = u64::from_le_bytes(expected.try_into().expect("eight bytes"));
        if length > RECORD_BYTES_MAX {
            return Err(Wrong::Damaged(format!("{length} bytes is no length")));
        }
        let mut body = Vec::new();
        let limit = length as u64;
        (&mut self.from).take(limit).read_to_end(&mut body).map_err(Wrong::Io)?;
        if body.len() < length {
            return Err(Wrong::Damaged("it is cut short".to_owned()));
        }
        if sum(self.number, &body) != expected {
            return Err(Wrong::Damaged("its checksum does not fit".to_owned()));
        }
        self.number += 1;
        Ok(Some(body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::codec::golden;

    #[test]
    fn golden_bytes() {
        let header = Header {
            cluster: [7; 16],
            applied: Applied::default(),
        };
        golden(&header, &[&[1][..], &[7; 16], &[0, 0, 0, 0, 0]].concat());
        golden(&End { rows: 300, states: 2 }, &[1, 251, 44, 1, 2]);
        let mut writer = Writer::new(Vec::new());
        writer.put(&[END, 1]).unwrap();
        let bytes = writer.finish().unwrap();
        assert_eq!(bytes, [2, 0, 0, 0, 203, 146, 5, 199, 118, 95, 246, 217, 4, 1]);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let mut writer = Writer::new(Vec::new());
        for body in [&[HEADER, 1, 2][..], &[ROWS], &[END; 40]] {
            writer.put(body).unwrap();
        }
        let bytes = writer.finish().unwrap();
        let read = |bytes: &[u8]| {
            let mut reader = Reader::new(bytes);
            let mut bodies = Vec::new();
            loop {
                match reader.next() {
                    Ok(Some(body)) => bodies.push(body),
                    Ok(None) => return Some(bodies),
                    Err(_) => return None,
                }
            }
        };
        assert_eq!(read(&bytes).unwrap().len(), 3);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&flipped), None, "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_none_or(|bodies| bodies.len() < 3));
        }
    }
}
