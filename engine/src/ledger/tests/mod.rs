//! A ledger on a map, and what the tests ask of it.

mod adopt;
mod audit;
mod credit;
mod idempotency;
mod members;
mod namespaces;
mod replay;
mod rules;
mod transact;
mod windows;

use std::collections::BTreeMap;

use super::*;
use crate::{
    commit::{Batch, Mutation},
    crdt::State,
    store::{Error, Family, View, Write},
};

const SECOND: u64 = 1_000_000;
const HOUR: u64 = 3_600 * SECOND;
const START: u64 = 1_700_000_000 * SECOND;

/// Everything stored, and a clock that only the test moves.
#[derive(Default)]
struct World {
    records: BTreeMap<(Family, Vec<u8>), Vec<u8>>,
    concepts: BTreeMap<Vec<u8>, State>,
    /// Microseconds since `START`.
    now: u64,
}

impl View for World {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.records.get(&(family, key.to_vec())).cloned())
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        for ((found, key), value) in self.records.range((family, from.to_vec())..) {
            if *found != family || to.is_some_and(|to| key.as_slice() >= to) || !visit(key, value) {
                break;
            }
        }
        Ok(())
    }
}

impl World {
    fn proposal(&self, command: Command) -> Proposal {
        Proposal {
            at: Timestamp(START + self.now),
            idempotency: None,
            command,
        }
    }

    /// Decides all in one batch, and stores it.
    fn decide(&mut self, proposals: Vec<Proposal>) -> (Vec<Decision>, Batch) {
        let mut overlay = Overlay::new(self, "cluster");
        let decisions = proposals
            .into_iter()
            .map(|proposal| apply(&mut overlay, proposal).expect("a sound store"))
            .collect();
        let batch = overlay.into_batch();
        self.store(&batch);
        (decisions, batch)
    }

    /// Decides all in one batch, and stores it: what came of each.
    fn batch(&mut self, proposals: Vec<Proposal>) -> (Vec<Outcome>, Batch) {
        let (decisions, batch) = self.decide(proposals);
        (decisions.into_iter().map(|decision| decision.outcome).collect(), batch)
    }

    fn store(&mut self, batch: &Batch) {
        for mutation in &batch.mutations {
            match mutation {
                Mutation::Apply(writes) => writes.iter().for_each(|write| self.write(write)),
                Mutation::Join { namespace, key, state } => {
                    assert_eq!(*namespace, NamespaceId::SHARED);
                    assert!(state.is_sound());
                    assert!(
                        self.concepts.insert(key.clone(), state.clone()).is_none(),
                        "a hash enters the pool once"
                    );
                }
                other => panic!("the ledger never makes a {other:?}"),
            }
        }
    }

    fn write(&mut self, write: &Write) {
        let Write { family, key, value } = write;
        assert!(matches!(
            family,
            Family::Ledger | Family::Pool | Family::Requests | Family::Registry | Family::Audit | Family::Consensus
        ));
        match value {
            Some(value) => self.records.insert((*family, key.clone()), value.clone()),
            None => self.records.remove(&(*family, key.clone())),
        };
    }

    fn propose(&mut self, command: Command) -> Outcome {
        let proposal = self.proposal(command);
        let (mut outcomes, _) = self.batch(vec![proposal]);
        outcomes.remove(0)
    }

    fn register(&mut self, name: &str, verified: bool) -> Outcome {
        self.propose(Command::Register {
            node: node(name),
            verified,
        })
    }

    /// Gives the concepts of these numbers.
    fn contribute(&mut self, name: &str, numbers: impl IntoIterator<Item = u64>) -> Outcome {
        self.propose(contribution(name, numbers))
    }

    fn consume(&mut self, name: &str) -> Outcome {
        self.propose(Command::Consume { node: node(name) })
    }

    fn standing(&self, name: &str) -> Standing {
        standing(self, &node(name)).expect("a sound store")
    }
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a valid name")
}

fn concept(number: u64) -> PoolConcept {
    PoolConcept::new(serde_json::json!({"name": number, "id": 7}), &Anonymiser::default()).expect("a name is left")
}

fn contribution(name: &str, numbers: impl IntoIterator<Item = u64>) -> Command {
    Command::Contribute {
        node: node(name),
        concepts: numbers.into_iter().map(concept).collect(),
    }
}

/// A member with these totals, and nothing else.
fn adopted(name: &str, contributed: u64, consumed: u64) -> AdoptedMember {
    AdoptedMember {
        node: node(name),
        registered_at: None,
        verified: false,
        contributed,
        consumed,
        contributions: Vec::new(),
    }
}

/// Takes over `members` and the concepts of these numbers, each as many seconds old as its number.
fn adoption(members: &[AdoptedMember], numbers: impl IntoIterator<Item = u64>) -> Command {
    let concepts = numbers.into_iter().map(|number| AdoptedConcept {
        concept: concept(number),
        first_at: Timestamp(START - number * SECOND),
    });
    Command::Adopt {
        contributor: node("other"),
        members: members.to_vec(),
        concepts: concepts.collect(),
    }
}

fn is_limited(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(Refusal::RateLimited { .. }))
}

#[test]
fn names_of_members_are_data() {
    for name in ["a", "../../etc/passwd", "名前 🦀", "a/b\\c", "{}", &"x".repeat(256)] {
        assert_eq!(NodeId::new(name).expect(name).as_str(), name);
    }
    assert_eq!(NodeId::new(""), Err(NodeIdError::Empty));
    assert_eq!(NodeId::new("é".repeat(129)), Err(NodeIdError::TooLong));
    for name in ["a\nb", "\0", "\u{7f}", "a\u{85}"] {
        assert_eq!(NodeId::new(name), Err(NodeIdError::ControlCharacter));
    }
}
