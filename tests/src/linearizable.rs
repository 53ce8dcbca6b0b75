//! Whether a history is linearizable: whether each key could have answered so, had the calls been carried out one after the
//! other, each at some moment between its begin and its end.
//!
//! ```text
//!  history ─► its keys, each by itself: a history is linearizable if and only if those of its keys are (Herlihy and Wing)
//!     ▼
//!  calls of one key ─► search: which of those under way was carried out next? tried in turn, undone when it leads nowhere
//!                      a configuration (the set of those carried out, and what the key then holds) is entered once;
//!                      one that changes nothing and fits is placed without trying others
//!     ▼
//!  no order          ─► the shortest prefix of the history that has none: the call that ended last in it cannot be placed
//! ```
//!
//! The search is that of Wing and Gong (1993) with Lowe's memory of configurations (2016). A call whose outcome is unknown never
//! ends: it may be placed at any later time, or never. Some rules keep these from making the search exponential; each drops
//! only orders for which another with the same answers is tried:
//! - what is possible once some of them are placed is possible as well while fewer of them are;
//! - one that nobody observed need not have happened, so the next call after it is one whose answer depends on what the key holds;
//! - of unknown deletions, and of unknown puts whose value no answer names, one is as good as the other: the earliest is taken.
//! - one that would change nothing is not placed.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
};

use crate::history::{Action, Answer, History, Operation, Outcome};

/// Configurations of one key that are entered at most: some hundred MB.
const CONFIGURATIONS_MAX: usize = 4_000_000;
/// Calls that an explanation shows.
const SHOWN_MAX: usize = 40;
/// Of them those that were over before it matters.
const BEFORE_MAX: usize = 4;

/// Why a history is not linearizable.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The key.
    pub key: String,
    /// The call that ends the shortest prefix without an order.
    pub culprit: Operation,
    /// Who wrote what it saw, and all that was under way between that and its end.
    pub around: Vec<Operation>,
    /// In words.
    pub reason: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}: {}", self.key, self.reason)?;
        writeln!(
            formatter,
            "no order of the calls explains the answer of\n  {}",
            self.culprit
        )?;
        writeln!(formatter, "after and beside")?;
        for operation in &self.around {
            writeln!(formatter, "  {operation}")?;
        }
        Ok(())
    }
}

/// Judges every key of `history`, each of which held nothing when it began.
///
/// # Errors
/// The first violation, by key.
///
/// # Panics
/// When a key needs more memory than the search may take: then the history has too many unknown outcomes to be judged.
pub fn check(history: &History) -> Result<(), Box<Violation>> {
    for (key, operations) in history.by_key() {
        check_key(key, &operations)?;
    }
    Ok(())
}

/// A call as the search sees it.
#[derive(Clone, Copy, Debug)]
struct Call {
    action: Action,
    /// `None`: unknown, and so without an end.
    answer: Option<Answer>,
    begin: u128,
    end: u128,
    /// Another unknown one that is as good, and earlier.
    instead: Option<usize>,
}

fn check_key(key: &str, operations: &[&Operation]) -> Result<(), Box<Violation>> {
    let mut ends: Vec<&Operation> = operations
        .iter()
        .copied()
        .filter(|operation| matches!(operation.outcome, Outcome::Done(_)))
        .collect();
    ends.sort_by_key(|operation| operation.end);
    if has_order(key, &calls(operations, u128::MAX)) {
        return Ok(());
    }
    // A prefix of a history that has an order has one too, so the first end without one is found by halving.
    let (mut good, mut bad) = (0, ends.len());
    while good + 1 < bad {
        let middle = usize::midpoint(good, bad);
        let until = ends[middle - 1].end.as_nanos();
        match has_order(key, &calls(operations, until)) {
            true => good = middle,
            false => bad = middle,
        }
    }
    Err(Box::new(explain(key, operations, ends[bad - 1])))
}

