//! One moment of the raft-owned families, into a file.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use sha2::{Digest as _, Sha256};

use super::{
    Applied, Digest, Error, FAMILIES,
    chunk::{END, End, HEADER, Header, ROWS, STATES, Writer},
};
use crate::{
    commit::record,
    identity::Actor,
    keyspace::{
        NamespaceId,
        codec::{self, Bytes},
        concepts,
        raft_state::{self, Installing},
    },
    open::Engine,
    store::{self, Change, Family, View, end_of_prefix},
};

/// A chunk takes no further row beyond this many bytes.
const CHUNK_BYTES_MAX: usize = 1 << 20;

impl Engine {
    /// Writes an image of the present moment to `path`, synced. Blocks; commits go on meanwhile. It has come at least as far as what was
    /// applied before the call.
    ///
    /// # Errors
    /// [`Error`]; what lies at `path` then is to be removed.
    pub fn export_image(&self, path: &Path) -> Result<Digest, Error> {
        let failed = |source| Error::Io {
            path: path.to_owned(),
            source,
        };
        let file = File::create(path).map_err(failed)?;
        let exported = self.export_to(Summing::beside(BufWriter::new(file)));
        let (applied, end, written) = exported.map_err(|error| error.at(path))?;
        let file = written.out.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        Ok(digest(applied, end, written.sum))
    }

    /// The sum of an image of the present moment, which is not kept: two members that are equally far have the same, byte for byte.
    /// Blocks; commits go on meanwhile.
    ///
    /// # Errors
    /// [`Error`].
    pub fn image_digest(&self) -> Result<Digest, Error> {
        let exported = self.export_to(Summing::beside(io::sink()));
        let (applied, end, written) = exported.map_err(|error| error.at(Path::new("")))?;
        Ok(digest(applied, end, written.sum))
    }

    fn export_to<W: Write>(&self, out: W) -> Result<(Applied, End, W), Failed> {
        let mut writer = Writer::new(out);
        let mut outcome = Ok((Applied::default(), End::default()));
        self.at_one_moment(&mut |moment| {
            outcome = Export {
                engine: self,
                moment,
                writer: &mut writer,
                end: End::default(),
            }
            .run();
        });
        let (applied, end) = outcome?;
        Ok((applied, end, writer.finish().map_err(Failed::Io)?))
    }
}

fn digest(applied: Applied, end: End, sum: Sha256) -> Digest {
    Digest {
        applied,
        sum: sum.finalize().into(),
        rows: end.rows,
        concepts: end.states,
    }
}

/// Takes what is written into a sum, and passes it on.
pub(super) struct Summing<W> {
    pub(super) out: W,
    pub(super) sum: Sha256,
}

impl<W> Summing<W> {
    pub(super) fn beside(out: W) -> Summing<W> {
        let sum = Sha256::new();
        Summing { out, sum }
    }
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

enum Failed {
    Io(io::Error),
    Store(store::Error),
    Installing,
}

impl Failed {
    fn at(self, path: &Path) -> Error {
        match self {
            Failed::Io(source) => Error::Io {
                path: path.to_owned(),
                source,
            },
            Failed::Store(error) => Error::Store(error),
            Failed::Installing => Error::Installing,
        }
    }
}

impl From<store::Error> for Failed {
    fn from(error: store::Error) -> Failed {
        Failed::Store(error)
    }
}

struct Export<'a, W> {
    engine: &'a Engine,
    moment: &'a dyn View,
    writer: &'a mut Writer<W>,
    end: End,
}

impl<W: Write> Export<'_, W> {
    fn run(mut self) -> Result<(Applied, End), Failed> {
        if raft_state::read::<Installing>(self.moment)?.is_some() {
            return Err(Failed::Installing);
        }
        let applied: Applied = raft_state::read(self.moment)?.unwrap_or_default();
        let header = Header {
            cluster: self.engine.cluster(),
            applied: applied.clone(),
        };
        self.put(HEADER, |body| codec::encode_into(&header, body))?;
        for family in FAMILIES {
            self.rows(family)?;
        }
        self.states()?;
        let end = self.end;
        self.put(END, |body| codec::encode_into(&end, body))?;
        Ok((applied, end))
    }

    fn put(&mut self, kind: u8, content: impl FnOnce(&mut Vec<u8>)) -> Result<(), Failed> {
        let mut body = vec![kind];
        content(&mut body);
        self.writer.put(&body).map_err(Failed::Io)
    }

    fn rows(&mut self, family: Family) -> Result<(), Failed> {
        let empty = || {
            let mut body = vec![ROWS];
            record::begin(&mut body);
            body
        };
        let (mut body, mut rows, mut written) = (empty(), 0, Ok(()));
        let (moment, writer) = (self.moment, &mut *self.writer);
        moment.scan(family, &[], None, &mut |key, value| {
            let value = Some(value);
            record::push(Change { family, key, value }, &mut body);
            rows += 1;
            if body.len() >= CHUNK_BYTES_MAX {
                written = writer.put(&std::mem::replace(&mut body, empty()));
            }
            written.is_ok()
        })?;
        self.end.rows += rows;
        written.and_then(|()| writer.put(&body)).map_err(Failed::Io)
    }

    /// The pool's concepts, their actors spelled out.
    fn states(&mut self) -> Result<(), Failed> {
        let from = concepts::key(NamespaceId::SHARED, &[]);
        let to = end_of_prefix(&from);
        let (mut states, mut count) = (States::default(), 0);
        let mut outcome = Ok(());
        let (moment, writer, engine) = (self.moment, &mut *self.writer, self.engine);
        moment.scan(Family::Concepts, &from, to.as_deref(), &mut |key, row| {
            outcome = engine.decode_concept(row).map_err(Failed::Store).and_then(|state| {
                states.push(&key[concepts::PREFIX_BYTES..], &state);
                count += 1;
                if states.content.len() < CHUNK_BYTES_MAX {
                    return Ok(());
                }
                writer.put(&std::mem::take(&mut states).into_body()).map_err(Failed::Io)
            });
            outcome.is_ok()
        })?;
        outcome?;
        self.end.states += count;
        self.writer.put(&states.into_body()).map_err(Failed::Io)
    }
}

/// A chunk of states under way.
#[derive(Default)]
struct States {
    actors: Vec<Actor>,
    content: Vec<u8>,
}

impl States {
    fn push(&mut self, key: &[u8], state: &crate::crdt::State) {
        let actors = &mut self.actors;
        let mut number = |actor: &Actor| {
            let known = actors.iter().position(|known| known == actor);
            let place = known.unwrap_or_else(|| {
                actors.push(actor.clone());
                actors.len() - 1
            });
            u32::try_from(place).expect("a chunk holds few actors")
        };
        let mut row = Vec::new();
        concepts::encode_into(state, &mut number, &mut row);
        codec::append(&(Bytes(key), Bytes(&row)), &mut self.content);
    }

    fn into_body(self) -> Vec<u8> {
        let actors: Vec<(&str, u64)> = self
            .actors
            .iter()
            .map(|actor| (&*actor.node, actor.incarnation))
            .collect();
        let mut body = vec![STATES];
        codec::append(&actors, &mut body);
        body.extend(self.content);
        body
    }
}
