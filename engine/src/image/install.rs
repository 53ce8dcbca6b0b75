//! An image in the place of the raft-owned families.

use std::{
    fs::{self, File},
    io::{self, BufReader},
    path::Path,
};

use sha2::Digest as _;

use super::{
    Applied, Error, FAMILIES,
    chunk::{self, END, End, HEADER, Header, ROWS, Reader, STATES, Wrong},
    export::Summing,
};
use crate::{
    commit::{Batch, Durability, Mutation, record},
    crdt::State,
    identity::Actor,
    keyspace::{
        NamespaceId,
        actors::Actors,
        codec::{self, Bytes},
        concepts,
        raft_state::{self, Installing, Snapshot},
    },
    open::Engine,
    store::{self, Change, Family, View, Write},
};

/// Rows deleted by one batch.
const ROWS_PER_BATCH: usize = 4_096;
/// Bytes of states in one batch: each is joined over what is there, so it may write more.
const STATE_BYTES_PER_BATCH: usize = 1 << 20;

/// Checks every chunk of the image at `path`; returns how far it has come.
///
/// # Errors
/// [`Error::Io`], [`Error::Damaged`].
pub fn check(path: &Path) -> Result<Applied, Error> {
    Ok(walk(path, &mut |_| Ok(()))?.applied)
}

/// The sum of the file at `path`, whatever is in it, as [`Engine::export_image`] gives it. Blocks.
///
/// # Errors
/// [`Error::Io`].
pub fn sum(path: &Path) -> Result<[u8; 32], Error> {
    let summed = File::open(path).and_then(|mut file| {
        let mut summing = Summing::beside(io::sink());
        io::copy(&mut file, &mut summing)?;
        Ok(summing.sum.finalize().into())
    });
    summed.map_err(|source| Error::Io {
        path: path.to_owned(),
        source,
    })
}

/// How many bytes of the part of an image at `path` are whole chunks that fit their checksums, from the first on; what comes behind is
/// cut short or damaged. Blocks.
///
/// # Errors
/// [`Error::Io`].
pub fn sound_bytes(path: &Path) -> Result<u64, Error> {
    let failed = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let mut reader = Reader::new(BufReader::new(File::open(path).map_err(failed)?));
    let mut sound = 0;
    loop {
        match reader.next() {
            Ok(Some(body)) => sound += chunk::bytes(&body),
            Ok(None) | Err(Wrong::Damaged(_)) => return Ok(sound),
            Err(Wrong::Io(source)) => return Err(failed(source)),
        }
    }
}

/// Puts the image at `path` in the place of the raft-owned families. Nobody applies anything meanwhile. The file must lie where
/// [`install_unfinished`] will look for it until this returns; it is synced here, for it is needed after a power cut. Blocks.
///
/// # Errors
/// [`Error`]; after [`Error::Commit`] or [`Error::Store`] the families may be half of this and half of that, and
/// [`install_unfinished`] must be called before they are read.
pub fn install(engine: &Engine, path: &Path) -> Result<Applied, Error> {
    let header = walk(path, &mut |_| Ok(()))?;
    if header.cluster != engine.cluster() {
        return Err(Error::Foreign { path: path.to_owned() });
    }
    sync(path).map_err(|source| Error::Io {
        path: path.to_owned(),
        source,
    })?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let installing = Installing {
        file: name,
        then: header.applied,
    };
    carry_out(engine, path, installing)
}

/// Whether an image is being put in place: until it is, the pool lists concepts whose texts have not come.
///
/// # Errors
/// When the store cannot be read.
pub fn is_under_way(view: &dyn View) -> Result<bool, store::Error> {
    Ok(raft_state::read::<Installing>(view)?.is_some())
}

/// The file and its name.
fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// Carries on an install that was cut short, if there is one; `directory` is where its file lies, which is removed then. Blocks.
///
/// # Errors
/// [`Error`], [`Error::Gone`] when the file is not there; the node must not start on such families.
pub fn install_unfinished(engine: &Engine, directory: &Path) -> Result<Option<Applied>, Error> {
    let Some(installing) = raft_state::read::<Installing>(engine.view())? else {
        return Ok(None);
    };
    tracing::warn!(
        file = installing.file,
        "a snapshot was being installed when the node ended: it is begun again"
    );
    let path = directory.join(&installing.file);
    // Another image under the same name would not be what was begun.
    if !path.exists() || check(&path)? != installing.then {
        return Err(Error::Gone { path });
    }
    let applied = carry_out(engine, &path, installing)?;
    if let Err(error) = fs::remove_file(&path) {
        tracing::warn!(%error, file = %path.display(), "an installed snapshot was not removed; nobody needs it");
    }
    Ok(Some(applied))
}

fn carry_out(engine: &Engine, path: &Path, installing: Installing) -> Result<Applied, Error> {
    let door = Door { engine, installing };
    door.commit(Vec::new(), Durability::Synced)?;
    for family in FAMILIES {
        door.empty(family)?;
    }
    walk(path, &mut |content| match content {
        Content::Rows(writes) => door.commit(vec![Mutation::Apply(writes)], Durability::Buffered),
        Content::States(states) => door.join(states),
    })?;
    let then = door.installing.then;
    let rows = vec![
        raft_state::put(&then),
        raft_state::put(&Snapshot(then.clone())),
        raft_state::delete::<Installing>(),
    ];
    engine
        .commit(Batch::one(Mutation::Raft(rows)), Durability::Synced)
        .wait()?;
    Ok(then)
}

