//! Members and concepts of another system: taken over once, credited to nobody.

use super::*;
use crate::crdt::Content;
use crate::ledger::audit::verify;

fn of_member(name: &str) -> AdoptedMember {
    AdoptedMember {
        registered_at: Some(Timestamp(START - HOUR)),
        ..adopted(name, 5, 3)
    }
}

fn counts(outcome: &Outcome) -> [u64; 4] {
    match *outcome {
        Outcome::Adopted {
            members_new,
            members_known,
            concepts_new,
            concepts_known,
        } => [members_new, members_known, concepts_new, concepts_known],
        ref other => panic!("{other:?}"),
    }
}

fn events(world: &World, name: &str) -> Vec<(u64, u64)> {
    let events = contribution_events(world, &node(name)).expect("sound");
    events.iter().map(|event| (event.at.0, event.new)).collect()
}

#[test]
fn unknown_members_are_opened_with_all_that_is_given() {
    let mut world = World::default();
    let given = AdoptedMember {
        verified: true,
        contributions: (1..=120)
            .map(|step| AdoptedContribution {
                at: Timestamp(START - HOUR + step),
                new: step,
            })
            .collect(),
        ..of_member("a")
    };
    let outcome = world.propose(adoption(&[given, adopted("b", 0, 12)], []));
    assert_eq!(counts(&outcome), [2, 0, 0, 0]);
    let standing = world.standing("a");
    assert_eq!(
        (standing.registered_at, standing.verified),
        (Some(Timestamp(START - HOUR)), true)
    );
    assert_eq!((standing.contributed, standing.consumed), (5.0, 3.0));
    assert_eq!(
        world.standing("b").tier,
        Tier::Blocked,
        "totals mean what they always mean"
    );
    assert_eq!(world.standing("b").registered_at, None);
    let kept = events(&world, "a");
    assert_eq!((kept.len(), kept[0].1, kept[99].1), (100, 21, 120));
    assert_eq!(pool_stats(&world).expect("sound").contributors, 1, "b gave nothing");
    assert!(
        attribution(&world, &concept(1).hash).expect("sound").is_none(),
        "no concept came"
    );
}

#[test]
fn known_members_rise_to_what_is_given_and_never_fall() {
    let mut world = World::default();
    world.register("a", false);
    world.contribute("a", 0..8);
    world.consume("a");
    let given = AdoptedMember {
        contributions: vec![AdoptedContribution {
            at: Timestamp(START - HOUR),
            new: 5,
        }],
        ..of_member("a")
    };
    assert_eq!(
        counts(&world.propose(adoption(std::slice::from_ref(&given), []))),
        [0, 1, 0, 0]
    );
    let standing = world.standing("a");
    assert_eq!((standing.contributed, standing.consumed), (8.0, 3.0));
    assert_eq!(
        standing.registered_at,
        Some(Timestamp(START - HOUR)),
        "the earlier of both"
    );
    assert_eq!(events(&world, "a"), [(START, 8)], "it has contributions of its own");
    assert_eq!(pool_stats(&world).expect("sound").contributors, 1);

    // What only consumed until now becomes a contributor, once.
    world.consume("b");
    for _ in 0..2 {
        world.propose(adoption(&[of_member("b")], []));
        assert_eq!(pool_stats(&world).expect("sound").contributors, 2);
    }
    world.contribute("b", [100]);
    assert_eq!(pool_stats(&world).expect("sound").contributors, 2);
    assert_eq!(world.standing("b").contributed, 6.0, "credit goes on from there");
    // Later registrations and lower totals change nothing; nobody is unverified.
    world.register("a", true);
    let lower = AdoptedMember {
        registered_at: Some(Timestamp(START)),
        ..adopted("a", 1, 1)
    };
    let before = world.standing("a");
    world.propose(adoption(&[lower], []));
    assert_eq!(world.standing("a"), before);
}

