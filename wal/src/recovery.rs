//! What a crash may leave behind, and what is damage.
//!
//! | found | by a crash? | what happens |
//! |---|---|---|
//! | zeros behind the last whole group of the last segment | yes, the normal end | appending goes on there |
//! | anything else there, not covered by a later head's `synced_through` | yes, a torn tail | wiped to zeros, synced |
//! | the same, but covered | no: it was acknowledged | [`Error::Damaged`] |
//! | last segment sealed, no segment after it | yes, in a rotation | the next segment is begun |
//! | last segment without a group, shorter than its header says | yes, in a rotation | filled up |
//! | last file without a header and with nothing behind it | yes, in a rotation | removed |
//! | any other bad header or short file, a missing number, a group missing in a segment that has a successor or footer | no | [`Error::Damaged`] |
//!
//! Everything is read and judged before anything is changed, and every change leaves a state from which the same
//! judgement is reached again: a crash in recovery is followed by recovery. What is kept is written again and synced, so
//! that the synced LSN may stand on it.

use std::{collections::VecDeque, io};

use crate::{
    Damage, Error, Lsn, Settings,
    active::{self, Active},
    catalog::{Marks, Segment},
    scan::{self, Opened, Scan},
    segment::{self, Decoded, Footer},
    storage::{File, Storage},
    window::read_full,
};

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The first record that is there, or is to come.
    pub first: Lsn,
    /// The last record kept; all up to here is durable now.
    pub last: Lsn,
    /// Bytes of unacknowledged tail dropped.
    pub truncated_bytes: u64,
    /// Segments found; 0 when the log is new.
    pub segments: usize,
    /// The owner named by the newest segment found; empty when the log is new. The caller judges whether it is its own.
    pub owner: Vec<u8>,
}

/// A log that can go on.
pub(crate) struct Recovered {
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) active: Active,
    /// The highest `synced_through` in the log.
    pub(crate) covered: Lsn,
    pub(crate) report: Recovery,
}

/// A segment file by its name, and its header if it has one.
struct Found {
    number: u64,
    name: String,
    header: Option<(segment::Header, u32)>,
}

/// The last segment, read and judged, not yet changed.
struct Tail {
    opened: Opened,
    scan: Scan,
    footer: Option<Footer>,
    truncated_bytes: u64,
}

pub(crate) fn recover(storage: &dyn Storage, settings: &Settings, owner: &[u8]) -> Result<Recovered, Error> {
    let mut found = find(storage)?;
    let unused = take_unused(storage, &mut found)?;
    let mut segments = VecDeque::new();
    let mut tail = None;
    for index in 0..found.len() {
        let opened = open(storage, &found, index, segments.back())?;
        match found.get(index + 1) {
            Some(next) => segments.push_back(check_inner(opened, next, settings.verify_above)?),
            None => tail = Some(check_tail(opened)?),
        }
    }
    // Everything is judged; from here on the log is changed.
    if let Some(name) = &unused {
        storage.remove(name).map_err(Error::Failed)?;
    }
    match tail {
        Some(tail) => go_on(storage, settings, owner, segments, tail),
        None => begin(storage, settings, owner),
    }
}

/// Every segment file in order, with its header if that is whole.
fn find(storage: &dyn Storage) -> Result<Vec<Found>, Error> {
    let mut numbers: Vec<u64> = storage
        .list()
        .map_err(Error::Io)?
        .iter()
        .filter_map(|name| segment::number_of(name))
        .collect();
    numbers.sort_unstable();
    let mut found = Vec::with_capacity(numbers.len());
    let mut block = vec![0; segment::HEADER_BYTES as usize];
    for number in numbers {
        let name = segment::file_name(number);
        let file = storage.open(&name).map_err(Error::Io)?;
        let read = read_full(&*file, &mut block, 0).map_err(Error::Io)?;
        let header = match segment::Header::decode(&block[..read]) {
            Decoded::Header(header, salt) => (header.number == number).then_some((header, salt)),
            Decoded::Nothing => None,
            Decoded::Version(version) => {
                return Err(Error::Foreign(format!(
                    "{name} has log format {version}, this build reads {}; start the build that wrote it",
                    segment::VERSION
                )));
            }
        };
        found.push(Found { number, name, header });
    }
    Ok(found)
}

