//! A member alone: started, ended in any way, started again.

use std::{sync::Arc, time::Duration};

use engine::{
    CommitError, Engine,
    keyspace::raft_state::{self, Applied, Purged, Snapshot, Voter},
    ledger::{self, Command, NodeId, Outcome, PoolConcept},
    store::Family,
};
use serde_json::json;

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

async fn contribute(sequencer: &Sequencer, number: u64) -> Result<Outcome, CommitError> {
    let concept = json!({ "name": format!("concept {number}") });
    let command = Command::Contribute {
        node: NodeId::new(format!("member {}", number % 50)).unwrap(),
        concepts: vec![PoolConcept::new(concept, &engine::json::Anonymiser::default()).unwrap()],
    };
    sequencer.propose(command, None).await.map(|decision| decision.outcome)
}

fn concepts(engine: &Engine) -> u64 {
    ledger::pool_stats(engine.view()).unwrap().concepts
}

fn applied(engine: &Engine) -> u64 {
    let applied: Applied = raft_state::read(engine.view()).unwrap().unwrap();
    applied.last.unwrap().index
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_decided_outlives_a_power_cut_and_is_applied_once() {
    let mut machine = Machine::new();
    let mut told = 0;
    for seed in 0..12 {
        let engine = machine.open();
        let sequencer = start(&engine);
        let there = concepts(&engine);
        assert!(there >= told, "seed {seed}: {told} told, {there} there");
        let calls: Vec<_> = (there..there + 40)
            .map(|number| {
                let sequencer = sequencer.clone();
                tokio::spawn(async move { contribute(&sequencer, number).await })
            })
            .collect();
        if seed % 3 == 0 {
            tokio::time::sleep(Duration::from_millis(seed)).await;
        } else {
            for call in calls {
                assert!(matches!(call.await.unwrap(), Ok(Outcome::Contributed { new: 1, .. })));
            }
            told = there + 40;
        }
        let after = machine.power_cut(seed);
        let closing = sequencer.clone();
        tokio::task::spawn_blocking(move || closing.close()).await.unwrap();
        drop((sequencer, engine));
        machine = after;
    }
    let engine = machine.open();
    let sequencer = start(&engine);
    let there = concepts(&engine);
    assert!(there >= told);
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
    let since = Stopwatch::start();
    while raft_state::read::<Purged>(engine.view()).unwrap().is_none() {
        assert!(
            since.elapsed() < Duration::from_secs(5),
            "the first entries are still there"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
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
async fn it_is_ready_soon_after_each_start() {
    let machine = Machine::new();
    let mut took = Vec::new();
    for _ in 0..3 {
        let engine = machine.open();
        let since = Stopwatch::start();
        let sequencer = start(&engine);
        took.push(since.elapsed());
        assert!(contribute(&sequencer, 1).await.is_ok());
        sequencer.close();
        engine.close().unwrap();
    }
    assert!(took.iter().all(|took| *took < Duration::from_millis(120)), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_core_is_told_within_a_second() {
    let machine = Machine::new();
    let engine = machine.open();
    let sequencer = start(&engine);
    assert!(contribute(&sequencer, 1).await.is_ok());
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
    let lasts = Duration::from_secs(if long { 600 } else { 10 });
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
                    let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
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
    let done = next.load(std::sync::atomic::Ordering::Relaxed);
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
