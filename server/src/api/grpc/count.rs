//! Counts and times every call, by method and status code.
//!
//! Labels come from the descriptors, never from the caller: a path nobody serves is counted as `unknown`.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use axum::http::HeaderMap;
use metrics::{Counter, Histogram};
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::Code;

use crate::{
    metrics::{GRPC_REQUESTS, GRPC_SECONDS, Metrics},
    runtime::time::Stopwatch,
};

const UNKNOWN: &str = "unknown";
/// Status codes of gRPC.
const CODES: usize = 17;

/// The series of all methods; clones share them.
#[derive(Clone)]
pub(super) struct Counts(Arc<Shared>);

struct Shared {
    metrics: Metrics,
    /// The first is of paths that nobody serves.
    methods: Vec<Method>,
    places: HashMap<String, usize>,
}

/// The series of one method: looked up in the registry when they are first needed, not again for every call.
struct Method {
    name: String,
    calls: [OnceLock<Counter>; CODES],
    seconds: OnceLock<Histogram>,
}

/// A call under way.
pub(super) struct Call {
    counts: Counts,
    place: usize,
    watch: Stopwatch,
}

impl Counts {
    /// Counts the methods of `descriptors` (encoded `FileDescriptorSet`s) by name.
    pub(super) fn new(metrics: Metrics, descriptors: &[&[u8]]) -> Counts {
        let described = descriptors.iter().flat_map(|encoded| methods(encoded));
        let names: Vec<String> = [UNKNOWN.to_owned()].into_iter().chain(described).collect();
        let places = names.iter().enumerate().skip(1);
        Counts(Arc::new(Shared {
            metrics,
            places: places.map(|(place, name)| (name.clone(), place)).collect(),
            methods: names.into_iter().map(Method::new).collect(),
        }))
    }

    /// A call of the method at `path` begins.
    pub(super) fn begin(&self, path: &str) -> Call {
        Call {
            counts: self.clone(),
            place: self.0.places.get(path).copied().unwrap_or(0),
            watch: Stopwatch::start(),
        }
    }
}

impl Method {
    fn new(name: String) -> Method {
        Method {
            name,
            calls: [const { OnceLock::new() }; CODES],
            seconds: OnceLock::new(),
        }
    }
}

impl Call {
    /// It was answered with these headers.
    pub(super) fn end(self, headers: &HeaderMap) {
        let Shared { metrics, methods, .. } = &*self.counts.0;
        let method = &methods[self.place];
        let code = code(headers);
        let labels = [("method", method.name.as_str()), ("code", name(code))];
        let calls = method.calls[code as usize].get_or_init(|| metrics.counter(GRPC_REQUESTS, &labels));
        calls.increment(1);
        let seconds = method
            .seconds
            .get_or_init(|| metrics.histogram(GRPC_SECONDS, &labels[..1]));
        seconds.record(self.watch.seconds());
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

/// A refused call answers in headers alone; one that has a body went well as far as it is known here, for the status of
/// a stream follows its body.
fn code(headers: &HeaderMap) -> Code {
    let status = headers.get("grpc-status");
    status.map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()))
}

/// As the protocol writes it.
fn name(code: Code) -> &'static str {
    match code {
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
