//! The format version of a whole data directory, and the steps from one to the next.
//!
//! ```text
//!  store version   1 ──step 1──► 2 ──step 2──► …      each step rewrites what changed, then writes its version and flushes
//! ```
//!
//! Records have versions of their own (see [`crate::keyspace::codec`]); this one counts for what a record cannot say by
//! itself: a key layout that changed, a family that moved.

use crate::{
    keyspace::{codec, meta},
    store::{Change, Error, Family, Store},
};

/// The version this build writes.
pub const CURRENT: u32 = 2;

/// One step: `steps[n]` brings a store of version n + 1 to version n + 2. It may run twice, should the power fail in it.
type Step = fn(&dyn Store) -> Result<(), Error>;

/// The chain.
const STEPS: [Step; CURRENT as usize - 1] = [into_raft];

/// Version 2: what is in the raft-owned families comes by raft's log. Nothing is rewritten: raft begins with an empty log over
/// what there is. Only, a build that knows no raft must not write to the ledger behind its back.
#[expect(clippy::unnecessary_wraps, reason = "a step may fail")]
fn into_raft(_: &dyn Store) -> Result<(), Error> {
    Ok(())
}

/// What is wrong with the version found.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// A newer build wrote it.
    #[error(
        "the data are of format version {found}, written by a newer build; this one reads up to version {known}: start the newer build"
    )]
    Newer {
        /// The version found.
        found: u32,
        /// The version this build knows.
        known: u32,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Brings `store` to the current version; an empty store has none yet and is left alone.
///
/// # Errors
/// [`FormatError`]; a store of a newer version is not touched.
pub fn upgrade(store: &dyn Store) -> Result<(), FormatError> {
    upgrade_by(store, &STEPS)
}

fn upgrade_by(store: &dyn Store, steps: &[Step]) -> Result<(), FormatError> {
    let known = u32::try_from(steps.len()).expect("a handful of steps") + 1;
    let Some(meta::Format(found)) = meta::read(store, meta::FORMAT)? else {
        return Ok(());
    };
    if found > known || found == 0 {
        return Err(FormatError::Newer { found, known });
    }
    for (version, step) in (found + 1..).zip(&steps[found as usize - 1..]) {
        step(store)?;
        let value = codec::encode(&meta::Format(version));
        store.write(&[Change {
            family: Family::Meta,
            key: meta::FORMAT,
            value: Some(&value),
        }])?;
        store.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{View as _, memory::Memory};

    fn store_of(version: u32) -> Memory {
        let store = Memory::new();
        store.put(Family::Meta, meta::FORMAT, &codec::encode(&meta::Format(version)));
        store
    }

    fn add_letter(store: &dyn Store) -> Result<(), Error> {
        let mut text = store.get(Family::Meta, b"text")?.unwrap_or_default();
        text.push(b'a' + u8::try_from(text.len()).unwrap());
        store.write(&[Change {
            family: Family::Meta,
            key: b"text",
            value: Some(&text),
        }])
    }

    #[test]
    fn only_the_missing_steps_are_taken() {
        for (version, expected) in [(1, Some(&b"ab"[..])), (2, Some(b"a")), (3, None)] {
            let store = store_of(version);
            upgrade_by(&store, &[add_letter, add_letter]).unwrap();
            assert_eq!(store.get(Family::Meta, b"text").unwrap().as_deref(), expected);
            assert_eq!(meta::read(&store, meta::FORMAT).unwrap(), Some(meta::Format(3)));
        }
    }

    #[test]
    fn a_newer_store_is_refused_untouched() {
        let store = store_of(CURRENT + 1);
        let error = upgrade(&store).unwrap_err();
        assert!(matches!(error, FormatError::Newer { found, known } if (found, known) == (CURRENT + 1, CURRENT)));
        assert!(error.to_string().contains("start the newer build"), "{error}");
        assert_eq!(
            meta::read(&store, meta::FORMAT).unwrap(),
            Some(meta::Format(CURRENT + 1))
        );
    }

    #[test]
    fn a_store_from_before_raft_is_only_marked() {
        let store = store_of(1);
        store.put(Family::Ledger, b"a", b"row");
        upgrade(&store).unwrap();
        assert_eq!(meta::read(&store, meta::FORMAT).unwrap(), Some(meta::Format(2)));
        assert_eq!(store.get(Family::Ledger, b"a").unwrap().as_deref(), Some(&b"row"[..]));
    }
}
