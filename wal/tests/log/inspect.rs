//! Looking at a log without writing to it: everything that is damaged is named, and everything else is read.

use wal::{
    Log, Lsn, Record,
    inspect::{Fault, Inspection, inspect},
    storage::{Faulty, Storage as _},
};

use crate::{groups, open, put, segment};

/// Three segments: two sealed, one active. Every record is synced.
fn three_segments() -> (Faulty, Log) {
    let storage = Faulty::new();
    let (mut log, _) = open(&storage).unwrap();
    let mut fill = 0;
    while storage.list().unwrap().len() < 3 {
        fill += 1;
        put(&mut log, &vec![fill; 900 + usize::from(fill)]);
    }
    for _ in 0..3 {
        fill += 1;
        put(&mut log, &[fill; 100]);
    }
    (storage, log)
}

fn look(storage: &Faulty) -> (Inspection, Vec<u64>) {
    let names = storage.list().unwrap();
    let before: Vec<_> = names.iter().map(|name| storage.read(name)).collect();
    let mut read = Vec::new();
    let inspection = inspect(storage, &mut |placed| {
        read.push(placed.lsn.0);
        true
    });
    let after: Vec<_> = names.iter().map(|name| storage.read(name)).collect();
    assert!(before == after, "looking changed something");
    (inspection.unwrap(), read)
}

#[test]
fn a_sound_log_is_listed_and_read_from_end_to_end() {
    let (storage, log) = three_segments();
    let (inspection, read) = look(&storage);
    assert_eq!(inspection.faults, []);
    assert_eq!(read, (1..=log.last().0).collect::<Vec<_>>());
    assert_eq!(inspection.segments.len(), 3);
    let mut next = 1;
    for (index, seen) in inspection.segments.iter().enumerate() {
        assert_eq!((seen.number, seen.first), (index as u64 + 1, Lsn(next)));
        assert_eq!((seen.is_sealed, seen.owner.as_slice()), (index < 2, &b"test"[..]));
        assert_eq!(seen.records, seen.last.0 + 1 - seen.first.0);
        assert_eq!(seen.capacity_bytes, 16 << 10);
        let end = groups(&storage.read(&seen.file)).last().unwrap().end();
        assert_eq!((seen.used_bytes, seen.torn_bytes), (end as u64, 0));
        next = seen.last.0 + 1;
    }
    let mut wanted = 3;
    let stopped = inspect(&storage, &mut |_| {
        wanted -= 1;
        wanted > 0
    });
    assert_eq!(stopped.unwrap().segments[0].records, 3);
}

#[test]
fn every_flipped_bit_in_what_was_durable_is_named_and_the_rest_is_read() {
    let (storage, log) = three_segments();
    let all = log.last().0;
    for number in 1..=3 {
        let name = segment(number);
        let groups = groups(&storage.read(&name));
        let covered = groups.iter().map(|group| group.synced_through).max().unwrap();
        for group in groups.iter().filter(|group| number < 3 || group.first <= covered) {
            for offset in (group.offset..group.end()).step_by(7).chain([group.end() - 1]) {
                let copy = storage.copy();
                copy.flip_bit(&name, offset as u64, (offset % 8) as u8);
                let (inspection, read) = look(&copy);
                let context = format!("{name} byte {offset}: {:?}", inspection.faults);
                let [Fault { file, offset, lost, .. }] = &inspection.faults[..] else {
                    panic!("{context}");
                };
                assert_eq!((file, *offset), (&name, group.offset as u64), "{context}");
                assert_eq!(*lost, Some(group.first..=group.first), "{context}");
                assert_eq!(read.len() as u64, all - 1, "{context}");
            }
        }
    }
}

#[test]
fn every_damage_is_named_not_only_the_first() {
    let (storage, _log) = three_segments();
    let (first, second) = (segment(1), segment(2));
    let groups_of = |name: &str| groups(&storage.read(name));
    let (before, after) = (groups_of(&first), groups_of(&second));
    for group in [before[2], before[3], before[6]] {
        storage.flip_bit(&first, group.offset as u64 + 60, 0);
    }
    storage.flip_bit(&second, after[1].offset as u64 + 4, 0);
    // Its footer.
    storage.flip_bit(&second, (16 << 10) - 30, 0);
    let (inspection, _) = look(&storage);
    let told: Vec<_> = inspection
        .faults
        .iter()
        .map(|fault| (fault.file.as_str(), fault.offset, fault.lost.clone()))
        .collect();
    let gap =
        |name, group: &crate::Group, count| (name, group.offset as u64, Some(group.first..=group.first + count - 1));
    let expected = [
        gap(first.as_str(), &before[2], 2),
        gap(&first, &before[6], 1),
        (&second, (16 << 10) - 64, None),
        gap(&second, &after[1], 1),
    ];
    assert_eq!(told, expected);
    assert_eq!(
        inspection.segments.iter().map(|seen| seen.faults).collect::<Vec<_>>(),
        [2, 2, 0]
    );
}

#[test]
fn a_missing_file_and_a_lost_header_are_named() {
    let (storage, _log) = three_segments();
    let lasts: Vec<u64> = look(&storage).0.segments.iter().map(|seen| seen.last.0).collect();
    let copy = storage.copy();
    copy.remove(&segment(2)).unwrap();
    let faults = look(&copy).0.faults;
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(
        (&faults[0].file, faults[0].lost.clone()),
        (&segment(2), Some(lasts[0] + 1..=lasts[1]))
    );
    storage.flip_bit(&segment(2), 20, 0);
    let (inspection, read) = look(&storage);
    assert_eq!(inspection.faults.len(), 1, "{:?}", inspection.faults);
    assert_eq!(inspection.faults[0].lost, Some(lasts[0] + 1..=lasts[1]));
    assert_eq!(read.len() as u64, lasts[0] + lasts[2] - lasts[1]);
}

#[test]
fn a_torn_tail_is_no_damage_and_an_open_log_has_none() {
    let (storage, mut log) = three_segments();
    let last = log.last();
    let records = [Record {
        header: 1,
        body: &[9; 300],
    }; 2];
    log.append(&records[..1]).unwrap();
    log.append(&records[..1]).unwrap();
    let open = log
        .handle()
        .inspect(&mut |placed| {
            assert!(placed.lsn <= last, "it was not synced");
            true
        })
        .unwrap();
    assert_eq!((open.faults.len(), open.segments[2].last), (0, last));
    // Of two groups that were never acknowledged the first is torn.
    let name = segment(3);
    let torn = groups(&storage.read(&name))
        .into_iter()
        .find(|group| group.first == last.0 + 1)
        .unwrap();
    storage.flip_bit(&name, torn.offset as u64 + 70, 1);
    let (inspection, read) = look(&storage);
    assert_eq!((inspection.faults.len(), read.len() as u64), (0, last.0));
    assert_eq!(inspection.segments[2].used_bytes, torn.offset as u64);
    assert!(inspection.segments[2].torn_bytes >= 600);
    // What the open log knows to be synced is damage, even in its last group.
    let groups = groups(&storage.read(&name));
    let acknowledged = groups.iter().find(|group| group.first == last.0).unwrap();
    storage.flip_bit(&name, acknowledged.offset as u64 + 70, 1);
    let open = log.handle().inspect(&mut |_| true).unwrap();
    assert_eq!(open.faults.len(), 1, "{:?}", open.faults);
    assert_eq!(open.faults[0].lost, Some(last.0..=last.0));
}
