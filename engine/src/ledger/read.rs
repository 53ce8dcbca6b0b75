//! Reading the ledger without deciding anything.

use super::{
    Limited, Limits, Member, Namespace, NodeId, Refusal, Standing, apply::ledger_time, overlay::Records,
    window::Accepted,
};
use crate::{
    clock::Timestamp,
    json::ContentHash,
    keyspace::{
        codec,
        ledger::{self, Account, EVENTS_MAX, Event},
        pool::{self, Indexed, Pooled},
        registry,
    },
    store::{Error, Family, View},
};

/// The pool in three numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// The highest dot counter given out; what a follower of the pool reaches.
    pub counter: u64,
    /// Concepts in the pool.
    pub concepts: u64,
    /// Members credited with at least one concept.
    pub contributors: u64,
}

/// One concept of the pool, by its place in the pool's history. Its text lies in `concepts[shared, hash]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolEntry {
    /// Its place, from 1.
    pub counter: u64,
    /// Its identity.
    pub hash: ContentHash,
    /// Ledger time of the first contribution.
    pub first_at: Timestamp,
}

/// Who gave a concept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribution {
    /// Its place in the pool's history.
    pub counter: u64,
    /// Ledger time of the first contribution.
    pub first_at: Timestamp,
    /// Who was credited.
    pub contributor: NodeId,
    /// Who gave it again, in order; at most [`super::ATTRIBUTIONS_MAX`].
    pub attributed: Vec<NodeId>,
}

/// How `node` stands; a node never seen stands as a new one.
///
/// # Errors
/// When the store fails.
pub fn standing(view: &dyn View, node: &NodeId) -> Result<Standing, Error> {
    let account = account(view, node)?;
    Ok(Standing::of(
        &account.map(|account| account.balances).unwrap_or_default(),
    ))
}

/// The refusal that a request of `node` would meet now, from what this view holds. The decision itself is
/// [`super::apply()`]'s: a view that lags can only let too many through to it.
///
/// # Errors
/// When the store fails.
pub fn limited(view: &dyn View, node: &NodeId, kind: Limited, now: Timestamp) -> Result<Option<Refusal>, Error> {
    let now = ledger_time(view)?.max(now);
    let number = account(view, node)?.map(|account| account.number);
    Ok(Accepted::read(view, number, kind, now)?
        .check(&limits_of(view)?, now)
        .err())
}

/// Ledger time: the latest proposer's time seen so far, 0 before the first accepted command.
///
/// # Errors
/// When the store fails.
pub fn time(view: &dyn View) -> Result<Timestamp, Error> {
    ledger_time(view)
}

/// The limits in force.
///
/// # Errors
/// When the store fails.
pub fn limits(view: &dyn View) -> Result<Limits, Error> {
    limits_of(view)
}

pub(super) fn limits_of<R: Records + ?Sized>(records: &R) -> Result<Limits, Error> {
    Ok(records
        .record(Family::Registry, &registry::limits())?
        .unwrap_or_default())
}

/// The totals of the pool, in one read.
///
/// # Errors
/// When the store fails.
pub fn pool_stats(view: &dyn View) -> Result<PoolStats, Error> {
    let pool::Head {
        counter,
        concepts,
        contributors,
    } = view.record(Family::Pool, &pool::head())?.unwrap_or_default();
    Ok(PoolStats {
        counter,
        concepts,
        contributors,
    })
}

/// The pool's entries above `after`, in the order they were contributed, until `visit` returns false.
///
/// # Errors
/// When the store fails or holds what it should not.
pub fn pool_entries(view: &dyn View, after: u64, visit: &mut dyn FnMut(PoolEntry) -> bool) -> Result<(), Error> {
    let Some(first) = after.checked_add(1) else {
        return Ok(());
    };
    let mut damage = None;
    view.scan(
        Family::Pool,
        &pool::indexed(first),
        Some(&pool::indexed_end()),
        &mut |key, value| {
            let Some(counter) = pool::counter_of(key) else {
                return true;
            };
            match codec::decode::<Indexed>(value) {
                Ok(Indexed { hash, first_at }) => visit(PoolEntry {
                    counter,
                    hash: ContentHash(hash),
                    first_at,
                }),
                Err(undecodable) => {
                    damage = Some(Error::from(undecodable));
                    false
                }
            }
        },
    )?;
    damage.map_or(Ok(()), Err)
}