/// What was known at `until`, in nanoseconds: calls that had begun, those that had not ended as unknown ones.
fn calls(operations: &[&Operation], until: u128) -> Vec<Call> {
    let mut calls = Vec::with_capacity(operations.len());
    for operation in operations {
        let (begin, end) = (operation.begin.as_nanos(), operation.end.as_nanos());
        if begin > until {
            continue;
        }
        let answer = match &operation.outcome {
            Outcome::Done(answer) if end <= until => Some(*answer),
            // Nothing has happened, and a read without an answer says nothing.
            Outcome::Failed(_) => continue,
            _ if operation.action == Action::Get => continue,
            _ => None,
        };
        calls.push(Call {
            action: operation.action,
            end: if answer.is_some() { end } else { u128::MAX },
            answer,
            begin,
            instead: None,
        });
    }
    calls.sort_by_key(|call| call.begin);
    rank_unknown(&mut calls);
    calls
}

/// Links each unknown deletion, and each unknown put whose value nobody names, with the one before it.
fn rank_unknown(calls: &mut [Call]) {
    let mut named = BTreeSet::new();
    for call in &*calls {
        if let Some(Answer::Read(Some(value)) | Answer::Differed(Some(value))) = call.answer {
            named.insert(value);
        }
        if let Action::CompareAndSet { expected, .. } = call.action {
            named.extend(expected);
        }
    }
    let (mut deletion, mut put) = (None, None);
    for (place, call) in calls.iter_mut().enumerate() {
        let before = match call.action {
            _ if call.answer.is_some() => continue,
            Action::Delete => &mut deletion,
            Action::Put(value) if !named.contains(&value) => &mut put,
            _ => continue,
        };
        call.instead = before.replace(place);
    }
}

/// What the key holds after `call`, if it can have been carried out on a key that holds `held`.
fn step(call: &Call, held: Option<u64>) -> Option<Option<u64>> {
    let legal = |is: bool, then: Option<u64>| is.then_some(then);
    match (call.action, call.answer) {
        (Action::Put(value), _) => Some(Some(value)),
        (Action::Delete, None) => legal(held.is_some(), None),
        (Action::CompareAndSet { expected, value }, None | Some(Answer::Swapped)) => {
            legal(held == expected, Some(value))
        }
        (Action::CompareAndSet { expected, .. }, Some(Answer::Differed(saw))) => {
            legal(held == saw && held != expected, held)
        }
        (Action::CompareAndSet { expected, .. }, Some(Answer::Refused)) => legal(held != expected, held),
        (Action::Delete, Some(Answer::Deleted(there))) => legal(held.is_some() == there, None),
        (Action::Get, Some(Answer::Read(saw))) => legal(held == saw, held),
        // An answer to another question.
        _ => None,
    }
}

/// Whether what `call` does or says depends on what the key holds.
fn observes(call: &Call) -> bool {
    match call.action {
        Action::Put(_) => false,
        Action::Delete => call.answer.is_some(),
        Action::Get | Action::CompareAndSet { .. } => true,
    }
}

/// Begins and ends in their order, as a list that calls are taken out of and put back into. Place 0 is before all, and after
/// all.
struct Events {
    /// Of which call, and whether it is its end; begins stand before ends of the same time, for such calls overlap.
    of: Vec<(usize, bool)>,
    next: Vec<usize>,
    previous: Vec<usize>,
    begins: Vec<usize>,
    ends: Vec<Option<usize>>,
}

impl Events {
    fn new(calls: &[Call]) -> Events {
        let begins = calls.iter().enumerate().map(|(place, call)| (call.begin, false, place));
        let known = calls.iter().enumerate().filter(|(_, call)| call.answer.is_some());
        let ends = known.map(|(place, call)| (call.end, true, place));
        let mut all: Vec<(u128, bool, usize)> = begins.chain(ends).collect();
        all.sort_unstable();
        let count = all.len() + 1;
        let mut events = Events {
            of: vec![(usize::MAX, false)],
            next: (1..count).chain([0]).collect(),
            previous: [count - 1].into_iter().chain(0..count - 1).collect(),
            begins: vec![0; calls.len()],
            ends: vec![None; calls.len()],
        };
        for (event, (_, is_end, place)) in (1..).zip(all) {
            events.of.push((place, is_end));
            match is_end {
                true => events.ends[place] = Some(event),
                false => events.begins[place] = event,
            }
        }
        events
    }

