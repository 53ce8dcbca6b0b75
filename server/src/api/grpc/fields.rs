//! What callers send, checked field by field before anything is read or written.
//!
//! Every limit of the .proto files stands here, and nowhere else in this face.

use engine::{
    clock::{Stamp, Timestamp},
    crdt::{Kind, Operation, VALUE_BYTES_MAX},
    json,
    ledger::NAMESPACE_NAME_BYTES_MAX,
};
use proto::v1::put_request::Write;

use super::status::Refused;

/// The largest key, in bytes.
pub(super) const KEY_BYTES_MAX: usize = 1024;
/// The deepest nesting of a concept.
pub(super) const JSON_LEVELS_MAX: usize = 64;
/// The most elements one call adds to a set, and the most it removes.
pub(super) const SET_ELEMENTS_MAX: usize = 10_000;
/// The largest page.
pub(super) const PAGE_SIZE_MAX: u32 = 1_000;
/// The page that is returned when no size is asked for.
pub(super) const PAGE_SIZE_DEFAULT: u32 = 100;
/// The most writes in one batch.
pub(super) const BATCH_WRITES_MAX: usize = 1_000;
/// The most keys that one call reads by name.
pub(super) const KEYS_MAX: usize = 1_000;
/// The shortest and the longest request id, in bytes: a UUID fits, and what is easily drawn twice does not.
const REQUEST_ID_BYTES: std::ops::RangeInclusive<usize> = 16..=64;
/// The most concepts in one message of a stream, and as many as are sent when no size is asked for.
const MESSAGE_SIZE_MAX: u32 = 1_000;
/// The longest life of a value: a thousand years, far inside the range of stamps.
const TTL_SECONDS_MAX: i64 = 1_000 * 366 * 86_400;

/// Checks `[a-z0-9][a-z0-9._-]{0,62}`. Reserved names are the directory's business.
pub(super) fn namespace_name(field: &'static str, name: &str) -> Result<(), Refused> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let first = name.bytes().next().is_some_and(plain);
    let rest = name
        .bytes()
        .all(|byte| plain(byte) || matches!(byte, b'.' | b'_' | b'-'));
    if first && rest && name.len() <= NAMESPACE_NAME_BYTES_MAX {
        return Ok(());
    }
    let rule = format!(
        "must match [a-z0-9][a-z0-9._-]{{0,62}}, was {} bytes: {:?}",
        name.len(),
        shown(name)
    );
    Err(Refused::field(field, "NAMESPACE_NAME", rule))
}

/// Checks 1 to [`KEY_BYTES_MAX`] bytes.
pub(super) fn key(key: &str) -> Result<Vec<u8>, Refused> {
    key_length(key).map(|()| key.as_bytes().to_vec())
}

/// The same check alone.
pub(super) fn key_length(key: &str) -> Result<(), Refused> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) {
        return Ok(());
    }
    Err(Refused::field(
        "key",
        "KEY_LENGTH",
        format!("must be 1 to {KEY_BYTES_MAX} bytes, was {}", key.len()),
    ))
}

/// Checks 1 to [`KEYS_MAX`] keys, each by the rule of [`key`].
pub(super) fn keys(keys: &[String]) -> Result<(), Refused> {
    match keys.len() {
        0 => return Err(Refused::field("keys", "KEYS_EMPTY", "name at least one key")),
        1..=KEYS_MAX => {}
        count => {
            let rule = format!("must be at most {KEYS_MAX}, was {count}: use several calls");
            return Err(Refused::field("keys", "KEYS_MANY", rule));
        }
    }
    let wrong = keys.iter().position(|key| !(1..=KEY_BYTES_MAX).contains(&key.len()));
    wrong.map_or(Ok(()), |index| {
        let bytes = keys[index].len();
        let rule = format!("keys[{index}] must be 1 to {KEY_BYTES_MAX} bytes, was {bytes}");
        Err(Refused::field("keys", "KEY_LENGTH", rule))
    })
}

/// Checks the length alone: an empty prefix means all.
pub(super) fn prefix(prefix: &str) -> Result<&[u8], Refused> {
    if prefix.len() <= KEY_BYTES_MAX {
        return Ok(prefix.as_bytes());
    }
    Err(Refused::field(
        "prefix",
        "KEY_LENGTH",
        format!("must be at most {KEY_BYTES_MAX} bytes, was {}", prefix.len()),
    ))
}

/// Checks 1 to [`BATCH_WRITES_MAX`] writes.
pub(super) fn batch_size(writes: usize) -> Result<(), Refused> {
    match writes {
        0 => Err(Refused::field("writes", "BATCH_EMPTY", "name at least one write")),
        1..=BATCH_WRITES_MAX => Ok(()),
        _ => Err(Refused::field(
            "writes",
            "BATCH_WRITES",
            format!("must be at most {BATCH_WRITES_MAX}, was {writes}: use several batches"),
        )),
    }
}

/// Checks 16 to 64 bytes of ASCII without control characters.
pub(super) fn request_id(id: &str) -> Result<(), Refused> {
    let plain = id.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if plain && REQUEST_ID_BYTES.contains(&id.len()) {
        return Ok(());
    }
    let (shortest, longest) = REQUEST_ID_BYTES.into_inner();
    Err(Refused::field(
        "request_id",
        "REQUEST_ID_INVALID",
        format!(
            "must be {shortest} to {longest} bytes of ASCII without control characters, was {} bytes: draw a UUID for each write",
            id.len()
        ),
    ))
}

