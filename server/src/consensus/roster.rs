//! Raft's members follow the registry's, by the hand of whoever leads.
//!
//! ```text
//!  registry: who should be a member, and as what          raft: who is
//!      in it, not known to raft ─► added as a learner
//!      another address          ─► the new one
//!      should vote, caught up   ─► votes            one step at a time; a leader that is gone in the middle leaves the rest to the next
//!      should not vote          ─► learns
//!      not in it                ─► removed
//! ```
//!
//! A registry without members is one of a node that stands alone: nothing follows.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use engine::ledger::{self, Member as Wanted, Role};
use openraft::{ChangeMembers, ServerState, async_runtime::watch::WatchReceiver as _};

use super::{
    handover::Handover,
    member::Member,
    types::{Membership, Peer},
};
use crate::runtime::time::{sleep, within};

/// How often the registry is compared with raft.
const LOOK: Duration = Duration::from_millis(100);
/// A change that is not through by then is looked at anew.
const STEP_MAX: Duration = Duration::from_secs(10);
/// A learner that lacks no more entries than this has caught up.
const LAG_MAX: u64 = 1_000;

type Change = ChangeMembers<u64, Peer>;

impl Member {
    /// Follows the registry for ever.
    pub(super) async fn follow_roster(self) {
        let mut trouble = None;
        let mut handover = Handover::default();
        loop {
            sleep(LOOK).await;
            self.hand_over_if_unfit(&mut handover).await;
            let leads = self.raft.metrics().borrow_watched().state == ServerState::Leader;
            self.network.images.let_go(leads).await;
            let told = match self.next_step() {
                Ok(None) => None,
                Err(error) => Some(error.to_string()),
                Ok(Some(step)) => {
                    let what = format!("{step:?}");
                    match within(STEP_MAX, self.raft.change_membership(step, true)).await {
                        Some(Ok(_)) => {
                            tracing::info!(change = what, "the cluster has changed");
                            None
                        }
                        Some(Err(error)) => Some(error.to_string()),
                        None => Some("no majority confirmed it in time".to_owned()),
                    }
                }
            };
            if told.is_some() && told != trouble {
                tracing::warn!(
                    reason = told,
                    "the cluster could not be brought to what its registry says; it is tried again"
                );
            }
            trouble = told;
        }
    }

    fn next_step(&self) -> Result<Option<Change>, engine::store::Error> {
        let metrics = self.raft.metrics();
        let now = metrics.borrow_watched();
        if now.state != ServerState::Leader {
            return Ok(None);
        }
        let alone = now.membership_config.membership().voter_ids().eq([self.id]);
        if alone && now.purged.is_none() {
            // The log still begins with its first entry, and what was here before raft is in none.
            return Ok(None);
        }
        let wanted = ledger::members(self.engine.view())?;
        let last = now.last_log_index.unwrap_or_default();
        let caught_up = |voter: u64| {
            let progress = now.replication.as_ref().and_then(|progress| progress.get(&voter));
            let matched = progress.and_then(|matched| matched.as_ref().map(|id| id.index));
            matched.is_some_and(|matched| matched + LAG_MAX >= last)
        };
        Ok(step(now.membership_config.membership(), &wanted, caught_up))
    }
}

/// What brings `is` nearer to what is `wanted`.
fn step(is: &Membership, wanted: &[Wanted], caught_up: impl Fn(u64) -> bool) -> Option<Change> {
    if wanted.is_empty() {
        return None;
    }
    let peer = |member: &Wanted| Peer {
        name: member.name.clone(),
        address: member.address.clone(),
    };
    let mut added = BTreeMap::new();
    let mut moved = BTreeMap::new();
    for member in wanted {
        match is.get_node(&member.voter) {
            None => drop(added.insert(member.voter, peer(member))),
            Some(known) if *known != peer(member) => drop(moved.insert(member.voter, peer(member))),
            Some(_) => {}
        }
    }
    if !moved.is_empty() {
        return Some(Change::SetNodes(moved));
    }
    if !added.is_empty() {
        return Some(Change::AddNodes(added));
    }
    let voters: BTreeSet<u64> = is.voter_ids().collect();
    let should_vote = wanted.iter().filter(|member| member.role == Role::Voter);
    let all = should_vote.clone().count();
    let mut should_vote: BTreeSet<u64> = should_vote
        .map(|member| member.voter)
        .filter(|voter| voters.contains(voter) || caught_up(*voter))
        .collect();
    // Whoever is to be replaced votes until its successor can.
    let late = all - should_vote.len();
    let leaving = voters
        .iter()
        .copied()
        .filter(|voter| wanted.iter().all(|member| member.voter != *voter));
    should_vote.extend(leaving.take(late));
    if !should_vote.is_empty() && (should_vote != voters || is.get_joint_config().len() > 1) {
        return Some(Change::ReplaceAllVoters(should_vote));
    }
    let gone: BTreeSet<u64> = is
        .nodes()
        .map(|(id, _)| *id)
        .filter(|id| !voters.contains(id) && wanted.iter().all(|member| member.voter != *id))
        .collect();
    (!gone.is_empty()).then_some(Change::RemoveNodes(gone))
}

