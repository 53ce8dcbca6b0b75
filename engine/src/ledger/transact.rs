//! Transactions on the keys of one namespace with `replication = consensus`: compares, then, otherwise.
//!
//! ```text
//!  compares ─ all hold ────► then ──────┐   put, delete, get: in order, each sees what those before it did
//!           └ one does not ► otherwise ─┴─► rows, and one revision for all of them, if anything is other than before
//!                                           └─► the outcome under the request's name, which tells a retry the same
//! ```
//!
//! A transaction that changes nothing writes nothing: it is remembered no more than a read is, and sent again it is decided
//! again. It touches no account, and there is no audit of it: the audit says who gave and who took, while these are the users'
//! own keys, as free as those of a mesh namespace; the log holds every one of their changes, in order.
//!
//! The door has looked the namespace up. That is not done again here, for namespaces never go and keep their road for ever.

use serde::{Deserialize, Serialize};

use super::{
    Decision, Idempotency, Outcome, Refusal,
    overlay::{Overlay, Records},
};
use crate::{
    clock::Timestamp,
    keyspace::{
        NamespaceId,
        consensus::{self, Head, Row},
        ledger,
        requests::{
            KEPT_US,
            transactions::{self as names, Asked, Carried, Failed, Got, Performed, Transacted},
        },
    },
    store::{Error, Family},
};

/// The most compares and actions of one transaction, together; the door checks.
pub const TRANSACTION_PARTS_MAX: usize = 1_000;
/// The values that one transaction reads are told up to so many bytes in all; further ones are told as left out.
pub const TRANSACTION_READ_BYTES_MAX: usize = 2 << 20;

/// Names forgotten by one transaction: more than it adds.
const FORGOTTEN_MAX: usize = 2;

/// What is to be compared, and what to be done then and otherwise. As it is here it lies in raft's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Where all the keys live; one with `replication = consensus`.
    pub namespace: NamespaceId,
    /// With what there was before the transaction.
    pub compares: Vec<Compare>,
    /// Carried out when all compares hold.
    pub then: Vec<Action>,
    /// Carried out when one does not.
    pub otherwise: Vec<Action>,
}

/// What one key must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// 1 to 1,024 bytes; the door checks.
    pub key: String,
    /// What.
    pub holds: Holds,
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holds {
    /// Nothing.
    Nothing,
    /// Anything.
    Something,
    /// What was written at this revision, and nothing since.
    Revision(u64),
    /// This very text. Two spellings of one JSON value are two texts, so that it never depends on how a build reads numbers.
    Json(String),
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Writes a key.
    Put {
        /// 1 to 1,024 bytes; the door checks.
        key: String,
        /// JSON text; the door checks.
        json: String,
    },
    /// Takes a key away.
    Delete {
        /// Which.
        key: String,
    },
    /// Reads a key.
    Get {
        /// Which.
        key: String,
    },
}

impl Transaction {
    /// Bytes of keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let compare = |compare: &Compare| match &compare.holds {
            Holds::Json(json) => compare.key.len() + json.len(),
            _ => compare.key.len(),
        };
        let action = |action: &Action| match action {
            Action::Put { key, json } => key.len() + json.len(),
            Action::Delete { key } | Action::Get { key } => key.len(),
        };
        let compares = self.compares.iter().map(compare);
        compares.sum::<usize>() + self.then.iter().chain(&self.otherwise).map(action).sum::<usize>()
    }

    /// Compares and actions.
    #[must_use]
    pub fn parts(&self) -> usize {
        self.compares.len() + self.then.len() + self.otherwise.len()
    }
}

/// Decides a transaction.
pub(super) fn decide(
    overlay: &mut Overlay<'_>,
    now: Timestamp,
    idempotency: Option<Idempotency>,
    transaction: Transaction,
) -> Result<Decision, Error> {
    if let Some(idempotency) = &idempotency
        && let Some(decision) = recall(overlay, idempotency, now)?
    {
        return Ok(decision);
    }
    let Transaction {
        namespace,
        compares,
        then,
        otherwise,
    } = transaction;
    let failed = first_to_fail(overlay, namespace, &compares)?;
    let actions = if failed.is_none() { then } else { otherwise };
    let before: Head = overlay
        .record(Family::Consensus, &consensus::head())?
        .unwrap_or_default();
    let mut carrying = Carrying {
        overlay,
        namespace,
        revision: before.revision + 1,
        now,
        changed: false,
        read_bytes: 0,
    };
    let results = actions.into_iter().map(|action| carrying.out(action));
    let results = results.collect::<Result<Vec<Performed>, Error>>()?;
    let (changed, revision) = (carrying.changed, before.revision + u64::from(carrying.changed));
    let outcome = Transacted {
        failed,
        revision,
        at: now,
        results,
    };
    if changed {
        overlay.put(Family::Consensus, consensus::head(), &Head { revision });
        keep_time(overlay, now)?;
        if let Some(idempotency) = idempotency {
            remember(overlay, idempotency, &outcome, names::TOTAL_MAX)?;
        }
    }
    Ok(Decision {
        outcome: Outcome::Transacted(outcome),
        repeated: false,
    })
}

fn keep_time(overlay: &mut Overlay<'_>, now: Timestamp) -> Result<(), Error> {
    let head: ledger::Head = overlay.record(Family::Ledger, &ledger::head())?.unwrap_or_default();
    if head.time != now {
        overlay.put(Family::Ledger, ledger::head(), &ledger::Head { time: now, ..head });
    }
    Ok(())
}

