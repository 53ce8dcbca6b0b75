//! Damage planted anywhere is named, and nothing else is.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use continuum_engine::{
    Batch, Durability, Engine, Environment, Mutation, Request, Settings,
    clock::Stamp,
    crdt::{Kind, Operation},
    keyspace::{
        audit, codec, concept_index, concepts,
        raft_state::{self, Applied, Installing},
    },
    store::{Change, Family, Store as _, Table, Write, rocks::Reader},
    verify::{self, Damage, Report},
};

use crate::node::*;

const KEYS: u64 = 3_000;

fn settings() -> Settings {
    Settings {
        segment_bytes: 256 << 10,
        flush_log_bytes: 256 << 10,
        free_soft_bytes: 0,
        free_hard_bytes: 0,
        ..Settings::default()
    }
}

fn open(directory: &Path) -> Engine {
    let environment = Environment::in_directory(directory, &settings(), "a", hand(), entropy).unwrap();
    Engine::open(settings(), environment).unwrap()
}

fn key(number: u64) -> String {
    format!("k{number:05}")
}

/// A node with several tables and segments, killed: the last records are only in the log.
fn killed() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let engine = open(place.path());
    let _keep = engine.follow("keep", wal::Lsn::ZERO).unwrap();
    for number in 0..KEYS {
        let json = format!("\"{number} {}\"", "x".repeat(300 + (number % 7) as usize));
        write(&engine, put(&key(number), &json));
    }
    drop(engine);
    place
}

/// Every file, and what is in it.
fn content(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(content(&path));
        } else {
            files.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    files
}

fn look(directory: &Path) -> Report {
    let before = content(directory);
    let mut last = (0, 0);
    let report = verify::directory(directory, &mut |done, total| {
        assert!(done >= last.0 && done <= total);
        last = (done, total);
        true
    });
    assert_eq!(last.0, last.1);
    let after = content(directory);
    let changed: Vec<_> = before
        .iter()
        .filter(|(path, bytes)| after.get(*path) != Some(bytes))
        .map(|(path, _)| path)
        .collect();
    assert!(
        changed.is_empty() && after.len() == before.len(),
        "looking changed {changed:?}"
    );
    report.unwrap()
}

fn tables(directory: &Path, family: Family) -> Vec<Table> {
    Reader::open(&directory.join("db")).unwrap().tables(family).unwrap()
}

