//! Whether a call that failed is tried again, where, and after what wait.
//!
//! | what happened | only reads | has a request id | neither |
//! |---|---|---|---|
//! | `Unreachable`: nothing was sent | next endpoint | next endpoint | next endpoint |
//! | `Busy`: nothing has happened | same endpoint, when it says | same | same |
//! | `Broken`: nobody knows | next endpoint | **same** endpoint | never |
//! | anything else | never | never | never |
//!
//! A request id is known to the node that took it and to no other: a write whose outcome is unknown is sent again to its own
//! node alone, for at another it would be carried out a second time.
//!
//! Pure: time that is left and chance are handed in.

use std::time::Duration;

use crate::{
    Settings,
    connection::Bounds,
    error::{Error, Kind},
};

/// Why a call may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It changes nothing.
    Reads,
    /// Carried out twice it has done what once does, at the same node at least.
    Safe,
    /// It may not, unless nothing has happened.
    Never,
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Try again.
    Again {
        /// After so long.
        wait: Duration,
        /// At the next endpoint.
        elsewhere: bool,
    },
    /// Hand the failure to the caller.
    Stop,
}

/// The tries of one call.
#[derive(Clone, Debug)]
pub(crate) struct Tries {
    repeat: Repeat,
    endpoints: u32,
    attempts_max: u32,
    unreachable_rounds_max: u32,
    backoff_min: Duration,
    backoff_max: Duration,
    attempts: u32,
    waits: u32,
    /// Found unreachable in a row.
    unreachable: u32,
    /// Only this node may be asked: it may have carried the call out, or is the one that knows the stream.
    pinned: bool,
}

impl Tries {
    pub(crate) fn new(settings: &Settings, repeat: Repeat, bounds: &Bounds) -> Tries {
        let at_most = |number: u32| if bounds.patient { u32::MAX } else { number };
        Tries {
            repeat,
            endpoints: u32::try_from(settings.endpoints.len()).unwrap_or(u32::MAX),
            attempts_max: at_most(settings.attempts_max),
            unreachable_rounds_max: at_most(settings.unreachable_rounds_max),
            backoff_min: settings.backoff_min,
            backoff_max: settings.backoff_max,
            attempts: 0,
            waits: 0,
            unreachable: 0,
            pinned: bounds.place.is_some(),
        }
    }

    /// The table at the head of this file. `left` is the time until the deadline; `chance` is from 0 to 1.
    pub(crate) fn next(&mut self, error: &Error, left: Duration, chance: f64) -> Next {
        self.attempts += 1;
        if self.attempts >= self.attempts_max {
            return Next::Stop;
        }
        let next = match (error.kind(), self.repeat) {
            // Another node may be well; this one will be when somebody has seen to it.
            (Kind::Tls, _) if !self.pinned && self.unreachable + 1 < self.endpoints => self.unreachable(chance),
            (Kind::Unreachable, _) => self.unreachable(chance),
            (Kind::Busy, _) => {
                self.unreachable = 0;
                let wait = self.backoff(chance).max(error.retry_after().unwrap_or_default());
                Next::Again { wait, elsewhere: false }
            }
            (Kind::Broken, Repeat::Reads) => self.again(!self.pinned, chance),
            (Kind::Broken, Repeat::Safe) => {
                self.pinned = true;
                self.again(false, chance)
            }
            _ => Next::Stop,
        };
        match next {
            Next::Again { wait, .. } if wait >= left => Next::Stop,
            next => next,
        }
    }

    /// The next endpoint at once, and a wait once all were tried.
    fn unreachable(&mut self, chance: f64) -> Next {
        let round = if self.pinned { 1 } else { self.endpoints };
        self.unreachable += 1;
        if self.unreachable >= round.saturating_mul(self.unreachable_rounds_max) {
            return Next::Stop;
        }
        if self.unreachable.is_multiple_of(round) {
            return self.again(!self.pinned, chance);
        }
        let wait = Duration::ZERO;
        Next::Again { wait, elsewhere: true }
    }

    fn again(&mut self, elsewhere: bool, chance: f64) -> Next {
        let wait = self.backoff(chance);
        Next::Again { wait, elsewhere }
    }

    /// Twice as long each time, less a random part of up to a half: so that those who failed together do not return together.
    fn backoff(&mut self, chance: f64) -> Duration {
        let factor = 2_u32.saturating_pow(self.waits);
        self.waits += 1;
        let whole = self.backoff_min.saturating_mul(factor).min(self.backoff_max);
        whole.mul_f64(1.0 - chance / 2.0)
    }
}

#[cfg(test)]
mod tests;