/// Takes the last file off the list if its creation never came to an end; returns its name.
///
/// A group is only written once the header was synced. So a bad header with nothing behind it was never acknowledged
/// upon, provided the segment before it is there to tell where the log stands.
fn take_unused(storage: &dyn Storage, found: &mut Vec<Found>) -> Result<Option<String>, Error> {
    let Some((last, before)) = found.split_last() else {
        return Ok(None);
    };
    let continues = before
        .last()
        .map_or(last.number == 1, |previous| previous.number + 1 == last.number);
    if last.header.is_some() || !continues {
        return Ok(None);
    }
    let file = storage.open(&last.name).map_err(Error::Io)?;
    if !is_zero_behind_header(&*file).map_err(Error::Io)? {
        return Ok(None);
    }
    Ok(found.pop().map(|unused| unused.name))
}

pub(crate) fn is_zero_behind_header(file: &dyn File) -> io::Result<bool> {
    let mut chunk = vec![0; 256 << 10];
    let mut offset = segment::HEADER_BYTES;
    loop {
        let read = read_full(file, &mut chunk, offset)?;
        if chunk[..read].iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        if read < chunk.len() {
            return Ok(true);
        }
        offset += read as u64;
    }
}

/// Opens segment `index`, checking that it has a header and follows the one before it.
fn open(storage: &dyn Storage, found: &[Found], index: usize, before: Option<&Segment>) -> Result<Opened, Error> {
    let Found { number, name, header } = &found[index];
    let expected = before.map_or(*number, |before| before.number + 1);
    let after_before = before.and_then(|before| before.sealed).map(Lsn::next);
    if expected != *number {
        let start = after_before.unwrap_or_default();
        let end = header.as_ref().map_or(u64::MAX, |(header, _)| header.previous_last.0);
        return Err(damaged(&segment::file_name(expected), 0, start, Lsn(end)));
    }
    let file = storage.open(name).map_err(Error::Io)?;
    let length = file.length().map_err(Error::Io)?;
    if let Some((header, salt)) = header {
        return Ok(Opened {
            file,
            name: name.clone(),
            header: header.clone(),
            salt: *salt,
            length,
        });
    }
    // The header is gone; what was in the segment, its neighbours and its footer may still tell.
    let mut footer = [0; segment::FOOTER_BYTES as usize];
    let offset = length.saturating_sub(segment::FOOTER_BYTES);
    let read = read_full(&*file, &mut footer, offset).map_err(Error::Io)?;
    let footer = Footer::decode(&footer[..read], *number);
    let start = after_before
        .or(footer.as_ref().map(|footer| footer.first))
        .unwrap_or(Lsn(1));
    let next = found.get(index + 1).and_then(|next| next.header.as_ref());
    let end = next
        .map(|(header, _)| header.previous_last)
        .or(footer.map(|footer| footer.last))
        .unwrap_or(Lsn(u64::MAX));
    Err(damaged(name, 0, start, end))
}

fn damaged(name: &str, offset: u64, from: Lsn, to: Lsn) -> Error {
    Error::Damaged(Damage {
        file: name.to_owned(),
        offset,
        lost: from.0..=to.0.max(from.0),
    })
}

/// Checks a segment that has a successor: everything in it was synced.
fn check_inner(opened: Opened, next: &Found, verify_above: Lsn) -> Result<Segment, Error> {
    let mut segment = Segment::new(&opened.header);
    let footer = opened.footer().map_err(Error::Io)?;
    let vouched = next.header.as_ref().filter(|_| next.number == opened.header.number + 1);
    let vouched = vouched.map(|(header, _)| (header.previous_last, header.previous_digest));
    // With a successor that is missing or bad, its own footer speaks; that successor is the damage reported later.
    let Some((last, digest)) = vouched.or(footer.as_ref().map(|footer| (footer.last, footer.digest))) else {
        segment.sealed = Some(scan::scan(&opened)?.last);
        return Ok(segment);
    };
    segment.sealed = Some(last);
    let is_sealed = footer.is_some_and(|footer| footer.last == last && footer.digest == digest);
    if is_sealed && last <= verify_above {
        return Ok(segment);
    }
    let scan = scan::scan(&opened)?;
    check_complete(&opened, &scan, last, digest)?;
    segment.marks = scan.marks;
    Ok(segment)
}

/// Compares what was read with what is known to have been durable.
fn check_complete(opened: &Opened, scan: &Scan, last: Lsn, digest: u128) -> Result<(), Error> {
    if scan.last < last {
        let survey = scan::survey(opened, scan.end, scan.last).map_err(Error::Io)?;
        return Err(lost_after(opened, scan, survey.next_first, last));
    }
    if scan.last > last || scan.digest.digest128() != digest {
        // Every CRC is right and yet it is not what was written: a segment of another log, or of another past.
        return Err(damaged(&opened.name, 0, opened.header.first, last.max(scan.last)));
    }
    Ok(())
}

