//! Reading fields from parsed bodies, with the leniency and the error texts of the Python system's pydantic.
//!
//! | declared | taken | refused (422) |
//! |---|---|---|
//! | string | a string | everything else |
//! | number | a number; a string that holds one | booleans, infinities, other strings |
//! | integer | a whole number, `10.0` too; a string that holds one | booleans, fractions, other strings |
//! | `?` | also null or absent | |
//!
//! Unknown fields are ignored. All faults of a request are reported together.

use serde_json::{Map, Value};

use super::problem::{Code, Fault, Problem, Step};

/// Bytes of a faulty input that are sent back.
const INPUT_BYTES_MAX: usize = 1_024;

/// The faults found so far.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn add(&mut self, kind: &'static str, loc: Vec<Step>, msg: impl Into<String>, input: &Value) {
        self.0.push(Fault {
            kind,
            loc,
            msg: msg.into(),
            input: shown(input),
        });
    }

    /// # Errors
    /// 422 with all faults, if there is one.
    pub(crate) fn none(self) -> Result<(), Problem> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Problem::faults(Code::InvalidRequest, self.0))
        }
    }
}

/// The input, or the beginning of its text when it is long.
fn shown(input: &Value) -> Value {
    let text = engine::json::to_text(input);
    if text.len() <= INPUT_BYTES_MAX {
        return input.clone();
    }
    let cut = text.floor_char_boundary(INPUT_BYTES_MAX);
    Value::String(format!("{}…", &text[..cut]))
}

/// The body as an object, or a fault.
pub(crate) fn object(body: Value, faults: &mut Faults) -> Option<Map<String, Value>> {
    match body {
        Value::Object(fields) => Some(fields),
        other => {
            let msg = "Input should be a valid dictionary or object to extract fields from";
            faults.add("model_attributes_type", vec![Step::Name("body")], msg, &other);
            None
        }
    }
}

fn at(name: &'static str) -> Vec<Step> {
    vec![Step::Name("body"), Step::Name(name)]
}

/// A field that is a string, null or absent.
pub(crate) fn optional_string(
    fields: &mut Map<String, Value>,
    name: &'static str,
    faults: &mut Faults,
) -> Option<String> {
    match fields.remove(name) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text),
        Some(other) => {
            faults.add("string_type", at(name), "Input should be a valid string", &other);
            None
        }
    }
}

/// A field that is a number, null or absent.
pub(crate) fn optional_number(fields: &mut Map<String, Value>, name: &'static str, faults: &mut Faults) -> Option<f64> {
    match fields.remove(name) {
        None | Some(Value::Null) => None,
        Some(value) => number(&value, name, faults),
    }
}

/// A field that is a number of at least `least`, or absent.
pub(crate) fn number_at_least(
    fields: &mut Map<String, Value>,
    name: &'static str,
    default: f64,
    least: f64,
    faults: &mut Faults,
) -> f64 {
    let Some(value) = fields.remove(name) else {
        return default;
    };
    match number(&value, name, faults) {
        Some(number) if number < least => {
            faults.add(
                "greater_than_equal",
                at(name),
                format!("Input should be greater than or equal to {least}"),
                &value,
            );
            default
        }
        Some(number) => number,
        None => default,
    }
}

fn number(value: &Value, name: &'static str, faults: &mut Faults) -> Option<f64> {
    let (text, parsing) = match value {
        Value::Number(number) => (number.as_str(), false),
        Value::String(text) => (text.trim(), true),
        _ => {
            faults.add("float_type", at(name), "Input should be a valid number", value);
            return None;
        }
    };
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Some(number),
        Ok(_) => {
            faults.add("finite_number", at(name), "Input should be a finite number", value);
            None
        }
        Err(_) => {
            let kind = if parsing { "float_parsing" } else { "float_type" };
            faults.add(
                kind,
                at(name),
                "Input should be a valid number, unable to parse string as a number",
                value,
            );
            None
        }
    }
}

/// A field that is a whole number within `least..=most`, or absent.
pub(crate) fn integer_within(
    fields: &mut Map<String, Value>,
    name: &'static str,
    default: u32,
    (least, most): (u32, u32),
    faults: &mut Faults,
) -> u32 {
    let Some(value) = fields.remove(name) else {
        return default;
    };
    let Some(whole) = integer(&value, name, faults) else {
        return default;
    };
    if whole < f64::from(least) {
        faults.add(
            "greater_than_equal",
            at(name),
            format!("Input should be greater than or equal to {least}"),
            &value,
        );
    } else if whole > f64::from(most) {
        faults.add(
            "less_than_equal",
            at(name),
            format!("Input should be less than or equal to {most}"),
            &value,
        );
    } else {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole, and within two u32"
        )]
        return whole as u32;
    }
    default
}

/// A whole number as a double: exact wherever a range we check can lie.
fn integer(value: &Value, name: &'static str, faults: &mut Faults) -> Option<f64> {
    let (text, parsing) = match value {
        Value::Number(number) => (number.as_str(), false),
        Value::String(text) => (text.trim(), true),
        _ => {
            faults.add("int_type", at(name), "Input should be a valid integer", value);
            return None;
        }
    };
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number.fract() == 0.0 => return Some(number),
        Ok(_) if !parsing => {
            let msg = "Input should be a valid integer, got a number with a fractional part";
            faults.add("int_from_float", at(name), msg, value);
        }
        _ => {
            let msg = "Input should be a valid integer, unable to parse string as an integer";
            faults.add("int_parsing", at(name), msg, value);
        }
    }
    None
}

/// A required field that is a list of objects.
pub(crate) fn objects(fields: &mut Map<String, Value>, name: &'static str, faults: &mut Faults) -> Vec<Value> {
    let items = match fields.remove(name) {
        Some(Value::Array(items)) => items,
        Some(other) => {
            faults.add("list_type", at(name), "Input should be a valid list", &other);
            return Vec::new();
        }
        None => {
            let whole = Value::Object(std::mem::take(fields));
            faults.add("missing", at(name), "Field required", &whole);
            return Vec::new();
        }
    };
    /// Wrong elements that are named one by one.
    const NAMED_MAX: usize = 20;
    let wrong = items.iter().enumerate().filter(|(_, item)| !item.is_object());
    for (index, item) in wrong.take(NAMED_MAX) {
        let loc = vec![Step::Name("body"), Step::Name(name), Step::Index(index)];
        faults.add("dict_type", loc, "Input should be a valid dictionary", item);
    }
    items
}
