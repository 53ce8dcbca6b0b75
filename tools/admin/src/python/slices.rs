//! A JSON object as its fields, the values not read yet.
//!
//! Python writes what JSON does not have (`NaN`, halves of characters) and reads it back. Cut into slices first, a file with
//! one such concept loses that one and no other; and a file that ends too early says so, and is not taken for a smaller one.
//!
//! Brackets and strings are told apart and nothing more: each slice is then read by `engine::json`, which is strict.

/// One field of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    /// Its name, in its quotes.
    pub(super) name: &'a str,
    /// Its value, as it stands there.
    pub(super) value: &'a str,
}

/// The text is not an object from its first byte to its last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    /// Bytes before the fault.
    pub(super) offset: usize,
    /// What is wrong.
    pub(super) what: &'static str,
}

/// The text ends too early.
const CUT: &str = "the file is cut off here";

/// The fields of the object that fills `text` but for white space.
pub(super) fn fields(text: &str) -> Result<Vec<Field<'_>>, Broken> {
    let mut walk = Walk { text, at: 0 };
    let mut fields = Vec::new();
    walk.white_space();
    walk.expect(b'{', "an object, `{`, was expected here")?;
    walk.white_space();
    if !walk.eat(b'}') {
        loop {
            walk.white_space();
            let name = walk.name()?;
            walk.white_space();
            walk.expect(b':', "a `:` was expected here")?;
            walk.white_space();
            let value = walk.value()?;
            fields.push(Field { name, value });
            walk.white_space();
            if walk.eat(b'}') {
                break;
            }
            walk.expect(b',', "a `,` or a `}` was expected here")?;
        }
    }
    walk.white_space();
    match walk.peek() {
        None => Ok(fields),
        Some(_) => Err(walk.broken("something follows the end of the object")),
    }
}

struct Walk<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Walk<'a> {
    fn name(&mut self) -> Result<&'a str, Broken> {
        let start = self.at;
        if self.peek() != Some(b'"') {
            return Err(self.broken("a name in double quotes was expected here"));
        }
        self.string()?;
        Ok(&self.text[start..self.at])
    }

    fn value(&mut self) -> Result<&'a str, Broken> {
        let start = self.at;
        let mut levels = 0_usize;
        loop {
            match self.peek().ok_or_else(|| self.broken(CUT))? {
                b'"' => self.string()?,
                b'{' | b'[' => {
                    levels += 1;
                    self.at += 1;
                }
                b'}' | b']' if levels > 0 => {
                    levels -= 1;
                    self.at += 1;
                }
                b'}' | b']' | b',' | b':' if levels == 0 => return Err(self.broken("a value was expected here")),
                _ if levels > 0 => self.at += 1,
                _ => {
                    while matches!(self.peek(), Some(byte) if !b"{}[],:\" \t\r\n".contains(&byte)) {
                        self.at += 1;
                    }
                }
            }
            if levels == 0 {
                return Ok(&self.text[start..self.at]);
            }
        }
    }

    /// Steps over a string, standing at its opening quote.
    fn string(&mut self) -> Result<(), Broken> {
        self.at += 1;
        loop {
            match self.peek().ok_or_else(|| self.broken(CUT))? {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), Broken> {
        if self.eat(byte) { Ok(()) } else { Err(self.broken(what)) }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn white_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn broken(&self, what: &'static str) -> Broken {
        let at_end = self.at >= self.text.len();
        Broken {
            offset: self.at.min(self.text.len()),
            what: if at_end { CUT } else { what },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_cut_out_whole() {
        let text = r#" { "a" : {"x":["}",2], "y":"\"{"} , "b":NaN,"c\"":"\\" , "d" : -1.5e3 } "#;
        let found: Vec<_> = fields(text)
            .unwrap()
            .into_iter()
            .map(|field| (field.name, field.value))
            .collect();
        assert_eq!(
            found,
            [
                (r#""a""#, r#"{"x":["}",2], "y":"\"{"}"#),
                (r#""b""#, "NaN"),
                (r#""c\"""#, r#""\\""#),
                (r#""d""#, "-1.5e3"),
            ]
        );
        assert_eq!(fields("{}"), Ok(Vec::new()));
    }

    #[test]
    fn every_cut_is_noticed() {
        let text = r#"{"a": {"x": [1, "é\u00e9"]}, "b": 2}"#;
        fields(text).unwrap();
        for cut in (0..text.len()).filter(|&cut| text.is_char_boundary(cut)) {
            assert_eq!(fields(&text[..cut]).unwrap_err().what, CUT, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused_where_it_ends_to_be_one() {
        for (text, offset) in [
            ("[]", 0),
            ("{} {}", 3),
            ("{a:1}", 1),
            (r#"{"a" 1}"#, 5),
            (r#"{"a":,}"#, 5),
            (r#"{"a":1 2}"#, 7),
        ] {
            let broken = fields(text).unwrap_err();
            assert_eq!(broken.offset, offset, "{text}: {}", broken.what);
            assert_ne!(broken.what, CUT, "{text}");
        }
    }
}
