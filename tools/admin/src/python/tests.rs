use std::{fs, path::Path};

use client::wire::{PoolContribution, entry::Content};

use super::*;

/// The user's own store, as the Python system left it.
fn real() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/python-store")
}

/// A copy of it that may be damaged.
fn copy() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for folder in ["", "shared", "contributions", "replication"] {
        fs::create_dir_all(directory.path().join(folder)).unwrap();
        for entry in fs::read_dir(real().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::copy(&path, directory.path().join(folder).join(path.file_name().unwrap())).unwrap();
            }
        }
    }
    directory
}

fn change(directory: &Path, file: &str, from: &str, to: &str) {
    let path = directory.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no {from}");
    fs::write(&path, text.replacen(from, to, 1)).unwrap();
}

fn told(store: &Store) -> Vec<String> {
    store.faults.iter().map(Fault::to_string).collect()
}

#[test]
fn the_real_store_is_read_without_a_fault() {
    let store = read(&real(), "replicated").unwrap();
    assert_eq!(told(&store), Vec::<String>::new());
    assert_eq!(store.files, 7);
    let members: Vec<_> = store
        .members
        .iter()
        .map(|member| {
            (
                member.node_id.as_str(),
                member.contributed,
                member.consumed,
                member.verified,
            )
        })
        .collect();
    assert_eq!(
        members,
        [
            ("my-node-1", 3, 1, true),
            ("site-berlin", 25, 0, false),
            ("site-lagos", 15, 2, false)
        ]
    );
    let event = PoolContribution {
        at: Some(prost_types::Timestamp {
            seconds: 1_795_355_479,
            nanos: 728_327_000,
        }),
        value: 3,
    };
    assert_eq!(store.members[0].contributions, [event]);
    assert_eq!(
        store.members[0].registered_at,
        Some(prost_types::Timestamp {
            seconds: 1_795_355_479,
            nanos: 713_212_000
        })
    );
    assert_eq!(store.pool.len(), 43);
    let second = &store.pool[1];
    assert_eq!(
        second.json,
        r#"{"name":"physical entity","description":"an entity that has physical existence","part_of_speech":"noun","broader":["n00001740"]}"#
    );
    assert_eq!(
        (second.usage_count, second.contributors.as_slice()),
        (2, &["site-berlin".to_owned()][..])
    );
}

#[test]
fn replicated_keys_become_the_states_they_stand_for() {
    let store = read(&real(), "replicated").unwrap();
    assert_eq!(store.keys.len(), 6, "three keys at two replicas");
    let state = store.keys.iter().find(|state| state.key == "concept-2").unwrap();
    let entry = &state.entries[0];
    // sha256("python-store:replicated") begins like this.
    let incarnation = 0xc49c_d83f_f4f1_7bc8;
    assert_eq!(
        (entry.node.as_str(), entry.incarnation, entry.counter),
        ("replica-1", incarnation, 2)
    );
    assert_eq!(entry.stamp, 1_795_355_480_019 << 16);
    assert_eq!(entry.content, Some(Content::Register(r#"{"value":"two"}"#.to_owned())));
    assert_eq!(state.context.len(), 1);
    let elsewhere = read(&real(), "other").unwrap();
    assert_ne!(
        elsewhere.keys[0].entries[0].incarnation, incarnation,
        "another namespace, another life"
    );
    for key in ["concept-1", "concept-2", "concept-3"] {
        let both: Vec<_> = store.keys.iter().filter(|state| state.key == key).collect();
        assert_eq!(both[0], both[1], "the replicas had converged");
    }
}

#[test]
fn what_is_not_what_was_written_is_named_by_file_and_key() {
    let directory = copy();
    change(directory.path(), "shared/knowledge.json", "\"entity\"", "\"entitx\"");
    change(
        directory.path(),
        "replication/replication_replica-2.json",
        "\"value\": 100",
        "\"value\": 101",
    );
    let store = read(directory.path(), "replicated").unwrap();
    let told = told(&store);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("shared/knowledge.json: f4329bfb28bcb3b3b048c547bf4e212c9a30ddd97d15633fcbe159b9dc9943bb: the concept has the SHA-256 "), "{told:?}");
    assert!(
        told[1].starts_with("replication/replication_replica-2.json: concept-1: the value has the SHA-256 "),
        "{told:?}"
    );
    assert_eq!((store.pool.len(), store.keys.len()), (42, 5), "the others can be used");
}

#[test]
fn a_file_that_ends_too_early_is_not_taken_for_a_smaller_one() {
    for file in [
        "shared/knowledge.json",
        "contributions/contributions.json",
        "replication/replication_replica-1.json",
        "site-lagos.json",
    ] {
        let directory = copy();
        let path = directory.path().join(file);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() * 2 / 3]).unwrap();
        let store = read(directory.path(), "replicated").unwrap();
        let told = told(&store);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with(&format!("{file}: the file is cut off here (line ")),
            "{told:?}"
        );
        fs::write(&path, "").unwrap();
        let store = read(directory.path(), "replicated").unwrap();
        assert_eq!(store.faults.len(), 1, "an emptied {file} is one that was cut");
    }
}

#[test]
fn one_poisoned_concept_loses_that_one_and_no_other() {
    let directory = copy();
    change(directory.path(), "shared/knowledge.json", "\"entity\"", "\"\\ud800\"");
    change(
        directory.path(),
        "shared/knowledge.json",
        "\"quality_score\": 2.0",
        "\"quality_score\": NaN",
    );
    let store = read(directory.path(), "replicated").unwrap();
    assert_eq!((store.pool.len(), store.faults.len()), (41, 2), "{:?}", told(&store));
}

#[test]
fn a_directory_without_a_store_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(read(directory.path(), "replicated"), Err(Error::NoStore(_))));
    assert!(matches!(
        read(&directory.path().join("absent"), "replicated"),
        Err(Error::Io { .. })
    ));
}

#[test]
fn times_without_a_zone_are_utc_and_counts_are_whole() {
    let object = value(r#"{"at":"2026-11-22T13:51:19.718713","n":2.0,"half":0.5,"text":"2"}"#).unwrap();
    let expected = prost_types::Timestamp {
        seconds: 1_795_355_479,
        nanos: 718_713_000,
    };
    assert_eq!(time(&object, "at"), Ok(Some(expected)));
    assert_eq!(time(&object, "absent"), Ok(None));
    assert_eq!((count(&object, "n"), count(&object, "absent")), (Ok(2), Ok(0)));
    count(&object, "half").unwrap_err();
    count(&object, "text").unwrap_err();
}
