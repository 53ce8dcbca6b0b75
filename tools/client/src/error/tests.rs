use tonic_types::{ErrorDetails, FieldViolation};

use super::*;

fn status(code: Code, reason: &str, retry: Option<Duration>) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "continuum.v1", std::collections::HashMap::new());
    if retry.is_some() {
        details.set_retry_info(retry);
    }
    Status::with_error_details(code, "so it is", details)
}

/// The table at the head of the file, row by row.
#[test]
fn codes_have_their_kinds() {
    let second = Some(Duration::from_secs(1));
    let rows = [
        (Code::Unavailable, "BUSY", second, Kind::Busy, Changed::No),
        (Code::ResourceExhausted, "SCANS_FULL", second, Kind::Busy, Changed::No),
        (Code::Aborted, "STREAM_STALLED", None, Kind::Busy, Changed::No),
        (Code::Unavailable, "STOPPING", None, Kind::Broken, Changed::Perhaps),
        (Code::Unknown, "", None, Kind::Broken, Changed::Perhaps),
        (Code::Cancelled, "", None, Kind::Broken, Changed::Perhaps),
        (
            Code::ResourceExhausted,
            "TOO_MANY_NAMESPACES",
            None,
            Kind::Refused,
            Changed::No,
        ),
        (
            Code::DeadlineExceeded,
            "DEADLINE_EXCEEDED",
            None,
            Kind::OutOfTime,
            Changed::Perhaps,
        ),
        (Code::InvalidArgument, "KEY_LENGTH", None, Kind::Invalid, Changed::No),
        (Code::OutOfRange, "COUNTER_OVERFLOW", None, Kind::Invalid, Changed::No),
        (Code::NotFound, "CONCEPT_ABSENT", None, Kind::NotFound, Changed::No),
        (
            Code::AlreadyExists,
            "NAMESPACE_EXISTS",
            None,
            Kind::AlreadyExists,
            Changed::No,
        ),
        (
            Code::FailedPrecondition,
            "KIND_MISMATCH",
            None,
            Kind::Refused,
            Changed::No,
        ),
        (
            Code::PermissionDenied,
            "RESERVED_NAMESPACE",
            None,
            Kind::NotAllowed,
            Changed::No,
        ),
        (
            Code::Unimplemented,
            "CONSENSUS_UNBUILT",
            None,
            Kind::Unsupported,
            Changed::No,
        ),
        (Code::Internal, "STORE_FAILED", None, Kind::Internal, Changed::Perhaps),
        (Code::DataLoss, "", None, Kind::Internal, Changed::Perhaps),
    ];
    for (code, reason, retry, kind, changed) in rows {
        let error = Error::from(status(code, reason, retry));
        assert_eq!(*error.kind(), kind, "{code:?} {reason}");
        assert_eq!(error.changed(), Some(changed), "{code:?} {reason}");
        assert_eq!(
            (error.code(), error.reason(), error.retry_after()),
            (code, reason, retry)
        );
        assert!(!error.what_to_do().is_empty());
        assert_eq!(error.reading().changed(), None, "who reads changes nothing");
    }
}

#[test]
fn violations_name_their_fields() {
    let violation = FieldViolation::new("writes[3].key", "must be 1 to 1024 bytes, was 0");
    let details = ErrorDetails::with_bad_request(vec![violation]);
    let error = Error::from(Status::with_error_details(Code::InvalidArgument, "no", details));
    let expected = Violation {
        field: "writes[3].key".to_owned(),
        rule: "must be 1 to 1024 bytes, was 0".to_owned(),
    };
    assert_eq!(error.violations(), [expected]);
}

#[test]
fn a_fault_of_a_chunk_has_changed_nothing() {
    let whole = rpc::Status::decode(status(Code::Internal, "STORE_FAILED", None).details()).unwrap();
    let error = Error::from(&whole);
    assert_eq!(error.changed(), Some(Changed::No));
    assert_eq!(error.to_string(), "so it is [STORE_FAILED]");
}
