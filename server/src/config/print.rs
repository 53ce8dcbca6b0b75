//! The effective settings as text or JSON. The text is a configuration file: what is printed can be loaded again.

use std::fmt::Write as _;

use super::{Effective, Row};

impl Effective {
    /// A TOML file of every effective value; with `origins`, each followed by where it came from.
    #[must_use]
    pub fn to_toml(&self, origins: bool) -> String {
        let mut lines = Vec::new();
        for (row, value, origin) in self.rows() {
            let name = row.key.rsplit('.').next().unwrap_or(row.key);
            let line = if value.is_empty() && !is_list(row) {
                format!("# {name} =")
            } else {
                format!("{name} = {}", literal(row, &value))
            };
            lines.push((row.section(), line, origin.to_string()));
        }
        let width = lines
            .iter()
            .map(|(_, line, _)| line.len())
            .max()
            .unwrap_or(0)
            .min(ORIGIN_COLUMN_MAX);
        let mut text = String::new();
        let mut current = "";
        // Bare keys must come before the first section, or they would belong to it.
        let (bare, sectioned): (Vec<_>, Vec<_>) = lines.into_iter().partition(|(section, _, _)| section.is_empty());
        for (section, line, origin) in bare.into_iter().chain(sectioned) {
            if section != current {
                let _infallible = write!(text, "\n[{section}]\n");
                current = section;
            }
            let _infallible = if origins {
                writeln!(text, "{line:width$}  # {origin}")
            } else {
                writeln!(text, "{line}")
            };
        }
        text
    }

    /// `{"key": {"value": …, "origin": …, "in_effect": …}}`; without `origins`, `{"key": value}`.
    #[must_use]
    pub fn to_json(&self, origins: bool) -> serde_json::Value {
        let entry = |row: &Row, value: String, origin: String| {
            let value = json(row, value);
            if origins {
                serde_json::json!({ "value": value, "origin": origin, "in_effect": row.awaits.is_none() })
            } else {
                value
            }
        };
        let entries = self
            .rows()
            .map(|(row, value, origin)| (row.key.to_owned(), entry(row, value, origin.to_string())));
        serde_json::Value::Object(entries.collect())
    }
}

/// Origins of longer lines follow them directly.
const ORIGIN_COLUMN_MAX: usize = 56;

fn is_list(row: &Row) -> bool {
    matches!(row.placeholder, "A,B" | "LOW,HIGH")
}

fn is_bare(row: &Row) -> bool {
    matches!(row.placeholder, "NUMBER" | "BOOL" | "LOW,HIGH")
}

/// The value as TOML writes it.
fn literal(row: &Row, value: &str) -> String {
    let quoted = |text: &str| {
        if is_bare(row) {
            text.to_owned()
        } else {
            toml::Value::from(text).to_string()
        }
    };
    if is_list(row) {
        let parts: Vec<String> = value.split(',').filter(|part| !part.is_empty()).map(quoted).collect();
        format!("[{}]", parts.join(", "))
    } else {
        quoted(value)
    }
}

fn json(row: &Row, value: String) -> serde_json::Value {
    let scalar = |text: String| match text.as_str() {
        "true" if is_bare(row) => serde_json::Value::from(true),
        "false" if is_bare(row) => serde_json::Value::from(false),
        number if is_bare(row) => number
            .parse::<u64>()
            .map_or_else(|_| serde_json::Value::from(number), Into::into),
        _ => serde_json::Value::from(text),
    };
    if is_list(row) {
        value
            .split(',')
            .filter(|part| !part.is_empty())
            .map(|part| scalar(part.to_owned()))
            .collect()
    } else if value.is_empty() {
        serde_json::Value::Null
    } else {
        scalar(value)
    }
}
