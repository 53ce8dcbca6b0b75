//! The function that decides.

use sha2::{Digest, Sha256};

use super::{
    Command, Decision, Limited, Limits, NodeId, Outcome, PoolConcept, Proposal, Refusal,
    account::{self, Standing},
    adopt, audit, idempotency, members, namespaces,
    overlay::{Overlay, Records},
    transact,
    window::Accepted,
};
use crate::{
    clock::Timestamp,
    keyspace::{
        audit::Event as Audited,
        ledger::{self, Account, Balances, Event, Head},
        pool::{self, ATTRIBUTIONS_MAX, Indexed, Pooled},
        registry,
        requests::Outcome as Recorded,
    },
    store::{Error, Family},
};

/// What a command comes to, before it is audited.
pub(super) enum Verdict {
    /// Written to the overlay already.
    Accepted {
        /// The outcome as it is kept for retries.
        recorded: Recorded,
        /// What the audit says.
        audited: Audited,
    },
    /// Nothing was written: everything is as asked already.
    Unchanged(Recorded),
    /// Nothing was written.
    Refused(Refusal),
}

/// Decides `proposal` over all that was stored and decided before it.
///
/// # Errors
/// Only when the store fails or holds what it should not: no decision was made, `overlay` is to be dropped and the node
/// must stop, for other voters may have decided.
pub fn apply(overlay: &mut Overlay<'_>, proposal: Proposal) -> Result<Decision, Error> {
    let first = |outcome| Decision {
        outcome,
        repeated: false,
    };
    let Proposal {
        at,
        idempotency,
        command,
    } = proposal;
    let now = ledger_time(overlay)?.max(at);
    if let Some(idempotency) = &idempotency
        && let Some(decision) = idempotency::recall(overlay, idempotency, &command, now)?
    {
        return Ok(decision);
    }
    let verdict = match command {
        Command::Register { node, verified } => register(overlay, now, &node, verified)?,
        Command::Contribute { node, concepts } => contribute(overlay, now, &node, concepts)?,
        Command::Consume { node } => consume(overlay, now, &node)?,
        Command::SetLimits(limits) => set_limits(overlay, limits),
        Command::Adopt {
            contributor,
            members,
            concepts,
        } => adopt::adopt(overlay, now, &contributor, &members, concepts)?,
        Command::CreateNamespace { name, policy } => namespaces::create(overlay, name, policy)?,
        Command::SetNamespacePolicy { name, strategy } => namespaces::set_policy(overlay, name, strategy)?,
        Command::Transact(transaction) => return transact::decide(overlay, now, idempotency, transaction),
        Command::Members(change) => members::change(overlay, now, change)?,
    };
    let (recorded, audited) = match verdict {
        Verdict::Unchanged(recorded) => return Ok(first(outcome(recorded))),
        Verdict::Refused(refusal) => return Ok(first(Outcome::Refused(refusal))),
        Verdict::Accepted { recorded, audited } => (recorded, audited),
    };
    let head = Head {
        time: now,
        ..overlay.record(Family::Ledger, &ledger::head())?.unwrap_or_default()
    };
    overlay.put(Family::Ledger, ledger::head(), &head);
    audit::append(overlay, now, audited)?;
    idempotency::expire(overlay, now)?;
    if let Some(idempotency) = idempotency {
        idempotency::remember(overlay, idempotency, now, recorded.clone(), idempotency::BOUNDS)?;
    }
    Ok(first(outcome(recorded)))
}

