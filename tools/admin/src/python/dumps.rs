//! The text that the Python system took its sums of: `json.dumps(value, sort_keys=True)`, to the byte.
//!
//! | what | how Python writes it |
//! |---|---|
//! | between items, behind a name | `, ` and `: ` |
//! | names of an object | sorted by code points |
//! | all but printable ASCII | `\n \r \t \b \f`, else `\u` with four small hexadecimal digits, two of them beyond U+FFFF |
//! | numbers | as they stand in the file: the same `repr` wrote both |

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::Value;

use crate::sum;

/// SHA-256 of [`dumps`], in small hexadecimal digits.
pub(super) fn sum(value: &Value) -> String {
    sum::of(dumps(value).as_bytes())
}

/// `json.dumps(value, sort_keys=True)`.
pub(super) fn dumps(value: &Value) -> String {
    let mut text = String::new();
    write_value(value, &mut text);
    text
}

/// Recursion is as deep as the value, which the parser bounds.
fn write_value(value: &Value, text: &mut String) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Number(number) => text.push_str(number.as_str()),
        Value::String(string) => write_string(string, text),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { ", " });
                write_value(item, text);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            // The order of UTF-8 bytes is the order of code points, which is Python's.
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            text.push('{');
            for (index, (name, value)) in sorted.into_iter().enumerate() {
                text.push_str(if index == 0 { "" } else { ", " });
                write_string(name, text);
                text.push_str(": ");
                write_value(value, text);
            }
            text.push('}');
        }
    }
}

fn write_string(string: &str, text: &mut String) {
    text.push('"');
    for character in string.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            ' '..='~' => text.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        engine::json::parse(text.as_bytes()).unwrap()
    }

    /// What CPython 3.11 printed for each text: `json.dumps(json.loads(text), sort_keys=True)`.
    #[test]
    fn the_text_is_pythons() {
        for (text, python) in [
            ("{}", "{}"),
            ("[ ]", "[]"),
            (
                r#"{"b":[1,2.5,-0.0,1e-07,123456789012345678901234567890],"a":{"y":null,"x":true}}"#,
                r#"{"a": {"x": true, "y": null}, "b": [1, 2.5, -0.0, 1e-07, 123456789012345678901234567890]}"#,
            ),
            (
                r#"{"é":"é","z":"ß","Z":"~\u007f /"}"#,
                r#"{"Z": "~\u007f /", "z": "\u00df", "\u00e9": "\u00e9"}"#,
            ),
            (r#""\u0001\b\f\n\r\t\"\\\/""#, r#""\u0001\b\f\n\r\t\"\\/""#),
            (
                "{\"\u{ffff}\":1,\"\u{1f600}\":\"\u{1f600}\"}",
                r#"{"\uffff": 1, "\ud83d\ude00": "\ud83d\ude00"}"#,
            ),
        ] {
            assert_eq!(dumps(&value(text)), python);
        }
    }

    #[test]
    fn the_sum_is_that_of_the_real_store() {
        let value = value(r#"{"value": 100}"#);
        assert_eq!(
            sum(&value),
            "7c805b237d04568d51089ed93cb18821782f604f51496a864421bca1c4f7641a"
        );
    }
}
