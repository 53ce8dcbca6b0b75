//! Random causal histories of three replicas of one key, and a model that follows along without version vectors.
//!
//! A history is what really happens: writes with the context of an earlier read (at the same node or another), with all
//! or nothing superseded, overwrites between merges, deletes, merges in any order and direction, walls that disagree. Random
//! *states* would not do: most of them arise from no history, and the laws need not hold there.
//!
//! The model knows events by number: for each replica the set it has heard of and the set that was superseded. What is
//! present is the difference. That is the definition the dotted version vector sets compress.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*, sample::select};

use crate::{
    clock::{Hybrid, Stamp, Timestamp},
    crdt::{Content, Dot, Entry, Join, Kind, Operation, Rejected, State, Supersede},
    identity::Actor,
};

pub(super) const REPLICAS: usize = 3;
const STEPS_MAX: usize = 24;
pub(super) const WALL: Timestamp = Timestamp(1_700_000_000_000_000);

/// What a writer knows of the key.
#[derive(Clone, Debug)]
pub(super) enum Context {
    All,
    Nothing,
    /// It read the state as it was after some earlier step (counted modulo the number of steps), at any replica.
    Read(usize),
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Write {
        replica: usize,
        operation: Operation,
        context: Context,
    },
    Merge {
        from: usize,
        into: usize,
    },
}

/// An event of the model.
pub(super) type Event = usize;

/// What one replica has heard of, and what of that has been superseded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Knowledge {
    pub(super) events: BTreeSet<Event>,
    superseded: BTreeSet<Event>,
}

impl Knowledge {
    pub(super) fn live(&self) -> BTreeSet<Event> {
        self.events.difference(&self.superseded).copied().collect()
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Replica {
    pub(super) state: State,
    pub(super) knowledge: Knowledge,
    clock: Hybrid,
    counter: u64,
}

/// Three replicas after some steps, and every state on the way.
pub(super) struct World {
    pub(super) replicas: Vec<Replica>,
    pub(super) past: Vec<(State, Knowledge)>,
    /// The model's events, by the dot each was given.
    pub(super) events: BTreeMap<Dot, (Event, Option<Entry>)>,
}

pub(super) fn actor(replica: usize) -> Actor {
    // One name may have several incarnations: replicas 1 and 2 share a name.
    Actor::new(["node-a", "node-b", "node-b"][replica], replica as u64)
}

/// What one write did, for oracles that follow along.
pub(super) struct Written {
    pub(super) dots: Vec<Dot>,
    /// What the writer had seen, in the model's events.
    pub(super) seen: BTreeSet<Event>,
}

impl World {
    pub(super) fn new() -> World {
        let past = vec![(State::default(), Knowledge::default())];
        World {
            replicas: vec![Replica::default(); REPLICAS],
            past,
            events: BTreeMap::new(),
        }
    }

    pub(super) fn play(steps: &[Step]) -> World {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Write {
                    replica,
                    operation,
                    context,
                } => {
                    world.write(*replica, operation, context);
                }
                Step::Merge { from, into } => world.merge(*from, *into),
            }
        }
        world
    }

    pub(super) fn merge(&mut self, from: usize, into: usize) {
        let source = self.replicas[from].clone();
        let target = &mut self.replicas[into];
        target.state.join(&source.state);
        target.knowledge.events.extend(&source.knowledge.events);
        target.knowledge.superseded.extend(&source.knowledge.superseded);
        self.past.push((target.state.clone(), target.knowledge.clone()));
    }

