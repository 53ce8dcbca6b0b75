//! The durable log.
//!
//! ```text
//!  append(records) ──► group: one length, one CRC, one first LSN, `synced_through` ──► segment file (64 MiB, pre-allocated)
//!  sync()          ──► one fdatasync for everything appended before it             ──► synced LSN, what readers may see
//!  Reader          ◄── follows the log from any LSN, never above the synced LSN
//!  Consumers       ◄── each names the lowest LSN it still needs; retire() drops segments below all of them
//! ```
//!
//! The log knows records as opaque bytes with a one-byte caller header. It refuses to know what time it is, what a
//! record means and that a database exists.

mod error;
mod log;
pub mod storage;

pub use error::Error;
pub use log::{Consumer, Damage, Entry, Log, Reader, Record, Recovery, Settings};

/// Log sequence number: the position of one record in the log. The first record is 1; 0 means "before everything".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before the first record.
    pub const ZERO: Lsn = Lsn(0);

    /// The LSN after this one.
    #[must_use]
    pub fn next(self) -> Lsn {
        Lsn(self.0 + 1)
    }
}

impl std::fmt::Display for Lsn {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.0)
    }
}
