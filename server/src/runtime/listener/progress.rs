//! How an answer gets on: what waits for its caller, and how fast the caller takes it.

use std::{
    future::poll_fn,
    task::{Context, Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::alarm::Alarm;

/// Bytes of an answer that hyper is handed at once, and that a caller must take within the time limit. Small, so that
/// little is stuck where a stream cannot be reset any more, and so that slow lines are served: 2 KiB/s by default.
pub(super) const PIECE_BYTES: usize = 64 * 1024;

/// The bytes that wait for one caller: of one answer on h2, of a connection's answers (they come in turn) on HTTP/1.
///
/// While bytes wait, [`PIECE_BYTES`] of them, or all if they are fewer, must be taken in each stretch of `limit`. While
/// none wait there is no limit: a stream may have nothing to say for as long as it likes.
pub(super) struct Progress {
    limit: Duration,
    state: Mutex<State>,
}

struct State {
    /// Bytes that the router gave and the socket has not taken.
    waiting: usize,
    /// Bytes taken in this stretch, and when it began.
    taken: usize,
    since: Instant,
    /// Who waits for `waiting` to become 0.
    emptied: Option<Waker>,
}

impl State {
    fn begin_stretch(&mut self) {
        self.taken = 0;
        self.since = Instant::now();
    }
}

impl Progress {
    pub(super) fn new(limit: Duration) -> Progress {
        Progress {
            limit,
            state: Mutex::new(State {
                waiting: 0,
                taken: 0,
                since: Instant::now(),
                emptied: None,
            }),
        }
    }

    /// So many bytes more wait for the caller.
    pub(super) fn add(&self, bytes: usize) {
        let mut state = self.state.lock();
        if state.waiting == 0 {
            state.begin_stretch();
        }
        state.waiting += bytes;
    }

    /// So many bytes were taken, or given up.
    pub(super) fn take(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.waiting -= bytes;
        state.taken += bytes;
        if state.waiting == 0 {
            let emptied = state.emptied.take();
            drop(state);
            if let Some(waker) = emptied {
                waker.wake();
            }
        } else if state.taken >= PIECE_BYTES {
            state.begin_stretch();
        }
    }

    /// Ready when nothing waits.
    pub(super) fn poll_emptied(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.waiting == 0 {
            return Poll::Ready(());
        }
        state.emptied = Some(context.waker().clone());
        Poll::Pending
    }

    /// Waits until nothing waits for the caller; `false` if it does not take it in time.
    pub(super) async fn emptied(&self) -> bool {
        let mut alarm = Alarm::default();
        poll_fn(|context| match self.poll_emptied(context) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending => self.poll_stalled(&mut alarm, context).map(|()| false),
        })
        .await
    }

    /// Waits until the caller takes too little; a new stretch begins then.
    ///
    /// The first byte of an answer wakes nobody: await this in the task that hands the answer to hyper, after it.
    pub(super) async fn stalled(&self) {
        let mut alarm = Alarm::default();
        poll_fn(|context| self.poll_stalled(&mut alarm, context)).await;
    }

    fn poll_stalled(&self, alarm: &mut Alarm, context: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.deadline() else {
            alarm.silence();
            return Poll::Pending;
        };
        if !alarm.rings(at, context) {
            return Poll::Pending;
        }
        self.state.lock().begin_stretch();
        Poll::Ready(())
    }

    /// The end of this stretch, while something waits.
    fn deadline(&self) -> Option<Instant> {
        let state = self.state.lock();
        (state.waiting > 0).then(|| state.since + self.limit)
    }
}
