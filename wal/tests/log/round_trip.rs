//! What was appended comes back, through any pattern of groups, syncs, rotations and openings.

use proptest::prelude::*;
use wal::{Lsn, Record, storage::Faulty};

use crate::{open, read_all};

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(u8, Vec<u8>)>),
    Sync,
    Reopen,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let record = (any::<u8>(), prop::collection::vec(any::<u8>(), 0..600));
    prop_oneof![
        6 => prop::collection::vec(record, 1..6).prop_map(Step::Append),
        3 => Just(Step::Sync),
        1 => Just(Step::Reopen),
        1 => Just(Step::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn what_was_appended_comes_back(steps in prop::collection::vec(step(), 1..60)) {
        let storage = Faulty::new();
        let (mut log, report) = open(&storage).unwrap();
        prop_assert_eq!((report.last, report.segments), (Lsn::ZERO, 0));
        let mut expected: Vec<(u8, Vec<u8>)> = Vec::new();
        for step in steps {
            match step {
                Step::Append(records) => {
                    let framed: Vec<Record<'_>> =
                        records.iter().map(|(header, body)| Record { header: *header, body }).collect();
                    prop_assert_eq!(log.append(&framed).unwrap().0, expected.len() as u64 + 1);
                    expected.extend(records);
                }
                Step::Sync => prop_assert_eq!(log.sync().unwrap().0, expected.len() as u64),
                Step::Reopen | Step::Close => {
                    if matches!(step, Step::Close) {
                        log.close().unwrap();
                    }
                    let (next, report) = open(&storage).unwrap();
                    prop_assert_eq!((report.last.0, report.truncated_bytes), (expected.len() as u64, 0));
                    prop_assert_eq!(report.owner, b"test");
                    log = next;
                }
            }
        }
        log.sync().unwrap();
        let read = read_all(&log).unwrap();
        prop_assert_eq!(read.len(), expected.len());
        for ((entry, (header, body)), lsn) in read.into_iter().zip(expected).zip(1..) {
            prop_assert_eq!((entry.lsn.0, entry.header, entry.body), (lsn, header, body));
        }
    }
}
