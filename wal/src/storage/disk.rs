//! One directory of a real file system.

use std::{
    fs, io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FallocateFlags, FlockOperation},
    io::Errno,
};

use super::{File, Storage};

/// A directory that holds a log. While it is open no second process can open it.
pub struct Disk {
    path: PathBuf,
    /// Open for syncing its entries, and locked unless it is only read.
    directory: fs::File,
    is_read_only: bool,
}

impl Disk {
    /// Opens the directory, creating it durably when it is not there.
    ///
    /// # Errors
    /// When it cannot be created or read, or when another process holds it.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Disk> {
        let path = path.into();
        if !path.is_dir() {
            fs::create_dir_all(&path)?;
            // The new entry stands in the parent; a relative path of one part has the current directory as parent.
            let parent = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty())
                .unwrap_or(Path::new("."));
            fs::File::open(parent)?.sync_all()?;
        }
        let directory = fs::File::open(&path)?;
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Disk {
                path,
                directory,
                is_read_only: false,
            }),
            Err(Errno::WOULDBLOCK) => Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!("the log in {} is in use by another process", path.display()),
            )),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a directory that is there for reading alone: nothing is created, written, removed or locked. Whoever reads
    /// sees to it that nobody writes meanwhile, or expects to see half of it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn for_reading(path: impl Into<PathBuf>) -> io::Result<Disk> {
        let path = path.into();
        let directory = fs::File::open(&path)?;
        if !directory.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Disk {
            path,
            directory,
            is_read_only: true,
        })
    }

    fn refuse_to_write(&self) -> io::Result<()> {
        if self.is_read_only {
            return Err(io::Error::new(
                io::ErrorKind::ReadOnlyFilesystem,
                format!("{} was opened for reading alone", self.path.display()),
            ));
        }
        Ok(())
    }
}

impl Storage for Disk {
    fn create(&self, name: &str, length: u64) -> io::Result<Box<dyn File>> {
        self.refuse_to_write()?;
        let path = self.path.join(name);
        let file = fs::File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        match allocate(&file, length) {
            Ok(()) => Ok(Box::new(file)),
            Err(error) => {
                // Half a file would hold the space that is short. Should removing it fail too, the first error is the
                // one to act on, and opening the log removes what is left.
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let mut options = fs::File::options();
        options.read(true).write(!self.is_read_only);
        Ok(Box::new(options.open(self.path.join(name))?))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.refuse_to_write()?;
        fs::remove_file(self.path.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let volume = rustix::fs::fstatvfs(&self.directory)?;
        Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
    }
}

/// Allocates every block, so that no later write can run out of space.
fn allocate(file: &fs::File, length: u64) -> io::Result<()> {
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, length) {
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return fill_with_zeros(file, length),
            outcome => return Ok(outcome?),
        }
    }
}

/// For file systems that cannot allocate without writing.
fn fill_with_zeros(file: &fs::File, length: u64) -> io::Result<()> {
    let zeros = vec![0; 1 << 20];
    let mut offset = 0;
    while offset < length {
        let step = (length - offset).min(zeros.len() as u64);
        file.write_all_at(&zeros[..step as usize], offset)?;
        offset += step;
    }
    Ok(())
}

impl File for fs::File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match std::os::unix::fs::FileExt::read_at(self, buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}
