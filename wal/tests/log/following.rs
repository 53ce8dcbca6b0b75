//! Readers on other threads.

#![allow(
    clippy::disallowed_methods,
    reason = "a test that needs threads and gives up some time"
)]

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use wal::{Error, Log, Lsn, Reader, Record, Settings, storage::Faulty};

use crate::{open, put, segment, small};

/// Waits for the next record, as a caller does that is told of each sync.
fn wait_for(reader: &mut Reader) -> wal::Entry {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        match reader.next().unwrap() {
            Some(entry) => return entry,
            None => thread::yield_now(),
        }
    }
    panic!("no record came after {}", reader.position());
}

#[test]
fn readers_follow_across_rotations_while_the_log_is_written() {
    const RECORDS: u64 = 6_000;
    let storage = Faulty::new();
    let (mut log, _) = open(&storage).unwrap();
    let readers: Vec<_> = [0, 1, 700, 5_999]
        .into_iter()
        .map(|after| {
            let handle = log.handle();
            thread::spawn(move || {
                let mut reader = handle.reader(Lsn(after)).unwrap();
                for expected in after + 1..=RECORDS {
                    let entry = wait_for(&mut reader);
                    assert_eq!((entry.lsn, entry.header), (Lsn(expected), expected as u8));
                    assert_eq!(entry.body, vec![expected as u8; (expected % 900) as usize]);
                    assert!(entry.lsn <= handle.synced(), "a record above the synced LSN was read");
                }
                assert_eq!(reader.position(), Lsn(RECORDS));
            })
        })
        .collect();
    let mut number = 0_u64;
    while number < RECORDS {
        for _ in 0..3 {
            number += 1;
            let body = vec![number as u8; (number % 900) as usize];
            log.append(&[Record {
                header: number as u8,
                body: &body,
            }])
            .unwrap();
        }
        if number.is_multiple_of(9) {
            log.sync().unwrap();
        }
    }
    log.sync().unwrap();
    for reader in readers {
        reader.join().unwrap();
    }
    assert!(storage.read(&segment(100)).len() == 16 << 10, "the test rotates often");
}

#[test]
fn nothing_above_the_synced_lsn_is_read() {
    let storage = Faulty::new();
    let (mut log, _) = open(&storage).unwrap();
    let mut reader = log.reader(Lsn::ZERO).unwrap();
    assert_eq!(reader.next().unwrap(), None);
    for round in 0..40_u8 {
        log.append(&[Record {
            header: 1,
            body: &[round; 500],
        }])
        .unwrap();
        log.append(&[Record {
            header: 2,
            body: &[round],
        }])
        .unwrap();
        // A rotation in between syncs what is before it, and only that.
        while let Some(entry) = reader.next().unwrap() {
            assert!(entry.lsn <= log.synced());
        }
        assert_eq!(reader.position(), log.synced());
        log.sync().unwrap();
        while let Some(entry) = reader.next().unwrap() {
            assert_eq!(entry.body[0], round);
        }
        assert_eq!(reader.position(), log.last());
    }
}

#[test]
fn a_reader_begins_at_any_lsn() {
    let storage = Faulty::new();
    let (mut log, _) = open(&storage).unwrap();
    for group in 0..60_u64 {
        let bodies: Vec<Vec<u8>> = (0..=group % 3).map(|record| vec![record as u8; 300]).collect();
        let records: Vec<Record<'_>> = bodies
            .iter()
            .map(|body| Record {
                header: group as u8,
                body,
            })
            .collect();
        log.append(&records).unwrap();
    }
    let last = log.sync().unwrap();
    let (log, _) = open(&storage).unwrap();
    for after in 0..=last.0 {
        let mut reader = log.reader(Lsn(after)).unwrap();
        for expected in after + 1..=last.0 {
            assert_eq!(reader.next().unwrap().unwrap().lsn, Lsn(expected));
        }
        assert_eq!(reader.next().unwrap(), None);
    }
    assert_eq!(log.reader(Lsn(last.0 + 10)).unwrap().next().unwrap(), None);
}

