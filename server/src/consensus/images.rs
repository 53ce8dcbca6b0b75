//! Images of the ledger on their way from one member to another; what breaks off goes on where it ended.
//!
//! ```text
//!  sender     one moment ─► outgoing-… with its sum, kept until it was taken, or nobody has asked for it for a while
//!                │ Received: how much of it is there?  ─────►  receiver   SUM.part, as far as its chunks are sound
//!                └ Install: the rest                   ─────►             to its end ─► its sum is compared ─► image-… ─► put in place
//! ```
//!
//! Invariants:
//! - An image is known by the sum of all its bytes, so what two senders made, or one at two times, is never mixed.
//! - What is kept of an image that broke off is believed as far as its chunks' own sums go: it needs no sync, and what a power cut or the
//!   disk made of it is sent again.
//! - At most one image is kept at either end, and a part of one; a part goes when another begins or is in place, or after a while.
//! - A sender's log is not purged beyond an image that is on its way, for a while: whoever takes it goes on from the log.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use engine::{
    Engine, backup,
    image::{self, Applied},
};
use metrics::{Counter, Gauge};
use parking_lot::Mutex;
use proto::v1 as wire;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard, mpsc};

use super::{
    types::{LogId, log_id},
    wire::{Unreadable, missing},
};
use crate::{
    metrics::{self as counts, Metrics},
    runtime::{entropy, tasks, time::Stopwatch},
};

/// What nobody asks for is kept for so long, at either end.
const KEPT_FOR: Duration = Duration::from_mins(5);
/// So many snapshots of the log are put off for the sake of one image.
const PUT_OFF_MAX: u32 = 16;
/// The name of a part ends so.
const PART: &str = "part";

/// An image as it is known to both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) sum: [u8; 32],
    pub(super) bytes: u64,
}

impl Known {
    pub(super) fn to_wire(self) -> wire::Image {
        wire::Image {
            sum: self.sum.to_vec(),
            bytes: self.bytes,
        }
    }

    pub(super) fn of_wire(image: Option<wire::Image>) -> Result<Known, Unreadable> {
        let wire::Image { sum, bytes } = image.ok_or_else(|| missing("image"))?;
        let sum = sum.try_into().map_err(|_| missing("sum of an image"))?;
        Ok(Known { sum, bytes })
    }
}

/// Images at both ends; clones share them.
#[derive(Clone)]
pub(super) struct Images(Arc<Shared>);

struct Shared {
    /// `None`: none are made or taken.
    directory: Option<PathBuf>,
    /// The one that is kept for those that ask for it.
    outgoing: Mutex<Option<Arc<Outgoing>>>,
    /// One is made at a time, and others wait for it.
    making: Turn<()>,
    /// One is taken at a time.
    taking: Arc<Turn<()>>,
    /// Since a part was last added to.
    added: Mutex<Stopwatch>,
    /// Bytes sent to each member.
    sent: Mutex<HashMap<u64, u64>>,
    received: Counter,
    resumed: Counter,
    /// Of the one that comes now.
    coming: (Gauge, Gauge),
}

/// An image that was made here; its file goes with it.
pub(super) struct Outgoing {
    pub(super) path: PathBuf,
    pub(super) known: Known,
    applied: Applied,
    used: Mutex<Stopwatch>,
    put_off: AtomicU32,
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, file = %self.path.display(), "an image that nobody needs is left behind");
        }
    }
}

impl Images {
    pub(super) fn new(directory: Option<PathBuf>, metrics: &Metrics) -> Images {
        let gauge = |metric| metrics.gauge(metric, &[]);
        Images(Arc::new(Shared {
            directory,
            outgoing: Mutex::default(),
            making: Turn::default(),
            taking: Arc::default(),
            added: Mutex::new(Stopwatch::start()),
            sent: Mutex::default(),
            received: metrics.counter(counts::IMAGE_RECEIVED, &[]),
            resumed: metrics.counter(counts::IMAGE_RESUMED, &[]),
            coming: (gauge(counts::IMAGE_COMING), gauge(counts::IMAGE_COMING_SIZE)),
        }))
    }

    /// Where they lie.
    pub(super) fn directory(&self) -> io::Result<PathBuf> {
        let none = || io::Error::other("there is no directory for images");
        self.0.directory.clone().ok_or_else(none)
    }

