//! Transactions: compares, both branches, revisions, names, and nothing else touched.

use super::*;
use crate::{
    keyspace::{
        codec,
        consensus::Row,
        requests::transactions::{self as names, READ_BYTES_MAX},
    },
    ledger::transact::remember,
};

const SPACE: NamespaceId = NamespaceId(16);

/// A transaction on few keys that small numbers choose.
pub(super) fn any(who: u8, what: u64) -> Transaction {
    let key = |step: u64| format!("k{}", (what + step) % 5);
    let holds = match who % 5 {
        0 => Holds::Nothing,
        1 => Holds::Something,
        2 => Holds::Revision(what % 9),
        _ => Holds::Json((what % 3).to_string()),
    };
    let compare = Compare { key: key(0), holds };
    Transaction {
        namespace: NamespaceId(16 + u32::from(who % 2)),
        compares: Some(compare).filter(|_| who < 200).into_iter().collect(),
        then: vec![put(&key(1), &(what % 3).to_string()), delete(&key(2)), get(&key(3))],
        otherwise: (0..what % 3).map(|step| put(&key(step), "7")).collect(),
    }
}

fn put(key: &str, json: &str) -> Action {
    Action::Put {
        key: key.to_owned(),
        json: json.to_owned(),
    }
}

fn delete(key: &str) -> Action {
    Action::Delete { key: key.to_owned() }
}

fn get(key: &str) -> Action {
    Action::Get { key: key.to_owned() }
}

fn compare(key: &str, holds: Holds) -> Compare {
    Compare {
        key: key.to_owned(),
        holds,
    }
}

fn plain(then: Vec<Action>) -> Transaction {
    Transaction {
        namespace: SPACE,
        compares: Vec::new(),
        then,
        otherwise: Vec::new(),
    }
}

fn name(key: &str, body: u8) -> Idempotency {
    Idempotency {
        caller: String::new(),
        key: key.to_owned(),
        body: [body; 32],
    }
}

impl World {
    fn transact(&mut self, transaction: Transaction) -> Transacted {
        match self.propose(Command::Transact(transaction)) {
            Outcome::Transacted(transacted) => transacted,
            other => panic!("a transaction was decided as {other:?}"),
        }
    }

    fn named(&mut self, name: Idempotency, transaction: Transaction) -> (Outcome, bool) {
        let proposal = Proposal {
            idempotency: Some(name),
            ..self.proposal(Command::Transact(transaction))
        };
        let Decision { outcome, repeated } = self.decide(vec![proposal]).0.remove(0);
        (outcome, repeated)
    }

    fn row(&self, key: &str) -> Option<Row> {
        rows::get(self, SPACE, key.as_bytes()).expect("a sound store")
    }

    fn json(&self, key: &str) -> Option<String> {
        self.row(key).map(|row| row.json)
    }

    fn names(&self) -> usize {
        let of_transactions = |key: &[u8]| key[0] > 5;
        let keys = self.records.keys();
        keys.filter(|(family, key)| *family == Family::Requests && of_transactions(key))
            .count()
    }
}

