//! How long a group waits for company.
//!
//! Callers that wait for their answers come back with the next write right after it. The committer, ready again at that
//! very moment, would begin a sync for the first few of them and let all others wait for the one after: two syncs where one
//! would do. So it waits until nearly all that are expected have come, but never longer than a part of what a sync takes.
//!
//! ```text
//!  expected   the most callers lately seen at once (waiting or unanswered), halved whenever the wait was in vain
//!  wait       until 7/8 of them are queued, or half a sync has passed, 5 ms at most
//! ```
//!
//! One caller alone, or callers that do not come back, wait a few times in vain and then not at all.

use std::time::Duration;

/// A disk that hung for a while must not teach the committer to wait as long.
const WAIT_MAX: Duration = Duration::from_millis(5);

/// What the committer has seen of its callers and of the disk.
#[derive(Debug, Default)]
pub(super) struct Gather {
    expected: usize,
    sync: Duration,
}

impl Gather {
    /// A sync took so long.
    pub(super) fn synced_in(&mut self, duration: Duration) {
        self.sync = if self.sync.is_zero() {
            duration
        } else {
            (self.sync * 7 + duration) / 8
        };
    }

    /// With `queued` batches waiting and `unanswered` ones on their way: how many to wait for, and for how long at most.
    /// `None`: begin now.
    pub(super) fn wait(&mut self, queued: usize, unanswered: usize) -> Option<(usize, Duration)> {
        self.expected = self.expected.max(queued + unanswered);
        let target = self.expected * 7 / 8;
        (queued < target).then_some((target, (self.sync / 2).min(WAIT_MAX)))
    }

    /// The wait has ended with `queued` batches waiting; `in_vain` when its time had passed.
    pub(super) fn waited(&mut self, queued: usize, in_vain: bool) {
        if in_vain {
            self.expected = (self.expected / 2).max(queued);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_syncs_of(milliseconds: u64) -> Gather {
        let mut gather = Gather::default();
        gather.synced_in(Duration::from_millis(milliseconds));
        gather
    }

    #[test]
    fn callers_that_come_back_are_waited_for() {
        let mut gather = after_syncs_of(4);
        assert_eq!(gather.wait(64, 0), None);
        assert_eq!(gather.wait(3, 61), Some((56, Duration::from_millis(2))));
        gather.waited(60, false);
        assert_eq!(gather.wait(60, 4), None);
    }

    #[test]
    fn a_disk_that_hung_is_not_waited_for_as_long() {
        let mut gather = after_syncs_of(2_000);
        assert_eq!(gather.wait(64, 0), None);
        assert_eq!(gather.wait(3, 61), Some((56, WAIT_MAX)));
    }

    #[test]
    fn callers_that_stay_away_are_soon_not_expected() {
        let mut gather = after_syncs_of(4);
        assert_eq!(gather.wait(64, 0), None);
        let mut waits = 0;
        while gather.wait(1, 0).is_some() {
            gather.waited(1, true);
            waits += 1;
        }
        assert!(waits <= 6, "{waits} waits in vain");
    }

    #[test]
    fn one_caller_never_waits() {
        let mut gather = after_syncs_of(4);
        for _ in 0..10 {
            assert_eq!(gather.wait(1, 0), None);
        }
    }
}