/// The outcome that was recorded.
pub(super) fn outcome(recorded: Recorded) -> Outcome {
    match recorded {
        Recorded::Registered { already, balances } => Outcome::Registered {
            already,
            // Registration is what sets it, and nothing unsets it.
            registered_at: balances.registered_at.unwrap_or_default(),
            standing: Standing::of(&balances),
        },
        Recorded::Contributed {
            new,
            duplicates,
            balances,
        } => Outcome::Contributed {
            new,
            duplicates,
            standing: Standing::of(&balances),
        },
        Recorded::Charged { pool_counter, balances } => Outcome::Charged {
            pool_counter,
            standing: Standing::of(&balances),
        },
        Recorded::LimitsSet | Recorded::NamespacePolicySet | Recorded::MembersChanged => Outcome::Done,
        Recorded::Adopted {
            members_new,
            members_known,
            concepts_new,
            concepts_known,
        } => Outcome::Adopted {
            members_new,
            members_known,
            concepts_new,
            concepts_known,
        },
        Recorded::NamespaceCreated { name, namespace } => Outcome::NamespaceCreated(super::Namespace {
            id: namespace.id,
            name,
            policy: namespace.policy,
        }),
    }
}

/// Ledger time so far.
pub(super) fn ledger_time<R: Records + ?Sized>(records: &R) -> Result<Timestamp, Error> {
    Ok(records
        .record::<Head>(Family::Ledger, &ledger::head())?
        .unwrap_or_default()
        .time)
}

pub(super) fn find<R: Records + ?Sized>(records: &R, node: &NodeId) -> Result<Option<Account>, Error> {
    records.record(Family::Ledger, &ledger::account(node.as_str()))
}

/// The account of `node`, opened if this is its first accepted request.
pub(super) fn open(overlay: &mut Overlay<'_>, node: &NodeId) -> Result<Account, Error> {
    if let Some(account) = find(overlay, node)? {
        return Ok(account);
    }
    let mut head: Head = overlay.record(Family::Ledger, &ledger::head())?.unwrap_or_default();
    head.accounts = head
        .accounts
        .checked_add(1)
        .ok_or_else(|| Error("four thousand million accounts are open".to_owned()))?;
    overlay.put(Family::Ledger, ledger::head(), &head);
    overlay.put(
        Family::Ledger,
        ledger::name(head.accounts),
        &ledger::Name(node.as_str().to_owned()),
    );
    Ok(Account {
        number: head.accounts,
        balances: Balances::default(),
        events: 0,
    })
}

pub(super) fn close(overlay: &mut Overlay<'_>, node: &NodeId, account: &Account) {
    overlay.put(Family::Ledger, ledger::account(node.as_str()), account);
}

fn register(overlay: &mut Overlay<'_>, now: Timestamp, node: &NodeId, verified: bool) -> Result<Verdict, Error> {
    let mut account = open(overlay, node)?;
    let already = account.balances.registered_at.is_some();
    account.balances.registered_at.get_or_insert(now);
    account.balances.verified |= verified;
    close(overlay, node, &account);
    let audited = Audited::Registered {
        node: node.as_str().to_owned(),
        already,
        verified: account.balances.verified,
    };
    Ok(Verdict::Accepted {
        recorded: Recorded::Registered {
            already,
            balances: account.balances,
        },
        audited,
    })
}

/// The window of `node`, or the refusal when it is full. Changes nothing.
fn admit(
    overlay: &Overlay<'_>,
    now: Timestamp,
    node: &NodeId,
    kind: Limited,
) -> Result<Result<Accepted, Refusal>, Error> {
    let limits = super::read::limits_of(overlay)?;
    let account = find(overlay, node)?.map(|account| account.number);
    let accepted = Accepted::read(overlay, account, kind, now)?;
    Ok(accepted.check(&limits, now).map(|()| accepted))
}

