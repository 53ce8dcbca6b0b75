//! What all streams share: noticing that one broke, how often that may happen, and being a `Stream`.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{sleep, timeout};
use tokio_stream::Stream;
use tonic::Streaming;

use crate::{
    Settings,
    error::{Error, Kind},
};

/// Times that a stream may break in a row without having brought anything.
const FRUITLESS_MAX: u32 = 16;

/// The breaks of one stream.
#[derive(Debug, Default)]
pub(crate) struct Breaks {
    /// In a row, without anything received between.
    fruitless: u32,
}

impl Breaks {
    /// After a break.
    ///
    /// # Errors
    /// The break itself, when resuming would not help, or has not helped too often.
    pub(crate) fn note(&mut self, error: Error) -> Result<(), Error> {
        self.fruitless += 1;
        let passes = matches!(error.kind(), Kind::Broken | Kind::Busy | Kind::Unreachable);
        if passes && self.fruitless <= FRUITLESS_MAX {
            Ok(())
        } else {
            Err(error)
        }
    }

    /// Before the stream is opened again: at once after the first break, then twice as long each time.
    pub(crate) async fn pause(&self, settings: &Settings) {
        if let Some(doublings) = self.fruitless.checked_sub(2) {
            let wait = settings.backoff_min.saturating_mul(2_u32.saturating_pow(doublings));
            sleep(wait.min(settings.backoff_max)).await;
        }
    }

    /// Something was received.
    pub(crate) fn forget(&mut self) {
        self.fruitless = 0;
    }
}

/// The next message. A stream that says nothing for too long counts as broken.
pub(crate) async fn message<T>(settings: &Settings, messages: &mut Streaming<T>) -> Result<Option<T>, Error> {
    match timeout(settings.silence_max, messages.message()).await {
        Ok(message) => message.map_err(Error::from),
        Err(_) => Err(silent(settings.silence_max)),
    }
}

/// Nothing came.
pub(crate) fn silent(limit: Duration) -> Error {
    tonic::Status::unavailable(format!("the node said nothing for {limit:?}")).into()
}

/// A value that yields items until it has none, as a `Stream`.
pub(crate) fn stream<S, T, F>(source: S, step: impl FnMut(S) -> F + Send + 'static) -> impl Stream<Item = T> + Send
where
    S: Send + 'static,
    T: 'static,
    F: Future<Output = (Option<T>, S)> + Send + 'static,
{
    Steps {
        source: Some(source),
        step: Box::new(step),
        running: None,
    }
}

/// See [`stream`].
struct Steps<S, F> {
    source: Option<S>,
    step: Box<dyn FnMut(S) -> F + Send>,
    running: Option<Pin<Box<F>>>,
}

// Nothing in it is pinned by place: the future is boxed.
impl<S, F> Unpin for Steps<S, F> {}

impl<S, T, F: Future<Output = (Option<T>, S)>> Stream for Steps<S, F> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let this = &mut *self;
        if this.running.is_none() {
            let Some(source) = this.source.take() else {
                return Poll::Ready(None);
            };
            this.running = Some(Box::pin((this.step)(source)));
        }
        let Some(running) = &mut this.running else {
            return Poll::Ready(None);
        };
        let Poll::Ready((item, source)) = running.as_mut().poll(context) else {
            return Poll::Pending;
        };
        this.running = None;
        if item.is_some() {
            this.source = Some(source);
        }
        Poll::Ready(item)
    }
}