/// The damage that begins where the scan ended; the records up to `last` were durable.
fn lost_after(opened: &Opened, scan: &Scan, next_first: Option<Lsn>, last: Lsn) -> Error {
    let end = next_first.map_or(last, |next| next.previous().min(last));
    damaged(&opened.name, scan.end, scan.last.next(), end)
}

/// Checks the last segment by the torn-tail rule.
fn check_tail(opened: Opened) -> Result<Tail, Error> {
    let scan = scan::scan(&opened)?;
    let footer = opened.footer().map_err(Error::Io)?;
    if let Some(footer) = &footer {
        check_complete(&opened, &scan, footer.last, footer.digest)?;
        return Ok(Tail {
            opened,
            scan,
            footer: Some(footer.clone()),
            truncated_bytes: 0,
        });
    }
    let survey = scan::survey(&opened, scan.end, scan.last).map_err(Error::Io)?;
    if survey.covered > scan.last {
        return Err(lost_after(&opened, &scan, survey.next_first, survey.covered));
    }
    if opened.length < opened.header.capacity && scan.end > segment::HEADER_BYTES {
        // A file has its whole length, durably, before it gets its first group.
        return Err(damaged(&opened.name, opened.length, scan.last.next(), Lsn(u64::MAX)));
    }
    let truncated_bytes = survey.used_end.saturating_sub(scan.end);
    Ok(Tail {
        opened,
        scan,
        footer: None,
        truncated_bytes,
    })
}

/// Makes what is kept durable and gets ready to append.
fn go_on(
    storage: &dyn Storage,
    settings: &Settings,
    owner: &[u8],
    mut segments: VecDeque<Segment>,
    tail: Tail,
) -> Result<Recovered, Error> {
    settle(&tail)
        .and_then(|()| storage.sync_directory())
        .map_err(Error::Failed)?;
    let Tail {
        opened,
        scan,
        footer,
        truncated_bytes,
    } = tail;
    let last = scan.last;
    let mut segment = Segment {
        marks: scan.marks.clone(),
        ..Segment::new(&opened.header)
    };
    let mut report = Recovery {
        first: opened.header.first,
        last,
        truncated_bytes,
        segments: segments.len() + 1,
        owner: opened.header.owner.clone(),
    };
    let mut covered = scan.covered;
    let mut active = Active::resume(opened, scan);
    if footer.is_some() {
        let header = active.successor(last.next(), settings.segment_bytes, owner);
        segment.sealed = Some(last);
        segments.push_back(segment);
        segment = Segment::new(&header);
        active = start(storage, header)?;
        covered = last;
    }
    segments.push_back(segment);
    report.first = segments[0].first;
    Ok(Recovered {
        segments,
        active,
        covered,
        report,
    })
}

/// Wipes a torn tail, and writes again and syncs what no later group proves to be durable.
fn settle(tail: &Tail) -> io::Result<()> {
    let Tail {
        opened, scan, footer, ..
    } = tail;
    let nothing_proven = scan.uncovered_from == segment::HEADER_BYTES;
    let from = if nothing_proven { 0 } else { scan.uncovered_from };
    match footer {
        Some(footer) => opened.file.write_at(&footer.encode(), opened.header.groups_end_max())?,
        None => scan::wipe(opened, scan.end)?,
    }
    scan::rewrite(&*opened.file, from, scan.end)?;
    opened.file.sync()
}

/// A log without any segment.
fn begin(storage: &dyn Storage, settings: &Settings, owner: &[u8]) -> Result<Recovered, Error> {
    let header = segment::Header {
        number: 1,
        first: Lsn(1),
        previous_last: Lsn::ZERO,
        previous_digest: 0,
        capacity: settings.segment_bytes,
        owner: owner.to_vec(),
    };
    let segments = VecDeque::from([Segment {
        marks: Marks::default(),
        ..Segment::new(&header)
    }]);
    let active = start(storage, header)?;
    let report = Recovery {
        first: Lsn(1),
        ..Recovery::default()
    };
    Ok(Recovered {
        segments,
        active,
        covered: Lsn::ZERO,
        report,
    })
}

fn start(storage: &dyn Storage, header: segment::Header) -> Result<Active, Error> {
    let file = active::allocate(storage, header.number, header.capacity)?;
    Active::begin(storage, file, header).map_err(Error::Failed)
}
