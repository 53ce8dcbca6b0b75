//! The audit chain: appended with what it audits, and verified from end to end.

use super::overlay::{Overlay, Records};
use crate::{
    clock::Timestamp,
    keyspace::{
        audit::{self as family, Body, Event, Head, Sealed},
        codec,
    },
    store::{self, Family, View},
};

/// A chain without a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// How many records there are.
    pub records: u64,
    /// The hash of the last one; 32 zero bytes when there is none. Kept elsewhere, it proves the chain later on.
    pub hash: [u8; 32],
}

/// Why a chain cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Nothing can be said.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Everything before this record is as it was written; from it on something was changed.
    #[error(
        "the audit chain is broken at record {sequence}: {reason}; restore the ledger from a backup taken before it was changed"
    )]
    Broken {
        /// Of the first record that does not fit.
        sequence: u64,
        /// What does not fit.
        reason: &'static str,
    },
}

/// Appends what an accepted command did.
pub(super) fn append(overlay: &mut Overlay<'_>, at: Timestamp, event: Event) -> Result<(), store::Error> {
    let before: Head = overlay.record(Family::Audit, &family::head())?.unwrap_or_default();
    let sequence = before.sequence + 1;
    let body = codec::encode(&Body { sequence, at, event });
    let hash = family::seal(&before.hash, &body);
    overlay.put(Family::Audit, family::sealed(sequence), &Sealed { hash, body });
    overlay.put(Family::Audit, family::head(), &Head { sequence, hash });
    Ok(())
}

/// Reads the whole chain and checks every seal.
///
/// # Errors
/// [`Fault::Broken`] names the first record that was changed, removed or added.
pub fn verify(view: &dyn View) -> Result<Verified, Fault> {
    let mut verified = Verified {
        records: 0,
        hash: [0; 32],
    };
    let mut fault = None;
    view.scan(
        Family::Audit,
        &family::sealed(0),
        Some(&family::sealed_end()),
        &mut |key, value| {
            match link(&verified, key, value) {
                Ok(next) => verified = next,
                Err(reason) => fault = Some(reason),
            }
            fault.is_none()
        },
    )?;
    let head: Head = view.record(Family::Audit, &family::head())?.unwrap_or_default();
    if fault.is_none() && (head.sequence, head.hash) != (verified.records, verified.hash) {
        fault = Some("the chain does not end where its head says");
    }
    match fault {
        Some(reason) => Err(Fault::Broken {
            sequence: verified.records + 1,
            reason,
        }),
        None => Ok(verified),
    }
}

fn link(before: &Verified, key: &[u8], value: &[u8]) -> Result<Verified, &'static str> {
    let records = before.records + 1;
    if family::sequence_of(key) != Some(records) {
        return Err("a record is missing");
    }
    let sealed: Sealed = codec::decode(value).map_err(|_| "the record cannot be decoded")?;
    if family::seal(&before.hash, &sealed.body) != sealed.hash {
        return Err("the seal does not fit the record");
    }
    let body: Body = codec::decode(&sealed.body).map_err(|_| "the record's body cannot be decoded")?;
    if body.sequence != records {
        return Err("the record stands in another's place");
    }
    Ok(Verified {
        records,
        hash: sealed.hash,
    })
}