#[test]
fn puts_and_deletes_count_revisions_and_versions() {
    let mut world = World {
        now: 5,
        ..World::default()
    };
    let first = world.transact(plain(vec![put("a", "1"), put("b", "{\"x\": 1.0}")]));
    let made = Performed::Put { created: 1, version: 1 };
    assert_eq!(
        (first.revision, first.failed, first.results),
        (1, None, vec![made.clone(), made])
    );
    world.now = 9;
    let second = world.transact(plain(vec![put("a", "2")]));
    assert_eq!(second.results, [Performed::Put { created: 1, version: 2 }]);
    let row = world.row("a").unwrap();
    let expected = Row {
        created: 1,
        modified: 2,
        version: 2,
        at: Timestamp(START + 9),
        json: "2".to_owned(),
    };
    assert_eq!(row, expected);
    assert_eq!(world.json("b").as_deref(), Some("{\"x\": 1.0}"), "as sent");

    let gone = world.transact(plain(vec![delete("a"), delete("never")]));
    let found = |found| Performed::Deleted { found };
    assert_eq!((gone.revision, gone.results), (3, vec![found(true), found(false)]));
    assert_eq!(world.row("a"), None, "no tombstone");
    world.transact(plain(vec![put("a", "3")]));
    let row = world.row("a").unwrap();
    assert_eq!((row.created, row.modified, row.version), (4, 4, 1));
    // The same text again is a write.
    assert_eq!(world.transact(plain(vec![put("a", "3")])).revision, 5);
    assert_eq!(rows::revision(&world).unwrap(), 5);
    // Another namespace has other keys and the same count.
    let elsewhere = Transaction {
        namespace: NamespaceId(17),
        ..plain(vec![get("a"), put("a", "0")])
    };
    let elsewhere = world.transact(elsewhere);
    let made = Performed::Put { created: 6, version: 1 };
    assert_eq!(
        (elsewhere.revision, elsewhere.results),
        (6, vec![Performed::Got(None), made])
    );
}

#[test]
fn every_compare_meets_every_key() {
    let mut world = World::default();
    world.transact(plain(vec![put("other", "0")]));
    world.transact(plain(vec![put("here", "{\"a\": 1}")]));
    let json = |text: &str| Holds::Json(text.to_owned());
    for (holds, here, gone) in [
        (Holds::Nothing, false, true),
        (Holds::Something, true, false),
        (Holds::Revision(2), true, false),
        (Holds::Revision(1), false, false),
        (Holds::Revision(3), false, false),
        (Holds::Revision(0), false, false),
        (json("{\"a\": 1}"), true, false),
        (json("{\"a\":1}"), false, false),
        (json(""), false, false),
    ] {
        for (key, expected, found) in [("here", here, Some(2)), ("gone", gone, None)] {
            let transaction = Transaction {
                compares: vec![compare("other", Holds::Revision(1)), compare(key, holds.clone())],
                otherwise: vec![get("other")],
                ..plain(vec![get("here"), get("gone")])
            };
            let decided = world.transact(transaction);
            let failed = (!expected).then_some(Failed { compare: 1, found });
            assert_eq!(decided.failed, failed, "{key} {holds:?}");
            assert_eq!(decided.results.len(), if expected { 2 } else { 1 });
            assert_eq!(decided.revision, 2, "reads count for nothing");
        }
    }
}

#[test]
fn a_transaction_is_whole_or_not_there_and_its_steps_see_each_other() {
    let mut world = World::default();
    world.transact(plain(vec![put("a", "1"), put("b", "1")]));
    let transfer = |expected: u64| Transaction {
        compares: vec![
            compare("a", Holds::Revision(expected)),
            compare("b", Holds::Revision(expected)),
        ],
        otherwise: vec![put("lost", "1"), delete("lost"), get("lost")],
        ..plain(vec![
            put("a", "0"),
            put("b", "2"),
            get("a"),
            delete("b"),
            get("b"),
            put("b", "3"),
        ])
    };
    let decided = world.transact(transfer(1));
    assert_eq!(decided.failed, None);
    let Performed::Got(Some(read)) = &decided.results[2] else {
        panic!("{decided:?}")
    };
    assert_eq!((read.json.as_deref(), read.modified, read.version), (Some("0"), 2, 2));
    assert_eq!(decided.results[3], Performed::Deleted { found: true });
    assert_eq!(decided.results[4], Performed::Got(None));
    assert_eq!(decided.results[5], Performed::Put { created: 2, version: 1 });
    let both = |world: &World| (world.row("a").unwrap().modified, world.row("b").unwrap().modified);
    assert_eq!(both(&world), (2, 2), "one revision for all");

    let decided = world.transact(transfer(1));
    let failed = Failed {
        compare: 0,
        found: Some(2),
    };
    assert_eq!(decided.failed, Some(failed));
    let expected = [
        Performed::Put { created: 3, version: 1 },
        Performed::Deleted { found: true },
        Performed::Got(None),
    ];
    assert_eq!(decided.results, expected);
    assert_eq!((both(&world), world.row("lost")), ((2, 2), None));
}

