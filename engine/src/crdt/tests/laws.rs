//! The laws of [`Join`](crate::crdt::Join), one macro applied to every type.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*, sample::select};

use super::history::{self, REPLICAS, Step, WALL, World};
use crate::{
    clock::Stamp,
    crdt::{Causality, Dot, Join, Sibling, State, Strategy as Resolution, strategy::resolve},
    identity::Actor,
};

const STRATEGIES: [Resolution; 4] = [
    Resolution::LastWriteWins,
    Resolution::HighestNodeWins,
    Resolution::MergeUnion,
    Resolution::KeepSiblings,
];

fn joined<T: Join + Clone>(a: &T, b: &T) -> T {
    let mut a = a.clone();
    a.join(b);
    a
}

fn orders() -> impl Strategy<Value = Vec<(usize, usize)>> {
    vec((0..REPLICAS, 0..REPLICAS), 0..6)
}

/// Before and after each merge order, the same steps end in the same state and every strategy reads the same from it.
fn converge(steps: &[Step], orders: &[Vec<(usize, usize)>]) -> Result<(), TestCaseError> {
    let mut outcomes: Vec<State> = Vec::new();
    for order in orders {
        let mut world = World::play(steps);
        world.settle(order);
        outcomes.extend(world.replicas.into_iter().map(|replica| replica.state));
    }
    for outcome in &outcomes[1..] {
        prop_assert_eq!(outcome, &outcomes[0]);
        for strategy in STRATEGIES {
            for ms in [0, 1_000, 5_000] {
                let now = Stamp::from_milliseconds(WALL.0 / 1000 + ms);
                prop_assert_eq!(outcome.read(strategy, now), outcomes[0].read(strategy, now));
            }
        }
    }
    Ok(())
}

/// `laws!(type, histories, projection)`: everything on the trait, for states that arise in such histories.
macro_rules! laws {
    ($name:ident, $histories:expr, $projection:expr) => {
        mod $name {
            use super::*;

            proptest! {
                #[test]
                fn commutative(steps in $histories) {
                    let states: Vec<_> = World::play(&steps).past.iter().map($projection).collect();
                    for a in &states {
                        for b in &states {
                            prop_assert_eq!(joined(a, b), joined(b, a));
                        }
                    }
                }

                #[test]
                fn associative(steps in $histories, seeds in vec(any::<[usize; 3]>(), 40)) {
                    let states: Vec<_> = World::play(&steps).past.iter().map($projection).collect();
                    for [a, b, c] in seeds {
                        let (a, b, c) = (&states[a % states.len()], &states[b % states.len()], &states[c % states.len()]);
                        prop_assert_eq!(joined(&joined(a, b), c), joined(a, &joined(b, c)));
                    }
                }

                #[test]
                fn idempotent(steps in $histories) {
                    let states: Vec<_> = World::play(&steps).past.iter().map($projection).collect();
                    for a in &states {
                        prop_assert_eq!(&joined(a, a), a);
                        for b in &states {
                            let both = joined(a, b);
                            prop_assert_eq!(&joined(&both, a), &both);
                        }
                    }
                }
            }
        }
    };
}

/// What a whole state promises beyond the join: nothing lost, nothing back, order does not matter.
macro_rules! convergence {
    ($name:ident, $histories:expr) => {
        mod $name {
            use super::*;

            proptest! {
                #[test]
                fn holds_exactly_what_no_seen_write_superseded(steps in $histories) {
                    let world = World::play(&steps);
                    for (state, knowledge) in &world.past {
                        prop_assert!(state.is_sound());
                        let present: BTreeSet<Dot> = state.entries.keys().cloned().collect();
                        prop_assert_eq!(present, world.expected(knowledge));
                    }
                }

                #[test]
                fn contexts_compare_as_the_events_behind_them(steps in $histories) {
                    let world = World::play(&steps);
                    for (a, known_a) in &world.past {
                        for (b, known_b) in &world.past {
                            let (below, above) = (known_a.events.is_subset(&known_b.events), known_b.events.is_subset(&known_a.events));
                            let expected = match (below, above) {
                                (true, true) => Causality::Equal,
                                (true, false) => Causality::Before,
                                (false, true) => Causality::After,
                                (false, false) => Causality::Concurrent,
                            };
                            prop_assert_eq!(a.context.compare(&b.context), expected);
                            if expected == Causality::Equal {
                                prop_assert_eq!(a, b);
                            }
                        }
                    }
                }

                #[test]
                fn replicas_converge_in_whatever_order_they_meet(steps in $histories, a in orders(), b in orders()) {
                    converge(&steps, &[a, b])?;
                }
            }
        }
    };
}

laws!(version_vector, history::mixed(), |(state, _)| state.context.clone());
laws!(register, history::register(), |(state, _)| state.clone());
laws!(siblings, history::siblings(), |(state, _)| state.clone());
laws!(set, history::set(), |(state, _)| state.clone());
laws!(counter, history::counter(), |(state, _)| state.clone());
laws!(mixed_kinds, history::mixed(), |(state, _)| state.clone());

convergence!(register_histories, history::register());
convergence!(siblings_histories, history::siblings());
convergence!(set_histories, history::set());
convergence!(counter_histories, history::counter());
convergence!(mixed_histories, history::mixed());

/// Candidates that collide in every way they can: stamps, nodes, incarnations, texts that mean the same.
fn candidates() -> impl Strategy<Value = Vec<Sibling>> {
    let json = select(vec![
        "1",
        "1.0",
        "[1,2]",
        "[2,1.0]",
        r#"{"a":[1],"b":1}"#,
        r#"{"b":2,"a":[1.0,3]}"#,
        r#"{"a":{"x":1}}"#,
        "not json",
    ]);
    let expires = prop_oneof![Just(None), (1..3_u64).prop_map(|stamp| Some(Stamp(stamp)))];
    let candidate = (json, 0..3_u64, select(vec!["a", "b"]), 0..2_u64, expires).prop_map(
        |(json, stamp, node, incarnation, expires)| Sibling {
            json: json.to_owned(),
            stamp: Stamp(stamp),
            actor: Actor::new(node, incarnation),
            expires,
        },
    );
    vec(candidate, 0..6)
}

proptest! {
    #[test]
    fn strategies_do_not_depend_on_order(
        (original, shuffled) in candidates().prop_flat_map(|candidates| (Just(candidates.clone()), Just(candidates).prop_shuffle()))
    ) {
        for strategy in STRATEGIES {
            prop_assert_eq!(resolve(strategy, original.clone()), resolve(strategy, shuffled.clone()));
        }
    }

    #[test]
    fn a_write_is_newer_than_all_it_replaced(steps in history::register()) {
        let mut world = World::play(&steps);
        world.settle(&[]);
        let before = world.replicas[0].state.clone();
        let put = crate::crdt::Operation::Put { kind: crate::crdt::Kind::Register, json: "\"last\"".to_owned(), expires: None };
        prop_assert!(world.write(0, &put, &history::Context::All).is_some());
        for strategy in STRATEGIES {
            let now = Stamp::from_milliseconds(WALL.0 / 1000);
            prop_assert!(matches!(world.replicas[0].state.read(strategy, now), Some(crate::crdt::Reading::Value(value)) if value.json == "\"last\""));
        }
        let newest_before = before.entries.values().map(|entry| entry.stamp).max();
        prop_assert!(world.replicas[0].state.entries.values().all(|entry| Some(entry.stamp) > newest_before));
    }
}
