//! The sliding hour, beside the simplest model of it.

use proptest::{
    prelude::{Just, ProptestConfig, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest},
    strategy::Strategy as Generate,
};

use super::*;

fn accepted(outcome: &Outcome) -> bool {
    !matches!(outcome, Outcome::Refused(_))
}

fn retry_in(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Refused(Refusal::RateLimited { retry_at, now, .. }) => retry_at.0 - now.0,
        other => panic!("{other:?}"),
    }
}

#[test]
fn fifty_and_a_hundred_an_hour_even_for_twilight() {
    let mut world = World::default();
    world.register("light", true);
    for number in 0..100 {
        world.now += SECOND;
        assert!(accepted(&world.contribute("light", [number])));
        assert_eq!(accepted(&world.consume("light")), number < 50);
    }
    let refused = world.contribute("light", [1_000]);
    assert!(
        matches!(
            refused,
            Outcome::Refused(Refusal::RateLimited {
                kind: Limited::Contribute,
                limit: 100,
                ..
            })
        ),
        "{refused:?}"
    );
    assert_eq!(
        retry_in(&refused),
        HOUR - 99 * SECOND,
        "when the first of the hundred leaves the hour"
    );
    assert_eq!(
        pool_stats(&world).expect("sound").concepts,
        100,
        "a refused contribution gives nothing"
    );
    assert!(accepted(&world.contribute("other", [1_000])), "limits are per node");
}

#[test]
fn the_hour_slides_to_the_microsecond() {
    let mut world = World::default();
    world.propose(Command::SetLimits(Limits {
        contribute_per_hour: 2,
        knowledge_per_hour: 1,
    }));
    world.contribute("a", [1]);
    world.now = 10 * SECOND;
    world.contribute("a", [2]);
    world.now = HOUR - 1;
    let refused = world.contribute("a", [3]);
    assert_eq!(retry_in(&refused), 1);
    world.now = HOUR;
    assert!(accepted(&world.contribute("a", [3])));
    assert_eq!(retry_in(&world.contribute("a", [4])), 10 * SECOND);
}

#[test]
fn duplicates_count_as_requests_and_refusals_do_not() {
    let mut world = World::default();
    world.propose(Command::SetLimits(Limits {
        contribute_per_hour: 2,
        knowledge_per_hour: 50,
    }));
    world.contribute("a", [1]);
    world.contribute("a", [1]);
    for _ in 0..10 {
        let before = world.records.clone();
        assert!(is_limited(&world.contribute("a", [2])));
        assert_eq!(world.records, before, "a refusal writes nothing");
    }
    world.now = HOUR;
    assert!(
        accepted(&world.contribute("a", [2])),
        "ten refusals did not push the hour ahead"
    );
}

#[test]
fn a_gate_refusal_does_not_count_for_the_limit_and_the_limit_comes_first() {
    let mut world = World::default();
    (0..10).for_each(|_| assert!(accepted(&world.consume("a"))));
    (0..100).for_each(|_| assert!(matches!(world.consume("a"), Outcome::Refused(Refusal::Gate { .. }))));
    world.propose(Command::SetLimits(Limits {
        contribute_per_hour: 100,
        knowledge_per_hour: 10,
    }));
    assert!(is_limited(&world.consume("a")));
}

#[test]
fn limits_have_a_range() {
    let mut world = World::default();
    let mut set = |contribute_per_hour, knowledge_per_hour| {
        world.propose(Command::SetLimits(Limits {
            contribute_per_hour,
            knowledge_per_hour,
        }))
    };
    assert_eq!(set(0, 1), Outcome::Refused(Refusal::LimitsOutOfRange));
    assert_eq!(
        set(1, Limits::PER_HOUR_MAX + 1),
        Outcome::Refused(Refusal::LimitsOutOfRange)
    );
    assert_eq!(set(1, Limits::PER_HOUR_MAX), Outcome::Done);
    assert_eq!(
        limits(&world).expect("sound"),
        Limits {
            contribute_per_hour: 1,
            knowledge_per_hour: Limits::PER_HOUR_MAX
        }
    );
}

#[test]
fn ten_thousand_requests_of_one_twilight_node_in_few_batches() {
    let mut world = World::default();
    world.register("light", true);
    let proposals: Vec<Proposal> = (0..5_000)
        .flat_map(|number| {
            [
                contribution("light", [number]),
                Command::Consume { node: node("light") },
            ]
        })
        .map(|command| world.proposal(command))
        .collect();
    let mut outcomes = Vec::new();
    for chunk in proposals.chunks(1_999) {
        outcomes.extend(world.batch(chunk.to_vec()).0);
    }
    let count = |wanted: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| wanted(outcome)).count();
    assert_eq!(
        count(|outcome| matches!(outcome, Outcome::Contributed { new: 1, .. })),
        100
    );
    assert_eq!(count(|outcome| matches!(outcome, Outcome::Charged { .. })), 50);
    assert_eq!(count(is_limited), 9_850);
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Ask(bool),
    Limit(u32, u32),
}

fn step() -> impl Generate<Value = Step> {
    prop_oneof![
        3 => prop_oneof![Just(0), Just(1), 1..HOUR / 4, HOUR - 2..HOUR + 2].prop_map(Step::Wait),
        8 => any::<bool>().prop_map(Step::Ask),
        1 => (1_u32..6, 1_u32..6).prop_map(|(contribute, knowledge)| Step::Limit(contribute, knowledge)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// The model keeps every accepted stamp for ever and counts those of the last hour.
    #[test]
    fn windows_equal_a_naive_model(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::default();
        world.register("a", true);
        let mut model: [Vec<u64>; 2] = [Vec::new(), Vec::new()];
        let mut limits = [100_u32, 50];
        for step in steps {
            match step {
                Step::Wait(microseconds) => world.now += microseconds,
                Step::Limit(contribute_per_hour, knowledge_per_hour) => {
                    limits = [contribute_per_hour, knowledge_per_hour];
                    world.propose(Command::SetLimits(Limits { contribute_per_hour, knowledge_per_hour }));
                }
                Step::Ask(contribute) => {
                    let (kind, stamps, limit) = if contribute { (Limited::Contribute, &mut model[0], limits[0]) } else { (Limited::Knowledge, &mut model[1], limits[1]) };
                    let now = world.now;
                    let counting = |stamps: &[u64], at: u64| stamps.iter().filter(|stamp| at < **stamp + HOUR).count();
                    let expected = counting(stamps, now) < limit as usize;
                    let early = super::limited(&world, &node("a"), kind, Timestamp(START + now)).expect("sound");
                    prop_assert_eq!(early.is_none(), expected);
                    let outcome = if contribute { world.contribute("a", [1]) } else { world.consume("a") };
                    prop_assert_eq!(accepted(&outcome), expected);
                    if expected {
                        stamps.push(now);
                    } else {
                        // The reset is true: one microsecond earlier it is still refused.
                        let at = now + retry_in(&outcome);
                        prop_assert!(counting(stamps, at) < limit as usize && counting(stamps, at - 1) >= limit as usize);
                        prop_assert_eq!(Outcome::Refused(early.expect("refused")), outcome);
                    }
                }
            }
        }
    }
}

/// Windows are kept under these numbers for ever.
#[test]
fn kinds_of_windows_keep_their_numbers() {
    assert_eq!([Limited::Contribute, Limited::Knowledge].map(Limited::number), [0, 1]);
}
