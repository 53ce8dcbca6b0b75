//! A member alone: started, ended in any way, started again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use engine::{
    CommitError, Engine, Environment,
    keyspace::raft_state::{self, Applied, Purged, Snapshot, Voter},
    ledger::{self, Command, NodeId, Outcome, PoolConcept},
    store::{Change, Error, Family, Store, View, memory::Memory},
};
use serde_json::json;
use wal::storage::Faulty;

use super::{
    super::{RaftSettings, Sequencer, Settings},
    Machine, clock,
};
use crate::{metrics::Metrics, runtime::time::Stopwatch};

fn start_with(engine: &Engine, settings: Settings) -> (Sequencer, Metrics) {
    let metrics = Metrics::new();
    let sequencer = Sequencer::start(engine.clone(), clock(), settings, &metrics).unwrap();
    (sequencer, metrics)
}

fn start(engine: &Engine) -> Sequencer {
    start_with(engine, Settings::default()).0
}

fn concept(number: u64) -> PoolConcept {
    let concept = json!({ "name": format!("concept {number}") });
    PoolConcept::new(concept, &engine::json::Anonymiser::default()).unwrap()
}

async fn contribute(sequencer: &Sequencer, number: u64) -> Result<Outcome, CommitError> {
    let command = Command::Contribute {
        node: NodeId::new(format!("member {}", number % 50)).unwrap(),
        concepts: vec![concept(number)],
    };
    sequencer.propose(command, None).await.map(|decision| decision.outcome)
}

fn concepts(engine: &Engine) -> u64 {
    ledger::pool_stats(engine.view()).unwrap().concepts
}

