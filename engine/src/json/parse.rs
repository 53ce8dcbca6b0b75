//! A strict reader for bodies written by anybody.

use serde_json::{Map, Number, Value};

/// Levels of nesting a body may have.
pub const DEPTH_MAX: usize = 128;

/// Where in the body reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Bytes before the fault.
    pub offset: usize,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl std::fmt::Display for Position {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "line {} column {}", self.line, self.column)
    }
}

/// Why a body is refused. Nothing of it was used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Bytes that are no text.
    #[error("the body is not UTF-8 at byte {offset}; send JSON as UTF-8")]
    NotUtf8 {
        /// Valid bytes before the fault.
        offset: usize,
    },
    /// More than [`DEPTH_MAX`] lists and objects inside each other.
    #[error("the body is nested over {DEPTH_MAX} levels at {position}; flatten it")]
    TooDeep {
        /// Of the bracket that opens one level too many.
        position: Position,
    },
    /// Not JSON as RFC 8259 has it (`NaN`, `Infinity`, comments and trailing commas are not).
    #[error("malformed JSON at {position}: {expected}")]
    Malformed {
        /// Of the first byte that does not fit.
        position: Position,
        /// What should stand there.
        expected: &'static str,
    },
    /// An object that says two things under one name.
    #[error("the key {key:?} appears twice in one object, the second time at {position}")]
    DuplicateKey {
        /// The name (cut to 64 characters).
        key: String,
        /// Of the second occurrence.
        position: Position,
    },
    /// A number whose magnitude no double can hold, like `1e400`.
    #[error("the number at {position} is out of the range of a 64-bit float")]
    NumberOutOfRange {
        /// Of its first character.
        position: Position,
    },
    /// `\ud800`…`\udfff` without its other half: no such text exists.
    #[error("a lone surrogate is escaped at {position}; send whole characters")]
    LoneSurrogate {
        /// Of the escape.
        position: Position,
    },
    /// U+0000, which cuts text short in other people's programs.
    #[error("a NUL character (U+0000) is escaped at {position}; remove it")]
    Nul {
        /// Of the escape.
        position: Position,
    },
}

/// A fault, and the value it was found in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// What is wrong.
    pub error: ParseError,
    /// Such as `concepts[3].name`, from the outside in, at most [`PLACE_STEPS_MAX`] steps; empty when the fault lies in no
    /// list and no object.
    pub place: String,
}

/// Steps of a [`Located::place`].
pub const PLACE_STEPS_MAX: usize = 4;

/// Reads one JSON value that fills `body` but for white space.
///
/// # Errors
/// The first fault found; see [`ParseError`].
pub fn parse(body: &[u8]) -> Result<Value, ParseError> {
    parse_located(body).map_err(|located| located.error)
}

/// The same as [`parse`], for a body whose sender is told where the fault lies.
///
/// # Errors
/// The first fault found.
pub fn parse_located(body: &[u8]) -> Result<Value, Located> {
    let nowhere = |error| Located {
        error,
        place: String::new(),
    };
    let text = std::str::from_utf8(body).map_err(|error| {
        nowhere(ParseError::NotUtf8 {
            offset: error.valid_up_to(),
        })
    })?;
    let mut reader = Reader {
        text,
        bytes: body,
        at: 0,
        inside_out: Vec::new(),
    };
    reader.skip_white_space();
    let value = reader.value(0).map_err(|error| Located {
        error,
        place: place(&reader.inside_out),
    })?;
    reader.skip_white_space();
    if reader.at < body.len() {
        return Err(nowhere(reader.malformed("the end of the body")));
    }
    Ok(value)
}

/// Characters of a key that an error repeats.
const KEY_SHOWN_MAX: usize = 64;

/// One step into a body.
enum Step {
    Field(String),
    Item(usize),
}

fn place(inside_out: &[Step]) -> String {
    let mut place = String::new();
    for step in inside_out.iter().rev().take(PLACE_STEPS_MAX) {
        match step {
            Step::Field(name) => {
                place.push_str(if place.is_empty() { "" } else { "." });
                place.push_str(name);
            }
            Step::Item(index) => place.push_str(&format!("[{index}]")),
        }
    }
    place
}

fn cut(key: &str) -> String {
    key.chars().take(KEY_SHOWN_MAX).collect()
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// Once a fault was found: the way to it, the last step first.
    inside_out: Vec<Step>,
}

