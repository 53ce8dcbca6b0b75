//! The log's numbers.

use crate::{Error, Lsn, group, segment};

/// Sizes of the log, fixed while it is open; they may differ from one opening to the next.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes allocated for each new segment file.
    pub segment_bytes: u64,
    /// The largest group, framed. [`crate::Log::append`] refuses more.
    pub group_bytes_max: usize,
    /// Sealed segments whose every record is at or below this are checked at opening by their header, footer and chain
    /// only, not byte by byte: the caller holds what they say elsewhere. [`Lsn::ZERO`] checks everything.
    pub verify_above: Lsn,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            segment_bytes: 64 << 20,
            group_bytes_max: 16 << 20,
            verify_above: Lsn::ZERO,
        }
    }
}

impl Settings {
    /// Checks that a group of the largest size fits into a segment.
    ///
    /// # Errors
    /// [`Error::Settings`] with the numbers that would work.
    pub fn validate(&self) -> Result<(), Error> {
        let smallest = (group::HEADER_BYTES + 8) as u64;
        let room = self
            .segment_bytes
            .saturating_sub(segment::HEADER_BYTES + segment::FOOTER_BYTES);
        if !self.segment_bytes.is_multiple_of(8) {
            return Err(Error::Settings(format!(
                "segment_bytes is {}, but must be a multiple of 8",
                self.segment_bytes
            )));
        }
        if room < smallest || self.group_bytes_max as u64 > room || self.group_bytes_max > u32::MAX as usize {
            return Err(Error::Settings(format!(
                "a segment of {} bytes holds groups of at most {room} bytes, so group_bytes_max cannot be {}",
                self.segment_bytes, self.group_bytes_max
            )));
        }
        Ok(())
    }
}