/// Where an install writes.
struct Door<'a> {
    engine: &'a Engine,
    installing: Installing,
}

impl Door<'_> {
    /// Every batch says that the install is under way, which makes it a frame of raft: a full disk does not refuse it.
    fn commit(&self, mut mutations: Vec<Mutation>, durability: Durability) -> Result<(), Error> {
        mutations.push(Mutation::Raft(vec![raft_state::put(&self.installing)]));
        self.engine.commit(Batch::of(mutations), durability).wait()?;
        Ok(())
    }

    fn empty(&self, family: Family) -> Result<(), Error> {
        let mut from = Vec::new();
        loop {
            let mut deletes: Vec<Write> = Vec::new();
            self.engine.view().scan(family, &from, None, &mut |key, _| {
                deletes.push(Write {
                    family,
                    key: key.to_vec(),
                    value: None,
                });
                deletes.len() < ROWS_PER_BATCH
            })?;
            let Some(last) = deletes.last() else { return Ok(()) };
            // Behind the last one: what was deleted need not be passed over again.
            from = [&last.key[..], &[0]].concat();
            self.commit(vec![Mutation::Apply(deletes)], Durability::Buffered)?;
        }
    }

    fn join(&self, states: Vec<(Vec<u8>, State)>) -> Result<(), Error> {
        let (mut joins, mut bytes) = (Vec::new(), 0);
        for (key, state) in states {
            bytes += key.len() + state.stored_bytes();
            joins.push(Mutation::Join {
                namespace: NamespaceId::SHARED,
                key,
                state,
            });
            if bytes >= STATE_BYTES_PER_BATCH {
                self.commit(std::mem::take(&mut joins), Durability::Buffered)?;
                bytes = 0;
            }
        }
        self.commit(joins, Durability::Buffered)
    }
}

/// What a chunk holds.
enum Content {
    Rows(Vec<Write>),
    States(Vec<(Vec<u8>, State)>),
}

/// Reads an image from its first byte to its last, which it checks; `visit` gets what it holds.
fn walk(path: &Path, visit: &mut dyn FnMut(Content) -> Result<(), Error>) -> Result<Header, Error> {
    let failed = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let mut reader = Reader::new(BufReader::new(File::open(path).map_err(failed)?));
    let damaged = |chunk, reason: String| Error::Damaged {
        path: path.to_owned(),
        chunk,
        reason,
    };
    let next = |reader: &mut Reader<_>| match reader.next() {
        Ok(body) => Ok(body),
        Err(Wrong::Io(source)) => Err(failed(source)),
        Err(Wrong::Damaged(reason)) => Err(damaged(reader.number, reason)),
    };
    let (mut header, mut found, mut end) = (None, End::default(), None);
    while let Some(body) = next(&mut reader)? {
        let unreadable = |error: codec::Undecodable| damaged(reader.number - 1, error.to_string());
        match body.split_first() {
            Some((&HEADER, rest)) if header.is_none() => {
                header = Some(codec::decode::<Header>(rest).map_err(unreadable)?);
            }
            Some((&ROWS, rest)) if header.is_some() && end.is_none() => {
                let rows = rows(rest).map_err(unreadable)?;
                found.rows += rows.len() as u64;
                visit(Content::Rows(rows))?;
            }
            Some((&STATES, rest)) if header.is_some() && end.is_none() => {
                let states = states(rest).map_err(unreadable)?;
                found.states += states.len() as u64;
                visit(Content::States(states))?;
            }
            Some((&END, rest)) if end.is_none() => end = Some(codec::decode::<chunk::End>(rest).map_err(unreadable)?),
            _ => return Err(damaged(reader.number - 1, "it is not expected there".to_owned())),
        }
    }
    match header {
        Some(header) if end == Some(found) => Ok(header),
        _ => Err(damaged(
            reader.number,
            "it is missing: the file has no sound end".to_owned(),
        )),
    }
}

fn rows(body: &[u8]) -> Result<Vec<Write>, codec::Undecodable> {
    let mut changes: Vec<Change<'_>> = Vec::new();
    record::read(body, &mut changes)?;
    if let Some(stray) = changes.iter().find(|change| !FAMILIES.contains(&change.family)) {
        return Err(codec::Undecodable::Damaged {
            record: "image",
            length: body.len(),
            reason: format!("family {} is none of raft's", stray.family.name()),
        });
    }
    Ok(changes.iter().map(Change::to_write).collect())
}

fn states(mut body: &[u8]) -> Result<Vec<(Vec<u8>, State)>, codec::Undecodable> {
    let named: Vec<(String, u64)> = codec::take(&mut body)?;
    let actors = Actors::default();
    for (number, (node, incarnation)) in (0..).zip(named) {
        actors.restore(number, Actor::new(&node, incarnation))?;
    }
    let mut states = Vec::new();
    while !body.is_empty() {
        let (key, row): (Bytes<'_>, Bytes<'_>) = codec::take(&mut body)?;
        states.push((key.0.to_vec(), concepts::decode(row.0, &actors)?));
    }
    Ok(states)
}
