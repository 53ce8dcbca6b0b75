//! Where segments live: the seam between the log and the file system, so that tests can fail syncs, drop and reorder
//! unsynced sectors and tear writes.

use std::io;

/// A directory of segment files.
pub trait Storage: Send + Sync + 'static {
    /// Creates `name` with `length` bytes allocated and reading as zero, durably *after* its first `sync` and `sync_directory`.
    ///
    /// # Errors
    /// When the name exists, or there is no space.
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
    /// Removes a file.
    ///
    /// # Errors
    /// When there is no such file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations and removals durable.
    ///
    /// # Errors
    /// When the directory cannot be synced.
    fn sync_directory(&self) -> io::Result<()>;
}

/// One open segment file.
pub trait File: Send + Sync {
    /// Reads up to `buffer.len()` bytes at `offset`; fewer only at the end of the file.
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
