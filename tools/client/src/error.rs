//! Why a call failed: what happened, whether anything was changed, what to do.
//!
//! | the node answers | [`Kind`] | retried by the client |
//! |---|---|---|
//! | no connection can be opened | `Unreachable` | yes, at the next endpoint |
//! | TLS cannot be agreed on | `Tls` | at each other endpoint, once |
//! | the connection broke, or the node is stopping | `Broken` | what may be repeated |
//! | `UNAVAILABLE`, `RESOURCE_EXHAUSTED` with `RetryInfo` | `Busy` | yes, nothing has happened |
//! | `ABORTED` | `Busy` | what may be repeated |
//! | `RESOURCE_EXHAUSTED` without | `Refused` | no |
//! | `DEADLINE_EXCEEDED`, or our own clock | `OutOfTime` | no |
//! | `INVALID_ARGUMENT`, `OUT_OF_RANGE` | `Invalid` | no |
//! | `NOT_FOUND` | `NotFound` | no |
//! | `ALREADY_EXISTS` | `AlreadyExists` | no |
//! | `FAILED_PRECONDITION` with `ConditionFailure` | `ConditionFailed` | no: read, decide, write |
//! | `FAILED_PRECONDITION` | `Refused` | no |
//! | `PERMISSION_DENIED`, `UNAUTHENTICATED` | `NotAllowed` | no |
//! | `UNIMPLEMENTED` | `Unsupported` | no |
//! | anything else | `Internal` | no |

use std::{error::Error as _, fmt, time::Duration};

use prost::Message as _;
use proto::v1::ConditionFailure;
use tonic::{Code, ConnectError, Status};
use tonic_types::{StatusExt as _, pb as rpc};

use crate::Context;

/// What kind of failure it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No endpoint could be connected to: nothing was sent.
    Unreachable,
    /// The two ends cannot agree on TLS, or on whether to speak it: nothing was carried out.
    Tls,
    /// The connection broke, or the node stopped, before there was an answer.
    Broken,
    /// The node cannot now, but can later: nothing has happened.
    Busy,
    /// The time for the call is over.
    OutOfTime,
    /// A field of the request breaks its rule: see [`Error::violations`].
    Invalid,
    /// There is no such namespace, snapshot or stream.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// The key is not as `if_context` expected it to be.
    ConditionFailed {
        /// Place of the write in its batch.
        write: usize,
        /// What to expect, to write over what is there unread; `None` when too long for an error: read the key.
        context: Option<Context>,
        /// Whether the key holds anything.
        exists: bool,
    },
    /// The state of the node or of the key forbids it.
    Refused,
    /// Not allowed.
    NotAllowed,
    /// The node does not serve this.
    Unsupported,
    /// The node failed inside, or answered what no node answers.
    Internal,
    /// The client's own settings or arguments are wrong: nothing was sent.
    Settings,
}

/// Whether a call that failed has changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Nothing has happened.
    No,
    /// Nobody knows: it may have been carried out.
    Perhaps,
}

/// A field of the request that breaks its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field, as a path: `writes[3].key`.
    pub field: String,
    /// The rule.
    pub rule: String,
}

/// Why a call failed.
#[derive(Clone, Debug)]
pub struct Error(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    kind: Kind,
    code: Code,
    reason: String,
    message: String,
    violations: Vec<Violation>,
    retry_after: Option<Duration>,
    /// The call only reads.
    reads: bool,
    changed: Changed,
}

impl Error {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> &Kind {
        &self.0.kind
    }

