//! Bodies on their way in and out.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::phase::Turn;

/// Why a request body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The caller did not send it in time.
    #[error("the body did not arrive within {limit_ms} ms")]
    Late {
        /// The time it had, in milliseconds.
        limit_ms: u128,
    },
    /// The connection broke, or what came is no HTTP body.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
}

impl BodyError {
    /// The late body among the causes of `error`, if that is what it comes from.
    #[must_use]
    pub fn late<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a BodyError> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(late @ BodyError::Late { .. }) = error.downcast_ref() {
                return Some(late);
            }
            cause = error.source();
        }
        None
    }
}

/// A request body with a last moment.
pub(super) struct Arriving {
    body: Incoming,
    limit: Duration,
    deadline: Instant,
    /// Armed at the first wait: most bodies are there with their head.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Arriving {
    pub(super) fn new(body: Incoming, limit: Duration) -> Arriving {
        Arriving {
            body,
            limit,
            deadline: Instant::now() + limit,
            timer: None,
        }
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Broken)));
        }
        let deadline = self.deadline;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(BodyError::Late {
                limit_ms: self.limit.as_millis(),
            })));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body; while it lives, its request is in flight.
pub(super) struct Answer {
    body: Body,
    _turn: Turn,
}

impl Answer {
    pub(super) fn new(body: Body, turn: Turn) -> Answer {
        Answer { body, _turn: turn }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
