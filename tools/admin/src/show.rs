//! How numbers, times and concepts are shown: to people, and to programs.

use std::time::SystemTime;

use client::{Concept, Value as Held, Version};
use jiff::{Timestamp, Unit};
use serde_json::{Map, Value, json};

/// `1.4 GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `1,234,567`.
pub(crate) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 segment`, `2 segments`.
pub(crate) fn count(many: u64, what: &str) -> String {
    let plural = if many == 1 { "" } else { "s" };
    format!("{} {what}{plural}", number(many))
}

/// `2026-11-23T18:07:04Z`, to the millisecond where there is one.
pub(crate) fn time(at: SystemTime) -> String {
    Timestamp::try_from(at)
        .and_then(|at| at.round(Unit::Millisecond))
        .map_or_else(|_| "unknown".to_owned(), |at| at.to_string())
}

/// How long ago.
pub(crate) fn ago(at: SystemTime) -> String {
    let Ok(passed) = SystemTime::now().duration_since(at) else {
        return "just now".to_owned();
    };
    let seconds = passed.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) if seconds == 0 => "just now".to_owned(),
        (0, 0, 0) => format!("{seconds} s ago"),
        (0, 0, minutes) => format!("{minutes} min ago"),
        (0, hours, minutes) => format!("{hours} h {minutes} min ago"),
        (days, hours, _) => format!("{days} d {hours} h ago"),
    }
}

/// JSON text as a value; what is no JSON, which no node sends, as a string.
pub(crate) fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// A concept for programs.
pub(crate) fn concept(namespace: &str, concept: &Concept) -> Value {
    let mut json = Map::new();
    json.insert("namespace".to_owned(), namespace.into());
    json.insert("key".to_owned(), concept.key.clone().into());
    json.insert("type".to_owned(), kind(concept).into());
    match &concept.value {
        Held::Register(one) => json.extend(version(one)),
        Held::Siblings(all) => {
            let all: Vec<Value> = all.iter().map(|one| Value::Object(version(one))).collect();
            json.insert("siblings".to_owned(), all.into());
        }
        Held::Set(elements) => {
            let elements: Vec<Value> = elements.iter().map(|element| json_of(element)).collect();
            json.insert("elements".to_owned(), elements.into());
        }
        Held::Counter(total) => {
            json.insert("total".to_owned(), (*total).into());
        }
    }
    if !concept.context.is_empty() {
        json.insert("context".to_owned(), concept.context.to_string().into());
        json.insert("clock".to_owned(), json!(concept.clock));
    }
    if let Some(place) = concept.place {
        json.insert("revision".to_owned(), place.revision.into());
        json.insert("created_revision".to_owned(), place.created_revision.into());
        json.insert("version".to_owned(), place.version.into());
    }
    Value::Object(json)
}

fn version(version: &Version) -> Map<String, Value> {
    let mut json = Map::new();
    json.insert("value".to_owned(), json_of(&version.json));
    json.insert("written_at".to_owned(), version.written_at.map(time).into());
    json.insert("written_by".to_owned(), version.written_by.clone().into());
    if let Some(expires) = version.expires_at {
        json.insert("expires_at".to_owned(), time(expires).into());
    }
    json
}

/// The word for a concept's type.
pub(crate) fn kind(concept: &Concept) -> &'static str {
    match concept.value {
        Held::Register(_) => "register",
        Held::Siblings(_) => "siblings",
        Held::Set(_) => "set",
        Held::Counter(_) => "counter",
    }
}

/// What a concept holds, on one line.
pub(crate) fn value_line(concept: &Concept) -> String {
    match &concept.value {
        Held::Register(one) => one.json.clone(),
        Held::Siblings(all) => {
            let all: Vec<&str> = all.iter().map(|one| one.json.as_str()).collect();
            all.join(" | ")
        }
        Held::Set(elements) => format!("{{{}}}", elements.join(", ")),
        Held::Counter(total) => total.to_string(),
    }
}

/// As much of a text as fits into so many columns.
pub(crate) fn fit(text: &str, columns: Option<usize>) -> String {
    // A line break within JSON would break the table.
    let text = text.replace(['\n', '\r', '\t'], " ");
    match columns {
        Some(columns) if text.chars().count() > columns => {
            let mut short: String = text.chars().take(columns.saturating_sub(1)).collect();
            short.push('…');
            short
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_sizes_have_units() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1_234_567), "1,234,567");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
    }

    #[test]
    fn what_is_too_wide_is_cut() {
        assert_eq!(fit("añb\nc", Some(5)), "añb c");
        assert_eq!(fit("abcdef", Some(5)), "abcd…");
        assert_eq!(fit("abcdef", None), "abcdef");
    }
}
