//! One behaviour each, as the documentation tells it.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    clock::Stamp,
    crdt::{
        Causality, Dot, Join, Kind, Operation, Reading, Rejected, SIBLINGS_MAX, STATE_BYTES_MAX, State, Strategy,
        Supersede, VALUE_BYTES_MAX, VersionVector,
    },
    identity::Actor,
};

const NOW: Stamp = Stamp(1_000);

fn dot(node: &str, counter: u64) -> Dot {
    Dot {
        actor: Actor::new(node, 7),
        counter,
    }
}

fn put(json: &str) -> Operation {
    Operation::Put {
        kind: Kind::Register,
        json: json.to_owned(),
        expires: None,
    }
}

fn sibling(json: &str) -> Operation {
    Operation::Put {
        kind: Kind::Siblings,
        json: json.to_owned(),
        expires: None,
    }
}

fn change(add: &[&str], remove: &[&str]) -> Operation {
    let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    Operation::Change {
        add: owned(add),
        remove: owned(remove),
    }
}

fn write(state: &mut State, dot: &Dot, stamp: u64, operation: &Operation, supersede: &Supersede) -> u64 {
    state
        .write_local(dot, Stamp(stamp), operation, supersede)
        .expect("a write that fits")
}

fn joined(a: &State, b: &State) -> State {
    let mut both = a.clone();
    both.join(b);
    both
}

fn value(state: &State, strategy: Strategy) -> String {
    match state.read(strategy, NOW) {
        Some(Reading::Value(sibling)) => sibling.json,
        other => panic!("expected one value, found {other:?}"),
    }
}

fn texts(reading: Option<Reading>) -> Vec<String> {
    match reading {
        Some(Reading::Siblings(siblings)) => siblings.into_iter().map(|sibling| sibling.json).collect(),
        other => panic!("expected siblings, found {other:?}"),
    }
}

/// `a` writes `"from a"` at stamp 10 and `z` writes `"from z"` at stamp 5, cut off from each other.
fn concurrent(operation: fn(&str) -> Operation) -> (State, State) {
    let (mut a, mut z) = (State::default(), State::default());
    write(&mut a, &dot("a", 1), 10, &operation("\"from a\""), &Supersede::All);
    write(&mut z, &dot("z", 1), 5, &operation("\"from z\""), &Supersede::All);
    (a, z)
}

#[test]
fn concurrent_writes_converge_to_one_value_with_both_clocks() {
    let (mut a, mut b) = (State::default(), State::default());
    write(&mut a, &dot("A", 1), 10, &put("\"a\""), &Supersede::All);
    write(&mut b, &dot("B", 1), 10, &put("\"b\""), &Supersede::All);
    assert_eq!(a.context.compare(&b.context), Causality::Concurrent);

    let (left, right) = (joined(&a, &b), joined(&b, &a));
    assert_eq!(left, right);
    assert_eq!(value(&left, Strategy::LastWriteWins), "\"b\"");
    let expected: BTreeMap<Arc<str>, u64> = [("A".into(), 1), ("B".into(), 1)].into();
    assert_eq!(left.context.folded(), expected);
    assert_eq!(left.context.compare(&a.context), Causality::After);
    assert_eq!(a.context.compare(&left.context), Causality::Before);
    assert_eq!(left.context.compare(&right.context), Causality::Equal);

    let mut next = left;
    write(&mut next, &dot("A", 2), 11, &put("\"both\""), &Supersede::All);
    assert_eq!(next.entries.len(), 1, "the next write collapses the set");
    assert_eq!(joined(&next, &b), next);
}

#[test]
fn incarnations_of_a_node_are_shown_as_one() {
    let mut vector = VersionVector::default();
    vector.insert(&Dot {
        actor: Actor::new("replica-1", 1),
        counter: 2,
    });
    vector.insert(&Dot {
        actor: Actor::new("replica-1", 2),
        counter: 3,
    });
    vector.insert(&Dot {
        actor: Actor::new("replica-2", 9),
        counter: 1,
    });
    let expected: BTreeMap<Arc<str>, u64> = [("replica-1".into(), 5), ("replica-2".into(), 1)].into();
    assert_eq!(vector.folded(), expected);
}

