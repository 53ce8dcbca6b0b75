//! Following the log from any LSN.
//!
//! A reader opens segment files for itself and reads only bytes that were synced before it asked, so it needs no lock
//! that the writer holds while it writes: the synced LSN is one atomic, and the catalog is asked only at the ends of
//! segments. It checks every CRC again; what it hands out is what was appended.

use std::{io, sync::Arc};

use crate::{
    Damage, Error, Lsn,
    catalog::{Catalog, Sealed},
    group,
    segment::{self, Decoded},
    storage::File,
    window::Window,
};

/// How much a reader that has just caught up reads at once.
const AHEAD_BYTES_MIN: usize = 4 << 10;
/// How much a reader reads at once when it has a long way to go.
const AHEAD_BYTES_MAX: usize = 256 << 10;

/// One record read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its position in the log.
    pub lsn: Lsn,
    /// The tag its writer gave it.
    pub header: u8,
    /// The record itself.
    pub body: Vec<u8>,
}

/// Follows the log in LSN order, never above the synced LSN. It may live on any thread and outlive the log.
pub struct Reader {
    catalog: Arc<Catalog>,
    /// LSN of the next entry to hand out.
    next: Lsn,
    segment: Option<OpenSegment>,
    group: OpenGroup,
}

struct OpenSegment {
    file: Box<dyn File>,
    number: u64,
    salt: u32,
    /// Where the next group begins.
    offset: u64,
    groups_end_max: u64,
    window: Window,
    /// The synced LSN before `window` was read: groups up to here are whole in it.
    window_synced: Lsn,
}

/// The group whose records are being handed out.
#[derive(Default)]
struct OpenGroup {
    body: Vec<u8>,
    position: usize,
    /// LSN of the record at `position`.
    lsn: Lsn,
    left: u32,
}

impl Reader {
    pub(crate) fn new(catalog: Arc<Catalog>, after: Lsn) -> Result<Reader, Error> {
        let next = after.next();
        if next <= catalog.synced() {
            catalog.locate(next)?;
        }
        Ok(Reader {
            catalog,
            next,
            segment: None,
            group: OpenGroup::default(),
        })
    }

    /// The next record at or below the synced LSN; `None` when there is none yet: ask again once the log was synced.
    ///
    /// # Errors
    /// [`Error::Retired`] when the reader was too slow and held no claim, [`Error::Damaged`] when synced bytes are no
    /// longer what was written, [`Error::Io`] when the device does not read. After an error the position is unchanged.
    #[expect(
        clippy::should_implement_trait,
        reason = "it goes on after None, which an iterator does not promise"
    )]
    pub fn next(&mut self) -> Result<Option<Entry>, Error> {
        loop {
            while let Some(entry) = self.group.take() {
                if entry.lsn >= self.next {
                    self.next = entry.lsn.next();
                    return Ok(Some(entry));
                }
            }
            if self.next > self.catalog.synced() {
                return Ok(None);
            }
            let Some(mut segment) = self.segment.take() else {
                // Entering may move `next` over skipped LSNs, up to where nothing is synced yet.
                self.segment = Some(self.enter()?);
                continue;
            };
            match segment.load(&self.catalog, self.next, &mut self.group) {
                Ok(true) => self.segment = Some(segment),
                Ok(false) => self.leave(segment)?,
                Err(error) => {
                    self.segment = Some(segment);
                    return Err(error);
                }
            }
        }
    }

    /// LSN of the last entry handed out, or where the reader was made to begin.
    #[must_use]
    pub fn position(&self) -> Lsn {
        self.next.previous()
    }

    /// Opens the segment that holds `next`.
    fn enter(&mut self) -> Result<OpenSegment, Error> {
        let place = self.catalog.locate(self.next)?;
        let name = segment::file_name(place.number);
        let file = match self.catalog.storage.open(&name) {
            // Retention was quicker: the catalog says now what is left.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.catalog.locate(self.next)?;
                return Err(Error::Io(error));
            }
            outcome => outcome.map_err(Error::Io)?,
        };
        let mut window = Window::new(AHEAD_BYTES_MIN, AHEAD_BYTES_MAX);
        let block = window
            .at(&*file, 0, segment::HEADER_BYTES as usize)
            .map_err(Error::Io)?;
        let Decoded::Header(header, salt) = segment::Header::decode(block) else {
            return Err(damaged(&name, 0, place.lsn, self.catalog.synced()));
        };
        window.clear();
        self.next = place.lsn;
        let groups_end_max = header.groups_end_max();
        let number = place.number;
        Ok(OpenSegment {
            file,
            number,
            salt,
            offset: place.offset,
            groups_end_max,
            window,
            window_synced: Lsn::ZERO,
        })
    }

    /// No group stands where the next one should: either the segment is at its end, or it is damaged.
    fn leave(&mut self, segment: OpenSegment) -> Result<(), Error> {
        let name = segment::file_name(segment.number);
        match self.catalog.sealed(segment.number) {
            Sealed::At(last) if last < self.next => Ok(()),
            Sealed::Retired => self.catalog.locate(self.next).map(|_| ()),
            Sealed::At(last) => Err(damaged(&name, segment.offset, self.next, last)),
            Sealed::No => Err(damaged(&name, segment.offset, self.next, self.catalog.synced())),
        }
    }
}

fn damaged(name: &str, offset: u64, from: Lsn, to: Lsn) -> Error {
    Error::Damaged(Damage {
        file: name.to_owned(),
        offset,
        lost: from.0..=to.max(from).0,
    })
}

impl OpenSegment {
    /// Reads the group at `offset` and moves behind it. False when there is none.
    fn load(&mut self, catalog: &Catalog, next: Lsn, group: &mut OpenGroup) -> Result<bool, Error> {
        if next > self.window_synced {
            // What lies in the window beyond the LSN synced at its time may have been written since.
            self.window_synced = catalog.synced();
            self.window.clear();
        }
        let head = self
            .window
            .at(&*self.file, self.offset, group::HEADER_BYTES)
            .map_err(Error::Io)?;
        let Some(head) = group::Header::decode(head, self.salt) else {
            return Ok(false);
        };
        let length = head.length as usize;
        if head.flags != 0 || self.offset + u64::from(head.length) > self.groups_end_max {
            return Ok(false);
        }
        let whole = self.window.at(&*self.file, self.offset, length).map_err(Error::Io)?;
        let body = whole.get(group::HEADER_BYTES..).unwrap_or_default();
        if !head.owns(body) || !group::is_well_formed(body, head.count) {
            return Ok(false);
        }
        if head.first > next && head.count > 0 {
            return Ok(false);
        }
        if head.last() >= next {
            group.body.clear();
            group.body.shrink_to(AHEAD_BYTES_MAX);
            group.body.extend_from_slice(body);
            (group.position, group.lsn, group.left) = (0, head.first, head.count);
        }
        self.offset += u64::from(head.length);
        Ok(true)
    }
}

impl OpenGroup {
    fn take(&mut self) -> Option<Entry> {
        self.left = self.left.checked_sub(1)?;
        let rest = &self.body[self.position..];
        let (record, _) = group::split_record(rest).expect("the group was well formed when it was loaded");
        let entry = Entry {
            lsn: self.lsn,
            header: record.header,
            body: record.body.to_vec(),
        };
        self.position += group::RECORD_OVERHEAD_BYTES + record.body.len();
        self.lsn = self.lsn.next();
        Some(entry)
    }
}
