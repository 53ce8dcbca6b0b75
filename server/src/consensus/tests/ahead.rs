//! What is applied before this node's own append is synced: a majority without it may have committed the entry.

use engine::{
    Batch, Durability, Engine, Mutation,
    keyspace::{
        raft_log,
        raft_state::{self, Applied, Purged, Snapshot},
    },
    ledger::{self, Command, NodeId, Proposal},
};
use openraft::{
    EntryPayload, RaftLogReader as _, StorageHelper,
    storage::{IOFlushed, RaftLogStorage as _, RaftLogStorageExt as _, RaftStateMachine as _},
};

use super::{
    super::{
        log::Log,
        machine,
        types::{Entry, LogId, Proposals, log_id, stored_entry},
    },
    Machine, no_images,
};
use crate::metrics::Metrics;

fn at(term: u64, index: u64) -> LogId {
    log_id(raft_state::LogId { term, leader: 1, index })
}

/// Registers the member of that number.
fn registers(term: u64, index: u64) -> Entry {
    let proposal = Proposal {
        at: engine::clock::Timestamp(index),
        idempotency: None,
        command: Command::Register {
            node: NodeId::new(format!("member {index}")).unwrap(),
            verified: false,
        },
    };
    Entry {
        log_id: at(term, index),
        payload: EntryPayload::Normal(Proposals(vec![proposal].into())),
    }
}

fn open(engine: &Engine) -> (Log, machine::Machine) {
    let metrics = Metrics::new();
    let log = Log::open(engine.clone(), &metrics).unwrap();
    (
        log,
        machine::Machine::open(engine.clone(), no_images(), &metrics).unwrap(),
    )
}

/// What openraft does at its start; where the log ends then.
async fn begin(log: &mut Log, machine: &mut machine::Machine) -> Option<LogId> {
    let mut start = StorageHelper::new(log, machine).with_id(1);
    start.get_initial_state().await.unwrap();
    log.get_log_state().await.unwrap().last_log_id
}

fn registered(engine: &Engine, index: u64) -> bool {
    let node = NodeId::new(format!("member {index}")).unwrap();
    ledger::standing(engine.view(), &node).unwrap().registered_at.is_some()
}

fn rows(engine: &Engine) -> usize {
    raft_log::entries(engine.view(), 0, u64::MAX).unwrap().len()
}

/// Whatever the log ends with, whatever lies before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_ends_before_what_is_applied_begins_behind_it() {
    for (purged, last) in [(None, None), (None, Some(7)), (Some(3), Some(7)), (Some(3), None)] {
        let machine = Machine::new();
        let engine = machine.open();
        let mut writes = vec![
            raft_state::put(&Applied {
                last: Some(raft_state::LogId {
                    term: 3,
                    leader: 1,
                    index: 10,
                }),
                ..Applied::default()
            }),
            raft_state::put(&Snapshot(Applied {
                last: purged.map(|index| raft_state::LogId {
                    term: 1,
                    leader: 1,
                    index,
                }),
                ..Applied::default()
            })),
        ];
        let first = purged.map_or(0, |index| index + 1);
        if let Some(index) = purged {
            let id = raft_state::LogId {
                term: 1,
                leader: 1,
                index,
            };
            writes.push(raft_state::put(&Purged(id)));
        }
        // Of an older term: none of it may be taken for what was committed.
        let rest = first..last.map_or(first, |last| last + 1);
        writes.extend(rest.map(|index| raft_log::put(index, &stored_entry(&registers(2, index)))));
        let frame = Batch::one(Mutation::Raft(writes));
        engine.commit(frame, Durability::Synced).await.unwrap();
        let case = format!("purged up to {purged:?}, last {last:?}");

        let (mut log, mut member) = open(&engine);
        assert_eq!(begin(&mut log, &mut member).await, Some(at(3, 10)), "{case}");
        let state = log.get_log_state().await.unwrap();
        assert_eq!(state.last_purged_log_id, Some(at(3, 10)), "{case}");
        assert_eq!(rows(&engine), 0, "{case}");
        let snapshot = member.get_current_snapshot().await.unwrap().unwrap();
        assert_eq!(
            snapshot.meta.last_log_id,
            Some(at(3, 10)),
            "{case}: it reaches to where the log begins"
        );
        // It goes on behind, before a power cut and after it.
        log.blocking_append([registers(3, 11)]).await.unwrap();
        let after = machine.power_cut(1);
        drop((log, member, engine));
        let engine = after.open();
        let (mut log, mut member) = open(&engine);
        assert_eq!(begin(&mut log, &mut member).await, Some(at(3, 11)), "{case}");
        let found = log.try_get_log_entries(..).await.unwrap();
        assert_eq!(
            found.iter().map(|entry| entry.log_id).collect::<Vec<_>>(),
            [at(3, 11)],
            "{case}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_applied_before_it_is_synced_outlives_a_power_cut_or_comes_again() {
    let mut ahead = 0;
    for seed in 0..200 {
        let machine = Machine::new();
        let engine = machine.open();
        let (mut log, mut member) = open(&engine);
        log.blocking_append((0..5).map(|index| registers(1, index)))
            .await
            .unwrap();
        // From here on no append is told to be synced, and the others have committed all of it.
        machine.log.fail_syncs_after(seed % 3);
        let mut given = 0;
        for index in 5..20 {
            // What asks for no sync may go before what does, however they were given.
            let passed = seed % 2 == 0;
            if !passed {
                log.append([registers(1, index)], IOFlushed::noop()).await.unwrap();
            }
            let first = if index == 5 { 0 } else { index };
            let entries: Vec<_> = (first..=index).map(|index| Ok((registers(1, index), None))).collect();
            if member.apply(tokio_stream::iter(entries)).await.is_err() {
                break;
            }
            given = index;
            if passed {
                log.append([registers(1, index)], IOFlushed::noop()).await.unwrap();
            }
        }
        let after = machine.power_cut(seed);
        drop((log, member, engine));
        let engine = after.open();
        let applied: Applied = raft_state::read(engine.view()).unwrap().unwrap_or_default();
        let applied = applied.last.map(|last| last.index);
        let (mut log, mut member) = open(&engine);
        let before = log.get_log_state().await.unwrap().last_log_id.map(|last| last.index);
        assert!(before >= Some(4), "seed {seed}: these were told to be synced");
        ahead += u64::from(applied > before);
        let last = begin(&mut log, &mut member).await.unwrap();
        assert_eq!(Some(last.index), applied.max(before), "seed {seed}, {given} applied");
        for index in 0..20 {
            assert_eq!(
                registered(&engine, index),
                applied >= Some(index),
                "seed {seed}, member {index}"
            );
        }
        // The leader sends what follows.
        let next = last.index + 1;
        log.blocking_append([registers(1, next)]).await.unwrap();
        let after = after.power_cut(seed);
        drop((log, member, engine));
        let engine = after.open();
        let (mut log, mut member) = open(&engine);
        assert_eq!(begin(&mut log, &mut member).await, Some(at(1, next)), "seed {seed}");
    }
    eprintln!("{ahead} of 200 power cuts left the machine ahead of its log");
    assert!(ahead > 0);
}
