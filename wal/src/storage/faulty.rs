//! A directory in memory that fails on purpose.
//!
//! ```text
//!   write ─► visible ───────────────► what reads see, until the power is cut
//!     └────► versions per sector ───► at the cut each sector holds any of them, or a mix torn at any byte
//!   sync ──► durable  ──────────────► what the cut always leaves
//!   create, remove ─► names ────────► until the directory is synced, each may or may not have happened
//! ```
//!
//! It is for tests of the log and of what stands on it. A failed sync behaves as on Linux: the writes stay visible and
//! count as clean, so a later sync does not make them durable. All choices come from the seed given.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use content::{Content, Dice};
use parking_lot::Mutex;

use super::{File, Storage};

mod content;

/// Error numbers as Linux reports them.
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
/// The seed with which every creation and removal happened.
const ALL_NAMES: u64 = u64::MAX;

/// A directory in memory whose failures are chosen by the test. Clones share it.
#[derive(Clone, Default)]
pub struct Faulty {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<u64, Content>,
    next_file: u64,
    /// What `open` and `list` see.
    names: BTreeMap<String, u64>,
    /// What the directory holds on the device.
    durable_names: BTreeMap<String, u64>,
    faults: Faults,
    counts: Counts,
}

#[derive(Clone, Default)]
struct Faults {
    /// Syncs left before they fail.
    syncs_left: Option<u64>,
    /// Writes left before they fail.
    writes_left: Option<u64>,
    syncs_lie: bool,
    space_bytes: Option<u64>,
    power_is_off: bool,
}

#[derive(Default)]
struct Counts {
    syncs: u64,
    writes: u64,
}

impl Faulty {
    /// An empty directory without faults.
    #[must_use]
    pub fn new() -> Faulty {
        Faulty::default()
    }

    /// Lets `count` more syncs succeed (of files or of the directory); every one after them fails with EIO.
    pub fn fail_syncs_after(&self, count: u64) {
        self.state.lock().faults.syncs_left = Some(count);
    }

    /// Lets `count` more writes succeed; every one after them fails with EIO, half written.
    pub fn fail_writes_after(&self, count: u64) {
        self.state.lock().faults.writes_left = Some(count);
    }

    /// From now on file syncs succeed without doing anything: the fault that a test of durability must notice.
    pub fn lie_about_syncs(&self) {
        self.state.lock().faults.syncs_lie = true;
    }

    /// Bytes of all files together at which allocation and writes beyond a file's end fail with ENOSPC; `None` is no limit.
    pub fn limit_space(&self, bytes: Option<u64>) {
        self.state.lock().faults.space_bytes = bytes;
    }

    /// Ends all faults. What a failed sync left undurable stays so.
    pub fn heal(&self) {
        self.state.lock().faults = Faults::default();
    }

    /// Syncs tried so far, of files and of the directory.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.state.lock().counts.syncs
    }

    /// Writes tried so far.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.state.lock().counts.writes
    }

    /// Cuts the power: this directory and its open files fail from now on. Returns what survived, a directory without
    /// faults: everything synced, and of the rest whatever `seed` chooses.
    #[must_use]
    pub fn power_cut(&self, seed: u64) -> Faulty {
        let mut dice = Dice(seed);
        // Each cut has its own mood, from "nothing unsynced arrived" to "all but one sector did".
        let kept_percent = [0, 10, 50, 90, 98, 100][dice.below(6)];
        self.cut(|content, _| content.survive_at_random(&mut dice, kept_percent), seed)
    }

    /// Cuts the power in the middle of writing `name`: its unsynced bytes below `offset` arrived, those from there on did
    /// not. Other files and the directory keep everything.
    #[must_use]
    pub fn power_cut_at(&self, name: &str, offset: u64) -> Faulty {
        self.cut(
            |content, file| content.survive_below(if file == name { offset } else { u64::MAX }),
            ALL_NAMES,
        )
    }

    /// Flips one bit of what is stored at `offset` of `name`, as if it were durable.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn flip_bit(&self, name: &str, offset: u64, bit: u8) {
        let byte = self.read(name)[offset as usize] ^ (1 << bit);
        self.overwrite(name, offset, &[byte]);
    }

    /// Changes stored bytes behind everyone's back, as if they were durable.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn overwrite(&self, name: &str, offset: u64, bytes: &[u8]) {
        self.state.lock().content(name).overwrite(offset, bytes);
    }

    /// Cuts a file to `length` bytes, durably.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn truncate(&self, name: &str, length: u64) {
        self.state.lock().content(name).truncate(length);
    }

    /// Takes a file away, durably.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn lose(&self, name: &str) {
        let mut state = self.state.lock();
        state.names.remove(name).expect("the test names a file that is there");
        state.durable_names.remove(name);
    }

    /// Everything in a file, as reads see it.
    ///
    /// # Panics
    /// When there is no such file.
    #[must_use]
    pub fn read(&self, name: &str) -> Vec<u8> {
        let mut state = self.state.lock();
        let content = state.content(name);
        let mut bytes = vec![0; content.length() as usize];
        content.read(&mut bytes, 0);
        bytes
    }

    /// An independent copy, unsynced writes and all, without faults.
    #[must_use]
    pub fn copy(&self) -> Faulty {
        let state = self.state.lock();
        let copy = State {
            files: state.files.clone(),
            next_file: state.next_file,
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            ..State::default()
        };
        Faulty {
            state: Arc::new(Mutex::new(copy)),
        }
    }

    /// `names_seed` chooses which unsynced creations and removals happened.
    fn cut(&self, mut survive: impl FnMut(&mut Content, &str), names_seed: u64) -> Faulty {
        let survivor = self.copy();
        self.state.lock().faults.power_is_off = true;
        let mut state = survivor.state.lock();
        let mut dice = Dice(names_seed ^ 0x6e61_6d65);
        let State {
            names, durable_names, ..
        } = &mut *state;
        let either: BTreeSet<String> = names.keys().chain(durable_names.keys()).cloned().collect();
        for name in either {
            let durable = durable_names.get(&name).copied();
            if names.get(&name).copied() == durable || names_seed == ALL_NAMES || dice.below(2) == 0 {
                continue;
            }
            match durable {
                Some(file) => names.insert(name, file),
                None => names.remove(&name),
            };
        }
        *durable_names = names.clone();
        let State { files, names, .. } = &mut *state;
        for (name, file) in names.iter() {
            survive(files.get_mut(file).expect("a name leads to a file"), name);
        }
        drop(state);
        survivor
    }
}

