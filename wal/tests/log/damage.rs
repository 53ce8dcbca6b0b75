//! Damage to acknowledged data: opening refuses, says where it is and what is lost, and changes nothing.

use wal::{Damage, Error, Log, Lsn, Record, storage::Faulty};

use crate::{groups, open, put, read_all, segment};

/// Three segments: two sealed, one active. Every record is acknowledged.
fn three_segments() -> (Faulty, Log) {
    let storage = Faulty::new();
    let (mut log, _) = open(&storage).unwrap();
    let mut fill = 0;
    while storage.read_all_names().len() < 3 {
        fill += 1;
        put(&mut log, &vec![fill; 900 + usize::from(fill)]);
    }
    for _ in 0..3 {
        fill += 1;
        put(&mut log, &[fill; 100]);
    }
    (storage, log)
}

trait Names {
    fn read_all_names(&self) -> Vec<String>;
}

impl Names for Faulty {
    fn read_all_names(&self) -> Vec<String> {
        wal::storage::Storage::list(self).unwrap()
    }
}

fn damage(storage: &Faulty, context: &str) -> Damage {
    let before: Vec<_> = storage.read_all_names().iter().map(|name| storage.read(name)).collect();
    let damage = match open(storage) {
        Err(Error::Damaged(damage)) => damage,
        Err(other) => panic!("{context}: {other}"),
        Ok((_, report)) => panic!("{context}: opened with {report:?}"),
    };
    let after: Vec<_> = storage.read_all_names().iter().map(|name| storage.read(name)).collect();
    assert!(before == after, "{context}: opening changed something");
    damage
}

#[test]
fn a_bit_flipped_in_any_byte_of_a_covered_group_is_refused() {
    let (storage, _log) = three_segments();
    for number in 1..=3 {
        let name = segment(number);
        let groups = groups(&storage.read(&name));
        let covered = groups.iter().map(|group| group.synced_through).max().unwrap();
        // In the sealed segments the next header covers the last group too.
        let refused = groups.iter().filter(|group| number < 3 || group.first <= covered);
        for group in refused {
            for offset in group.offset..group.end() {
                let copy = storage.copy();
                copy.flip_bit(&name, offset as u64, (offset % 8) as u8);
                let found = damage(&copy, &format!("{name} byte {offset}"));
                let lost = group.first..=group.first;
                assert_eq!(
                    found,
                    Damage {
                        file: name.clone(),
                        offset: group.offset as u64,
                        lost
                    },
                    "byte {offset}"
                );
            }
        }
    }
}

#[test]
fn several_groups_zeroed_are_all_named() {
    let (storage, _log) = three_segments();
    let groups = groups(&storage.read(&segment(1)));
    let (from, to) = (groups[2], groups[4]);
    storage.overwrite(&segment(1), from.offset as u64, &vec![0; to.end() - from.offset]);
    let lost = from.first..=to.first;
    assert_eq!(
        damage(&storage, "hole"),
        Damage {
            file: segment(1),
            offset: from.offset as u64,
            lost
        }
    );
}

#[test]
fn everything_behind_a_group_zeroed_is_lost_up_to_what_the_next_header_says() {
    let (storage, _log) = three_segments();
    let bytes = storage.read(&segment(2));
    let groups = groups(&bytes);
    let from = groups[1];
    storage.overwrite(&segment(2), from.offset as u64, &vec![0; bytes.len() - from.offset]);
    let lost = from.first..=groups.last().unwrap().first;
    assert_eq!(
        damage(&storage, "no end"),
        Damage {
            file: segment(2),
            offset: from.offset as u64,
            lost
        }
    );
}

#[test]
fn a_segment_that_is_missing_in_the_middle_is_refused() {
    let (storage, _log) = three_segments();
    let groups = groups(&storage.read(&segment(2)));
    storage.lose(&segment(2));
    let lost = groups[0].first..=groups.last().unwrap().first;
    assert_eq!(
        damage(&storage, "missing"),
        Damage {
            file: segment(2),
            offset: 0,
            lost
        }
    );
}

#[test]
fn a_damaged_header_is_refused_in_every_byte() {
    let (storage, _log) = three_segments();
    for number in 1..=3 {
        let name = segment(number);
        let groups = groups(&storage.read(&name));
        let end = if number < 3 {
            groups.last().unwrap().first
        } else {
            u64::MAX
        };
        for offset in (0..200).chain((200..4096).step_by(61)) {
            let copy = storage.copy();
            copy.flip_bit(&name, offset, 3);
            let found = damage(&copy, &format!("{name} byte {offset}"));
            assert_eq!(
                found,
                Damage {
                    file: name.clone(),
                    offset: 0,
                    lost: groups[0].first..=end
                }
            );
        }
    }
}

#[test]
fn a_damaged_footer_loses_nothing_while_the_next_header_stands() {
    let (storage, log) = three_segments();
    let expected = read_all(&log).unwrap();
    for offset in (16 << 10) - 64..16 << 10 {
        let copy = storage.copy();
        copy.flip_bit(&segment(1), offset, 0);
        let (log, _) = open(&copy).unwrap();
        assert_eq!(read_all(&log).unwrap(), expected);
    }
}