/// In segments of real size a reader starts from places kept in memory, made while writing or while opening.
#[test]
fn a_reader_begins_at_any_lsn_of_a_large_segment() {
    let settings = Settings {
        segment_bytes: 4 << 20,
        group_bytes_max: 1 << 20,
        ..small()
    };
    let storage = Faulty::new();
    let (mut log, _) = Log::open(Arc::new(storage.clone()), settings.clone(), b"test").unwrap();
    for number in 0..160_u8 {
        log.append(&[Record {
            header: number,
            body: &vec![number; 40_000],
        }])
        .unwrap();
    }
    let last = log.sync().unwrap();
    let check = |log: &Log| {
        for after in 0..last.0 {
            let entry = log.reader(Lsn(after)).unwrap().next().unwrap().unwrap();
            assert_eq!((entry.lsn, entry.header), (Lsn(after + 1), after as u8));
        }
    };
    check(&log);
    check(&Log::open(Arc::new(storage), settings, b"test").unwrap().0);
}

#[test]
fn a_reader_outlives_the_log() {
    let storage = Faulty::new();
    let (mut log, _) = open(&storage).unwrap();
    put(&mut log, b"one");
    let mut reader = log.reader(Lsn::ZERO).unwrap();
    drop(log);
    assert_eq!(reader.next().unwrap().unwrap().body, b"one");
    assert_eq!(reader.next().unwrap(), None);
}

#[test]
fn a_reader_that_finds_damage_says_so_again_and_again() {
    let storage = Faulty::new();
    let (mut log, _) = open(&storage).unwrap();
    put(&mut log, b"one");
    put(&mut log, b"two");
    storage.flip_bit(&segment(1), 4096 + 56 + 54, 1);
    let mut reader = log.reader(Lsn::ZERO).unwrap();
    assert_eq!(reader.next().unwrap().unwrap().body, b"one");
    for _ in 0..2 {
        let Err(Error::Damaged(damage)) = reader.next() else {
            panic!("a damaged record was read")
        };
        assert_eq!(
            (damage.file, damage.offset, damage.lost),
            (segment(1), 4096 + 56, 2..=2)
        );
    }
}

#[test]
fn a_skip_is_not_a_gap() {
    let storage = Faulty::new();
    let (mut log, _) = open(&storage).unwrap();
    log.skip_past(Lsn(5)).unwrap();
    assert_eq!((put(&mut log, b"six"), log.last()), (Lsn(6), Lsn(6)));
    log.skip_past(Lsn(6)).unwrap();
    assert_eq!(put(&mut log, b"seven"), Lsn(7));
    let mut live = log.reader(Lsn(6)).unwrap();
    log.skip_past(Lsn(100)).unwrap();
    assert_eq!((log.last(), log.synced()), (Lsn(100), Lsn(100)));
    assert_eq!(live.next().unwrap().unwrap().lsn, Lsn(7));
    assert_eq!(live.next().unwrap(), None, "nothing stands behind the skip yet");
    log.append(&[Record {
        header: 1,
        body: b"later",
    }])
    .unwrap();
    assert_eq!(live.next().unwrap(), None, "nothing behind the skip is synced yet");
    log.sync().unwrap();
    assert_eq!(live.next().unwrap().unwrap().lsn, Lsn(101));
    let check = |log: &Log| {
        for (after, expected) in [(0, 6), (5, 6), (6, 7), (7, 101), (50, 101), (100, 101)] {
            assert_eq!(
                log.reader(Lsn(after)).unwrap().next().unwrap().unwrap().lsn,
                Lsn(expected),
                "after {after}"
            );
        }
    };
    check(&log);
    let survivor = storage.power_cut(1);
    let (mut log, report) = open(&survivor).unwrap();
    assert_eq!((report.first, report.last), (Lsn(1), Lsn(101)));
    check(&log);
    // A skip with nothing behind it is remembered too.
    log.skip_past(Lsn(500)).unwrap();
    drop(log);
    let (mut log, report) = open(&survivor.power_cut(9)).unwrap();
    assert_eq!(report.last, Lsn(500));
    assert_eq!(put(&mut log, b"last"), Lsn(501));
}

#[test]
fn the_writer_does_not_wait_for_a_reader() {
    let storage = Faulty::new();
    let (mut log, _) = open(&storage).unwrap();
    put(&mut log, &[1; 1_000]);
    let mut idle = log.reader(Lsn::ZERO).unwrap();
    idle.next().unwrap();
    // On one thread: a lock held between two reads would stop it here for ever.
    for _ in 0..100 {
        put(&mut log, &[2; 1_000]);
    }
    assert_eq!(idle.next().unwrap().unwrap().lsn, Lsn(2));
}
