//! The bytes of a segment around its groups: a header block, and a footer once it is sealed.
//!
//! ```text
//!  0                4096                          end                 capacity − 64      capacity
//!  ├ header block   ┼ group ┼ group ┼ … ┼ group    ┼ zeros              ┼ footer          ┤
//!  header: magic, version, CRC, number, first LSN, last LSN and digest of the segment before, capacity, owner
//!  footer: magic, number, first LSN, last LSN, end, digest of bytes 0..end, CRC
//! ```
//!
//! Numbers count up by one, so that a missing file shows. The digest covers the header block, which holds the digest
//! of the segment before: a chain over the whole log, in which no segment of another log fits.

use xxhash_rust::xxh3::Xxh3;

use crate::{
    Lsn,
    group::{u32_at, u64_at},
};

/// The header block; the first group follows it.
pub(crate) const HEADER_BYTES: u64 = 4096;
/// The footer, at the very end of the file.
pub(crate) const FOOTER_BYTES: u64 = 64;
/// The largest owner blob a segment header can carry.
pub const OWNER_BYTES_MAX: usize = 1024;
/// The format this build writes and reads.
pub(crate) const VERSION: u32 = 1;

/// Magic, version and the CRC over the whole block stay where they are in every version, so that an old build can tell
/// a newer format from damage.
const HEADER_MAGIC: [u8; 8] = *b"CNTMLOG\n";
const FOOTER_MAGIC: [u8; 8] = *b"CNTMEND\n";
const SUFFIX: &str = ".log";

/// What a segment says about itself and the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) number: u64,
    /// LSN of the segment's first record, whether it has come yet or not.
    pub(crate) first: Lsn,
    /// Last LSN of the segment before; all of it was synced before this header was written.
    pub(crate) previous_last: Lsn,
    pub(crate) previous_digest: u128,
    /// Length of the file.
    pub(crate) capacity: u64,
    pub(crate) owner: Vec<u8>,
}

/// What reading a header block found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// A header, and the salt of its groups.
    Header(Header, u32),
    /// A whole header of another format version.
    Version(u32),
    /// Not a header, or a torn one.
    Nothing,
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut block = vec![0; HEADER_BYTES as usize];
        block[..8].copy_from_slice(&HEADER_MAGIC);
        block[8..12].copy_from_slice(&VERSION.to_le_bytes());
        block[16..24].copy_from_slice(&self.number.to_le_bytes());
        block[24..32].copy_from_slice(&self.first.0.to_le_bytes());
        block[32..40].copy_from_slice(&self.previous_last.0.to_le_bytes());
        block[40..56].copy_from_slice(&self.previous_digest.to_le_bytes());
        block[56..64].copy_from_slice(&self.capacity.to_le_bytes());
        let owner_bytes = u32::try_from(self.owner.len()).expect("Log::open bounds the owner");
        block[64..68].copy_from_slice(&owner_bytes.to_le_bytes());
        block[72..72 + self.owner.len()].copy_from_slice(&self.owner);
        let crc = header_crc(&block);
        block[12..16].copy_from_slice(&crc.to_le_bytes());
        block
    }

    pub(crate) fn decode(block: &[u8]) -> Decoded {
        if block.len() < HEADER_BYTES as usize || block[..8] != HEADER_MAGIC || u32_at(block, 12) != header_crc(block) {
            return Decoded::Nothing;
        }
        let version = u32_at(block, 8);
        if version != VERSION {
            return Decoded::Version(version);
        }
        let owner_bytes = u32_at(block, 64) as usize;
        let header = Header {
            number: u64_at(block, 16),
            first: Lsn(u64_at(block, 24)),
            previous_last: Lsn(u64_at(block, 32)),
            previous_digest: u128_at(block, 40),
            capacity: u64_at(block, 56),
            owner: block[72..].get(..owner_bytes).unwrap_or_default().to_vec(),
        };
        let sane = owner_bytes <= OWNER_BYTES_MAX
            && header.number > 0
            && header.first > header.previous_last
            && header.capacity >= HEADER_BYTES + FOOTER_BYTES;
        if sane {
            Decoded::Header(header, u32_at(block, 12))
        } else {
            Decoded::Nothing
        }
    }

    /// Where groups must end.
    pub(crate) fn groups_end_max(&self) -> u64 {
        self.capacity - FOOTER_BYTES
    }
}

fn header_crc(block: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&block[..12]);
    crc.update(&block[16..HEADER_BYTES as usize]);
    crc.finalize()
}

/// The seal of a full segment, written after everything before it was synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) number: u64,
    pub(crate) first: Lsn,
    /// The last record; one below `first` when there is none.
    pub(crate) last: Lsn,
    /// Where the groups end.
    pub(crate) end: u64,
    /// Over the bytes up to `end`.
    pub(crate) digest: u128,
}

impl Footer {
    pub(crate) fn encode(&self) -> [u8; FOOTER_BYTES as usize] {
        let mut bytes = [0; FOOTER_BYTES as usize];
        bytes[..8].copy_from_slice(&FOOTER_MAGIC);
        bytes[8..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.last.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.end.to_le_bytes());
        bytes[40..56].copy_from_slice(&self.digest.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..56]);
        bytes[56..60].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` when the bytes are not the footer of segment `number`.
    pub(crate) fn decode(bytes: &[u8], number: u64) -> Option<Footer> {
        let bytes: &[u8; FOOTER_BYTES as usize] = bytes.try_into().ok()?;
        if bytes[..8] != FOOTER_MAGIC
            || u32_at(bytes, 56) != crc32fast::hash(&bytes[..56])
            || u64_at(bytes, 8) != number
        {
            return None;
        }
        Some(Footer {
            number,
            first: Lsn(u64_at(bytes, 16)),
            last: Lsn(u64_at(bytes, 24)),
            end: u64_at(bytes, 32),
            digest: u128_at(bytes, 40),
        })
    }
}

/// A running digest of a segment, begun with its header block.
pub(crate) fn digest_of(header_block: &[u8]) -> Xxh3 {
    let mut digest = Xxh3::new();
    digest.update(header_block);
    digest
}

/// The file of segment `number`.
pub(crate) fn file_name(number: u64) -> String {
    format!("{number:020}{SUFFIX}")
}

/// The segment number in a file's name; `None` for files that are not segments.
pub(crate) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

fn u128_at(bytes: &[u8], offset: usize) -> u128 {
    u128::from_le_bytes(
        *bytes[offset..]
            .first_chunk()
            .expect("a fixed field inside a fixed-size block"),
    )
}

#[cfg(test)]
mod tests;
