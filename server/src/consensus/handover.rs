//! A leader that is not fit to lead lets another one.
//!
//! ```text
//!  leads, and its disk is full     ─┐
//!  leads, and its clock is wrong   ─┴► for half a second ─► a voter that is fit, and has most of the log ─► leads
//! ```
//!
//! Commands are refused before raft gets them when the disk has no room, and those of all members go through the leader: if it
//! led on, one full disk would stop everybody. A follower without room stops only itself. Where all disks are full, leading goes
//! around slowly.
//!
//! A wrong clock puts no wrong time into the log (`clocks`), but whoever leads on by it has nothing but the others' to go by. Where
//! no voter's clock is known to be right, there is nobody to hand over to.

use std::time::Duration;

use engine::CommitError;
use openraft::async_runtime::watch::WatchReceiver as _;

use super::member::Member;
use crate::runtime::time::Stopwatch;

/// So long a leader is unfit before it lets another lead.
const UNFIT_MIN: Duration = Duration::from_millis(500);
/// It tries that this often.
const AGAIN: Duration = Duration::from_secs(5);

/// What is known of this node's fitness while it leads.
#[derive(Default)]
pub(super) struct Handover {
    unfit_since: Option<Stopwatch>,
    tried: Option<Stopwatch>,
    /// Whom it tried last.
    last: Option<u64>,
}

/// Why a node should not lead.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("this node has no room and lets another lead: {0}")]
    Full(CommitError),
    #[error("this node's clock is {:.1} s off those of most voters, and it lets another lead", *.0 as f64 / 1e6)]
    Clock(i64),
}

impl Member {
    /// Looks whether this node leads and should not, and lets another lead then.
    pub(super) async fn hand_over_if_unfit(&self, state: &mut Handover) {
        let Some(why) = self.unfit().filter(|_| self.leader() == Ok(self.id)) else {
            state.unfit_since = None;
            return;
        };
        let since = *state.unfit_since.get_or_insert_with(Stopwatch::start);
        let lately = state.tried.is_some_and(|tried| tried.elapsed() < AGAIN);
        if since.elapsed() < UNFIT_MIN || lately {
            return;
        }
        let Some(to) = self.best_other_voter(&why, state.last) else {
            return;
        };
        tracing::warn!(to = format!("{to:016x}"), "{why}");
        state.tried = Some(Stopwatch::start());
        state.last = Some(to);
        // One that has died is noticed elsewhere.
        drop(self.raft.trigger().transfer_leader(to).await);
    }

    fn unfit(&self) -> Option<Unfit> {
        match self.engine.admits() {
            Err(full @ CommitError::NoSpace { .. }) => Some(Unfit::Full(full)),
            _ => self.clock_is_wrong().map(Unfit::Clock),
        }
    }

    /// The voter that has most of the log, of several not the one that was tried last, and rather one whose clock is right.
    fn best_other_voter(&self, why: &Unfit, last: Option<u64>) -> Option<u64> {
        let metrics = self.raft.metrics();
        let now = metrics.borrow_watched();
        let progress = now.replication.as_ref()?;
        let voters = now.membership_config.membership().voter_ids();
        let others = voters.filter(|voter| *voter != self.id).filter(|voter| match why {
            Unfit::Full(_) => true,
            // From one wrong clock to another nothing is won.
            Unfit::Clock(_) => self.clock_is_right(*voter),
        });
        others.max_by_key(|voter| {
            let matched = progress.get(voter).and_then(Option::as_ref).map(|id| id.index);
            let right = self.clock_is_right(*voter);
            (matched.is_some(), right, Some(*voter) != last, matched)
        })
    }
}
