//! A leader without room lets another lead.
//!
//! ```text
//!  leads, and its disk is full ─► for half a second ─► the voter that has most of the log ─► leads
//! ```
//!
//! Commands are refused before raft gets them when the disk has no room, and those of all members go through the leader: if it
//! led on, one full disk would stop everybody. A follower without room stops only itself. Where all disks are full, leading goes
//! around slowly.

use std::time::Duration;

use engine::CommitError;
use openraft::async_runtime::watch::WatchReceiver as _;

use super::member::Member;
use crate::runtime::time::Stopwatch;

/// So long a leader is without room before it lets another lead.
const FULL_MIN: Duration = Duration::from_millis(500);
/// It tries that this often.
const AGAIN: Duration = Duration::from_secs(5);

/// What is known of this node's room while it leads.
#[derive(Default)]
pub(super) struct Handover {
    full_since: Option<Stopwatch>,
    tried: Option<Stopwatch>,
    /// Whom it tried last.
    last: Option<u64>,
}

impl Member {
    /// Looks at this node's room, and lets another lead when there is none.
    pub(super) async fn hand_over_without_room(&self, state: &mut Handover) {
        let full = self.engine.admits().err();
        let full = full.filter(|why| matches!(why, CommitError::NoSpace { .. }) && self.leader() == Ok(self.id));
        let Some(why) = full else {
            state.full_since = None;
            return;
        };
        let since = *state.full_since.get_or_insert_with(Stopwatch::start);
        let lately = state.tried.is_some_and(|tried| tried.elapsed() < AGAIN);
        if since.elapsed() < FULL_MIN || lately {
            return;
        }
        let Some(to) = self.best_other_voter(state.last) else {
            return;
        };
        tracing::warn!(to = format!("{to:016x}"), reason = %why, "this node has no room and lets another lead");
        state.tried = Some(Stopwatch::start());
        state.last = Some(to);
        // One that has died is noticed elsewhere.
        drop(self.raft.trigger().transfer_leader(to).await);
    }

    /// The voter that has most of the log, of several not the one that was tried last.
    fn best_other_voter(&self, last: Option<u64>) -> Option<u64> {
        let metrics = self.raft.metrics();
        let now = metrics.borrow_watched();
        let progress = now.replication.as_ref()?;
        let voters = now.membership_config.membership().voter_ids();
        let others = voters.filter(|voter| *voter != self.id);
        others.max_by_key(|voter| {
            let matched = progress.get(voter).and_then(Option::as_ref).map(|id| id.index);
            (matched.is_some(), Some(*voter) != last, matched)
        })
    }
}
