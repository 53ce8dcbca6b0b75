//! Requests that may come again: those under way, by idempotency key, and knowledge paid for but not delivered.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use engine::ledger::{Idempotency, NodeId};
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

#[cfg(test)]
mod tests {
    use super::*;

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