    /// An image that has come at least as far as `upto`: the one that is kept, or a new one.
    pub(super) async fn outgoing(&self, engine: &Engine, upto: Option<LogId>) -> io::Result<Arc<Outgoing>> {
        let _one = self.0.making.lock().await;
        let kept = self.0.outgoing.lock().clone();
        if let Some(kept) = kept.filter(|kept| kept.applied.last.map(log_id) >= upto) {
            *kept.used.lock() = Stopwatch::start();
            return Ok(kept);
        }
        // Room for the new one first.
        drop(self.0.outgoing.lock().take());
        let path = self.directory()?.join(format!("outgoing-{:016x}", entropy::bits()));
        let engine = engine.clone();
        let made = tasks::blocking(move || make(&engine, path)).await;
        let made = Arc::new(made.unwrap_or_else(|| Err(io::Error::other("making an image panicked")))?);
        *self.0.outgoing.lock() = Some(Arc::clone(&made));
        Ok(made)
    }

    /// A member has taken `image`: nobody goes on with it.
    pub(super) fn taken(&self, image: &Arc<Outgoing>) {
        let mut outgoing = self.0.outgoing.lock();
        if outgoing.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, image)) {
            *outgoing = None;
        }
    }

    /// Whether a snapshot, behind which the log is purged, is put off for the sake of an image that is on its way.
    pub(super) fn put_off_snapshot(&self) -> bool {
        let outgoing = self.0.outgoing.lock();
        let put_off = |kept: &Arc<Outgoing>| kept.put_off.fetch_add(1, Ordering::Relaxed) < PUT_OFF_MAX;
        outgoing.as_ref().is_some_and(put_off)
    }

    /// Counts what was sent to a member.
    pub(super) fn count_sent(&self, member: u64, bytes: usize) {
        *self.0.sent.lock().entry(member).or_default() += bytes as u64;
    }

    /// Bytes of images sent to a member.
    pub(super) fn sent(&self, member: u64) -> u64 {
        self.0.sent.lock().get(&member).copied().unwrap_or_default()
    }

    /// Lets go what nobody has asked for in a while; a node that does not lead sends none.
    pub(super) async fn let_go(&self, leads: bool) {
        {
            let mut outgoing = self.0.outgoing.lock();
            let idle = |kept: &Arc<Outgoing>| Arc::strong_count(kept) == 1;
            let old = |kept: &Arc<Outgoing>| !leads || kept.used.lock().elapsed() > KEPT_FOR;
            if outgoing.as_ref().is_some_and(|kept| idle(kept) && old(kept)) {
                *outgoing = None;
            }
        }
        if self.0.added.lock().elapsed() < KEPT_FOR {
            return;
        }
        let Ok(one) = Arc::clone(&self.0.taking).try_lock_owned() else {
            return;
        };
        *self.0.added.lock() = Stopwatch::start();
        if let Some(directory) = self.0.directory.clone() {
            let removed = tasks::blocking(move || remove_parts(&directory, None)).await;
            if let Some(Err(error)) = removed {
                tracing::warn!(%error, "the part of an image that nobody sends any more is left behind");
            }
        }
        drop(one);
    }

    /// The turn to take an image; `None` while another one is being taken.
    pub(super) fn turn(&self) -> Option<OwnedMutexGuard<()>> {
        Arc::clone(&self.0.taking).try_lock_owned().ok()
    }

    /// How much of an image is here, and sound; the rest of it is cut off.
    pub(super) async fn received(&self, image: Known) -> io::Result<u64> {
        let path = part(&self.directory()?, &image);
        let sound = tasks::blocking(move || match path.try_exists()? {
            true => cut_to_sound(&path),
            false => Ok(0),
        });
        sound
            .await
            .unwrap_or_else(|| Err(io::Error::other("reading an image panicked")))
    }

    /// Begins to take the bytes of `image` that stand behind `from`. Whoever holds `turn` takes it.
    pub(super) fn take(&self, image: Known, from: u64, turn: OwnedMutexGuard<()>) -> io::Result<Taking> {
        let directory = self.directory()?;
        let (sender, pieces) = mpsc::channel::<Bytes>(PIECES_MAX);
        let images = self.clone();
        let written = tasks::spawn(async move {
            let work = move || images.write(&directory, image, from, pieces);
            let written = tasks::blocking(work).await;
            let written = written.unwrap_or_else(|| Err(io::Error::other("writing an image panicked")));
            // Also when its sender and the call are gone, nobody else writes before this one has ended.
            (written, turn)
        });
        Ok(Taking { sender, written })
    }

    /// Writes pieces behind `from`; the file, once it is whole, synced, and its sum is right.
    fn write(
        &self,
        directory: &Path,
        image: Known,
        from: u64,
        mut pieces: mpsc::Receiver<Bytes>,
    ) -> io::Result<PathBuf> {
        fs::create_dir_all(directory)?;
        let path = part(directory, &image);
        remove_parts(directory, Some(&path))?;
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        let has = file.metadata()?.len();
        if has < from {
            return Err(io::Error::other(format!(
                "only {has} bytes of the image are here, not {from}"
            )));
        }
        file.set_len(from)?;
        self.0.resumed.increment(from);
        self.0.coming.1.set(image.bytes as f64);
        let appended = self.append(&mut file, image, from, &mut pieces);
        self.0.coming.0.set(0.0);
        self.0.coming.1.set(0.0);
        *self.0.added.lock() = Stopwatch::start();
        if let Err(error) = appended {
            // What is there is good for nothing but to take room that seems to be missing.
            drop(fs::remove_file(&path));
            return Err(error);
        }
        let bytes = file.metadata()?.len();
        if bytes < image.bytes {
            return Err(io::Error::other(format!(
                "it broke off after {bytes} of {} bytes",
                image.bytes
            )));
        }
        file.sync_all()?;
        if image::sum(&path).map_err(io::Error::other)? != image.sum {
            let sound = cut_to_sound(&path)?;
            if sound == bytes {
                fs::remove_file(&path)?;
            }
            return Err(io::Error::other(format!(
                "it is damaged behind {sound} of {bytes} bytes: send the rest again"
            )));
        }
        // A name of its own: another may be in the middle of being put in place.
        let whole = directory.join(format!("image-{:016x}", entropy::bits()));
        fs::rename(&path, &whole)?;
        File::open(directory)?.sync_all()?;
        Ok(whole)
    }

    fn append(&self, file: &mut File, image: Known, from: u64, pieces: &mut mpsc::Receiver<Bytes>) -> io::Result<()> {
        let mut has = from;
        while let Some(piece) = pieces.blocking_recv() {
            has += piece.len() as u64;
            if has > image.bytes {
                return Err(io::Error::other(format!(
                    "it has more than the {} bytes it was said to have",
                    image.bytes
                )));
            }
            file.write_all(&piece)?;
            self.0.received.increment(piece.len() as u64);
            self.0.coming.0.set(has as f64);
        }
        Ok(())
    }
}

