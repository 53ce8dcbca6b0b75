//! Raft over the engine: what openraft itself asks of a store, and what we ask of it besides.
#![allow(
    clippy::disallowed_methods,
    reason = "a test makes its own callers and waits for them"
)]

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use engine::{
    Engine, Environment,
    clock::{Clock, Timestamp},
    keyspace::NamespaceId,
    ledger::{Action, Command, Proposal, Transaction},
    store::memory::Memory,
};
use wal::storage::{Faulty, Storage};

mod ahead;
mod install;
mod life;
mod log;
mod peers;
mod suite;

/// What [`clock`] says first.
const BEGIN_US: u64 = 1_800_000_000_000_000;

/// A clock that ticks a microsecond at each look.
struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp(BEGIN_US + self.0.fetch_add(1, Ordering::Relaxed))
    }
}

pub(super) fn clock() -> Arc<dyn Clock> {
    Arc::new(Ticking(AtomicU64::new(0)))
}

/// A member that neither makes nor takes images.
pub(super) fn no_images() -> super::images::Images {
    super::images::Images::new(None, &crate::metrics::Metrics::new())
}

/// The record of one command that has `bytes` and writes nothing.
pub(super) fn heavy(bytes: usize) -> Vec<u8> {
    let of = |bytes| super::wire::proposals(&super::types::Proposals([unwritten(bytes)].into()));
    let around = of(bytes).len() - bytes;
    let record = of(bytes - around);
    assert_eq!(record.len(), bytes);
    record
}

/// A command with a text of `bytes` that nobody will read: the branch that is not taken.
pub(super) fn unwritten(bytes: usize) -> Proposal {
    let put = Action::Put {
        key: "k".to_owned(),
        json: "x".repeat(bytes),
    };
    Proposal {
        at: Timestamp(BEGIN_US),
        idempotency: None,
        command: Command::Transact(Transaction {
            namespace: NamespaceId::FIRST_USER,
            compares: Vec::new(),
            then: Vec::new(),
            otherwise: vec![put],
        }),
    }
}

/// A node whose process can be ended and whose power can be cut.
pub(super) struct Machine {
    log: Arc<Faulty>,
    store: Arc<Memory>,
    segment_bytes: u64,
}

impl Machine {
    pub(super) fn new() -> Machine {
        // Every life allocates one, and the reserve.
        Machine::with_segments(1 << 20)
    }

    pub(super) fn with_segments(segment_bytes: u64) -> Machine {
        Machine {
            segment_bytes,
            log: Arc::new(Faulty::new()),
            store: Arc::new(Memory::new()),
        }
    }

    pub(super) fn open(&self) -> Engine {
        let environment = Environment {
            node: "test".to_owned(),
            clock: clock(),
            entropy: || 7,
            log: Arc::clone(&self.log) as Arc<dyn Storage>,
            store: Arc::clone(&self.store) as Arc<dyn engine::store::Store>,
        };
        let settings = engine::Settings {
            segment_bytes: self.segment_bytes,
            free_soft_bytes: 0,
            free_hard_bytes: 0,
            log_keep_bytes: 0,
            ..engine::Settings::default()
        };
        Engine::open(settings, environment).unwrap()
    }

    /// Cuts the power under a running engine: the store goes first, for what was retired from the log was flushed before.
    pub(super) fn power_cut(&self, seed: u64) -> Machine {
        let store = Arc::new(self.store.power_cut());
        self.log.fail_syncs_after(0);
        let log = Arc::new(self.log.power_cut(seed));
        let segment_bytes = self.segment_bytes;
        Machine {
            log,
            store,
            segment_bytes,
        }
    }
}