    /// The code of gRPC.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The stable reason that the node gave, such as `KIND_MISMATCH`; empty where no node answered.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// What happened, in words.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The fields that break their rules.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.0.violations
    }

    /// When the node says that trying again makes sense.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether anything was changed; `None` of a call that only reads.
    #[must_use]
    pub fn changed(&self) -> Option<Changed> {
        (!self.0.reads).then_some(self.0.changed)
    }

    /// What to do about it, in words.
    #[must_use]
    pub fn what_to_do(&self) -> &'static str {
        match self.kind() {
            Kind::Unreachable => "see that a node runs at one of the endpoints, and that it can be reached from here",
            Kind::Broken if self.changed() == Some(Changed::Perhaps) => {
                "read what was to be written before writing it again"
            }
            Kind::Broken | Kind::Busy => "try again later",
            Kind::OutOfTime if self.changed() == Some(Changed::Perhaps) => {
                "read what was to be written before writing it again, or allow more time"
            }
            Kind::OutOfTime => "allow more time",
            Kind::Invalid => "correct the request: the same one fails again",
            Kind::NotFound => "check the name, or create it first",
            Kind::AlreadyExists => "take another name, or use what is there",
            Kind::ConditionFailed { .. } => "read the key, decide again, and write with the new context",
            Kind::Refused => "change what the message names: the same call fails until then",
            Kind::NotAllowed => "no call can do this",
            Kind::Unsupported => "use a newer continuumd",
            Kind::Internal => "look into the node's log, and report this with what it says",
            Kind::Tls => "check the authority and the certificate given, and whether the node speaks TLS",
            Kind::Settings => "correct the settings",
        }
    }

    pub(crate) fn settings(message: impl Into<String>) -> Error {
        Error(Box::new(Parts {
            kind: Kind::Settings,
            code: Code::InvalidArgument,
            reason: String::new(),
            message: message.into(),
            violations: Vec::new(),
            retry_after: None,
            reads: false,
            changed: Changed::No,
        }))
    }

    /// A node answered what the contract does not allow.
    pub(crate) fn confused(message: &str) -> Error {
        Error::plain(
            Kind::Internal,
            Code::Internal,
            format!("the node's answer makes no sense: {message}"),
        )
    }

    /// The time for the call is over; `last` is what the latest try said.
    pub(crate) fn out_of_time(limit: Duration, last: Option<&Error>) -> Error {
        let mut message = format!("no answer within {limit:?}");
        if let Some(last) = last {
            message.push_str(": ");
            message.push_str(last.message());
        }
        Error::plain(Kind::OutOfTime, Code::DeadlineExceeded, message)
    }

    fn plain(kind: Kind, code: Code, message: String) -> Error {
        Error(Box::new(Parts {
            kind,
            code,
            message,
            changed: Changed::Perhaps,
            ..*Error::settings("").0
        }))
    }

    /// Says where it happened.
    pub(crate) fn at(mut self, endpoint: &str) -> Error {
        if matches!(self.kind(), Kind::Unreachable | Kind::Broken) {
            self.0.message = format!("{endpoint}: {}", self.0.message);
        }
        self
    }

    /// The call only reads.
    pub(crate) fn reading(mut self) -> Error {
        self.0.reads = true;
        self.0.changed = Changed::No;
        self
    }

    /// An earlier try of the same call may have been carried out.
    pub(crate) fn perhaps_earlier(mut self, perhaps: bool) -> Error {
        if perhaps {
            self.0.changed = Changed::Perhaps;
        }
        self
    }

    pub(crate) fn is_perhaps(&self) -> bool {
        self.0.changed == Changed::Perhaps
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.message())?;
        if !self.reason().is_empty() {
            write!(formatter, " [{}]", self.reason())?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<Status> for Error {
    fn from(status: Status) -> Error {
        let details = status.get_error_details();
        let retry_after = details.retry_info().and_then(|info| info.retry_delay);
        let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
        let kind = kind(&status, retry_after.is_some(), &reason);
        let violations = details.bad_request().map(|bad| bad.field_violations.as_slice());
        let violations = violations.unwrap_or_default().iter().map(|one| Violation {
            field: one.field.clone(),
            rule: one.description.clone(),
        });
        let changed = match kind {
            Kind::Broken | Kind::OutOfTime | Kind::Internal => Changed::Perhaps,
            _ => Changed::No,
        };
        Error(Box::new(Parts {
            violations: violations.collect(),
            message: message(&status),
            code: status.code(),
            kind,
            reason,
            retry_after,
            reads: false,
            changed,
        }))
    }
}

impl From<&rpc::Status> for Error {
    /// What an acknowledgement carries: nothing of its chunk has happened.
    fn from(fault: &rpc::Status) -> Error {
        let details = fault.encode_to_vec().into();
        let mut error = Error::from(Status::with_details(
            Code::from(fault.code),
            fault.message.clone(),
            details,
        ));
        error.0.changed = Changed::No;
        error
    }
}

/// The table at the head of this file.
fn kind(status: &Status, retry_info: bool, reason: &str) -> Kind {
    if unlike(status).is_some() {
        return Kind::Tls;
    }
    if has_source::<ConnectError>(status) {
        return Kind::Unreachable;
    }
    if has_source::<tonic::TimeoutExpired>(status) {
        return Kind::OutOfTime;
    }
    // What the client's own transport made, no node said; and no node says UNKNOWN or CANCELLED without a reason.
    let nobody_said = status.source().is_some() || reason.is_empty();
    match status.code() {
        Code::Unavailable | Code::ResourceExhausted if retry_info => Kind::Busy,
        Code::Unavailable => Kind::Broken,
        Code::Unknown | Code::Cancelled if nobody_said => Kind::Broken,
        Code::Internal if status.source().is_some() => Kind::Broken,
        Code::Aborted => Kind::Busy,
        Code::DeadlineExceeded => Kind::OutOfTime,
        Code::InvalidArgument | Code::OutOfRange => Kind::Invalid,
        Code::NotFound => Kind::NotFound,
        Code::AlreadyExists => Kind::AlreadyExists,
        Code::FailedPrecondition => condition(status).unwrap_or(Kind::Refused),
        Code::ResourceExhausted => Kind::Refused,
        Code::PermissionDenied | Code::Unauthenticated => Kind::NotAllowed,
        Code::Unimplemented => Kind::Unsupported,
        Code::Ok | Code::Unknown | Code::Cancelled | Code::Internal | Code::DataLoss => Kind::Internal,
    }
}

/// The detail of ours among those of `google.rpc`.
fn condition(status: &Status) -> Option<Kind> {
    let whole = rpc::Status::decode(status.details()).ok()?;
    let mut details = whole.details.iter();
    let detail = details.find(|detail| detail.type_url.ends_with("/continuum.v1.ConditionFailure"))?;
    let found = ConditionFailure::decode(detail.value.as_slice()).ok()?;
    Some(Kind::ConditionFailed {
        write: found.write as usize,
        context: found.context.map(Context::from),
        exists: found.exists,
    })
}

fn has_source<E: std::error::Error + 'static>(status: &Status) -> bool {
    sources(status).any(|error| error.is::<E>())
}