#[test]
fn concepts_enter_with_their_own_time_and_are_credited_to_nobody() {
    let mut world = World::default();
    world.contribute("a", [1]);
    let outcome = world.propose(adoption(&[], [1, 2, 3, 2]));
    assert_eq!(counts(&outcome), [0, 0, 2, 2]);
    let attributed = attribution(&world, &concept(2).hash)
        .expect("sound")
        .expect("in the pool");
    assert_eq!(
        attributed,
        Attribution {
            counter: 2,
            first_at: Timestamp(START - 2 * SECOND),
            contributor: node("other"),
            attributed: Vec::new()
        }
    );
    let known = attribution(&world, &concept(1).hash)
        .expect("sound")
        .expect("in the pool");
    assert_eq!(
        (known.first_at, known.attributed.len()),
        (Timestamp(START), 0),
        "as it was"
    );
    let standing = world.standing("other");
    assert_eq!((standing.contributed, standing.registered_at), (0.0, None));
    let stats = pool_stats(&world).expect("sound");
    assert_eq!((stats.counter, stats.concepts, stats.contributors), (3, 3, 1));
    let mut listed = Vec::new();
    let mut visit = |entry: PoolEntry| {
        listed.push((entry.counter, entry.hash, entry.first_at.0));
        true
    };
    pool_entries(&world, 1, &mut visit).expect("sound");
    assert_eq!(
        listed,
        [
            (2, concept(2).hash, START - 2 * SECOND),
            (3, concept(3).hash, START - 3 * SECOND)
        ]
    );
    let state = &world.concepts[concept(2).hash.0.as_slice()];
    assert_eq!(
        state.entries.values().next().expect("one").content,
        Content::Register(concept(2).json)
    );
    // Known now: whoever gives it again is not credited.
    assert!(matches!(
        world.contribute("a", [2]),
        Outcome::Contributed {
            new: 0,
            duplicates: 1,
            ..
        }
    ));
}

#[test]
fn a_second_time_nothing_is_written() {
    let mut world = World::default();
    let given = || adoption(&[of_member("a"), of_member("b")], [1, 2]);
    assert_eq!(counts(&world.propose(given())), [2, 0, 2, 0]);
    assert_eq!(verify(&world).expect("sound").records, 1);
    world.now += HOUR;
    let proposal = world.proposal(given());
    let (outcomes, batch) = world.batch(vec![proposal]);
    assert_eq!(counts(&outcomes[0]), [0, 2, 0, 2]);
    assert!(batch.mutations.is_empty(), "{batch:?}");
    // One that is partly new is audited as any other.
    world.propose(adoption(&[of_member("a")], [3]));
    assert_eq!(verify(&world).expect("sound").records, 2);
}

#[test]
fn no_time_lies_ahead_of_the_ledger_and_no_limit_counts_it() {
    let mut world = World::default();
    let future = Timestamp(START + 100 * HOUR);
    let member = AdoptedMember {
        registered_at: Some(future),
        contributions: vec![AdoptedContribution { at: future, new: 1 }],
        ..adopted("a", 1, 0)
    };
    let late = AdoptedConcept {
        concept: concept(1),
        first_at: future,
    };
    world.propose(Command::Adopt {
        contributor: node("other"),
        members: vec![member],
        concepts: vec![late],
    });
    assert_eq!(world.standing("a").registered_at, Some(Timestamp(START)));
    assert_eq!(events(&world, "a"), [(START, 1)]);
    let attributed = attribution(&world, &concept(1).hash).expect("sound").expect("there");
    assert_eq!(attributed.first_at, Timestamp(START));

    world.propose(Command::SetLimits(Limits {
        contribute_per_hour: 1,
        knowledge_per_hour: 1,
    }));
    for number in 2..5 {
        assert_eq!(counts(&world.propose(adoption(&[of_member("a")], [number])))[2], 1);
    }
    assert!(matches!(world.contribute("a", [9]), Outcome::Contributed { .. }));
    assert!(is_limited(&world.contribute("a", [10])));
}
