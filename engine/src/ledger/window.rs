//! The sliding hour: how many requests were accepted in the last 3,600 s, exactly.
//!
//! An accepted request at `t` counts while `now < t + 1 h`. The window keeps every stamp that still counts, so it is as
//! long as the limit was at most, and a changed limit judges the same stamps.

use super::{Limited, Overlay, Refusal, overlay::Records};
use crate::{
    clock::Timestamp,
    keyspace::ledger::{self, Window},
    store::{Error, Family},
};

use super::Limits;

const HOUR_US: u64 = 60 * 60 * 1_000_000;

impl Limited {
    /// Persisted in keys: never renumbered. 2 and 3 are promised to members' signed messages.
    pub(super) fn number(self) -> u8 {
        match self {
            Limited::Contribute => 0,
            Limited::Knowledge => 1,
        }
    }

    fn limit(self, limits: &Limits) -> u32 {
        match self {
            Limited::Contribute => limits.contribute_per_hour,
            Limited::Knowledge => limits.knowledge_per_hour,
        }
    }
}

/// What still counts of one account's requests of one kind, oldest first.
pub(super) struct Accepted {
    kind: Limited,
    stamps: Vec<Timestamp>,
}

impl Accepted {
    /// As of `now`; nobody's (`None`) is empty.
    pub(super) fn read<R: Records + ?Sized>(
        records: &R,
        account: Option<u32>,
        kind: Limited,
        now: Timestamp,
    ) -> Result<Accepted, Error> {
        let window = match account {
            Some(account) => records.record(Family::Ledger, &ledger::window(account, kind.number()))?,
            None => None,
        };
        Ok(Accepted {
            kind,
            stamps: counting(&window.unwrap_or_default(), now),
        })
    }

    /// Whether one more fits.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`] with the time at which one more will.
    pub(super) fn check(&self, limits: &Limits, now: Timestamp) -> Result<(), Refusal> {
        let limit = self.kind.limit(limits);
        let Some(excess) = self.stamps.len().checked_sub(limit as usize) else {
            return Ok(());
        };
        // One more fits when fewer than `limit` count: when this one, and all before it, have left the hour.
        let leaves = self.stamps.get(excess).copied().unwrap_or(now);
        Err(Refusal::RateLimited {
            kind: self.kind,
            limit,
            retry_at: Timestamp(leaves.0.saturating_add(HOUR_US)),
            now,
        })
    }

    /// Counts one more.
    pub(super) fn accept(mut self, overlay: &mut Overlay<'_>, account: u32, now: Timestamp) {
        self.stamps.push(now);
        let mut before = 0;
        let steps = self
            .stamps
            .iter()
            .map(|stamp| stamp.0 - std::mem::replace(&mut before, stamp.0))
            .collect();
        overlay.put(
            Family::Ledger,
            ledger::window(account, self.kind.number()),
            &Window { steps },
        );
    }
}

fn counting(window: &Window, now: Timestamp) -> Vec<Timestamp> {
    let stamps = window.steps.iter().scan(0_u64, |at, step| {
        *at = at.saturating_add(*step);
        Some(Timestamp(*at))
    });
    stamps.filter(|stamp| now.0 < stamp.0.saturating_add(HOUR_US)).collect()
}
