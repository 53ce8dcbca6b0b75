//! The `crdts` crate as an independent oracle, where it has the type: multi-value register (for registers and siblings),
//! last-write-wins register, observed-remove set without tombstones, PN-counter. Same histories, same values at every
//! replica after every step.

use std::collections::BTreeSet;

use crdts::{CmRDT, CvRDT, LWWReg, MVReg, Orswot, PNCounter, VClock, mvreg};
use proptest::prelude::*;

use super::history::{self, Context, REPLICAS, Step, World};
use crate::{
    clock::Stamp,
    crdt::{Content, Kind, Operation, Reading, State, Strategy as Resolution},
    identity::Actor,
};

fn values(state: &State) -> Vec<String> {
    let mut values: Vec<String> = state
        .entries
        .values()
        .filter_map(|entry| match &entry.content {
            Content::Register(json) | Content::Sibling(json) | Content::Element(json) => Some(json.clone()),
            Content::Sums { .. } => None,
        })
        .collect();
    values.sort();
    values
}

/// Every write is an actor of its own to the oracle: it has no notion of one actor writing twice concurrently.
fn keeps_what_mvreg_keeps(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut world = World::new();
    let mut oracles: Vec<MVReg<String, usize>> = vec![MVReg::new(); REPLICAS];
    for step in steps {
        match step {
            Step::Merge { from, into } => {
                world.merge(*from, *into);
                let source = oracles[*from].clone();
                oracles[*into].merge(source);
            }
            Step::Write {
                replica,
                operation,
                context,
            } => {
                let Operation::Put { json, .. } = operation else {
                    unreachable!("histories of puts")
                };
                let written = world
                    .write(*replica, operation, context)
                    .expect("puts of one kind are taken");
                let event = world.events[&written.dots[0]].0;
                let mut clock: VClock<usize> = VClock::new();
                if !matches!(context, Context::Nothing) {
                    written.seen.iter().for_each(|seen| clock.apply(clock.inc(*seen)));
                }
                clock.apply(clock.inc(event));
                oracles[*replica].apply(mvreg::Op::Put {
                    clock,
                    val: json.clone(),
                });
            }
        }
        for (replica, oracle) in world.replicas.iter().zip(&oracles) {
            let mut expected = oracle.read().val;
            expected.sort();
            prop_assert_eq!(values(&replica.state), expected);
        }
    }
    Ok(())
}

/// What a siblings key gives to a reader, in any order.
fn read_siblings(state: &State) -> Vec<String> {
    let mut read = match state.read(Resolution::LastWriteWins, Stamp(0)) {
        Some(Reading::Siblings(siblings)) => siblings.into_iter().map(|sibling| sibling.json).collect(),
        other => {
            assert_eq!(other, None, "siblings are read as siblings, whatever the strategy");
            Vec::new()
        }
    };
    read.sort();
    read
}

