//! A timer that most waits do without.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is only allocated when somebody waits.
#[derive(Default)]
pub(super) struct Alarm(Option<(Instant, Pin<Box<Sleep>>)>);

impl Alarm {
    /// Whether it is `at` already; if not, the task is woken then.
    pub(super) fn rings(&mut self, at: Instant, context: &mut Context<'_>) -> bool {
        let (set, sleep) = self.0.get_or_insert_with(|| (at, Box::pin(sleep_until(at))));
        if *set != at {
            *set = at;
            sleep.as_mut().reset(at);
        }
        sleep.as_mut().poll(context) == Poll::Ready(())
    }

    /// When it is set to ring.
    pub(super) fn set(&self) -> Option<Instant> {
        self.0.as_ref().map(|(at, _)| *at)
    }

    pub(super) fn silence(&mut self) {
        self.0 = None;
    }
}
