//! Which fields identify somebody, and their removal.

use serde_json::Value;

/// Names dropped at every depth.
const NAMES: [&str; 4] = ["tenant_id", "user_id", "session_id", "id"];
/// Prefixes of names dropped at every depth.
const PREFIXES: [&str; 2] = ["user_", "tenant_"];
/// Suffixes of names dropped at every depth.
const SUFFIXES: [&str; 2] = ["_at", "_time"];

/// The rules, compared case-sensitively. They can be added to and never cut: every instance holds the built-in ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anonymiser {
    names: Vec<String>,
    prefixes: Vec<String>,
    suffixes: Vec<String>,
}

/// An added rule that would drop every field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an anonymisation rule must not be empty: it would drop every field")]
pub struct RuleError;

impl Default for Anonymiser {
    fn default() -> Anonymiser {
        let owned = |rules: &[&str]| rules.iter().map(|&rule| rule.to_owned()).collect();
        Anonymiser {
            names: owned(&NAMES),
            prefixes: owned(&PREFIXES),
            suffixes: owned(&SUFFIXES),
        }
    }
}

impl Anonymiser {
    /// Also drops fields called exactly `name`.
    #[must_use]
    pub fn with_name(mut self, name: &str) -> Anonymiser {
        self.names.push(name.to_owned());
        self
    }

    /// Also drops fields whose name begins with `prefix`.
    ///
    /// # Errors
    /// When `prefix` is empty.
    pub fn with_prefix(mut self, prefix: &str) -> Result<Anonymiser, RuleError> {
        if prefix.is_empty() {
            return Err(RuleError);
        }
        self.prefixes.push(prefix.to_owned());
        Ok(self)
    }

    /// Also drops fields whose name ends with `suffix`.
    ///
    /// # Errors
    /// When `suffix` is empty.
    pub fn with_suffix(mut self, suffix: &str) -> Result<Anonymiser, RuleError> {
        if suffix.is_empty() {
            return Err(RuleError);
        }
        self.suffixes.push(suffix.to_owned());
        Ok(self)
    }

    /// Whether a field called `name` identifies somebody.
    #[must_use]
    pub fn drops(&self, name: &str) -> bool {
        self.names.iter().any(|rule| rule == name)
            || self.prefixes.iter().any(|rule| name.starts_with(rule.as_str()))
            || self.suffixes.iter().any(|rule| name.ends_with(rule.as_str()))
    }

    /// Removes identifying fields at every depth, inside lists too. What is kept keeps its order and number text.
    pub fn anonymise(&self, value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.anonymise(item)),
            Value::Object(fields) => {
                fields.retain(|name, _| !self.drops(name));
                fields.values_mut().for_each(|item| self.anonymise(item));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}
