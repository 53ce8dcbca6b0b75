//! The log: what it says is synced outlives a power cut, and purging takes away exactly what it should.

use engine::{
    keyspace::{raft_log, raft_state},
    store::{Family, Store as _},
};
use openraft::{
    EntryPayload, RaftLogReader as _,
    alias::LogIdOf,
    storage::{IOFlushed, RaftLogStorage as _, RaftLogStorageExt as _},
    type_config::TypeConfigExt as _,
};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

use super::{
    super::{
        log::Log,
        types::{Entry, LogId, Types, Vote, log_id},
    },
    Machine,
};
use crate::metrics::Metrics;

fn at(term: u64, index: u64) -> LogIdOf<Types> {
    log_id(raft_state::LogId { term, leader: 1, index })
}

fn blank(term: u64, index: u64) -> Entry {
    Entry {
        log_id: at(term, index),
        payload: EntryPayload::Blank,
    }
}

async fn ids(log: &mut Log) -> Vec<LogId> {
    let entries = log.try_get_log_entries(..).await.unwrap();
    entries.iter().map(|entry| entry.log_id).collect()
}

fn rows(engine: &engine::Engine) -> Vec<u64> {
    let mut rows = Vec::new();
    let mut visit = |key: &[u8], _: &[u8]| {
        rows.extend(raft_log::index(key));
        true
    };
    engine.view().scan(Family::RaftLog, &[], None, &mut visit).unwrap();
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_takes_away_what_it_says_and_no_more() {
    let machine = Machine::new();
    let engine = machine.open();
    let mut log = Log::open(engine.clone(), &Metrics::new()).unwrap();
    for index in 0..20 {
        log.blocking_append([blank(1, index)]).await.unwrap();
    }
    for upto in [0, 4, 4, 3, 11] {
        log.purge(at(1, upto)).await.unwrap();
    }
    // The purges are frames before this one.
    log.save_vote(&Vote::new(2, 1)).await.unwrap();
    assert_eq!(
        ids(&mut log).await,
        (12..20).map(|index| at(1, index)).collect::<Vec<_>>()
    );
    assert_eq!(rows(&engine), (12..20).collect::<Vec<_>>());
    let state = log.get_log_state().await.unwrap();
    assert_eq!(
        (state.last_purged_log_id, state.last_log_id),
        (Some(at(1, 11)), Some(at(1, 19)))
    );
    // Beyond its end, as behind an installed snapshot: what follows goes on from there.
    log.purge(at(2, 30)).await.unwrap();
    assert_eq!(ids(&mut log).await, []);
    log.blocking_append([blank(3, 31)]).await.unwrap();
    assert_eq!(rows(&engine), [31]);
    let mut again = Log::open(engine, &Metrics::new()).unwrap();
    let state = again.get_log_state().await.unwrap();
    assert_eq!(
        (state.last_purged_log_id, state.last_log_id),
        (Some(at(2, 30)), Some(at(3, 31)))
    );
    assert_eq!(again.read_vote().await.unwrap(), Some(Vote::new(2, 1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_replaces_a_suffix_is_what_is_found() {
    let machine = Machine::new();
    let engine = machine.open();
    let mut log = Log::open(engine.clone(), &Metrics::new()).unwrap();
    log.append((0..10).map(|index| blank(1, index)), IOFlushed::noop())
        .await
        .unwrap();
    log.truncate_after(Some(at(1, 3))).await.unwrap();
    assert_eq!(
        ids(&mut log).await,
        (0..4).map(|index| at(1, index)).collect::<Vec<_>>()
    );
    log.blocking_append([blank(2, 4)]).await.unwrap();
    let expected: Vec<_> = (0..4).map(|index| at(1, index)).chain([at(2, 4)]).collect();
    assert_eq!(ids(&mut log).await, expected);
    let mut again = Log::open(engine, &Metrics::new()).unwrap();
    assert_eq!(ids(&mut again).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_is_gone_is_damage_and_one_that_was_purged_is_not() {
    for missing in [3, 4, 6, 7, 11, 18] {
        let machine = Machine::new();
        let engine = machine.open();
        let mut log = Log::open(engine.clone(), &Metrics::new()).unwrap();
        log.blocking_append((0..20).map(|index| blank(1, index))).await.unwrap();
        log.purge(at(1, 2)).await.unwrap();
        // The purge is a frame before this one.
        log.save_vote(&Vote::new(2, 1)).await.unwrap();
        let mut again = Log::open(engine.clone(), &Metrics::new()).unwrap();
        let entries = again.try_get_log_entries(0..5).await.unwrap();
        assert_eq!(
            entries.iter().map(|entry| entry.log_id).collect::<Vec<_>>(),
            [at(1, 3), at(1, 4)]
        );
        machine.store.write(&[raft_log::delete(missing).as_change()]).unwrap();
        let expected = format!("entry {missing} of raft's log is missing");
        // Wherever in what is read it should be.
        for range in [3..20, missing..20, missing..missing + 1, 3..missing + 1] {
            let error = again.try_get_log_entries(range.clone()).await.unwrap_err().to_string();
            assert!(error.contains(&expected), "{range:?}: {error}");
        }
        // Unless the search for the end passed it over, the next start sees it.
        if let Err(error) = Log::open(engine, &Metrics::new()).map(drop) {
            assert!(error.to_string().contains(&expected), "{error}");
        } else {
            assert!([6, 18].contains(&missing));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_begins_where_it_was_asked_for_or_not_at_all() {
    let machine = Machine::new();
    let engine = machine.open();
    let mut log = Log::open(engine.clone(), &Metrics::new()).unwrap();
    log.blocking_append((0..20).map(|index| blank(1, index))).await.unwrap();
    log.purge(at(1, 9)).await.unwrap();
    // The purge is a frame before this one.
    log.save_vote(&Vote::new(2, 1)).await.unwrap();
    // In memory, and read from the store.
    for mut log in [log, Log::open(engine, &Metrics::new()).unwrap()] {
        for start in [0, 8, 9, 20, 21] {
            let sent = log.limited_get_log_entries(start, start + 3).await.unwrap();
            assert!(sent.is_empty(), "from {start}: {sent:?}");
        }
        for start in [10, 11, 18] {
            let sent = log.limited_get_log_entries(start, start + 2).await.unwrap();
            let ids: Vec<_> = sent.iter().map(|entry| entry.log_id).collect();
            assert_eq!(ids, [at(1, start), at(1, start + 1)]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_appended_is_counted() {
    let engine = Machine::new().open();
    let metrics = Metrics::new();
    let mut log = Log::open(engine.clone(), &metrics).unwrap();
    log.blocking_append((0..20).map(|index| blank(1, index))).await.unwrap();
    let mut bytes = 0;
    let mut visit = |key: &[u8], value: &[u8]| {
        bytes += key.len() + value.len();
        true
    };
    engine.view().scan(Family::RaftLog, &[], None, &mut visit).unwrap();
    let text = metrics.render();
    assert!(
        text.contains(&format!("continuum_raft_appended_bytes_total {bytes}\n")),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_that_is_cut_between_its_frames_leaves_a_log_without_remains() {
    let mut cut = 0;
    for syncs in 0..6 {
        let machine = Machine::new();
        let engine = machine.open();
        let mut log = Log::open(engine.clone(), &Metrics::new()).unwrap();
        log.blocking_append((0..60_000).map(|index| blank(1, index)))
            .await
            .unwrap();
        machine.log.fail_syncs_after(syncs);
        log.purge(at(1, 55_000)).await.unwrap();
        let told = log.save_vote(&Vote::new(2, 1)).await.is_ok();
        let after = machine.power_cut(syncs);
        drop((log, engine));
        let engine = after.open();
        let mut log = Log::open(engine.clone(), &Metrics::new()).unwrap();
        let purged = log
            .get_log_state()
            .await
            .unwrap()
            .last_purged_log_id
            .map(|last| last.index);
        assert!(!told || purged == Some(55_000));
        let first = purged.map_or(0, |last| last + 1);
        assert_eq!(
            rows(&engine),
            (first..60_000).collect::<Vec<_>>(),
            "after {syncs} syncs"
        );
        cut += u64::from((1..55_001).contains(&first) && purged != Some(55_000));
        // The next purge goes on from there.
        log.purge(at(1, 55_001)).await.unwrap();
        log.save_vote(&Vote::new(3, 1)).await.unwrap();
        assert!(rows(&engine).into_iter().eq(55_002..60_000));
    }
    assert!(cut > 0, "none was cut in its midst");
}

/// Appends, truncates and purges at random, cuts the power, and compares with what was told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_told_to_be_synced_outlives_a_power_cut() {
    for seed in 0..100 {
        let mut machine = Machine::new();
        let mut dice = SmallRng::seed_from_u64(seed);
        let mut expected: Vec<LogId> = Vec::new();
        let mut first = 0;
        for life in 1..4 {
            let engine = machine.open();
            let mut log = Log::open(engine.clone(), &Metrics::new()).unwrap();
            assert_eq!(ids(&mut log).await, expected, "seed {seed}, life {life}");
            let (mut told, mut offered) = (expected.clone(), expected.clone());
            for _ in 0..dice.random_range(1..20) {
                let next = first + offered.len() as u64;
                let (sender, synced) = Types::oneshot();
                let new: Vec<_> = (next..next + dice.random_range(1..4))
                    .map(|index| blank(life, index))
                    .collect();
                offered.extend(new.iter().map(|entry| entry.log_id));
                log.append(new, IOFlushed::signal(sender)).await.unwrap();
                assert_eq!(ids(&mut log).await, offered, "readable at once");
                if dice.random_bool(0.4) {
                    synced.await.unwrap().unwrap();
                    told = offered.clone();
                    if told.len() > 2 && dice.random_bool(0.3) {
                        offered.truncate(told.len() - 1);
                        told = offered.clone();
                        log.truncate_after(told.last().copied()).await.unwrap();
                    }
                    if told.len() > 6 && dice.random_bool(0.5) {
                        log.purge(told[2]).await.unwrap();
                        (told, offered) = (told[3..].to_vec(), offered[3..].to_vec());
                        first += 3;
                        log.save_vote(&Vote::new(life, seed)).await.unwrap();
                    }
                }
            }
            let after = machine.power_cut(seed * 7 + life);
            drop((log, engine));
            machine = after;
            let engine = machine.open();
            let mut log = Log::open(engine, &Metrics::new()).unwrap();
            let found = ids(&mut log).await;
            assert!(found.starts_with(&told), "seed {seed}: told {told:?}, found {found:?}");
            assert!(
                offered.starts_with(&found),
                "seed {seed}: offered {offered:?}, found {found:?}"
            );
            expected = found;
            let after = machine.power_cut(seed);
            machine = after;
        }
    }
}
