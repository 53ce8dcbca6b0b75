//! A power cut in the middle of the last, unacknowledged group: it goes, everything before it stays, the log goes on.

use wal::{Log, Lsn, Record, storage::Faulty};

use crate::{bodies, groups, open, put, segment};

/// Sizes of acknowledged bodies: they leave the last group at an odd place inside a sector.
const ACKNOWLEDGED: [usize; 4] = [3, 700, 41, 130];

/// Acknowledged groups, then one of two records over several sectors that is written and not synced.
fn with_unsynced_group() -> (Faulty, Log) {
    let storage = Faulty::new();
    let (mut log, _) = open(&storage).unwrap();
    for (size, fill) in ACKNOWLEDGED.into_iter().zip(1..) {
        put(&mut log, &vec![fill; size]);
    }
    let records = [
        Record {
            header: 2,
            body: &[0xaa; 700],
        },
        Record {
            header: 2,
            body: &[0xbb; 802],
        },
    ];
    assert_eq!(log.append(&records).unwrap(), Lsn(5));
    (storage, log)
}

/// Opens what a crash left, checks it, goes on with it, and opens it again.
fn goes_on(storage: &Faulty, whole: bool, context: &str) {
    let expected_last = if whole { Lsn(6) } else { Lsn(4) };
    let (mut log, report) = open(storage).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(report.last, expected_last, "{context}");
    let mut expected: Vec<Vec<u8>> = ACKNOWLEDGED
        .iter()
        .zip(1..)
        .map(|(&size, fill)| vec![fill; size])
        .collect();
    if whole {
        expected.extend([vec![0xaa; 700], vec![0xbb; 802]]);
    }
    assert_eq!(bodies(&log), expected, "{context}");
    for extra in [b"new".to_vec(), vec![0xcc; 600]] {
        put(&mut log, &extra);
        expected.push(extra);
    }
    drop(log);
    let (log, report) = open(storage).unwrap_or_else(|error| panic!("{context}, again: {error}"));
    assert_eq!(
        (report.last.0, report.truncated_bytes),
        (expected_last.0 + 2, 0),
        "{context}"
    );
    assert_eq!(bodies(&log), expected, "{context}, again");
}

#[test]
fn torn_at_every_byte_the_beginning_arrived() {
    let (storage, _log) = with_unsynced_group();
    let bytes = storage.read(&segment(1));
    let last = *groups(&bytes).last().unwrap();
    assert_eq!((last.first, last.length % 8), (5, 0));
    for cut in last.offset..=last.end() {
        // Where only zeros did not arrive, nothing is missing.
        let whole = bytes[cut..last.end()].iter().all(|&byte| byte == 0);
        let survivor = storage.copy().power_cut_at(&segment(1), cut as u64);
        goes_on(&survivor, whole, &format!("cut at byte {cut}"));
    }
}

#[test]
fn torn_at_every_byte_the_end_arrived() {
    let (storage, _log) = with_unsynced_group();
    let last = *groups(&storage.read(&segment(1))).last().unwrap();
    for cut in last.offset + 1..=last.end() {
        let survivor = storage.copy();
        survivor.overwrite(&segment(1), last.offset as u64, &vec![0; cut - last.offset]);
        goes_on(&survivor, false, &format!("missing up to byte {cut}"));
    }
}

#[test]
fn garbage_instead_of_the_tail() {
    let (storage, _log) = with_unsynced_group();
    let last = *groups(&storage.read(&segment(1))).last().unwrap();
    for step in 0..last.length {
        let survivor = storage.copy();
        let garbage: Vec<u8> = (0..last.length - step)
            .map(|byte| (byte * 7 + step) as u8 | 1)
            .collect();
        survivor.overwrite(&segment(1), (last.offset + step) as u64, &garbage);
        goes_on(&survivor, false, &format!("garbage from byte {step} of the group"));
    }
}

/// Two unsynced groups of which only the second arrived: a group written later in the place of the first, and as long,
/// must not bring the second back.
#[test]
fn what_was_cut_off_never_comes_back() {
    let storage = Faulty::new();
    let (mut log, _) = open(&storage).unwrap();
    put(&mut log, b"acknowledged");
    log.append(&[Record {
        header: 1,
        body: b"lost one",
    }])
    .unwrap();
    log.append(&[Record {
        header: 1,
        body: b"late one",
    }])
    .unwrap();
    let bytes = storage.read(&segment(1));
    let lost = groups(&bytes)[1];
    let survivor = storage.copy();
    survivor.overwrite(&segment(1), lost.offset as u64, &vec![0; lost.length]);
    let (mut log, report) = open(&survivor).unwrap();
    assert_eq!((report.last, report.truncated_bytes > 0), (Lsn(1), true));
    assert!(
        survivor.read(&segment(1))[lost.end()..].iter().all(|&byte| byte == 0),
        "the rest is wiped"
    );
    put(&mut log, b"new one!");
    assert_eq!(groups(&survivor.read(&segment(1))).len(), 2);

    // Even a device that brings the wiped bytes back does not bring the record back.
    let stale = groups(&bytes)[2];
    survivor.overwrite(&segment(1), stale.offset as u64, &bytes[stale.offset..stale.end()]);
    let (log, report) = open(&survivor).unwrap();
    assert_eq!(report.last, Lsn(2));
    assert_eq!(bodies(&log), [b"acknowledged".to_vec(), b"new one!".to_vec()]);
}

/// A record whose body is a whole later group of another log is no proof that something was acknowledged.
#[test]
fn a_log_inside_a_record_is_not_mistaken_for_groups() {
    let other = Faulty::new();
    let (mut log, _) = open(&other).unwrap();
    for _ in 0..20 {
        put(&mut log, b"of the other log");
    }
    let inner = other.read(&segment(1));
    let late = *groups(&inner).last().unwrap();

    let storage = Faulty::new();
    let (mut log, _) = wal::Log::open(std::sync::Arc::new(storage.clone()), crate::small(), b"other owner").unwrap();
    put(&mut log, b"acknowledged");
    // Three bytes of padding bring the inner group to a multiple of eight.
    let mut body = vec![0; 3];
    body.extend_from_slice(&inner[late.offset..late.end()]);
    log.append(&[Record { header: 1, body: &body }]).unwrap();
    let torn = *groups(&storage.read(&segment(1))).last().unwrap();
    let survivor = storage.copy();
    survivor.overwrite(&segment(1), torn.offset as u64, &[0; 8]);
    let found = survivor.read(&segment(1));
    assert_eq!(
        found[torn.offset + 56..torn.offset + 60],
        *b"GRP1",
        "the inner group is where recovery looks"
    );
    let (log, report) = open(&survivor).unwrap();
    assert_eq!(report.last, Lsn(1));
    assert_eq!(bodies(&log), [b"acknowledged".to_vec()]);
}

/// The header was whole and the length was not yet: a power cut in the creation of the segment.
#[test]
fn a_segment_that_never_got_its_length_is_filled_up() {
    for length in [4096, 4097, 5_000, 16_000] {
        let storage = Faulty::new();
        open(&storage).unwrap();
        storage.truncate(&segment(1), length);
        let (mut log, report) = open(&storage).unwrap();
        assert_eq!(report.last, Lsn(0));
        put(&mut log, b"first");
        assert_eq!(storage.read(&segment(1)).len(), 16 << 10);
    }
}
