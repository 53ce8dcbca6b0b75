//! Every refusal of this face, mapped once to `google.rpc.Status` with details.
//!
//! | what happened | code | retry? |
//! |---|---|---|
//! | a field breaks its rule, a token is forged, foreign or old | `INVALID_ARGUMENT`, field violation | after correcting |
//! | another write was carried out under the `request_id` | `INVALID_ARGUMENT`, field violation | under a fresh one |
//! | reserved namespace | `PERMISSION_DENIED` | never |
//! | no such namespace or key | `NOT_FOUND`, resource | after creating |
//! | the name is taken | `ALREADY_EXISTS`, resource | no |
//! | what only namespaces of one road have is asked of one of the other | `FAILED_PRECONDITION`, violation | no |
//! | `if_context` does not hold | `FAILED_PRECONDITION`, violation, `ConditionFailure` | with the context it brings |
//! | the key's state forbids the write | `FAILED_PRECONDITION`, violation | after doing what it says |
//! | the queue is full, a context is ahead | `UNAVAILABLE`, retry info | yes, nothing happened |
//! | a snapshot's name is taken, unknown or no name; it is in use | `ALREADY_EXISTS`, `NOT_FOUND`, `INVALID_ARGUMENT`, `FAILED_PRECONDITION` | after correcting |
//! | a compaction, verification, snapshot or backup is being made | `FAILED_PRECONDITION`, violation | after its end |
//! | too many streams of a kind at once | `RESOURCE_EXHAUSTED`, retry info | yes |
//! | the keys asked for hold more than one answer carries | `RESOURCE_EXHAUSTED`, field violation | with fewer keys |
//! | the caller of a stream takes nothing | `ABORTED` | go on from what was received |
//! | the node stops | `UNAVAILABLE` | go on from what was received, elsewhere or later |
//! | the caller's deadline has passed | `DEADLINE_EXCEEDED` | reads at will; a write may have been carried out |
//! | the disk is nearly full | `RESOURCE_EXHAUSTED`, retry info | yes, nothing happened; deletes work |
//! | the engine stopped | `UNAVAILABLE` | the outcome is unknown until the node is back |
//! | the store failed to read, the engine found the write impossible | `INTERNAL` | nothing changed; tell the operator |
//!
//! Each carries `ErrorInfo` with a stable reason and the domain [`DOMAIN`]; of several writes the one to blame is named in
//! its metadata (`write`), at the head of the message, and in the paths of fields.

use std::{collections::HashMap, time::Duration};

use engine::{
    CommitError, backup,
    crdt::{Rejected, SIBLINGS_MAX, STATE_BYTES_MAX},
    ledger::{MemberRefusal, Refusal},
    store, verify,
};
use prost::Message;
use proto::v1::ConditionFailure;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt, pb as rpc};

use crate::{contribution, snapshots};

/// Whose reasons these are.
pub(super) const DOMAIN: &str = "continuum.v1";

/// When to try again after the write queue was full.
const RETRY_BUSY: Duration = Duration::from_millis(100);
/// When to try again where another node is ahead: gossip takes a few rounds of 100 ms.
const RETRY_BEHIND: Duration = Duration::from_secs(1);
/// When to try again where streams are full: some end every few seconds.
const RETRY_STREAMS: Duration = Duration::from_secs(1);
/// When to try again on a full disk: space is looked at about this often.
const RETRY_SPACE: Duration = Duration::from_secs(10);

