//! Idempotency keys: an answered request is answered the same again, for 24 hours.
//!
//! Forgetting is oldest first, whether for age, for a caller's bound or for the bound of all; each command takes at most
//! [`EXPIRED_PER_COMMAND`] steps of it, more than it adds.

use super::{
    Command, Decision, Idempotency, Outcome, Refusal,
    apply::outcome,
    overlay::{Overlay, Records},
};
use crate::{
    clock::Timestamp,
    keyspace::requests::{
        self, Answered, Asked, Caller, Head, KEPT_US, Outcome as Recorded, PER_CALLER_MAX, TOTAL_MAX, Turn,
    },
    store::{Error, Family},
};

/// How many requests are remembered.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) per_caller: u64,
    pub(super) total: u64,
}

pub(super) const BOUNDS: Bounds = Bounds {
    per_caller: PER_CALLER_MAX,
    total: TOTAL_MAX,
};

const EXPIRED_PER_COMMAND: usize = 2;

/// The decision that is repeated (or the refusal of a reused key); `None` when the command is new, or a transaction: those
/// remember for themselves.
pub(super) fn recall(
    overlay: &Overlay<'_>,
    idempotency: &Idempotency,
    command: &Command,
    now: Timestamp,
) -> Result<Option<Decision>, Error> {
    if matches!(command, Command::Transact(_)) {
        return Ok(None);
    }
    let Idempotency { caller, key, body } = idempotency;
    let answered: Option<Answered> = overlay.record(Family::Requests, &requests::answered(caller, key))?;
    Ok(answered.filter(|answered| !expired(answered.at, now)).map(|answered| {
        let repeated = answered.body == *body && answers(&answered.outcome, command);
        Decision {
            outcome: if repeated {
                outcome(answered.outcome)
            } else {
                Outcome::Refused(Refusal::KeyReused)
            },
            repeated,
        }
    }))
}

/// Keeps the outcome of an accepted command.
pub(super) fn remember(
    overlay: &mut Overlay<'_>,
    idempotency: Idempotency,
    now: Timestamp,
    outcome: Recorded,
    bounds: Bounds,
) -> Result<(), Error> {
    let Idempotency { caller, key, body } = idempotency;
    if caller_of(overlay, &caller)?.live >= bounds.per_caller {
        forget_oldest_of(overlay, &caller)?;
    }
    if head(overlay)?.live >= bounds.total {
        // Steps over what callers' bounds left empty; each place is passed once, ever.
        while step(overlay, None)? == Step::Empty {}
    }
    let mut head = head(overlay)?;
    let mut whose = caller_of(overlay, &caller)?;
    let (sequence, number) = (head.next, whose.next);
    let answered = Answered {
        body,
        at: now,
        sequence,
        outcome,
    };
    overlay.put(Family::Requests, requests::answered(&caller, &key), &answered);
    overlay.put(Family::Requests, requests::turn(&caller, number), &Turn(sequence));
    whose = Caller {
        next: number + 1,
        live: whose.live + 1,
    };
    overlay.put(Family::Requests, requests::caller(&caller), &whose);
    overlay.put(
        Family::Requests,
        requests::asked(sequence),
        &Asked {
            caller,
            key,
            number,
            at: now,
        },
    );
    head.next += 1;
    head.live += 1;
    overlay.put(Family::Requests, requests::head(), &head);
    Ok(())
}

/// Forgets some of what is too old.
pub(super) fn expire(overlay: &mut Overlay<'_>, now: Timestamp) -> Result<(), Error> {
    for _ in 0..EXPIRED_PER_COMMAND {
        if step(overlay, Some(now))? == Step::Nothing {
            break;
        }
    }
    Ok(())
}

#[derive(PartialEq, Eq)]
enum Step {
    /// The oldest place held a request; it is forgotten.
    Forgotten,
    /// The oldest place held nothing any more.
    Empty,
    /// There is nothing, or nothing old enough.
    Nothing,
}

