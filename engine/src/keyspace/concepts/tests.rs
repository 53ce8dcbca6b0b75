use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{identity::Actor, keyspace::codec::refuses_all_but};

/// Node `b` wrote here first and has number 0; node `a` has number 1 and stands first in every list.
fn actors() -> Actors {
    let actors = Actors::default();
    assert_eq!(actors.intern(&b(0).actor), (0, true));
    assert_eq!(actors.intern(&a(0).actor), (1, true));
    actors
}

fn a(counter: u64) -> Dot {
    let actor = Actor::new("a", 300);
    Dot { actor, counter }
}

fn b(counter: u64) -> Dot {
    let actor = Actor::new("b", 7);
    Dot { actor, counter }
}

/// A state that holds these contents, each stamped 9, and has seen what wrote them.
fn holding(contents: Vec<(Dot, Content)>) -> State {
    let mut state = State::default();
    for (dot, content) in contents {
        let (stamp, expires) = (Stamp(9), None);
        state.context.insert(&dot);
        state.entries.insert(
            dot,
            Entry {
                stamp,
                expires,
                content,
            },
        );
    }
    state
}

fn encode(state: &State, actors: &Actors) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_into(state, &mut |actor| actors.intern(actor).0, &mut bytes);
    bytes
}

/// Pins the bytes of a state, both ways, and that nothing near them is read as one.
#[track_caller]
fn golden(state: &State, parts: &[&[u8]]) {
    let (actors, bytes) = (actors(), parts.concat());
    assert_eq!(
        encode(state, &actors),
        bytes,
        "{state:?} is written otherwise than before"
    );
    assert_eq!(decode(&bytes, &actors).as_ref(), Ok(state));
    refuses_all_but(&bytes, |bytes| decode(bytes, &actors));
}

/// The lists of (actor, counter) and of entries, each behind its length: one pair of `b`, counter 5.
const B_5: [&[u8]; 2] = [&[1, 0, 5], &[1, 0, 5]];

#[test]
fn golden_bytes_of_a_key() {
    let bytes = key(NamespaceId(258), "né".as_bytes());
    assert_eq!(bytes, [0, 0, 1, 2, b'n', 0xc3, 0xa9]);
    assert_eq!(split(&bytes), Some((NamespaceId(258), "né".as_bytes())));
    assert_eq!(split(&[0, 0, 1, 2]), Some((NamespaceId(258), &b""[..])));
    assert_eq!(split(&[0, 0, 1]), None);
}

#[test]
fn golden_bytes_of_a_register() {
    let state = holding(vec![(b(5), Content::Register("[1]".into()))]);
    golden(&state, &[&[1], B_5[0], B_5[1], &[9, 0], &[0, 3], b"[1]"]);
}

#[test]
fn golden_bytes_of_siblings() {
    let state = holding(vec![
        (b(300), Content::Sibling("\"é\"".into())),
        (a(5), Content::Sibling("1".into())),
    ]);
    golden(
        &state,
        &[
            &[1],
            &[2, 1, 5, 0, 251, 44, 1],
            &[2],
            &[1, 5, 9, 0, 1, 1, b'1'],
            &[0, 251, 44, 1, 9, 0, 1, 4, b'"', 0xc3, 0xa9, b'"'],
        ],
    );
}

#[test]
fn golden_bytes_of_a_set() {
    let state = holding(vec![
        (b(4), Content::Element("1".into())),
        (b(5), Content::Element("{}".into())),
    ]);
    golden(
        &state,
        &[
            &[1],
            &[1, 0, 5],
            &[2],
            &[0, 4, 9, 0, 2, 1, b'1'],
            &[0, 5, 9, 0, 2, 2, b'{', b'}'],
        ],
    );
}

#[test]
fn golden_bytes_of_a_counter() {
    let sums = Content::Sums {
        increments: 1 << 32,
        decrements: 251,
    };
    let state = holding(vec![(b(5), sums)]);
    golden(
        &state,
        &[
            &[1],
            B_5[0],
            B_5[1],
            &[9, 0],
            &[3],
            &[253, 0, 0, 0, 0, 1, 0, 0, 0],
            &[251, 251, 0],
        ],
    );
}

