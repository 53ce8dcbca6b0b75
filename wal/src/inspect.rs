//! Looking at a log without writing to it: what is there, and everything that is damaged.
//!
//! ```text
//!  opening      stops at the first damage, for nothing behind it may be replayed
//!  inspecting   notes it and goes on: at the next head that proves itself, in the next segment
//!
//!  segment with a successor    every record was durable: what is missing is damage
//!  last segment                missing records are damage as far as a later head, or the caller, vouches for them;
//!                              beyond that they are a torn tail, which opening would drop
//! ```
//!
//! Nothing is created, cut, wiped or written again.

use std::{io, ops::RangeInclusive, sync::Arc};

use crate::{
    Error, Lsn,
    catalog::{Catalog, Handle},
    group,
    scan::{self, Opened},
    segment::{self, Decoded, Footer},
    storage::Storage,
    window::{Window, read_full},
};

/// How much is read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// What a log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Every segment, oldest first.
    pub segments: Vec<Segment>,
    /// Everything that is damaged, in the order of the log.
    pub faults: Vec<Fault>,
}

/// One segment file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Its number.
    pub number: u64,
    /// Its file.
    pub file: String,
    /// LSN of its first record, there or to come.
    pub first: Lsn,
    /// LSN of its last record that can be read; one below `first` when there is none.
    pub last: Lsn,
    /// Records that can be read.
    pub records: u64,
    /// Bytes up to the end of the last group that can be read, the header included.
    pub used_bytes: u64,
    /// Bytes the file was made with.
    pub capacity_bytes: u64,
    /// Whether nothing more will be written to it.
    pub is_sealed: bool,
    /// What its writer put into the header.
    pub owner: Vec<u8>,
    /// Bytes behind `used_bytes` that were never acknowledged; the next opening drops them.
    pub torn_bytes: u64,
    /// How many of [`Inspection::faults`] are in it.
    pub faults: usize,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub file: String,
    /// Byte in the file where it begins.
    pub offset: u64,
    /// The LSNs that cannot be read for it, when there are any; an end of `u64::MAX` is not known.
    pub lost: Option<RangeInclusive<u64>>,
    /// What is wrong.
    pub what: String,
}

/// A record, and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// The file.
    pub file: &'a str,
    /// Where the record begins in it.
    pub offset: u64,
    /// Its place in the log.
    pub lsn: Lsn,
    /// The tag its writer gave it.
    pub header: u8,
    /// The record itself.
    pub body: &'a [u8],
}

/// Is handed every record that can be read, in order, until it returns false.
pub type Visit<'a> = &'a mut dyn FnMut(Placed<'_>) -> bool;

/// Reads every byte of a log that nobody writes to.
///
/// # Errors
/// [`Error::Io`], [`Error::Foreign`].
pub fn inspect(storage: &dyn Storage, visit: Visit<'_>) -> Result<Inspection, Error> {
    let names = storage.list().map_err(Error::Io)?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment::number_of(name)).collect();
    numbers.sort_unstable();
    Inspector::new(storage, numbers, None)?.run(visit)
}

impl Handle {
    /// Reads every byte of the open log up to the LSN synced now. Hold a claim meanwhile, or segments may go.
    ///
    /// # Errors
    /// As [`inspect`].
    pub fn inspect(&self, visit: Visit<'_>) -> Result<Inspection, Error> {
        let catalog: &Arc<Catalog> = &self.catalog;
        let synced = catalog.synced();
        Inspector::new(&*catalog.storage, catalog.numbers(), Some(synced))?.run(visit)
    }
}

/// A segment file, and what could be read of its header.
struct Found {
    number: u64,
    name: String,
    header: Option<(segment::Header, u32)>,
}

struct Inspector<'a> {
    storage: &'a dyn Storage,
    found: Vec<Found>,
    /// Of an open log: what is known to be durable, and above which nothing is looked at.
    synced: Option<Lsn>,
    inspection: Inspection,
    stopped: bool,
}

/// What the records of a segment should be.
struct Expected {
    /// The last record, and the digest of everything.
    last: Option<(Lsn, u128)>,
    /// Records up to here were durable: where they are missing, the search goes on behind the gap.
    durable: Lsn,
    /// Nothing above is looked at.
    limit: Lsn,
}

