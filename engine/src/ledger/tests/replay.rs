//! The same proposals make the same bytes, however they are cut into batches.

use proptest::{
    prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, proptest},
    strategy::Strategy as Generate,
};

use super::*;

/// Turns small numbers into commands of all kinds, from few members about few concepts.
fn command(kind: u8, who: u8, what: u64) -> Command {
    let node = node(&format!("m{}", who % 4));
    match kind % 14 {
        12 => adoption(
            &[adopted(node.as_str(), what % 7, u64::from(who) % 5)],
            (0..what % 3).map(|step| (what + step) % 30),
        ),
        0 => Command::Register {
            node,
            verified: who % 8 > 5,
        },
        1 => Command::SetLimits(Limits {
            contribute_per_hour: 3 + u32::from(who) % 50,
            knowledge_per_hour: 3 + u32::from(who) % 20,
        }),
        2 => Command::CreateNamespace {
            name: format!("n{}", who % 5),
            policy: NamespacePolicy {
                replication: Replication::Mesh,
                strategy: Strategy::LastWriteWins,
            },
        },
        3 => Command::SetNamespacePolicy {
            name: format!("n{}", who % 5),
            strategy: Strategy::MergeUnion,
        },
        13 => Command::Transact(transact::any(who, what)),
        4..8 => contribution(node.as_str(), (0..what % 4).map(|step| (what + step) % 30)),
        _ => Command::Consume { node },
    }
}

fn proposals() -> impl Generate<Value = Vec<Proposal>> {
    let one = (
        any::<u8>(),
        any::<u8>(),
        0_u64..60,
        0..HOUR / 3,
        prop::option::of(0_u8..12),
    );
    prop::collection::vec(one, 1..60).prop_map(|steps| {
        let mut now = START;
        let proposal = |(kind, who, what, wait, key): (u8, u8, u64, u64, Option<u8>)| {
            now += wait;
            let idempotency = key.map(|key| Idempotency {
                caller: format!("m{}", who % 4),
                key: key.to_string(),
                body: [kind % 3; 32],
            });
            Proposal {
                at: Timestamp(now),
                idempotency,
                command: command(kind, who, what),
            }
        };
        steps.into_iter().map(proposal).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn replay_is_deterministic_and_batches_do_not_show(proposals in proposals(), cuts in prop::collection::vec(1_usize..9, 60)) {
        let (mut whole, mut again, mut single, mut cut) = (World::default(), World::default(), World::default(), World::default());
        let (outcomes, batch) = whole.batch(proposals.clone());
        let (_, repeated) = again.batch(proposals.clone());
        prop_assert_eq!(format!("{batch:?}"), format!("{repeated:?}"));

        let one_by_one: Vec<Outcome> = proposals.iter().map(|proposal| single.batch(vec![proposal.clone()]).0.remove(0)).collect();
        prop_assert_eq!(&one_by_one, &outcomes);
        let mut rest = proposals.as_slice();
        for size in cuts {
            let (now, later) = rest.split_at(size.min(rest.len()));
            cut.batch(now.to_vec());
            rest = later;
        }
        for other in [&single, &cut] {
            prop_assert!(whole.records == other.records && whole.concepts == other.concepts);
        }
        prop_assert!(crate::ledger::audit::verify(&whole).is_ok());

        // What was credited is what the pool has, unless totals were adopted.
        let credited = || (0..4).map(|member| whole.standing(&format!("m{member}")).contributed);
        let stats = pool_stats(&whole).expect("sound");
        if !proposals.iter().any(|proposal| matches!(proposal.command, Command::Adopt { .. })) {
            prop_assert_eq!(credited().sum::<f64>(), stats.concepts as f64);
        }
        prop_assert_eq!(credited().filter(|credited| *credited > 0.0).count() as u64, stats.contributors);
        prop_assert_eq!(stats.concepts, whole.concepts.len() as u64);
        prop_assert_eq!(stats.concepts, stats.counter);
    }
}
