//! The log in a real directory.

use std::{
    fs, io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
    sync::Arc,
};

use wal::{
    Error, Log, Lsn, Record, Recovery,
    storage::{Disk, Storage as _},
};

use crate::{bodies, groups, put, segment, small};

fn open(path: &Path) -> Result<(Log, Recovery), Error> {
    Log::open(Arc::new(Disk::open(path).unwrap()), small(), b"disk")
}

#[test]
fn a_log_lives_in_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep").join("log");
    let (mut log, _) = open(&path).unwrap();
    fs::write(path.join("notes.txt"), "not a segment").unwrap();
    let written: Vec<Vec<u8>> = (0..50_u8).map(|number| vec![number; 700]).collect();
    for body in &written {
        put(&mut log, body);
    }
    assert_eq!(bodies(&log), written);
    log.retire(Lsn(20)).unwrap();
    drop(log);
    let (log, report) = open(&path).unwrap();
    assert_eq!(report.last, Lsn(50));
    assert_eq!(bodies(&log), written[report.first.0 as usize - 1..]);
    let file = fs::metadata(path.join(segment(report.segments as u64))).unwrap();
    assert_eq!(file.len(), 16 << 10);
    assert!(
        file.blocks() * 512 >= 16 << 10,
        "the segment is allocated before it is used"
    );
}

#[test]
fn a_second_owner_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let first = Disk::open(directory.path()).unwrap();
    let refusal = Disk::open(directory.path()).map(|_| ()).unwrap_err();
    assert_eq!(refusal.kind(), io::ErrorKind::ResourceBusy);
    assert!(refusal.to_string().contains("in use"), "{refusal}");
    drop(first);
    Disk::open(directory.path()).unwrap();
}

#[test]
fn an_allocation_that_fails_leaves_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::open(directory.path()).unwrap();
    let free = disk.free_bytes().unwrap();
    assert!(free > 0);
    // More than any file system here holds.
    assert!(disk.create("huge.log", 1 << 60).is_err());
    assert_eq!(disk.list().unwrap(), Vec::<String>::new());
}

#[test]
fn a_torn_tail_on_disk_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path()).unwrap();
    put(&mut log, b"acknowledged");
    log.append(&[Record {
        header: 1,
        body: &[5; 900],
    }])
    .unwrap();
    drop(log);
    let path = directory.path().join(segment(1));
    let last = *groups(&fs::read(&path).unwrap()).last().unwrap();
    for cut in (last.offset..last.end() - 8).rev().step_by(97) {
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(&vec![0; last.end() - cut], cut as u64).unwrap();
        let (log, report) = open(directory.path()).unwrap();
        assert_eq!((report.last, bodies(&log)), (Lsn(1), vec![b"acknowledged".to_vec()]));
    }
    let (mut log, _) = open(directory.path()).unwrap();
    put(&mut log, b"goes on");
    drop(log);
    let (log, report) = open(directory.path()).unwrap();
    assert_eq!(
        (report.last, report.truncated_bytes, bodies(&log).len()),
        (Lsn(2), 0, 2)
    );
}
