//! Requests that may come again: those under way, by idempotency key; knowledge paid for but not delivered; and how often
//! answered knowledge requests are repeated.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use engine::{
    clock::Timestamp,
    ledger::{Idempotency, NodeId},
};
use parking_lot::Mutex;

use super::Error;

/// Members with a knowledge request to their credit; beyond this the further ones lose theirs.
const CREDITS_MAX: usize = 10_000;

/// Requests under way that carry an idempotency key.
#[derive(Default)]
pub(super) struct InFlight(Arc<Mutex<HashSet<(String, String)>>>);

/// A place among them, given back on drop.
pub(super) struct Entered {
    keys: Arc<Mutex<HashSet<(String, String)>>>,
    key: (String, String),
}

impl InFlight {
    /// Enters a request; one without a key needs no place.
    pub(super) fn enter(&self, idempotency: Option<&Idempotency>) -> Result<Option<Entered>, Error> {
        let Some(idempotency) = idempotency else {
            return Ok(None);
        };
        let key = (idempotency.caller.clone(), idempotency.key.clone());
        if !self.0.lock().insert(key.clone()) {
            return Err(Error::InFlight);
        }
        Ok(Some(Entered {
            keys: Arc::clone(&self.0),
            key,
        }))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.keys.lock().remove(&self.key);
    }
}

/// Knowledge requests that were charged and not answered, in memory: a restart forgets them.
#[derive(Default)]
pub(super) struct Paid(Arc<Mutex<HashMap<NodeId, Vec<u64>>>>);

/// A charge that becomes a credit unless it is spent.
pub(super) struct Credit {
    credits: Arc<Mutex<HashMap<NodeId, Vec<u64>>>>,
    node: Option<NodeId>,
    pool_counter: u64,
}

impl Paid {
    /// Whether the member has a request to its credit.
    pub(super) fn has(&self, node: &NodeId) -> bool {
        self.0.lock().contains_key(node)
    }

    /// Uses one of the member's credits: the pool counter it was charged at.
    pub(super) fn take(&self, node: &NodeId) -> Option<u64> {
        let mut credits = self.0.lock();
        let counters = credits.get_mut(node)?;
        let counter = counters.pop();
        if counters.is_empty() {
            credits.remove(node);
        }
        counter
    }

    /// Holds a charge made just now.
    pub(super) fn hold(&self, node: NodeId, pool_counter: u64) -> Credit {
        Credit {
            credits: Arc::clone(&self.0),
            node: Some(node),
            pool_counter,
        }
    }
}

impl Credit {
    /// It was answered.
    pub(super) fn spend(mut self) {
        self.node = None;
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        let Some(node) = self.node.take() else { return };
        let mut credits = self.credits.lock();
        if credits.len() < CREDITS_MAX || credits.contains_key(&node) {
            // A member never has more than its hourly limit here: each was charged.
            credits.entry(node).or_default().push(self.pool_counter);
        }
    }
}

const HOUR_US: u64 = 3_600_000_000;

/// Repeated knowledge requests of each member in the current hour, in memory: a restart forgets them. The ledger keeps a
/// bounded number of keys, so there are never more members here than keys.
#[derive(Default)]
pub(super) struct Repeats(Mutex<Hour>);

#[derive(Default)]
struct Hour {
    since: Timestamp,
    members: HashMap<NodeId, u32>,
}

impl Repeats {
    /// Counts one more repeat of `node` at `now`; when it has had `limit` of them, the time at which the next may come.
    pub(super) fn admit(&self, node: &NodeId, limit: u32, now: Timestamp) -> Result<(), Timestamp> {
        let mut hour = self.0.lock();
        // A clock set back begins an hour as well: nobody waits for it to come round again.
        if now < hour.since || now.0 - hour.since.0 >= HOUR_US {
            *hour = Hour {
                since: now,
                members: HashMap::new(),
            };
        }
        let next = Timestamp(hour.since.0 + HOUR_US);
        let count = hour.members.entry(node.clone()).or_default();
        if *count >= limit {
            return Err(next);
        }
        *count += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_counted_by_member_and_hour() {
        let (repeats, a, b) = (Repeats::default(), NodeId::new("a").unwrap(), NodeId::new("b").unwrap());
        let start = Timestamp(5 * HOUR_US);
        assert_eq!(repeats.admit(&a, 2, start), Ok(()));
        assert_eq!(repeats.admit(&a, 2, Timestamp(start.0 + 1)), Ok(()));
        let next = Timestamp(start.0 + HOUR_US);
        assert_eq!(repeats.admit(&a, 2, Timestamp(next.0 - 1)), Err(next));
        assert_eq!(repeats.admit(&b, 2, Timestamp(next.0 - 1)), Ok(()));
        assert_eq!(repeats.admit(&a, 2, next), Ok(()));
        assert_eq!(repeats.admit(&a, 1, Timestamp(1)), Ok(()), "the clock was set back");
    }

    fn key(caller: &str, key: &str) -> Idempotency {
        Idempotency {
            caller: caller.to_owned(),
            key: key.to_owned(),
            body: [0; 32],
        }
    }

    #[test]
    fn a_key_is_in_flight_until_its_request_ends() {
        let in_flight = InFlight::default();
        let entered = in_flight.enter(Some(&key("a", "1"))).unwrap();
        assert!(matches!(in_flight.enter(Some(&key("a", "1"))), Err(Error::InFlight)));
        assert!(
            in_flight.enter(Some(&key("b", "1"))).is_ok(),
            "another caller's key is another key"
        );
        assert!(in_flight.enter(None).is_ok() && in_flight.enter(None).is_ok());
        drop(entered);
        assert!(in_flight.enter(Some(&key("a", "1"))).is_ok());
    }

    #[test]
    fn what_was_charged_and_not_answered_can_be_used_once() {
        let (paid, node) = (Paid::default(), NodeId::new("a").unwrap());
        paid.hold(node.clone(), 7).spend();
        assert!(!paid.has(&node));
        drop(paid.hold(node.clone(), 8));
        drop(paid.hold(node.clone(), 9));
        assert!(paid.has(&node));
        let mut taken = [paid.take(&node), paid.take(&node)];
        taken.sort_unstable();
        assert_eq!(taken, [Some(8), Some(9)]);
        assert!(!paid.has(&node) && paid.take(&node).is_none());
    }
}
