use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::*;

/// A history written as a story: client, begin, end, action, answer.
fn story(calls: &[(usize, u64, u64, Action, Outcome)]) -> History {
    let operation = |(client, begin, end, action, outcome): &(usize, u64, u64, Action, Outcome)| Operation {
        client: *client,
        node: "n1".to_owned(),
        key: "k".to_owned(),
        action: *action,
        begin: Duration::from_millis(*begin),
        end: Duration::from_millis(*end),
        outcome: outcome.clone(),
    };
    History {
        operations: calls.iter().map(operation).collect(),
    }
}

const GET: Action = Action::Get;
const DELETE: Action = Action::Delete;
const WRITTEN: Outcome = Outcome::Done(Answer::Written);
const SWAPPED: Outcome = Outcome::Done(Answer::Swapped);

fn put(value: u64) -> Action {
    Action::Put(value)
}

fn swap(expected: u64, value: u64) -> Action {
    let expected = Some(expected);
    Action::CompareAndSet { expected, value }
}

fn read(value: u64) -> Outcome {
    Outcome::Done(Answer::Read(Some(value)))
}

fn nothing() -> Outcome {
    Outcome::Done(Answer::Read(None))
}

fn deleted(there: bool) -> Outcome {
    Outcome::Done(Answer::Deleted(there))
}

fn unknown() -> Outcome {
    Outcome::Unknown("no answer".to_owned())
}

fn failed() -> Outcome {
    Outcome::Failed("no quorum".to_owned())
}

/// Caught, and the blame falls on the call at `culprit`.
fn caught(calls: &[(usize, u64, u64, Action, Outcome)], culprit: usize, words: &str) {
    let history = story(calls);
    let violation = check(&history).expect_err("a violation was planted");
    assert_eq!(violation.culprit, history.operations[culprit], "{violation}");
    assert!(violation.reason.contains(words), "{violation}");
}

fn legal(calls: &[(usize, u64, u64, Action, Outcome)]) {
    if let Err(violation) = check(&story(calls)) {
        panic!("{violation}");
    }
}

#[test]
fn a_stale_read_is_caught() {
    caught(
        &[
            (0, 0, 1, put(1), WRITTEN),
            (0, 2, 3, put(2), WRITTEN),
            (1, 4, 5, GET, read(1)),
        ],
        2,
        "1 cannot have been there",
    );
}

#[test]
fn a_lost_write_is_caught() {
    caught(
        &[(0, 0, 1, put(1), WRITTEN), (1, 2, 3, GET, nothing())],
        1,
        "cannot have held nothing",
    );
    caught(
        &[(0, 0, 1, put(1), WRITTEN), (1, 2, 3, DELETE, deleted(false))],
        1,
        "cannot have been so",
    );
}

#[test]
fn a_compare_and_set_that_happens_twice_is_caught() {
    caught(
        &[
            (0, 0, 1, put(1), WRITTEN),
            (0, 2, 3, swap(1, 2), SWAPPED),
            (1, 2, 4, swap(1, 3), SWAPPED),
        ],
        2,
        "1 cannot have been there",
    );
    // Its retry was carried out again, over what was written between.
    caught(
        &[
            (0, 0, 1, put(1), WRITTEN),
            (0, 2, 9, swap(1, 2), SWAPPED),
            (1, 3, 4, GET, read(2)),
            (1, 5, 6, put(1_000), WRITTEN),
            (1, 7, 8, GET, read(2)),
        ],
        4,
        "2 cannot have been there",
    );
}

#[test]
fn a_value_that_nobody_wrote_is_caught() {
    caught(&[(0, 0, 1, GET, read(9))], 0, "nobody wrote");
}

#[test]
fn a_refused_write_that_took_effect_is_caught() {
    caught(
        &[(0, 0, 1, put(1), failed()), (1, 2, 3, GET, read(1))],
        1,
        "told that nothing had happened",
    );
}

#[test]
fn an_inverted_order_is_caught() {
    // Two readers see two concurrent writes in opposite orders.
    caught(
        &[
            (0, 0, 100, put(1), WRITTEN),
            (1, 0, 100, put(2), WRITTEN),
            (2, 1, 2, GET, read(1)),
            (2, 3, 4, GET, read(2)),
            (3, 5, 6, GET, read(1)),
        ],
        4,
        "1 cannot have been there",
    );
}