fn flip(path: &Path, offset: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn told(damage: &[Damage]) -> String {
    damage.iter().map(|damage| format!("{damage}\n")).collect()
}

fn keys_of(report: &Report, family: Family) -> u64 {
    report.families[family.index()].keys
}

#[test]
fn a_sound_directory_is_counted_and_left_as_it_is() {
    let place = killed();
    let report = look(place.path());
    assert_eq!(report.damage, [], "{}", told(&report.damage));
    assert_eq!((report.log.records, report.log.last.0), (KEYS, KEYS));
    assert!(report.log.segments > 3);
    let flushed = keys_of(&report, Family::Concepts);
    assert!(flushed > KEYS / 2 && flushed < KEYS, "{flushed}");
    assert_eq!(flushed, keys_of(&report, Family::ConceptIndex));
    assert_eq!(flushed, keys_of(&report, Family::Dots));
    open(place.path()).close().unwrap();
    assert_eq!(keys_of(&look(place.path()), Family::Concepts), KEYS);
    let told = verify::directory(&place.path().join("nowhere"), &mut |_, _| true).unwrap_err();
    assert!(told.to_string().contains("is no data directory"), "{told}");
}

#[test]
fn what_request_ids_and_expiries_leave_is_no_damage() {
    let place = tempfile::tempdir().unwrap();
    let engine = open(place.path());
    for number in 0..3 {
        let id = format!("a-request-of-some-length-{number}");
        let body = [number; 16];
        write(
            &engine,
            Batch {
                request: Some(Request { id, body }),
                ..put(&key(number.into()), "1")
            },
        );
    }
    let passing = Operation::Put {
        kind: Kind::Register,
        json: "1".to_owned(),
        expires: Some(Stamp(u64::MAX >> 1)),
    };
    write(&engine, Batch::one(local("passing", passing)));
    let online = engine.verify(&mut |_, _| true).unwrap();
    assert_eq!(online.damage, [], "{}", told(&online.damage));
    engine.close().unwrap();
    let report = look(place.path());
    assert_eq!(report.damage, [], "{}", told(&report.damage));
    // Three with a request each, the head, the expiry, and what every node has.
    assert!(keys_of(&report, Family::Meta) >= 3 * 2 + 1 + 1 + 5);
}

#[test]
fn an_install_that_was_cut_short_is_told() {
    let place = tempfile::tempdir().unwrap();
    let engine = open(place.path());
    let row = Installing {
        file: "image-7".to_owned(),
        then: Applied::default(),
    };
    // A head without a chain: what is there is half of one ledger and half of another.
    let head = Write {
        family: Family::Audit,
        key: audit::head(),
        value: Some(codec::encode(&audit::Head {
            sequence: 9,
            hash: [9; 32],
        })),
    };
    let batch = Batch::of(vec![
        Mutation::Apply(vec![head]),
        Mutation::Raft(vec![raft_state::put(&row)]),
    ]);
    engine.commit(batch, Durability::Synced).wait().unwrap();
    engine.close().unwrap();
    let report = look(place.path());
    let all = told(&report.damage);
    assert_eq!(report.damage.len(), 1, "{all}");
    assert!(all.contains("the snapshot image-7 was being put in place"), "{all}");
}

#[test]
fn damage_in_sealed_and_active_segments_is_named() {
    let place = killed();
    let segments: Vec<PathBuf> = content(&place.path().join("log"))
        .into_keys()
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    let (sealed, active) = (&segments[0], segments.last().unwrap());
    flip(sealed, 4096 + 60);
    flip(active, 4096 + 60);
    let report = look(place.path());
    assert_eq!(report.damage.len(), 2, "{}", told(&report.damage));
    for (damage, path) in report.damage.iter().zip([sealed, active]) {
        let name = path.file_name().unwrap().to_string_lossy();
        assert_eq!(damage.place, format!("log/{name}, byte 4096"));
    }
    assert_eq!(report.damage[0].key.as_deref(), Some("record 1"));
    assert_eq!(report.log.records, KEYS - 2, "every other record is read");
}

#[test]
fn damage_in_tables_is_named_with_the_keys_it_hides() {
    let place = killed();
    let sound = keys_of(&look(place.path()), Family::Concepts);
    let tables = tables(place.path(), Family::Concepts);
    assert!(tables.len() >= 3, "{tables:?}");
    // A block in the middle of the first, the first block of the last.
    let path = |table: &Table| place.path().join("db").join(&table.file);
    flip(&path(&tables[0]), tables[0].bytes as usize / 3);
    let last = tables.last().unwrap();
    flip(&path(last), 100);
    let report = look(place.path());
    let all = told(&report.damage);
    // What the walk could not pass, and every key that is lost for it, by name.
    let is_key = |damage: &&Damage| damage.key.as_ref().is_some_and(|key| !key.starts_with("keys "));
    let lost: Vec<&Damage> = report.damage.iter().filter(is_key).collect();
    for table in [&tables[0], last] {
        let is_of_table = |damage: &&&Damage| damage.what.contains(&table.file) && damage.what.contains("offset");
        assert!(lost.iter().filter(is_of_table).count() > 0, "{all}");
    }
    assert!(report.damage.len() > lost.len() && report.damage.iter().all(|damage| damage.place == "family concepts"));
    let found = keys_of(&report, Family::Concepts);
    assert_eq!(found + lost.len() as u64, sound, "{all}");
    // A block holds some hundred of them.
    assert!(lost.len() < 1_000, "{all}");
    assert_eq!(keys_of(&report, Family::ConceptIndex), sound);
}

#[test]
fn a_missing_and_a_cut_table_are_named_and_the_others_read() {
    let place = killed();
    let of = |family| tables(place.path(), family);
    let (concepts, dots) = (of(Family::Concepts), of(Family::Dots));
    let path = |table: &Table| place.path().join("db").join(&table.file);
    let sound = keys_of(&look(place.path()), Family::ConceptIndex);
    fs::remove_file(path(&concepts[1])).unwrap();
    let cut = fs::read(path(&dots[0])).unwrap();
    fs::write(path(&dots[0]), &cut[..cut.len() - 10]).unwrap();
    let report = look(place.path());
    let told = told(&report.damage);
    for table in [&concepts[1], &dots[0]] {
        let place = format!("db/{}", table.file);
        assert!(report.damage.iter().any(|damage| damage.place == place), "{told}");
    }
    assert!(
        report.damage.iter().all(|damage| !damage.place.contains("index")),
        "{told}"
    );
    assert_eq!(keys_of(&report, Family::ConceptIndex), sound);
    let found = keys_of(&report, Family::Concepts);
    assert!(found > 0 && found < sound, "{found} of {sound}");
}

#[test]
fn a_log_that_is_gone_and_a_database_that_does_not_open_are_named() {
    let place = killed();
    let manifest = content(&place.path().join("db"))
        .into_keys()
        .find(|path| path.ends_with("CURRENT"))
        .unwrap();
    fs::remove_file(manifest).unwrap();
    fs::rename(place.path().join("log"), place.path().join("elsewhere")).unwrap();
    let report = look(place.path());
    let told = told(&report.damage);
    assert!(
        told.contains("the database cannot be opened") && told.contains("the log cannot be opened"),
        "{told}"
    );
    let place = killed();
    for path in content(&place.path().join("log")).into_keys() {
        fs::remove_file(path).unwrap();
    }
    let report = look(place.path());
    let told = self::told(&report.damage);
    assert!(told.contains("and the log ends at 0"), "{told}");
}

#[test]
fn a_running_node_is_verified_while_it_writes_and_names_what_the_disk_lost() {
    let place = killed();
    let engine = open(place.path());
    let done = AtomicBool::new(false);
    let mut reports = Vec::new();
    std::thread::scope(|scope| {
        let (engine, done) = (&engine, &done);
        scope.spawn(move || {
            let mut number = 0;
            while !done.load(Ordering::SeqCst) {
                number += 1;
                write(engine, put(&key(number % KEYS), &number.to_string()));
                write(engine, put(&format!("new {number}"), "1"));
            }
        });
        for _ in 0..5 {
            // Judged once the writer has ended, which a panic here would wait for.
            reports.push(engine.verify(&mut |_, _| true));
        }
        done.store(true, Ordering::SeqCst);
    });
    for report in reports.into_iter().map(Result::unwrap) {
        assert_eq!(report.damage, [], "{}", told(&report.damage));
        assert!(keys_of(&report, Family::Concepts) >= KEYS);
    }
    assert!(!place.path().join("verifying").exists());
    // Everything has been read once, so that what was in memory would hide what is on disk.
    for number in 0..KEYS {
        read(&engine, &key(number));
    }
    let table = tables(place.path(), Family::Concepts)
        .into_iter()
        .max_by_key(|table| table.bytes)
        .unwrap();
    // Written over in place: RocksDB has the file open.
    let path = place.path().join("db").join(&table.file);
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 200).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 200).unwrap();
    let report = engine.verify(&mut |_, _| true).unwrap();
    assert!(told(&report.damage).contains(&table.file), "{}", told(&report.damage));
    fs::create_dir(place.path().join("verifying")).unwrap();
    drop(engine);
    drop(open(place.path()));
    assert!(
        !place.path().join("verifying").exists(),
        "what a killed process left is removed"
    );
}

