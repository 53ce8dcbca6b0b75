//! An export: states joined as replicas join them, so that doing it twice, or half, does no harm.

use std::{collections::VecDeque, mem};

use clap::ValueEnum as _;
use client::{Acknowledgement, StateImport, wire::KeyState};
use sha2::{Digest as _, Sha256};

use super::{
    Reading,
    chunks::{self, Chunk, UnderWay},
    ensure,
};
use crate::{
    error::{Code, Failure},
    rules,
    states::{Header, Read, Reader},
    verbs::namespaces::Policy,
};

pub(super) async fn run(reading: &mut Reading<'_>, mut reader: Reader, header: Header) -> Result<(), Failure> {
    let import = reading.import;
    let namespace = import
        .namespace
        .clone()
        .unwrap_or_else(|| header.namespace.name.clone());
    let lives = (namespace != header.namespace.name).then(|| Lives::of(&namespace));
    let stated = Policy::from_str(&header.namespace.strategy, false)
        .map_err(|_| reading.failure(1, &format!("its strategy {:?} is not known", header.namespace.strategy)))?;
    let mut sending = if import.dry_run {
        None
    } else {
        let client = reading.session.client()?;
        ensure(
            &client,
            &namespace,
            Some(import.strategy.unwrap_or(stated)),
            reading.session,
        )
        .await?;
        Some(Sending {
            import: client.admin().import_states(&namespace),
            under_way: UnderWay::new(),
        })
    };
    let mut chunk = Chunk::default();
    let read = loop {
        let (number, text) = match reading.next() {
            Ok(Some(line)) => line,
            Ok(None) => break reader.end().map_err(|what| cut(reading, &what)),
            Err(failure) => break Err(failure),
        };
        match reader.next(&text).and_then(checked) {
            Ok(Read::Key(mut state)) => {
                if let Some(lives) = &lives {
                    lives.rename(&mut state);
                }
                if chunk.is_full(text.len()) {
                    send(reading, &mut sending, mem::take(&mut chunk)).await?;
                }
                chunk.push(number, state, text.len());
            }
            Ok(Read::End) => {}
            Err(what) => {
                if let Err(failure) = reading.skip(number, &what) {
                    break Err(failure);
                }
            }
        }
    };
    // What stands before a bad line is joined all the same.
    if !chunk.items.is_empty() {
        send(reading, &mut sending, chunk).await?;
    }
    if let Some(sending) = &mut sending {
        let acknowledged = sending
            .import
            .settle()
            .await
            .map_err(|error| reading.so_far(error.into()))?;
        sending.take(reading, acknowledged).await?;
    }
    read.map_err(|failure| reading.so_far(failure))?;
    reading.tell("lossless", &namespace)
}

/// In another namespace the same writes are others: one that names two keys would be no name. Their lives are renamed, always
/// alike, so that a second import still changes nothing.
struct Lives<'a> {
    namespace: &'a str,
}

impl Lives<'_> {
    fn of(namespace: &str) -> Lives<'_> {
        Lives { namespace }
    }

    fn rename(&self, state: &mut KeyState) {
        for seen in &mut state.context {
            seen.incarnation = self.renamed(seen.incarnation);
        }
        for entry in &mut state.entries {
            entry.incarnation = self.renamed(entry.incarnation);
        }
        // The order of a context is that of names and lives.
        state
            .context
            .sort_by(|left, right| (&left.node, left.incarnation).cmp(&(&right.node, right.incarnation)));
    }

    fn renamed(&self, incarnation: u64) -> u64 {
        let named = format!("copy:{}:{incarnation:016x}", self.namespace);
        let digest: [u8; 32] = Sha256::digest(named).into();
        u64::from_be_bytes(*digest.first_chunk().expect("a digest has 32 bytes"))
    }
}

fn checked(read: Read) -> Result<Read, String> {
    if let Read::Key(state) = &read {
        rules::key(&state.key)?;
    }
    Ok(read)
}

fn cut(reading: &Reading<'_>, what: &str) -> Failure {
    let failure = Failure::new(Code::Data, format!("{}: {what}", reading.shown()));
    failure.next("get a whole file, and run it again: what was joined already is joined again without a change")
}

/// Chunks on their way to a node.
struct Sending {
    import: StateImport,
    under_way: UnderWay<KeyState>,
}

async fn send(
    reading: &mut Reading<'_>,
    sending: &mut Option<Sending>,
    mut chunk: Chunk<KeyState>,
) -> Result<(), Failure> {
    let Some(sending) = sending else {
        reading.written += chunk.items.len() as u64;
        reading.progress();
        return Ok(());
    };
    let states = if reading.import.skip_bad {
        chunk.items.clone()
    } else {
        mem::take(&mut chunk.items)
    };
    sending.under_way.push(chunk);
    let acknowledged = sending
        .import
        .send(states)
        .await
        .map_err(|error| reading.so_far(error.into()))?;
    sending.take(reading, acknowledged).await
}

impl Sending {
    async fn take(
        &mut self,
        reading: &mut Reading<'_>,
        acknowledged: Vec<Acknowledgement<u32>>,
    ) -> Result<(), Failure> {
        let mut waiting = VecDeque::from(acknowledged);
        while let Some(Acknowledgement { outcome, .. }) = waiting.pop_front() {
            let mut chunk = self.under_way.acknowledged();
            let error = match outcome {
                Ok(states) => {
                    reading.written += u64::from(states);
                    continue;
                }
                Err(error) => error,
            };
            let Some(place) = chunks::place(&error).filter(|place| *place < chunk.numbers.len()) else {
                return Err(reading.so_far(error.into()));
            };
            reading
                .skip(chunk.numbers[place], &error.to_string())
                .map_err(|failure| reading.so_far(failure))?;
            // Nothing of the chunk has happened: the others go again.
            chunk.items.remove(place);
            chunk.numbers.remove(place);
            if !chunk.items.is_empty() {
                let states = chunk.items.clone();
                self.under_way.push(chunk);
                let again = self
                    .import
                    .send(states)
                    .await
                    .map_err(|error| reading.so_far(error.into()))?;
                // Theirs come behind those that are waiting here.
                waiting.extend(again);
            }
        }
        reading.progress();
        Ok(())
    }
}
