//! The streams of an h2 connection, each a task that ends when its caller does not read.

use std::{sync::Arc, time::Duration};

use hyper::rt::Executor;

use super::{phase::Phase, progress::Progress};

tokio::task_local! {
    /// The answer of the stream that this task drives.
    static ANSWER: Arc<Progress>;
}

/// The answer of the h2 stream that the caller's task drives; `None` on HTTP/1, where the connection's task does all.
pub(super) fn answer() -> Option<Arc<Progress>> {
    ANSWER.try_with(Arc::clone).ok()
}

/// What hyper starts the streams of one connection with.
///
/// hyper waits for the peer's window with a piece of the answer in its hand and polls nothing else meanwhile, so a stall
/// cannot be told through the answer's body. Dropping the stream's future can: h2 then resets the stream.
#[derive(Clone)]
pub(super) struct Streams {
    phase: Arc<Phase>,
    write_limit: Duration,
}

impl Streams {
    pub(super) fn new(phase: Arc<Phase>, write_limit: Duration) -> Streams {
        Streams { phase, write_limit }
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let phase = Arc::clone(&self.phase);
        let answer = Arc::new(Progress::new(self.write_limit));
        let progress = Arc::clone(&answer);
        let watched = async move {
            tokio::select! {
                biased;
                () = stream => {}
                () = progress.stalled() => tracing::debug!("stream reset: its answer is not read"),
            }
            // The stream is gone, but h2 keeps what it was handed until the window lets it through. Nothing reaches
            // that but the end of the connection.
            if !progress.emptied().await {
                phase.give_up();
            }
        };
        tokio::spawn(ANSWER.scope(answer, watched));
    }
}