#[test]
fn rows_that_do_not_fit_together_are_named() {
    let node = Node::new("a");
    let engine = node.open();
    for number in 0..10 {
        write(&engine, put(&key(number), "1"));
    }
    let sealed = |sequence: u64, body: &[u8]| Write {
        family: Family::Audit,
        key: audit::sealed(sequence),
        value: Some(codec::encode(&audit::Sealed {
            hash: [1; 32],
            body: body.to_vec(),
        })),
    };
    assert_eq!(engine.verify(&mut |_, _| true).unwrap().damage, []);
    let row = |number| concepts::key(SPACE, key(number).as_bytes());
    let index = concept_index::key(&row(3));
    let missing = Change {
        family: Family::ConceptIndex,
        key: &index,
        value: None,
    };
    node.store.write(&[missing]).unwrap();
    node.store.put(Family::Concepts, &row(5), &[1, 9]);
    node.store.put(Family::Ledger, &[77], &[1]);
    let forged = engine.commit(Batch::one(Mutation::Apply(vec![sealed(1, b"")])), Durability::Synced);
    forged.wait().unwrap();
    let report = engine.verify(&mut |_, _| true).unwrap();
    let told = told(&report.damage);
    for expected in [
        "family concepts: namespace 16, key \"k00003\": its row in family concept_index is missing",
        "family concepts: namespace 16, key \"k00005\"",
        "family ledger: kind 77",
        "family audit: record 1: the chain is broken",
    ] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
}

#[test]
fn records_of_the_log_are_told_in_words() {
    let place = killed();
    let storage = wal::storage::Disk::for_reading(place.path().join("log")).unwrap();
    let mut shown = Vec::new();
    let inspection = wal::inspect::inspect(&storage, &mut |placed| {
        shown = verify::changes(placed.header, placed.body).unwrap();
        placed.lsn.0 < 2
    });
    assert_eq!(inspection.unwrap().segments.len(), 1);
    let families: Vec<Family> = shown.iter().map(|change| change.family).collect();
    assert!(
        families.contains(&Family::Concepts) && families.contains(&Family::Dots),
        "{shown:?}"
    );
    let concept = shown.iter().find(|change| change.family == Family::Concepts).unwrap();
    assert_eq!(concept.key, "namespace 16, key \"k00001\"");
    assert!(concept.value.as_ref().unwrap().contains("1 xxx"), "{concept:?}");
    assert!(verify::changes(9, b"").unwrap_err().contains("kind 9"));
}
