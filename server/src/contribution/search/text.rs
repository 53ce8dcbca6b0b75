//! The text of one concept as the index keeps it.
//!
//! ```text
//!  {"synonyms": ["Dog"], "name": "Hound", "legs": 4}   →   hound ▮ dog ▮ 4 ▮        ▮ = 0xFF, in no UTF-8 text
//!                                                          ╰─────╯ name part
//! ```
//!
//! Values are folded (simple case folding, `engine::json::fold`) and each ends with a separator that no query can
//! contain, so no match spans two of them. The values of the top-level `name` come first, so that one length tells which
//! positions lie in it; the order of values matters to no answer.

use engine::json;
use serde_json::Value;

/// Ends every value; not a byte of UTF-8.
pub(super) const SEPARATOR: u8 = 0xFF;

/// Folded values with separators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    pub(super) bytes: Vec<u8>,
    /// Bytes of `bytes` that belong to the value of `name`.
    pub(super) name_bytes: usize,
}

impl Text {
    /// The searchable text of a concept.
    #[must_use]
    pub fn of(concept: &Value) -> Text {
        let mut text = Text::default();
        let texts = json::texts(concept);
        texts
            .clone()
            .filter(|value| value.in_name)
            .for_each(|value| text.push(value.text));
        text.name_bytes = text.bytes.len();
        texts
            .filter(|value| !value.in_name)
            .for_each(|value| text.push(value.text));
        text
    }

    fn push(&mut self, value: &str) {
        self.bytes.extend_from_slice(json::fold(value).as_bytes());
        self.bytes.push(SEPARATOR);
    }
}
