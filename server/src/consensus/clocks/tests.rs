use super::*;

const NOW_US: u64 = 1_800_000_000_000_000;
const HOUR_US: i64 = 3_600_000_000;

fn hand(off_us: i64) -> Hand {
    hand_within(off_us, Duration::ZERO)
}

fn hand_within(off_us: i64, error: Duration) -> Hand {
    Hand {
        at: Timestamp(NOW_US.saturating_add_signed(off_us)),
        error,
    }
}

fn off(own: i64, others: &[i64]) -> Option<i64> {
    let others: Vec<Hand> = others.iter().copied().map(hand).collect();
    compare(hand(own), true, &others).map(|against| against.off_us)
}

#[test]
fn one_clock_of_three_is_off_the_median_and_the_others_are_not() {
    for wrong in [HOUR_US, -HOUR_US] {
        assert_eq!(off(wrong, &[0, 1_000]).map(|off| off.signum()), Some(wrong.signum()));
        assert!(off(wrong, &[0, 1_000]).unwrap().abs() > HOUR_US - 2_000);
        assert!(off(0, &[wrong, 1_000]).unwrap().abs() <= 1_000);
        assert!(off(1_000, &[0, wrong]).unwrap().abs() <= 1_000);
    }
    // Two of five may be mad, even together.
    assert!(off(0, &[HOUR_US, HOUR_US, 10, -10]).unwrap().abs() <= 10);
    assert!(off(HOUR_US, &[HOUR_US, 0, 10, -10]).unwrap() > HOUR_US - 100);
}

#[test]
fn of_two_clocks_that_differ_both_are_told_and_none_hands_over() {
    assert_eq!(off(HOUR_US, &[0]), Some(HOUR_US));
    assert_eq!(off(0, &[HOUR_US]), Some(-HOUR_US));
    assert_eq!(off(0, &[]), None);
    let two = compare(hand(HOUR_US), true, &[hand(0)]).unwrap();
    assert!(
        two.known < KNOWN_MIN && told(two).contains("nobody can say which"),
        "{two:?}"
    );
    let three = compare(hand(-HOUR_US), true, &[hand(0), hand(0)]).unwrap();
    assert!(
        three.known >= KNOWN_MIN && told(three).contains("3600.0 s behind those"),
        "{}",
        told(three)
    );
    // A learner's own clock says nothing about cluster time, and one voter's is enough to compare with.
    let learner = compare(hand(HOUR_US), false, &[hand(0), hand(5)]).unwrap();
    assert_eq!((learner.off_us, learner.known), (HOUR_US, 2));
}

#[test]
fn of_an_even_number_the_earlier_one_counts() {
    assert_eq!(median(&[]), None);
    assert_eq!(median(&[hand(HOUR_US), hand(0)]), Some(hand(0)));
    assert_eq!(median(&[hand(HOUR_US), hand(0), hand(-HOUR_US)]), Some(hand(0)));
    assert_eq!(median(&[hand(3), hand(1), hand(2), hand(0)]), Some(hand(1)));
}

#[test]
fn what_a_slow_answer_leaves_in_doubt_makes_no_clock_wrong() {
    let slow = hand_within(700_000, Duration::from_millis(400));
    assert_eq!(apart(hand(0), slow), -300_000);
    assert_eq!(apart(slow, hand(0)), 300_000);
    assert_eq!(apart(hand(0), hand_within(300_000, Duration::from_millis(400))), 0);
}

#[test]
fn a_clock_becomes_wrong_and_right_again_by_several_looks() {
    let (wrong, right, between) = (Some(600_000), Some(-100_000), Some(400_000));
    let mut judge = Judge::default();
    let mut looks = |looks: &[Option<i64>]| {
        looks.iter().for_each(|off| judge.look(*off));
        judge.wrong
    };
    assert!(!looks(&[wrong, wrong, right, wrong, wrong]), "not in a row");
    assert!(looks(&[wrong]));
    assert!(
        looks(&[right, right, between, right, right, Some(-600_000)]),
        "not in a row"
    );
    assert!(looks(&[between; 9]), "what is between changes nothing");
    assert!(!looks(&[right; 3]));
    assert!(!looks(&[between; 9]), "what is between changes nothing");
    assert!(looks(&[wrong; 3]));
    assert!(!looks(&[None]), "nobody can say");
    assert!(!looks(&[wrong, wrong]));
}

#[test]
fn no_time_far_from_cluster_time_goes_into_the_log() {
    let reference = hand(0).at;
    for (off_us, expected) in [(0, 0), (499_999, 499_999), (HOUR_US, 500_000), (-HOUR_US, -500_000)] {
        assert_eq!(near(hand(off_us).at, reference), hand(expected).at);
    }
    assert_eq!(near(Timestamp(0), Timestamp(3)), Timestamp(0));
    assert_eq!(near(Timestamp(u64::MAX), Timestamp(u64::MAX - 3)), Timestamp(u64::MAX));
}
