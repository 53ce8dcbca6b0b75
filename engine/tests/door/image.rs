//! Images: what raft owns goes over whole, and nothing else is touched.

use std::{collections::BTreeMap, fs};

use continuum_engine::{
    Batch, Durability, Engine, Mutation, Operation,
    clock::Timestamp,
    image::{self, Applied},
    keyspace::{
        NamespaceId,
        raft_state::{self, Installing, LogId, Vote},
    },
    ledger::{self, Action, Command, Idempotency, NodeId, Overlay, PoolConcept, Proposal, Transaction},
    store::{Family, Store as _, View},
    verify,
};
use serde_json::json;

use crate::node::*;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

fn rows(view: &dyn View, family: Family) -> Rows {
    let mut rows = Rows::new();
    view.scan(family, &[], None, &mut |key, value| {
        rows.insert(key.to_vec(), value.to_vec());
        true
    })
    .unwrap();
    rows
}

fn owned(engine: &Engine) -> Vec<Rows> {
    image::FAMILIES
        .iter()
        .map(|family| rows(engine.view(), *family))
        .collect()
}

fn pool(engine: &Engine) -> BTreeMap<Vec<u8>, Vec<String>> {
    let mut pool = BTreeMap::new();
    engine
        .concepts(NamespaceId::SHARED, b"", None, &mut |key, state| {
            pool.insert(key.to_vec(), values(&state).into_iter().map(str::to_owned).collect());
            true
        })
        .unwrap();
    pool
}

fn applied(index: u64) -> Applied {
    Applied {
        last: Some(LogId {
            term: 1,
            leader: 1,
            index,
        }),
        ..Applied::default()
    }
}

/// Contributions `numbers`, applied as entry `index`.
fn contribute(engine: &Engine, index: u64, numbers: std::ops::Range<u64>) {
    let mut overlay = Overlay::new(engine.view(), "cluster");
    for number in numbers {
        let text = "x".repeat(300);
        let concept = json!({ "number": number.to_string(), "text": text });
        let command = Command::Contribute {
            node: NodeId::new(format!("member {}", number % 700)).unwrap(),
            concepts: vec![PoolConcept::new(concept, &continuum_engine::json::Anonymiser::default()).unwrap()],
        };
        let proposal = Proposal {
            at: Timestamp(number),
            idempotency: None,
            command,
        };
        ledger::apply(&mut overlay, proposal).unwrap();
        ledger::apply(&mut overlay, key(number)).unwrap();
    }
    let mut batch = overlay.into_batch();
    batch
        .mutations
        .push(Mutation::Raft(vec![raft_state::put(&applied(index))]));
    engine.commit(batch, Durability::Buffered).wait().unwrap();
}

/// A put of a key of a namespace that replicates by consensus.
fn key(number: u64) -> Proposal {
    let put = Action::Put {
        key: format!("key {number}"),
        json: number.to_string(),
    };
    let transaction = Transaction {
        namespace: NamespaceId::FIRST_USER,
        compares: Vec::new(),
        then: vec![put],
        otherwise: Vec::new(),
    };
    let idempotency = Idempotency {
        caller: String::new(),
        key: number.to_string(),
        body: [7; 32],
    };
    Proposal {
        at: Timestamp(number),
        idempotency: Some(idempotency),
        command: Command::Transact(transaction),
    }
}

/// Two nodes of one cluster: the second is told that it is of the first's.
fn twins() -> (Node, Node) {
    let (a, b) = (Node::new("a"), Node::new("b"));
    let cluster = a.open().cluster();
    drop(b.open());
    let mut identity: continuum_engine::keyspace::meta::Identity =
        continuum_engine::keyspace::meta::read(&*b.store, b"identity")
            .unwrap()
            .unwrap();
    identity.cluster = cluster;
    let identity = continuum_engine::keyspace::codec::encode(&identity);
    b.store.put(Family::Meta, b"identity", &identity);
    b.store.flush().unwrap();
    let fresh = Node {
        log: wal::storage::Faulty::new(),
        ..b
    };
    (a, fresh)
}

fn settings(mut node: Node) -> Node {
    node.settings.segment_bytes = 8 << 20;
    node.settings.flush_log_bytes = 4 << 20;
    node
}

