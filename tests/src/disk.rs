//! A small file system of its own, and another program that fills it.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tempfile::TempDir;

/// How often the other program takes what has become free.
const TAKE_EVERY: Duration = Duration::from_millis(5);

/// A file system in a file, mounted by a loop device; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    /// An ext4 of `bytes`, without blocks kept for root.
    ///
    /// # Errors
    /// What this machine does not allow.
    ///
    /// # Panics
    /// When there is no temporary directory.
    pub fn mount(bytes: u64) -> Result<SmallDisk, String> {
        let directory = TempDir::with_prefix("continuum-disk-").expect("a temporary directory");
        let image = directory.path().join("image");
        let file = File::create(&image).expect("a file in our own directory");
        file.set_len(bytes).expect("a sparse file");
        let disk = SmallDisk { directory };
        std::fs::create_dir(disk.path()).expect("a folder in our own directory");
        run("mkfs.ext4", &["-q", "-F", "-m", "0", &image.to_string_lossy()])?;
        let mounted = disk.path();
        run(
            "mount",
            &["-o", "loop", &image.to_string_lossy(), &mounted.to_string_lossy()],
        )?;
        Ok(disk)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }

    /// Bytes free.
    ///
    /// # Panics
    /// When the system does not say.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        let volume = rustix::fs::statvfs(self.path()).expect("a mounted file system");
        volume.f_bavail * volume.f_frsize
    }

    /// A file of `bytes` that the other program leaves there.
    ///
    /// # Panics
    /// When they do not fit.
    #[must_use]
    pub fn ballast(&self, bytes: u64) -> Ballast {
        let ballast = Ballast::new(&self.path());
        let none = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&ballast.file, none, 0, bytes).expect("room for the ballast");
        ballast
    }

    /// A file that takes all there is, to the last byte.
    #[must_use]
    pub fn fill(&self) -> Ballast {
        let mut ballast = Ballast::new(&self.path());
        ballast.take_all();
        ballast
    }

    /// Takes all there is, and what becomes free later, until the ballast is dropped.
    #[must_use]
    pub fn keep_full(&self) -> KeptFull {
        let mut ballast = self.fill();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                ballast.take_all();
                std::thread::sleep(TAKE_EVERY);
            }
        });
        KeptFull {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a node that is still being reaped may hold files on it.
        let _ = run("umount", &["-l", &self.path().to_string_lossy()]);
    }
}

/// What another program keeps on the disk; removed when dropped.
#[derive(Debug)]
pub struct Ballast {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Ballast {
    fn new(directory: &Path) -> Ballast {
        let path = directory.join("ballast");
        let file = OpenOptions::new().create_new(true).append(true).open(&path);
        Ballast {
            path,
            file: file.expect("a new file on the disk"),
            bytes: 0,
        }
    }

    /// Allocates in ever smaller steps, then writes what is left byte by byte of the last block.
    fn take_all(&mut self) {
        for step in [16 << 20, 1 << 20, 64 << 10, 4 << 10] {
            let none = rustix::fs::FallocateFlags::empty();
            while rustix::fs::fallocate(&self.file, none, self.bytes, step).is_ok() {
                self.bytes += step;
            }
        }
        while let Ok(written @ 1..) = self.file.write(&[0; 512]) {
            self.bytes += written as u64;
        }
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Another program that takes whatever becomes free; it stops and gives all back when dropped.
#[derive(Debug)]
pub struct KeptFull {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for KeptFull {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new("env")
        .env("PATH", path)
        .arg(program)
        .args(arguments)
        .output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{program}: {error}")),
    }
}