/// Passes the oldest place: of any age, or (with `now`) only when what it holds has expired.
fn step(overlay: &mut Overlay<'_>, now: Option<Timestamp>) -> Result<Step, Error> {
    let place = head(overlay)?;
    if place.oldest == place.next {
        return Ok(Step::Nothing);
    }
    let asked: Option<Asked> = overlay.record(Family::Requests, &requests::asked(place.oldest))?;
    if let (Some(asked), Some(now)) = (&asked, now)
        && !expired(asked.at, now)
    {
        return Ok(Step::Nothing);
    }
    let found = match asked {
        Some(asked) => {
            forget(overlay, place.oldest, &asked)?;
            Step::Forgotten
        }
        None => Step::Empty,
    };
    let place = Head {
        oldest: place.oldest + 1,
        ..head(overlay)?
    };
    overlay.put(Family::Requests, requests::head(), &place);
    Ok(found)
}

fn forget_oldest_of(overlay: &mut Overlay<'_>, caller: &str) -> Result<(), Error> {
    let whose = caller_of(overlay, caller)?;
    let turn: Option<Turn> = overlay.record(Family::Requests, &requests::turn(caller, whose.next - whose.live))?;
    let missing = || {
        Error(format!(
            "family requests: a caller's oldest request is missing ({whose:?})"
        ))
    };
    let Turn(sequence) = turn.ok_or_else(missing)?;
    let asked: Asked = overlay
        .record(Family::Requests, &requests::asked(sequence))?
        .ok_or_else(missing)?;
    forget(overlay, sequence, &asked)
}

/// Removes every trace of one request; always the caller's oldest.
fn forget(overlay: &mut Overlay<'_>, sequence: u64, asked: &Asked) -> Result<(), Error> {
    let Asked {
        caller, key, number, ..
    } = asked;
    overlay.delete(Family::Requests, requests::asked(sequence));
    overlay.delete(Family::Requests, requests::turn(caller, *number));
    let answered_key = requests::answered(caller, key);
    // An expired key may have been used again before it was forgotten; then the record is the newer request's.
    if overlay
        .record::<Answered>(Family::Requests, &answered_key)?
        .is_some_and(|answered| answered.sequence == sequence)
    {
        overlay.delete(Family::Requests, answered_key);
    }
    let whose = caller_of(overlay, caller)?;
    if whose.live <= 1 {
        overlay.delete(Family::Requests, requests::caller(caller));
    } else {
        overlay.put(
            Family::Requests,
            requests::caller(caller),
            &Caller {
                live: whose.live - 1,
                ..whose
            },
        );
    }
    let all = head(overlay)?;
    overlay.put(
        Family::Requests,
        requests::head(),
        &Head {
            live: all.live.saturating_sub(1),
            ..all
        },
    );
    Ok(())
}

fn expired(at: Timestamp, now: Timestamp) -> bool {
    now.0 >= at.0.saturating_add(KEPT_US)
}

fn head(overlay: &Overlay<'_>) -> Result<Head, Error> {
    Ok(overlay.record(Family::Requests, &requests::head())?.unwrap_or_default())
}

fn caller_of(overlay: &Overlay<'_>, caller: &str) -> Result<Caller, Error> {
    Ok(overlay
        .record(Family::Requests, &requests::caller(caller))?
        .unwrap_or_default())
}

/// Whether an outcome is of this kind of command: a body that means something to two routes is still two requests.
fn answers(outcome: &Recorded, command: &Command) -> bool {
    match command {
        Command::Register { .. } => matches!(outcome, Recorded::Registered { .. }),
        Command::Contribute { .. } => matches!(outcome, Recorded::Contributed { .. }),
        Command::Consume { .. } => matches!(outcome, Recorded::Charged { .. }),
        Command::Adopt { .. } => matches!(outcome, Recorded::Adopted { .. }),
        Command::Members(_) => matches!(outcome, Recorded::MembersChanged),
        Command::SetLimits(_) => matches!(outcome, Recorded::LimitsSet),
        Command::CreateNamespace { .. } => matches!(outcome, Recorded::NamespaceCreated { .. }),
        Command::SetNamespacePolicy { .. } => matches!(outcome, Recorded::NamespacePolicySet),
        // Its names are a space of their own.
        Command::Transact(_) => false,
    }
}
