//! One node on storage that fails on purpose, and short words for what tests do with it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use continuum_engine::{
    Batch, CommitError, Durability, Engine, Environment, Mutation, OpenError, Receipt, Settings, Supersede,
    clock::{Clock, Timestamp},
    crdt::{Content, Kind, Operation, State},
    keyspace::{NamespaceId, meta},
    store::{Store, memory::Memory},
};
use wal::{Lsn, storage::Faulty};

pub(crate) const SPACE: NamespaceId = NamespaceId::FIRST_USER;

/// A clock that the test moves.
pub(crate) struct Hand(pub(crate) AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

pub(crate) fn hand() -> Arc<Hand> {
    Arc::new(Hand(AtomicU64::new(1_000_000_000)))
}

pub(crate) fn entropy() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// One node whose process can be ended and whose power can be cut.
pub(crate) struct Node {
    pub(crate) name: &'static str,
    pub(crate) clock: Arc<Hand>,
    pub(crate) log: Faulty,
    pub(crate) store: Arc<Memory>,
    pub(crate) settings: Settings,
}

impl Node {
    pub(crate) fn new(name: &'static str) -> Node {
        let settings = Settings {
            segment_bytes: 64 << 10,
            flush_log_bytes: 16 << 10,
            free_soft_bytes: 0,
            free_hard_bytes: 0,
            log_keep_bytes: 0,
            ..Settings::default()
        };
        Node {
            name,
            clock: hand(),
            log: Faulty::new(),
            store: Arc::new(Memory::new()),
            settings,
        }
    }

    pub(crate) fn environment(&self) -> Environment {
        Environment {
            node: self.name.to_owned(),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            entropy,
            log: Arc::new(self.log.clone()),
            store: Arc::clone(&self.store) as Arc<dyn Store>,
        }
    }

    pub(crate) fn try_open(&self) -> Result<Engine, OpenError> {
        Engine::open(self.settings.clone(), self.environment())
    }

    pub(crate) fn open(&self) -> Engine {
        self.try_open().unwrap()
    }

    /// Cuts the power under a running engine. The store goes first: what was retired from the log was flushed before.
    pub(crate) fn power_cut(&self, seed: u64) -> Node {
        let store = Arc::new(self.store.power_cut());
        // No sync succeeds between the copy of what survives and the moment the old directory is dead.
        self.log.fail_syncs_after(0);
        let log = self.log.power_cut(seed);
        Node {
            name: self.name,
            clock: Arc::clone(&self.clock),
            log,
            store,
            settings: self.settings.clone(),
        }
    }

    pub(crate) fn applied(&self) -> Lsn {
        meta::applied(&*self.store).unwrap()
    }
}

pub(crate) fn local(key: &str, operation: Operation) -> Mutation {
    Mutation::Local {
        namespace: SPACE,
        key: key.into(),
        operation,
        supersede: Supersede::All,
    }
}

pub(crate) fn register(json: &str) -> Operation {
    Operation::Put {
        kind: Kind::Register,
        json: json.to_owned(),
        expires: None,
    }
}

pub(crate) fn put(key: &str, json: &str) -> Batch {
    Batch::one(local(key, register(json)))
}

pub(crate) fn add(key: &str, delta: i64) -> Batch {
    Batch::one(local(key, Operation::Add { delta }))
}

pub(crate) fn delete(key: &str) -> Batch {
    Batch::one(local(key, Operation::Delete))
}

pub(crate) fn join(key: &str, state: &State) -> Batch {
    Batch::one(Mutation::Join {
        namespace: SPACE,
        key: key.into(),
        state: state.clone(),
    })
}

/// The registers in a state.
pub(crate) fn values(state: &State) -> Vec<&str> {
    fn text(content: &Content) -> &str {
        match content {
            Content::Register(json) => json,
            other => panic!("{other:?}"),
        }
    }
    state.entries.values().map(|entry| text(&entry.content)).collect()
}

pub(crate) fn read(engine: &Engine, key: &str) -> Vec<String> {
    let state = engine.concept(SPACE, key.as_bytes()).unwrap().unwrap_or_default();
    values(&state).into_iter().map(str::to_owned).collect()
}

pub(crate) fn sum(engine: &Engine, key: &str) -> i128 {
    let state = engine.concept(SPACE, key.as_bytes()).unwrap().unwrap_or_default();
    let share = |content: &Content| match content {
        Content::Sums { increments, decrements } => i128::from(*increments) - i128::from(*decrements),
        other => panic!("{other:?}"),
    };
    state.entries.values().map(|entry| share(&entry.content)).sum()
}

/// Writes one batch, patiently: the small flushes of a test node may fall behind on a busy machine.
pub(crate) fn write(engine: &Engine, batch: Batch) -> Receipt {
    loop {
        match engine.commit(batch.clone(), Durability::Synced).wait() {
            Err(CommitError::Busy) => std::thread::yield_now(),
            outcome => return outcome.unwrap(),
        }
    }
}

/// Waits until what is both synced and applied has reached `lsn`.
pub(crate) fn wait_committed(engine: &Engine, lsn: Lsn) {
    let mut committed = engine.committed();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let reached = committed.wait_for(|reached| *reached >= lsn);
        tokio::time::timeout(std::time::Duration::from_secs(5), reached)
            .await
            .expect("in time")
            .unwrap();
    });
}