fn consume(overlay: &mut Overlay<'_>, now: Timestamp, node: &NodeId) -> Result<Verdict, Error> {
    let accepted = match admit(overlay, now, node, Limited::Knowledge)? {
        Ok(accepted) => accepted,
        Err(refusal) => return Ok(Verdict::Refused(refusal)),
    };
    let balances = find(overlay, node)?.map(|account| account.balances).unwrap_or_default();
    if let Err(refusal) = account::gate(&balances) {
        return Ok(Verdict::Refused(refusal));
    }
    let mut account = open(overlay, node)?;
    account.balances.consumed += 1;
    accepted.accept(overlay, account.number, now);
    close(overlay, node, &account);
    let pool_counter = overlay
        .record::<pool::Head>(Family::Pool, &pool::head())?
        .unwrap_or_default()
        .counter;
    let audited = Audited::Charged {
        node: node.as_str().to_owned(),
        pool_counter,
    };
    Ok(Verdict::Accepted {
        recorded: Recorded::Charged {
            pool_counter,
            balances: account.balances,
        },
        audited,
    })
}

fn contribute(
    overlay: &mut Overlay<'_>,
    now: Timestamp,
    node: &NodeId,
    concepts: Vec<PoolConcept>,
) -> Result<Verdict, Error> {
    let accepted = match admit(overlay, now, node, Limited::Contribute)? {
        Ok(accepted) => accepted,
        Err(refusal) => return Ok(Verdict::Refused(refusal)),
    };
    let mut account = open(overlay, node)?;
    accepted.accept(overlay, account.number, now);

    let mut totals: pool::Head = overlay.record(Family::Pool, &pool::head())?.unwrap_or_default();
    let (mut new, mut duplicates) = (0, 0);
    let mut digest = Sha256::new();
    for PoolConcept { hash, json } in concepts {
        digest.update(hash.0);
        let key = pool::pooled(&hash);
        if let Some(pooled) = overlay.record::<Pooled>(Family::Pool, &key)? {
            duplicates += 1;
            attribute(overlay, key, pooled, account.number);
            continue;
        }
        new += 1;
        totals.counter += 1;
        let pooled = Pooled {
            counter: totals.counter,
            first_at: now,
            contributor: account.number,
            attributed: Vec::new(),
        };
        overlay.put(Family::Pool, key, &pooled);
        overlay.put(
            Family::Pool,
            pool::indexed(totals.counter),
            &Indexed {
                hash: hash.0,
                first_at: now,
            },
        );
        overlay.join(&hash, totals.counter, now, json);
    }
    if new > 0 {
        totals.concepts += new;
        totals.contributors += u64::from(account.balances.contributed == 0);
        overlay.put(Family::Pool, pool::head(), &totals);
    }
    account.balances.contributed += new;
    let event = Event {
        at: now,
        new,
        duplicates,
        pool_counter: totals.counter,
    };
    overlay.put(Family::Ledger, ledger::event(account.number, account.events), &event);
    account.events += 1;
    close(overlay, node, &account);

    let audited = Audited::Contributed {
        node: node.as_str().to_owned(),
        new,
        duplicates,
        concepts: digest.finalize().into(),
        pool_counter: totals.counter,
    };
    Ok(Verdict::Accepted {
        recorded: Recorded::Contributed {
            new,
            duplicates,
            balances: account.balances,
        },
        audited,
    })
}

/// Remembers who else gave a concept: once each, and no more than [`ATTRIBUTIONS_MAX`].
fn attribute(overlay: &mut Overlay<'_>, key: Vec<u8>, mut pooled: Pooled, account: u32) {
    let known = pooled.contributor == account || pooled.attributed.contains(&account);
    if known || pooled.attributed.len() >= ATTRIBUTIONS_MAX {
        return;
    }
    pooled.attributed.push(account);
    overlay.put(Family::Pool, key, &pooled);
}

fn set_limits(overlay: &mut Overlay<'_>, limits: Limits) -> Verdict {
    let range = 1..=Limits::PER_HOUR_MAX;
    if !range.contains(&limits.contribute_per_hour) || !range.contains(&limits.knowledge_per_hour) {
        return Verdict::Refused(Refusal::LimitsOutOfRange);
    }
    overlay.put(Family::Registry, registry::limits(), &limits);
    Verdict::Accepted {
        recorded: Recorded::LimitsSet,
        audited: Audited::LimitsSet(limits),
    }
}
