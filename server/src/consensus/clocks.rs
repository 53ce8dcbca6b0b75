//! What time it is: at the other members, at this one, and in the cluster.
//!
//! ```text
//!  every second, of every other member   Peers.Clock ─► its wall clock; it was right in the middle of the round trip, give or take half of it
//!                                        kept beside monotonic time, so nothing that becomes of this machine's wall clock moves it
//!
//!  cluster time    the median of the voters' clocks, this node's among them if it votes; of an even number the earlier one in the middle
//!  off             this node's clock and cluster time are apart, look after look ─► told;  it leads ─► another does (`handover`)
//!  leads           what is proposed, here or elsewhere, is given a time near cluster time before it goes into the log
//! ```
//!
//! Ledger time is the latest that any decided command bore, for ever: one clock that is an hour ahead for a second would leave it there.
//! So a leader trusts no single clock, its own least of all. That is no rule of the ledger: what is in the log is applied as it is, by
//! every member alike.
//!
//! Why the earlier one of two: a ledger whose time stands still for a while makes up for it, one that is ahead cannot go back.
//! Two clocks that differ do not say which is right, so with two voters nobody hands over; both tell.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use engine::clock::{Clock, Timestamp};
use openraft::async_runtime::watch::WatchReceiver as _;
use parking_lot::Mutex;
use proto::v1 as wire;

use super::{member::Member, types::Proposals};
use crate::runtime::{
    tasks,
    time::{Stopwatch, sleep, within},
};

/// How often the other members' clocks are looked at, and how long an answer is waited for.
const LOOK: Duration = Duration::from_secs(1);
/// A clock that was not seen for so long is not known.
const SEEN_WITHIN: Duration = Duration::from_secs(10);
/// A clock that is further off than this is wrong, and no time further off than this goes into the log.
const OFF_MAX: Duration = Duration::from_millis(500);
/// A clock that was wrong is right again when it is this near.
const RIGHT_MAX: Duration = Duration::from_millis(250);
/// So many looks in a row make a clock wrong, or right again.
const LOOKS: u32 = 3;
/// So many voters' clocks must be known to say which of them is wrong.
const KNOWN_MIN: usize = 3;

/// A clock, at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hand {
    at: Timestamp,
    /// It may as well be so much earlier or later.
    error: Duration,
}

/// What is said of this node's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Against {
    /// Ahead of what it is compared with, or behind, in microseconds, beyond all doubt.
    off_us: i64,
    /// How many voters' clocks are known.
    known: usize,
}

/// The median; of an even number the earlier one in the middle.
fn median(hands: &[Hand]) -> Option<Hand> {
    let mut hands = hands.to_vec();
    hands.sort_by_key(|hand| hand.at);
    hands.get(hands.len().checked_sub(1)? / 2).copied()
}

/// How far `own` is ahead of `other`, or behind, in microseconds, whatever their errors are.
fn apart(own: Hand, other: Hand) -> i64 {
    let far = own.at.0.abs_diff(other.at.0);
    let doubt = u64::try_from((own.error + other.error).as_micros()).unwrap_or(u64::MAX);
    let far = i64::try_from(far.saturating_sub(doubt)).unwrap_or(i64::MAX);
    if own.at >= other.at { far } else { -far }
}

/// This node's clock against the voters'; `voters` holds `own` if this node votes. `None` when there is nothing to compare it with.
fn compare(own: Hand, votes: bool, others: &[Hand]) -> Option<Against> {
    let mut voters = others.to_vec();
    voters.extend(votes.then_some(own));
    // Of two clocks the median is one of them, and both are as suspect.
    let with = match (votes, others) {
        (_, []) => return None,
        (true, [other]) => *other,
        _ => median(&voters)?,
    };
    Some(Against {
        off_us: apart(own, with),
        known: voters.len(),
    })
}

/// `at`, brought near `reference`.
fn near(at: Timestamp, reference: Timestamp) -> Timestamp {
    let most = u64::try_from(OFF_MAX.as_micros()).expect("half a second");
    at.clamp(
        Timestamp(reference.0.saturating_sub(most)),
        Timestamp(reference.0.saturating_add(most)),
    )
}