#[test]
fn an_image_replaces_what_raft_owns_and_leaves_everything_else() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("image");
    let (a, b) = twins();
    let (a, b) = (settings(a).open(), settings(b).open());
    for index in 0..5 {
        contribute(&a, index, index * 700..(index + 1) * 700);
    }
    // Of another past: rows that must go, concepts that stay beside.
    contribute(&b, 9, 100_000..100_050);
    write(&b, put("mesh", "\"mine\""));
    let vote = Vote {
        term: 7,
        node: 2,
        committed: false,
    };
    write(&b, Batch::one(Mutation::Raft(vec![raft_state::put(&vote)])));
    let (actor, key, pool_before) = (b.actor(), *b.context_key(), pool(&b));

    let digest = a.export_image(&path).unwrap();
    assert_eq!(digest.applied, applied(4));
    assert_eq!(
        (digest.sum, &digest),
        (image::sum(&path).unwrap(), &a.image_digest().unwrap())
    );
    assert_eq!(image::check(&path).unwrap(), applied(4));
    assert_eq!(image::install(&b, &path).unwrap(), applied(4));
    assert_eq!(owned(&a), owned(&b));
    assert!(owned(&b)[1].len() > 700);
    let held = |engine: &Engine, key: &str| {
        let row = ledger::rows::get(engine.view(), NamespaceId::FIRST_USER, key.as_bytes()).unwrap();
        row.map(|row| (row.modified, row.json))
    };
    assert_eq!(held(&b, "key 3499"), Some((3_500, "3499".to_owned())));
    assert_eq!(
        (held(&b, "key 100001"), ledger::rows::revision(b.view()).unwrap()),
        (None, 3_500)
    );
    let mut expected = pool_before;
    expected.extend(pool(&a));
    assert_eq!(pool(&b), expected);
    assert_eq!(read(&b, "mesh"), ["\"mine\""]);
    assert_eq!(raft_state::read(b.view()).unwrap(), Some(vote));
    assert_eq!(raft_state::read(b.view()).unwrap(), Some(applied(4)));
    assert_eq!(raft_state::read::<Installing>(b.view()).unwrap(), None);
    assert_eq!((b.actor(), *b.context_key()), (actor, key));
    // Once more: nothing changes, the image of the copy is that of the original.
    image::install(&b, &path).unwrap();
    assert_eq!(owned(&a), owned(&b));
}

#[test]
fn an_install_that_is_cut_short_anywhere_is_begun_again() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("image");
    let (a, b) = twins();
    let a = a.open();
    contribute(&a, 3, 0..40);
    a.export_image(&path).unwrap();
    let expected = owned(&a);
    let mut cut = 0;
    let mut node = b;
    for syncs in 0..6 {
        let engine = node.open();
        contribute(&engine, 1, 1_000 + syncs * 100..1_020 + syncs * 100);
        write(&engine, put("mesh", &syncs.to_string()));
        node.log.fail_syncs_after(syncs);
        // It is removed once it is in.
        let incoming = place.path().join("incoming");
        fs::copy(&path, &incoming).unwrap();
        let installed = image::install(&engine, &incoming);
        let after = node.power_cut(syncs);
        drop(engine);
        node = after;
        let engine = node.open();
        let unfinished = raft_state::read::<Installing>(engine.view()).unwrap().is_some();
        cut += u64::from(unfinished);
        let resumed = image::install_unfinished(&engine, place.path()).unwrap();
        assert_eq!(resumed.is_some(), unfinished);
        assert_eq!(incoming.exists(), !unfinished, "after {syncs} syncs");
        if unfinished || installed.is_ok() {
            assert_eq!(owned(&engine), expected, "after {syncs} syncs");
            assert_eq!(raft_state::read(engine.view()).unwrap(), Some(applied(3)));
        }
        assert_eq!(read(&engine, "mesh"), [syncs.to_string()]);
        drop(engine);
        let after = node.power_cut(syncs);
        node = after;
    }
    assert!(cut > 0, "none was cut short");
}

