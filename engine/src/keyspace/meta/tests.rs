use super::*;
use crate::{
    keyspace::codec::{golden, refuses_all_but},
    store::memory::Memory,
};

#[test]
fn names_are_for_ever() {
    let names = [FORMAT, IDENTITY, CONTEXT_KEY, ISSUED, APPLIED_LSN, ACTOR];
    let on_disk = ["format", "identity", "context_key", "issued", "applied_lsn", "actor/"];
    assert_eq!(names, on_disk.map(str::as_bytes));
}

#[test]
fn golden_bytes_of_the_format() {
    golden(&Format(1), &[1, 1]);
    golden(&Format(300), &[1, 251, 44, 1]);
}

/// The same bytes are the owner in the header of every segment of the log.
#[test]
fn golden_bytes_of_the_identity() {
    let identity = Identity {
        node: "né".into(),
        incarnation: 0x0807_0605_0403_0201,
        cluster: [0xc1; 16],
    };
    let node = [3, b'n', 0xc3, 0xa9];
    let incarnation = [253, 1, 2, 3, 4, 5, 6, 7, 8];
    golden(&identity, &[&[1][..], &node, &incarnation, &[0xc1; 16]].concat());
}

/// Compared by hand: a secret has no `Debug`.
#[test]
fn golden_bytes_of_the_context_key() {
    let key = ContextKey([0xab; 32]);
    let bytes = [&[1][..], &[0xab; 32]].concat();
    assert_eq!(codec::encode(&key), bytes);
    assert!(codec::decode::<ContextKey>(&bytes).is_ok_and(|read| read == key));
    refuses_all_but(&bytes, codec::decode::<ContextKey>);
}

#[test]
fn golden_bytes_of_what_was_issued() {
    let issued = Issued {
        counter: 300,
        stamp: Stamp(0x0001_0002),
    };
    golden(&issued, &[1, 251, 44, 1, 252, 2, 0, 1, 0]);
    golden(&Issued::default(), &[1, 0, 0]);
}

#[test]
fn golden_bytes_of_what_was_applied() {
    let bytes = encode_applied(Lsn(300));
    assert_eq!(bytes, [1, 251, 44, 1]);
    refuses_all_but(&bytes, codec::decode::<Applied>);
}

#[test]
fn golden_bytes_of_an_actor() {
    let (key, value) = actor_row(258, &Actor::new("ab", 300));
    assert_eq!(key, [&b"actor/"[..], &[0, 0, 1, 2]].concat());
    assert_eq!(value, [1, 2, b'a', b'b', 251, 44, 1]);
    refuses_all_but(&value, codec::decode::<ActorRow>);
}

fn with_actors(rows: &[(u32, &str)]) -> Memory {
    let store = Memory::new();
    for (number, node) in rows {
        let (key, value) = actor_row(*number, &Actor::new(node, 7));
        store.put(Family::Meta, &key, &value);
    }
    store
}

#[test]
fn records_are_read_back() {
    let store = with_actors(&[(0, "b"), (1, "a")]);
    let actors = actors(&store).unwrap();
    assert_eq!(actors.len(), 2);
    assert_eq!(actors.actor(0), Ok(Actor::new("b", 7)));
    assert_eq!(actors.number(&Actor::new("a", 7)), Some(1));

    assert_eq!(applied(&store).unwrap(), Lsn::ZERO, "nothing was applied yet");
    assert_eq!(read::<Issued>(&store, ISSUED).unwrap(), None);
    store.put(Family::Meta, APPLIED_LSN, &encode_applied(Lsn(300)));
    assert_eq!(applied(&store).unwrap(), Lsn(300));
    assert_eq!(applied_durably(&store).unwrap(), Lsn::ZERO, "written, not flushed");
    store.flush().unwrap();
    assert_eq!(applied_durably(&store).unwrap(), Lsn(300));
}

/// More than 256 rows: by their bytes the keys must sort as their numbers do.
#[test]
fn actor_rows_are_found_in_the_order_of_their_numbers() {
    let names: Vec<String> = (0..600).map(|number| format!("node {number}")).collect();
    let rows: Vec<(u32, &str)> = (0..).zip(names.iter().map(String::as_str)).collect();
    let actors = actors(&with_actors(&rows)).unwrap();
    assert_eq!(actors.len(), 600);
    assert_eq!(actors.number(&Actor::new("node 599", 7)), Some(599));
}

#[test]
fn a_missing_or_damaged_actor_row_is_refused() {
    let refused = |store: &Memory| actors(store).err().expect("damage").to_string();
    let gap = refused(&with_actors(&[(0, "a"), (2, "c")]));
    assert!(gap.contains("row 1 is missing before row 2"), "{gap}");

    let store = with_actors(&[(0, "a")]);
    store.put(Family::Meta, b"actor/\0\0\x01", &[1, 1, b'b', 7]);
    assert!(refused(&store).contains("the key of an actor row is damaged"));

    let store = with_actors(&[(0, "a")]);
    store.put(Family::Meta, b"actor/\0\0\0\x01", &[2, 1, b'b', 7]);
    assert!(refused(&store).contains("start the newer build"));
}
