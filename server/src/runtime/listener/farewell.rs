//! How streams without an end of their own end when the listener stops.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::sleep;

use crate::runtime::tasks::Stop;

/// One direction of a gRPC stream after the word to stop: over once nothing has moved for `quiet`. Watches and other
/// streams that wait for what may never come do not hold the stop up; those with something to say may finish.
pub(super) struct Farewell {
    stop: Stop,
    quiet: Duration,
    /// Allocated at the first wait: most streams never pause.
    wait: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Farewell {
    pub(super) fn new(stop: Stop, quiet: Duration) -> Farewell {
        Farewell {
            stop,
            quiet,
            wait: None,
        }
    }

    /// Ready when the stream should end; ask while it has nothing to say.
    pub(super) fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Farewell { stop, quiet, wait } = self;
        let wait = wait.get_or_insert_with(|| {
            let (stop, quiet) = (stop.clone(), *quiet);
            Box::pin(async move {
                stop.given().await;
                sleep(quiet).await;
            })
        });
        wait.as_mut().poll(context)
    }

    /// Something moved.
    pub(super) fn put_off(&mut self) {
        if self.wait.is_some() && self.stop.is_given() {
            self.wait = None;
        }
    }
}