/// A write of several has no id of its own.
pub(super) fn no_request_id(id: &str) -> Result<(), Refused> {
    if id.is_empty() {
        return Ok(());
    }
    Err(Refused::field(
        "request_id",
        "REQUEST_ID_IN_BATCH",
        "not within a batch, which is carried out as a whole: give the batch one",
    ))
}

/// Checks the length alone: an empty bound is none.
pub(super) fn bound(field: &'static str, key: &str) -> Result<Option<Vec<u8>>, Refused> {
    match key.len() {
        0 => Ok(None),
        1..=KEY_BYTES_MAX => Ok(Some(key.as_bytes().to_vec())),
        length => Err(Refused::field(
            field,
            "KEY_LENGTH",
            format!("must be at most {KEY_BYTES_MAX} bytes, was {length}"),
        )),
    }
}

/// The size of a stream's messages, in concepts; 0 stands for the largest.
pub(super) fn message_size(asked: u32) -> Result<usize, Refused> {
    page_size(if asked == 0 { MESSAGE_SIZE_MAX } else { asked })
}

/// 0 stands for the default.
pub(super) fn page_size(asked: u32) -> Result<usize, Refused> {
    match asked {
        0 => Ok(PAGE_SIZE_DEFAULT as usize),
        1..=PAGE_SIZE_MAX => Ok(asked as usize),
        _ => Err(Refused::field(
            "page_size",
            "PAGE_SIZE",
            format!("must be at most {PAGE_SIZE_MAX}, was {asked}"),
        )),
    }
}

/// A write of several that says nothing.
pub(super) fn write_missing() -> Refused {
    Refused::field("write", "WRITE_MISSING", "one of put and delete must be given")
}

/// A put that says nothing.
pub(super) fn put_missing() -> Refused {
    let rule = "one of register, sibling, set and counter must be given";
    Refused::field("write", "WRITE_MISSING", rule)
}

/// What a `Put` writes, and the kind of key it makes.
pub(super) fn operation(
    write: Option<Write>,
    ttl: Option<prost_types::Duration>,
    now: Timestamp,
) -> Result<(Kind, Operation), Refused> {
    let write = write.ok_or_else(put_missing)?;
    if ttl.is_some() && matches!(write, Write::Set(_) | Write::Counter(_)) {
        return Err(Refused::field(
            "ttl",
            "TTL_KIND",
            "only a register or a sibling can expire",
        ));
    }
    let expires = ttl.map(|ttl| expiry(ttl, now)).transpose()?;
    Ok(match write {
        Write::Register(json) => {
            concept("register", &json)?;
            (
                Kind::Register,
                Operation::Put {
                    kind: Kind::Register,
                    json,
                    expires,
                },
            )
        }
        Write::Sibling(json) => {
            concept("sibling", &json)?;
            (
                Kind::Siblings,
                Operation::Put {
                    kind: Kind::Siblings,
                    json,
                    expires,
                },
            )
        }
        Write::Set(change) => {
            let add = elements("set.add", &change.add)?;
            let remove = elements("set.remove", &change.remove)?;
            if add.is_empty() && remove.is_empty() {
                return Err(Refused::field(
                    "set",
                    "SET_CHANGE_EMPTY",
                    "name at least one element to add or remove",
                ));
            }
            (Kind::Set, Operation::Change { add, remove })
        }
        Write::Counter(change) => (Kind::Counter, Operation::Add { delta: change.delta }),
    })
}

/// Strict JSON of at most 64 KiB and 64 levels.
pub(super) fn concept(field: &'static str, text: &str) -> Result<serde_json::Value, Refused> {
    if text.len() > VALUE_BYTES_MAX {
        let rule = format!("must be at most {VALUE_BYTES_MAX} bytes of JSON, was {}", text.len());
        return Err(Refused::field(field, "JSON_SIZE", rule));
    }
    let value =
        json::parse(text.as_bytes()).map_err(|error| Refused::field(field, "JSON_MALFORMED", error.to_string()))?;
    let levels = json::depth(&value);
    if levels > JSON_LEVELS_MAX {
        return Err(Refused::field(
            field,
            "JSON_DEPTH",
            format!("must be at most {JSON_LEVELS_MAX} levels deep, was {levels}"),
        ));
    }
    Ok(value)
}

fn elements(field: &'static str, texts: &[String]) -> Result<Vec<String>, Refused> {
    if texts.len() > SET_ELEMENTS_MAX {
        let rule = format!(
            "must be at most {SET_ELEMENTS_MAX} elements, was {}: use several calls",
            texts.len()
        );
        return Err(Refused::field(field, "SET_ELEMENTS", rule));
    }
    texts
        .iter()
        .map(|text| concept(field, text).map(|value| json::canonical(&value)))
        .collect()
}

/// The stamp `ttl` from now, rounded up to whole milliseconds.
fn expiry(ttl: prost_types::Duration, now: Timestamp) -> Result<Stamp, Refused> {
    let positive = ttl.seconds >= 0 && ttl.nanos >= 0 && (ttl.seconds > 0 || ttl.nanos > 0);
    if !positive || ttl.seconds > TTL_SECONDS_MAX || ttl.nanos > 999_999_999 {
        return Err(Refused::field(
            "ttl",
            "TTL_RANGE",
            format!("must be above zero and at most {TTL_SECONDS_MAX} seconds"),
        ));
    }
    let milliseconds = ttl.seconds.unsigned_abs() * 1_000 + u64::from(ttl.nanos.unsigned_abs()).div_ceil(1_000_000);
    Ok(Stamp::from_milliseconds(Stamp::at(now).milliseconds() + milliseconds))
}

/// As much of what a caller sent as an error repeats.
fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}