#[test]
fn a_segment_of_another_log_does_not_fit_into_the_chain() {
    let (storage, _log) = three_segments();
    let other = Faulty::new();
    let (mut log, _) = open(&other).unwrap();
    let sizes: Vec<usize> = (1..=2)
        .flat_map(|number| groups(&storage.read(&segment(number))))
        .map(|group| group.length)
        .collect();
    let mut number = 0;
    while other.read_all_names().len() < 3 {
        number += 1;
        put(&mut log, &vec![0xee; 900 + number]);
    }
    assert_eq!(sizes.len() + 1, number, "the same groups in the same places");
    storage.overwrite(&segment(1), 0, &other.read(&segment(1)));
    let lost = 1..=groups(&other.read(&segment(1))).last().unwrap().first;
    assert_eq!(
        damage(&storage, "foreign"),
        Damage {
            file: segment(1),
            offset: 0,
            lost
        }
    );
}

#[test]
fn after_a_close_even_the_last_group_is_told_from_a_torn_tail() {
    let (storage, log) = three_segments();
    let last = *groups(&storage.read(&segment(3))).last().unwrap();
    let unclosed = storage.copy();
    unclosed.flip_bit(&segment(3), last.offset as u64 + 60, 0);
    assert_eq!(
        open(&unclosed).unwrap().1.last,
        Lsn(last.first - 1),
        "what no later group covers counts as torn"
    );

    log.close().unwrap();
    let closed = groups(&storage.read(&segment(3)));
    assert_eq!(
        (closed.last().unwrap().count, closed.last().unwrap().synced_through),
        (0, last.first)
    );
    let (log, report) = open(&storage).unwrap();
    assert_eq!((report.last, report.truncated_bytes), (Lsn(last.first), 0));
    log.close().unwrap();
    assert_eq!(
        groups(&storage.read(&segment(3))).len(),
        closed.len(),
        "one mark is enough"
    );
    storage.flip_bit(&segment(3), last.offset as u64 + 60, 0);
    let lost = last.first..=last.first;
    assert_eq!(
        damage(&storage, "closed"),
        Damage {
            file: segment(3),
            offset: last.offset as u64,
            lost
        }
    );
}

#[test]
fn a_torn_later_group_proves_an_earlier_one_by_its_head() {
    let storage = Faulty::new();
    let (mut log, _) = open(&storage).unwrap();
    put(&mut log, b"first");
    put(&mut log, b"second");
    log.append(&[Record {
        header: 1,
        body: b"not acknowledged, and torn",
    }])
    .unwrap();
    let found = groups(&storage.read(&segment(1)));
    storage.flip_bit(&segment(1), found[2].offset as u64 + 60, 0);
    storage.flip_bit(&segment(1), found[1].offset as u64 + 50, 0);
    let lost = 2..=2;
    assert_eq!(
        damage(&storage, "torn"),
        Damage {
            file: segment(1),
            offset: found[1].offset as u64,
            lost
        }
    );
}

#[test]
fn a_file_shorter_than_its_groups_were_given_is_refused() {
    let (storage, _log) = three_segments();
    let groups = groups(&storage.read(&segment(3)));
    for length in [groups[1].offset + 9, groups[2].end(), (16 << 10) - 1] {
        let copy = storage.copy();
        copy.truncate(&segment(3), length as u64);
        let whole = groups.iter().rfind(|group| group.end() <= length).unwrap();
        let lost = whole.first + 1..=u64::MAX;
        assert_eq!(
            damage(&copy, "short"),
            Damage {
                file: segment(3),
                offset: length as u64,
                lost
            }
        );
    }
}

#[test]
fn sealed_segments_the_caller_vouches_for_are_not_read() {
    let (storage, _log) = three_segments();
    let last = groups(&storage.read(&segment(1))).last().unwrap().first;
    storage.flip_bit(&segment(1), 4200, 0);
    let trusting = |lsn| {
        let settings = wal::Settings {
            verify_above: Lsn(lsn),
            ..crate::small()
        };
        Log::open(std::sync::Arc::new(storage.clone()), settings, b"test")
    };
    assert!(matches!(trusting(last - 1), Err(Error::Damaged(_))));
    let (log, _) = trusting(last).unwrap();
    // The damage is found by who reads it.
    let Err(Error::Damaged(found)) = read_all(&log) else {
        panic!("a damaged record was read")
    };
    assert_eq!(
        found,
        Damage {
            file: segment(1),
            offset: 4096,
            lost: 1..=last
        }
    );
    assert_eq!(
        log.reader(Lsn(last)).unwrap().next().unwrap().unwrap().lsn,
        Lsn(last + 1)
    );
}

#[test]
fn an_operator_is_told_what_to_do() {
    let damage = Damage {
        file: segment(7),
        offset: 4242,
        lost: 17..=19,
    };
    let text = Error::Damaged(damage.clone()).to_string();
    for part in [
        "00000000000000000007.log",
        "byte 4242",
        "17 to 19",
        "backup",
        "peer",
        "Nothing was changed",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    assert!(
        Damage {
            lost: 5..=u64::MAX,
            ..damage.clone()
        }
        .to_string()
        .contains("from 5 on")
    );
    assert!(Damage { lost: 5..=5, ..damage }.to_string().contains("record 5."));
}
