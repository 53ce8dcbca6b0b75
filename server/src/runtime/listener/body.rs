//! Request bodies on their way in, and how long they may take.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use super::{alarm::Alarm, farewell::Farewell};

/// Why a request body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The caller did not send it, or a message of it, in time.
    #[error("the body did not arrive within {limit_ms} ms")]
    Late {
        /// The time it had, in milliseconds.
        limit_ms: u128,
    },
    /// The listener stops and the caller has nothing more to say at the moment.
    #[error("the node is stopping")]
    Stopping,
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

/// A request body whose time is limited.
pub(super) struct Arriving {
    body: Incoming,
    limit: Duration,
    pace: Pace,
    /// Most bodies are there with their head, and set none.
    alarm: Alarm,
}

/// What the time limit is for.
enum Pace {
    /// The whole body, from the end of the head.
    Whole { deadline: Instant },
    /// Each message of a gRPC stream, from its first byte; between messages a stream may pause for as long as it likes.
    Messages {
        message: Message,
        deadline: Option<Instant>,
        farewell: Farewell,
    },
}

impl Arriving {
    /// A body that must arrive whole within `limit`.
    pub(super) fn whole(body: Incoming, limit: Duration) -> Arriving {
        let deadline = Instant::now() + limit;
        Arriving::new(body, limit, Pace::Whole { deadline })
    }

    /// A gRPC stream each message of which must arrive within `limit`.
    pub(super) fn messages(body: Incoming, limit: Duration, farewell: Farewell) -> Arriving {
        let pace = Pace::Messages {
            message: Message::default(),
            deadline: None,
            farewell,
        };
        Arriving::new(body, limit, pace)
    }

    fn new(body: Incoming, limit: Duration, pace: Pace) -> Arriving {
        Arriving {
            body,
            limit,
            pace,
            alarm: Alarm::default(),
        }
    }

    /// Ready when the caller had its time.
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<BodyError> {
        let deadline = match &mut self.pace {
            Pace::Whole { deadline } => Some(*deadline),
            Pace::Messages { deadline, farewell, .. } => {
                if farewell.poll_over(context).is_ready() {
                    return Poll::Ready(BodyError::Stopping);
                }
                *deadline
            }
        };
        let Some(deadline) = deadline else {
            self.alarm.silence();
            return Poll::Pending;
        };
        if !self.alarm.rings(deadline, context) {
            return Poll::Pending;
        }
        Poll::Ready(BodyError::Late {
            limit_ms: self.limit.as_millis(),
        })
    }
}

impl Pace {
    fn arrived(&mut self, bytes: &[u8], limit: Duration) {
        let Pace::Messages {
            message,
            deadline,
            farewell,
        } = self
        else {
            return;
        };
        farewell.put_off();
        let completed = message.follow(bytes);
        if message.is_between() {
            *deadline = None;
            return;
        }
        let now = Instant::now();
        // What arrives after the deadline was only late to be looked at: otherwise the alarm would have rung.
        if completed || deadline.is_none_or(|at| at < now) {
            *deadline = Some(now + limit);
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
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            if let Some(Ok(frame)) = &frame
                && let Some(bytes) = frame.data_ref()
            {
                this.pace.arrived(bytes, this.limit);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Broken)));
        }
        this.poll_over(context).map(|over| Some(Err(over)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Where in its messages a gRPC body is: each is a byte of flags, four of length (the largest first), and so many more.
#[derive(Default)]
pub(super) struct Message {
    prefix: [u8; 5],
    /// Bytes of the prefix that are there.
    begun: usize,
    /// Bytes that follow it and are not there.
    missing: usize,
}

impl Message {
    /// Follows `bytes`; whether a message ended in them.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) -> bool {
        let mut ended = false;
        while !bytes.is_empty() {
            if self.begun < self.prefix.len() {
                self.prefix[self.begun] = bytes[0];
                self.begun += 1;
                bytes = &bytes[1..];
                let [_flags, length @ ..] = self.prefix;
                self.missing = u32::from_be_bytes(length) as usize;
            } else {
                let more = self.missing.min(bytes.len());
                self.missing -= more;
                bytes = &bytes[more..];
            }
            if self.begun == self.prefix.len() && self.missing == 0 {
                self.begun = 0;
                ended = true;
            }
        }
        ended
    }

    /// Whether no message has begun that has not ended.
    pub(super) fn is_between(&self) -> bool {
        self.begun == 0
    }
}