impl<'a> Inspector<'a> {
    fn new(storage: &'a dyn Storage, numbers: Vec<u64>, synced: Option<Lsn>) -> Result<Inspector<'a>, Error> {
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
                    let reads = segment::VERSION;
                    return Err(Error::Foreign(format!(
                        "{name} has log format {version}, this build reads {reads}; use the build that wrote it"
                    )));
                }
            };
            found.push(Found { number, name, header });
        }
        Ok(Inspector {
            storage,
            found,
            synced,
            inspection: Inspection::default(),
            stopped: false,
        })
    }

    fn run(mut self, visit: Visit<'_>) -> Result<Inspection, Error> {
        let found = std::mem::take(&mut self.found);
        for (index, segment) in found.iter().enumerate() {
            let next = found.get(index + 1);
            let before = index.checked_sub(1).map(|index| &found[index]);
            self.note_missing(before, segment);
            let faults = self.inspection.faults.len();
            let seen = match &segment.header {
                Some((header, salt)) => self.look(segment, header.clone(), *salt, next, visit)?,
                None if next.is_none() && self.is_unused(segment)? => continue,
                None => self.without_header(segment, next),
            };
            let faults = self.inspection.faults.len() - faults;
            self.inspection.segments.push(Segment { faults, ..seen });
            if self.stopped {
                break;
            }
        }
        Ok(self.inspection)
    }

    fn fault(&mut self, file: &str, offset: u64, lost: Option<RangeInclusive<u64>>, what: &str) {
        self.inspection.faults.push(Fault {
            file: file.to_owned(),
            offset,
            lost,
            what: what.to_owned(),
        });
    }

    /// The last LSN of the segments looked at so far.
    fn last(&self) -> Lsn {
        self.inspection
            .segments
            .last()
            .map_or(Lsn::ZERO, |segment| segment.last)
    }

    fn note_missing(&mut self, before: Option<&Found>, segment: &Found) {
        let Some(before) = before.filter(|before| before.number + 1 < segment.number) else {
            return;
        };
        let from = self.last().next().0;
        let to = segment
            .header
            .as_ref()
            .map_or(u64::MAX, |(header, _)| header.previous_last.0);
        let file = segment::file_name(before.number + 1);
        let lost = (from <= to).then_some(from..=to);
        self.fault(&file, 0, lost, "the file is missing");
    }

    /// A file whose creation never came to an end: as opening judges it.
    fn is_unused(&self, segment: &Found) -> Result<bool, Error> {
        let file = self.storage.open(&segment.name).map_err(Error::Io)?;
        crate::recovery::is_zero_behind_header(&*file).map_err(Error::Io)
    }

    fn without_header(&mut self, segment: &Found, next: Option<&Found>) -> Segment {
        let to = next.and_then(|next| next.header.as_ref());
        let to = to.map_or(u64::MAX, |(header, _)| header.previous_last.0);
        let first = self.last().next();
        let what = "its header is damaged, and without it none of its records can be read";
        self.fault(&segment.name, 0, Some(first.0..=to.max(first.0)), what);
        Segment {
            number: segment.number,
            file: segment.name.clone(),
            first,
            last: Lsn(if to == u64::MAX { first.0 - 1 } else { to }),
            is_sealed: next.is_some(),
            ..Segment::default()
        }
    }

    fn look(
        &mut self,
        found: &Found,
        header: segment::Header,
        salt: u32,
        next: Option<&Found>,
        visit: Visit<'_>,
    ) -> Result<Segment, Error> {
        let file = self.storage.open(&found.name).map_err(Error::Io)?;
        let length = file.length().map_err(Error::Io)?;
        let opened = Opened {
            file,
            name: found.name.clone(),
            header,
            salt,
            length,
        };
        let footer = opened.footer().map_err(Error::Io)?;
        let expected = self.expected(&opened, footer.as_ref(), next)?;
        let mut walk = Walk::new(&opened);
        let gaps = walk.run(&expected, &mut self.stopped, visit)?;
        self.judge(&opened, &expected, &walk, gaps);
        let is_sealed = next.is_some() || footer.is_some();
        let torn_bytes = if is_sealed || self.synced.is_some() || self.stopped {
            0
        } else {
            let survey = scan::survey(&opened, walk.end, walk.last).map_err(Error::Io)?;
            survey.used_end.saturating_sub(walk.end)
        };
        Ok(Segment {
            number: found.number,
            file: found.name.clone(),
            first: opened.header.first,
            last: walk.last,
            records: walk.records,
            used_bytes: walk.end,
            capacity_bytes: opened.header.capacity,
            is_sealed,
            owner: opened.header.owner.clone(),
            torn_bytes,
            faults: 0,
        })
    }

    /// What should be in a segment, as its neighbours and its own footer tell.
    fn expected(&mut self, opened: &Opened, footer: Option<&Footer>, next: Option<&Found>) -> Result<Expected, Error> {
        let limit = self.synced.unwrap_or(Lsn(u64::MAX));
        let own = footer.map(|footer| (footer.last, footer.digest));
        let vouched = next.filter(|next| next.number == opened.header.number + 1);
        let vouched = vouched.and_then(|next| next.header.as_ref());
        let vouched = vouched.map(|(header, _)| (header.previous_last, header.previous_digest));
        if vouched.is_some() && own != vouched {
            let what = "its footer is damaged; its records are checked by the next segment's header";
            self.fault(&opened.name, opened.header.groups_end_max(), None, what);
        }
        // An open log may have been sealed here after it was asked what is synced: then it is judged as if it were not.
        if let Some((last, digest)) = vouched.or(own).filter(|(last, _)| *last <= limit) {
            return Ok(Expected {
                last: Some((last, digest)),
                durable: last,
                limit,
            });
        }
        if next.is_some() && self.synced.is_none() {
            // Nobody is left to tell, but with a successor everything in it was durable.
            return Ok(Expected {
                last: None,
                durable: Lsn(u64::MAX),
                limit,
            });
        }
        let scan = scan::scan(opened)?;
        let survey = scan::survey(opened, scan.end, scan.last).map_err(Error::Io)?;
        Ok(Expected {
            last: None,
            durable: scan
                .covered
                .max(survey.covered)
                .max(self.synced.unwrap_or_default())
                .min(limit),
            limit,
        })
    }

    fn judge(&mut self, opened: &Opened, expected: &Expected, walk: &Walk<'_>, gaps: Vec<Gap>) {
        let name = &opened.name;
        let damaged = "its checksum, or its place in the chain of groups, does not fit";
        let whole = gaps.is_empty();
        for Gap { offset, from, to } in gaps {
            self.fault(name, offset, (from <= to).then_some(from.0..=to.0), damaged);
        }
        if self.stopped {
            return;
        }
        let durable = match expected.last {
            Some((last, _)) => last,
            None if expected.durable.0 == u64::MAX => walk.last,
            None => expected.durable,
        };
        if walk.last < durable {
            self.fault(name, walk.end, Some(walk.last.next().0..=durable.0), damaged);
        } else if let Some((last, digest)) = expected.last
            && whole
            && (walk.last > last || walk.digest.digest128() != digest)
        {
            let lost = opened.header.first.0..=last.0.max(walk.last.0);
            let what =
                "every group is whole, and yet it is not what was written: it is of another log, or of another past";
            self.fault(name, 0, Some(lost), what);
        }
        if opened.length < opened.header.capacity && walk.end > segment::HEADER_BYTES {
            let what = format!("the file was cut: it was made with {} bytes", opened.header.capacity);
            self.fault(name, opened.length, None, &what);
        }
    }
}