    /// `None` when the write was refused or had nothing to do.
    pub(super) fn write(&mut self, at: usize, operation: &Operation, context: &Context) -> Option<Written> {
        let read = match context {
            Context::Read(step) => Some(self.past[step % self.past.len()].clone()),
            _ => None,
        };
        let supersede = match (context, &read) {
            (_, Some((state, _))) => Supersede::Seen(state.context.clone()),
            (Context::Nothing, _) => Supersede::Nothing,
            _ => Supersede::All,
        };
        let seen = read.map_or_else(
            || self.replicas[at].knowledge.events.clone(),
            |(_, knowledge)| knowledge.events,
        );
        let replica = &mut self.replicas[at];
        let wall = Timestamp(WALL.0 + at as u64 * 300_000); // walls disagree by 300 ms
        let first = Dot {
            actor: actor(at),
            counter: replica.counter + 1,
        };
        let stamp = replica.clock.stamp(
            wall,
            replica.state.superseded_stamp(&first.actor, operation, &supersede),
        );
        let before = replica.state.clone();
        let used = match replica.state.write_local(&first, stamp, operation, &supersede) {
            Ok(used) => used,
            Err(rejected) => {
                assert_eq!(replica.state, before, "a refused write must leave the state alone");
                let ahead = !seen.is_subset(&replica.knowledge.events);
                assert_eq!(
                    rejected == Rejected::ContextAhead,
                    ahead && !matches!(rejected, Rejected::KindMismatch { .. })
                );
                return None;
            }
        };
        if used == 0 {
            assert_eq!(
                replica.state, before,
                "a write that does nothing must leave the state alone"
            );
            return None;
        }
        let dots: Vec<Dot> = (0..used)
            .map(|n| Dot {
                actor: actor(at),
                counter: first.counter + n,
            })
            .collect();
        replica.counter += used;
        self.follow(at, operation, context, &seen, &dots);
        let replica = &self.replicas[at];
        self.past.push((replica.state.clone(), replica.knowledge.clone()));
        Some(Written { dots, seen })
    }

    /// The same write in the model.
    fn follow(&mut self, at: usize, operation: &Operation, context: &Context, seen: &BTreeSet<Event>, dots: &[Dot]) {
        let live = self.replicas[at].knowledge.live();
        let known = |event: Event| {
            let mut all = self.events.iter();
            let (dot, (_, entry)) = all
                .find(|(_, known)| known.0 == event)
                .expect("what was heard of was written");
            (dot, entry.as_ref())
        };
        let is_element = |event: Event, list: &[String]| match known(event) {
            (_, Some(entry)) => matches!(&entry.content, Content::Element(element) if list.contains(element)),
            (_, None) => false,
        };
        let superseded: BTreeSet<Event> = match (operation, context) {
            (Operation::Put { .. }, Context::Nothing) => BTreeSet::new(),
            (Operation::Put { .. } | Operation::Delete, Context::Read(_)) => seen.clone(),
            (Operation::Put { .. } | Operation::Delete, _) => live,
            (Operation::Change { add, remove }, _) => live
                .into_iter()
                .filter(|event| is_element(*event, add) || (seen.contains(event) && is_element(*event, remove)))
                .collect(),
            (Operation::Expire { by }, _) => {
                let own_and_expired = |event: &Event| match known(*event) {
                    (dot, Some(entry)) => {
                        dot.actor.node == actor(at).node && entry.expires.is_some_and(|expires| expires <= *by)
                    }
                    (_, None) => false,
                };
                live.into_iter().filter(own_and_expired).collect()
            }
            (Operation::Add { .. }, _) => {
                let own = |event: &Event| {
                    self.events
                        .iter()
                        .any(|(dot, known)| known.0 == *event && dot.actor == actor(at))
                };
                live.into_iter().filter(own).collect()
            }
        };
        let knowledge = &mut self.replicas[at].knowledge;
        if matches!(operation, Operation::Put { .. } | Operation::Delete) {
            knowledge.events.extend(seen); // a context names writes as seen even where they have not arrived yet
        }
        knowledge.superseded.extend(superseded);
        for dot in dots {
            let event = self.events.len();
            let entry = self.replicas[at].state.entries.get(dot).cloned();
            self.replicas[at].knowledge.events.insert(event);
            if entry.is_none() {
                self.replicas[at].knowledge.superseded.insert(event); // a deletion is an event without a value
            }
            self.events.insert(dot.clone(), (event, entry));
        }
    }

    /// The dots the model has present at a replica.
    pub(super) fn expected(&self, knowledge: &Knowledge) -> BTreeSet<Dot> {
        let live = knowledge.live();
        self.events
            .iter()
            .filter(|(_, (event, _))| live.contains(event))
            .map(|(dot, _)| dot.clone())
            .collect()
    }

    /// Everybody hears of everything, along `order`.
    pub(super) fn settle(&mut self, order: &[(usize, usize)]) {
        for (from, into) in order {
            self.merge(*from, *into);
        }
        for _ in 0..2 {
            for from in 0..REPLICAS {
                self.merge(from, (from + 1) % REPLICAS);
            }
        }
    }
}