#[test]
fn a_damaged_or_foreign_image_changes_nothing() {
    let place = tempfile::tempdir().unwrap();
    let (path, damaged) = (place.path().join("image"), place.path().join("damaged"));
    let (a, b) = twins();
    let (a, b) = (a.open(), b.open());
    contribute(&a, 3, 0..40);
    contribute(&b, 1, 50..60);
    a.export_image(&path).unwrap();
    let before = owned(&b);
    let bytes = fs::read(&path).unwrap();
    // Where a chunk ends.
    let mut borders = vec![0];
    while let Some(length) = bytes
        .get(*borders.last().unwrap() as usize..)
        .and_then(|rest| rest.first_chunk())
    {
        borders.push(borders.last().unwrap() + 12 + u64::from(u32::from_le_bytes(*length)));
    }
    assert_eq!(borders.last(), Some(&image::sound_bytes(&path).unwrap()));
    for offset in (0..bytes.len()).step_by(97) {
        let mut flipped = bytes.clone();
        flipped[offset] ^= 1;
        fs::write(&damaged, &flipped).unwrap();
        let refused = image::install(&b, &damaged).unwrap_err();
        assert!(
            matches!(refused, image::Error::Damaged { .. }),
            "at {offset}: {refused}"
        );
        let sound = image::sound_bytes(&damaged).unwrap();
        assert!(
            sound <= offset as u64 && borders.contains(&sound),
            "{sound} of {offset}"
        );
        fs::write(&damaged, &bytes[..offset]).unwrap();
        assert!(image::install(&b, &damaged).is_err(), "cut to {offset}");
        assert_eq!(image::sound_bytes(&damaged).unwrap(), sound, "cut to {offset}");
    }
    let stranger = Node::new("c");
    let stranger = stranger.open();
    let refused = image::install(&stranger, &path).unwrap_err();
    assert!(matches!(refused, image::Error::Foreign { .. }), "{refused}");
    assert_eq!(owned(&b), before);
    assert_eq!(raft_state::read::<Installing>(b.view()).unwrap(), None);
}

/// A node in whose families an install stands still.
fn installing(engine: &Engine) {
    let row = Installing {
        file: "image".to_owned(),
        then: applied(3),
    };
    write(engine, Batch::one(Mutation::Raft(vec![raft_state::put(&row)])));
}

#[test]
fn half_a_ledger_is_not_exported_and_what_to_do_without_the_file_is_told() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("image");
    let node = Node::new("a");
    let engine = node.open();
    contribute(&engine, 1, 0..10);
    installing(&engine);
    let refused = engine.export_image(&place.path().join("other")).unwrap_err();
    assert!(matches!(refused, image::Error::Installing), "{refused}");
    assert!(refused.to_string().contains("try again"), "{refused}");
    let before = owned(&engine);
    let refused = image::install_unfinished(&engine, place.path()).unwrap_err();
    assert!(
        matches!(&refused, image::Error::Gone { path: gone } if *gone == path),
        "{refused}"
    );
    assert!(refused.to_string().contains("put the file back, or"), "{refused}");
    assert_eq!(owned(&engine), before);
    assert!(raft_state::read::<Installing>(engine.view()).unwrap().is_some());
    // What lies there under the name of the one that was begun is another.
    let other = Node::new("b").open();
    contribute(&other, 2, 0..10);
    other.export_image(&path).unwrap();
    let refused = image::install_unfinished(&engine, place.path()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!(
            "{} is missing: it was being put in place when the node ended, and without it the ledger here is half of one state and \
             half of another: put the file back, or begin this node anew in an empty data directory",
            path.display()
        )
    );
    assert_eq!(owned(&engine), before);
    assert!(path.exists(), "it is not this node's to remove");
}

#[test]
fn half_a_ledger_is_not_verified_as_a_whole_one() {
    let engine = Node::new("a").open();
    contribute(&engine, 1, 0..10);
    // Syncs what was contributed.
    write(&engine, put("mesh", "1"));
    let verified = || engine.verify(&mut |_, _| true);
    assert_eq!(verified().unwrap().damage, []);
    installing(&engine);
    // The chain of what is going to be put in place begins anew.
    let head = continuum_engine::keyspace::audit::head();
    let gone = continuum_engine::store::Write {
        family: Family::Audit,
        key: head,
        value: None,
    };
    write(&engine, Batch::one(Mutation::Apply(vec![gone])));
    match verified() {
        Err(verify::Error::Occupied(occupied)) => assert_eq!(occupied.by, Operation::Installation),
        other => panic!("{other:?}"),
    }
    write(
        &engine,
        Batch::one(Mutation::Raft(vec![raft_state::delete::<Installing>()])),
    );
    let damage = verified().unwrap().damage;
    assert!(
        damage.len() == 1 && damage[0].what.contains("the chain is broken"),
        "{damage:?}"
    );
}

/// The directories of `/proc` cannot be synced.
#[cfg(target_os = "linux")]
#[test]
fn a_file_whose_name_may_not_last_is_not_begun_with() {
    use std::os::fd::AsRawFd as _;

    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("image");
    let (a, b) = twins();
    let (a, b) = (a.open(), b.open());
    contribute(&a, 3, 0..10);
    a.export_image(&path).unwrap();
    let file = fs::File::open(&path).unwrap();
    let path = std::path::PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    image::check(&path).unwrap();
    let refused = image::install(&b, &path).unwrap_err();
    assert!(matches!(refused, image::Error::Io { .. }), "{refused}");
    assert_eq!(raft_state::read::<Installing>(b.view()).unwrap(), None);
}
