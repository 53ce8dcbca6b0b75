use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::*;

const LEFT: Duration = Duration::from_secs(60);

fn busy(after: Duration) -> Error {
    let details = ErrorDetails::with_retry_info(Some(after));
    Status::with_error_details(Code::Unavailable, "busy", details).into()
}

fn broken() -> Error {
    Status::unavailable("stopping").into()
}

fn tries(repeat: Repeat, endpoints: usize, patient: bool) -> Tries {
    let settings = Settings {
        attempts_max: 10,
        unreachable_rounds_max: 2,
        ..Settings::of(vec!["db:7000"; endpoints])
    };
    let bounds = Bounds {
        place: None,
        time: LEFT,
        tell: true,
        patient,
    };
    Tries::new(&settings, repeat, &bounds)
}

fn again(wait_ms: u64, elsewhere: bool) -> Next {
    Next::Again {
        wait: Duration::from_millis(wait_ms),
        elsewhere,
    }
}

#[test]
fn waits_double_up_to_a_bound() {
    let mut tries = tries(Repeat::Reads, 1, false);
    let waits = [50, 100, 200, 400, 800, 1_600, 2_000, 2_000, 2_000];
    for wait in waits {
        assert_eq!(tries.next(&broken(), LEFT, 0.0), again(wait, true));
    }
    assert_eq!(tries.next(&broken(), LEFT, 0.0), Next::Stop, "ten tries are enough");
}

#[test]
fn chance_shortens_a_wait_by_up_to_a_half() {
    assert_eq!(
        tries(Repeat::Reads, 1, false).next(&broken(), LEFT, 1.0),
        again(25, true)
    );
    assert_eq!(
        tries(Repeat::Reads, 1, false).next(&broken(), LEFT, 0.5),
        again(37, true).rounded()
    );
}

impl Next {
    /// 37.5 ms.
    fn rounded(self) -> Next {
        match self {
            Next::Again { wait, elsewhere } => Next::Again {
                wait: wait + Duration::from_micros(500),
                elsewhere,
            },
            Next::Stop => Next::Stop,
        }
    }
}

#[test]
fn what_the_node_says_is_the_least_wait() {
    let error = busy(Duration::from_secs(3));
    assert_eq!(
        tries(Repeat::Never, 2, false).next(&error, LEFT, 0.0),
        again(3_000, false)
    );
    let error = busy(Duration::from_millis(1));
    assert_eq!(tries(Repeat::Never, 2, false).next(&error, LEFT, 0.0), again(50, false));
}

#[test]
fn a_wait_past_the_deadline_is_not_begun() {
    let error = busy(Duration::from_secs(3));
    let left = Duration::from_secs(3);
    assert_eq!(tries(Repeat::Reads, 1, false).next(&error, left, 0.0), Next::Stop);
}

#[test]
fn an_unknown_outcome_stays_at_its_node() {
    assert_eq!(
        tries(Repeat::Reads, 3, false).next(&broken(), LEFT, 0.0),
        again(50, true)
    );
    assert_eq!(tries(Repeat::Never, 3, false).next(&broken(), LEFT, 0.0), Next::Stop);
    let mut safe = tries(Repeat::Safe, 3, false);
    assert_eq!(safe.next(&broken(), LEFT, 0.0), again(50, false));
    // Also once it cannot be reached at all.
    assert_eq!(safe.unreachable(0.0), again(100, false));
    assert_eq!(
        safe.unreachable(0.0),
        Next::Stop,
        "twice round the only node that may be asked"
    );
}

#[test]
fn unreachable_nodes_are_passed_over_at_once() {
    let mut tries = tries(Repeat::Never, 3, false);
    let nexts: Vec<Next> = (0..6).map(|_| tries.unreachable(0.0)).collect();
    assert_eq!(
        nexts,
        [
            again(0, true),
            again(0, true),
            again(50, true),
            again(0, true),
            again(0, true),
            Next::Stop
        ]
    );
}

#[test]
fn who_resumes_is_patient() {
    let mut tries = tries(Repeat::Reads, 1, true);
    for _ in 0..1_000 {
        assert!(matches!(tries.next(&broken(), LEFT, 0.5), Next::Again { .. }));
    }
}
