//! Two keys that are only ever read and written together, each time in one transaction: one register in two places.
//!
//! A history is judged key by key, which says nothing of what a transaction does to several. Here both keys must hold the same,
//! written by the same revisions; so the two are judged as if they were one key, and a transaction that was carried out by halves,
//! or seen by halves, cannot pass.

use client::{Action as Step, ActionResult, Compare, Concept, Error, Namespace, Transacted, Transaction};

use super::held;
use crate::history::{Action, Answer};

/// Carries out `action` on both; also what was read, of one of them.
///
/// # Panics
/// When the two differ.
pub(super) async fn perform(
    namespace: &Namespace,
    keys: [&str; 2],
    action: Action,
) -> Result<(Answer, Option<Concept>), Error> {
    let done = namespace.transact(transaction(keys, action)).await?;
    Ok(match action {
        Action::Put(_) => (Answer::Written, None),
        Action::Delete => (Answer::Deleted(deleted(&done)), None),
        Action::CompareAndSet { .. } if done.succeeded() => (Answer::Swapped, None),
        Action::CompareAndSet { .. } => {
            let concept = read(done);
            (Answer::Differed(concept.as_ref().and_then(held)), concept)
        }
        Action::Get => {
            let concept = read(done);
            (Answer::Read(concept.as_ref().and_then(held)), concept)
        }
    })
}

fn transaction(keys: [&str; 2], action: Action) -> Transaction {
    let both = |step: &dyn Fn(&str) -> Step| keys.map(step);
    let (compares, then, otherwise) = match action {
        Action::Get => (None, both(&|key| Step::get(key)), None),
        Action::Put(value) => (None, both(&|key| Step::put(key, value.to_string())), None),
        Action::Delete => (None, both(&|key| Step::delete(key)), None),
        Action::CompareAndSet { expected, value } => (
            Some(keys.map(|key| match expected {
                Some(expected) => Compare::json(key, expected.to_string()),
                None => Compare::absent(key),
            })),
            both(&|key| Step::put(key, value.to_string())),
            Some(both(&|key| Step::get(key))),
        ),
    };
    let compares = compares.into_iter().flatten();
    let transaction = compares.fold(Transaction::new(), Transaction::compare);
    let transaction = then.into_iter().fold(transaction, Transaction::then);
    otherwise
        .into_iter()
        .flatten()
        .fold(transaction, Transaction::otherwise)
}

/// What both hold.
fn read(done: Transacted) -> Option<Concept> {
    let [
        ActionResult::Got { concept: first, .. },
        ActionResult::Got { concept: second, .. },
    ] = &done.results[..]
    else {
        panic!("both keys should have been read: {done:?}");
    };
    let seen = |concept: &Option<Concept>| concept.as_ref().map(|concept| (held(concept), concept.place));
    assert_eq!(
        seen(first),
        seen(second),
        "two keys that are written together differ: {done:?}"
    );
    first.clone()
}

fn deleted(done: &Transacted) -> bool {
    match done.results[..] {
        [
            ActionResult::Deleted { deleted: first },
            ActionResult::Deleted { deleted: second },
        ] if first == second => first,
        _ => panic!("both keys should have been deleted, or none: {done:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, panic};

    use client::{Context, Place, Value, Version};

    use super::*;

    /// A register that this revision wrote.
    fn holds(value: u64, revision: u64) -> Option<Concept> {
        Some(Concept {
            key: "k".to_owned(),
            value: Value::Register(Version {
                json: value.to_string(),
                written_at: None,
                written_by: "n1".to_owned(),
                expires_at: None,
            }),
            context: Context::default(),
            clock: BTreeMap::new(),
            place: Some(Place {
                revision,
                created_revision: 1,
                version: 1,
            }),
        })
    }

    fn done(results: Vec<ActionResult>) -> Transacted {
        Transacted {
            failed: None,
            revision: 1,
            results,
            replayed: false,
        }
    }

    fn both(first: Option<Concept>, second: Option<Concept>) -> Transacted {
        let got = |concept| ActionResult::Got {
            concept,
            omitted: false,
        };
        done(vec![got(first), got(second)])
    }

    #[test]
    fn two_that_are_the_same_are_read_as_one() {
        assert_eq!(read(both(None, None)), None);
        assert_eq!(read(both(holds(7, 3), holds(7, 3))).as_ref().and_then(held), Some(7));
        let gone = |deleted| ActionResult::Deleted { deleted };
        assert!(deleted(&done(vec![gone(true), gone(true)])));
        assert!(!deleted(&done(vec![gone(false), gone(false)])));
    }

    #[test]
    fn halves_are_noticed() {
        for (first, second) in [
            (holds(7, 3), None),
            (holds(7, 3), holds(8, 3)),
            // Written by two decisions, though alike.
            (holds(7, 3), holds(7, 4)),
        ] {
            let seen = panic::catch_unwind(|| read(both(first, second)));
            assert!(seen.is_err(), "{seen:?}");
        }
        let gone = [true, false].map(|deleted| ActionResult::Deleted { deleted });
        assert!(panic::catch_unwind(|| deleted(&done(gone.to_vec()))).is_err());
    }
}