/// The first compare that does not hold.
fn first_to_fail(overlay: &Overlay<'_>, namespace: NamespaceId, compares: &[Compare]) -> Result<Option<Failed>, Error> {
    for (place, Compare { key, holds }) in (0..).zip(compares) {
        let found = row(overlay, namespace, key)?;
        let as_expected = match (holds, &found) {
            (Holds::Nothing, found) => found.is_none(),
            (Holds::Something, found) => found.is_some(),
            (Holds::Revision(revision), Some(found)) => found.modified == *revision,
            (Holds::Json(json), Some(found)) => found.json == *json,
            (Holds::Revision(_) | Holds::Json(_), None) => false,
        };
        if !as_expected {
            return Ok(Some(Failed {
                compare: place,
                found: found.map(|row| row.modified),
            }));
        }
    }
    Ok(None)
}

fn row(overlay: &Overlay<'_>, namespace: NamespaceId, key: &str) -> Result<Option<Row>, Error> {
    overlay.record(Family::Consensus, &consensus::key(namespace, key.as_bytes()))
}

/// The actions of a transaction under way.
struct Carrying<'a, 'b> {
    overlay: &'a mut Overlay<'b>,
    namespace: NamespaceId,
    /// That of the transaction, if it changes something.
    revision: u64,
    now: Timestamp,
    changed: bool,
    /// Of values told so far.
    read_bytes: usize,
}

impl Carrying<'_, '_> {
    fn out(&mut self, action: Action) -> Result<Performed, Error> {
        let (Action::Put { key, .. } | Action::Delete { key } | Action::Get { key }) = &action;
        let key = consensus::key(self.namespace, key.as_bytes());
        let found: Option<Row> = self.overlay.record(Family::Consensus, &key)?;
        Ok(match action {
            Action::Put { json, .. } => {
                let row = Row {
                    created: found.as_ref().map_or(self.revision, |found| found.created),
                    modified: self.revision,
                    version: found.map_or(1, |found| found.version + 1),
                    at: self.now,
                    json,
                };
                self.overlay.put(Family::Consensus, key, &row);
                self.changed = true;
                let Row { created, version, .. } = row;
                Performed::Put { created, version }
            }
            Action::Delete { .. } => {
                if found.is_some() {
                    self.overlay.delete(Family::Consensus, key);
                    self.changed = true;
                }
                Performed::Deleted { found: found.is_some() }
            }
            Action::Get { .. } => Performed::Got(found.map(|found| self.got(found))),
        })
    }

    fn got(&mut self, row: Row) -> Got {
        self.read_bytes += row.json.len();
        let is_told = self.read_bytes <= TRANSACTION_READ_BYTES_MAX;
        Got {
            created: row.created,
            modified: row.modified,
            version: row.version,
            at: row.at,
            json: is_told.then_some(row.json),
        }
    }
}

/// What was decided under this name before; `None` when the name is new or forgotten.
fn recall(overlay: &Overlay<'_>, idempotency: &Idempotency, now: Timestamp) -> Result<Option<Decision>, Error> {
    let Idempotency { caller, key, body } = idempotency;
    let carried: Option<Carried> = overlay.record(Family::Requests, &names::carried(caller, key))?;
    let carried = carried.filter(|carried| !is_old(carried.outcome.at, now));
    Ok(carried.map(|carried| {
        let repeated = carried.body == *body;
        let outcome = if repeated {
            Outcome::Transacted(carried.outcome)
        } else {
            Outcome::Refused(Refusal::KeyReused)
        };
        Decision { outcome, repeated }
    }))
}

/// Keeps what a transaction did under its name, and forgets some of what is too old or too much.
pub(super) fn remember(
    overlay: &mut Overlay<'_>,
    idempotency: Idempotency,
    outcome: &Transacted,
    total_max: u64,
) -> Result<(), Error> {
    let mut places: names::Head = overlay.record(Family::Requests, &names::head())?.unwrap_or_default();
    for _ in 0..FORGOTTEN_MAX {
        if places.oldest == places.next {
            break;
        }
        let asked: Option<Asked> = overlay.record(Family::Requests, &names::asked(places.oldest))?;
        let missing = || Error(format!("family requests: place {} is missing", places.oldest));
        let asked = asked.ok_or_else(missing)?;
        if !is_old(asked.at, outcome.at) && places.next - places.oldest < total_max {
            break;
        }
        forget(overlay, places.oldest, &asked)?;
        places.oldest += 1;
    }
    let Idempotency { caller, key, body } = idempotency;
    let place = places.next;
    let mut outcome = outcome.clone();
    leave_out(&mut outcome.results);
    let asked = Asked {
        at: outcome.at,
        caller,
        key,
    };
    let carried = Carried { body, place, outcome };
    overlay.put(Family::Requests, names::carried(&asked.caller, &asked.key), &carried);
    overlay.put(Family::Requests, names::asked(place), &asked);
    places.next += 1;
    overlay.put(Family::Requests, names::head(), &places);
    Ok(())
}

fn forget(overlay: &mut Overlay<'_>, place: u64, asked: &Asked) -> Result<(), Error> {
    overlay.delete(Family::Requests, names::asked(place));
    let carried = names::carried(&asked.caller, &asked.key);
    // An old name may have been used again before it was forgotten; then the record is the newer transaction's.
    if overlay
        .record::<Carried>(Family::Requests, &carried)?
        .is_some_and(|carried| carried.place == place)
    {
        overlay.delete(Family::Requests, carried);
    }
    Ok(())
}

/// Leaves out the values that are too much to be remembered.
fn leave_out(results: &mut [Performed]) {
    let mut bytes = 0;
    for result in results {
        if let Performed::Got(Some(got)) = result {
            bytes += got.json.as_ref().map_or(0, String::len);
            if bytes > names::READ_BYTES_MAX {
                got.json = None;
            }
        }
    }
}

fn is_old(at: Timestamp, now: Timestamp) -> bool {
    now.0 >= at.0.saturating_add(KEPT_US)
}
