//! The real input: the concepts of WordNet 3.0, and a plain scan over them to compare a search with.

use std::{io::Read as _, path::PathBuf};

use serde_json::{Value, json};

/// How many concepts the file holds.
pub const COUNT: usize = 117_659;

/// Every concept, in the file's order.
///
/// # Panics
/// When the file is missing or damaged.
#[must_use]
pub fn all() -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/wordnet-concepts.jsonl.gz");
    let packed = std::fs::File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed)
        .read_to_string(&mut text)
        .expect("the packed concepts");
    let concepts: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a concept is JSON"))
        .collect();
    assert_eq!(concepts.len(), COUNT);
    concepts
}

/// A concept as the pool shows it: what identifies is gone. WordNet has one such field, at the top.
#[must_use]
pub fn anonymised(concept: &Value) -> Value {
    let mut shown = concept.clone();
    if let Some(fields) = shown.as_object_mut() {
        fields.shift_remove("id");
    }
    shown
}

/// The texts of all values in a concept, folded to lower case, in their order.
#[must_use]
pub fn texts(concept: &Value) -> Vec<String> {
    match concept {
        Value::String(text) => vec![text.to_lowercase()],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(fields) => fields.values().flat_map(texts).collect(),
        Value::Null => Vec::new(),
        other => vec![other.to_string()],
    }
}

/// Whether a plain look at every value finds `query` (its case does not matter; empty finds all).
#[must_use]
pub fn matches(concept: &Value, query: &str) -> bool {
    let query = query.to_lowercase();
    query.is_empty() || texts(concept).iter().any(|text| text.contains(&query))
}

/// A made-up concept that no other call makes: `mark` names the caller, `number` the concept.
#[must_use]
pub fn made(mark: &str, number: u64) -> Value {
    json!({"name": format!("{mark} {number}"), "description": format!("made by {mark}")})
}
