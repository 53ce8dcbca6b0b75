//! Random concepts, deliveries, time and queries: the index answers as the scan does.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Few letters of each script, so that texts meet; both cases, letters without a partner, letters whose folding changes
/// their length in UTF-8, and one- to four-byte letters.
const SCRIPTS: [&[char]; 7] = [
    &['a', 'b', 'c', 'A', 'B', ' '],
    &['ß', 'ẞ', 'İ', 'ı', 'i', 'K', 'k', 'é', 'É'],
    &['а', 'б', 'в', 'А', 'Б', 'ё', 'Ё', ' '],
    &['σ', 'ς', 'Σ', 'α', 'Α', 'ά', 'Ά'],
    &['中', '文', '字', '漢', '、'],
    &['क', 'ख', '्', 'ा', 'म'],
    &['ع', 'ر', 'ب', 'ي', '😀', '𐐀', '𐐨'],
];

fn letter() -> impl Strategy<Value = char> {
    (0..SCRIPTS.len()).prop_flat_map(|script| prop::sample::select(SCRIPTS[script]))
}

/// Mostly one script, sometimes all of them mixed.
fn string(letters: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    let one = (0..SCRIPTS.len(), letters.clone())
        .prop_flat_map(|(script, count)| prop::collection::vec(prop::sample::select(SCRIPTS[script]), count));
    let mixed = prop::collection::vec(letter(), letters);
    prop_oneof![5 => one, 1 => mixed].prop_map(|letters| letters.into_iter().collect())
}

fn concept() -> impl Strategy<Value = Value> {
    let scalar = || prop_oneof![4 => string(0..9).prop_map(Value::from), 1 => any::<bool>().prop_map(Value::from), 1 => (0..120_u32).prop_map(Value::from), 1 => Just(Value::Null)];
    let name = prop_oneof![
        3 => scalar(),
        1 => prop::collection::vec(scalar(), 0..3).prop_map(Value::from),
        1 => scalar().prop_map(|inner| json!({"name": inner, "b": "a"})),
    ];
    (
        prop::option::weighted(0.7, name),
        prop::collection::vec(scalar(), 0..4),
        scalar(),
    )
        .prop_map(|(name, list, more)| {
            let mut concept = json!({"list": list, "abc": {"name": more}});
            if let Some(name) = name {
                concept["name"] = name;
            }
            concept
        })
}

#[derive(Clone, Debug)]
enum Step {
    Insert {
        concept: Value,
        usage: u64,
    },
    /// The results of a query are delivered, as the service does it.
    DeliverFound {
        text: String,
        limit: usize,
    },
    Deliver {
        which: prop::sample::Index,
        deliveries: u64,
    },
    Wait {
        micros: u64,
    },
    /// The clock was set back.
    Back {
        micros: u64,
    },
    Query {
        text: String,
        limit: usize,
        quality_min: f64,
    },
    /// A piece of a concept's own text.
    QueryPiece {
        which: prop::sample::Index,
        at: prop::sample::Index,
        letters: usize,
        limit: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let limit = || prop_oneof![1..6_usize, Just(1000)];
    let quality_min = prop_oneof![4 => Just(0.0), 1 => Just(1.0), 1 => 0.0..3.0];
    prop_oneof![
        8 => (concept(), prop_oneof![3 => Just(0), 1 => 0..4_u64]).prop_map(|(concept, usage)| Step::Insert { concept, usage }),
        2 => (string(0..3), limit()).prop_map(|(text, limit)| Step::DeliverFound { text, limit }),
        2 => (any::<prop::sample::Index>(), 1..4_u64).prop_map(|(which, deliveries)| Step::Deliver { which, deliveries }),
        2 => prop_oneof![0..DAY / 10, 0..3 * DAY].prop_map(|micros| Step::Wait { micros }),
        1 => (0..DAY).prop_map(|micros| Step::Back { micros }),
        4 => (string(0..7), limit(), quality_min).prop_map(|(text, limit, quality_min)| Step::Query { text, limit, quality_min }),
        8 => (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1..7_usize, limit())
            .prop_map(|(which, at, letters, limit)| Step::QueryPiece { which, at, letters, limit }),
    ]
}

/// The index, the scan, and the clock they share.
#[derive(Default)]
struct Pair {
    index: Index,
    scan: Scan,
    now: u64,
}

impl Pair {
    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let count = self.scan.concepts.len();
        match step {
            Step::Insert { concept, usage } => {
                // Counters may leave gaps.
                let counter = self.index.last_counter() + 1 + (count as u64 % 5) / 4;
                self.scan.insert(counter, concept, Timestamp(self.now), *usage);
                prop_assert!(
                    self.index
                        .insert(&super::document(counter, concept, Timestamp(self.now), *usage))
                );
                prop_assert!(
                    !self
                        .index
                        .insert(&super::document(counter, concept, Timestamp(self.now), *usage))
                );
            }
            Step::DeliverFound { text, limit } => {
                for hit in self.check(text, *limit, 0.0)? {
                    self.scan.deliver(hit.counter, 1);
                    prop_assert!(self.index.deliver(hit.counter, 1));
                }
            }
            Step::Deliver { which, deliveries } if count > 0 => {
                let counter = which.get(&self.scan.concepts).hit.counter;
                self.scan.deliver(counter, *deliveries);
                prop_assert!(self.index.deliver(counter, *deliveries));
            }
            Step::Wait { micros } => self.now += micros,
            Step::Back { micros } => self.now = self.now.saturating_sub(*micros),
            Step::Query {
                text,
                limit,
                quality_min,
            } => {
                self.check(text, *limit, *quality_min)?;
            }
            Step::QueryPiece {
                which,
                at,
                letters,
                limit,
            } if count > 0 => {
                let values: Vec<_> = which
                    .get(&self.scan.concepts)
                    .values
                    .iter()
                    .flat_map(|(value, _)| value.chars())
                    .collect();
                if !values.is_empty() {
                    let piece: String = values[at.index(values.len())..].iter().take(*letters).collect();
                    self.check(&piece, *limit, 0.0)?;
                }
            }
            Step::Deliver { .. } | Step::QueryPiece { .. } => {}
        }
        Ok(())
    }

    fn check(&self, text: &str, limit: usize, quality_min: f64) -> Result<Vec<Hit>, TestCaseError> {
        let mut hits = Vec::new();
        // The pool as it was, then the pool as it is.
        for counter_max in [self.index.last_counter() / 2, u64::MAX] {
            let query = Query {
                text,
                limit,
                quality_min,
                counter_max,
            };
            hits = self.index.query(&query, Timestamp(self.now));
            prop_assert_eq!(
                &hits,
                &self.scan.query(&query, Timestamp(self.now)),
                "query {:?}",
                query
            );
        }
        Ok(hits)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_answers_as_a_scan_does(steps in prop::collection::vec(step(), 1..120)) {
        let mut pair = Pair::default();
        for step in &steps {
            pair.take(step)?;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    /// Enough concepts that gaps take more than one byte, lists grow, and most candidates are skipped unlooked.
    #[test]
    fn so_does_an_index_of_thousands(
        concepts in prop::collection::vec((concept(), 0..40_u64), 3000),
        repeated in 1..4_usize,
        steps in prop::collection::vec(step(), 200),
    ) {
        let mut pair = Pair::default();
        for _ in 0..repeated {
            for (concept, usage) in &concepts {
                let usage = usage.saturating_sub(36);
                pair.take(&Step::Insert { concept: concept.clone(), usage })?;
                pair.now += 1000;
            }
        }
        for step in &steps {
            pair.take(step)?;
        }
    }
}