    fn take_out(&mut self, call: usize) {
        for event in [Some(self.begins[call]), self.ends[call]].into_iter().flatten() {
            let (previous, next) = (self.previous[event], self.next[event]);
            self.next[previous] = next;
            self.previous[next] = previous;
        }
    }

    /// Undoes the last [`Events::take_out`].
    fn put_back(&mut self, call: usize) {
        for event in [self.ends[call], Some(self.begins[call])].into_iter().flatten() {
            let (previous, next) = (self.previous[event], self.next[event]);
            self.next[previous] = event;
            self.previous[next] = event;
        }
    }
}

/// A set of calls.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Set(Box<[u64]>);

impl Set {
    fn empty(calls: usize) -> Set {
        Set(vec![0; calls.div_ceil(64)].into())
    }

    fn has(&self, call: usize) -> bool {
        self.0[call / 64] >> (call % 64) & 1 == 1
    }

    fn flip(&mut self, call: usize) {
        self.0[call / 64] ^= 1 << (call % 64);
    }

    fn is_within(&self, other: &Set) -> bool {
        self.0.iter().zip(&other.0).all(|(ours, theirs)| ours & !theirs == 0)
    }
}

/// What the key holds, and whether the last call was an unknown one that must be observed.
type State = (Option<u64>, bool);

/// One call that was placed.
struct Step {
    call: usize,
    /// What was before.
    before: State,
    /// What else could have been placed instead, from the last on.
    others: Vec<usize>,
}

/// A way through the calls, as far as it has come.
struct Search<'a> {
    calls: &'a [Call],
    events: Events,
    /// Those placed, with an answer.
    known: Set,
    /// Those placed, without.
    unknown: Set,
    state: State,
    /// Calls with an answer that are not placed yet.
    left: usize,
    steps: Vec<Step>,
    /// Where it was: for the known calls placed and the state, the smallest sets of unknown ones.
    entered: HashMap<(Set, State), Vec<Set>>,
    configurations: usize,
}

impl Search<'_> {
    fn new(calls: &[Call]) -> Search<'_> {
        Search {
            calls,
            events: Events::new(calls),
            known: Set::empty(calls.len()),
            unknown: Set::empty(calls.len()),
            state: (None, false),
            left: calls.iter().filter(|call| call.answer.is_some()).count(),
            steps: Vec::new(),
            entered: HashMap::new(),
            configurations: 0,
        }
    }

    /// The state after a call, if it can be the next.
    fn after(&self, call: usize) -> Option<State> {
        let one = &self.calls[call];
        let observed = observes(one) || !self.state.1;
        let possible = observed && one.instead.is_none_or(|earlier| self.unknown.has(earlier));
        let then = step(one, self.state.0)?;
        possible.then_some((then, one.answer.is_none()))
    }

    /// The calls that can be the next: the last is to be tried first. One that changes nothing stands alone, for whatever order
    /// there is from here, it may as well come first. Unknown ones come last.
    fn candidates(&self) -> Vec<usize> {
        let mut found = Vec::new();
        let mut event = self.events.next[0];
        while event != 0 {
            let (call, is_end) = self.events.of[event];
            if is_end {
                break;
            }
            if self.after(call).is_some() {
                let changes_nothing = matches!(
                    self.calls[call].answer,
                    Some(Answer::Read(_) | Answer::Differed(_) | Answer::Refused | Answer::Deleted(false))
                );
                if changes_nothing {
                    return vec![call];
                }
                found.push(call);
            }
            event = self.events.next[event];
        }
        found.sort_by_key(|call| (self.calls[*call].answer.is_some(), std::cmp::Reverse(*call)));
        found
    }

    fn flip(&mut self, call: usize) {
        match self.calls[call].answer {
            Some(_) => self.known.flip(call),
            None => self.unknown.flip(call),
        }
    }

    /// Places the first of `others` that leads where the search has not been; false when none does.
    fn advance(&mut self, mut others: Vec<usize>) -> bool {
        while let Some(call) = others.pop() {
            let Some(then) = self.after(call) else { continue };
            self.flip(call);
            if !self.enter(then) {
                self.flip(call);
                continue;
            }
            self.left -= usize::from(self.calls[call].answer.is_some());
            self.events.take_out(call);
            let before = std::mem::replace(&mut self.state, then);
            self.steps.push(Step { call, before, others });
            return true;
        }
        false
    }

    /// Notes the configuration; false when it was entered before, perhaps with fewer unknown calls placed: what is possible with
    /// more of them placed is possible with fewer.
    fn enter(&mut self, then: State) -> bool {
        let smallest = self.entered.entry((self.known.clone(), then)).or_default();
        if smallest.iter().any(|set| set.is_within(&self.unknown)) {
            return false;
        }
        smallest.retain(|set| !self.unknown.is_within(set));
        smallest.push(self.unknown.clone());
        self.configurations += 1;
        true
    }

    /// Undoes the last call; what else could have been placed.
    fn back(&mut self) -> Option<Vec<usize>> {
        let Step { call, before, others } = self.steps.pop()?;
        self.flip(call);
        self.left += usize::from(self.calls[call].answer.is_some());
        self.state = before;
        self.events.put_back(call);
        Some(others)
    }
}

