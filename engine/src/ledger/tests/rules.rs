//! The gate, the tiers, registration: the contract's worked example and its edges.

use super::*;
use crate::keyspace::ledger::Balances;

fn balances(contributed: u64, consumed: u64, verified: bool) -> Balances {
    Balances {
        registered_at: None,
        verified,
        contributed,
        consumed,
    }
}

fn deficit(balances: &Balances) -> Option<f64> {
    match account::gate(balances) {
        Ok(()) => None,
        Err(Refusal::Gate { deficit, minimum, .. }) => {
            assert_eq!(minimum, 0.1);
            Some(deficit)
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn the_worked_example() {
    let examples = [
        (0, 0, false, 0.0, Tier::Basic, None),
        (0, 9, false, 0.0, Tier::Basic, None),
        (0, 10, false, 0.0, Tier::Blocked, Some(1.0)),
        (1, 10, false, 0.1, Tier::Basic, None),
        (1, 11, false, 1.0 / 11.0, Tier::Blocked, Some(0.1)),
        (3, 2, false, 1.5, Tier::Advanced, None),
        (5, 0, false, 0.0, Tier::Contributor, None),
        (0, 1_000, true, 0.0, Tier::Twilight, None),
    ];
    for (contributed, consumed, verified, ratio, tier, missing) in examples {
        let balances = balances(contributed, consumed, verified);
        let standing = Standing::of(&balances);
        assert_eq!(
            (standing.ratio, standing.tier, standing.allowed),
            (ratio, tier, missing.is_none()),
            "{contributed}/{consumed}"
        );
        assert_eq!(deficit(&balances), missing, "{contributed}/{consumed}");
    }
}

#[test]
fn tiers_change_exactly_at_their_bounds() {
    for (contributed, consumed, tier) in [
        (0, 1, Tier::Basic),
        (1, 9, Tier::Basic),
        (99, 1_000, Tier::Blocked),
        (100, 1_000, Tier::Basic),
        (499, 1_000, Tier::Basic),
        (500, 1_000, Tier::Intermediate),
        (999, 1_000, Tier::Intermediate),
        (1_000, 1_000, Tier::Advanced),
        (1_999, 1_000, Tier::Advanced),
        (2_000, 1_000, Tier::Contributor),
        (1, 2, Tier::Intermediate),
        (0, u64::MAX, Tier::Blocked),
        (1 << 60, 1 << 60, Tier::Advanced),
    ] {
        assert_eq!(
            Standing::of(&balances(contributed, consumed, false)).tier,
            tier,
            "{contributed}/{consumed}"
        );
    }
}

#[test]
fn a_tenth_passes_at_any_size_and_one_less_does_not() {
    for contributed in [1, 3, 7, 33, 1_000_003, 1 << 50] {
        assert_eq!(deficit(&balances(contributed, contributed * 10, false)), None);
        assert_eq!(deficit(&balances(contributed, contributed * 10 + 1, false)), Some(0.1));
    }
    assert_eq!(deficit(&balances(2, 33, false)), Some(1.3));
}

#[test]
fn grace_ends_with_the_tenth_request_and_the_gate_names_what_is_missing() {
    let mut world = World::default();
    for consumed in 1..=10 {
        let Outcome::Charged {
            standing,
            pool_counter: 0,
        } = world.consume("taker")
        else {
            panic!("grace")
        };
        assert_eq!(
            (standing.consumed, standing.allowed),
            (f64::from(consumed), consumed < 10)
        );
    }
    let before = world.records.clone();
    let Outcome::Refused(Refusal::Gate { standing, deficit, .. }) = world.consume("taker") else {
        panic!("the gate is shut")
    };
    assert_eq!((standing.tier, deficit), (Tier::Blocked, 1.0));
    assert_eq!(world.records, before, "a refusal writes nothing");

    let Outcome::Contributed {
        new: 1,
        duplicates: 0,
        standing,
    } = world.contribute("taker", [1])
    else {
        panic!()
    };
    assert_eq!(
        (standing.ratio, standing.tier, standing.allowed),
        (0.1, Tier::Basic, true)
    );
    assert!(
        matches!(world.consume("taker"), Outcome::Charged { pool_counter: 1, .. }),
        "exactly 0.1 passes"
    );
    assert!(matches!(
        world.consume("taker"),
        Outcome::Refused(Refusal::Gate { deficit: 0.1, .. })
    ));
}

#[test]
fn verified_members_pass_the_gate() {
    let mut world = World::default();
    world.register("light", true);
    for _ in 0..50 {
        assert!(matches!(world.consume("light"), Outcome::Charged { .. }));
    }
    assert_eq!(world.standing("light").tier, Tier::Twilight);
}

#[test]
fn registration_is_kept_and_can_be_upgraded() {
    let mut world = World::default();
    assert_eq!(world.standing("a").registered_at, None);
    let Outcome::Registered {
        already: false,
        registered_at,
        standing,
    } = world.register("a", false)
    else {
        panic!()
    };
    assert_eq!((registered_at, standing.verified), (Timestamp(START), false));
    world.now += HOUR;
    let Outcome::Registered {
        already: true,
        registered_at,
        standing,
    } = world.register("a", true)
    else {
        panic!()
    };
    assert_eq!(
        (registered_at, standing.verified, standing.tier),
        (Timestamp(START), true, Tier::Twilight)
    );
    let Outcome::Registered {
        already: true,
        standing,
        ..
    } = world.register("a", false)
    else {
        panic!()
    };
    assert!(standing.verified, "nothing takes it away");

    world.contribute("unregistered", [1]);
    assert_eq!(world.standing("unregistered").contributed, 1.0);
    let Outcome::Registered {
        already: false,
        standing,
        ..
    } = world.register("unregistered", false)
    else {
        panic!()
    };
    assert_eq!(standing.contributed, 1.0, "what was given before counts");
}

#[test]
fn ledger_time_never_goes_back() {
    let mut world = World {
        now: 2 * HOUR,
        ..World::default()
    };
    world.register("a", false);
    world.now = HOUR;
    let Outcome::Registered { registered_at, .. } = world.register("b", false) else {
        panic!()
    };
    assert_eq!(registered_at, Timestamp(START + 2 * HOUR));
}
