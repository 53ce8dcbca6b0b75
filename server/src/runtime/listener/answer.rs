//! Answers on their way out: in pieces, counted until the socket has taken them, within a bound on their memory.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue},
};
use bytes::{Buf, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    farewell::Farewell,
    phase::Turn,
    progress::{PIECE_BYTES, Progress},
};

/// Answers and frames of at most so many bytes need no room: whether the node lives can be asked whoever fills it.
const SMALL_BYTES: usize = 4 * 1024;

/// The gRPC status of a stream that has nowhere to put its next message: `UNKNOWN`, for the call was carried out.
const GRPC_NO_ROOM: (u8, &str) = (
    2,
    "the call was carried out, but its answer finds no room: too many wait to be read by their callers",
);
/// The gRPC status of a stream that ends because the node stops: `UNAVAILABLE`.
const GRPC_STOPPING: (u8, &str) = (14, "the node is stopping");

/// The memory of answers until they are sent; clones share it.
#[derive(Clone)]
pub(super) struct Room(Arc<Semaphore>);

/// The room is full.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("too many answers wait to be read by their callers")]
pub(super) struct NoRoom;

/// A part of the room, given back on drop; small answers have none.
type Share = Option<OwnedSemaphorePermit>;

impl Room {
    pub(super) fn new(bytes: usize) -> Room {
        Room(Arc::new(Semaphore::new(bytes)))
    }

    /// # Errors
    /// When there is not so much left.
    pub(super) fn take(&self, bytes: u64) -> Result<Share, NoRoom> {
        if bytes <= SMALL_BYTES as u64 {
            return Ok(None);
        }
        let permits = u32::try_from(bytes).map_err(|_too_large| NoRoom)?;
        let share = Arc::clone(&self.0).try_acquire_many_owned(permits);
        share.map(Some).map_err(|_full| NoRoom)
    }
}

/// One answer under way. Its request is in flight until the last byte is taken: every [`Piece`] holds on to it.
pub(super) struct Delivery {
    progress: Arc<Progress>,
    _turn: Turn,
}

impl Delivery {
    pub(super) fn new(progress: Arc<Progress>, turn: Turn) -> Delivery {
        Delivery { progress, _turn: turn }
    }
}

/// A piece of an answer in hyper's hands.
pub(super) struct Piece {
    bytes: Bytes,
    delivery: Arc<Delivery>,
    /// The room of the whole frame: its memory is free when all of its pieces are gone.
    share: Option<Arc<OwnedSemaphorePermit>>,
}

impl Piece {
    fn split_to(&mut self, bytes: usize) -> Piece {
        Piece {
            bytes: self.bytes.split_to(bytes),
            delivery: Arc::clone(&self.delivery),
            share: self.share.clone(),
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.delivery.progress.take(count);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.delivery.progress.take(self.bytes.len());
        }
    }
}

/// An answer's body, as hyper sees it.
pub(super) struct Answer {
    body: Body,
    /// What is left of the body's last frame.
    rest: Option<Piece>,
    trailers: Option<HeaderMap>,
    ended: bool,
    /// Bytes given to hyper.
    handed: usize,
    delivery: Arc<Delivery>,
    room: Room,
    /// Room for what the body said at its beginning that it holds.
    share: Share,
    kind: Kind,
}

/// What the protocol makes of an answer.
pub(super) enum Kind {
    Http1,
    H2,
    /// It can say in trailers why it ends early.
    Grpc(Farewell),
}

impl Answer {
    /// `share` is the room for the least that `body` says it holds.
    pub(super) fn new(body: Body, share: Share, room: Room, delivery: Delivery, kind: Kind) -> Answer {
        Answer {
            body,
            rest: None,
            trailers: None,
            ended: false,
            handed: 0,
            delivery: Arc::new(delivery),
            room,
            share,
            kind,
        }
    }

    /// Waits for the body's next frame, or its end.
    fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Result<(), axum::Error>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(self.keep(frame)),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(error)),
            Poll::Ready(None) => {
                self.ended = true;
                Poll::Ready(Ok(()))
            }
            Poll::Pending => {
                let Kind::Grpc(farewell) = &mut self.kind else {
                    return Poll::Pending;
                };
                ready!(farewell.poll_over(context));
                self.end_early(GRPC_STOPPING);
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Keeps a frame to be cut into pieces.
    fn keep(&mut self, frame: Frame<Bytes>) -> Result<(), axum::Error> {
        if let Kind::Grpc(farewell) = &mut self.kind {
            farewell.put_off();
        }
        let bytes = match frame.into_data() {
            Ok(bytes) => bytes,
            Err(other) => {
                self.trailers = other.into_trailers().ok();
                self.ended = self.trailers.is_some();
                return Ok(());
            }
        };
        let reserved = self.share.as_mut().and_then(|share| share.split(bytes.len()));
        let share = match reserved {
            Some(share) => Ok(Some(share)),
            None => self.room.take(bytes.len() as u64),
        };
        match share {
            Ok(share) => {
                self.delivery.progress.add(bytes.len());
                self.rest = Some(Piece {
                    bytes,
                    delivery: Arc::clone(&self.delivery),
                    share: share.map(Arc::new),
                });
                Ok(())
            }
            Err(_) if matches!(self.kind, Kind::Grpc(_)) => {
                self.end_early(GRPC_NO_ROOM);
                Ok(())
            }
            Err(full) => Err(axum::Error::new(full)),
        }
    }

    /// Ends a gRPC answer, whatever its body may still want to say.
    fn end_early(&mut self, (code, message): (u8, &'static str)) {
        let mut trailers = HeaderMap::with_capacity(2);
        trailers.insert(
            HeaderName::from_static("grpc-status"),
            HeaderValue::from(u16::from(code)),
        );
        trailers.insert(
            HeaderName::from_static("grpc-message"),
            HeaderValue::from_static(message),
        );
        self.body = Body::empty();
        self.trailers = Some(trailers);
        self.ended = true;
    }

    /// The next piece of a frame.
    fn next_piece(&mut self) -> Option<Piece> {
        let rest = self.rest.as_mut()?;
        let piece = if rest.bytes.len() > PIECE_BYTES {
            rest.split_to(PIECE_BYTES)
        } else {
            self.rest.take()?
        };
        self.handed = self.handed.saturating_add(piece.bytes.len());
        Some(piece)
    }

    /// Whether the end is told only after all is taken. An h2 stream that has ended can no longer be reset by itself, so
    /// its last piece would cost the whole connection; for short answers that is cheaper than a frame more for each.
    fn ends_late(&self) -> bool {
        self.handed > PIECE_BYTES && !matches!(self.kind, Kind::Http1)
    }
}

impl HttpBody for Answer {
    type Data = Piece;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, axum::Error>>> {
        let this = &mut *self;
        loop {
            if let Some(piece) = this.next_piece() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if this.ended {
                break;
            }
            ready!(this.poll_body(context))?;
        }
        if this.ends_late() {
            ready!(this.delivery.progress.poll_emptied(context));
        }
        Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.trailers.is_none() && !self.ends_late() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