/// Whether a clock is wrong, by what was seen of it: it takes a few looks to become so, and a few to be right again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Judge {
    wrong: bool,
    /// Looks in a row that say the opposite.
    against: u32,
}

impl Judge {
    /// Takes one look in; `off` as in [`Against`], `None` where there was nothing to compare with: nobody can say then.
    fn look(&mut self, off_us: Option<i64>) {
        let Some(off_us) = off_us else {
            *self = Judge::default();
            return;
        };
        let off = Duration::from_micros(off_us.unsigned_abs());
        let contradicts = if self.wrong { off <= RIGHT_MAX } else { off > OFF_MAX };
        self.against = if contradicts { self.against + 1 } else { 0 };
        if self.against == LOOKS {
            *self = Judge {
                wrong: !self.wrong,
                against: 0,
            };
        }
    }
}

/// A member's clock when it was looked at.
#[derive(Clone, Copy, Debug)]
struct Reading {
    hand: Hand,
    since: Stopwatch,
}

impl Reading {
    /// What it says now, unless it was not seen lately.
    fn now(&self) -> Option<Hand> {
        let age = self.since.elapsed();
        let passed = u64::try_from(age.as_micros()).ok()?;
        (age <= SEEN_WITHIN).then(|| Hand {
            at: Timestamp(self.hand.at.0.saturating_add(passed)),
            error: self.hand.error,
        })
    }
}

/// The members' clocks as they are seen from here; clones share them.
#[derive(Clone)]
pub(super) struct Clocks(Arc<Shared>);

struct Shared {
    own: Arc<dyn Clock>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Of the other members, by number.
    readings: BTreeMap<u64, Reading>,
    /// Who votes, as of the last look.
    voters: Vec<u64>,
    judge: Judge,
    against: Option<Against>,
}

impl Seen {
    /// What the clocks of voters other than `id` say now.
    fn voters_but(&self, id: u64) -> Vec<Hand> {
        let others = self.voters.iter().filter(|voter| **voter != id);
        let readings = others.filter_map(|voter| self.readings.get(voter));
        readings.filter_map(Reading::now).collect()
    }

    /// Cluster time as node `id` knows it, whose own clock says `own`.
    fn cluster_time(&self, id: u64, own: Hand) -> Option<Hand> {
        let mut voters = self.voters_but(id);
        voters.extend(self.voters.contains(&id).then_some(own));
        median(&voters)
    }
}

impl Clocks {
    pub(super) fn new(own: Arc<dyn Clock>) -> Clocks {
        Clocks(Arc::new(Shared {
            own,
            seen: Mutex::default(),
        }))
    }

    fn own(&self) -> Hand {
        Hand {
            at: self.0.own.now(),
            error: Duration::ZERO,
        }
    }

    /// How far a member's clock is ahead of this node's, in microseconds; `None` while it is not known.
    pub(super) fn ahead_us(&self, member: u64) -> Option<i64> {
        let hand = self.0.seen.lock().readings.get(&member)?.now()?;
        Some(hand.at.0.wrapping_sub(self.own().at.0).cast_signed())
    }

    /// How far this node's clock is ahead of cluster time, in microseconds; 0 while that is not known.
    pub(super) fn off_us(&self) -> i64 {
        self.0.seen.lock().against.map_or(0, |against| against.off_us)
    }

    /// Takes in what the members' clocks said, and says of this node's what is to be said.
    fn looked(&self, id: u64, members: &[u64], voters: Vec<u64>, said: Vec<(u64, Reading)>) {
        let own = self.own();
        let mut seen = self.0.seen.lock();
        seen.readings.extend(said);
        seen.readings.retain(|member, _| members.contains(member));
        seen.voters = voters;
        seen.against = compare(own, seen.voters.contains(&id), &seen.voters_but(id));
        let off = seen.against.map(|against| against.off_us);
        seen.judge.look(off);
    }
}

impl Member {
    /// Looks at the members' clocks for ever.
    pub(super) async fn watch_clocks(self) {
        let mut told = false;
        loop {
            self.look_at_clocks().await;
            let trouble = self.clock_trouble();
            if let Some(trouble) = trouble.as_ref().filter(|_| !told) {
                tracing::error!("{trouble}");
            }
            told = trouble.is_some();
            sleep(LOOK).await;
        }
    }

