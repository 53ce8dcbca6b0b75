//! Segments go when nobody needs them any more, oldest first.

use wal::{
    Error, Log, Lsn,
    storage::{Faulty, Storage as _},
};

use crate::{open, put, segment};

fn five_segments() -> (Faulty, Log, Vec<Lsn>) {
    let storage = Faulty::new();
    let (mut log, _) = open(&storage).unwrap();
    let mut lasts = Vec::new();
    while storage.list().unwrap().len() < 5 {
        let before = storage.list().unwrap().len();
        let lsn = put(&mut log, &[7; 1_500]);
        if storage.list().unwrap().len() > before {
            lasts.push(Lsn(lsn.0 - 1));
        }
    }
    (storage, log, lasts)
}

#[test]
fn consumers_hold_back_what_they_have_not_reached() {
    let (storage, mut log, lasts) = five_segments();
    let (slow, fast) = (log.register("backup", lasts[0]), log.register("search", lasts[2]));
    assert_eq!(
        log.handle().consumers(),
        [("backup".to_owned(), lasts[0]), ("search".to_owned(), lasts[2])]
    );
    assert_eq!(log.retire(Lsn(u64::MAX)).unwrap(), 1);
    assert_eq!(log.retire(Lsn(u64::MAX)).unwrap(), 0);
    slow.advance(Lsn(lasts[1].0 - 1));
    assert_eq!(
        log.retire(Lsn(u64::MAX)).unwrap(),
        0,
        "one record of the segment is still needed"
    );
    slow.advance(lasts[1]);
    slow.advance(Lsn::ZERO);
    assert_eq!(log.retire(Lsn(u64::MAX)).unwrap(), 1, "a claim does not go back");
    drop(slow);
    assert_eq!(log.retire(Lsn(u64::MAX)).unwrap(), 1);
    drop(fast);
    assert_eq!(log.retire(Lsn(u64::MAX)).unwrap(), 1);
    assert_eq!(storage.list().unwrap(), [segment(5)], "the active segment stays");
    let first = log.handle().first();
    assert_eq!(first, lasts[3].next());
    assert!(matches!(log.reader(Lsn::ZERO), Err(Error::Retired { wanted: Lsn(1), first: now }) if now == first));
    assert!(matches!(log.reader(Lsn(first.0 - 2)), Err(Error::Retired { .. })));
    assert_eq!(
        log.reader(Lsn(first.0 - 1)).unwrap().next().unwrap().unwrap().lsn,
        first
    );
    let (mut log, report) = open(&storage).unwrap();
    assert_eq!((report.first, report.segments), (first, 1));
    put(&mut log, b"goes on");
}

#[test]
fn nothing_above_what_is_durable_elsewhere_goes() {
    let (storage, mut log, lasts) = five_segments();
    assert_eq!(log.retire(Lsn(lasts[0].0 - 1)).unwrap(), 0);
    assert_eq!(log.retire(lasts[1]).unwrap(), 2);
    assert_eq!(storage.list().unwrap().len(), 3);
}

#[test]
fn a_slow_reader_without_a_claim_is_told() {
    let (_storage, mut log, _) = five_segments();
    let mut reader = log.reader(Lsn::ZERO).unwrap();
    let mut unopened = log.reader(Lsn::ZERO).unwrap();
    assert_eq!(reader.next().unwrap().unwrap().lsn, Lsn(1));
    log.retire(Lsn(u64::MAX)).unwrap();
    assert!(matches!(unopened.next(), Err(Error::Retired { wanted: Lsn(1), .. })));
    let outcome = loop {
        match reader.next() {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert!(matches!(outcome, Err(Error::Retired { .. })), "{outcome:?}");
}

#[test]
fn a_power_cut_while_segments_go_leaves_no_hole() {
    for seed in 0..40 {
        let (storage, mut log, lasts) = five_segments();
        // One directory sync for each segment: cut after some of them.
        storage.fail_syncs_after(seed % 5);
        let outcome = log.retire(Lsn(u64::MAX));
        assert_eq!(outcome.is_err(), seed % 5 < 4);
        let (log, report) = open(&storage.power_cut(seed)).unwrap();
        let gone = (0..=4)
            .rev()
            .find(|&gone| gone == 0 || report.first > lasts[gone - 1])
            .unwrap();
        assert!(gone as u64 >= seed % 5, "a removal that was synced stays");
        assert_eq!(
            log.reader(Lsn(report.first.0 - 1))
                .unwrap()
                .next()
                .unwrap()
                .unwrap()
                .lsn,
            report.first
        );
    }
}
