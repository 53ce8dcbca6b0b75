//! What nodes take, checked before anything is sent: so that a bad line is found with its number, and nothing behind it is sent.
//!
//! Nodes check the same again; these rules are those of `concepts.proto`.

use engine::{crdt::VALUE_BYTES_MAX, json};
use serde_json::Value;

/// The longest key, in bytes.
const KEY_BYTES_MAX: usize = 1_024;
/// The deepest nesting of a value.
const LEVELS_MAX: usize = 64;

/// Reads JSON as strictly as a node does.
pub(crate) fn json(text: &[u8]) -> Result<Value, String> {
    json::parse(text).map_err(|error| error.to_string())
}

/// Checks a key.
pub(crate) fn key(key: &str) -> Result<(), String> {
    match key.len() {
        1..=KEY_BYTES_MAX => Ok(()),
        0 => Err("the key is empty: it must have 1 to 1024 bytes".to_owned()),
        bytes => Err(format!("the key has {bytes} bytes: it must have 1 to {KEY_BYTES_MAX}")),
    }
}

/// The text of a value on one line, its numbers and the order of its fields kept.
pub(crate) fn value(value: &Value) -> Result<String, String> {
    let levels = json::depth(value);
    if levels > LEVELS_MAX {
        return Err(format!("the value is nested over {LEVELS_MAX} levels: it has {levels}"));
    }
    let text = json::to_text(value);
    if text.len() > VALUE_BYTES_MAX {
        return Err(format!(
            "the value has {} bytes: it may have {VALUE_BYTES_MAX}",
            text.len()
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_the_contract() {
        key("k").unwrap();
        key(&"k".repeat(1_024)).unwrap();
        key("").unwrap_err();
        key(&"k".repeat(1_025)).unwrap_err();
        let nested = |levels: usize| json(format!("{}{}", "[".repeat(levels), "]".repeat(levels)).as_bytes()).unwrap();
        value(&nested(64)).unwrap();
        value(&nested(65)).unwrap_err();
        value(&Value::String("x".repeat(65_534))).unwrap();
        value(&Value::String("x".repeat(65_535))).unwrap_err();
    }

    #[test]
    fn values_keep_their_numbers_and_lose_their_line_breaks() {
        let read = json(b"{\"b\": 1.50,\n \"a\": 1E5}").unwrap();
        assert_eq!(value(&read).unwrap(), r#"{"b":1.50,"a":1E5}"#);
    }
}
