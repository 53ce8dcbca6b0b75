//! The TOML file: keys of the table, each with its place, so that an error can point at its line.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::{
    Error,
    table::{self, ROWS},
};

/// One setting found in a file.
pub(super) struct Found {
    /// Its row in the table.
    pub(super) row: usize,
    /// Its value as text.
    pub(super) text: String,
    /// The line it stands on, from 1.
    pub(super) line: usize,
}

/// Reads a file's settings; every problem is told, not only the first.
pub(super) fn read(path: &Path, content: &str) -> Result<Vec<Found>, Error> {
    let document = DeTable::parse(content).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(content, span.start));
        Error::one(format!("{}:{line}: not TOML: {}", path.display(), error.message()))
    })?;
    let mut found = Vec::new();
    let mut problems = Vec::new();
    for (name, value) in document.get_ref() {
        let line = line_of(content, name.span().start);
        match value.get_ref() {
            DeValue::Table(section) => {
                for (field, value) in section {
                    let line = line_of(content, field.span().start);
                    let key = format!("{}.{}", name.get_ref(), field.get_ref());
                    record(&key, value.get_ref(), line, &mut found, &mut problems);
                }
            }
            scalar => record(name.get_ref(), scalar, line, &mut found, &mut problems),
        }
    }
    if problems.is_empty() {
        Ok(found)
    } else {
        problems.sort_unstable();
        Err(Error {
            problems: problems
                .into_iter()
                .map(|(line, text)| format!("{}:{line}: {text}", path.display()))
                .collect(),
        })
    }
}

fn record(key: &str, value: &DeValue<'_>, line: usize, found: &mut Vec<Found>, problems: &mut Vec<(usize, String)>) {
    let Some(row) = ROWS.iter().position(|row| row.key == key) else {
        return problems.push((line, table::unknown("key", key, ROWS.iter().map(|row| row.key))));
    };
    match text_of(value) {
        Some(text) => found.push(Found { row, text, line }),
        None => problems.push((line, format!("`{key}` cannot be a {}", value.type_str()))),
    }
}

/// A scalar, or a list of scalars joined by commas, as the same text a flag would carry.
fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Array(parts) => {
            let parts: Option<Vec<String>> = parts
                .iter()
                .map(|part| {
                    if part.get_ref().is_array() {
                        None
                    } else {
                        text_of(part.get_ref())
                    }
                })
                .collect();
            parts.map(|parts| parts.join(","))
        }
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

fn line_of(content: &str, offset: usize) -> usize {
    content
        .as_bytes()
        .iter()
        .take(offset)
        .filter(|byte| **byte == b'\n')
        .count()
        + 1
}