/// Why a call was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("{field}: {rule}")]
    Field {
        field: &'static str,
        reason: &'static str,
        rule: String,
    },
    #[error("the namespace {name:?} is reserved: no client reads or writes it")]
    Reserved { name: String },
    #[error("there is no namespace {name:?}: create it with continuum.v1.Namespaces/Create")]
    NamespaceUnknown { name: String },
    #[error("the namespace {name:?} exists already")]
    NamespaceExists { name: String },
    #[error("the key {key:?} holds nothing in namespace {namespace:?}")]
    ConceptAbsent { namespace: String, key: String },
    #[error(
        "together the keys hold more than one answer carries: the first {fit} fit, ask for the rest by another call"
    )]
    AnswerTooLarge { fit: usize },
    #[error("the namespace {namespace:?} replicates by consensus: {what} is for those that replicate by mesh")]
    MeshOnly { namespace: String, what: &'static str },
    #[error(
        "the namespace {namespace:?} replicates by mesh: a transaction is for those that replicate by consensus, use Batch"
    )]
    ConsensusOnly { namespace: String },
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Registry(#[from] Refusal),
    /// A call between nodes, for a reason of its own.
    #[error("{why}")]
    Peer {
        /// What it is told by.
        code: Code,
        /// Its name.
        reason: &'static str,
        /// In words.
        why: String,
    },
    #[error("the key {key:?} in namespace {namespace:?} is not as it was expected to be: nothing was written")]
    ConditionFailed {
        write: usize,
        namespace: String,
        key: String,
        exists: bool,
        /// Sealed: what is to be expected instead.
        context: Vec<u8>,
    },
    #[error("{list}[{index}]: {refused}")]
    At {
        /// What the request calls the several of which one is to blame.
        list: &'static str,
        index: usize,
        refused: Box<Refused>,
    },
    #[error("{max} scans run at this node already, as many as may")]
    ScansFull { max: usize },
    #[error("{max} watches run at this node already, as many as may")]
    WatchesFull { max: usize },
    #[error(transparent)]
    Verify(#[from] verify::Error),
    #[error(transparent)]
    Snapshots(#[from] snapshots::Error),
    #[error("a file cannot be read: {0}")]
    Unreadable(String),
    #[error(
        "the state holds write {counter} of this very node, which the node does not have: its data directory is older than the export; restore into an empty one instead"
    )]
    StateAhead { counter: u64 },
    #[error("the pool was changed in part or not at all, send the whole again: {0}")]
    Contribution(contribution::Error),
    #[error("the log cannot be read on: {0}")]
    Log(String),
    #[error("no message of the stream was taken for {limit:?}: go on from what was received")]
    Stalled { limit: Duration },
    #[error("the node is stopping: go on from what was received, at another node or later")]
    Stopping,
    #[error("the deadline has passed; what the call was to write may have been written")]
    DeadlinePassed,
    #[error("the node answered something else than it was asked")]
    Confused,
}

impl Refused {
    /// A field that breaks its rule.
    pub(super) fn field(field: &'static str, reason: &'static str, rule: impl Into<String>) -> Refused {
        Refused::Field {
            field,
            reason,
            rule: rule.into(),
        }
    }

    /// A batch names a namespace that replicates by consensus, and another one.
    pub(super) fn batch_mixed() -> Refused {
        let rule = "a batch is over one namespace that replicates by consensus, or over any that replicate by mesh";
        Refused::field("namespace", "BATCH_MIXED", rule)
    }

    /// The same rule, broken in another field.
    pub(super) fn in_field(self, name: &'static str) -> Refused {
        match self {
            Refused::Field { reason, rule, .. } => Refused::Field {
                field: name,
                reason,
                rule,
            },
            refused => refused,
        }
    }

    /// Because of the write at `index` of several.
    pub(super) fn at(self, index: usize) -> Refused {
        self.at_place("writes", index)
    }

    /// Because of the one at `index` of those that the request calls `list`.
    pub(super) fn at_place(self, list: &'static str, index: usize) -> Refused {
        let refused = Box::new(self);
        Refused::At { list, index, refused }
    }

    /// Of a write that came alone, and so has no place.
    pub(super) fn out_of_batch(self) -> Refused {
        match self {
            Refused::At { refused, .. } => *refused,
            refused => refused,
        }
    }
}

/// The largest context that goes with an error: clients take only so much in trailers, often 8 KiB in all.
const ERROR_CONTEXT_BYTES_MAX: usize = 4 * 1024;

/// One row of the table.
struct Row {
    code: Code,
    reason: &'static str,
    retry: Option<Duration>,
    details: ErrorDetails,
    /// A detail of our own beside those of `google.rpc`.
    condition: Option<ConditionFailure>,
    /// The place of the write to blame.
    write: Option<usize>,
}

fn row(code: Code, reason: &'static str) -> Row {
    Row {
        code,
        reason,
        retry: None,
        details: ErrorDetails::new(),
        condition: None,
        write: None,
    }
}