#[test]
fn an_unknown_write_happens_once_at_most() {
    caught(
        &[
            (0, 0, 1, put(1), unknown()),
            (1, 2, 3, GET, read(1)),
            (1, 4, 5, put(2), WRITTEN),
            (1, 6, 7, GET, read(1)),
        ],
        3,
        "1 cannot have been there",
    );
    caught(
        &[(1, 0, 1, GET, read(1)), (0, 2, 3, put(1), unknown())],
        0,
        "1 cannot have been there",
    );
}

#[test]
fn a_compare_that_tells_wrongly_is_caught() {
    let differed = |value| Outcome::Done(Answer::Differed(Some(value)));
    caught(
        &[(0, 0, 1, put(1), WRITTEN), (1, 2, 3, swap(1, 2), differed(1))],
        1,
        "1 cannot have been there",
    );
    caught(
        &[
            (0, 0, 1, put(1), WRITTEN),
            (1, 2, 3, swap(1, 2), Outcome::Done(Answer::Refused)),
        ],
        1,
        "cannot have been so",
    );
}

#[test]
fn what_is_concurrent_may_take_any_order() {
    legal(&[
        (0, 0, 10, put(1), WRITTEN),
        (1, 0, 10, put(2), WRITTEN),
        (2, 1, 2, GET, nothing()),
        (2, 3, 4, GET, read(2)),
        (2, 5, 6, GET, read(1)),
        (3, 7, 8, swap(1, 3), SWAPPED),
        (0, 11, 12, DELETE, deleted(true)),
        (1, 13, 14, DELETE, deleted(false)),
        // What begins as another ends may come before it.
        (1, 20, 21, put(4), WRITTEN),
        (2, 21, 22, GET, nothing()),
    ]);
}

#[test]
fn an_unknown_outcome_may_happen_late_or_never() {
    legal(&[
        (0, 0, 1, put(1), unknown()),
        (1, 2, 3, GET, nothing()),
        (1, 4, 5, put(2), WRITTEN),
        (1, 6, 7, GET, read(2)),
        (1, 8, 9, GET, read(1)),
        (2, 10, 11, swap(1, 3), unknown()),
        (2, 12, 13, DELETE, unknown()),
        (1, 14, 15, GET, read(1)),
        (1, 16, 17, GET, nothing()),
        (3, 18, 19, DELETE, deleted(false)),
    ]);
    // A value that nobody read explains why there was something to delete.
    legal(&[
        (0, 0, 1, put(1), unknown()),
        (0, 2, 3, put(2), unknown()),
        (1, 4, 5, DELETE, deleted(true)),
        (1, 6, 7, DELETE, deleted(true)),
        (1, 8, 9, DELETE, deleted(false)),
    ]);
}

/// Clients on a register that is what it should be; each call happens at a moment between its begin and its end. Every
/// `unknown_every`th caller does not hear its answer, and half of those calls never happen.
fn simulated(seed: u64, clients: usize, count: usize, unknown_every: usize) -> History {
    let mut random = StdRng::seed_from_u64(seed);
    let mut times = vec![0_u64; clients];
    let mut planned: Vec<(u64, Operation, bool)> = (0..count)
        .map(|number| {
            let client = random.random_range(0..clients);
            let begin = times[client] + random.random_range(1..30);
            let moment = begin + random.random_range(1..40);
            let end = moment + random.random_range(1..40);
            times[client] = end;
            let value = number as u64 + 1;
            let action = match random.random_range(0..10) {
                0..4 => Action::Get,
                4..7 => Action::Put(value),
                7 => Action::Delete,
                _ => Action::CompareAndSet {
                    // Often enough the newest.
                    expected: (value > 4).then(|| value - random.random_range(1..4)),
                    value,
                },
            };
            let lost = random.random_range(0..unknown_every) == 0;
            let operation = Operation {
                client,
                node: "n1".to_owned(),
                key: "k".to_owned(),
                action,
                begin: Duration::from_micros(begin),
                end: Duration::from_micros(end),
                outcome: unknown(),
            };
            (
                if lost {
                    moment + random.random_range(0..2_000)
                } else {
                    moment
                },
                operation,
                lost,
            )
        })
        .collect();
    planned.sort_by_key(|(moment, ..)| *moment);
    let mut held = None;
    for (_, operation, lost) in &mut planned {
        if *lost && random.random() {
            continue;
        }
        let answer = match operation.action {
            Action::Put(_) => Answer::Written,
            Action::Get => Answer::Read(held),
            Action::Delete => Answer::Deleted(held.is_some()),
            Action::CompareAndSet { expected, .. } if expected == held => Answer::Swapped,
            Action::CompareAndSet { .. } if random.random() => Answer::Refused,
            Action::CompareAndSet { .. } => Answer::Differed(held),
        };
        match operation.action {
            Action::Put(value) => held = Some(value),
            Action::CompareAndSet { value, .. } if answer == Answer::Swapped => held = Some(value),
            Action::Delete => held = None,
            _ => {}
        }
        if !*lost {
            operation.outcome = Outcome::Done(answer);
        }
    }
    History {
        operations: planned.into_iter().map(|(_, operation, _)| operation).collect(),
    }
}