fn sources(status: &Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(status.source(), |error| (**error).source())
}

/// Why the two ends do not understand each other. Known by the words of the libraries: on its way through h2 the error loses
/// its type.
fn unlike(status: &Status) -> Option<&'static str> {
    let cause = sources(status).last()?.to_string();
    let says = |words: &str| cause.contains(words);
    // Those that only a handshake ends with.
    let alerts = [
        "Certificate",
        "UnknownCA",
        "DecryptError",
        "HandshakeFailure",
        "ProtocolVersion",
    ];
    if says("received fatal alert") && alerts.into_iter().any(says) {
        Some("the node asks for a certificate of its authority")
    } else if !has_source::<ConnectError>(status) {
        // Whatever it says, something may have been carried out.
        None
    } else if says("invalid peer certificate") {
        Some("the node's certificate is not for this address, or not of the authority given")
    } else if says("received corrupt message of type InvalidContentType") {
        Some("the node does not speak TLS")
    } else {
        None
    }
}

/// What the node said; of what the transport made, the innermost cause, which is the one that people know.
fn message(status: &Status) -> String {
    match sources(status).last() {
        Some(cause) if let Some(unlike) = unlike(status) => format!("{unlike} ({cause})"),
        Some(cause) if has_source::<ConnectError>(status) => format!("cannot connect: {cause}"),
        // What a node with TLS says to a caller without, taken for a frame.
        Some(cause) if cause.to_string().contains("frame with invalid size") => {
            format!("the connection broke: {cause}; does the node speak TLS?")
        }
        Some(cause) => format!("the connection broke: {cause}"),
        None => status.message().to_owned(),
    }
}

#[cfg(test)]
mod tests;