#[test]
fn what_changes_nothing_writes_nothing_and_nothing_is_audited() {
    let mut world = World::default();
    let refused = Transaction {
        compares: vec![compare("a", Holds::Something)],
        ..plain(vec![put("a", "1")])
    };
    for (number, transaction) in [plain(vec![delete("a")]), plain(vec![get("a")]), plain(vec![]), refused]
        .into_iter()
        .enumerate()
    {
        let proposal = Proposal {
            idempotency: Some(name(&number.to_string(), 1)),
            ..world.proposal(Command::Transact(transaction))
        };
        let (_, batch) = world.batch(vec![proposal]);
        assert!(batch.mutations.is_empty(), "{batch:?}");
    }
    world.register("a", false);
    let audited = |world: &World| {
        world
            .records
            .keys()
            .filter(|(family, _)| *family == Family::Audit)
            .count()
    };
    let before = audited(&world);
    world.transact(plain(vec![put("a", "1")]));
    assert_eq!(audited(&world), before);
    assert_eq!(time(&world).unwrap(), Timestamp(START));
    // What the ledger knows of accounts stays as it was.
    world.register("b", false);
    world.consume("b");
    assert!(crate::ledger::audit::verify(&world).is_ok());
}

#[test]
fn a_retry_is_told_the_same_and_does_nothing() {
    let mut world = World::default();
    let swap = |value: &str| Transaction {
        compares: vec![compare("a", Holds::Nothing)],
        otherwise: vec![put("lost", value)],
        ..plain(vec![put("a", value), get("a"), delete("a"), put("a", value)])
    };
    let (first, repeated) = world.named(name("k", 1), swap("1"));
    assert!(!repeated);
    world.transact(plain(vec![put("a", "9")]));
    world.now += 24 * HOUR - 1;
    let before = world.records.clone();
    assert_eq!(world.named(name("k", 1), swap("1")), (first.clone(), true));
    assert_eq!(
        world.named(name("k", 2), swap("2")),
        (Outcome::Refused(Refusal::KeyReused), false)
    );
    assert!(world.records == before);
    // Names of members' requests are others.
    let register = Proposal {
        idempotency: Some(name("k", 1)),
        ..world.proposal(Command::Register {
            node: node("a"),
            verified: false,
        })
    };
    assert!(matches!(world.batch(vec![register]).0[0], Outcome::Registered { .. }));
    assert_eq!(world.named(name("k", 1), swap("1")), (first, true));
    // A lost race is an outcome too, once it has written.
    let (lost, _) = world.named(name("l", 1), swap("2"));
    world.transact(plain(vec![delete("a")]));
    assert_eq!(world.named(name("l", 1), swap("2")), (lost, true));
    assert_eq!(world.json("a"), None);
    // A day later the name is free.
    world.now += 1;
    let (anew, repeated) = world.named(name("k", 1), swap("1"));
    assert!(!repeated && matches!(anew, Outcome::Transacted(Transacted { failed: None, .. })));
    assert_eq!(world.json("a").as_deref(), Some("1"));
}

