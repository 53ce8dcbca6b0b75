//! Where segments live: the seam between the log and the file system.
//!
//! | implementation | for |
//! |---|---|
//! | [`Disk`] | one directory of a real file system |
//! | [`Faulty`] | tests: in memory, with failing and lying syncs, power cuts, torn writes, flipped bits, no space |
//!
//! What the log assumes of any of them: a write below an earlier length changes no other byte; a sector of 512 bytes that
//! is overwritten when the power fails holds, byte for byte, old or new content; what a successful `sync` covered stays.

use std::io;

mod disk;
mod faulty;

pub use disk::Disk;
pub use faulty::Faulty;

/// A directory of segment files.
pub trait Storage: Send + Sync + 'static {
    /// Creates `name` with `length` bytes allocated and reading as zero, durably *after* its first `sync` and
    /// `sync_directory`.
    ///
    /// # Errors
    /// When the name exists, or there is no space; then no file of that name is left if that can be helped.
    fn create(&self, name: &str, length: u64) -> io::Result<Box<dyn File>>;
    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// When there is no such file.
    fn open(&self, name: &str) -> io::Result<Box<dyn File>>;
    /// The names present, in no order.
    ///
    /// # Errors
    /// When the directory cannot be read.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Removes a file. Whoever has it open can go on reading it.
    ///
    /// # Errors
    /// When there is no such file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations and removals durable.
    ///
    /// # Errors
    /// When the directory cannot be synced.
    fn sync_directory(&self) -> io::Result<()>;
    /// Bytes that can still be allocated.
    ///
    /// # Errors
    /// As the device reports.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// One open segment file.
pub trait File: Send + Sync {
    /// Reads up to `buffer.len()` bytes at `offset`; none only at the end of the file.
    ///
    /// # Errors
    /// As the device reports.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// As the device reports; what was written is then unknown.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// `fdatasync`: returns once all writes before it are durable.
    ///
    /// # Errors
    /// After an error the state of every unsynced write is unknown.
    fn sync(&self) -> io::Result<()>;
    /// Length in bytes.
    ///
    /// # Errors
    /// As the device reports.
    fn length(&self) -> io::Result<u64>;
}
