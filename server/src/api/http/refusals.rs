//! The one table from what lower rows refuse to what callers see. Every match is exhaustive on purpose: a new refusal
//! does not compile until it has its place here.

use axum::http::{HeaderName, HeaderValue};
use engine::{
    CommitError,
    json::{Located, ParseError},
    ledger::{Limited, Refusal},
};
use serde_json::{Map, Value};

use super::problem::{Code, Fault, GateDetail, Problem, Step};
use crate::contribution::Error;

/// Window of the rate limits, in seconds.
const WINDOW_SECONDS: u32 = 3_600;

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::Refused(refusal) => refusal.into(),
            Error::Commit(error) => error.into(),
            Error::Behind => {
                Problem::new(Code::Behind, "this replica has not caught up with the ledger; retry in a moment, which is free").retry_after(1)
            }
            Error::InFlight => Problem::new(
                Code::KeyInFlight,
                "the first request with this Idempotency-Key is still being worked on; retry with the same key in a moment",
            )
            .retry_after(1),
            Error::Internal(what) => internal(&what),
        }
    }
}

/// A 500 whose cause goes to the log and not to the caller.
pub(crate) fn internal(what: &str) -> Problem {
    tracing::error!(what, "a request failed");
    Problem::new(
        Code::Internal,
        "the node could not answer; the cause is in its log under this request id",
    )
}

impl From<CommitError> for Problem {
    fn from(error: CommitError) -> Problem {
        match &error {
            CommitError::Busy => Problem::new(
                Code::Busy,
                "too many writes are waiting; nothing was charged or credited, retry",
            )
            .retry_after(1),
            CommitError::NoSpace { .. } => {
                Problem::new(Code::NoSpace, format!("{error}; nothing was charged or credited")).retry_after(30)
            }
            // The ledger decides before it writes, so the engine has nothing of its commands to reject.
            CommitError::Rejected { .. }
            | CommitError::Unexpected { .. }
            | CommitError::TooLarge { .. }
            | CommitError::RequestReused
            | CommitError::Invalid(_) => internal(&error.to_string()),
            CommitError::Unavailable(_) => Problem::new(
                Code::NoQuorum,
                format!("{error}; nothing was charged or credited, retry"),
            )
            .retry_after(1),
            CommitError::Unknown(_) => Problem::new(
                Code::OutcomeUnknown,
                format!("{error}; whether this request counted is not known: retry it with the same Idempotency-Key"),
            )
            .retry_after(1),
            CommitError::Stopped(what) => {
                tracing::error!(what, "the engine has stopped");
                Problem::new(
                    Code::Stopped,
                    "the node's engine has stopped and must be restarted; whether this request counted is known then: retry it with the same Idempotency-Key",
                )
                .retry_after(10)
            }
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        match &refusal {
            Refusal::RateLimited {
                kind,
                limit,
                retry_at,
                now,
            } => rate_limited(*kind, *limit, retry_at.0.saturating_sub(now.0)),
            Refusal::Gate {
                standing,
                minimum,
                deficit,
            } => gate(standing.ratio, *minimum, *deficit),
            Refusal::KeyReused => Problem::new(
                Code::KeyReused,
                "this Idempotency-Key was used for a request with another body; use a new key for a new request",
            ),
            // No route of this face proposes what these answer.
            Refusal::NamespaceExists
            | Refusal::NamespaceUnknown
            | Refusal::NamespaceName
            | Refusal::NamespacesFull
            | Refusal::LimitsOutOfRange
            | Refusal::Members(_) => internal(&refusal.to_string()),
        }
    }
}

/// `wait` in microseconds. Rounded up to whole seconds, so that a caller who waits as told is served.
fn rate_limited(kind: Limited, limit: u32, wait: u64) -> Problem {
    let name = match kind {
        Limited::Contribute => "contribute",
        Limited::Knowledge => "knowledge",
    };
    let seconds = wait.div_ceil(1_000_000).max(1);
    let text = |value: String| HeaderValue::try_from(value).expect("names and numbers are visible ASCII");
    Problem::new(
        Code::RateLimited,
        format!("{limit} {name} requests per hour and node; the next one is accepted in {seconds} s"),
    )
    .retry_after(seconds)
    // draft-ietf-httpapi-ratelimit-headers-10, and the three fields of its earlier versions that clients know.
    .header(
        HeaderName::from_static("ratelimit-policy"),
        text(format!("\"{name}\";q={limit};w={WINDOW_SECONDS}")),
    )
    .header(
        HeaderName::from_static("ratelimit"),
        text(format!("\"{name}\";r=0;t={seconds}")),
    )
    .header(HeaderName::from_static("ratelimit-limit"), text(limit.to_string()))
    .header(HeaderName::from_static("ratelimit-remaining"), text("0".to_owned()))
    .header(HeaderName::from_static("ratelimit-reset"), text(seconds.to_string()))
}

fn gate(ratio: f64, minimum: f64, deficit: f64) -> Problem {
    // 0.1 · 11 − 1 is 0.1 and some dust: shown, and counted, without the dust.
    let deficit = (deficit * 1e9).round() / 1e9;
    let missing = deficit.ceil().max(1.0);
    let noun = if missing > 1.0 { "concepts" } else { "concept" };
    Problem::gate(GateDetail {
        error: Code::InsufficientContribution.row().1,
        message: "Can't use it unless you add to it",
        contribution_ratio: ratio,
        minimum_required: minimum,
        deficit,
        hint: format!("Contribute {missing} new {noun} with POST /federation/contribute, then ask again."),
    })
}

impl From<Located> for Problem {
    fn from(Located { error, place }: Located) -> Problem {
        let text = if place.is_empty() {
            error.to_string()
        } else {
            format!("{error}; it stands in {place}")
        };
        match error {
            ParseError::NotUtf8 { .. } => Problem::new(Code::NotUtf8, text),
            ParseError::TooDeep { .. } => Problem::new(Code::NestedTooDeep, text),
            ParseError::DuplicateKey { position, .. } => json_fault(Code::DuplicateKey, text, position.offset),
            ParseError::Malformed { position, .. }
            | ParseError::NumberOutOfRange { position }
            | ParseError::LoneSurrogate { position }
            | ParseError::Nul { position } => json_fault(Code::MalformedJson, text, position.offset),
        }
    }
}

/// As FastAPI says it: the location is the byte where reading stopped.
fn json_fault(code: Code, text: String, offset: usize) -> Problem {
    let loc = vec![Step::Name("body"), Step::Index(offset)];
    Problem::faults(
        code,
        vec![Fault {
            kind: "json_invalid",
            loc,
            msg: text,
            input: Value::Object(Map::new()),
        }],
    )
}
