//! The index against a scan that knows nothing of it.

mod brute;
mod follow;
mod keys;
mod order;
mod packing;
mod scan;
mod text;

use engine::{
    clock::Timestamp,
    json::{self, ContentHash},
};
use serde_json::Value;

use super::{Document, Hit, Index, Query, Text};

const DAY: u64 = 86_400_000_000;

/// The specification, word for word: every value of every concept is looked at.
#[derive(Default)]
struct Scan {
    concepts: Vec<Scanned>,
}

struct Scanned {
    hit: Hit,
    first_contributed: Timestamp,
    /// Folded values, and whether they belong to `name`.
    values: Vec<(String, bool)>,
}

impl Scan {
    fn insert(&mut self, counter: u64, concept: &Value, first_contributed: Timestamp, usage: u64) {
        let values = json::texts(concept)
            .map(|value| (json::fold(value.text).into_owned(), value.in_name))
            .collect();
        let hit = Hit {
            counter,
            hash: ContentHash::of(concept),
            quality: 0.0,
            usage,
            json: json::to_text(concept).into(),
        };
        self.concepts.push(Scanned {
            hit,
            first_contributed,
            values,
        });
    }

    fn deliver(&mut self, counter: u64, deliveries: u64) {
        self.concepts
            .iter_mut()
            .filter(|concept| concept.hit.counter == counter)
            .for_each(|concept| {
                concept.hit.usage += deliveries;
            });
    }

    fn query(&self, query: &Query<'_>, now: Timestamp) -> Vec<Hit> {
        let needle = json::fold(query.text);
        let mut found = Vec::new();
        for Scanned {
            hit,
            first_contributed,
            values,
        } in &self.concepts
        {
            let days = now.0.saturating_sub(first_contributed.0) as f64 / DAY as f64;
            let quality = hit.usage as f64 / days.max(1.0);
            let (mut in_name, mut total) = (0, 0);
            for (value, of_name) in values {
                let matches = positions(value, &needle);
                total += matches;
                in_name += if *of_name { matches } else { 0 };
            }
            if hit.counter <= query.counter_max && quality >= query.quality_min && (total > 0 || needle.is_empty()) {
                found.push((Hit { quality, ..hit.clone() }, in_name, total));
            }
        }
        found.sort_by(|(one, one_in_name, one_total), (other, other_in_name, other_total)| {
            let by_quality = other.quality.partial_cmp(&one.quality).expect("numbers");
            let by_matches = other_in_name.cmp(one_in_name).then(other_total.cmp(one_total));
            by_quality.then(by_matches).then(one.counter.cmp(&other.counter))
        });
        found.into_iter().map(|(hit, ..)| hit).take(query.limit).collect()
    }
}

/// Positions at which `needle` stands in `text`; none for an empty needle.
fn positions(text: &str, needle: &str) -> usize {
    text.char_indices()
        .filter(|&(at, _)| !needle.is_empty() && text[at..].starts_with(needle))
        .count()
}

fn document(counter: u64, concept: &Value, first_contributed: Timestamp, usage: u64) -> Document {
    Document {
        counter,
        hash: ContentHash::of(concept),
        first_contributed,
        usage,
        text: Text::of(concept),
        json: json::to_text(concept).into(),
    }
}

/// An index of concepts contributed at once, never delivered.
fn index_of(concepts: &[Value]) -> Index {
    let mut index = Index::new();
    for (counter, concept) in (1..).zip(concepts) {
        assert!(index.insert(&document(counter, concept, Timestamp(0), 0)));
    }
    index
}

/// Counters of the concepts found, best first.
fn found(index: &Index, text: &str) -> Vec<u64> {
    let query = Query {
        text,
        limit: 1000,
        quality_min: 0.0,
        counter_max: u64::MAX,
    };
    index
        .query(&query, Timestamp(0))
        .iter()
        .map(|hit| hit.counter)
        .collect()
}