fn steps(operation: impl Strategy<Value = Operation> + 'static, contexts: Vec<u32>) -> BoxedStrategy<Vec<Step>> {
    let context = prop_oneof![
        contexts[0] => Just(Context::All),
        contexts[1] => Just(Context::Nothing),
        contexts[2] => any::<usize>().prop_map(Context::Read),
    ];
    let write = (0..REPLICAS, operation, context).prop_map(|(replica, operation, context)| Step::Write {
        replica,
        operation,
        context,
    });
    let merge = (0..REPLICAS, 1..REPLICAS).prop_map(|(from, away)| Step::Merge {
        from,
        into: (from + away) % REPLICAS,
    });
    vec(prop_oneof![3 => write, 2 => merge], 1..STEPS_MAX).boxed()
}

fn put(kind: Kind) -> impl Strategy<Value = Operation> {
    let json = select(vec![
        "1",
        "1.0",
        "\"x\"",
        "[1,2]",
        "[2,3]",
        r#"{"a":1,"b":[1]}"#,
        r#"{"b":[2],"a":{"c":null}}"#,
    ]);
    let expires = prop_oneof![4 => Just(None), 1 => (0..2_000_u64).prop_map(|ms| Some(Stamp::from_milliseconds(WALL.0 / 1000 + ms)))];
    (json, expires).prop_map(move |(json, expires)| Operation::Put {
        kind,
        json: json.to_owned(),
        expires,
    })
}

/// What the node wrote, expired by some moment of the walls' next seconds.
fn expire() -> impl Strategy<Value = Operation> {
    (0..2_500_u64).prop_map(|ms| Operation::Expire {
        by: Stamp::from_milliseconds(WALL.0 / 1000 + ms),
    })
}

fn change() -> impl Strategy<Value = Operation> {
    let elements = || vec(select(vec!["1", "2", "\"x\"", "{}"]).prop_map(str::to_owned), 0..3);
    (elements(), elements()).prop_map(|(add, remove)| Operation::Change { add, remove })
}

/// Histories of a register.
pub(super) fn register() -> BoxedStrategy<Vec<Step>> {
    steps(
        prop_oneof![5 => put(Kind::Register), 1 => Just(Operation::Delete), 2 => expire()],
        vec![1, 1, 3],
    )
}

/// Histories of a siblings key.
pub(super) fn siblings() -> BoxedStrategy<Vec<Step>> {
    steps(
        prop_oneof![5 => put(Kind::Siblings), 1 => Just(Operation::Delete), 2 => expire()],
        vec![1, 2, 3],
    )
}

/// Histories of puts alone, never of deletes.
pub(super) fn puts(kind: Kind) -> BoxedStrategy<Vec<Step>> {
    steps(put(kind), vec![1, 1, 2])
}

/// Histories of puts to a register whose writers know what their own replica knows, or nothing.
pub(super) fn puts_at_home() -> BoxedStrategy<Vec<Step>> {
    steps(put(Kind::Register), vec![2, 1, 0])
}

/// Histories of a set.
pub(super) fn set() -> BoxedStrategy<Vec<Step>> {
    steps(prop_oneof![8 => change(), 1 => Just(Operation::Delete)], vec![3, 1, 3])
}

/// Histories of a set written with everything seen at the writer.
pub(super) fn set_seen() -> BoxedStrategy<Vec<Step>> {
    steps(prop_oneof![8 => change(), 1 => Just(Operation::Delete)], vec![1, 0, 0])
}

/// Histories of a counter.
pub(super) fn counter() -> BoxedStrategy<Vec<Step>> {
    let add = (-5_i64..=9).prop_map(|delta| Operation::Add { delta });
    steps(prop_oneof![8 => add, 1 => Just(Operation::Delete)], vec![2, 1, 1])
}

/// Histories of a counter that nobody deletes.
pub(super) fn counting() -> BoxedStrategy<Vec<Step>> {
    steps((-5_i64..=9).prop_map(|delta| Operation::Add { delta }), vec![1, 1, 1])
}

/// Histories in which replicas that are cut off create one key with different kinds.
pub(super) fn mixed() -> BoxedStrategy<Vec<Step>> {
    let add = (-5_i64..=9).prop_map(|delta| Operation::Add { delta });
    let any = prop_oneof![
        put(Kind::Register),
        put(Kind::Siblings),
        change(),
        add,
        expire(),
        Just(Operation::Delete)
    ];
    steps(any, vec![1, 1, 2])
}
