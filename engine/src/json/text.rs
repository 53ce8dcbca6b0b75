//! What a search looks at: the text of the values, and case folding.

use std::borrow::Cow;

use icu_casemap::CaseMapperBorrowed;
use serde_json::Value;

/// The text of one value: a string, a number as sent, `true` or `false`. Keys, punctuation and `null` have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<'a> {
    /// As it stands in the value, unfolded.
    pub text: &'a str,
    /// Whether it is (or stands inside) the value of the top-level `name`.
    pub in_name: bool,
}

/// Iterator over the texts of a value, in document order.
#[derive(Clone, Debug)]
pub struct Texts<'a> {
    /// What is still to be visited, last first.
    pending: Vec<(&'a Value, bool)>,
}

/// The texts of a concept, in document order.
#[must_use]
pub fn texts(concept: &Value) -> Texts<'_> {
    let pending = match concept {
        Value::Object(fields) => fields
            .iter()
            .rev()
            .map(|(name, value)| (value, name == "name"))
            .collect(),
        other => vec![(other, false)],
    };
    Texts { pending }
}

impl<'a> Iterator for Texts<'a> {
    type Item = Text<'a>;

    fn next(&mut self) -> Option<Text<'a>> {
        while let Some((value, in_name)) = self.pending.pop() {
            let text = match value {
                Value::Null => continue,
                Value::Bool(true) => "true",
                Value::Bool(false) => "false",
                Value::Number(number) => number.as_str(),
                Value::String(string) => string.as_str(),
                Value::Array(items) => {
                    self.pending.extend(items.iter().rev().map(|item| (item, in_name)));
                    continue;
                }
                Value::Object(fields) => {
                    self.pending.extend(fields.values().rev().map(|item| (item, in_name)));
                    continue;
                }
            };
            return Some(Text { text, in_name });
        }
        None
    }
}

/// Simple case folding (Unicode `CaseFolding.txt`, status C and S): character by character, so `ß` stays and `ẞ` becomes
/// `ß`. Borrows when there is nothing to fold.
#[must_use]
pub fn fold(text: &str) -> Cow<'_, str> {
    let mapper = CaseMapperBorrowed::new();
    let first = text
        .char_indices()
        .find(|&(_, character)| fold_character(mapper, character) != character);
    match first {
        None => Cow::Borrowed(text),
        Some((at, _)) => {
            let mut folded = String::with_capacity(text.len());
            folded.push_str(&text[..at]);
            fold_into(&text[at..], &mut folded);
            Cow::Owned(folded)
        }
    }
}

/// Appends the simple case folding of `text`.
pub fn fold_into(text: &str, folded: &mut String) {
    let mapper = CaseMapperBorrowed::new();
    folded.extend(text.chars().map(|character| fold_character(mapper, character)));
}

fn fold_character(mapper: CaseMapperBorrowed<'_>, character: char) -> char {
    if character.is_ascii() {
        character.to_ascii_lowercase()
    } else {
        mapper.simple_fold(character)
    }
}