/// Waits for what a first start does beside everything else.
async fn first_entries_gone(engine: &Engine) {
    let since = Stopwatch::start();
    while raft_state::read::<Purged>(engine.view()).unwrap().is_none() {
        assert!(
            since.elapsed() < Duration::from_secs(30),
            "the first entries are still there"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn applied(engine: &Engine) -> u64 {
    let applied: Applied = raft_state::read(engine.view()).unwrap().unwrap();
    applied.last.unwrap().index
}

/// The numbers of those that were acknowledged; the others' outcome is unknown.
async fn answers(calls: Vec<tokio::task::JoinHandle<(u64, Result<Outcome, CommitError>)>>) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    for call in calls {
        match call.await.unwrap() {
            (number, Ok(Outcome::Contributed { new: 1, .. })) => acknowledged.push(number),
            (_, Err(CommitError::Stopped(_) | CommitError::Busy)) => {}
            other => panic!("{other:?}"),
        }
    }
    acknowledged
}

fn assert_there(engine: &Engine, told: &[u64], seed: u64) {
    for number in told {
        let found = ledger::attribution(engine.view(), &concept(*number).hash).unwrap();
        assert!(found.is_some(), "seed {seed}: {number} was acknowledged and is gone");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_decided_outlives_a_power_cut_and_is_applied_once() {
    let mut machine = Machine::new();
    // Calls beside each other are decided in any order, so what is there is no beginning of them: every number is used once.
    let (mut next, mut told) = (0, Vec::new());
    for seed in 0..12 {
        let engine = machine.open();
        let sequencer = start(&engine);
        assert_there(&engine, &told, seed);
        let calls: Vec<_> = (next..next + 40)
            .map(|number| {
                let sequencer = sequencer.clone();
                tokio::spawn(async move { (number, contribute(&sequencer, number).await) })
            })
            .collect();
        next += 40;
        let waited = seed % 3 != 0;
        let after = if waited {
            let answered = answers(calls).await;
            assert_eq!(answered.len(), 40, "seed {seed}");
            told.extend(answered);
            machine.power_cut(seed)
        } else {
            tokio::time::sleep(Duration::from_millis(seed)).await;
            let after = machine.power_cut(seed);
            told.extend(answers(calls).await);
            after
        };
        let closing = sequencer.clone();
        tokio::task::spawn_blocking(move || closing.close()).await.unwrap();
        drop((sequencer, engine));
        machine = after;
    }
    let engine = machine.open();
    let sequencer = start(&engine);
    assert_there(&engine, &told, 12);
    let there = concepts(&engine);
    // Each credited once: the pool's counter is the number of its concepts, and so is the sum of the accounts.
    let stats = ledger::pool_stats(engine.view()).unwrap();
    assert_eq!(stats.counter, there);
    let mut credited = 0.0;
    for member in 0..50 {
        let node = NodeId::new(format!("member {member}")).unwrap();
        credited += ledger::standing(engine.view(), &node).unwrap().contributed;
    }
    assert_eq!(credited as u64, there);
    sequencer.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_from_before_raft_goes_on_and_its_log_begins_behind_a_snapshot() {
    let machine = Machine::new();
    let engine = machine.open();
    let mut overlay = ledger::Overlay::new(engine.view(), "cluster");
    let proposal = ledger::Proposal {
        at: engine::clock::Timestamp(1),
        idempotency: None,
        command: Command::Register {
            node: NodeId::new("old").unwrap(),
            verified: true,
        },
    };
    ledger::apply(&mut overlay, proposal).unwrap();
    engine
        .commit(overlay.into_batch(), engine::Durability::Synced)
        .await
        .unwrap();
    assert_eq!(raft_state::read::<Voter>(engine.view()).unwrap(), None);

    let sequencer = start(&engine);
    assert!(matches!(
        contribute(&sequencer, 1).await,
        Ok(Outcome::Contributed { new: 1, .. })
    ));
    let known = ledger::standing(engine.view(), &NodeId::new("old").unwrap()).unwrap();
    assert!(known.verified && known.registered_at.is_some());
    first_entries_gone(&engine).await;
    assert!(raft_state::read::<Snapshot>(engine.view()).unwrap().is_some());
    assert_eq!(engine.view().get(Family::RaftLog, &0_u64.to_be_bytes()).unwrap(), None);
    let voter = raft_state::read::<Voter>(engine.view()).unwrap();
    sequencer.close();
    engine.close().unwrap();
    drop((sequencer, engine));

    let engine = machine.open();
    let before = applied(&engine);
    let sequencer = start(&engine);
    assert!(applied(&engine) > before, "an entry of this life is applied");
    assert_eq!(raft_state::read::<Voter>(engine.view()).unwrap(), voter);
    assert_eq!(concepts(&engine), 1);
    sequencer.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_leads_when_it_has_started() {
    let machine = Machine::new();
    let mut before = 0;
    for life in 0..3 {
        let engine = machine.open();
        let (sequencer, metrics) = start_with(&engine, Settings::default());
        sequencer.sample();
        let leads = "continuum_raft_leader 1\n";
        assert!(metrics.render().contains(leads), "life {life}");
        // What it sent others may be lost here: the same places in the same term are never given out again.
        let term = sequencer.view().term;
        assert!(term > before, "life {life}: term {term} after {before}");
        before = term;
        assert!(contribute(&sequencer, 1).await.is_ok());
        sequencer.close();
        engine.close().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_core_is_told_within_a_second() {
    let machine = Machine::new();
    let engine = machine.open();
    let sequencer = start(&engine);
    assert!(contribute(&sequencer, 1).await.is_ok());
    // Of a purge that fails raft is not told: nothing rests on it, and who watches the engine knows.
    first_entries_gone(&engine).await;
    machine.log.fail_syncs_after(0);
    let unknown = contribute(&sequencer, 2).await;
    assert!(matches!(unknown, Err(CommitError::Stopped(_))), "{unknown:?}");
    let mut stopped = sequencer.stopped();
    let told = tokio::time::timeout(Duration::from_secs(1), stopped.wait_for(Option::is_some)).await;
    assert!(told.is_ok_and(|told| told.is_ok()));
    let after = contribute(&sequencer, 3).await;
    assert!(matches!(after, Err(CommitError::Stopped(_))), "{after:?}");
    sequencer.close();
}

/// The shape of openraft's issue 2116: snapshots and purges in the midst of a full load.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sustained_load_with_many_snapshots_is_survived() {
    let long = std::env::var_os("CONTINUUM_LONG").is_some();
    let lasts = Duration::from_secs(if long { 60 } else { 10 });
    let machine = Machine::new();
    let engine = machine.open();
    let settings = Settings {
        raft: RaftSettings {
            snapshot_entries: 300,
            keep_entries: 50,
            ..RaftSettings::default()
        },
        ..Settings::default()
    };
    let (sequencer, _metrics) = start_with(&engine, settings);
    let since = Stopwatch::start();
    let next = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let callers: Vec<_> = (0..16)
        .map(|caller: u64| {
            let (sequencer, next) = (sequencer.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                while since.elapsed() < lasts {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let command = Command::Register {
                        node: NodeId::new(format!("member {caller} {}", number % 1_000)).unwrap(),
                        verified: false,
                    };
                    sequencer.propose(command, None).await.unwrap();
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let done = next.load(Ordering::Relaxed);
    let entries = applied(&engine);
    let Purged(purged) = raft_state::read(engine.view()).unwrap().unwrap();
    eprintln!("{done} commands in {entries} entries, purged up to {}", purged.index);
    assert!(sequencer.stopped().borrow().is_none());
    assert!(
        entries > 1_000 && entries - purged.index < 2_500,
        "{entries} entries, purged up to {}",
        purged.index
    );
    sequencer.close();
    engine.close().unwrap();
}

/// A store that panics when the machine reads what it decides on.
struct Trap {
    store: Memory,
    is_set: AtomicBool,
}

impl View for Trap {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let springs = matches!(family, Family::Registry | Family::Ledger) && self.is_set.load(Ordering::SeqCst);
        assert!(!springs, "a planted panic");
        self.store.get(family, key)
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        self.store.scan(family, from, to, visit)
    }
}

impl Store for Trap {
    fn write(&self, changes: &[Change<'_>]) -> Result<(), Error> {
        self.store.write(changes)
    }

    fn flush(&self) -> Result<(), Error> {
        self.store.flush()
    }

    fn get_durable(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.store.get_durable(family, key)
    }

    fn at_one_moment(&self, read: &mut dyn FnMut(&dyn View)) {
        self.store.at_one_moment(read);
    }
}

/// openraft itself would take seconds to notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_while_deciding_is_told() {
    let store = Arc::new(Trap {
        store: Memory::new(),
        is_set: AtomicBool::new(false),
    });
    let environment = Environment {
        node: "test".to_owned(),
        clock: clock(),
        entropy: || 7,
        log: Arc::new(Faulty::new()),
        store: Arc::clone(&store) as Arc<dyn Store>,
    };
    let engine = Engine::open(engine::Settings::default(), environment).unwrap();
    let sequencer = start(&engine);
    assert!(contribute(&sequencer, 1).await.is_ok());
    store.is_set.store(true, Ordering::SeqCst);
    let mut stopped = sequencer.stopped();
    let (unknown, told) = tokio::join!(
        contribute(&sequencer, 2),
        // Copied at once: what is waited for keeps others from telling.
        tokio::time::timeout(Duration::from_secs(1), async {
            stopped.wait_for(Option::is_some).await.unwrap().clone()
        }),
    );
    assert!(matches!(unknown, Err(CommitError::Stopped(_))), "{unknown:?}");
    let reason = told.expect("it is told within a second").unwrap();
    assert!(reason.contains("deciding panicked"), "{reason}");
    let after = contribute(&sequencer, 3).await;
    assert!(matches!(after, Err(CommitError::Stopped(_))), "{after:?}");
    sequencer.close();
}