/// Who gave the concept `hash`; `None` when the pool does not have it.
///
/// # Errors
/// When the store fails or holds what it should not.
pub fn attribution(view: &dyn View, hash: &ContentHash) -> Result<Option<Attribution>, Error> {
    let Some(pooled) = view.record::<Pooled>(Family::Pool, &pool::pooled(hash))? else {
        return Ok(None);
    };
    let name = |number: u32| -> Result<NodeId, Error> {
        let found: Option<ledger::Name> = view.record(Family::Ledger, &ledger::name(number))?;
        found
            .map(|name| NodeId(name.0))
            .ok_or_else(|| Error(format!("family ledger: account {number} has no name")))
    };
    Ok(Some(Attribution {
        counter: pooled.counter,
        first_at: pooled.first_at,
        contributor: name(pooled.contributor)?,
        attributed: pooled.attributed.into_iter().map(name).collect::<Result<_, _>>()?,
    }))
}

/// The last contributions of `node`, oldest first; at most 100.
///
/// # Errors
/// When the store fails or holds what it should not.
pub fn contribution_events(view: &dyn View, node: &NodeId) -> Result<Vec<Event>, Error> {
    let Some(account) = account(view, node)? else {
        return Ok(Vec::new());
    };
    let first = account.events.saturating_sub(u64::from(EVENTS_MAX));
    let missing = || Error(format!("family ledger: account {} lacks an event", account.number));
    (first..account.events)
        .map(|number| {
            view.record(Family::Ledger, &ledger::event(account.number, number))?
                .ok_or_else(missing)
        })
        .collect()
}

/// The namespace of this name; the reserved ones have none.
///
/// # Errors
/// When the store fails.
pub fn namespace(view: &dyn View, name: &str) -> Result<Option<Namespace>, Error> {
    let found: Option<registry::Namespace> = view.record(Family::Registry, &registry::namespace(name))?;
    Ok(found.map(|registry::Namespace { id, policy }| Namespace {
        id,
        name: name.to_owned(),
        policy,
    }))
}

/// All namespaces that clients have created, by name.
///
/// # Errors
/// When the store fails or holds what it should not.
pub fn namespaces(view: &dyn View) -> Result<Vec<Namespace>, Error> {
    let mut found = Vec::new();
    let mut damage = None;
    view.scan(
        Family::Registry,
        &registry::namespace(""),
        Some(&registry::namespace_end()),
        &mut |key, value| {
            match (registry::name_of(key), codec::decode::<registry::Namespace>(value)) {
                (Some(name), Ok(registry::Namespace { id, policy })) => found.push(Namespace {
                    id,
                    name: name.to_owned(),
                    policy,
                }),
                (None, _) => damage = Some(Error("family registry: a namespace's name is not UTF-8".to_owned())),
                (_, Err(undecodable)) => damage = Some(Error::from(undecodable)),
            }
            damage.is_none()
        },
    )?;
    damage.map_or(Ok(found), Err)
}

/// The members of the cluster as they should be, by name; none when nobody was ever invited.
///
/// # Errors
/// When the store fails or holds what it should not.
pub fn members(view: &dyn View) -> Result<Vec<Member>, Error> {
    let roster: Option<registry::Roster> = view.record(Family::Registry, &registry::roster())?;
    Ok(roster.unwrap_or_default().members)
}

fn account(view: &dyn View, node: &NodeId) -> Result<Option<Account>, Error> {
    view.record(Family::Ledger, &ledger::account(node.as_str()))
}
