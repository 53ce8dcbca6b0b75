//! Reading one segment from its beginning, and judging what follows the last whole group.

use std::io;

use xxhash_rust::xxh3::Xxh3;

use crate::{
    Error, Lsn,
    catalog::Marks,
    group, segment,
    storage::File,
    window::{Window, read_full},
};

/// How much is read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// A segment file whose header was right.
pub(crate) struct Opened {
    pub(crate) file: Box<dyn File>,
    pub(crate) name: String,
    pub(crate) header: segment::Header,
    pub(crate) salt: u32,
    /// Of the file; below the header's capacity when the file was cut.
    pub(crate) length: u64,
}

impl Opened {
    /// Where groups must end in this file.
    pub(crate) fn groups_limit(&self) -> u64 {
        self.header.groups_end_max().min(self.length)
    }

    /// The footer, if the segment was sealed.
    pub(crate) fn footer(&self) -> io::Result<Option<segment::Footer>> {
        let mut bytes = [0; segment::FOOTER_BYTES as usize];
        let read = read_full(&*self.file, &mut bytes, self.header.groups_end_max())?;
        Ok(segment::Footer::decode(&bytes[..read], self.header.number))
    }
}

/// The whole groups of a segment, from the first on.
pub(crate) struct Scan {
    /// Last LSN; one below the header's first when there is no record.
    pub(crate) last: Lsn,
    /// Behind the last whole group.
    pub(crate) end: u64,
    /// Over the bytes up to `end`.
    pub(crate) digest: Xxh3,
    /// Head CRC of the last whole group: what the next one must name.
    pub(crate) chain: u32,
    /// The highest `synced_through` of the groups, or what the header vouches for.
    pub(crate) covered: Lsn,
    /// Where the first group begins that no later one covers.
    pub(crate) uncovered_from: u64,
    pub(crate) marks: Marks,
}

/// Reads groups until there is no whole one with the LSN expected next.
pub(crate) fn scan(opened: &Opened) -> Result<Scan, Error> {
    let mut window = Window::new(CHUNK_BYTES, CHUNK_BYTES);
    let file = &*opened.file;
    let block = window.at(file, 0, segment::HEADER_BYTES as usize).map_err(Error::Io)?;
    let mut scan = Scan {
        last: opened.header.first.previous(),
        end: segment::HEADER_BYTES,
        digest: segment::digest_of(block),
        chain: opened.salt,
        covered: opened.header.first.previous(),
        uncovered_from: segment::HEADER_BYTES,
        marks: Marks::default(),
    };
    // Groups not yet covered: where they end, and their last LSN.
    let mut waiting = std::collections::VecDeque::new();
    loop {
        let head = window.at(file, scan.end, group::HEADER_BYTES).map_err(Error::Io)?;
        let Some(head) = group::Header::decode(head, opened.salt) else {
            break;
        };
        check_flags(&head, &opened.name, scan.end)?;
        let end = scan.end + u64::from(head.length);
        let follows = head.first == scan.last.next() && head.previous == scan.chain;
        if !follows || head.synced_through > scan.last || end > opened.groups_limit() {
            break;
        }
        let whole = window.at(file, scan.end, head.length as usize).map_err(Error::Io)?;
        let body = whole.get(group::HEADER_BYTES..).unwrap_or_default();
        if !head.owns(body) || !group::is_well_formed(body, head.count) {
            break;
        }
        scan.digest.update(whole);
        scan.marks.note(head.first, scan.end);
        scan.covered = scan.covered.max(head.synced_through);
        scan.last = head.last();
        scan.chain = head.crc;
        scan.end = end;
        waiting.push_back((end, scan.last));
        while let Some((end, _)) = waiting.pop_front_if(|&mut (_, last)| last <= scan.covered) {
            scan.uncovered_from = end;
        }
    }
    Ok(scan)
}

pub(crate) fn check_flags(head: &group::Header, name: &str, offset: u64) -> Result<(), Error> {
    if head.flags == 0 {
        return Ok(());
    }
    Err(Error::Foreign(format!(
        "{name}, byte {offset}: the group has flags {:#04x}, which this build does not read; start the build that wrote it",
        head.flags
    )))
}

/// What stands behind the last whole group.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Behind the last byte that is not zero; 0 when there is none.
    pub(crate) used_end: u64,
    /// First LSN of the next head that proves itself.
    pub(crate) next_first: Option<Lsn>,
    /// The highest `synced_through` of all such heads.
    pub(crate) covered: Lsn,
}

/// Looks at everything from `from`, a multiple of 8, up to `limit`, for heads of groups above `last`.
///
/// Heads count even where their bodies are torn: what they say was true when they were written.
pub(crate) fn survey(opened: &Opened, from: u64, last: Lsn) -> io::Result<Survey> {
    let limit = opened.groups_limit();
    let mut survey = Survey::default();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut start = from;
    while start < limit {
        let length = (limit - start).min(CHUNK_BYTES as u64) as usize;
        let read = read_full(&*opened.file, &mut chunk[..length], start)?;
        if read == 0 {
            break;
        }
        for (index, word) in chunk[..read].chunks(group::ALIGNMENT as usize).enumerate() {
            if word.iter().all(|&byte| byte == 0) {
                continue;
            }
            let offset = start + index as u64 * group::ALIGNMENT;
            survey.used_end = offset + word.len() as u64;
            if word.starts_with(&group::MAGIC) {
                let mut head = [0; group::HEADER_BYTES];
                let read = read_full(&*opened.file, &mut head, offset)?;
                let head = group::Header::decode(&head[..read], opened.salt).filter(|head| head.first > last);
                if let Some(head) = head {
                    survey.next_first.get_or_insert(head.first);
                    survey.covered = survey.covered.max(head.synced_through);
                }
            }
        }
        start += read as u64;
    }
    Ok(survey)
}

/// Overwrites everything from `from` to the end of the segment by zeros, touching only pieces that are not zero yet, and
/// lengthening a file that was cut.
pub(crate) fn wipe(opened: &Opened, from: u64) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let zeros = vec![0; CHUNK_BYTES];
    let mut start = from;
    while start < opened.header.capacity {
        let length = (opened.header.capacity - start).min(chunk.len() as u64) as usize;
        let read = read_full(&*opened.file, &mut chunk[..length], start)?;
        if read < length || chunk[..length].iter().any(|&byte| byte != 0) {
            opened.file.write_at(&zeros[..length], start)?;
        }
        start += length as u64;
    }
    Ok(())
}

/// Writes `from..end` again as it stands.
///
/// After a failed sync the kernel may show bytes that never reached the disk, and call a second sync of them a success.
/// Only what is written again is sure to be synced.
pub(crate) fn rewrite(file: &dyn File, from: u64, end: u64) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut start = from;
    while start < end {
        let length = (end - start).min(CHUNK_BYTES as u64) as usize;
        let read = read_full(file, &mut chunk[..length], start)?;
        if read < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_at(&chunk[..length], start)?;
        start += length as u64;
    }
    Ok(())
}
