//! Replicated keys: `replication/replication_NODE.json`, one file for each replica.

use client::wire::{Entry, KeyState, Seen, entry::Content};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Error, Reading, dumps, name, text, value};
use crate::rules;

const FOLDER: &str = "replication";
const PREFIX: &str = "replication_";
/// Bits of a stamp that count within its millisecond.
const STAMP_COUNTER_BITS: u32 = 16;
/// The last millisecond that a stamp can tell.
const STAMP_MS_MAX: u64 = u64::MAX >> STAMP_COUNTER_BITS;

pub(super) fn read(reading: &mut Reading<'_>, namespace: &str) -> Result<(), Error> {
    let incarnation = incarnation(namespace);
    let names = reading.names(FOLDER)?;
    for file in names.into_iter().filter(|name| name.starts_with(PREFIX)) {
        let file = format!("{FOLDER}/{file}");
        let Some(found) = reading.text(&file)? else { continue };
        let Some(whole) = reading.fields(&file, &found) else {
            continue;
        };
        let Some(store) = whole.iter().find(|field| field.name == "\"store\"") else {
            reading.fault(
                &file,
                "",
                "there is no `store` in it: it is no replica of the Python system",
            );
            continue;
        };
        for field in reading.inner(&file, "store", store.value) {
            match name(field.name).and_then(|key| state(key, field.value, incarnation)) {
                Ok(state) => reading.store.keys.push(state),
                Err(what) => reading.fault(&file, field.name.trim_matches('"'), what),
            }
        }
    }
    Ok(())
}

/// The one life that the nodes of the Python system had: whoever imports the same store again writes under the same one.
fn incarnation(namespace: &str) -> u64 {
    let sum = Sha256::digest(format!("python-store:{namespace}"));
    u64::from_be_bytes(*sum.first_chunk().expect("a SHA-256 has 32 bytes"))
}

fn state(key: String, text_of_it: &str, incarnation: u64) -> Result<KeyState, String> {
    rules::key(&key)?;
    let written = value(text_of_it)?;
    let held = written.get("value").ok_or("there is no `value` in it")?;
    let stated = text(&written, "checksum")?.ok_or("there is no `checksum` in it")?;
    let found = dumps::sum(held);
    if found != stated {
        return Err(format!(
            "the value has the SHA-256 {found}, its checksum says {stated}: it is not what was written"
        ));
    }
    let writer = text(&written, "node_id")?.ok_or("there is no `node_id` in it")?;
    let clock = written
        .get("version")
        .and_then(Value::as_object)
        .ok_or("there is no `version` in it")?;
    let mut context = Vec::with_capacity(clock.len());
    for (node, counter) in clock {
        let counter = counter
            .as_u64()
            .ok_or_else(|| format!("its version of {node:?} is no whole number: {counter}"))?;
        if !(1..=engine::NODE_BYTES_MAX).contains(&node.len()) {
            return Err(format!(
                "the name of its writer {node:?} must have 1 to {} bytes",
                engine::NODE_BYTES_MAX
            ));
        }
        // A node that has not written yet has nothing to be seen.
        if counter > 0 {
            context.push(Seen {
                node: node.clone(),
                incarnation,
                counter,
            });
        }
    }
    context.sort_unstable_by(|one, other| one.node.cmp(&other.node));
    let of_writer = context.iter().find(|seen| seen.node == writer);
    let counter = of_writer
        .ok_or_else(|| format!("its version does not tell of its own writer {writer:?}"))?
        .counter;
    let entry = Entry {
        node: writer.to_owned(),
        incarnation,
        counter,
        stamp: stamp(&written)?,
        expires: None,
        content: Some(Content::Register(rules::value(held)?)),
    };
    Ok(KeyState {
        key,
        context,
        entries: vec![entry],
    })
}

/// Python's `time.time()`, seconds with a fraction, as a stamp.
fn stamp(written: &Value) -> Result<u64, String> {
    let wrong = || "its `timestamp` must be seconds since 1970".to_owned();
    let seconds = written.get("timestamp").and_then(Value::as_f64).ok_or_else(wrong)?;
    // Rounded to the microseconds that Python has, so that 0.001 s is a millisecond and not a little less.
    let microseconds = (seconds * 1e6).round();
    if !(0.0..=STAMP_MS_MAX as f64 * 1e3).contains(&microseconds) {
        return Err(wrong());
    }
    Ok(((microseconds as u64 / 1_000).min(STAMP_MS_MAX)) << STAMP_COUNTER_BITS)
}
