//! `merge_union`: several JSON values become one that holds what each of them says.
//!
//! ```text
//!  objects   field by field, recursively        {"a":1} ∪ {"b":2}     = {"a":1,"b":2}
//!  arrays    as sets, by canonical bytes        [2,1] ∪ [3,2]         = [1,2,3]
//!  else      the newest, and all of its shape   {"a":1} ∪ "x" (newer) = "x"
//! ```
//!
//! Values come newest first. Where shapes differ the newest decides the shape, and the others *of that shape* still
//! merge with it. Where two texts mean the same (`1.0` and `1`) the newest text stays.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::json;

/// The union of `texts`, newest first and not empty. A text that is not JSON counts as a scalar; one text, or several
/// alike, come back exactly as they were sent.
pub(super) fn of(texts: &[&str]) -> String {
    let newest = texts[0];
    if texts.iter().all(|text| *text == newest) {
        return newest.to_owned();
    }
    let Ok(first) = serde_json::from_str::<Value>(newest) else {
        return newest.to_owned();
    };
    let mut values = vec![first];
    values.extend(
        texts[1..]
            .iter()
            .filter_map(|text| serde_json::from_str::<Value>(text).ok()),
    );
    merge(values).to_string()
}

/// `values` newest first and not empty.
fn merge(values: Vec<Value>) -> Value {
    match &values[0] {
        Value::Object(_) => merge_objects(values),
        Value::Array(_) => merge_arrays(values),
        scalar => scalar.clone(),
    }
}

fn merge_objects(values: Vec<Value>) -> Value {
    let mut fields: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for value in values {
        if let Value::Object(object) = value {
            for (name, value) in object {
                fields.entry(name).or_default().push(value);
            }
        }
    }
    Value::Object(
        fields
            .into_iter()
            .map(|(name, values)| (name, merge(values)))
            .collect::<Map<_, _>>(),
    )
}

fn merge_arrays(values: Vec<Value>) -> Value {
    let mut elements: BTreeMap<String, Value> = BTreeMap::new();
    for value in values {
        if let Value::Array(array) = value {
            for element in array {
                elements.entry(json::canonical(&element)).or_insert(element);
            }
        }
    }
    Value::Array(elements.into_values().collect())
}