    async fn look_at_clocks(&self) {
        let (members, voters) = {
            let metrics = self.raft.metrics();
            let now = metrics.borrow_watched();
            let config = now.membership_config.membership();
            let members: Vec<u64> = config.nodes().map(|(id, _)| *id).collect();
            (members, config.voter_ids().collect::<Vec<u64>>())
        };
        let others = members.iter().copied().filter(|member| *member != self.id);
        let asked = others.map(|member| {
            let this = self.clone();
            (member, tasks::spawn(async move { this.clock_of(member).await }))
        });
        let mut said = Vec::new();
        for (member, answer) in asked.collect::<Vec<_>>() {
            if let Ok(Some(reading)) = answer.await {
                said.push((member, reading));
            }
        }
        self.clocks.looked(self.id, &members, voters, said);
    }

    /// What another member's clock says; `None` when it does not answer.
    async fn clock_of(&self, member: u64) -> Option<Reading> {
        let link = self.link(member)?;
        let mut client = link.client().ok()?;
        let asked = Stopwatch::start();
        let answer = within(LOOK, client.clock(link.request(wire::ClockRequest {}))).await?;
        let half = asked.elapsed() / 2;
        let answer = answer.ok()?.into_inner();
        link.answered();
        Some(Reading {
            hand: Hand {
                at: Timestamp(answer.now_us.saturating_add(u64::try_from(half.as_micros()).ok()?)),
                error: half,
            },
            since: Stopwatch::start(),
        })
    }

    /// What this node's clock says.
    pub(super) fn now(&self) -> Timestamp {
        self.clocks.own().at
    }

    /// `proposals`, each with a time that may go into the log.
    pub(super) fn timed(&self, proposals: Proposals) -> Proposals {
        let own = self.clocks.own();
        let reference = self.clocks.0.seen.lock().cluster_time(self.id, own).unwrap_or(own).at;
        if proposals
            .0
            .iter()
            .all(|proposal| proposal.at == near(proposal.at, reference))
        {
            return proposals;
        }
        let mut all = proposals.0.to_vec();
        for proposal in &mut all {
            proposal.at = near(proposal.at, reference);
        }
        Proposals(all.into())
    }

    /// By how much this node's clock is wrong, in microseconds, if enough others are known to say that it is this one.
    pub(super) fn clock_is_wrong(&self) -> Option<i64> {
        let seen = self.clocks.0.seen.lock();
        let against = seen.against.filter(|_| seen.judge.wrong)?;
        (against.known >= KNOWN_MIN).then_some(against.off_us)
    }

    /// Whether another voter's clock is known and near cluster time.
    pub(super) fn clock_is_right(&self, voter: u64) -> bool {
        let own = self.clocks.own();
        let seen = self.clocks.0.seen.lock();
        let hand = seen.readings.get(&voter).and_then(Reading::now);
        let cluster_time = seen.cluster_time(self.id, own);
        let apart = hand.zip(cluster_time).map(|(hand, median)| apart(hand, median));
        apart.is_some_and(|apart| Duration::from_micros(apart.unsigned_abs()) <= RIGHT_MAX)
    }

    /// What is wrong with this node's clock, and what to do about it.
    pub(super) fn clock_trouble(&self) -> Option<String> {
        let seen = self.clocks.0.seen.lock();
        let against = seen.against.filter(|_| seen.judge.wrong)?;
        Some(told(against))
    }
}

fn told(against: Against) -> String {
    let (seconds, direction) = (
        Duration::from_micros(against.off_us.unsigned_abs()).as_secs_f64(),
        if against.off_us > 0 { "ahead of" } else { "behind" },
    );
    if against.known < KNOWN_MIN {
        return format!(
            "this machine's clock is {seconds:.1} s {direction} that of the only other voter that answers, and nobody can say which is \
             right: see that both are"
        );
    }
    format!(
        "this machine's clock is {seconds:.1} s {direction} those of most voters: set it right; until then this node lets others lead, \
         and its expiry times and stamps are off"
    )
}

#[cfg(test)]
mod tests;
