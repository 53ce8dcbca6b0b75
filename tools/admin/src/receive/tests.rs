use engine::{backup::FileSum, clock::Timestamp};
use wal::Lsn;

use super::*;
use crate::sum;

const FILES: [(&str, &[u8]); 3] = [
    ("db/000001.sst", b"one hundred bytes, say"),
    ("db/CURRENT", b""),
    ("db/MANIFEST-1", b"xyz"),
];

fn manifest() -> Manifest {
    Manifest {
        node: "replica/1".to_owned(),
        cluster: [7; 16],
        incarnation: 9,
        lsn: Lsn(4711),
        made_at: Timestamp(1_795_355_479_000_000),
        files: FILES
            .map(|(path, content)| FileSum {
                path: path.to_owned(),
                bytes: content.len() as u64,
                sha256: sum::of(content),
            })
            .to_vec(),
    }
}

fn start(id: &str) -> BackupStart {
    BackupStart {
        id: id.to_owned(),
        outline: manifest().outline().to_json().into_bytes(),
    }
}

fn end() -> BackupEnd {
    let json = manifest().to_json();
    BackupEnd {
        manifest_sum: Manifest::sum_line(json.as_bytes()).into_bytes(),
        manifest: json.into_bytes(),
    }
}

fn chunk(file: u32, offset: u64, data: &[u8]) -> BackupChunk {
    BackupChunk {
        file,
        offset,
        data: data.to_vec().into(),
    }
}

fn begin(folder: &Path) -> Receiver {
    Receiver::begin(folder, "", start("id-1")).unwrap()
}

fn take_up(folder: &Path) -> Option<Receiver> {
    Receiver::take_up(folder, "", |outline| outline.node == "replica/1").unwrap()
}

/// Sends what is missing from where the receiver has it.
fn send_rest(receiver: &mut Receiver) -> Ended {
    let received = receiver.received();
    for (index, (path, content)) in FILES.iter().enumerate() {
        let from = received
            .iter()
            .find(|file| file.path == *path)
            .map_or(0, |file| file.bytes);
        if from < content.len() as u64 {
            let rest = &content[usize::try_from(from).unwrap()..];
            receiver
                .chunk(chunk(u32::try_from(index).unwrap(), from, rest))
                .unwrap();
        }
    }
    receiver.end(end()).unwrap()
}

fn is_whole(folder: &Path, receiver: Receiver) {
    let (path, found) = receiver.finish().unwrap();
    assert_eq!(path, folder.join("2026-11-22T13-51-19Z-replica_1"));
    assert_eq!(found, manifest());
    assert_eq!(engine::backup::verify(&path, &mut |_, _| {}).unwrap(), manifest());
    assert_eq!(fs::read_dir(folder).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn what_is_sent_becomes_a_backup() {
    let folder = tempfile::tempdir().unwrap();
    let mut receiver = begin(&folder.path().join("new/folder"));
    assert_eq!(send_rest(&mut receiver), Ended::Whole);
    assert_eq!(receiver.received_bytes(), manifest().bytes());
    is_whole(&folder.path().join("new/folder"), receiver);
}

#[test]
fn a_killed_one_is_gone_on_with_by_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let mut receiver = begin(folder.path());
    receiver.chunk(chunk(0, 0, b"one hun")).unwrap();
    assert!(take_up(folder.path()).is_none(), "somebody works on it");
    drop(receiver);
    assert!(
        Receiver::take_up(folder.path(), "other", |_| true).unwrap().is_none(),
        "another snapshot"
    );
    assert!(
        Receiver::take_up(folder.path(), "", |_| false).unwrap().is_none(),
        "another node"
    );
    let mut receiver = take_up(folder.path()).unwrap();
    assert_eq!(receiver.id(), "id-1");
    receiver.go_on(&start("id-1")).unwrap();
    assert_eq!(
        receiver.received(),
        [Received {
            path: FILES[0].0.to_owned(),
            bytes: 7
        }]
    );
    assert_eq!(send_rest(&mut receiver), Ended::Whole);
    is_whole(folder.path(), receiver);
}

#[test]
fn what_a_power_cut_made_of_it_is_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut receiver = begin(folder.path());
    receiver.chunk(chunk(0, 0, FILES[0].1)).unwrap();
    receiver.chunk(chunk(2, 0, b"x")).unwrap();
    let partial = receiver.partial().to_owned();
    drop(receiver);
    // The lengths survived, the bytes did not.
    fs::write(partial.join(FILES[0].0), vec![0; FILES[0].1.len()]).unwrap();
    fs::write(partial.join(FILES[2].0), [0]).unwrap();
    let mut receiver = take_up(folder.path()).unwrap();
    assert_eq!(receiver.received().len(), 2, "nothing can be compared yet");
    assert_eq!(send_rest(&mut receiver), Ended::Incomplete);
    assert_eq!(send_rest(&mut receiver), Ended::Whole);
    is_whole(folder.path(), receiver);
}

