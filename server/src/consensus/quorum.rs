//! Whether anything can be decided now, and who leads.
//!
//! ```text
//!  this node leads     a majority has answered it lately
//!  another one does    it has let itself be heard lately, and what it had decided when it was first heard is applied here
//! ```
//!
//! Openraft's own word for the leader outlives a leader that has died as long as nobody can be elected, so silence counts too.

use std::time::Duration;

use openraft::{Instant as _, ServerState, async_runtime::watch::WatchReceiver as _};
use parking_lot::Mutex;

use super::member::Member;
use crate::runtime::time::{Stopwatch, sleep, within};

/// How often it is looked whether a leader that owes an answer still leads.
const LOOK: Duration = Duration::from_millis(20);

/// What the leader let this node hear.
#[derive(Default)]
pub(super) struct Heard(Mutex<State>);

#[derive(Default)]
struct State {
    /// Since its last word.
    since: Option<Stopwatch>,
    /// What it had decided when it was first heard.
    decided: Option<u64>,
    /// That is applied here.
    caught_up: bool,
}

impl Heard {
    /// A leader has spoken; `committed` is the last entry that it knows to be decided.
    pub(super) fn leader(&self, committed: Option<u64>) {
        let mut state = self.0.lock();
        state.since = Some(Stopwatch::start());
        if state.decided.is_none() {
            state.decided = committed;
        }
    }

    /// Why its leader cannot be asked; `applied` is the last entry applied here.
    fn missing(&self, applied: Option<u64>, silence_max: Duration) -> Option<String> {
        let mut state = self.0.lock();
        let Some(since) = state.since else {
            return Some("no leader was heard since the start".to_owned());
        };
        let silence = since.elapsed();
        if silence > silence_max {
            return Some(format!("the leader was not heard for {:.1} s", silence.as_secs_f64()));
        }
        if !state.caught_up {
            state.caught_up = state.decided.is_some_and(|decided| applied >= Some(decided));
        }
        (!state.caught_up).then(|| "what was decided before the start is still being applied".to_owned())
    }
}

impl Member {
    /// The answer that `leader` owes; `None` when it does not come in `time`, or once another one leads: one that has been cut off
    /// or stands still may never answer, and the connection does not tell.
    pub(super) async fn answer_of<T>(&self, leader: u64, time: Duration, answer: impl Future<Output = T>) -> Option<T> {
        let succeeded = async {
            while self.leader().unwrap_or(leader) == leader {
                sleep(LOOK).await;
            }
        };
        tokio::select! {
            biased;
            answer = within(time, answer) => answer,
            () = succeeded => None,
        }
    }

    /// The number of the member that leads and can decide.
    ///
    /// # Errors
    /// Why nothing can be decided now.
    pub(super) fn leader(&self) -> Result<u64, String> {
        let metrics = self.raft.metrics();
        let now = metrics.borrow_watched();
        let config = now.membership_config.membership();
        let voters = config.voter_ids().count();
        if now.state == ServerState::Leader {
            let acknowledged = now.last_quorum_acked.map(|at| at.elapsed());
            return match acknowledged {
                _ if voters == 1 && config.voter_ids().eq([self.id]) => Ok(self.id),
                Some(age) if age <= self.silence_max => Ok(self.id),
                _ => Err(format!(
                    "this node leads {voters} voters but does not hear a majority of them"
                )),
            };
        }
        if config.nodes().all(|(id, _)| *id != self.id) {
            return Err("this node is no member of the cluster yet".to_owned());
        }
        let Some(leader) = now.current_leader else {
            return Err(format!("none of {voters} voters leads"));
        };
        match self
            .heard
            .missing(now.last_applied.map(|id| id.index), self.silence_max)
        {
            Some(why) => Err(why),
            None => Ok(leader),
        }
    }
}
