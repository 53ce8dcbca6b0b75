//! Around every request: its id, a net under panics, the rendering of problems, and the count.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Response, header},
    middleware::Next,
    response::IntoResponse,
};

use super::{
    Face,
    problem::{Code, Problem},
};
use crate::{
    metrics::{HTTP_REQUESTS, HTTP_SECONDS, Metrics},
    runtime::{entropy, time::Stopwatch},
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Characters of a caller's request id that we take over.
const REQUEST_ID_CHARACTERS_MAX: usize = 128;

/// The outermost layer.
pub(crate) async fn envelope(State(face): State<Face>, request: Request, next: Next) -> Response<Body> {
    let watch = Stopwatch::start();
    let request_id = request_id(request.headers());
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let mut response = match Caught(Box::pin(next.run(request))).await {
        Ok(response) => response,
        Err(panic) => {
            tracing::error!(%request_id, %method, route, panic = said(panic.as_ref()), "a handler panicked");
            Problem::new(
                Code::Internal,
                "the node could not answer; the cause is in its log under this request id",
            )
            .into_response()
        }
    };
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        render(&mut response, problem, &request_id);
    }
    let status = response.status().as_u16();
    let value = HeaderValue::from_str(&request_id).expect("request ids are visible ASCII");
    response.headers_mut().insert(REQUEST_ID, value);
    response
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let seconds = watch.seconds();
    count(&face.metrics, &route, &method, status, seconds);
    tracing::debug!(%request_id, %method, route, status, seconds, "answered");
    response
}

/// The same of a node that has no metrics to show yet: problems are rendered.
pub(crate) async fn bare(request: Request, next: Next) -> Response<Body> {
    let request_id = request_id(request.headers());
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        render(&mut response, problem, &request_id);
    }
    let value = HeaderValue::from_str(&request_id).expect("request ids are visible ASCII");
    response.headers_mut().insert(REQUEST_ID, value);
    response
}

fn render(response: &mut Response<Body>, problem: Problem, request_id: &str) {
    let body = problem.body(request_id).into_json();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    for (name, value) in problem.headers {
        headers.insert(name, value);
    }
    *response.body_mut() = Body::from(body);
}

/// The caller's id where it is one we can repeat, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let sent = headers.get(REQUEST_ID).map(HeaderValue::as_bytes);
    match sent {
        Some(id) if (1..=REQUEST_ID_CHARACTERS_MAX).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic) => {
            String::from_utf8_lossy(id).into_owned()
        }
        _ => entropy::uuid(),
    }
}

fn count(metrics: &Metrics, route: &str, method: &Method, status: u16, seconds: f64) {
    // Callers may invent methods; series may not.
    let method = match *method {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::OPTIONS => {
            method.as_str()
        }
        _ => "other",
    };
    metrics
        .counter(
            HTTP_REQUESTS,
            &[("route", route), ("method", method), ("status", &status.to_string())],
        )
        .increment(1);
    metrics.histogram(HTTP_SECONDS, &[("route", route)]).record(seconds);
}

/// The words of a panic.
fn said(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no words)")
}

/// A future whose panics become errors. What it had touched is dropped with it and never seen again.
struct Caught<F>(Pin<Box<F>>);

impl<F: Future> Future for Caught<F> {
    type Output = Result<F::Output, Box<dyn Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context))) {
            Ok(progress) => progress.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}
