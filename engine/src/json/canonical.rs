//! The canonical form: RFC 8785, with integers beyond ±2^53 by their digits.
//!
//! RFC 8785 sends every number through a double, which would make two different large integers one. Here a number is
//! first read exactly: one that is an integer beyond ±2^53 and that its double does not reproduce keeps its own digits.
//! All spellings of one value (`1`, `1.0`, `10e-1`; `1E30` and its 31 digits) have one form.

use serde_json::Value;

/// Canonical JSON text of `value`.
#[must_use]
pub fn canonical(value: &Value) -> String {
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
        Value::Number(number) => write_number(number.as_str(), text),
        Value::String(string) => write_string(string, text),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_value(item, text);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let mut sorted: Vec<(&String, &Value)> = fields.iter().collect();
            // RFC 8785 section 3.2.3: by UTF-16 code units, which differs from UTF-8 order beyond U+FFFF.
            sorted.sort_unstable_by(|(left, _), (right, _)| left.encode_utf16().cmp(right.encode_utf16()));
            text.push('{');
            for (index, (key, item)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_string(key, text);
                text.push(':');
                write_value(item, text);
            }
            text.push('}');
        }
    }
}

fn write_string(string: &str, text: &mut String) {
    text.push('"');
    let mut rest = string;
    while let Some(at) = rest
        .bytes()
        .position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\')
    {
        text.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            0x08 => text.push_str("\\b"),
            0x09 => text.push_str("\\t"),
            0x0a => text.push_str("\\n"),
            0x0c => text.push_str("\\f"),
            0x0d => text.push_str("\\r"),
            control => {
                text.push_str("\\u00");
                for digit in [control >> 4, control & 15] {
                    text.push(char::from_digit(u32::from(digit), 16).expect("a nibble is a hexadecimal digit"));
                }
            }
        }
        rest = &rest[at + 1..];
    }
    text.push_str(rest);
    text.push('"');
}

/// Canonical text of one JSON number.
#[must_use]
pub fn canonical_number(number: &str) -> String {
    let mut text = String::new();
    write_number(number, &mut text);
    text
}

/// Integers of up to this many digits are below 2^53 and written as they stand.
const DIGITS_SAFE: usize = 15;

fn write_number(number: &str, text: &mut String) {
    let magnitude = number.strip_prefix('-').unwrap_or(number);
    if magnitude == "0" {
        text.push('0');
        return;
    }
    if magnitude.len() <= DIGITS_SAFE && magnitude.bytes().all(|byte| byte.is_ascii_digit()) {
        text.push_str(number);
        return;
    }
    let double: f64 = number.parse().unwrap_or(f64::NAN);
    if !double.is_finite() {
        // Only reachable for values that did not come through the parser: keep them distinct, never fail.
        text.push_str(number);
        return;
    }
    let mut buffer = ryu_js::Buffer::new();
    let shortest = buffer.format_finite(double);
    if double.abs() < TWO_POW_53 {
        text.push_str(shortest);
        return;
    }
    let exact = Decimal::read(number);
    if exact.exponent < 0 || exact == Decimal::read(shortest) {
        text.push_str(shortest);
    } else {
        exact.write_integer(text);
    }
}

/// From here on neighbouring doubles are two apart or more.
const TWO_POW_53: f64 = 9_007_199_254_740_992.0;

/// A number read exactly: ± digits · 10^exponent, digits without zeros at either end.
#[derive(PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn read(number: &str) -> Decimal {
        let (negative, magnitude) = match number.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, number),
        };
        let (mantissa, exponent) = magnitude.split_once(['e', 'E']).unwrap_or((magnitude, "0"));
        // The double was finite and not small, so an exponent that does not fit cannot stand here.
        let exponent: i64 = exponent.parse().unwrap_or(0);
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let joined = format!("{whole}{fraction}");
        let trimmed = joined.trim_end_matches('0');
        let dropped = joined.len() - trimmed.len();
        let scale = i64::try_from(dropped).unwrap_or(0) - i64::try_from(fraction.len()).unwrap_or(0);
        Decimal {
            negative,
            digits: trimmed.trim_start_matches('0').to_owned(),
            exponent: exponent.saturating_add(scale),
        }
    }

    /// All digits; at most 309, for the value fits a double.
    fn write_integer(&self, text: &mut String) {
        if self.negative {
            text.push('-');
        }
        text.push_str(&self.digits);
        (0..self.exponent).for_each(|_| text.push('0'));
    }
}
