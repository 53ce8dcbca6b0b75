use std::sync::Arc;

use super::{memory::Memory, rocks::Rocks, *};

fn put(family: Family, key: &str, value: &str) -> Write {
    Write {
        family,
        key: key.into(),
        value: Some(value.into()),
    }
}

fn delete(family: Family, key: &str) -> Write {
    Write {
        family,
        key: key.into(),
        value: None,
    }
}

fn write(store: &dyn Store, writes: &[Write]) {
    store
        .write(&writes.iter().map(Write::as_change).collect::<Vec<_>>())
        .unwrap();
}

fn scanned(store: &dyn Store, from: &str, to: Option<&str>, most: usize) -> Vec<(String, String)> {
    let mut seen = Vec::new();
    store
        .scan(
            Family::Pool,
            from.as_bytes(),
            to.map(str::as_bytes),
            &mut |key, value| {
                seen.push((
                    String::from_utf8(key.to_vec()).unwrap(),
                    String::from_utf8(value.to_vec()).unwrap(),
                ));
                seen.len() < most
            },
        )
        .unwrap();
    seen
}

/// What every store must do, whatever it is made of.
fn behaves(store: &dyn Store) {
    write(
        store,
        &[
            put(Family::Pool, "a", "1"),
            put(Family::Pool, "b", "2"),
            put(Family::Pool, "c", "3"),
            put(Family::Ledger, "b", "x"),
        ],
    );
    assert_eq!(store.get(Family::Pool, b"b").unwrap().as_deref(), Some(&b"2"[..]));
    assert_eq!(store.get(Family::Ledger, b"b").unwrap().as_deref(), Some(&b"x"[..]));
    assert_eq!(store.get(Family::Ledger, b"a").unwrap(), None);
    assert_eq!(store.get_durable(Family::Pool, b"b").unwrap(), None, "not flushed yet");
    store.flush().unwrap();
    assert_eq!(
        store.get_durable(Family::Pool, b"b").unwrap().as_deref(),
        Some(&b"2"[..])
    );

    // Later entries of one write win over earlier ones, deletions too.
    write(
        store,
        &[
            put(Family::Pool, "b", "4"),
            delete(Family::Pool, "c"),
            delete(Family::Pool, "d"),
            put(Family::Pool, "d", "5"),
        ],
    );
    assert_eq!(
        store.get_durable(Family::Pool, b"b").unwrap().as_deref(),
        Some(&b"2"[..]),
        "durable is the older value"
    );
    assert_eq!(
        store.get_durable(Family::Pool, b"c").unwrap().as_deref(),
        Some(&b"3"[..])
    );
    let all = [("a", "1"), ("b", "4"), ("d", "5")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(scanned(store, "", None, 9), all);
    assert_eq!(scanned(store, "b", None, 9), all[1..]);
    assert_eq!(scanned(store, "aa", Some("d"), 9), all[1..2]);
    assert_eq!(scanned(store, "", None, 2), all[..2]);
    store.flush().unwrap();
    assert_eq!(store.get_durable(Family::Pool, b"c").unwrap(), None);
}

#[test]
fn memory_behaves() {
    behaves(&Memory::new());
}

#[test]
fn rocks_behaves() {
    let directory = tempfile::tempdir().unwrap();
    behaves(&Rocks::open(directory.path(), &rocks::Settings::default()).unwrap());
}

#[test]
fn memory_forgets_at_a_power_cut_what_was_not_flushed() {
    let store = Memory::new();
    write(&store, &[put(Family::Pool, "a", "1"), put(Family::Pool, "b", "1")]);
    store.flush().unwrap();
    write(
        &store,
        &[
            put(Family::Pool, "a", "2"),
            delete(Family::Pool, "b"),
            put(Family::Pool, "c", "1"),
        ],
    );
    let survivor = store.power_cut();
    assert_eq!(
        scanned(&survivor, "", None, 9),
        [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "1".to_owned())]
    );
    assert!(store.flush().is_err(), "the old life is over");
}

#[test]
fn rocks_keeps_what_was_flushed() {
    let directory = tempfile::tempdir().unwrap();
    let store = Rocks::open(directory.path(), &rocks::Settings::default()).unwrap();
    write(&store, &[put(Family::Pool, "a", "1"), put(Family::Meta, "m", "1")]);
    store.flush().unwrap();
    drop(store);
    let store = Rocks::open(directory.path(), &rocks::Settings::default()).unwrap();
    assert_eq!(store.get(Family::Pool, b"a").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(
        store.get_durable(Family::Meta, b"m").unwrap().as_deref(),
        Some(&b"1"[..])
    );
}

#[test]
fn rocks_flushes_nothing_when_it_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let store = Rocks::open(directory.path(), &rocks::Settings::default()).unwrap();
    write(&store, &[put(Family::Pool, "a", "1")]);
    store.flush().unwrap();
    write(&store, &[put(Family::Pool, "b", "1"), put(Family::Meta, "m", "1")]);
    drop(store);
    let store = Rocks::open(directory.path(), &rocks::Settings::default()).unwrap();
    assert_eq!(store.get(Family::Pool, b"a").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(store.get(Family::Pool, b"b").unwrap(), None, "the log may not have it");
    assert_eq!(store.get(Family::Meta, b"m").unwrap(), None);
}

/// `RocksDB` works on threads of its own.
#[expect(
    clippy::disallowed_methods,
    reason = "a test waits for what must not happen, or happens elsewhere"
)]
fn pass_milliseconds(milliseconds: u64) {
    std::thread::sleep(std::time::Duration::from_millis(milliseconds));
}