#[test]
fn golden_bytes_of_a_stamp_and_an_expiry() {
    let mut state = holding(vec![(b(5), Content::Register("1".into()))]);
    let entry = state.entries.get_mut(&b(5)).expect("the one entry");
    // 14 November 2023, 22:13:20 UTC, and the second stamp of that millisecond; a minute later it goes.
    entry.stamp = Stamp::from_milliseconds(1_700_000_000_000).next();
    entry.expires = Some(Stamp::from_milliseconds(1_700_000_060_000));
    golden(
        &state,
        &[
            &[1],
            B_5[0],
            B_5[1],
            &[253, 0x01, 0x00, 0x00, 0x68, 0xe5, 0xcf, 0x8b, 0x01],
            &[1, 253, 0x00, 0x00, 0x60, 0x52, 0xe6, 0xcf, 0x8b, 0x01],
            &[0, 1, b'1'],
        ],
    );
}

#[test]
fn golden_bytes_of_a_tombstone() {
    let mut state = State::default();
    state.context.insert(&a(6));
    state.context.insert(&b(5));
    golden(&state, &[&[1], &[2, 1, 6, 0, 5], &[0]]);
}

#[test]
fn what_no_write_leaves_behind_is_damage() {
    for (why, bytes) in [
        (
            "an entry that is not in the context",
            &[1, 0, 1, 0, 5, 9, 0, 0, 1, b'1'][..],
        ),
        ("an entry above the context", &[1, 1, 0, 4, 1, 0, 5, 9, 0, 0, 1, b'1']),
        ("a counter of 0", &[1, 1, 0, 0, 0]),
        ("an actor without a row, in the context", &[1, 1, 2, 5, 0]),
        (
            "an actor without a row, in an entry",
            &[1, 1, 0, 5, 1, 2, 5, 9, 0, 0, 1, b'1'],
        ),
        ("a content of another kind", &[1, 1, 0, 5, 1, 0, 5, 9, 0, 4, 1, b'1']),
        ("text that is not UTF-8", &[1, 1, 0, 5, 1, 0, 5, 9, 0, 0, 1, 0xff]),
        ("neither an expiry nor none", &[1, 1, 0, 5, 1, 0, 5, 9, 2, 0, 1, b'1']),
    ] {
        let decoded = decode(bytes, &actors());
        assert!(
            matches!(decoded, Err(Undecodable::Damaged { .. })),
            "{why}: {decoded:?}"
        );
    }
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        ".{0,40}".prop_map(Content::Register),
        ".{0,40}".prop_map(Content::Sibling),
        ".{0,40}".prop_map(Content::Element),
        any::<(u64, u64)>().prop_map(|(increments, decrements)| Content::Sums { increments, decrements }),
    ]
}

fn state() -> impl Strategy<Value = State> {
    let dot = || {
        ("[a-c]", 0..3_u64, 1..u64::MAX).prop_map(|(node, incarnation, counter)| {
            let actor = Actor::new(&node, incarnation);
            Dot { actor, counter }
        })
    };
    let entry = (any::<u64>(), any::<Option<u64>>(), content()).prop_map(|(stamp, expires, content)| Entry {
        stamp: Stamp(stamp),
        expires: expires.map(Stamp),
        content,
    });
    (vec(dot(), 0..4), vec((dot(), entry), 0..6)).prop_map(|(seen, entries)| {
        let mut state = State::default();
        seen.iter().for_each(|dot| state.context.insert(dot));
        for (dot, entry) in entries {
            state.context.insert(&dot);
            state.entries.insert(dot, entry);
        }
        state
    })
}

proptest! {
    /// Two states one after the other: the second finds some of its actors numbered already.
    #[test]
    fn states_are_read_back_whole(first in state(), second in state()) {
        let actors = Actors::default();
        for state in [&first, &second] {
            let bytes = encode(state, &actors);
            prop_assert_eq!(&decode(&bytes, &actors).expect("what was just written"), state);
        }
    }

    #[test]
    fn no_bytes_make_decoding_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes, &actors());
        let _ = decode(&[&[1], &bytes[..]].concat(), &actors());
        let _ = split(&bytes);
    }
}
