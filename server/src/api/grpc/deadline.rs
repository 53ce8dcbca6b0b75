//! The deadlines that callers set (`grpc-timeout`), kept for every call and for streams to their last message.
//!
//! When the time is over the call is dropped, and with it all that it waits for; a batch that has reached the committer is
//! carried out all the same. Callers that set none may wait for ever; connections that died are noticed by the listener.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::{HeaderMap, Response},
};
use hyper::body::{Frame, SizeHint};
use tonic::Status;

use super::status::Refused;
use crate::runtime::time::{self, Stopwatch};

/// What `answer` gives within `limit`, to its last message; without one it has all the time.
pub(super) async fn keep(limit: Option<Duration>, answer: impl Future<Output = Response<Body>>) -> Response<Body> {
    let Some(limit) = limit else {
        return answer.await;
    };
    let watch = Stopwatch::start();
    let Some(response) = time::within(limit, answer).await else {
        return Status::from(Refused::DeadlinePassed).into_http();
    };
    let left = limit.saturating_sub(watch.elapsed());
    response.map(|body| {
        Body::new(Until {
            body: Some(body),
            timer: Box::pin(time::sleep(left)),
        })
    })
}

/// At most eight digits and a unit, as the protocol has it; anything else sets no deadline.
pub(super) fn asked(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3_600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// An answer with a last moment: then it is dropped, and the status says why.
struct Until {
    /// `None` once the time is over.
    body: Option<Body>,
    timer: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl HttpBody for Until {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let Some(body) = this.body.as_mut() else {
            return Poll::Ready(None);
        };
        // The time comes first: a body that always has more would never let it be seen.
        if this.timer.as_mut().poll(context).is_pending() {
            return Pin::new(body).poll_frame(context);
        }
        this.body = None;
        let mut trailers = HeaderMap::new();
        let status = Status::from(Refused::DeadlinePassed);
        Poll::Ready(Some(match status.add_header(&mut trailers) {
            Ok(()) => Ok(Frame::trailers(trailers)),
            Err(error) => Err(axum::Error::new(error)),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_writes_them() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().expect("a header"));
            asked(&headers)
        };
        assert_eq!(read("2H"), Some(Duration::from_secs(7_200)));
        assert_eq!(read("3M"), Some(Duration::from_secs(180)));
        assert_eq!(read("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("7u"), Some(Duration::from_micros(7)));
        assert_eq!(read("0n"), Some(Duration::ZERO));
        for bad in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "123456789S", "1 S"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
        assert_eq!(asked(&HeaderMap::new()), None);
    }
}