impl State {
    fn content(&mut self, name: &str) -> &mut Content {
        let file = self.names.get(name).expect("the test names a file that is there");
        self.files.get_mut(file).expect("a name leads to a file")
    }

    fn check_power(&self) -> io::Result<()> {
        if self.faults.power_is_off {
            Err(io::Error::from_raw_os_error(EIO))
        } else {
            Ok(())
        }
    }

    fn free_bytes(&self) -> u64 {
        let used = self.names.values().map(|file| self.files[file].length()).sum();
        self.faults
            .space_bytes
            .map_or(u64::MAX, |space| space.saturating_sub(used))
    }
}

impl Faults {
    fn begin_sync(&mut self, counts: &mut Counts) -> io::Result<()> {
        counts.syncs += 1;
        spend(&mut self.syncs_left)
    }
}

/// Takes one from what is left; an error when nothing is.
fn spend(left: &mut Option<u64>) -> io::Result<()> {
    match left {
        Some(0) => Err(io::Error::from_raw_os_error(EIO)),
        Some(count) => {
            *count -= 1;
            Ok(())
        }
        None => Ok(()),
    }
}

impl Storage for Faulty {
    fn create(&self, name: &str, length: u64) -> io::Result<Box<dyn File>> {
        let mut state = self.state.lock();
        state.check_power()?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if state.free_bytes() < length {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        let file = state.next_file;
        state.next_file += 1;
        state.files.insert(file, Content::allocated(length));
        state.names.insert(name.to_owned(), file);
        Ok(Box::new(Open {
            state: Arc::clone(&self.state),
            file,
        }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let state = self.state.lock();
        state.check_power()?;
        let file = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Open {
            state: Arc::clone(&self.state),
            file,
        }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        state.check_power()?;
        Ok(state.names.keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check_power()?;
        state
            .names
            .remove(name)
            .map(|_| ())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check_power()?;
        let State { faults, counts, .. } = &mut *state;
        faults.begin_sync(counts)?;
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state.lock();
        state.check_power()?;
        Ok(state.free_bytes())
    }
}

/// An open file.
struct Open {
    state: Arc<Mutex<State>>,
    file: u64,
}

impl File for Open {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.state.lock();
        state.check_power()?;
        Ok(state.files[&self.file].read(buffer, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check_power()?;
        let free = state.free_bytes();
        let State {
            files, faults, counts, ..
        } = &mut *state;
        let content = files.get_mut(&self.file).expect("an open file has content");
        counts.writes += 1;
        if let Err(error) = spend(&mut faults.writes_left) {
            content.write(&bytes[..bytes.len() / 2], offset);
            return Err(error);
        }
        if (offset + bytes.len() as u64).saturating_sub(content.length()) > free {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        content.write(bytes, offset);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check_power()?;
        let State {
            files, faults, counts, ..
        } = &mut *state;
        let content = files.get_mut(&self.file).expect("an open file has content");
        faults.begin_sync(counts).inspect_err(|_| content.fail_sync())?;
        if !faults.syncs_lie {
            content.sync();
        }
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        let state = self.state.lock();
        state.check_power()?;
        Ok(state.files[&self.file].length())
    }
}