/// Records that are not there, between two that are.
struct Gap {
    offset: u64,
    from: Lsn,
    to: Lsn,
}

/// The groups of a segment that can be read.
struct Walk<'a> {
    opened: &'a Opened,
    window: Window,
    /// Behind the last group read.
    end: u64,
    last: Lsn,
    /// What the next group must name; nothing is known of it behind a gap.
    chain: Option<u32>,
    records: u64,
    digest: xxhash_rust::xxh3::Xxh3,
}

impl<'a> Walk<'a> {
    fn new(opened: &'a Opened) -> Walk<'a> {
        Walk {
            opened,
            window: Window::new(CHUNK_BYTES, CHUNK_BYTES),
            end: segment::HEADER_BYTES,
            last: opened.header.first.previous(),
            chain: Some(opened.salt),
            records: 0,
            digest: xxhash_rust::xxh3::Xxh3::new(),
        }
    }

    /// Reads all groups, past gaps as long as what is missing was durable.
    fn run(&mut self, expected: &Expected, stopped: &mut bool, visit: Visit<'_>) -> Result<Vec<Gap>, Error> {
        let block = self.window.at(&*self.opened.file, 0, segment::HEADER_BYTES as usize);
        self.digest.update(block.map_err(Error::Io)?);
        let mut gaps = Vec::new();
        let mut offset = self.end;
        let mut gap = None;
        while !*stopped {
            let head = self.whole_at(offset, expected.limit).map_err(Error::Io)?;
            if let Some(head) = head {
                scan::check_flags(&head, &self.opened.name, offset)?;
                if let Some((offset, from)) = gap.take() {
                    let to = head.first.previous();
                    gaps.push(Gap { offset, from, to });
                }
                *stopped = !self.take(&head, offset, visit).map_err(Error::Io)?;
                offset = self.end;
                continue;
            }
            gap.get_or_insert((offset, self.last.next()));
            self.chain = None;
            if self.last >= expected.durable {
                break;
            }
            match self.next_head(offset + group::ALIGNMENT).map_err(Error::Io)? {
                Some(next) => offset = next,
                None => break,
            }
        }
        Ok(gaps)
    }

    /// The head of the group at `offset`, if that is whole and follows what was read.
    fn whole_at(&mut self, offset: u64, limit: Lsn) -> io::Result<Option<group::Header>> {
        let file = &*self.opened.file;
        let head = self.window.at(file, offset, group::HEADER_BYTES)?;
        let Some(head) = group::Header::decode(head, self.opened.salt) else {
            return Ok(None);
        };
        let follows = match self.chain {
            Some(chain) => head.first == self.last.next() && head.previous == chain,
            None => head.first > self.last,
        };
        let fits = offset + u64::from(head.length) <= self.opened.groups_limit();
        if !follows || !fits || head.last() > limit {
            return Ok(None);
        }
        let whole = self.window.at(file, offset, head.length as usize)?;
        let body = whole.get(group::HEADER_BYTES..).unwrap_or_default();
        let is_whole = head.owns(body) && group::is_well_formed(body, head.count);
        Ok(is_whole.then_some(head))
    }

    /// Hands out the records of a whole group and moves behind it. False when no more are wanted.
    fn take(&mut self, head: &group::Header, offset: u64, visit: Visit<'_>) -> io::Result<bool> {
        let whole = self.window.at(&*self.opened.file, offset, head.length as usize)?;
        self.digest.update(whole);
        self.chain = Some(head.crc);
        self.end = offset + u64::from(head.length);
        let mut rest = &whole[group::HEADER_BYTES..];
        for index in 0..u64::from(head.count) {
            let Some((record, behind)) = group::split_record(rest) else {
                break;
            };
            let placed = Placed {
                file: &self.opened.name,
                offset: self.end - rest.len() as u64,
                lsn: Lsn(head.first.0 + index),
                header: record.header,
                body: record.body,
            };
            self.last = placed.lsn;
            self.records += 1;
            if !visit(placed) {
                return Ok(false);
            }
            rest = behind;
        }
        self.last = head.last();
        Ok(true)
    }

    /// Where the next head stands that proves itself and is above what was read.
    fn next_head(&mut self, from: u64) -> io::Result<Option<u64>> {
        let limit = self.opened.groups_limit();
        let file = &*self.opened.file;
        let mut offset = from;
        while offset < limit {
            let length = (limit - offset).min(CHUNK_BYTES as u64) as usize;
            let chunk = self.window.at(file, offset, length)?;
            let words = chunk.chunks(group::ALIGNMENT as usize);
            let places = words.enumerate().filter(|(_, word)| word.starts_with(&group::MAGIC));
            let places: Vec<u64> = places
                .map(|(index, _)| offset + index as u64 * group::ALIGNMENT)
                .collect();
            for place in places {
                let mut head = [0; group::HEADER_BYTES];
                let read = read_full(file, &mut head, place)?;
                if group::Header::decode(&head[..read], self.opened.salt).is_some_and(|head| head.first > self.last) {
                    return Ok(Some(place));
                }
            }
            offset += length as u64;
        }
        Ok(None)
    }
}