impl Reader<'_> {
    /// Recursion is safe: `depth` is bounded by [`DEPTH_MAX`].
    fn value(&mut self, depth: usize) -> Result<Value, ParseError> {
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => Ok(Value::String(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            _ => Err(self.malformed("expected a value")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, ParseError> {
        self.open(depth)?;
        let mut fields = Map::new();
        if self.eat(b'}') {
            return Ok(Value::Object(fields));
        }
        loop {
            self.skip_white_space();
            let key_at = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.malformed("expected a key in double quotes"));
            }
            let key = self.string()?;
            if fields.contains_key(&key) {
                return Err(ParseError::DuplicateKey {
                    key: cut(&key),
                    position: self.position(key_at),
                });
            }
            self.skip_white_space();
            if !self.eat(b':') {
                return Err(self.malformed("expected ':' after a key"));
            }
            self.skip_white_space();
            let value = self
                .value(depth + 1)
                .inspect_err(|_| self.inside_out.push(Step::Field(cut(&key))))?;
            fields.insert(key, value);
            self.skip_white_space();
            if self.eat(b'}') {
                return Ok(Value::Object(fields));
            }
            if !self.eat(b',') {
                return Err(self.malformed("expected ',' or '}' after a value in an object"));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, ParseError> {
        self.open(depth)?;
        let mut items = Vec::new();
        if self.eat(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            self.skip_white_space();
            let index = items.len();
            let item = self
                .value(depth + 1)
                .inspect_err(|_| self.inside_out.push(Step::Item(index)))?;
            items.push(item);
            self.skip_white_space();
            if self.eat(b']') {
                return Ok(Value::Array(items));
            }
            if !self.eat(b',') {
                return Err(self.malformed("expected ',' or ']' after a value in a list"));
            }
        }
    }

    /// Steps over the bracket that opens level `depth + 1`.
    fn open(&mut self, depth: usize) -> Result<(), ParseError> {
        if depth >= DEPTH_MAX {
            return Err(ParseError::TooDeep {
                position: self.position(self.at),
            });
        }
        self.at += 1;
        self.skip_white_space();
        Ok(())
    }

    fn word(&mut self, word: &'static str, value: Value) -> Result<Value, ParseError> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.malformed("expected a value"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn number(&mut self) -> Result<Value, ParseError> {
        let start = self.at;
        self.eat(b'-');
        if self.eat(b'0') {
            if matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(self.malformed("a number has no leading zeros"));
            }
        } else {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            let _signed = self.eat(b'+') || self.eat(b'-');
            self.digits()?;
        }
        let text = &self.text[start..self.at];
        // The grammar above is a subset of what `f64` reads; magnitudes beyond it become infinite.
        if !text.parse::<f64>().is_ok_and(f64::is_finite) {
            return Err(ParseError::NumberOutOfRange {
                position: self.position(start),
            });
        }
        // The only constructor that keeps the text exactly: serde_json's reader rewrites exponents (`1e5` as `1e+5`).
        Ok(Value::Number(Number::from_string_unchecked(text.to_owned())))
    }

    fn digits(&mut self) -> Result<(), ParseError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start {
            Err(self.malformed("expected a digit"))
        } else {
            Ok(())
        }
    }

    /// A string, standing at its opening quote.
    fn string(&mut self) -> Result<String, ParseError> {
        self.at += 1;
        let mut content = String::new();
        loop {
            let start = self.at;
            while matches!(self.peek(), Some(byte) if byte != b'"' && byte != b'\\' && byte >= 0x20) {
                self.at += 1;
            }
            // Quotes, backslashes and controls are ASCII, so both ends are character boundaries.
            content.push_str(&self.text[start..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(content);
                }
                Some(b'\\') => content.push(self.escape()?),
                Some(_) => return Err(self.malformed("a control character in a string must be escaped")),
                None => return Err(self.malformed("the string has no closing quote")),
            }
        }
    }

    /// One escape, standing at its backslash.
    fn escape(&mut self) -> Result<char, ParseError> {
        let start = self.at;
        self.at += 1;
        let character = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode(start);
            }
            _ => return Err(self.malformed("unknown escape in a string")),
        };
        self.at += 1;
        Ok(character)
    }

    /// The digits of `\uXXXX`, and of its other half where it is a surrogate; `start` is the backslash.
    fn unicode(&mut self, start: usize) -> Result<char, ParseError> {
        let lone = |reader: &Self| ParseError::LoneSurrogate {
            position: reader.position(start),
        };
        let first = self.hexadecimal_four()?;
        let code = match first {
            0 => {
                return Err(ParseError::Nul {
                    position: self.position(start),
                });
            }
            0xd800..=0xdbff => {
                if !self.bytes[self.at..].starts_with(b"\\u") {
                    return Err(lone(self));
                }
                self.at += 2;
                let second = self.hexadecimal_four()?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return Err(lone(self));
                }
                0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            other => other,
        };
        char::from_u32(code).ok_or_else(|| lone(self))
    }

    fn hexadecimal_four(&mut self) -> Result<u32, ParseError> {
        let mut code = 0;
        for _ in 0..4 {
            let Some(digit) = self.peek().and_then(|byte| char::from(byte).to_digit(16)) else {
                return Err(self.malformed("expected four hexadecimal digits"));
            };
            code = code << 4 | digit;
            self.at += 1;
        }
        Ok(code)
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn skip_white_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn malformed(&self, expected: &'static str) -> ParseError {
        ParseError::Malformed {
            position: self.position(self.at),
            expected,
        }
    }

    /// Counted only when a body is refused, so that good ones pay nothing.
    fn position(&self, offset: usize) -> Position {
        // A malformed byte may stand inside a character; its position is the character's.
        let offset = self.text.floor_char_boundary(offset);
        let before = &self.text[..offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position {
            offset,
            line: 1 + before.matches('\n').count(),
            column: 1 + before[line_start..].chars().count(),
        }
    }
}
