//! One key of an export as one line of JSON. Fields are written in the order in which they stand here.

use std::borrow::Cow;

use client::wire::{Entry, KeyState, Seen, Sums, entry::Content};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    context: Vec<Dot<'a>>,
    entries: Vec<Value<'a>>,
}

/// Writer, its life in 16 hexadecimal digits, the how-many-eth write.
#[derive(Serialize, Deserialize)]
struct Dot<'a>(#[serde(borrow)] Cow<'a, str>, Life, u64);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Value<'a> {
    #[serde(borrow)]
    dot: Dot<'a>,
    stamp: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    register: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sibling: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    element: Option<Cow<'a, str>>,
    /// All that was added, all that was taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sums: Option<(u64, u64)>,
}

#[derive(Clone, Copy)]
struct Life(u64);

impl Serialize for Life {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Life {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Life, D::Error> {
        let digits = Cow::<str>::deserialize(deserializer)?;
        let small = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let life = (digits.len() == 16 && small)
            .then(|| u64::from_str_radix(&digits, 16).ok())
            .flatten();
        life.map(Life)
            .ok_or_else(|| serde::de::Error::custom("a life is 16 small hexadecimal digits"))
    }
}

impl<'a> From<&'a KeyState> for Line<'a> {
    fn from(state: &'a KeyState) -> Line<'a> {
        let seen = |seen: &'a Seen| Dot(Cow::from(&seen.node), Life(seen.incarnation), seen.counter);
        Line {
            key: Cow::from(&state.key),
            context: state.context.iter().map(seen).collect(),
            entries: state.entries.iter().map(Value::from).collect(),
        }
    }
}

impl<'a> From<&'a Entry> for Value<'a> {
    fn from(entry: &'a Entry) -> Value<'a> {
        let mut value = Value {
            dot: Dot(Cow::from(&entry.node), Life(entry.incarnation), entry.counter),
            stamp: entry.stamp,
            expires: entry.expires,
            register: None,
            sibling: None,
            element: None,
            sums: None,
        };
        match &entry.content {
            Some(Content::Register(json)) => value.register = Some(Cow::from(json)),
            Some(Content::Sibling(json)) => value.sibling = Some(Cow::from(json)),
            Some(Content::Element(json)) => value.element = Some(Cow::from(json)),
            Some(Content::Sums(sums)) => value.sums = Some((sums.increments, sums.decrements)),
            None => {}
        }
        value
    }
}

impl Line<'_> {
    /// The state that a line tells of.
    pub(super) fn read(line: &[u8]) -> Result<KeyState, String> {
        let line: Line<'_> =
            serde_json::from_slice(line).map_err(|error| format!("it is no line of an export: {error}"))?;
        let seen = |Dot(node, Life(incarnation), counter)| Seen {
            node: String::from(node),
            incarnation,
            counter,
        };
        Ok(KeyState {
            key: line.key.into_owned(),
            context: line.context.into_iter().map(seen).collect(),
            entries: line.entries.into_iter().map(Value::read).collect::<Result<_, _>>()?,
        })
    }
}

impl Value<'_> {
    fn read(self) -> Result<Entry, String> {
        let Dot(node, Life(incarnation), counter) = self.dot;
        let contents = [
            self.register.map(|json| Content::Register(json.into_owned())),
            self.sibling.map(|json| Content::Sibling(json.into_owned())),
            self.element.map(|json| Content::Element(json.into_owned())),
            self.sums
                .map(|(increments, decrements)| Content::Sums(Sums { increments, decrements })),
        ];
        let mut contents = contents.into_iter().flatten();
        let content = contents.next();
        if content.is_none() || contents.next().is_some() {
            return Err("an entry must have one of register, sibling, element and sums".to_owned());
        }
        Ok(Entry {
            node: node.into_owned(),
            incarnation,
            counter,
            stamp: self.stamp,
            expires: self.expires,
            content,
        })
    }
}
