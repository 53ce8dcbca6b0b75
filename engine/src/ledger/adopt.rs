//! Taking over what another system knew: members with their totals, concepts with their time.
//!
//! ```text
//!  member    unknown ─► an account is opened            known ─► totals rise to what is given, never fall
//!            first registration the earlier, verified once verified, contributions only where there are none
//!  concept   unknown ─► into the pool with its own time, attributed to one account, credited to nobody
//!            known   ─► stays as it is
//! ```
//!
//! Given twice it changes nothing the second time, and writes nothing then. No window, no gate and no credit: it is not the
//! members who ask. No time that is given is above ledger time, so that nothing here lies ahead of what comes after it.

use sha2::{Digest as _, Sha256};

use super::{
    AdoptedConcept, AdoptedMember, NodeId,
    apply::{self, Verdict},
    overlay::{Overlay, Records},
};
use crate::{
    clock::Timestamp,
    keyspace::{
        audit::Event as Audited,
        ledger::{self, Account, Balances, EVENTS_MAX, Event},
        pool::{self, Indexed, Pooled},
        requests::Outcome as Recorded,
    },
    store::{Error, Family},
};

/// What one command came to.
#[derive(Default)]
struct Counts {
    members_new: u64,
    members_known: u64,
    concepts_new: u64,
    concepts_known: u64,
    /// Whether anything is other than before.
    changed: bool,
}

pub(super) fn adopt(
    overlay: &mut Overlay<'_>,
    now: Timestamp,
    contributor: &NodeId,
    members: &[AdoptedMember],
    concepts: Vec<AdoptedConcept>,
) -> Result<Verdict, Error> {
    let digest = digest(members, &concepts);
    let mut counts = Counts::default();
    let mut totals: pool::Head = overlay.record(Family::Pool, &pool::head())?.unwrap_or_default();
    let before = totals;
    for member in members {
        adopt_member(overlay, now, member, &mut totals, &mut counts)?;
    }
    for concept in concepts {
        adopt_concept(overlay, now, contributor, concept, &mut totals, &mut counts)?;
    }
    if totals != before {
        overlay.put(Family::Pool, pool::head(), &totals);
    }
    let Counts {
        members_new,
        members_known,
        concepts_new,
        concepts_known,
        changed,
    } = counts;
    let recorded = Recorded::Adopted {
        members_new,
        members_known,
        concepts_new,
        concepts_known,
    };
    if !changed {
        return Ok(Verdict::Unchanged(recorded));
    }
    let audited = Audited::Adopted {
        contributor: contributor.as_str().to_owned(),
        members_new,
        members_known,
        concepts_new,
        concepts_known,
        given: digest,
        pool_counter: totals.counter,
    };
    Ok(Verdict::Accepted { recorded, audited })
}

fn adopt_member(
    overlay: &mut Overlay<'_>,
    now: Timestamp,
    member: &AdoptedMember,
    totals: &mut pool::Head,
    counts: &mut Counts,
) -> Result<(), Error> {
    let known = apply::find(overlay, &member.node)?;
    match known {
        Some(_) => counts.members_known += 1,
        None => counts.members_new += 1,
    }
    let mut account = match known {
        Some(account) => account,
        None => apply::open(overlay, &member.node)?,
    };
    let held = account.balances;
    account.balances = raised(&held, member, now);
    if account.events == 0 {
        keep_contributions(overlay, now, member, &mut account);
    }
    if known == Some(account) {
        return Ok(());
    }
    counts.changed = true;
    totals.contributors += u64::from(held.contributed == 0 && account.balances.contributed > 0);
    apply::close(overlay, &member.node, &account);
    Ok(())
}

/// The balances that say all that `held` and the other system say.
fn raised(held: &Balances, given: &AdoptedMember, now: Timestamp) -> Balances {
    let given_at = given.registered_at.map(|at| at.min(now));
    Balances {
        registered_at: held.registered_at.into_iter().chain(given_at).min(),
        verified: held.verified || given.verified,
        contributed: held.contributed.max(given.contributed),
        consumed: held.consumed.max(given.consumed),
    }
}

/// The latest contributions, as many as are kept. Which concepts of the pool they were nobody knows.
fn keep_contributions(overlay: &mut Overlay<'_>, now: Timestamp, member: &AdoptedMember, account: &mut Account) {
    let given = &member.contributions;
    for contribution in &given[given.len().saturating_sub(usize::from(EVENTS_MAX))..] {
        let event = Event {
            at: contribution.at.min(now),
            new: contribution.new,
            duplicates: 0,
            pool_counter: 0,
        };
        overlay.put(Family::Ledger, ledger::event(account.number, account.events), &event);
        account.events += 1;
    }
}

fn adopt_concept(
    overlay: &mut Overlay<'_>,
    now: Timestamp,
    contributor: &NodeId,
    AdoptedConcept { concept, first_at }: AdoptedConcept,
    totals: &mut pool::Head,
    counts: &mut Counts,
) -> Result<(), Error> {
    let key = pool::pooled(&concept.hash);
    if overlay.record::<Pooled>(Family::Pool, &key)?.is_some() {
        counts.concepts_known += 1;
        return Ok(());
    }
    let account = match apply::find(overlay, contributor)? {
        Some(account) => account,
        None => {
            let account = apply::open(overlay, contributor)?;
            apply::close(overlay, contributor, &account);
            account
        }
    };
    counts.concepts_new += 1;
    counts.changed = true;
    totals.counter += 1;
    totals.concepts += 1;
    let (first_at, counter) = (first_at.min(now), totals.counter);
    let pooled = Pooled {
        counter,
        first_at,
        contributor: account.number,
        attributed: Vec::new(),
    };
    overlay.put(Family::Pool, key, &pooled);
    let hash = concept.hash.0;
    overlay.put(Family::Pool, pool::indexed(counter), &Indexed { hash, first_at });
    overlay.join(&concept.hash, counter, now, concept.json);
    Ok(())
}

/// SHA-256 over what was given, for the audit: of each member its name (length first) and totals, of each concept its hash.
fn digest(members: &[AdoptedMember], concepts: &[AdoptedConcept]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for member in members {
        let name = member.node.as_str();
        for number in [name.len() as u64, member.contributed, member.consumed] {
            digest.update(number.to_be_bytes());
        }
        digest.update(name);
    }
    for AdoptedConcept { concept, .. } in concepts {
        digest.update(concept.hash.0);
    }
    digest.finalize().into()
}
