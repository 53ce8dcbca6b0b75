//! Bodies at the door: content type, then size, then text, then JSON.

use std::sync::Arc;

use axum::{
    body::{Body, HttpBody},
    http::{HeaderMap, header},
};
use bytes::{Bytes, BytesMut};
use engine::json;
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::{Code, Problem};
use crate::runtime::listener::BodyError;

/// Bytes of a request body.
pub(crate) const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of all request bodies in memory at once, so that many half-sent ones cannot exhaust it.
const BODIES_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The memory for bodies on their way in; clones share it.
#[derive(Clone)]
pub(crate) struct Door {
    room: Arc<Semaphore>,
}

/// A received body; its share of the room is given back on drop.
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl Default for Door {
    fn default() -> Door {
        Door {
            room: Arc::new(Semaphore::new(BODIES_BYTES_MAX)),
        }
    }
}

impl Door {
    /// Reads a JSON body whole.
    ///
    /// # Errors
    /// In this order: 415 for another content type; 413 when it is over [`BODY_BYTES_MAX`], said before it is read where
    /// its length is declared; 408 and 400 when it does not arrive; 503 when there is no room.
    pub(crate) async fn receive(&self, headers: &HeaderMap, mut body: Body) -> Result<Received, Problem> {
        if !is_json(headers) {
            return Err(Problem::new(
                Code::UnsupportedMediaType,
                "send the body as Content-Type: application/json",
            ));
        }
        if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
            return Err(too_large());
        }
        let mut bytes = BytesMut::new();
        let mut room: Option<OwnedSemaphorePermit> = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| broken(&error))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > BODY_BYTES_MAX {
                return Err(too_large());
            }
            let more = self.take(data.len())?;
            match &mut room {
                Some(room) => room.merge(more),
                None => room = Some(more),
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Received {
            bytes: bytes.freeze(),
            _room: room,
        })
    }

    fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        Arc::clone(&self.room)
            .try_acquire_many_owned(permits)
            .map_err(|_closed_or_full| {
                Problem::new(
                    Code::Busy,
                    "too many request bodies are being received; nothing was charged or credited, retry",
                )
                .retry_after(1)
            })
    }
}

fn too_large() -> Problem {
    let mebibytes = BODY_BYTES_MAX / (1024 * 1024);
    Problem::new(
        Code::BodyTooLarge,
        format!("a body has at most {mebibytes} MiB; send fewer concepts at a time"),
    )
}

fn broken(error: &axum::Error) -> Problem {
    if let Some(late) = BodyError::late(error) {
        return Problem::new(
            Code::BodyTooSlow,
            format!("{late}; nothing was charged or credited, retry"),
        );
    }
    Problem::new(
        Code::BodyIncomplete,
        "the body ended before its declared length, or its chunks cannot be read",
    )
}

/// `application/json` and `application/*+json`, parameters aside.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return false;
    };
    let Ok(text) = value.to_str() else { return false };
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let Some(subtype) = essence.strip_prefix("application/") else {
        return false;
    };
    subtype == "json" || (subtype.len() > "+json".len() && subtype.ends_with("+json"))
}

/// The body as JSON, strictly.
///
/// # Errors
/// 400 when it is not UTF-8 or nested too deep, 422 when it is not JSON.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, Problem> {
    json::parse_located(bytes).map_err(Problem::from)
}
