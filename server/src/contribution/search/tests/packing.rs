//! What goes into a posting list comes out of it.

use proptest::prelude::*;

use super::super::postings::{Posting, Postings};

fn gap() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 1..40_u32, 4 => 1..5000_u32, 1 => 1..3_000_000_u32]
}

fn counts() -> impl Strategy<Value = (u32, u32)> {
    let total = prop_oneof![8 => 1..4_u32, 1 => 1..300_u32, 1 => Just(65_536)];
    total.prop_flat_map(|total| (0..=total, Just(total)))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn postings_are_read_as_they_were_counted(rows in prop::collection::vec((gap(), counts()), 0..200), from_zero in any::<bool>()) {
        let mut postings = Postings::default();
        let mut expected: Vec<Posting> = Vec::new();
        let mut document = 0;
        for (number, &(gap, (in_name, total))) in rows.iter().enumerate() {
            document += if number == 0 && from_zero { 0 } else { gap };
            (0..in_name).for_each(|_| postings.count(document, true));
            (in_name..total).for_each(|_| postings.count(document, false));
            expected.push(Posting { document, in_name, total });
            prop_assert_eq!(postings.iter().last(), expected.last().copied());
        }
        prop_assert_eq!(postings.iter().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn the_greatest_numbers_fit() {
    let mut postings = Postings::default();
    for document in [0, u32::MAX - 1, u32::MAX] {
        postings.count(document, true);
        postings.count(document, false);
        postings.count(document, false);
    }
    let documents: Vec<_> = postings.iter().map(|posting| posting.document).collect();
    assert_eq!(documents, [0, u32::MAX - 1, u32::MAX]);
    assert!(
        postings
            .iter()
            .all(|posting| (posting.in_name, posting.total) == (1, 3))
    );
}

#[test]
fn common_postings_take_a_byte_each() {
    let mut postings = Postings::default();
    (0..10_000).for_each(|document| postings.count(document, document % 3 == 0));
    assert_eq!(postings.weight(), 9_999, "and the newest none");
}
