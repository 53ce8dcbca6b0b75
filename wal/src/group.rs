//! The bytes of one group: what one `append` writes and what recovery keeps or drops as a whole.
//!
//! ```text
//!  0       4          8        12         16          24               32      36         40      41     48
//!  ├ magic ┼ head CRC ┼ length ┼ body CRC ┼ first LSN ┼ synced_through ┼ count ┼ previous ┼ flags ┼ zero ┼ records, zeros to 8 ┤
//!                     └─────────── head CRC covers these, from the segment's salt on ─────────────────────┴ body CRC ───────────┘
//!  record: │ body length u32 │ caller's header u8 │ body │
//! ```
//!
//! All integers are little-endian.
//!
//! - Two CRCs and not one: a head that proves itself tells the length and `synced_through` even where the body is torn;
//!   and recovery, which looks for heads at every eighth byte of a damaged segment, must not compute a CRC over megabytes
//!   for each thing that looks like one.
//! - The salt (the segment header's own CRC) makes a copy of another segment, stored as a record's body, no group here.
//! - `previous` is the head CRC of the group before (of the first group: the salt). A group left over from before a
//!   truncation can therefore never follow a group written after it.

use crate::Lsn;

/// Bytes before the first record of a group.
pub(crate) const HEADER_BYTES: usize = 48;
/// Groups begin at multiples of this.
pub(crate) const ALIGNMENT: u64 = 8;
/// The first four bytes of every group, as they stand on disk.
pub(crate) const MAGIC: [u8; 4] = *b"GRP1";
/// What a group costs beyond its records, at most.
pub const GROUP_OVERHEAD_BYTES: usize = HEADER_BYTES + ALIGNMENT as usize - 1;
/// What a record costs beyond its body.
pub const RECORD_OVERHEAD_BYTES: usize = 5;

/// One record to append.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The caller's own tag; the log does not look at it.
    pub header: u8,
    /// The record itself, opaque.
    pub body: &'a [u8],
}

/// A group's head whose CRC was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The head's own CRC: what the next group names as `previous`.
    pub(crate) crc: u32,
    /// Bytes of the whole group: head, records and padding.
    pub(crate) length: u32,
    pub(crate) body_crc: u32,
    pub(crate) first: Lsn,
    /// The last LSN known durable when the group was written.
    pub(crate) synced_through: Lsn,
    /// Records; a group without any only carries its `synced_through`.
    pub(crate) count: u32,
    /// The head CRC of the group before.
    pub(crate) previous: u32,
    /// Compression and encryption, one day: anything but zero is for a newer build.
    pub(crate) flags: u8,
}

impl Header {
    /// The LSN of the last record; for an empty group the one before it.
    pub(crate) fn last(&self) -> Lsn {
        Lsn(self.first.0 + u64::from(self.count) - 1)
    }

    /// `None` when the bytes are not the head of a group of this segment.
    pub(crate) fn decode(bytes: &[u8], salt: u32) -> Option<Header> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        if bytes[..4] != MAGIC || u32_at(bytes, 4) != header_crc(bytes, salt) {
            return None;
        }
        let header = Header {
            crc: u32_at(bytes, 4),
            length: u32_at(bytes, 8),
            body_crc: u32_at(bytes, 12),
            first: Lsn(u64_at(bytes, 16)),
            synced_through: Lsn(u64_at(bytes, 24)),
            count: u32_at(bytes, 32),
            previous: u32_at(bytes, 36),
            flags: bytes[40],
        };
        let sane = header.length as usize >= HEADER_BYTES
            && u64::from(header.length).is_multiple_of(ALIGNMENT)
            && header.first > header.synced_through
            && header.first.0.checked_add(u64::from(header.count)).is_some();
        sane.then_some(header)
    }

    /// Whether `body`, the bytes after the head, is the body this head was written for.
    pub(crate) fn owns(&self, body: &[u8]) -> bool {
        body.len() == self.length as usize - HEADER_BYTES && crc32fast::hash(body) == self.body_crc
    }
}

fn header_crc(bytes: &[u8; HEADER_BYTES], salt: u32) -> u32 {
    let mut crc = crc32fast::Hasher::new_with_initial(salt);
    crc.update(&bytes[8..]);
    crc.finalize()
}

/// Bytes of `records` framed as one group.
pub(crate) fn framed_bytes(records: &[Record<'_>]) -> usize {
    let bytes: usize = records
        .iter()
        .map(|record| RECORD_OVERHEAD_BYTES + record.body.len())
        .sum();
    (HEADER_BYTES + bytes).next_multiple_of(ALIGNMENT as usize)
}

/// What a group says of its place in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(crate) salt: u32,
    pub(crate) previous: u32,
    pub(crate) first: Lsn,
    pub(crate) synced_through: Lsn,
}

/// Replaces `buffer` by `records` framed as one group, and returns its head CRC. The framed size must be below 4 GiB.
pub(crate) fn encode(buffer: &mut Vec<u8>, position: Position, records: &[Record<'_>]) -> u32 {
    let length = framed_bytes(records);
    buffer.clear();
    buffer.reserve(length);
    buffer.resize(HEADER_BYTES, 0);
    for record in records {
        buffer.extend_from_slice(&narrow(record.body.len()).to_le_bytes());
        buffer.push(record.header);
        buffer.extend_from_slice(record.body);
    }
    buffer.resize(length, 0);
    let body_crc = crc32fast::hash(&buffer[HEADER_BYTES..]);
    buffer[..4].copy_from_slice(&MAGIC);
    buffer[8..12].copy_from_slice(&narrow(length).to_le_bytes());
    buffer[12..16].copy_from_slice(&body_crc.to_le_bytes());
    buffer[16..24].copy_from_slice(&position.first.0.to_le_bytes());
    buffer[24..32].copy_from_slice(&position.synced_through.0.to_le_bytes());
    buffer[32..36].copy_from_slice(&narrow(records.len()).to_le_bytes());
    buffer[36..40].copy_from_slice(&position.previous.to_le_bytes());
    let head: &[u8; HEADER_BYTES] = buffer.first_chunk().expect("the head was resized in above");
    let crc = header_crc(head, position.salt);
    buffer[4..8].copy_from_slice(&crc.to_le_bytes());
    crc
}

fn narrow(length: usize) -> u32 {
    u32::try_from(length).expect("the settings keep groups below 4 GiB")
}

/// Takes the first record off `body`; `None` when what is there is no record.
pub(crate) fn split_record(body: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (head, rest) = body.split_first_chunk::<RECORD_OVERHEAD_BYTES>()?;
    let (record, rest) = rest.split_at_checked(u32_at(head, 0) as usize)?;
    Some((
        Record {
            header: head[4],
            body: record,
        },
        rest,
    ))
}

/// Whether `body` is exactly `count` records and zero padding shorter than the alignment.
pub(crate) fn is_well_formed(mut body: &[u8], count: u32) -> bool {
    for _ in 0..count {
        match split_record(body) {
            Some((_, rest)) => body = rest,
            None => return false,
        }
    }
    body.len() < ALIGNMENT as usize && body.iter().all(|&byte| byte == 0)
}

pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(
        *bytes[offset..]
            .first_chunk()
            .expect("a fixed field inside a fixed-size block"),
    )
}

pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(
        *bytes[offset..]
            .first_chunk()
            .expect("a fixed field inside a fixed-size block"),
    )
}

#[cfg(test)]
mod tests;
