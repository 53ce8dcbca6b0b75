//! The segment being written.

use std::io;

use xxhash_rust::xxh3::Xxh3;

use crate::{
    Error, Lsn, Record, group,
    scan::{Opened, Scan},
    segment,
    storage::{File, Storage},
};

/// The last segment of the log, open for appending.
pub(crate) struct Active {
    file: Box<dyn File>,
    header: segment::Header,
    salt: u32,
    /// Head CRC of the last group.
    chain: u32,
    /// Where the next group goes.
    pub(crate) end: u64,
    /// Over the bytes up to `end`.
    digest: Xxh3,
    /// Last LSN in this segment; one below its first when there is none.
    last: Lsn,
    /// Whether bytes were written since the last sync.
    unsynced: bool,
}

/// Allocates the file of segment `number`. Nothing is written yet.
///
/// # Errors
/// [`Error::Full`] when there is no space; any other error is [`Error::Failed`].
pub(crate) fn allocate(storage: &dyn Storage, number: u64, bytes: u64) -> Result<Box<dyn File>, Error> {
    let name = segment::file_name(number);
    let outcome = match storage.create(&name, bytes) {
        // Left by an attempt that ran out of space and could not clean up: never part of the log.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            storage.remove(&name).and_then(|()| storage.create(&name, bytes))
        }
        outcome => outcome,
    };
    outcome.map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full(error),
        _ => Error::Failed(error),
    })
}

impl Active {
    /// Makes an allocated file the newest segment, durably: the file is synced, then the directory.
    pub(crate) fn begin(storage: &dyn Storage, file: Box<dyn File>, header: segment::Header) -> io::Result<Active> {
        let block = header.encode();
        let segment::Decoded::Header(_, salt) = segment::Header::decode(&block) else {
            return Err(io::Error::other(
                "a segment header that does not decode was about to be written",
            ));
        };
        file.write_at(&block, 0)?;
        file.sync()?;
        storage.sync_directory()?;
        Ok(Active {
            file,
            salt,
            chain: salt,
            end: segment::HEADER_BYTES,
            digest: segment::digest_of(&block),
            last: header.first.previous(),
            unsynced: false,
            header,
        })
    }

    /// Goes on behind what recovery kept and synced.
    pub(crate) fn resume(opened: Opened, scan: Scan) -> Active {
        Active {
            file: opened.file,
            header: opened.header,
            salt: opened.salt,
            chain: scan.chain,
            end: scan.end,
            digest: scan.digest,
            last: scan.last,
            unsynced: false,
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.header.number
    }

    pub(crate) fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    pub(crate) fn fits(&self, bytes: usize) -> bool {
        self.end + bytes as u64 <= self.header.groups_end_max()
    }

    /// Frames `records` in `buffer` and writes them as the next group, which must fit.
    pub(crate) fn write(
        &mut self,
        buffer: &mut Vec<u8>,
        first: Lsn,
        synced_through: Lsn,
        records: &[Record<'_>],
    ) -> io::Result<()> {
        let position = group::Position {
            salt: self.salt,
            previous: self.chain,
            first,
            synced_through,
        };
        let chain = group::encode(buffer, position, records);
        debug_assert!(self.fits(buffer.len()), "the caller checks that the group fits");
        self.file.write_at(buffer, self.end)?;
        self.digest.update(buffer);
        self.chain = chain;
        self.end += buffer.len() as u64;
        self.last = Lsn(first.0 + records.len() as u64 - 1);
        self.unsynced = true;
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.file.sync()?;
        self.unsynced = false;
        Ok(())
    }

    /// Writes the footer, durably. Everything before it is synced first: a footer is proof that its records were durable.
    pub(crate) fn seal(&mut self) -> io::Result<()> {
        if self.unsynced {
            self.sync()?;
        }
        let footer = segment::Footer {
            number: self.header.number,
            first: self.header.first,
            last: self.last,
            end: self.end,
            digest: self.digest.digest128(),
        };
        self.file.write_at(&footer.encode(), self.header.groups_end_max())?;
        self.sync()
    }

    /// The header of the segment after this one, once this one is sealed.
    pub(crate) fn successor(&self, first: Lsn, capacity: u64, owner: &[u8]) -> segment::Header {
        segment::Header {
            number: self.header.number + 1,
            first,
            previous_last: self.last,
            previous_digest: self.digest.digest128(),
            capacity,
            owner: owner.to_vec(),
        }
    }
}