#[test]
fn names_are_forgotten_by_age_and_by_number() {
    let mut world = World::default();
    for number in 0..50 {
        world.named(name(&number.to_string(), 0), plain(vec![put("a", &number.to_string())]));
    }
    assert_eq!(world.names(), 2 * 50 + 1);
    world.now += 25 * HOUR;
    // The other way round: a name is used again before its older use is forgotten.
    for number in (0..60).rev() {
        world.named(name(&number.to_string(), 0), plain(vec![put("a", &number.to_string())]));
    }
    assert_eq!(
        world.names(),
        2 * 60 + 1,
        "those used again are remembered by their newer use"
    );
    for number in 0..60 {
        let (_, repeated) = world.named(name(&number.to_string(), 0), plain(vec![put("a", "x")]));
        assert!(repeated, "{number}");
    }
    let outcome = world.transact(plain(vec![put("b", "1")]));
    let bounded = |world: &mut World, key: &str| {
        let mut overlay = Overlay::new(world, "cluster");
        remember(&mut overlay, name(key, 0), &outcome, 4).unwrap();
        let batch = overlay.into_batch();
        world.store(&batch);
    };
    for number in 0..100 {
        bounded(&mut world, &format!("bounded {number}"));
    }
    assert_eq!(world.names(), 2 * 4 + 1);
    let places: names::Head = codec::decode(&world.records[&(Family::Requests, names::head())]).unwrap();
    assert_eq!(places.next - places.oldest, 4);
}

#[test]
fn much_that_is_read_is_told_once_and_more_is_left_out() {
    let mut world = World::default();
    let large = format!("\"{}\"", "x".repeat(60 << 10));
    world.transact(plain(
        (0..40).map(|number| put(&format!("{number:02}"), &large)).collect(),
    ));
    world.transact(plain(vec![put("small", "1")]));
    let mut steps = vec![put("a", "1"), get("small")];
    steps.extend((0..40).map(|number| get(&format!("{number:02}"))));
    let (first, _) = world.named(name("k", 1), plain(steps.clone()));
    let told = |outcome: &Outcome| {
        let Outcome::Transacted(Transacted { results, .. }) = outcome else {
            panic!("{outcome:?}")
        };
        let told = results.iter().filter_map(|result| match result {
            Performed::Got(Some(got)) => Some(got.json.as_ref().map_or(0, String::len)),
            _ => None,
        });
        told.collect::<Vec<usize>>()
    };
    let sizes = told(&first);
    assert_eq!((sizes.len(), sizes[0], sizes[1], sizes[40]), (41, 1, large.len(), 0));
    assert_eq!(sizes.iter().filter(|size| **size == large.len()).count(), 34);
    assert!(sizes.iter().sum::<usize>() <= TRANSACTION_READ_BYTES_MAX);
    let (again, repeated) = world.named(name("k", 1), plain(steps));
    assert!(repeated);
    let sizes = told(&again);
    assert_eq!(
        (sizes[0], sizes.iter().sum::<usize>()),
        (1, 1),
        "within {READ_BYTES_MAX}"
    );
}

#[test]
fn a_walk_sees_one_namespace_and_never_the_head() {
    let mut world = World::default();
    world.transact(plain(["a", "ab", "b", "c"].map(|key| put(key, "1")).to_vec()));
    for namespace in [0, 1, 15, 17] {
        let namespace = NamespaceId(namespace);
        let mut found = 0;
        rows::scan(&world, namespace, b"", None, &mut |_, _| {
            found += 1;
            true
        })
        .unwrap();
        assert_eq!(found, 0, "{namespace:?}");
    }
    let walk = |prefix: &[u8], after: Option<&[u8]>| {
        let mut keys = Vec::new();
        rows::scan(&world, SPACE, prefix, after, &mut |key, row| {
            assert_eq!(row.json, "1");
            keys.push(String::from_utf8(key.to_vec()).unwrap());
            keys.len() < 3
        })
        .unwrap();
        keys
    };
    assert_eq!(walk(b"", None), ["a", "ab", "b"]);
    assert_eq!(walk(b"a", None), ["a", "ab"]);
    assert_eq!(walk(b"", Some(b"ab")), ["b", "c"]);
    let mut found = Vec::new();
    rows::get_many(&world, SPACE, &["c", "x", "a"], &mut |place, row| {
        found.push((place, row.is_some()));
        true
    })
    .unwrap();
    assert_eq!(found, [(0, true), (1, false), (2, true)]);
}
