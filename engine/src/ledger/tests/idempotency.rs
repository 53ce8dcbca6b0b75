//! Retries: the same answer, no second effect, bounded memory.

use super::*;
use crate::{
    keyspace::requests::{self, Outcome as Recorded},
    ledger::{
        idempotency::{Bounds, remember},
        overlay::Records,
    },
};

const DAY: u64 = 24 * HOUR;

fn key(caller: &str, key: &str, body: u8) -> Idempotency {
    Idempotency {
        caller: caller.to_owned(),
        key: key.to_owned(),
        body: [body; 32],
    }
}

impl World {
    fn ask(&mut self, idempotency: Idempotency, command: Command) -> Outcome {
        let proposal = Proposal {
            idempotency: Some(idempotency),
            ..self.proposal(command)
        };
        self.batch(vec![proposal]).0.remove(0)
    }

    fn remembered(&self) -> usize {
        self.records
            .keys()
            .filter(|(family, _)| *family == Family::Requests)
            .count()
    }
}

#[test]
fn a_retry_is_answered_the_same_and_writes_nothing() {
    let mut world = World::default();
    let first = world.ask(key("a", "k", 1), contribution("a", [1, 2]));
    assert!(matches!(first, Outcome::Contributed { new: 2, .. }));
    world.contribute("a", [3]);
    world.now += DAY - 1;
    let before = world.records.clone();
    assert_eq!(world.ask(key("a", "k", 1), contribution("a", [1, 2])), first);
    assert_eq!(world.records, before);
}

#[test]
fn every_kind_of_outcome_is_repeated() {
    let policy = NamespacePolicy {
        replication: Replication::Consensus,
        strategy: Strategy::KeepSiblings,
    };
    let commands = [
        Command::Register {
            node: node("a"),
            verified: true,
        },
        contribution("a", [1, 1]),
        Command::Consume { node: node("a") },
        Command::SetLimits(Limits::default()),
        Command::CreateNamespace {
            name: "n".into(),
            policy,
        },
        Command::SetNamespacePolicy {
            name: "n".into(),
            strategy: Strategy::MergeUnion,
        },
    ];
    let mut world = World::default();
    for (index, command) in commands.iter().enumerate() {
        let name = index.to_string();
        let first = world.ask(key("a", &name, 1), command.clone());
        assert!(!matches!(first, Outcome::Refused(_)), "{first:?}");
        assert_eq!(world.ask(key("a", &name, 1), command.clone()), first);
        // The same body and key for another kind of command is another request.
        let other = commands[(index + 1) % commands.len()].clone();
        assert_eq!(
            world.ask(key("a", &name, 1), other),
            Outcome::Refused(Refusal::KeyReused)
        );
    }
}

#[test]
fn a_retry_within_the_batch_sees_the_first() {
    let mut world = World::default();
    let ask = || Proposal {
        at: Timestamp(START),
        idempotency: Some(key("a", "k", 1)),
        command: Command::Consume { node: node("a") },
    };
    let (decisions, _) = world.decide(vec![ask(), ask(), ask()]);
    assert!(
        decisions
            .iter()
            .all(|decision| decision.outcome == decisions[0].outcome)
    );
    let repeated: Vec<bool> = decisions.iter().map(|decision| decision.repeated).collect();
    assert_eq!(repeated, [false, true, true], "only the first did anything");
    assert_eq!(world.standing("a").consumed, 1.0);
}

#[test]
fn a_reused_key_is_refused_before_limit_and_gate() {
    let mut world = World::default();
    world.propose(Command::SetLimits(Limits {
        contribute_per_hour: 1,
        knowledge_per_hour: 1,
    }));
    let first = world.ask(key("a", "k", 1), Command::Consume { node: node("a") });
    assert_eq!(
        world.ask(key("a", "k", 2), Command::Consume { node: node("a") }),
        Outcome::Refused(Refusal::KeyReused)
    );
    assert_eq!(
        world.ask(key("a", "k", 1), Command::Consume { node: node("a") }),
        first,
        "a retry is not limited"
    );
    assert!(
        is_limited(&world.ask(key("b", "k", 2), Command::Consume { node: node("a") })),
        "callers' keys never meet"
    );
}

#[test]
fn refusals_are_not_kept() {
    let mut world = World::default();
    (0..10).for_each(|_| drop(world.consume("a")));
    let ask = |world: &mut World| world.ask(key("a", "k", 1), Command::Consume { node: node("a") });
    assert!(matches!(ask(&mut world), Outcome::Refused(Refusal::Gate { .. })));
    world.contribute("a", [1]);
    assert!(
        matches!(ask(&mut world), Outcome::Charged { .. }),
        "the retry of a refused request is a new request"
    );
}

#[test]
fn keys_are_forgotten_after_a_day_and_nothing_of_them_stays() {
    let mut world = World::default();
    for number in 0..40 {
        world.ask(
            key(&format!("c{}", number % 3), &number.to_string(), 1),
            Command::Register {
                node: node("a"),
                verified: false,
            },
        );
    }
    world.now += DAY;
    // Expired but not yet forgotten: the key is free, and its old trace must not take the new record along.
    world.ask(key("c2", "38", 2), contribution("a", [1]));
    for _ in 0..30 {
        world.register("a", false);
    }
    assert!(matches!(
        world.ask(key("c2", "38", 2), contribution("a", [1])),
        Outcome::Contributed { new: 1, .. }
    ));
    assert_eq!(
        world.remembered(),
        5,
        "answer, order, turn, caller and head of the one that is left"
    );
    world.now += DAY;
    world.register("a", false);
    assert_eq!(world.remembered(), 1, "the head");
    let head: requests::Head = (&world as &dyn View)
        .record(Family::Requests, &requests::head())
        .expect("sound")
        .expect("there");
    assert_eq!((head.live, head.next), (0, head.oldest));
}

#[test]
fn memory_is_bounded_per_caller_and_in_total() {
    let bounds = Bounds {
        per_caller: 3,
        total: 7,
    };
    let mut world = World::default();
    let mut model: Vec<(String, String)> = Vec::new();
    for number in 0..200_u64 {
        // Uneven callers, so that both bounds are met and the order has holes.
        let caller = format!("c{}", [0, 0, 0, 1, 0, 2, 3, 0, 4, 1][(number % 10) as usize]);
        let mut overlay = Overlay::new(&world, "cluster");
        remember(
            &mut overlay,
            key(&caller, &number.to_string(), 1),
            Timestamp(START + number),
            Recorded::LimitsSet,
            bounds,
        )
        .expect("sound");
        let batch = overlay.into_batch();
        world.store(&batch);

        if model.iter().filter(|(whose, _)| *whose == caller).count() == 3 {
            let oldest = model.iter().position(|(whose, _)| *whose == caller).expect("three");
            model.remove(oldest);
        }
        if model.len() == 7 {
            model.remove(0);
        }
        model.push((caller, number.to_string()));
        for asked in 0..=number {
            for caller in 0..5 {
                let caller = format!("c{caller}");
                let found = world
                    .records
                    .contains_key(&(Family::Requests, requests::answered(&caller, &asked.to_string())));
                assert_eq!(found, model.contains(&(caller, asked.to_string())), "{number}: {asked}");
            }
        }
        let callers: std::collections::BTreeSet<_> = model.iter().map(|(caller, _)| caller).collect();
        assert_eq!(world.remembered(), 3 * model.len() + callers.len() + 1);
    }
}
