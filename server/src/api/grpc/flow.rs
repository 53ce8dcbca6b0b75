//! One stream of answers on its way out: bounded, and ended from either side.
//!
//! ```text
//!  maker (task or blocking work) ──Outlet──► a few messages ──Flow──► tonic ──► connection
//!
//!  the caller cancels, is cut, or its deadline passes   Flow is dropped       ─► Outlet::send says Gone
//!  the caller takes nothing for `stall`                 what waits is dropped ─► Outlet::send says Gone; STREAM_STALLED
//!  the node stops                                       at the next message   ─► Outlet::send says Gone; STOPPING
//!  the maker is done, or fails                          finish, fail          ─► the stream ends, with the error
//!  the maker panics, or is never run                    Outlet is dropped     ─► INTERNAL: what was sent is not all
//! ```
//!
//! So whoever makes messages holds threads, snapshots and the log's past no longer than its caller shows that it lives.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_stream::Stream;
use tonic::Status;

use super::status::Refused;
use crate::runtime::{
    tasks::{self, Stop},
    time,
};

/// Messages that wait for the connection.
const MESSAGES_MAX: usize = 2;

/// Both ends of a new stream.
pub(super) fn open<T>(stall: Duration, stop: Stop) -> (Outlet<T>, Flow<T>) {
    let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
    let shared = Arc::new(Shared {
        receiver: Mutex::new(Some(receiver)),
        ending: Mutex::new(Ending::Broken),
    });
    let outlet = Outlet {
        sender,
        shared: Arc::clone(&shared),
        stall,
        stop,
    };
    (outlet, Flow { shared })
}

struct Shared<T> {
    /// Taken by whichever side ends the stream before its time.
    receiver: Mutex<Option<mpsc::Receiver<T>>>,
    /// What the caller is told after the last message.
    ending: Mutex<Ending>,
}

/// How a stream ends.
enum Ending {
    /// Its maker has not said: when it is gone now, it did not come to its end.
    Broken,
    /// With all messages there are.
    Whole,
    /// With an error.
    Failed(Status),
}

/// Nobody reads the stream any more: stop making it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// Where messages go in.
pub(super) struct Outlet<T> {
    sender: mpsc::Sender<T>,
    shared: Arc<Shared<T>>,
    stall: Duration,
    stop: Stop,
}

impl<T> Outlet<T> {
    /// Sends one message, waiting for room.
    pub(super) async fn send(&self, message: T) -> Result<(), Gone> {
        if self.stop.is_given() {
            return Err(self.end(Refused::Stopping));
        }
        let message = match self.sender.try_send(message) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Closed(_)) => return Err(Gone),
            Err(TrySendError::Full(message)) => message,
        };
        let sent = tokio::select! {
            sent = time::within(self.stall, self.sender.send(message)) => sent,
            () = self.stop.given() => return Err(self.end(Refused::Stopping)),
        };
        match sent {
            Some(sent) => sent.map_err(|_| Gone),
            None => {
                let limit = self.stall;
                // Whoever does not read does not need it: only the error waits until it comes back.
                drop(self.shared.receiver.lock().take());
                Err(self.end(Refused::Stalled { limit }))
            }
        }
    }

    /// [`Outlet::send`] from blocking work.
    pub(super) fn send_blocking(&self, message: T) -> Result<(), Gone> {
        tasks::wait(self.send(message))
    }

    /// Whether nobody reads the stream any more.
    pub(super) fn is_gone(&self) -> bool {
        self.sender.is_closed()
    }

    /// Resolves once nobody reads the stream any more.
    pub(super) async fn gone(&self) {
        self.sender.closed().await;
    }

    /// Ends the stream: what was sent is all.
    pub(super) fn finish(self) {
        let mut ending = self.shared.ending.lock();
        if matches!(*ending, Ending::Broken) {
            *ending = Ending::Whole;
        }
    }

    /// Ends the stream with an error, behind what was sent.
    pub(super) fn fail(self, refused: Refused) {
        self.end(refused);
    }

    fn end(&self, refused: Refused) -> Gone {
        let mut ending = self.shared.ending.lock();
        if matches!(*ending, Ending::Broken) {
            *ending = Ending::Failed(refused.into());
        }
        Gone
    }
}

/// Where messages come out: the body of the answer.
pub(super) struct Flow<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Stream for Flow<T> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<T, Status>>> {
        let mut receiver = self.shared.receiver.lock();
        if let Some(open) = receiver.as_mut() {
            match open.poll_recv(context) {
                Poll::Ready(Some(message)) => return Poll::Ready(Some(Ok(message))),
                Poll::Ready(None) => *receiver = None,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(
            match std::mem::replace(&mut *self.shared.ending.lock(), Ending::Whole) {
                Ending::Whole => None,
                Ending::Failed(fault) => Some(Err(fault)),
                Ending::Broken => Some(Err(Refused::Confused.into())),
            },
        )
    }
}

impl<T> Drop for Flow<T> {
    fn drop(&mut self) {
        drop(self.shared.receiver.lock().take());
    }
}