fn has_order(key: &str, calls: &[Call]) -> bool {
    let mut search = Search::new(calls);
    while search.left > 0 {
        assert!(
            search.configurations < CONFIGURATIONS_MAX,
            "{key}: too many orders to try"
        );
        let mut candidates = search.candidates();
        while !search.advance(candidates) {
            match search.back() {
                Some(others) => candidates = others,
                None => return false,
            }
        }
    }
    true
}

/// The value that the call's answer names.
fn saw(operation: &Operation) -> Option<Option<u64>> {
    match (&operation.outcome, operation.action) {
        (Outcome::Done(Answer::Read(saw) | Answer::Differed(saw)), _) => Some(*saw),
        (Outcome::Done(Answer::Swapped), Action::CompareAndSet { expected, .. }) => Some(expected),
        _ => None,
    }
}

fn writes(operation: &Operation, value: u64) -> bool {
    match operation.action {
        Action::Put(written) | Action::CompareAndSet { value: written, .. } => written == value,
        Action::Get | Action::Delete => false,
    }
}

fn explain(key: &str, operations: &[&Operation], culprit: &Operation) -> Violation {
    let seen = saw(culprit);
    let writer = seen
        .flatten()
        .and_then(|value| operations.iter().find(|operation| writes(operation, value)));
    let reason = match (seen, writer.map(|writer| &writer.outcome)) {
        (Some(Some(value)), None) => format!("{value} was seen, which nobody wrote"),
        (Some(Some(value)), Some(Outcome::Failed(_))) => {
            format!("{value} was seen, whose writer was told that nothing had happened")
        }
        (Some(Some(value)), _) => format!("{value} cannot have been there then"),
        (Some(None), _) => "the key cannot have held nothing then".to_owned(),
        (None, _) => "the key cannot have been so then".to_owned(),
    };
    let from = writer.map_or(culprit.begin, |writer| writer.begin.min(culprit.begin));
    let mut around: Vec<&Operation> = operations
        .iter()
        .copied()
        .filter(|operation| operation.begin <= culprit.end && *operation != culprit)
        .collect();
    around.sort_by_key(|operation| operation.begin);
    // The last few of those that were over when the writer began, and all since; unknown writes may happen at any time.
    let silent = |operation: &Operation| operation.action == Action::Get && saw(operation).is_none();
    let over = |operation: &Operation| operation.end < from && !matches!(operation.outcome, Outcome::Unknown(_));
    around.retain(|operation| !silent(operation));
    let mut skip = around.iter().filter(|operation| over(operation)).count();
    around.retain(|operation| {
        let skipped = over(operation) && skip > BEFORE_MAX;
        skip -= usize::from(over(operation));
        !skipped
    });
    let cut = around.len().saturating_sub(SHOWN_MAX - 1);
    let first = writer.filter(|writer| around.iter().take(cut).any(|operation| operation == *writer));
    Violation {
        key: key.to_owned(),
        culprit: culprit.clone(),
        around: first
            .into_iter()
            .chain(around.iter().skip(cut))
            .map(|operation| (*operation).clone())
            .collect(),
        reason,
    }
}

#[cfg(test)]
mod tests;
