//! Deduplication, credit, attribution, the pool's history and the account's.

use super::*;
use crate::crdt::Content;

#[test]
fn a_concept_is_credited_once_to_the_first_who_gave_it() {
    let mut world = World::default();
    let Outcome::Contributed {
        new: 2,
        duplicates: 2,
        standing,
    } = world.contribute("a", [1, 1, 2, 2])
    else {
        panic!()
    };
    assert_eq!((standing.contributed, standing.tier), (2.0, Tier::Contributor));
    world.now += 1;
    let Outcome::Contributed {
        new: 1,
        duplicates: 2,
        standing,
    } = world.contribute("b", [2, 3, 1])
    else {
        panic!()
    };
    assert_eq!(standing.contributed, 1.0);
    let Outcome::Contributed {
        new: 0, duplicates: 1, ..
    } = world.contribute("a", [3])
    else {
        panic!()
    };
    world.contribute("b", [1]);

    let attribution = attribution(&world, &concept(1).hash)
        .expect("sound")
        .expect("in the pool");
    assert_eq!(
        attribution,
        Attribution {
            counter: 1,
            first_at: Timestamp(START),
            contributor: node("a"),
            attributed: vec![node("b")]
        }
    );
    assert_eq!(super::attribution(&world, &concept(9).hash).expect("sound"), None);
    world.contribute("a", [4]);
    assert_eq!(
        pool_stats(&world).expect("sound"),
        PoolStats {
            counter: 4,
            concepts: 4,
            contributors: 2
        }
    );
}

#[test]
fn sixty_interleaved_contributions_credit_each_concept_once() {
    // Member m gives the concepts [m, m + 30), in batches that mix the members.
    let mut world = World::default();
    let requests: Vec<Proposal> = (0..6)
        .flat_map(|part| (0..10).map(move |member| (member, part)))
        .map(|(member, part)| {
            world.proposal(contribution(
                &format!("m{member}"),
                (0..5).map(|step| member + part * 5 + step),
            ))
        })
        .collect();
    assert_eq!(requests.len(), 60);
    let mut outcomes = Vec::new();
    let mut rest = requests;
    for size in [1, 7, 20, 2, 29, 1] {
        let next = rest.split_off(size);
        outcomes.extend(world.batch(std::mem::replace(&mut rest, next)).0);
    }
    let (mut new, mut duplicates) = (0, 0);
    for outcome in outcomes {
        let Outcome::Contributed {
            new: credited,
            duplicates: known,
            ..
        } = outcome
        else {
            panic!("{outcome:?}")
        };
        new += credited;
        duplicates += known;
    }
    assert_eq!((new, duplicates), (39, 300 - 39));
    let credited: f64 = (0..10)
        .map(|member| world.standing(&format!("m{member}")).contributed)
        .sum();
    assert_eq!(credited, 39.0);
    assert_eq!(world.concepts.len(), 39);
    assert_eq!(pool_stats(&world).expect("sound").concepts, 39);
}

#[test]
fn the_pool_can_be_followed_from_any_counter() {
    let mut world = World::default();
    world.contribute("a", [10, 11]);
    world.now += 5;
    world.contribute("b", [11, 12, 13]);
    let entries = |after: u64, most: usize| {
        let mut found = Vec::new();
        pool_entries(&world, after, &mut |entry| {
            found.push((entry.counter, entry.hash, entry.first_at.0 - START));
            found.len() < most
        })
        .expect("sound");
        found
    };
    let all = [
        (1, concept(10).hash, 0),
        (2, concept(11).hash, 0),
        (3, concept(12).hash, 5),
        (4, concept(13).hash, 5),
    ];
    assert_eq!(entries(0, 9), all);
    assert_eq!(entries(2, 9), all[2..]);
    assert_eq!(entries(1, 1), all[1..2]);
    assert_eq!(entries(4, 9), []);
    assert_eq!(entries(u64::MAX, 9), []);
}

#[test]
fn pool_concepts_are_joins_authored_by_the_cluster() {
    let mut world = World::default();
    world.contribute("a", [1]);
    world.contribute("b", [2]);
    let state = &world.concepts[&concept(2).hash.0.to_vec()];
    let (dot, entry) = state.entries.first_key_value().expect("one value");
    assert_eq!(
        (&*dot.actor.node, dot.actor.incarnation, dot.counter),
        ("cluster", 0, 2)
    );
    assert_eq!(
        entry.content,
        Content::Register("{\"name\":2}".to_owned()),
        "anonymised"
    );
    assert_eq!(entry.stamp.milliseconds(), START / 1_000);
}

#[test]
fn attributions_are_bounded() {
    let mut world = World::default();
    world.contribute("first", [1]);
    for member in 0..ATTRIBUTIONS_MAX + 5 {
        world.contribute(&format!("m{member}"), [1]);
    }
    let attribution = attribution(&world, &concept(1).hash)
        .expect("sound")
        .expect("in the pool");
    assert_eq!(attribution.contributor, node("first"));
    assert_eq!(attribution.attributed.len(), ATTRIBUTIONS_MAX);
    assert_eq!(attribution.attributed[0], node("m0"));
}

#[test]
fn the_last_hundred_contributions_are_remembered() {
    let mut world = World::default();
    for number in 0..250 {
        world.now += HOUR;
        world.contribute("a", [number, 0]);
    }
    let events = contribution_events(&world, &node("a")).expect("sound");
    assert_eq!(events.len(), 100);
    assert_eq!(
        events[0],
        Event {
            at: Timestamp(START + 151 * HOUR),
            new: 1,
            duplicates: 1,
            pool_counter: 151
        }
    );
    assert_eq!(events[99].pool_counter, 250);
    assert_eq!(world.standing("a").contributed, 250.0, "totals are for life");
    assert_eq!(contribution_events(&world, &node("b")).expect("sound"), []);
}

#[test]
fn nothing_left_after_anonymisation_is_no_concept() {
    let rules = Anonymiser::default();
    assert_eq!(
        PoolConcept::new(serde_json::json!({"id": 1, "created_at": 2}), &rules),
        None
    );
    assert_eq!(PoolConcept::new(serde_json::json!({}), &rules), None);
    assert!(PoolConcept::new(serde_json::json!({"o": {"id": 1}}), &rules).is_some());
}

#[test]
fn the_cost_of_a_contribution_does_not_depend_on_the_pool() {
    let mut world = World::default();
    let writes_of = |world: &mut World, numbers: std::ops::Range<u64>| {
        let proposal = world.proposal(contribution("a", numbers));
        let (_, batch) = world.batch(vec![proposal]);
        let Mutation::Apply(writes) = &batch.mutations[0] else {
            panic!()
        };
        (
            writes.len(),
            writes
                .iter()
                .map(|write| write.key.len() + write.value.as_ref().map_or(0, Vec::len))
                .sum::<usize>(),
        )
    };
    writes_of(&mut world, 0..1);
    let early = writes_of(&mut world, 1..11);
    writes_of(&mut world, 11..20_000);
    world.now += HOUR;
    let late = writes_of(&mut world, 20_000..20_010);
    assert!(late.0 <= early.0 && late.1 <= early.1 + 100, "{early:?} then {late:?}");
}
