//! Failing syncs and writes, and a full disk.

use std::sync::Arc;

use wal::{
    Error, Log, Lsn, Record, Settings,
    storage::{Faulty, Storage as _},
};

use crate::{bodies, open, put, segment, small};

/// Syncs after every record until something fails; returns how many were acknowledged.
fn put_until_failure(log: &mut Log) -> u64 {
    for number in 0..200_u64 {
        let body = [number as u8 + 1; 300];
        if log
            .append(&[Record { header: 1, body: &body }])
            .and_then(|_| log.sync())
            .is_err()
        {
            return number;
        }
    }
    panic!("nothing failed");
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged() {
    for allowed in 0..60 {
        let storage = Faulty::new();
        let (mut log, _) = open(&storage).unwrap();
        storage.fail_syncs_after(allowed);
        let acknowledged = put_until_failure(&mut log);
        let mut reader = log.reader(Lsn(acknowledged)).unwrap();
        // A second sync would say that all is well: it is not asked.
        storage.heal();
        let syncs = storage.syncs();
        assert!(matches!(
            log.append(&[Record { header: 1, body: b"x" }]),
            Err(Error::Failed(_))
        ));
        assert!(matches!(log.append(&[]), Err(Error::Failed(_))));
        assert!(matches!(log.sync(), Err(Error::Failed(_))));
        assert!(matches!(log.skip_past(Lsn(1_000)), Err(Error::Failed(_))));
        assert!(matches!(log.retire(Lsn(1)), Err(Error::Failed(_))));
        assert_eq!(storage.syncs(), syncs);
        assert_eq!(log.synced(), Lsn(acknowledged));
        assert_eq!(reader.next().unwrap(), None, "a reader saw what was not acknowledged");
        assert!(matches!(log.close(), Err(Error::Failed(_))));
        let (log, report) = open(&storage.power_cut(allowed)).unwrap();
        assert!(
            report.last >= Lsn(acknowledged),
            "sync {allowed}: {acknowledged} were acknowledged, {report:?} are there"
        );
        assert!(report.last <= Lsn(acknowledged + 1));
        assert_eq!(bodies(&log).len() as u64, report.last.0);
    }
}

/// The kernel shows after a failed sync what never reached the disk, and a second sync succeeds. Recovery keeps the
/// record, so it has to bring it to the disk.
#[test]
fn what_recovery_keeps_after_a_failed_sync_is_durable_then() {
    for unsynced in 1..4 {
        let storage = Faulty::new();
        let (mut log, _) = open(&storage).unwrap();
        put(&mut log, b"acknowledged");
        for number in 0..unsynced {
            log.append(&[Record {
                header: 1,
                body: &[number; 700],
            }])
            .unwrap();
        }
        storage.fail_syncs_after(0);
        assert!(matches!(log.sync(), Err(Error::Failed(_))));
        drop(log);
        storage.heal();
        let (log, report) = open(&storage).unwrap();
        assert_eq!(report.last, Lsn(1 + u64::from(unsynced)));
        drop(log);
        for seed in 0..20 {
            let (_, after) = open(&storage.copy().power_cut(seed)).unwrap();
            assert_eq!(after.last, report.last, "seed {seed}");
        }
    }
}

/// The same at every sync there is, those of a rotation included: the process dies, its successor goes on with what the
/// kernel shows, and only then the power fails.
#[test]
fn what_follows_a_recovery_after_a_failed_sync_is_durable_too() {
    for allowed in 0..60 {
        let storage = Faulty::new();
        let (mut log, _) = open(&storage).unwrap();
        storage.fail_syncs_after(allowed);
        put_until_failure(&mut log);
        drop(log);
        storage.heal();
        let (mut log, _) = open(&storage).unwrap();
        let last = put(&mut log, b"after the recovery");
        for seed in 0..20 {
            let (log, report) =
                open(&storage.copy().power_cut(seed)).unwrap_or_else(|error| panic!("{allowed}: {error}"));
            assert_eq!(
                (report.last, bodies(&log).len() as u64),
                (last, last.0),
                "sync {allowed}, seed {seed}"
            );
        }
    }
}

#[test]
fn after_a_failed_write_nothing_is_acknowledged() {
    for allowed in 0..40 {
        let storage = Faulty::new();
        let (mut log, _) = open(&storage).unwrap();
        storage.fail_writes_after(allowed);
        let acknowledged = put_until_failure(&mut log);
        storage.heal();
        assert!(matches!(
            log.append(&[Record { header: 1, body: b"x" }]),
            Err(Error::Failed(_))
        ));
        assert!(matches!(log.sync(), Err(Error::Failed(_))));
        let (_, report) = open(&storage).unwrap();
        assert_eq!(report.last, Lsn(acknowledged));
    }
}

#[test]
fn a_full_disk_refuses_the_next_segment_and_nothing_else() {
    let storage = Faulty::new();
    let (mut log, _) = open(&storage).unwrap();
    storage.limit_space(Some(20 << 10));
    assert_eq!(storage.free_bytes().unwrap(), 4 << 10);
    let mut appended = Vec::new();
    let full = loop {
        let body = vec![appended.len() as u8; 1_000];
        match log.append(&[Record { header: 1, body: &body }]) {
            Ok(_) => appended.push(body),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, Error::Full(_)), "{full}");
    assert!(
        storage.read(&segment(1)).ends_with(&[0; 64]),
        "the segment is not sealed"
    );
    assert_eq!(log.sync().unwrap(), Lsn(appended.len() as u64));

    // What still fits goes on, and the rest does once there is space.
    put(&mut log, b"small");
    appended.push(b"small".to_vec());
    assert!(matches!(
        log.append(&[Record {
            header: 1,
            body: &[9; 1_000]
        }]),
        Err(Error::Full(_))
    ));
    storage.limit_space(None);
    put(&mut log, &[9; 1_000]);
    appended.push(vec![9; 1_000]);
    assert_eq!(bodies(&log), appended);
    let (log, _) = open(&storage.power_cut(3)).unwrap();
    assert_eq!(bodies(&log), appended);
}

#[test]
fn opening_on_a_full_disk_can_be_repeated() {
    let storage = Faulty::new();
    storage.limit_space(Some(100));
    assert!(matches!(open(&storage), Err(Error::Full(_))));
    storage.limit_space(None);
    let (mut log, _) = open(&storage).unwrap();
    put(&mut log, b"x");
}

#[test]
fn too_large_a_group_is_refused_and_the_log_goes_on() {
    let storage = Faulty::new();
    let (mut log, _) = open(&storage).unwrap();
    let largest = small().group_bytes_max - 48 - 5;
    assert!(matches!(
        log.append(&[Record {
            header: 1,
            body: &vec![1; largest + 1]
        }]),
        Err(Error::TooLarge { .. })
    ));
    put(&mut log, &vec![1; largest]);
    put(&mut log, b"next");
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let refused = |settings: Settings, owner: &[u8]| {
        assert!(matches!(
            Log::open(Arc::new(Faulty::new()), settings, owner),
            Err(Error::Settings(_))
        ));
    };
    refused(
        Settings {
            segment_bytes: 4096,
            ..small()
        },
        b"",
    );
    refused(
        Settings {
            segment_bytes: (16 << 10) + 1,
            ..small()
        },
        b"",
    );
    refused(
        Settings {
            group_bytes_max: 16 << 10,
            ..small()
        },
        b"",
    );
    refused(small(), &[0; wal::OWNER_BYTES_MAX + 1]);
    Settings::default().validate().unwrap();
}
