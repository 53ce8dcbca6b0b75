//! The durable log.
//!
//! ```text
//!  append(records) ──► group: length, CRCs, first LSN, `synced_through` ──► segment file (64 MiB, allocated before use)
//!  sync()          ──► one fdatasync for everything appended before it  ──► the synced LSN: what readers may see
//!  Reader          ◄── follows the log from any LSN, on any thread, never above the synced LSN
//!  Consumer        ◄── names the LSN it has reached; retire() drops whole segments below all of them
//! ```
//!
//! | file | what it decides |
//! |---|---|
//! | `segment`, `group` | the bytes (`docs/formats/log.md` shows them as tables) |
//! | `log`, `active` | the writing side: append, sync, rotation, retention |
//! | `recovery`, `scan` | what a crash may leave behind, and what is damage |
//! | `reader`, `catalog`, `consumers` | what other threads see of the log |
//! | [`inspect`] | looking at a log without writing to it: what is there, and everything that is damaged |
//! | [`storage`] | the seam to the file system: a real directory, or one that fails on purpose |
//!
//! # Invariants
//!
//! - An LSN that [`Log::sync`] returned is found again after any crash, or opening refuses with [`Error::Damaged`].
//! - What opening keeps is a prefix of what was appended: nothing out of order, nothing after a gap.
//! - LSNs are never reused for another acknowledged record.
//! - A group lies wholly in one segment. A segment is wholly synced before the next one says so in its header.
//! - After a failed write or sync nothing is acknowledged any more.
//!
//! The log knows records as opaque bytes with a one-byte caller header. It refuses to know what time it is, what a
//! record means and that a database exists.

mod active;
mod catalog;
mod consumers;
mod error;
mod group;
pub mod inspect;
mod log;
mod reader;
mod recovery;
mod scan;
mod segment;
mod settings;
pub mod storage;
mod window;

pub use catalog::{Extent, Handle};
pub use consumers::Consumer;
pub use error::{Damage, Error};
pub use group::{GROUP_OVERHEAD_BYTES, RECORD_OVERHEAD_BYTES, Record};
pub use log::{Keep, Log};
pub use reader::{Entry, Reader};
pub use recovery::Recovery;
pub use segment::OWNER_BYTES_MAX;
pub use settings::Settings;

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

    /// The LSN before this one; before [`Lsn::ZERO`] there is nothing but itself.
    pub(crate) fn previous(self) -> Lsn {
        Lsn(self.0.saturating_sub(1))
    }
}

impl std::fmt::Display for Lsn {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.0)
    }
}
