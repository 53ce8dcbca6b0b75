//! What a connection is doing, and until when it may.

use std::{sync::Arc, task::Waker, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::Settings;

/// Shared by the wire (which sees bytes), the service (which sees requests begin) and answers (which see them end).
///
/// ```text
///  connect ─► head ──request──► busy ──last answer ends──► idle ──first byte──► head
///              │ head_ms_max      │ see `Progress`           │ idle_ms_max
///              ▼                  ▼                         ▼
///             cut              given up                   tired ──PARTING_MAX──► cut
/// ```
///
/// A tired connection is asked to end (h2 says GOAWAY, so that no request is lost between the two sides); it is cut when
/// it does not.
///
/// On h2 bytes between requests do not begin a head (they may be pings), so the idle limit alone bounds it there.
pub(super) struct Phase {
    head: Duration,
    idle: Duration,
    state: Mutex<State>,
    parting: Notify,
    unread: Notify,
}

struct State {
    in_flight: usize,
    since: Instant,
    reading_head: bool,
    h2: bool,
    /// Since when the connection is asked to end.
    tired: Option<Instant>,
    /// The reader that waited while a request was in flight, and so set no alarm.
    waiting: Option<Waker>,
}

/// Time for a connection to end once it was asked to.
const PARTING_MAX: Duration = Duration::from_secs(5);

/// What to do with a connection whose time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was in the middle of a head.
    Cut,
    /// It was idle: ask it to end.
    Tire,
}

impl Phase {
    pub(super) fn new(settings: &Settings) -> Phase {
        Phase {
            head: Duration::from_millis(settings.head_ms_max),
            idle: Duration::from_millis(settings.idle_ms_max),
            state: Mutex::new(State {
                in_flight: 0,
                since: Instant::now(),
                reading_head: true,
                h2: false,
                tired: None,
                waiting: None,
            }),
            parting: Notify::new(),
            unread: Notify::new(),
        }
    }

    /// A request's head is complete.
    pub(super) fn begin(phase: &Arc<Phase>) -> Turn {
        let mut state = phase.state.lock();
        state.in_flight += 1;
        state.reading_head = false;
        drop(state);
        Turn {
            phase: Arc::clone(phase),
        }
    }

    /// Bytes came from the caller.
    pub(super) fn heard(&self) {
        let mut state = self.state.lock();
        if state.in_flight == 0 && !state.reading_head && !state.h2 {
            state.reading_head = true;
            state.since = Instant::now();
        }
    }

    /// Bytes went to the caller. hyper holds an answer's last megabytes after its request counts as done, so an HTTP/1
    /// connection that is still being read from is not idle. (On h2 our own pings go out between requests.)
    pub(super) fn told(&self) {
        let mut state = self.state.lock();
        if state.in_flight == 0 && !state.reading_head && !state.h2 {
            state.since = Instant::now();
        }
    }

    /// The caller speaks h2.
    pub(super) fn speaks_h2(&self) {
        let mut state = self.state.lock();
        state.h2 = true;
        state.reading_head = false;
        state.since = Instant::now();
    }

    /// The connection should end: the one who drives it is told.
    pub(super) fn tire(&self) {
        self.state.lock().tired.get_or_insert_with(Instant::now);
        self.parting.notify_one();
    }

    /// Waits until the connection should end.
    pub(super) async fn tired(&self) {
        self.parting.notified().await;
    }

    /// What lies ready for the caller is not read: the connection must be cut.
    pub(super) fn give_up(&self) {
        self.unread.notify_one();
    }

    /// Waits until the connection must be cut.
    pub(super) async fn given_up(&self) {
        self.unread.notified().await;
    }

    /// Whether a request is being answered.
    pub(super) fn busy(&self) -> bool {
        self.state.lock().in_flight > 0
    }

    /// Until when the connection may stay as it is; `None` while a request is in flight, and `waker` is woken after it.
    pub(super) fn deadline(&self, waker: &Waker) -> Option<(Instant, Verdict)> {
        let mut state = self.state.lock();
        if state.in_flight > 0 {
            state.waiting = Some(waker.clone());
            None
        } else if state.reading_head {
            Some((state.since + self.head, Verdict::Cut))
        } else if let Some(tired) = state.tired {
            Some((tired.max(state.since) + PARTING_MAX, Verdict::Cut))
        } else {
            Some((state.since + self.idle, Verdict::Tire))
        }
    }
}

/// One request in flight; ends when the last byte of its answer is taken or dropped.
pub(super) struct Turn {
    phase: Arc<Phase>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.phase.state.lock();
        state.in_flight -= 1;
        if state.in_flight == 0 {
            state.since = Instant::now();
            state.reading_head = false;
            let waiting = state.waiting.take();
            drop(state);
            if let Some(waker) = waiting {
                waker.wake();
            }
        }
    }
}