/// Pieces of an image that wait to be written.
const PIECES_MAX: usize = 2;

/// An image that is being taken. Dropped, what has come is written all the same.
pub(super) struct Taking {
    sender: mpsc::Sender<Bytes>,
    written: tokio::task::JoinHandle<(io::Result<PathBuf>, OwnedMutexGuard<()>)>,
}

impl Taking {
    /// Takes a piece; whether more can be taken.
    pub(super) async fn piece(&self, data: Bytes) -> bool {
        data.is_empty() || self.sender.send(data).await.is_ok()
    }

    /// Waits until all pieces are written: the file if it is whole.
    pub(super) async fn end(self) -> io::Result<(PathBuf, OwnedMutexGuard<()>)> {
        drop(self.sender);
        let (written, turn) = self.written.await.map_err(io::Error::other)?;
        Ok((written?, turn))
    }
}

fn make(engine: &Engine, path: PathBuf) -> io::Result<Outgoing> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    let digest = match engine.export_image(&path) {
        Ok(digest) => digest,
        Err(error) => {
            drop(fs::remove_file(&path));
            return Err(io::Error::other(error));
        }
    };
    let known = Known {
        sum: digest.sum,
        bytes: fs::metadata(&path)?.len(),
    };
    Ok(Outgoing {
        path,
        known,
        applied: digest.applied,
        used: Mutex::new(Stopwatch::start()),
        put_off: AtomicU32::new(0),
    })
}

/// The part of an image that is here.
fn part(directory: &Path, image: &Known) -> PathBuf {
    directory.join(format!("{}.{PART}", backup::hex(&image.sum)))
}

fn cut_to_sound(path: &Path) -> io::Result<u64> {
    let sound = image::sound_bytes(path).map_err(io::Error::other)?;
    OpenOptions::new().write(true).open(path)?.set_len(sound)?;
    Ok(sound)
}

/// Removes all parts but one.
fn remove_parts(directory: &Path, but: Option<&Path>) -> io::Result<()> {
    remove_all(directory, |path| is_part(path) && Some(path) != but)
}

fn is_part(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == PART)
}

/// Removes what an earlier life sent or received, but for the part of an image that broke off.
pub(super) fn begin(directory: &Path) -> io::Result<()> {
    remove_all(directory, |path| !is_part(path))
}

fn remove_all(directory: &Path, goes: impl Fn(&Path) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if goes(&path) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
