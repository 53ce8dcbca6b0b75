//! Who still needs the log's past.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use crate::Lsn;

/// Every registered consumer and the LSN it has reached.
#[derive(Default)]
pub(crate) struct Consumers {
    claims: Mutex<BTreeMap<u64, (String, Lsn)>>,
    next: AtomicU64,
}

impl Consumers {
    pub(crate) fn register(self: &Arc<Self>, name: &str, after: Lsn) -> Consumer {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.claims.lock().insert(id, (name.to_owned(), after));
        Consumer {
            consumers: Arc::clone(self),
            id,
        }
    }

    /// What every consumer has reached; `None` when there is none.
    pub(crate) fn lowest(&self) -> Option<Lsn> {
        self.claims.lock().values().map(|&(_, reached)| reached).min()
    }

    /// Names and LSNs, in the order of registration.
    pub(crate) fn list(&self) -> Vec<(String, Lsn)> {
        self.claims.lock().values().cloned().collect()
    }
}

/// A claim on the log's past: what lies above it is kept. Dropping it gives up the claim.
pub struct Consumer {
    consumers: Arc<Consumers>,
    id: u64,
}

impl Consumer {
    /// Everything up to `lsn` is no longer needed. A claim never goes back.
    pub fn advance(&self, lsn: Lsn) {
        if let Some((_, reached)) = self.consumers.claims.lock().get_mut(&self.id) {
            *reached = lsn.max(*reached);
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.consumers.claims.lock().remove(&self.id);
    }
}