proptest! {
    #[test]
    fn a_register_keeps_what_mvreg_keeps(steps in history::puts(Kind::Register)) {
        keeps_what_mvreg_keeps(&steps)?;
    }

    #[test]
    fn siblings_keep_what_mvreg_keeps_and_all_of_it_is_read(steps in history::puts(Kind::Siblings)) {
        keeps_what_mvreg_keeps(&steps)?;
        for (state, _) in &World::play(&steps).past {
            prop_assert_eq!(read_siblings(state), values(state));
        }
    }

    /// The oracle's marker is what breaks ties here: stamp, then actor. Contexts read at other replicas are left out: they
    /// may supersede a value that has not arrived and has a higher stamp. There causality decides, and the oracle has none.
    #[test]
    fn last_write_wins_reads_what_lwwreg_holds(steps in history::puts_at_home()) {
        type Marker = Option<(Stamp, Actor)>;
        let mut world = World::new();
        let mut oracles: Vec<LWWReg<String, Marker>> = vec![LWWReg::default(); REPLICAS];
        for step in &steps {
            match step {
                Step::Merge { from, into } => {
                    world.merge(*from, *into);
                    let source = oracles[*from].clone();
                    prop_assert_eq!(oracles[*into].validate_merge(&source), Ok(()));
                    oracles[*into].merge(source);
                }
                Step::Write { replica, operation, context } => {
                    let Operation::Put { json, .. } = operation else { unreachable!("histories of puts") };
                    let written = world.write(*replica, operation, context).expect("puts of one kind are taken");
                    let dot = &written.dots[0];
                    let stamp = world.replicas[*replica].state.entries[dot].stamp;
                    oracles[*replica].update(json.clone(), Some((stamp, dot.actor.clone())));
                }
            }
            for (replica, oracle) in world.replicas.iter().zip(&oracles) {
                let read = match replica.state.read(Resolution::LastWriteWins, Stamp(0)) {
                    Some(Reading::Value(value)) => LWWReg { val: value.json, marker: Some((value.stamp, value.actor)) },
                    other => { prop_assert_eq!(other, None); LWWReg::default() }
                };
                prop_assert_eq!(&read, oracle);
            }
        }
    }

    #[test]
    fn a_set_holds_what_orswot_holds(steps in history::set_seen()) {
        let mut world = World::new();
        let mut oracles: Vec<Orswot<String, usize>> = vec![Orswot::new(); REPLICAS];
        for step in &steps {
            match step {
                Step::Merge { from, into } => {
                    world.merge(*from, *into);
                    let source = oracles[*from].clone();
                    oracles[*into].merge(source);
                }
                Step::Write { replica, operation, context } => {
                    world.write(*replica, operation, context);
                    write_orswot(&mut oracles[*replica], *replica, operation);
                }
            }
            for (replica, oracle) in world.replicas.iter().zip(&oracles) {
                let expected: BTreeSet<String> = oracle.read().val.into_iter().collect();
                prop_assert_eq!(values(&replica.state).into_iter().collect::<BTreeSet<_>>(), expected.clone());
                let read = match replica.state.read(Resolution::LastWriteWins, Stamp(0)) {
                    Some(Reading::Set(elements)) => elements,
                    other => { prop_assert_eq!(other, None); Vec::new() }
                };
                prop_assert_eq!(read, expected.into_iter().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_counter_counts_what_pncounter_counts(steps in history::counting()) {
        let mut world = World::new();
        let mut oracles: Vec<PNCounter<usize>> = vec![PNCounter::new(); REPLICAS];
        for step in &steps {
            match step {
                Step::Merge { from, into } => {
                    world.merge(*from, *into);
                    let source = oracles[*from].clone();
                    oracles[*into].merge(source);
                }
                Step::Write { replica, operation, context } => {
                    let Operation::Add { delta } = operation else { unreachable!("histories of additions") };
                    if world.write(*replica, operation, context).is_some() {
                        let oracle = &mut oracles[*replica];
                        let steps = delta.unsigned_abs();
                        let op = if *delta < 0 { oracle.dec_many(*replica, steps) } else { oracle.inc_many(*replica, steps) };
                        oracle.apply(op);
                    }
                }
            }
            for (replica, oracle) in world.replicas.iter().zip(&oracles) {
                let total = match replica.state.read(Resolution::KeepSiblings, Stamp(0)) {
                    Some(Reading::Counter(total)) => total,
                    other => { prop_assert_eq!(other, None); 0 }
                };
                prop_assert_eq!(total.to_string(), oracle.read().to_string());
            }
        }
    }
}

fn write_orswot(oracle: &mut Orswot<String, usize>, replica: usize, operation: &Operation) {
    match operation {
        Operation::Change { add, remove } => {
            for element in remove {
                let op = oracle.rm(element.clone(), oracle.contains(element).derive_rm_ctx());
                oracle.apply(op);
            }
            if !add.is_empty() {
                let op = oracle.add_all(add.clone(), oracle.read_ctx().derive_add_ctx(replica));
                oracle.apply(op);
            }
        }
        Operation::Delete => {
            let read = oracle.read();
            let members: Vec<String> = read.val.iter().cloned().collect();
            let op = oracle.rm_all(members, read.derive_rm_ctx());
            oracle.apply(op);
        }
        Operation::Put { .. } | Operation::Add { .. } | Operation::Expire { .. } => {
            unreachable!("histories of a set")
        }
    }
}