#[test]
fn rocks_compacts_only_when_it_is_told_to() {
    let directory = tempfile::tempdir().unwrap();
    let store = Rocks::open(directory.path(), &rocks::Settings::default()).unwrap();
    store.compact(Compactions::Off).unwrap();
    let mut random = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(1);
    let value: Vec<u8> = (0..50_000).map(|_| rand::RngExt::random(&mut random)).collect();
    let rounds = |count: usize| {
        for _ in 0..count {
            // Two keys, so that files overlap: others are moved to the next level as they are.
            let change = |key| Change {
                family: Family::Pool,
                key,
                value: Some(&value[..]),
            };
            store.write(&[change(&b"a"[..]), change(&b"k"[..])]).unwrap();
            store.flush().unwrap();
        }
        pass_milliseconds(300);
    };
    // How often the values lie in the files.
    let copies = || store.compaction_bytes() / 100_000;
    let settles_at_one = || {
        for _ in 0..500 {
            if copies() == 1 {
                return;
            }
            pass_milliseconds(10);
        }
        panic!("the value lies there {} times", copies());
    };
    rounds(9);
    assert!(
        copies() >= 9,
        "compacted without having been told to: {} copies",
        copies()
    );
    store.compact(Compactions::On).unwrap();
    settles_at_one();
    rounds(2);
    assert!(
        copies() >= 3,
        "two new files are too few to compact for: {} copies",
        copies()
    );
    store.compact(Compactions::Eager).unwrap();
    settles_at_one();
    rounds(1);
    settles_at_one();
    store.compact(Compactions::Off).unwrap();
    rounds(9);
    assert!(
        copies() >= 10,
        "compacted although it was told not to: {} copies",
        copies()
    );
}

#[test]
fn rocks_does_not_flush_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let settings = rocks::Settings {
        flush_log_bytes: 8 << 20,
        ..rocks::Settings::default()
    };
    let store = Rocks::open(directory.path(), &settings).unwrap();
    let at_open = store.compaction_bytes();
    // Much more than the write buffers with which it was opened, and twice what the committer lets come together.
    let value = "x".repeat(1 << 20);
    for number in 0..48 {
        write(&store, &[put(Family::Concepts, &number.to_string(), &value)]);
    }
    pass_milliseconds(200);
    assert!(store.get_durable(Family::Concepts, b"0").unwrap().is_none());
    assert_eq!(store.compaction_bytes(), at_open, "no file was written");
}

#[test]
fn rocks_is_opened_once_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let first = Arc::new(Rocks::open(directory.path(), &rocks::Settings::default()).unwrap());
    let error = Rocks::open(directory.path(), &rocks::Settings::default())
        .err()
        .expect("the second is refused");
    assert!(error.to_string().contains("in use by another process"), "{error}");
    drop(first);
    Rocks::open(directory.path(), &rocks::Settings::default()).unwrap();
}

#[test]
fn numbers_and_names_are_for_ever() {
    let listed: Vec<_> = Family::ALL
        .iter()
        .map(|family| (u8::from(*family), family.name()))
        .collect();
    assert_eq!(
        listed,
        [
            (1, "concepts"),
            (2, "concept_index"),
            (3, "dots"),
            (4, "consensus"),
            (5, "pool"),
            (6, "ledger"),
            (7, "requests"),
            (8, "registry"),
            (9, "raft_log"),
            (10, "raft_state"),
            (11, "audit"),
            (12, "meta")
        ]
    );
    for family in Family::ALL {
        assert_eq!(Family::try_from(u8::from(family)), Ok(family));
    }
    assert_eq!(Family::try_from(0), Err(UnknownFamily(0)));
    assert_eq!(Family::try_from(13), Err(UnknownFamily(13)));
}

#[test]
fn a_prefix_ends_where_no_key_has_it() {
    assert_eq!(end_of_prefix(b"ab"), Some(b"ac".to_vec()));
    assert_eq!(end_of_prefix(&[1, 0xff, 0xff]), Some(vec![2]));
    assert_eq!(end_of_prefix(&[0xff, 0xff]), None);
    assert_eq!(end_of_prefix(b""), None);
}
