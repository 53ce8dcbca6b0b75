//! What goes wrong, as callers see it: one JSON shape (RFC 9457 with FastAPI's `detail`) on every route and status.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// Every problem this face can report. The names callers see stand in [`Code::row`] and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    NotUtf8,
    NestedTooDeep,
    BodyIncomplete,
    UnreadableHead,
    EmptyConcepts,
    TooManyConcepts,
    EmptyConcept,
    MissingCredentials,
    InsufficientContribution,
    NotFound,
    MethodNotAllowed,
    BodyTooSlow,
    KeyInFlight,
    BodyTooLarge,
    ConceptTooLarge,
    ConceptTooDeep,
    UriTooLong,
    UnsupportedMediaType,
    MalformedJson,
    DuplicateKey,
    InvalidRequest,
    KeyReused,
    RateLimited,
    HeadTooLarge,
    Internal,
    Busy,
    NoQuorum,
    OutcomeUnknown,
    Behind,
    NoSpace,
    Stopped,
    NotReady,
}

impl Code {
    /// Status, name and title: the one place they are said.
    pub(crate) const fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            Code::NotUtf8 => (400, "not_utf8", "The body is not UTF-8"),
            Code::NestedTooDeep => (400, "nested_too_deep", "The body is nested too deep"),
            Code::BodyIncomplete => (400, "body_incomplete", "The body ended early"),
            Code::UnreadableHead => (400, "unreadable_head", "The request head is not HTTP"),
            Code::EmptyConcepts => (400, "empty_concepts", "No concepts"),
            Code::TooManyConcepts => (400, "too_many_concepts", "Too many concepts"),
            Code::EmptyConcept => (400, "empty_concept", "A concept is empty"),
            Code::MissingCredentials => (401, "missing_credentials", "Who is calling?"),
            Code::InsufficientContribution => (403, "insufficient_contribution", "Contribute first"),
            Code::NotFound => (404, "not_found", "No such route"),
            Code::MethodNotAllowed => (405, "method_not_allowed", "Wrong method"),
            Code::BodyTooSlow => (408, "body_too_slow", "The body did not arrive in time"),
            Code::KeyInFlight => (
                409,
                "idempotency_key_in_flight",
                "The first request is still being worked on",
            ),
            Code::BodyTooLarge => (413, "body_too_large", "The body is too large"),
            Code::ConceptTooLarge => (413, "concept_too_large", "A concept is too large"),
            Code::ConceptTooDeep => (413, "concept_too_deep", "A concept is nested too deep"),
            Code::UriTooLong => (414, "uri_too_long", "The address is too long"),
            Code::UnsupportedMediaType => (415, "unsupported_media_type", "Not JSON"),
            Code::MalformedJson => (422, "malformed_json", "Malformed JSON"),
            Code::DuplicateKey => (422, "duplicate_key", "A key appears twice"),
            Code::InvalidRequest => (422, "invalid_request", "The request does not fit its schema"),
            Code::KeyReused => (
                422,
                "idempotency_key_reused",
                "The idempotency key belongs to another request",
            ),
            Code::RateLimited => (429, "rate_limited", "Too many requests"),
            Code::HeadTooLarge => (431, "head_too_large", "The request head is too large"),
            Code::Internal => (500, "internal", "Something broke on our side"),
            Code::Busy => (503, "busy", "Busy"),
            Code::NoQuorum => (503, "no_quorum", "The ledger has no quorum"),
            Code::OutcomeUnknown => (503, "outcome_unknown", "Nobody answered in time"),
            Code::Behind => (503, "behind", "This replica is behind"),
            Code::NoSpace => (503, "no_space", "The disk is nearly full"),
            Code::Stopped => (503, "stopped", "The engine has stopped"),
            Code::NotReady => (503, "not_ready", "Not ready"),
        }
    }

    pub(crate) fn status(self) -> StatusCode {
        StatusCode::from_u16(self.row().0).expect("the table holds HTTP statuses")
    }
}

/// One thing wrong with the shape of a request, as FastAPI reports it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Fault {
    /// Kind of fault: `missing`, `string_type`, `int_type`, `greater_than_equal`, …
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// Where: `["body", "concepts", 3]`, `["header", "x-node-id"]`.
    pub(crate) loc: Vec<Step>,
    /// What is wrong.
    pub(crate) msg: String,
    /// What was sent (a cut text of it when it is long).
    #[schema(value_type = Object)]
    pub(crate) input: Value,
}

/// One step of a location: a name, or an index from 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Step {
    /// A field or header.
    Name(&'static str),
    /// An element of a list, or a byte of the body.
    Index(usize),
}

/// Why the gate is closed.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct GateDetail {
    /// Always `insufficient_contribution`.
    pub(crate) error: &'static str,
    /// The rule.
    pub(crate) message: &'static str,
    /// Contributed / consumed.
    pub(crate) contribution_ratio: f64,
    /// The ratio that opens the gate.
    pub(crate) minimum_required: f64,
    /// Contributions missing: 0.1 · consumed − contributed.
    pub(crate) deficit: f64,
    /// What to do, with the number of concepts missing.
    pub(crate) hint: String,
}

/// What exactly is wrong: a sentence, a list of faults (422), or the gate's account (403).
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Detail {
    /// A sentence that says what to do next.
    Text(String),
    /// Schema errors.
    Faults(Vec<Fault>),
    /// The gate's account.
    Gate(GateDetail),
}

/// A refusal on its way out; the envelope adds the request id and renders it.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) detail: Detail,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Problem {
        Problem {
            code,
            detail: Detail::Text(detail.into()),
            headers: Vec::new(),
        }
    }

    pub(crate) fn faults(code: Code, faults: Vec<Fault>) -> Problem {
        Problem {
            code,
            detail: Detail::Faults(faults),
            headers: Vec::new(),
        }
    }

    pub(crate) fn gate(detail: GateDetail) -> Problem {
        Problem {
            code: Code::InsufficientContribution,
            detail: Detail::Gate(detail),
            headers: Vec::new(),
        }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn retry_after(self, seconds: u64) -> Problem {
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// The body callers see.
    pub(crate) fn body(&self, request_id: &str) -> ProblemBody {
        let (status, code, title) = self.code.row();
        ProblemBody {
            kind: format!("urn:continuum:problem:{code}"),
            title,
            status,
            code,
            request_id: request_id.to_owned(),
            detail: self.detail.clone(),
        }
    }
}

/// The error body of every route and status.
#[derive(Debug, Serialize, ToSchema)]
#[schema(title = "Problem")]
pub(crate) struct ProblemBody {
    /// A name for this kind of problem; stable.
    #[serde(rename = "type")]
    #[schema(example = "urn:continuum:problem:rate_limited")]
    kind: String,
    /// The kind in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// The kind in one word, for programs.
    #[schema(example = "rate_limited")]
    code: &'static str,
    /// Also in the `X-Request-Id` header, and in our log.
    request_id: String,
    /// What is wrong here and now.
    detail: Detail,
}

impl ProblemBody {
    pub(crate) fn into_json(self) -> String {
        serde_json::to_string(&self).expect("a problem has only plain fields")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.code.status();
        response.extensions_mut().insert(self);
        response
    }
}
