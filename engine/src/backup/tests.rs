#![allow(
    clippy::disallowed_methods,
    reason = "a test may start threads and draw chance from a seed"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    restore::{Step, restore_in_steps},
    *,
};
use crate::{
    Batch, Durability, Engine, Environment, Mutation, Settings, Supersede,
    clock::{Clock, Timestamp},
    crdt::{Kind, Operation},
    keyspace::{
        NamespaceId, codec,
        registry::{self, Invitations, Member, Role, Roster},
    },
    store::Family,
};
use rand::{RngExt as _, SeedableRng as _};

const SPACE: NamespaceId = NamespaceId::FIRST_USER;

struct Wall;

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_000_000)
    }
}

fn entropy() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn settings() -> Settings {
    Settings {
        segment_bytes: 1 << 20,
        flush_log_bytes: 256 << 10,
        free_soft_bytes: 0,
        free_hard_bytes: 0,
        ..Settings::default()
    }
}

fn open_as(directory: &Path, node: &str) -> Engine {
    let environment = Environment::in_directory(directory, &settings(), node, Arc::new(Wall), entropy).unwrap();
    Engine::open(settings(), environment).unwrap()
}

fn put(engine: &Engine, key: &str, json: &str) {
    let operation = Operation::Put {
        kind: Kind::Register,
        json: json.to_owned(),
        expires: None,
    };
    let write = Mutation::Local {
        namespace: SPACE,
        key: key.into(),
        operation,
        supersede: Supersede::All,
    };
    engine.commit(Batch::one(write), Durability::Synced).wait().unwrap();
}

fn rows(engine: &Engine, family: Family) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut rows = BTreeMap::new();
    let mut take = |key: &[u8], value: &[u8]| rows.insert(key.to_vec(), value.to_vec()).is_none();
    engine.view().scan(family, &[], None, &mut take).unwrap();
    rows
}

