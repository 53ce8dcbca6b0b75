//! Counts and times every call, by method and status code.
//!
//! Labels come from the descriptors, never from the caller: a path nobody serves is counted as `unknown`.

use std::{collections::HashSet, sync::Arc};

use axum::{
    extract::{Request, State},
    http::HeaderMap,
    middleware::Next,
    response::Response,
};
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::Code;

use crate::{
    metrics::{GRPC_REQUESTS, GRPC_SECONDS, Metrics},
    runtime::time::Stopwatch,
};

const UNKNOWN: &str = "unknown";

/// The registry, and the methods that have a series of their own.
#[derive(Clone)]
pub(super) struct Counts {
    metrics: Metrics,
    methods: Arc<HashSet<String>>,
}

impl Counts {
    /// Counts the methods of `descriptors` (encoded `FileDescriptorSet`s) by name.
    pub(super) fn new(metrics: Metrics, descriptors: &[&[u8]]) -> Counts {
        let methods = descriptors.iter().flat_map(|encoded| methods(encoded)).collect();
        Counts {
            metrics,
            methods: Arc::new(methods),
        }
    }
}

/// `/package.Service/Method` of every method in an encoded set.
fn methods(encoded: &[u8]) -> Vec<String> {
    let set = FileDescriptorSet::decode(encoded).expect("the descriptors were compiled with this binary");
    let mut methods = Vec::new();
    for file in &set.file {
        for service in &file.service {
            let paths = service
                .method
                .iter()
                .map(|method| format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            methods.extend(paths);
        }
    }
    methods
}

/// The layer around all services.
pub(super) async fn count(State(counts): State<Counts>, request: Request, next: Next) -> Response {
    let watch = Stopwatch::start();
    let method = match counts.methods.get(request.uri().path()) {
        Some(known) => known.clone(),
        None => UNKNOWN.to_owned(),
    };
    let response = next.run(request).await;
    let code = code(response.headers());
    counts
        .metrics
        .counter(GRPC_REQUESTS, &[("method", &method), ("code", code)])
        .increment(1);
    counts
        .metrics
        .histogram(GRPC_SECONDS, &[("method", &method)])
        .record(watch.seconds());
    response
}

/// A refused call answers in headers alone; one that has a body went well as far as it is known here, for the status of
/// a stream follows its body.
fn code(headers: &HeaderMap) -> &'static str {
    let Some(status) = headers.get("grpc-status") else {
        return "OK";
    };
    match Code::from_bytes(status.as_bytes()) {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