#[test]
fn long_histories_of_a_true_register_are_accepted_and_spoilt_ones_are_not() {
    for (seed, clients, unknown_every) in [(1, 8, 1_000), (2, 16, 1_000), (3, 16, 40), (4, 12, 20), (5, 16, 15)] {
        let history = simulated(seed, clients, 1_500, unknown_every);
        if let Err(violation) = check(&history) {
            panic!("seed {seed}: {violation}");
        }
        // A read in the middle is made to see what was overwritten long before.
        let mut spoilt = history.clone();
        let old = spoilt.operations[..200].iter().find_map(|operation| match operation {
            Operation {
                action: Action::Put(value),
                outcome: Outcome::Done(_),
                ..
            } => Some(*value),
            _ => None,
        });
        let late = spoilt.operations[900..].iter_mut().find(|operation| {
            operation.action == Action::Get && matches!(operation.outcome, Outcome::Done(Answer::Read(Some(_))))
        });
        late.unwrap().outcome = read(old.unwrap());
        let violation = check(&spoilt).expect_err("spoilt");
        assert!(violation.around.len() <= SHOWN_MAX, "{}", violation.around.len());
    }
}

/// Every order of the calls is tried, with every choice of unknown ones.
fn has_order_by_trying_all(calls: &[Call], placed: &mut Vec<usize>, held: Option<u64>) -> bool {
    let left = |place: &usize| !placed.contains(place);
    let known = |place: &usize| calls[*place].answer.is_some();
    let all: Vec<usize> = (0..calls.len()).filter(left).collect();
    if !all.iter().any(known) {
        return true;
    }
    let first_end = all
        .iter()
        .filter(|place| known(place))
        .map(|place| calls[*place].end)
        .min();
    for place in all {
        let call = &calls[place];
        if Some(call.begin) <= first_end
            && let Some(then) = step(call, held)
        {
            placed.push(place);
            if has_order_by_trying_all(calls, placed, then) {
                return true;
            }
            placed.pop();
        }
    }
    false
}

#[test]
fn the_search_says_what_trying_all_orders_says() {
    let (mut good, mut bad) = (0, 0);
    for seed in 0..30_000 {
        let mut history = simulated(seed, 3, 8, 3);
        let mut random = StdRng::seed_from_u64(seed);
        // Most are spoilt: an answer is another's.
        for _ in 0..random.random_range(0..3) {
            let (one, other) = (random.random_range(0..8), random.random_range(0..8));
            let answer = history.operations[one].outcome.clone();
            let taken = &mut history.operations[other];
            if matches!(
                (&taken.outcome, &answer),
                (Outcome::Done(Answer::Read(_)), Outcome::Done(Answer::Read(_)))
            ) {
                taken.outcome = answer;
            } else if let Outcome::Done(Answer::Deleted(there)) = &mut taken.outcome {
                *there = !*there;
            } else if let Action::CompareAndSet { .. } = taken.action {
                taken.outcome = Outcome::Done(Answer::Swapped);
            }
        }
        let operations: Vec<&Operation> = history.operations.iter().collect();
        let calls = calls(&operations, u128::MAX);
        let truth = has_order_by_trying_all(&calls, &mut Vec::new(), None);
        assert_eq!(has_order("k", &calls), truth, "seed {seed}: {history:#?}");
        match truth {
            true => good += 1,
            false => bad += 1,
        }
    }
    assert!(good > 1_000 && bad > 1_000, "{good} with an order, {bad} without");
    println!("{good} with an order, {bad} without");
}
