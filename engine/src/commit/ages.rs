//! How old the records of the log are, as far as anybody must know.
//!
//! The log knows no time. The committer notes now and then where it stands, and so can tell up to which record everything
//! is older than some age. Nothing of it is kept over a restart: what is found at opening counts as written then.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use wal::Lsn;

/// An age is told to this part of itself.
const NOTES: u32 = 64;

/// Notes of where the log stood.
pub(super) struct Ages {
    age: Duration,
    notes: VecDeque<(Instant, Lsn)>,
    /// Everything up to here is older than the age.
    old: Lsn,
}

impl Ages {
    /// Will tell what is older than `age`.
    pub(super) fn new(age: Duration) -> Ages {
        Ages {
            age,
            notes: VecDeque::new(),
            old: Lsn::ZERO,
        }
    }

    /// The log ends at `last` now.
    pub(super) fn note(&mut self, now: Instant, last: Lsn) {
        let is_due = |&(noted, _): &(Instant, Lsn)| now.duration_since(noted) >= self.age / NOTES;
        if self.notes.back().is_none_or(is_due) {
            self.notes.push_back((now, last));
        }
        while let Some((_, lsn)) = self
            .notes
            .pop_front_if(|(noted, _)| now.duration_since(*noted) >= self.age)
        {
            self.old = lsn;
        }
    }

    /// Everything up to here is older than the age.
    pub(super) fn old(&self) -> Lsn {
        self.old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "some moment to count from")]
    fn records_grow_old_and_few_notes_are_kept() {
        let (begin, second) = (Instant::now(), Duration::from_secs(1));
        let mut ages = Ages::new(second * 128);
        for seconds in 0..1_000u32 {
            ages.note(begin + second * seconds, Lsn(u64::from(seconds) * 10));
            let old = ages.old().0 / 10;
            // Two seconds are between two notes.
            let expected = u64::from(seconds.saturating_sub(128));
            assert!(
                old <= expected && old + 2 > expected,
                "after {seconds} s {old} s are old"
            );
            assert!(ages.notes.len() <= 66, "{}", ages.notes.len());
        }
    }
}