fn precondition(reason: &'static str, subject: &str, description: &str) -> Row {
    let details = ErrorDetails::with_precondition_failure_violation(reason, subject, description);
    Row {
        details,
        ..row(Code::FailedPrecondition, reason)
    }
}

fn resource(code: Code, reason: &'static str, kind: &str, name: &str, description: &str) -> Row {
    Row {
        details: ErrorDetails::with_resource_info(kind, name, "", description),
        ..row(code, reason)
    }
}

fn violation(reason: &'static str, field: &str, rule: &str) -> Row {
    Row {
        details: ErrorDetails::with_bad_request_violation(field, rule),
        ..row(Code::InvalidArgument, reason)
    }
}

fn retry(code: Code, reason: &'static str, after: Duration) -> Row {
    Row {
        retry: Some(after),
        ..row(code, reason)
    }
}

/// The table.
fn classify(refused: &Refused, message: &str) -> Row {
    match refused {
        Refused::Field { field, reason, rule } => violation(reason, field, rule),
        Refused::Reserved { name } => {
            resource(Code::PermissionDenied, "RESERVED_NAMESPACE", "namespace", name, message)
        }
        Refused::NamespaceUnknown { name } => resource(Code::NotFound, "NAMESPACE_UNKNOWN", "namespace", name, message),
        Refused::NamespaceExists { name } => {
            resource(Code::AlreadyExists, "NAMESPACE_EXISTS", "namespace", name, message)
        }
        Refused::ConceptAbsent { namespace, key } => resource(
            Code::NotFound,
            "CONCEPT_ABSENT",
            "concept",
            &format!("{namespace}/{key}"),
            message,
        ),
        Refused::ConditionFailed {
            write,
            namespace,
            key,
            exists,
            context,
        } => Row {
            condition: Some(ConditionFailure {
                write: u32::try_from(*write).unwrap_or(u32::MAX),
                context: (context.len() <= ERROR_CONTEXT_BYTES_MAX).then(|| context.clone()),
                exists: *exists,
            }),
            ..precondition("CONDITION_FAILED", &format!("{namespace}/{key}"), message)
        },
        Refused::At { list, index, refused } => {
            let mut row = classify(refused, message);
            row.write = Some(*index);
            let violations = row.details.bad_request().map(|bad| bad.field_violations.clone());
            if let Some(violations) = violations {
                row.details.set_bad_request(placed(violations, list, *index));
            }
            row
        }
        Refused::AnswerTooLarge { .. } => Row {
            code: Code::ResourceExhausted,
            ..violation("ANSWER_TOO_LARGE", "keys", message)
        },
        Refused::MeshOnly { namespace, .. } => precondition("CONSENSUS_NAMESPACE", namespace, message),
        Refused::ConsensusOnly { namespace } => precondition("MESH_NAMESPACE", namespace, message),
        Refused::Commit(error) => classify_commit(error, message),
        Refused::Store(store::Error { .. }) => row(Code::Internal, "STORE_FAILED"),
        Refused::Registry(refusal) => classify_refusal(refusal),
        Refused::Peer { code, reason, .. } => row(*code, reason),
        Refused::ScansFull { .. } => retry(Code::ResourceExhausted, "SCANS_FULL", RETRY_STREAMS),
        Refused::WatchesFull { .. } => retry(Code::ResourceExhausted, "WATCHES_FULL", RETRY_STREAMS),
        Refused::Verify(error) => classify_verify(error, message),
        Refused::Snapshots(error) => classify_snapshots(error, message),
        Refused::Unreadable(_) => row(Code::Internal, "FILE_UNREADABLE"),
        Refused::StateAhead { .. } => precondition("STATE_AHEAD", "states", message),
        Refused::Contribution(contribution::Error::Refused(refusal)) => classify_refusal(refusal),
        Refused::Contribution(contribution::Error::Commit(error)) => classify_commit(error, message),
        Refused::Contribution(_) => row(Code::Internal, "POOL_FAILED"),
        Refused::Log(_) => row(Code::Internal, "LOG_UNREADABLE"),
        Refused::Stalled { .. } => row(Code::Aborted, "STREAM_STALLED"),
        Refused::Stopping => row(Code::Unavailable, "STOPPING"),
        Refused::DeadlinePassed => row(Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        Refused::Confused => row(Code::Internal, "UNEXPECTED_OUTCOME"),
    }
}

/// Violations in the one at `index` of several.
fn placed(violations: Vec<FieldViolation>, list: &str, index: usize) -> Vec<FieldViolation> {
    let place = |violation: FieldViolation| FieldViolation {
        field: format!("{list}[{index}].{}", violation.field),
        ..violation
    };
    violations.into_iter().map(place).collect()
}

fn classify_commit(error: &CommitError, message: &str) -> Row {
    match error {
        CommitError::Busy => retry(Code::Unavailable, "BUSY", RETRY_BUSY),
        CommitError::NoSpace { .. } => retry(Code::ResourceExhausted, "DISK_NEARLY_FULL", RETRY_SPACE),
        CommitError::Rejected { reason, .. } => classify_rejected(reason, message),
        CommitError::Unexpected { .. } => precondition("CONDITION_FAILED", "key", message),
        CommitError::RequestReused => violation("REQUEST_ID_REUSED", "request_id", message),
        CommitError::TooLarge { .. } => violation("BATCH_TOO_LARGE", "writes", message),
        CommitError::Invalid(_) => row(Code::Internal, "BATCH_INVALID"),
        CommitError::Unavailable(_) => retry(Code::Unavailable, "NO_QUORUM", RETRY_BUSY),
        CommitError::Unknown(_) => row(Code::Unavailable, "OUTCOME_UNKNOWN"),
        CommitError::Stopped(_) => row(Code::Unavailable, "ENGINE_STOPPED"),
    }
}

fn classify_snapshots(error: &snapshots::Error, message: &str) -> Row {
    use snapshots::Error;
    match error {
        Error::Name => violation("SNAPSHOT_NAME", "name", message),
        Error::Exists { name } => resource(Code::AlreadyExists, "SNAPSHOT_EXISTS", "snapshot", name, message),
        Error::Unknown { name } => resource(Code::NotFound, "SNAPSHOT_UNKNOWN", "snapshot", name, message),
        Error::CutGone => row(Code::NotFound, "BACKUP_UNKNOWN"),
        Error::InUse { name } => precondition("SNAPSHOT_IN_USE", name, message),
        Error::Full { .. } => row(Code::ResourceExhausted, "SNAPSHOTS_FULL"),
        Error::Busy { .. } => retry(Code::ResourceExhausted, "BACKUPS_FULL", RETRY_STREAMS),
        Error::Backup(backup::Error::NoSpace { .. }) => retry(Code::ResourceExhausted, "DISK_NEARLY_FULL", RETRY_SPACE),
        Error::Backup(backup::Error::Engine(error)) => classify_commit(error, message),
        Error::Backup(backup::Error::Occupied(_)) => work_runs(message),
        Error::Backup(_) | Error::Io { .. } => row(Code::Internal, "SNAPSHOT_FAILED"),
    }
}

fn classify_verify(error: &verify::Error, message: &str) -> Row {
    match error {
        verify::Error::Occupied(_) => work_runs(message),
        verify::Error::Engine(error) => classify_commit(error, message),
        // Nobody is left to be told, but for the node's own stop, which is told as such.
        verify::Error::Stopped => row(Code::Cancelled, "VERIFICATION_STOPPED"),
        verify::Error::Open(_) => row(Code::Internal, "FILE_UNREADABLE"),
    }
}

/// Of the works on all files at once another one is under way.
fn work_runs(message: &str) -> Row {
    precondition("WORK_RUNS", "work", message)
}

fn classify_rejected(rejected: &Rejected, message: &str) -> Row {
    match rejected {
        Rejected::KindMismatch { .. } => precondition("KIND_MISMATCH", "key", message),
        Rejected::TooManySiblings => precondition(
            "TOO_MANY_SIBLINGS",
            "key",
            &format!("at most {SIBLINGS_MAX} concurrent values: {message}"),
        ),
        Rejected::ValueTooLarge { .. } => violation("JSON_SIZE", "write", message),
        Rejected::StateTooLarge { .. } => precondition(
            "CONCEPT_TOO_LARGE",
            "key",
            &format!("at most {STATE_BYTES_MAX} bytes: {message}"),
        ),
        Rejected::ContextRequired => violation("CONTEXT_REQUIRED", "context", message),
        Rejected::CounterOverflow => Row {
            code: Code::OutOfRange,
            ..violation("COUNTER_OVERFLOW", "counter.delta", message)
        },
        Rejected::ContextAhead => retry(Code::Unavailable, "CONTEXT_AHEAD", RETRY_BEHIND),
        Rejected::DotSeen { .. } => row(Code::Internal, "INCARNATION_STALE"),
    }
}

/// Refusals of the ledger; the namespace calls can meet only those about namespaces.
fn classify_refusal(refusal: &Refusal) -> Row {
    match refusal {
        Refusal::NamespaceExists => row(Code::AlreadyExists, "NAMESPACE_EXISTS"),
        Refusal::NamespaceUnknown => row(Code::NotFound, "NAMESPACE_UNKNOWN"),
        Refusal::NamespaceName => row(Code::InvalidArgument, "NAMESPACE_NAME"),
        Refusal::NamespacesFull => row(Code::ResourceExhausted, "TOO_MANY_NAMESPACES"),
        Refusal::RateLimited { retry_at, now, .. } => retry(
            Code::ResourceExhausted,
            "RATE_LIMITED",
            Duration::from_micros(retry_at.0.saturating_sub(now.0)),
        ),
        Refusal::Gate { .. } => row(Code::PermissionDenied, "INSUFFICIENT_CONTRIBUTION"),
        Refusal::KeyReused => row(Code::InvalidArgument, "IDEMPOTENCY_KEY_REUSED"),
        Refusal::LimitsOutOfRange => row(Code::InvalidArgument, "LIMITS_OUT_OF_RANGE"),
        Refusal::Members(refusal) => classify_members(refusal),
    }
}

fn classify_members(refusal: &MemberRefusal) -> Row {
    match refusal {
        MemberRefusal::TokenUnknown => row(Code::PermissionDenied, "TOKEN_UNKNOWN"),
        MemberRefusal::TokenExpired => row(Code::PermissionDenied, "TOKEN_EXPIRED"),
        MemberRefusal::TokenUsed { .. } => row(Code::PermissionDenied, "TOKEN_USED"),
        MemberRefusal::MemberExists { .. } => row(Code::AlreadyExists, "MEMBER_EXISTS"),
        MemberRefusal::MemberUnknown { .. } => row(Code::NotFound, "MEMBER_UNKNOWN"),
        MemberRefusal::LastVoter { .. } => row(Code::FailedPrecondition, "LAST_VOTER"),
        MemberRefusal::VotersFull => row(Code::ResourceExhausted, "VOTERS_FULL"),
        MemberRefusal::MembersFull => row(Code::ResourceExhausted, "MEMBERS_FULL"),
        MemberRefusal::InvitationsFull => row(Code::ResourceExhausted, "TOKENS_FULL"),
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Status {
        let message = refused.to_string();
        let Row {
            code,
            reason,
            retry,
            mut details,
            condition,
            write,
        } = classify(&refused, &message);
        let place = write.map(|index| ("write".to_owned(), index.to_string()));
        details.set_error_info(reason, DOMAIN, place.into_iter().collect::<HashMap<_, _>>());
        if retry.is_some() {
            details.set_retry_info(retry);
        }
        match code {
            Code::Internal => tracing::error!(reason, "gRPC call failed: {message}"),
            _ => tracing::debug!(reason, "gRPC call refused: {message}"),
        }
        let status = Status::with_error_details(code, message, details);
        match condition {
            Some(condition) => with_detail(&status, &condition),
            None => status,
        }
    }
}

/// `status` as the message that travels within other messages.
pub(super) fn embedded(status: &Status) -> rpc::Status {
    rpc::Status::decode(status.details()).unwrap_or_else(|_| rpc::Status {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

/// `status` and one more detail.
fn with_detail(status: &Status, detail: &ConditionFailure) -> Status {
    let mut whole = embedded(status);
    whole.details.push(prost_types::Any {
        type_url: "type.googleapis.com/continuum.v1.ConditionFailure".to_owned(),
        value: detail.encode_to_vec(),
    });
    Status::with_details(status.code(), status.message(), whole.encode_to_vec().into())
}