#[test]
fn each_strategy_reads_the_same_set_its_own_way() {
    let (a, z) = concurrent(put);
    let both = joined(&a, &z);
    assert_eq!(value(&both, Strategy::LastWriteWins), "\"from a\"");
    assert_eq!(value(&both, Strategy::HighestNodeWins), "\"from z\"");
    assert_eq!(
        value(&both, Strategy::MergeUnion),
        "\"from a\"",
        "scalars by last write"
    );
    assert_eq!(
        texts(both.read(Strategy::KeepSiblings, NOW)),
        ["\"from a\"", "\"from z\""]
    );
}

#[test]
fn highest_node_wins_takes_the_newest_of_several_incarnations() {
    let mut old = State::default();
    old.write_local(
        &Dot {
            actor: Actor::new("n", 99),
            counter: 1,
        },
        Stamp(1),
        &put("\"old\""),
        &Supersede::All,
    )
    .expect("fits");
    let mut new = State::default();
    new.write_local(
        &Dot {
            actor: Actor::new("n", 1),
            counter: 1,
        },
        Stamp(2),
        &put("\"new\""),
        &Supersede::All,
    )
    .expect("fits");
    assert_eq!(value(&joined(&old, &new), Strategy::HighestNodeWins), "\"new\"");
}

#[test]
fn siblings_stay_siblings_under_every_strategy() {
    let (a, z) = concurrent(sibling);
    for strategy in [
        Strategy::LastWriteWins,
        Strategy::HighestNodeWins,
        Strategy::MergeUnion,
        Strategy::KeepSiblings,
    ] {
        assert_eq!(texts(joined(&a, &z).read(strategy, NOW)).len(), 2);
        assert_eq!(texts(a.read(strategy, NOW)).len(), 1, "one value is a list of one");
    }
}

fn union_of(newest: &str, older: &str) -> String {
    let (mut a, mut b) = (State::default(), State::default());
    write(&mut a, &dot("a", 1), 10, &put(newest), &Supersede::All);
    write(&mut b, &dot("b", 1), 5, &put(older), &Supersede::All);
    value(&joined(&b, &a), Strategy::MergeUnion)
}