#[cfg(test)]
mod tests {
    use engine::clock::Timestamp;

    use super::*;

    fn wanted(voter: u64, role: Role) -> Wanted {
        Wanted {
            name: format!("n{voter}"),
            voter,
            address: format!("h{voter}:1"),
            role,
            since: Timestamp(0),
        }
    }

    fn is(voters: &[&[u64]], nodes: &[u64]) -> Membership {
        let peer = |id: &u64| {
            let Wanted { name, address, .. } = wanted(*id, Role::Voter);
            (*id, Peer { name, address })
        };
        let voters = voters.iter().map(|set| set.iter().copied().collect()).collect();
        Membership::new(voters, nodes.iter().map(peer).collect::<BTreeMap<_, _>>()).unwrap()
    }

    fn ids(ids: &[u64]) -> BTreeSet<u64> {
        ids.iter().copied().collect()
    }

    #[test]
    fn members_follow_the_registry_step_by_step() {
        let all = |_: u64| true;
        let none = |_: u64| false;
        assert_eq!(step(&is(&[&[1]], &[1]), &[], all), None);
        let three = [wanted(1, Role::Voter), wanted(2, Role::Voter), wanted(3, Role::Learner)];
        let Some(Change::AddNodes(added)) = step(&is(&[&[1]], &[1]), &three, all) else {
            panic!("two are new")
        };
        assert_eq!(added.keys().copied().collect::<Vec<_>>(), [2, 3]);
        assert_eq!(added[&2].address, "h2:1");
        let learning = is(&[&[1]], &[1, 2, 3]);
        assert_eq!(step(&learning, &three, none), None, "2 has not caught up");
        assert_eq!(
            step(&learning, &three, all),
            Some(Change::ReplaceAllVoters(ids(&[1, 2])))
        );
        assert_eq!(step(&is(&[&[1, 2]], &[1, 2, 3]), &three, all), None, "as it should be");
        let joint = is(&[&[1], &[1, 2]], &[1, 2, 3]);
        assert_eq!(
            step(&joint, &three, all),
            Some(Change::ReplaceAllVoters(ids(&[1, 2]))),
            "a leader was gone in the middle"
        );
        let mut moved = three.to_vec();
        moved[1].address = "elsewhere:1".to_owned();
        assert!(matches!(
            step(&is(&[&[1, 2]], &[1, 2, 3]), &moved, all),
            Some(Change::SetNodes(_))
        ));
    }

    #[test]
    fn who_is_replaced_votes_until_its_successor_can() {
        // 4 takes the place of 3.
        let three = [wanted(1, Role::Voter), wanted(2, Role::Voter), wanted(4, Role::Voter)];
        let before = is(&[&[1, 2, 3]], &[1, 2, 3, 4]);
        assert_eq!(step(&before, &three, |_| false), None);
        assert_eq!(
            step(&before, &three, |_| true),
            Some(Change::ReplaceAllVoters(ids(&[1, 2, 4])))
        );
        // 2 takes the place of 1.
        let successor = [wanted(2, Role::Voter)];
        let before = is(&[&[1]], &[1, 2]);
        assert_eq!(step(&before, &successor, |_| false), None);
        assert_eq!(
            step(&before, &successor, |_| true),
            Some(Change::ReplaceAllVoters(ids(&[2])))
        );
        assert_eq!(
            step(&is(&[&[2]], &[1, 2]), &successor, |_| true),
            Some(Change::RemoveNodes(ids(&[1])))
        );
    }
}
