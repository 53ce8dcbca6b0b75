//! What is done with bytes that have come, on threads beside the one that receives them.
//!
//! ```text
//!  piece ─┬─► written to its file, in order ─► a file that is all there ─► synced
//!         └─► summed, in order
//! ```
//!
//! So the disk is busy while bytes come, and neither waits for the sum. What waits is bounded: whoever gives more waits too.

use std::{
    fs::File,
    io::Write as _,
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use bytes::Bytes;

use super::folder::failed;
use crate::{
    error::{Code, Failure},
    sum::Sum,
};

/// Pieces of at most 1 MiB, as a rule 256 KiB, that wait to be written and summed.
const PIECES_MAX: usize = 32;
/// Files that wait to be synced.
const FILES_MAX: usize = 2;

/// What is told of a file, in order.
enum Piece<T> {
    Begin(T),
    Bytes(Bytes),
    End,
}

/// A file, and what it is called.
type Named = (File, PathBuf);

/// The threads; dropped, it waits for what was given.
#[derive(Debug)]
pub(super) struct Line {
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    to_write: SyncSender<Piece<Named>>,
    to_sum: SyncSender<Piece<(usize, Sum)>>,
    writes: JoinHandle<Result<(), Failure>>,
    syncs: JoinHandle<Result<(), Failure>>,
    sums: JoinHandle<Vec<(usize, String)>>,
}

/// A thread has ended before its time: [`Line::settle`] says why.
#[derive(Debug)]
pub(super) struct Broken;

impl Line {
    /// Starts the threads.
    #[allow(
        clippy::disallowed_methods,
        reason = "a tool has no runtime that keeps threads for it"
    )]
    pub(super) fn start() -> Line {
        let (to_write, pieces) = sync_channel(PIECES_MAX);
        let (to_sync, files) = sync_channel(FILES_MAX);
        let writes = thread::spawn(move || write(&pieces, &to_sync));
        let syncs = thread::spawn(move || sync(&files));
        let (to_sum, pieces) = sync_channel(PIECES_MAX);
        let sums = thread::spawn(move || sum(&pieces));
        Line {
            running: Some(Running {
                to_write,
                to_sum,
                writes,
                syncs,
                sums,
            }),
        }
    }

    /// Goes on with the file at `index`, whose bytes so far have `sum`.
    pub(super) fn begin(&self, index: usize, file: File, path: PathBuf, sum: Sum) -> Result<(), Broken> {
        self.give(Piece::Begin((file, path)), Piece::Begin((index, sum)))
    }

    /// Its next bytes.
    pub(super) fn bytes(&self, bytes: Bytes) -> Result<(), Broken> {
        self.give(Piece::Bytes(bytes.clone()), Piece::Bytes(bytes))
    }

    /// It is all there.
    pub(super) fn end(&self) -> Result<(), Broken> {
        self.give(Piece::End, Piece::End)
    }

    fn give(&self, to_write: Piece<Named>, to_sum: Piece<(usize, Sum)>) -> Result<(), Broken> {
        let running = self.running.as_ref().ok_or(Broken)?;
        running.to_write.send(to_write).map_err(|_| Broken)?;
        running.to_sum.send(to_sum).map_err(|_| Broken)
    }

    /// Waits until everything is written, summed and, of files that are all there, synced; the sums of those.
    pub(super) fn settle(mut self) -> Result<Vec<(usize, String)>, Failure> {
        self.wait()
    }

    fn wait(&mut self) -> Result<Vec<(usize, String)>, Failure> {
        let Some(running) = self.running.take() else {
            return Ok(Vec::new());
        };
        let Running {
            to_write,
            to_sum,
            writes,
            syncs,
            sums,
        } = running;
        drop((to_write, to_sum));
        let died = |_| Failure::new(Code::Software, "a thread that keeps what is received has died");
        let (written, synced, summed) = (writes.join(), syncs.join(), sums.join());
        written.map_err(died)??;
        synced.map_err(died)??;
        summed.map_err(died)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Whoever wants to know has settled.
        let _unheard = self.wait();
    }
}

fn write(pieces: &Receiver<Piece<Named>>, to_sync: &SyncSender<Named>) -> Result<(), Failure> {
    let mut open: Option<Named> = None;
    for piece in pieces {
        match (piece, &mut open) {
            (Piece::Begin(named), _) => open = Some(named),
            (Piece::Bytes(bytes), Some((file, path))) => {
                file.write_all(&bytes).map_err(|error| failed("write", path, &error))?;
            }
            (Piece::End, Some(_)) => {
                if let Some(named) = open.take()
                    && to_sync.send(named).is_err()
                {
                    // The thread that syncs says why.
                    return Ok(());
                }
            }
            (Piece::Bytes(_) | Piece::End, None) => {}
        }
    }
    Ok(())
}

fn sync(files: &Receiver<Named>) -> Result<(), Failure> {
    for (file, path) in files {
        file.sync_all().map_err(|error| failed("sync", &path, &error))?;
    }
    Ok(())
}

fn sum(pieces: &Receiver<Piece<(usize, Sum)>>) -> Vec<(usize, String)> {
    let mut sums = Vec::new();
    let mut open: Option<(usize, Sum)> = None;
    for piece in pieces {
        match (piece, &mut open) {
            (Piece::Begin(begun), _) => open = Some(begun),
            (Piece::Bytes(bytes), Some((_, sum))) => sum.add(&bytes),
            (Piece::End, Some(_)) => sums.extend(open.take().map(|(index, sum)| (index, sum.digits()))),
            (Piece::Bytes(_) | Piece::End, None) => {}
        }
    }
    sums
}
