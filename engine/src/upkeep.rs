//! What becomes due by time alone: values that have expired, and requests that need not be remembered any more.
//!
//! ```text
//!  now ─► due: rows "expiry/" up to now ─► Mutation::Expire, one for each      ┐
//!              rows "asked/" older than 24 h ─► Mutation::Forget through the last ┴► a batch, for whoever keeps the time
//! ```
//!
//! It only looks: the engine has no clock that wakes it. What it returns is small enough to be one batch, and only takes away,
//! so that it may be written on a full disk. The states it is about have been read here, beside the committer, and are likely
//! to be in memory when the committer wants them.

use crate::{
    clock::{Stamp, Timestamp},
    commit::Mutation,
    keyspace::{
        codec, concepts,
        meta::{
            self, expiry,
            requests::{self, Asked, Head},
        },
    },
    store::{Error, Family, View},
};

/// Expired rows in one batch.
const EXPIRED_MAX: usize = 256;
/// Bytes of their keys' states, which the batch writes whole, beyond the first key.
const STATE_BYTES_MAX: usize = 256 << 10;
/// Forgotten requests in one batch.
const FORGOTTEN_MAX: usize = 256;

/// A batch of what is due.
#[derive(Clone, Debug, Default)]
pub struct Due {
    /// Nothing, when nothing is.
    pub mutations: Vec<Mutation>,
    /// The stamp of the last expired row among them, to go on after it should they be refused.
    pub last: Stamp,
}

/// The oldest of what is due at `now`, as far as one batch goes: of expired values those of `from` and later.
///
/// # Errors
/// When the store cannot be read or holds what it should not.
pub fn due(view: &dyn View, from: Stamp, now: Timestamp) -> Result<Due, Error> {
    let mut due = expired(view, from, Stamp::at(now))?;
    due.mutations.extend(forgotten(view, now)?);
    Ok(due)
}

fn expired(view: &dyn View, from: Stamp, now: Stamp) -> Result<Due, Error> {
    let mut rows = Vec::new();
    if from <= now {
        view.scan(
            Family::Meta,
            &expiry::from(from),
            Some(&expiry::through(now)),
            &mut |row, _| {
                rows.push(row.to_vec());
                rows.len() < EXPIRED_MAX
            },
        )?;
    }
    let mut due = Due::default();
    let mut bytes = 0;
    for row in rows {
        let (stamp, namespace, key) =
            expiry::parts(&row).ok_or_else(|| Error("family meta: the key of an expiry row is damaged".to_owned()))?;
        let state = view.get(Family::Concepts, &concepts::key(namespace, key))?;
        bytes += state.map_or(0, |state| state.len());
        if !due.mutations.is_empty() && bytes > STATE_BYTES_MAX {
            break;
        }
        due.mutations.push(Mutation::Expire {
            namespace,
            key: key.to_vec(),
            stamp,
        });
        due.last = stamp;
    }
    Ok(due)
}

fn forgotten(view: &dyn View, now: Timestamp) -> Result<Option<Mutation>, Error> {
    // From the oldest on: rows that are gone already would have to be passed over one by one.
    let Some(Head { oldest, next }) = meta::read(view, requests::HEAD)? else {
        return Ok(None);
    };
    let (mut old, mut damage) = (0, None);
    view.scan(
        Family::Meta,
        &requests::asked(oldest),
        Some(&requests::asked(next)),
        &mut |_, row| {
            let is_old = codec::decode::<Asked>(row).map(|asked| asked.is_old(now));
            old += u64::from(is_old == Ok(true));
            let go_on = is_old == Ok(true) && old < FORGOTTEN_MAX as u64;
            damage = is_old.err();
            go_on
        },
    )?;
    match damage {
        Some(error) => Err(error.into()),
        None if old == 0 => Ok(None),
        None => Ok(Some(Mutation::Forget {
            through: oldest + old - 1,
        })),
    }
}