#[test]
fn a_file_that_is_damaged_at_the_node_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut receiver = begin(folder.path());
    receiver.chunk(chunk(2, 0, b"xyz")).unwrap();
    let wrong = vec![b'!'; FILES[0].1.len()];
    receiver.chunk(chunk(0, 0, &wrong)).unwrap();
    assert_eq!(receiver.end(end()).unwrap(), Ended::Incomplete);
    receiver.chunk(chunk(0, 0, &wrong)).unwrap();
    let told = receiver.end(end()).unwrap_err().to_string();
    assert!(told.contains("db/000001.sst arrived twice"), "{told}");
}

#[test]
fn chunks_out_of_place_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut receiver = begin(folder.path());
    for (file, offset, data) in [(9, 0, &b"x"[..]), (0, 1, b"x"), (2, 0, b"xyz!"), (1, 0, b"x")] {
        receiver.chunk(chunk(file, offset, data)).unwrap_err();
    }
    let mut elsewhere = start("id-1");
    elsewhere.outline.push(b' ');
    receiver.go_on(&elsewhere).unwrap_err();
    receiver.go_on(&start("id-2")).unwrap_err();
}

#[test]
fn an_end_that_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut receiver = begin(folder.path());
    assert_eq!(send_rest(&mut receiver), Ended::Whole);
    let mut changed = end();
    changed.manifest.push(b' ');
    let told = receiver.end(changed).unwrap_err().to_string();
    assert!(told.contains("its manifest does not fit its sum"), "{told}");
    let other = Manifest {
        lsn: Lsn(4712),
        ..manifest()
    };
    let json = other.to_json();
    let other = BackupEnd {
        manifest_sum: Manifest::sum_line(json.as_bytes()).into_bytes(),
        manifest: json.into_bytes(),
    };
    let told = receiver.end(other).unwrap_err().to_string();
    assert!(told.contains("another manifest than it began with"), "{told}");
}

#[test]
fn one_that_lacks_nothing_but_its_name_gets_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut receiver = begin(folder.path());
    assert_eq!(send_rest(&mut receiver), Ended::Whole);
    let partial = receiver.partial().to_owned();
    let (path, _) = receiver.finish().unwrap();
    // Killed between the removal of its note and the renaming.
    fs::rename(&path, &partial).unwrap();
    assert!(take_up(folder.path()).is_none(), "there is nothing to go on with");
    assert_eq!(engine::backup::verify(&path, &mut |_, _| {}).unwrap(), manifest());
    assert!(!partial.exists());
    // Without a sum it is no backup, and nobody's to touch.
    fs::rename(&path, &partial).unwrap();
    fs::remove_file(partial.join(MANIFEST_SUM)).unwrap();
    assert!(take_up(folder.path()).is_none());
    assert!(partial.exists() && !path.exists());
}

#[test]
fn without_room_nothing_is_begun() {
    let folder = tempfile::tempdir().unwrap();
    let mut outline = manifest().outline();
    outline.files[0].bytes = u64::MAX / 2;
    let start = BackupStart {
        id: "id-1".to_owned(),
        outline: outline.to_json().into_bytes(),
    };
    let told = Receiver::begin(folder.path(), "", start).unwrap_err().to_string();
    assert!(told.contains("the backup needs"), "{told}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn two_of_one_second_have_two_names() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (begin(folder.path()), begin(folder.path()));
    assert_ne!(first.partial(), second.partial());
    first.discard().unwrap();
    second.discard().unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