struct Backed {
    place: tempfile::TempDir,
    manifest: Manifest,
    concepts: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Backed {
    fn up() -> Backed {
        let place = tempfile::tempdir().unwrap();
        let engine = open_as(&place.path().join("node"), "a");
        for key in 0..300 {
            put(&engine, &format!("k{key}"), &format!("\"{key} {}\"", "x".repeat(200)));
        }
        let manifest = engine.checkpoint(&place.path().join("backup"), Timestamp(7)).unwrap();
        let concepts = rows(&engine, Family::Concepts);
        engine.close().unwrap();
        Backed {
            place,
            manifest,
            concepts,
        }
    }

    fn backup(&self) -> PathBuf {
        self.place.path().join("backup")
    }

    fn target(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn restore(&self, target: &Path, step: &mut dyn FnMut(Step) -> Result<(), Error>) -> Result<Restored, Error> {
        restore_in_steps(&self.backup(), target, &options(), &settings(), &mut |_, _| {}, step)
    }

    /// Opens what was restored and compares it with what was backed up.
    fn check(&self, target: &Path) {
        let engine = open_as(target, "a");
        assert_eq!(rows(&engine, Family::Concepts), self.concepts);
        assert_eq!(*engine.committed().borrow(), self.manifest.lsn);
        put(&engine, "new", "1");
        assert_eq!(engine.committed().borrow().0, self.manifest.lsn.0 + 1);
        engine.close().unwrap();
    }
}

fn options() -> Restore {
    Restore {
        node: None,
        rejoin: false,
        entropy,
    }
}

fn cut() -> Error {
    Error::Refused("the power was cut".to_owned())
}

fn files_of(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_of(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[test]
fn a_backup_lists_every_file_with_its_sum() {
    let backed = Backed::up();
    let backup = backed.backup();
    assert_eq!((backed.manifest.lsn.0, backed.manifest.made_at), (300, Timestamp(7)));
    assert_eq!(backed.manifest.node, "a");
    let mut progress = Vec::new();
    let verified = verify(&backup, &mut |done, total| progress.push((done, total))).unwrap();
    assert_eq!(verified, backed.manifest);
    assert!(progress.is_sorted() && progress.last() == Some(&(verified.bytes(), verified.bytes())));
    let files = files_of(&backup);
    assert_eq!(files.len(), verified.files.len() + 2, "{files:?}");
    assert!(!backed.place.path().join("backup.partial").exists());
    let json = fs::read(backup.join(MANIFEST)).unwrap();
    assert_eq!(json, verified.to_json().as_bytes());
    let line = fs::read_to_string(backup.join(MANIFEST_SUM)).unwrap();
    assert!(
        line.len() == 64 + 2 + 11 + 1 && line.ends_with("  backup.json\n"),
        "{line:?}"
    );
}

#[test]
fn each_flipped_bit_is_found_before_anything_is_written() {
    let backed = Backed::up();
    let backup = backed.backup();
    let files = files_of(&backup);
    let mut chance = rand::rngs::StdRng::seed_from_u64(20_260_722);
    // Every file a few times, however small: chosen by file first, then by place.
    for round in 0..1_000 {
        let path = &files[round % files.len()];
        let mut bytes = fs::read(path).unwrap();
        if bytes.is_empty() {
            continue;
        }
        let (place, bit) = (chance.random_range(0..bytes.len()), chance.random_range(0..8));
        bytes[place] ^= 1 << bit;
        fs::write(path, &bytes).unwrap();
        let target = backed.target("target");
        let refused = backed.restore(&target, &mut |_| Ok(())).unwrap_err();
        assert!(
            matches!(refused, Error::Damaged { .. }),
            "{} byte {place}: {refused}",
            path.display()
        );
        assert!(!target.exists(), "{} byte {place}", path.display());
        bytes[place] ^= 1 << bit;
        fs::write(path, &bytes).unwrap();
    }
    backed.restore(&backed.target("target"), &mut |_| Ok(())).unwrap();
    backed.check(&backed.target("target"));
}

#[test]
fn every_fault_is_named() {
    let backed = Backed::up();
    let backup = backed.backup();
    let tables: Vec<&FileSum> = backed
        .manifest
        .files
        .iter()
        .filter(|file| file.path.ends_with(".sst"))
        .collect();
    assert!(tables.len() >= 3, "{tables:?}");
    fs::remove_file(backup.join(&tables[0].path)).unwrap();
    let bytes = fs::read(backup.join(&tables[1].path)).unwrap();
    fs::write(backup.join(&tables[1].path), &bytes[1..]).unwrap();
    fs::write(backup.join("db/stray"), "").unwrap();
    fs::write(backup.join("stray"), "").unwrap();
    let Err(Error::Damaged { faults, .. }) = verify(&backup, &mut |_, _| {}) else {
        panic!("not found");
    };
    let told: Vec<String> = faults.iter().map(Fault::to_string).collect();
    let expected = [
        "db/stray does not belong to it".to_owned(),
        "stray does not belong to it".to_owned(),
        format!("{} is missing", tables[0].path),
        format!(
            "{} has {} bytes and not {}",
            tables[1].path,
            bytes.len() - 1,
            bytes.len()
        ),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_restore_cut_after_any_step_is_taken_up_again() {
    let backed = Backed::up();
    let mut steps = Vec::new();
    backed
        .restore(&backed.target("whole"), &mut |step| {
            steps.push(step);
            Ok(())
        })
        .unwrap();
    backed.check(&backed.target("whole"));
    assert!(steps.len() > 10, "{steps:?}");
    for (cut_at, last) in steps.iter().enumerate() {
        let target = backed.target(&format!("cut{cut_at}"));
        let mut taken = 0;
        let cut_short = backed.restore(&target, &mut |_| {
            taken += 1;
            if taken > cut_at { Err(cut()) } else { Ok(()) }
        });
        assert!(cut_short.is_err());
        let began = target.exists();
        assert_eq!(began, cut_at > 0, "nothing is written before it is verified");
        let finished = *last == Step::Unmarked;
        if began && !finished {
            let refused = Environment::in_directory(&target, &settings(), "a", Arc::new(Wall), entropy);
            let told = refused.err().expect("half a restore was opened").to_string();
            assert!(told.contains("run the same restore again"), "{told}");
        }
        if !finished {
            let restored = backed.restore(&target, &mut |_| Ok(())).unwrap();
            assert_eq!(restored.resumed, began);
        }
        backed.check(&target);
        let mut names: Vec<_> = fs::read_dir(&target)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["db", "log", "node-id"]);
    }
}

#[test]
fn a_restore_cut_within_a_file_is_taken_up_again() {
    let backed = Backed::up();
    let target = backed.target("target");
    let mut copied = 0;
    backed
        .restore(&target, &mut |step| {
            copied += u32::from(step == Step::CopiedFile);
            if copied == 3 { Err(cut()) } else { Ok(()) }
        })
        .unwrap_err();
    // Half of a file, and one with a hole.
    let files = files_of(&target.join("db.copy"));
    let half = fs::read(&files[0]).unwrap();
    fs::write(&files[0], &half[..half.len() / 2]).unwrap();
    let mut holed = fs::read(&files[1]).unwrap();
    holed[3] ^= 1;
    fs::write(&files[1], holed).unwrap();
    assert!(backed.restore(&target, &mut |_| Ok(())).unwrap().resumed);
    backed.check(&target);
}

#[test]
fn a_target_with_something_in_it_is_refused_and_left_alone() {
    let backed = Backed::up();
    let target = backed.target("target");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("precious"), "1").unwrap();
    let told = backed.restore(&target, &mut |_| Ok(())).unwrap_err().to_string();
    assert!(told.contains("is not empty, precious is in it"), "{told}");
    assert_eq!(files_of(&target), [target.join("precious")]);
    fs::remove_file(target.join("precious")).unwrap();
    // The lock of whoever restores.
    fs::write(target.join("LOCK"), "1").unwrap();
    backed
        .restore(&target, &mut |step| {
            if step == Step::Copied { Err(cut()) } else { Ok(()) }
        })
        .unwrap_err();
    let another = Backed::up();
    let told = another.restore(&target, &mut |_| Ok(())).unwrap_err().to_string();
    assert!(told.contains("of another backup or with other options"), "{told}");
    let rejoining = Restore {
        rejoin: true,
        ..options()
    };
    let (mut quiet, mut whole) = (|_, _| {}, |_| Ok(()));
    let told = restore_in_steps(
        &backed.backup(),
        &target,
        &rejoining,
        &settings(),
        &mut quiet,
        &mut whole,
    );
    let told = told.unwrap_err().to_string();
    assert!(told.contains("with other options"), "{told}");
    backed.restore(&target, &mut |_| Ok(())).unwrap();
    backed.check(&target);
    let told = backed.restore(&target, &mut |_| Ok(())).unwrap_err().to_string();
    assert!(told.contains("is not empty"), "{told}");
}

/// What a member of a cluster has in its registry.
fn of_a_cluster() -> [(Vec<u8>, Vec<u8>); 2] {
    let roster = Roster {
        members: vec![Member {
            name: "a".to_owned(),
            voter: 1,
            address: "a:1".to_owned(),
            role: Role::Voter,
            since: Timestamp(1),
        }],
    };
    [
        (registry::roster(), codec::encode(&roster)),
        (registry::invitations(), codec::encode(&Invitations::default())),
    ]
}

#[test]
fn it_lives_on_as_another_and_forgets_its_votes() {
    let backed = Backed::up();
    let engine = open_as(&backed.target("node"), "a");
    let votes: Vec<crate::store::Write> = (0..2_500_u32)
        .map(|number| crate::store::Write {
            family: if number == 0 {
                Family::RaftState
            } else {
                Family::RaftLog
            },
            key: number.to_be_bytes().to_vec(),
            value: Some(vec![1]),
        })
        .collect();
    let of_the_cluster = of_a_cluster();
    let put = |(key, value): &(Vec<u8>, Vec<u8>)| crate::store::Write {
        family: Family::Registry,
        key: key.clone(),
        value: Some(value.clone()),
    };
    let members = Mutation::Apply(of_the_cluster.iter().map(put).collect());
    engine
        .commit(Batch::of(vec![members, Mutation::Raft(votes)]), Durability::Synced)
        .wait()
        .unwrap();
    let (actor, cluster, key) = (engine.actor(), engine.cluster(), *engine.context_key());
    engine.checkpoint(&backed.target("second"), Timestamp(8)).unwrap();
    engine.close().unwrap();
    drop(engine);
    for rejoin in [false, true] {
        let target = backed.target(&format!("rejoin {rejoin}"));
        let options = Restore {
            node: Some("b".to_owned()),
            rejoin,
            entropy,
        };
        let restored = restore(&backed.target("second"), &target, &options, &settings(), &mut |_, _| {}).unwrap();
        assert_eq!(fs::read_to_string(target.join("node-id")).unwrap(), "b\n");
        let engine = open_as(&target, "b");
        assert_eq!(
            (&*engine.actor().node, engine.actor().incarnation),
            ("b", restored.incarnation)
        );
        assert_ne!(engine.actor().incarnation, actor.incarnation);
        assert_eq!(engine.cluster() == cluster, rejoin);
        assert_eq!(*engine.context_key() == key, rejoin);
        assert!(rows(&engine, Family::RaftLog).is_empty() && rows(&engine, Family::RaftState).is_empty());
        assert_eq!(rows(&engine, Family::Concepts), backed.concepts);
        // A cluster of its own has none of the members of the old one.
        let kept = if rejoin {
            BTreeMap::from(of_the_cluster.clone())
        } else {
            BTreeMap::new()
        };
        assert_eq!(rows(&engine, Family::Registry), kept);
        let early = engine.follow("watcher", wal::Lsn(5)).map(|_| ());
        assert!(
            matches!(early, Err(crate::FollowError::Log(wal::Error::Retired { .. }))),
            "a watcher of the past must begin anew: {early:?}"
        );
        engine.close().unwrap();
    }
}

#[test]
fn what_is_in_the_way_of_a_backup_is_refused() {
    let backed = Backed::up();
    let engine = open_as(&backed.target("node"), "a");
    let told = engine
        .checkpoint(&backed.backup(), Timestamp(8))
        .unwrap_err()
        .to_string();
    assert!(told.contains("is there already"), "{told}");
    let partial = backed.target("next.partial");
    fs::create_dir_all(partial.join("db")).unwrap();
    fs::write(partial.join("db/half.sst"), "half").unwrap();
    fs::write(partial.join("letter"), "precious").unwrap();
    let told = engine
        .checkpoint(&backed.target("next"), Timestamp(8))
        .unwrap_err()
        .to_string();
    assert!(told.contains("letter"), "{told}");
    fs::remove_file(partial.join("letter")).unwrap();
    engine.checkpoint(&backed.target("next"), Timestamp(8)).unwrap();
    assert!(!partial.exists(), "what was cut short is cleared away");
    verify(&backed.target("next"), &mut |_, _| {}).unwrap();
    put(&engine, "after", "1");
    assert_eq!(engine.committed().borrow().0, 301);
    engine.close().unwrap();
    let told = engine
        .checkpoint(&backed.target("late"), Timestamp(9))
        .unwrap_err()
        .to_string();
    assert!(told.contains("stopped"), "{told}");
    assert!(!backed.target("late").exists() && !backed.target("late.partial").exists());
}

#[test]
fn hostile_manifests_are_refused() {
    let backed = Backed::up();
    let json = fs::read_to_string(backed.backup().join(MANIFEST)).unwrap();
    for (from, to) in [
        ("\"db/", "\"../db/"),
        ("\"db/", "\"/db/"),
        ("\"db/", "\"db/../"),
        ("\"format\": 1", "\"format\": 2"),
        ("\"cluster\": \"", "\"cluster\": \"0"),
        ("\"lsn\"", "\"more\": 1, \"lsn\""),
    ] {
        let changed = json.replacen(from, to, 1);
        assert_ne!(changed, json);
        fs::write(backed.backup().join(MANIFEST), &changed).unwrap();
        fs::write(
            backed.backup().join(MANIFEST_SUM),
            Manifest::sum_line(changed.as_bytes()),
        )
        .unwrap();
        let refused = backed.restore(&backed.target("target"), &mut |_| Ok(())).unwrap_err();
        assert!(matches!(refused, Error::NotABackup { .. }), "{to}: {refused}");
        assert!(!backed.target("target").exists());
    }
}
