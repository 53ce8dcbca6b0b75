//! Compaction on demand: what was deleted or overwritten leaves the disk.
//!
//! ```text
//!  each family ─► its tables, lowest keys first ─► pieces of ≤ 256 MiB that end where a table ends
//!  each piece  ─► room for it? ─► rewritten down to the lowest level ─► progress; may stop here
//! ```
//!
//! Between two pieces nothing is half done: stopped or killed, the database is as good as before, only less compact.

use crate::{
    CommitError, Disk,
    backup::Error,
    commit::{queue::Queue, sync_first::SyncFirst},
    keyspace::{NamespaceId, concepts},
    store::{Family, Files, Store, Table, end_of_prefix},
};

/// Bytes of tables rewritten at once.
const PIECE_BYTES_MAX: u64 = 256 << 20;

/// Keys of one namespace: from the first, inclusive, to the last, exclusive; without a last, to the namespace's end.
pub type Range = (NamespaceId, Vec<u8>, Option<Vec<u8>>);

/// How far a compaction has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactProgress {
    /// Bytes of tables rewritten, as they were before.
    pub done_bytes: u64,
    /// Bytes of tables to rewrite.
    pub total_bytes: u64,
}

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// How far it came.
    pub progress: CompactProgress,
    /// Bytes of all tables before.
    pub before_bytes: u64,
    /// Bytes of all tables after; writes go on meanwhile, so it may be more.
    pub after_bytes: u64,
    /// Whether everything asked for was rewritten: not when it was told to stop.
    pub finished: bool,
}

/// Part of a family that is rewritten at once, bounds inclusive.
struct Piece {
    family: Family,
    from: Vec<u8>,
    to: Vec<u8>,
    bytes: u64,
}

/// Rewrites what lies in `range`, or everything.
///
/// # Errors
/// [`Error`]; what was rewritten before stays so.
pub(crate) fn compact(
    store: &dyn Store,
    queue: &Queue,
    disk: &dyn Fn() -> Option<Disk>,
    range: Option<&Range>,
    progress: &mut dyn FnMut(CompactProgress) -> bool,
) -> Result<Compacted, Error> {
    let Some(files) = store.files() else {
        let refusal = "this node keeps its data in memory: there are no files to compact";
        return Err(Error::Refused(refusal.to_owned()));
    };
    // What is written but not flushed belongs to it too; a flush makes tables of it.
    {
        let _held = SyncFirst::begin(queue)?;
        store.flush()?;
    }
    let pieces = plan(files, range)?;
    let mut done = CompactProgress {
        done_bytes: 0,
        total_bytes: pieces.iter().map(|piece| piece.bytes).sum(),
    };
    let mut compacted = Compacted {
        before_bytes: bytes(files)?,
        ..Compacted::default()
    };
    let mut goes_on = progress(done);
    for piece in &pieces {
        if !goes_on {
            break;
        }
        if queue.is_closed() {
            return Err(Error::Engine(CommitError::Stopped("it was closed".to_owned())));
        }
        check_room(files, piece, disk())?;
        {
            // RocksDB flushes what a piece overlaps before it rewrites it.
            let _held = SyncFirst::begin(queue)?;
            files.rewrite(piece.family, Some(&piece.from), Some(&piece.to))?;
        }
        done.done_bytes += piece.bytes;
        goes_on = progress(done);
    }
    compacted.progress = done;
    compacted.after_bytes = bytes(files)?;
    compacted.finished = done.done_bytes == done.total_bytes;
    Ok(compacted)
}

fn bytes(files: &dyn Files) -> Result<u64, Error> {
    let mut bytes = 0;
    for family in Family::ALL {
        bytes += files.tables(family)?.iter().map(|table| table.bytes).sum::<u64>();
    }
    Ok(bytes)
}

/// What replaces a piece is complete before the piece is removed, and a snapshot may keep the piece; outputs are allocated a
/// tenth larger. Writes must not be refused for it.
fn check_room(files: &dyn Files, piece: &Piece, disk: Option<Disk>) -> Result<(), Error> {
    let Some(disk) = disk else { return Ok(()) };
    let needed_bytes = disk.needed_bytes + piece.bytes + piece.bytes / 8 + (4 << 20);
    if disk.free_bytes >= needed_bytes {
        return Ok(());
    }
    Err(Error::NoSpace {
        path: files.directory().to_owned(),
        free_bytes: disk.free_bytes,
        needed_bytes,
    })
}

/// The pieces of every family concerned.
fn plan(files: &dyn Files, range: Option<&Range>) -> Result<Vec<Piece>, Error> {
    let mut pieces = Vec::new();
    match range {
        None => {
            for family in Family::ALL {
                cut(family, &files.tables(family)?, None, &mut pieces);
            }
        }
        Some((namespace, from, to)) => {
            let first = concepts::key(*namespace, from);
            let end = match to {
                Some(to) => Some(concepts::key(*namespace, to)),
                None => end_of_prefix(&concepts::key(*namespace, b"")),
            };
            // Both begin their keys with the namespace, and its keys lie in one of them.
            for family in [Family::Concepts, Family::Consensus] {
                let tables = files.tables(family)?;
                cut(family, &tables, Some((&first, end.as_deref())), &mut pieces);
            }
        }
    }
    Ok(pieces)
}

/// Cuts a family, or the part of it in `within`, into pieces.
fn cut(family: Family, tables: &[Table], within: Option<(&[u8], Option<&[u8]>)>, pieces: &mut Vec<Piece>) {
    let clip = |key: &[u8]| {
        let (from, to) = within.unwrap_or((&[], None));
        let key = key.max(from);
        to.map_or(key, |to| key.min(to)).to_vec()
    };
    let concerns = |table: &&Table| {
        let (from, to) = within.unwrap_or((&[], None));
        *table.last >= *from && to.is_none_or(|to| *table.first < *to)
    };
    let mut piece: Option<Piece> = None;
    for table in tables.iter().filter(concerns) {
        let (from, to) = (clip(&table.first), clip(&table.last));
        match &mut piece {
            // What overlaps is rewritten together, or it would be rewritten twice.
            Some(piece) if piece.bytes + table.bytes <= PIECE_BYTES_MAX || from <= piece.to => {
                piece.to = to.max(std::mem::take(&mut piece.to));
                piece.bytes += table.bytes;
            }
            _ => pieces.extend(piece.replace(Piece {
                family,
                from,
                to,
                bytes: table.bytes,
            })),
        }
    }
    pieces.extend(piece);
}