#[test]
fn merge_union_merges_by_shape() {
    assert_eq!(
        union_of(r#"{"b":1,"a":{"x":1}}"#, r#"{"c":2,"a":{"y":2}}"#),
        r#"{"a":{"x":1,"y":2},"b":1,"c":2}"#
    );
    assert_eq!(union_of("[3,1]", "[2,1.0]"), "[1,2,3]", "one meaning, the newest text");
    assert_eq!(
        union_of(r#"{"a":[1],"b":"new"}"#, r#"{"a":[2],"b":"old"}"#),
        r#"{"a":[1,2],"b":"new"}"#
    );
    assert_eq!(union_of("\"x\"", r#"{"a":1}"#), "\"x\"", "unlike shapes by last write");
    assert_eq!(union_of(r#"{"a":[1]}"#, r#"{"a":{"b":1}}"#), r#"{"a":[1]}"#);
    assert_eq!(
        union_of(r#"{"b":1, "a":1.0}"#, r#"{"b":1, "a":1.0}"#),
        r#"{"b":1, "a":1.0}"#,
        "alike texts stay as sent"
    );
    assert_eq!(
        union_of(r#"[{"b":1,"a":2}]"#, r#"[{"a":2,"b":1}]"#),
        r#"[{"b":1,"a":2}]"#,
        "key order makes no difference"
    );
}

#[test]
fn a_context_replaces_what_was_read_and_nothing_else() {
    let (a, z) = concurrent(sibling);
    let read = a.context.clone();
    let mut both = joined(&a, &z);
    write(
        &mut both,
        &dot("a", 2),
        20,
        &sibling("\"next\""),
        &Supersede::Seen(read),
    );
    assert_eq!(
        texts(both.read(Strategy::KeepSiblings, NOW)),
        ["\"next\"", "\"from z\""]
    );
    let all = both.context.clone();
    write(&mut both, &dot("a", 3), 21, &sibling("\"one\""), &Supersede::Seen(all));
    assert_eq!(texts(both.read(Strategy::KeepSiblings, NOW)), ["\"one\""]);
}

#[test]
fn a_context_from_another_node_replaces_what_has_not_arrived_yet() {
    let (a, z) = concurrent(put);
    let mut here = a.clone();
    write(
        &mut here,
        &dot("a", 2),
        20,
        &put("\"resolved\""),
        &Supersede::Seen(joined(&a, &z).context),
    );
    assert_eq!(
        texts_or_one(&joined(&here, &z)),
        ["\"resolved\""],
        "the late value was superseded unseen"
    );
}

fn texts_or_one(state: &State) -> Vec<String> {
    match state.read(Strategy::KeepSiblings, NOW) {
        Some(Reading::Value(only)) => vec![only.json],
        other => texts(other),
    }
}

#[test]
fn a_delete_takes_what_it_saw_and_a_concurrent_write_survives() {
    let (a, z) = concurrent(put);
    let mut deleted = a.clone();
    assert_eq!(
        write(&mut deleted, &dot("a", 2), 20, &Operation::Delete, &Supersede::All),
        1
    );
    assert!(deleted.is_empty());
    assert_eq!(deleted.context.counter(&dot("a", 2).actor), 2, "a deletion is an event");
    assert_eq!(joined(&deleted, &a), deleted, "what was deleted does not come back");
    assert_eq!(value(&joined(&deleted, &z), Strategy::LastWriteWins), "\"from z\"");
    assert_eq!(
        write(&mut deleted, &dot("a", 3), 30, &Operation::Delete, &Supersede::All),
        0,
        "nothing to delete, nothing written"
    );
    write(&mut deleted, &dot("a", 3), 30, &change(&["1"], &[]), &Supersede::All);
    assert_eq!(deleted.kind(), Some(Kind::Set), "after a delete the key may begin anew");
}

#[test]
fn an_expiry_takes_what_its_node_wrote_in_any_life_and_what_has_expired_by_then() {
    let until = |json: &str, expires| Operation::Put {
        kind: Kind::Siblings,
        json: json.to_owned(),
        expires,
    };
    let dot = |node, incarnation, counter| Dot {
        actor: Actor::new(node, incarnation),
        counter,
    };
    let mut state = State::default();
    for (writer, json, expires) in [
        (dot("a", 1, 1), "\"former life\"", Some(Stamp(90))),
        (dot("a", 2, 1), "\"expired\"", Some(Stamp(100))),
        (dot("a", 2, 2), "\"later\"", Some(Stamp(101))),
        (dot("a", 2, 3), "\"for ever\"", None),
        (dot("b", 2, 1), "\"another's\"", Some(Stamp(90))),
    ] {
        write(&mut state, &writer, 1, &until(json, expires), &Supersede::Nothing);
    }
    let before = state.clone();
    let early = Operation::Expire { by: Stamp(89) };
    assert_eq!(write(&mut state, &dot("a", 2, 4), 2, &early, &Supersede::All), 0);
    assert_eq!(state, before, "nothing has expired");
    // What it replaces it names itself.
    for supersede in [
        Supersede::All,
        Supersede::Nothing,
        Supersede::Seen(VersionVector::default()),
    ] {
        let mut state = before.clone();
        let by = Operation::Expire { by: Stamp(100) };
        assert_eq!(write(&mut state, &dot("a", 2, 4), 2, &by, &supersede), 1);
        let left: Vec<&Dot> = state.entries.keys().collect();
        assert_eq!(left, [&dot("a", 2, 2), &dot("a", 2, 3), &dot("b", 2, 1)]);
        assert_eq!(
            state.context.counter(&Actor::new("a", 2)),
            4,
            "an event, as a deletion is"
        );
        assert_eq!(joined(&state, &before), state, "what has expired does not come back");
        assert_eq!(write(&mut state, &dot("a", 2, 5), 3, &by, &supersede), 0, "once");
    }
}

#[test]
fn adding_to_a_set_wins_over_removing_concurrently() {
    let mut a = State::default();
    assert_eq!(
        write(&mut a, &dot("a", 1), 1, &change(&["2", "1", "2"], &[]), &Supersede::All),
        2,
        "one dot per distinct element"
    );
    let mut b = a.clone();
    write(&mut a, &dot("a", 3), 3, &change(&[], &["1", "2"]), &Supersede::All);
    write(&mut b, &dot("b", 1), 3, &change(&["1"], &[]), &Supersede::All);
    assert_eq!(
        joined(&a, &b).read(Strategy::LastWriteWins, NOW),
        Some(Reading::Set(vec!["1".to_owned()]))
    );
    assert_eq!(joined(&a, &b), joined(&b, &a));
}

#[test]
fn removing_by_a_context_spares_what_was_added_since() {
    let mut set = State::default();
    write(&mut set, &dot("a", 1), 1, &change(&["1"], &[]), &Supersede::All);
    let read = set.context.clone();
    write(&mut set, &dot("a", 2), 2, &change(&["1"], &[]), &Supersede::All);
    assert_eq!(
        write(&mut set, &dot("a", 3), 3, &change(&[], &["1"]), &Supersede::Seen(read)),
        0
    );
    assert_eq!(
        set.read(Strategy::LastWriteWins, NOW),
        Some(Reading::Set(vec!["1".to_owned()]))
    );
}

#[test]
fn a_set_is_not_changed_by_a_context_that_is_ahead() {
    let mut there = State::default();
    write(&mut there, &dot("b", 1), 1, &change(&["1", "2"], &[]), &Supersede::All);
    let mut here = State::default();
    let refused = here.write_local(
        &dot("a", 1),
        Stamp(2),
        &change(&[], &["1"]),
        &Supersede::Seen(there.context.clone()),
    );
    assert_eq!(refused, Err(Rejected::ContextAhead));
    assert_eq!(joined(&here, &there), there);
}

#[test]
fn counters_add_up_over_nodes_and_survive_a_delete_that_did_not_see_them() {
    let (mut a, mut b) = (State::default(), State::default());
    write(&mut a, &dot("a", 1), 1, &Operation::Add { delta: 5 }, &Supersede::All);
    write(&mut a, &dot("a", 2), 2, &Operation::Add { delta: -7 }, &Supersede::All);
    assert_eq!(a.entries.len(), 1);
    write(
        &mut b,
        &dot("b", 1),
        1,
        &Operation::Add { delta: 10 },
        &Supersede::Nothing,
    );
    let both = joined(&a, &b);
    assert_eq!(both.read(Strategy::LastWriteWins, NOW), Some(Reading::Counter(8)));

    let mut deleted = both.clone();
    write(&mut deleted, &dot("a", 3), 3, &Operation::Delete, &Supersede::All);
    write(&mut b, &dot("b", 2), 3, &Operation::Add { delta: 1 }, &Supersede::All);
    assert_eq!(
        joined(&deleted, &b).read(Strategy::LastWriteWins, NOW),
        Some(Reading::Counter(11)),
        "b's whole share is back"
    );
}

#[test]
fn a_counter_stays_within_64_bits() {
    let mut counter = State::default();
    write(
        &mut counter,
        &dot("a", 1),
        1,
        &Operation::Add { delta: i64::MAX },
        &Supersede::All,
    );
    let refused = counter.write_local(&dot("a", 2), Stamp(2), &Operation::Add { delta: 1 }, &Supersede::All);
    assert_eq!(refused, Err(Rejected::CounterOverflow));
    write(
        &mut counter,
        &dot("a", 2),
        2,
        &Operation::Add { delta: i64::MIN },
        &Supersede::All,
    );
    assert_eq!(counter.read(Strategy::LastWriteWins, NOW), Some(Reading::Counter(-1)));
}

#[test]
fn an_expired_value_is_hidden_from_its_moment_on() {
    let mut state = State::default();
    let operation = Operation::Put {
        kind: Kind::Register,
        json: "1".to_owned(),
        expires: Some(Stamp(50)),
    };
    write(&mut state, &dot("a", 1), 1, &operation, &Supersede::All);
    assert!(state.read(Strategy::LastWriteWins, Stamp(49)).is_some());
    assert_eq!(state.read(Strategy::LastWriteWins, Stamp(50)), None);
    assert_eq!(state.entries.len(), 1, "reading changes nothing");
}

#[test]
fn a_kind_is_fixed_until_the_key_is_deleted() {
    let mut state = State::default();
    write(&mut state, &dot("a", 1), 1, &put("1"), &Supersede::All);
    for other in [sibling("1"), change(&["1"], &[]), Operation::Add { delta: 1 }] {
        let refused = state.write_local(&dot("a", 2), Stamp(2), &other, &Supersede::All);
        assert!(
            matches!(
                refused,
                Err(Rejected::KindMismatch {
                    held: Kind::Register,
                    ..
                })
            ),
            "{other:?}: {refused:?}"
        );
    }
    let nonsense = Operation::Put {
        kind: Kind::Counter,
        json: "1".to_owned(),
        expires: None,
    };
    assert!(
        State::default()
            .write_local(&dot("a", 1), Stamp(1), &nonsense, &Supersede::All)
            .is_err()
    );
}

#[test]
fn one_key_created_with_three_kinds_at_once_shows_all_of_them() {
    let (mut a, mut b, mut c) = (State::default(), State::default(), State::default());
    write(&mut a, &dot("a", 1), 3, &put("\"text\""), &Supersede::All);
    write(&mut b, &dot("b", 1), 2, &change(&["2", "1"], &[]), &Supersede::All);
    write(&mut c, &dot("c", 1), 1, &Operation::Add { delta: 42 }, &Supersede::All);
    let mut all = joined(&joined(&a, &b), &c);
    assert_eq!(all, joined(&joined(&c, &b), &a));
    assert_eq!(all.kind(), Some(Kind::Siblings));
    assert_eq!(
        texts(all.read(Strategy::LastWriteWins, NOW)),
        ["\"text\"", "[1,2]", "42"]
    );
    let read = all.context.clone();
    write(
        &mut all,
        &dot("a", 2),
        4,
        &sibling("\"resolved\""),
        &Supersede::Seen(read),
    );
    assert_eq!(texts(all.read(Strategy::LastWriteWins, NOW)), ["\"resolved\""]);
}

#[test]
fn the_65th_concurrent_value_is_refused_and_a_context_is_the_way_out() {
    let mut state = State::default();
    for counter in 1..=SIBLINGS_MAX as u64 {
        write(
            &mut state,
            &dot("a", counter),
            counter,
            &sibling("1"),
            &Supersede::Nothing,
        );
    }
    let next = dot("a", 1 + SIBLINGS_MAX as u64);
    let before = state.clone();
    assert_eq!(
        state.write_local(&next, Stamp(99), &sibling("1"), &Supersede::Nothing),
        Err(Rejected::TooManySiblings)
    );
    assert_eq!(state, before);
    let read = state.context.clone();
    write(&mut state, &next, 99, &sibling("1"), &Supersede::Seen(read));
    assert_eq!(state.entries.len(), 1);
}

#[test]
fn values_and_keys_have_a_largest_size() {
    let json = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let mut state = State::default();
    let refused = state.write_local(
        &dot("a", 1),
        Stamp(1),
        &put(&json(VALUE_BYTES_MAX + 1)),
        &Supersede::All,
    );
    assert_eq!(
        refused,
        Err(Rejected::ValueTooLarge {
            bytes: VALUE_BYTES_MAX + 1
        })
    );
    let mut counter = 0;
    let refused = loop {
        counter += 1;
        match state.write_local(
            &dot("a", counter),
            Stamp(counter),
            &sibling(&json(VALUE_BYTES_MAX)),
            &Supersede::Nothing,
        ) {
            Ok(_) => assert!(state.stored_bytes() <= STATE_BYTES_MAX),
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, Rejected::StateTooLarge { bytes } if bytes > STATE_BYTES_MAX));
    assert!(
        write(&mut state, &dot("a", counter), 99, &Operation::Delete, &Supersede::All) == 1,
        "the way out is open"
    );
}

#[test]
fn a_dot_is_never_used_twice() {
    let mut state = State::default();
    write(&mut state, &dot("a", 5), 1, &put("1"), &Supersede::All);
    assert_eq!(
        state.write_local(&dot("a", 5), Stamp(2), &put("2"), &Supersede::All),
        Err(Rejected::DotSeen { counter: 5 })
    );
    let mut fresh = State::default();
    let refused = fresh.write_local(
        &dot("a", 4),
        Stamp(2),
        &put("2"),
        &Supersede::Seen(state.context.clone()),
    );
    assert_eq!(refused, Err(Rejected::DotSeen { counter: 4 }));
}
