//! Plain lines: written like any client's, each chunk under a name of its own, so that a break writes nothing twice.

use std::{collections::VecDeque, mem};

use client::{Acknowledgement, Batched, BulkWrite, Client, Put, Strategy, Write};
use serde_json::Value;

use super::{
    Reading,
    chunks::{self, Chunk, UnderWay},
    ensure,
};
use crate::{
    error::{Code, Failure},
    rules,
    verbs::namespaces::{Policy, word},
};

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    key: String,
    change: Change,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Register(String),
    Set(Vec<String>),
}

pub(super) async fn run(reading: &mut Reading<'_>, first: Option<(u64, Vec<u8>)>) -> Result<(), Failure> {
    let import = reading.import;
    let Some(namespace) = &import.namespace else {
        let what = format!("{} is plain, no export: where is it to go?", reading.shown());
        return Err(Failure::usage(what).next("add --namespace NAME"));
    };
    let mut sending = if import.dry_run {
        None
    } else {
        let client = reading.session.client()?;
        let create = import
            .create_namespace
            .then(|| import.strategy.unwrap_or(Policy::LastWriteWins));
        ensure(&client, namespace, create, reading.session).await?;
        replaces(&client, namespace).await?;
        Some(Sending {
            bulk: client.namespace(namespace).bulk(),
            under_way: UnderWay::new(),
        })
    };
    let (mut chunk, mut next) = (Chunk::default(), first);
    let read = loop {
        let Some((number, text)) = next else { break Ok(()) };
        match line(&text, import.key_field.as_deref()) {
            Ok(Some(line)) => {
                if chunk.is_full(text.len()) {
                    send(reading, &mut sending, mem::take(&mut chunk)).await?;
                }
                chunk.push(number, line, text.len());
            }
            // An empty line says nothing.
            Ok(None) => {}
            Err(what) => {
                if let Err(failure) = reading.skip(number, &what) {
                    break Err(failure);
                }
            }
        }
        next = match reading.next() {
            Ok(next) => next,
            Err(failure) => break Err(failure),
        };
    };
    // What stands before a bad line is written all the same.
    if !chunk.items.is_empty() {
        send(reading, &mut sending, chunk).await?;
    }
    if let Some(sending) = &mut sending {
        sending.settle(reading).await?;
    }
    read.map_err(|failure| reading.so_far(failure))?;
    reading.tell("plain", namespace)
}

/// Refuses a namespace in which a write without a context stands beside what is there: run again, the file would put each of
/// its values there once more.
async fn replaces(client: &Client, name: &str) -> Result<(), Failure> {
    match client.namespaces().get(name).await?.strategy {
        Strategy::LastWriteWins | Strategy::HighestNodeWins => Ok(()),
        kept => {
            let what = format!(
                "{name} is {}: each import of plain lines would add its values once more",
                word(kept)
            );
            Err(Failure::new(Code::No, what)
                .next("import into a namespace where one value wins, or export without --plain"))
        }
    }
}

/// Chunks on their way to a node.
struct Sending {
    bulk: BulkWrite,
    under_way: UnderWay<Line>,
}

async fn send(reading: &mut Reading<'_>, sending: &mut Option<Sending>, chunk: Chunk<Line>) -> Result<(), Failure> {
    match sending {
        Some(sending) => sending.send(reading, chunk).await,
        None => {
            reading.written += chunk.items.len() as u64;
            reading.progress();
            Ok(())
        }
    }
}

impl Sending {
    async fn send(&mut self, reading: &mut Reading<'_>, chunk: Chunk<Line>) -> Result<(), Failure> {
        let writes: Vec<Write> = chunk.items.iter().map(Line::write).collect();
        self.under_way.push(chunk);
        let acknowledged = self
            .bulk
            .send(writes)
            .await
            .map_err(|error| reading.so_far(error.into()))?;
        self.take(reading, acknowledged).await
    }

    async fn settle(&mut self, reading: &mut Reading<'_>) -> Result<(), Failure> {
        while self.bulk.unacknowledged() > 0 {
            let acknowledged = self.bulk.settle().await.map_err(|error| reading.so_far(error.into()))?;
            self.take(reading, acknowledged).await?;
        }
        Ok(())
    }

    async fn take(
        &mut self,
        reading: &mut Reading<'_>,
        acknowledged: Vec<Acknowledgement<Batched>>,
    ) -> Result<(), Failure> {
        let mut waiting = VecDeque::from(acknowledged);
        while let Some(Acknowledgement { outcome, .. }) = waiting.pop_front() {
            let mut chunk = self.under_way.acknowledged();
            let Err(error) = outcome else {
                reading.written += chunk.items.len() as u64;
                continue;
            };
            let Some(place) = chunks::place(&error).filter(|place| *place < chunk.items.len()) else {
                return Err(reading.so_far(error.into()));
            };
            reading
                .skip(chunk.numbers[place], &error.to_string())
                .map_err(|failure| reading.so_far(failure))?;
            // Nothing of the chunk has happened: the others go again, behind those already sent.
            chunk.items.remove(place);
            chunk.numbers.remove(place);
            if !chunk.items.is_empty() {
                let writes: Vec<Write> = chunk.items.iter().map(Line::write).collect();
                self.under_way.push(chunk);
                let again = self
                    .bulk
                    .send(writes)
                    .await
                    .map_err(|error| reading.so_far(error.into()))?;
                // Theirs come behind those that are waiting here.
                waiting.extend(again);
            }
        }
        reading.progress();
        Ok(())
    }
}

impl Line {
    fn write(&self) -> Write {
        let put = match &self.change {
            Change::Register(json) => Put::register(json),
            Change::Set(elements) => Put::set(elements.clone(), Vec::new()),
        };
        Write::put(&self.key, put)
    }
}

/// What a line says; nothing when it is empty.
fn line(text: &[u8], key_field: Option<&str>) -> Result<Option<Line>, String> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let read = rules::json(text)?;
    let Value::Object(fields) = &read else {
        return Err("it is no JSON object".to_owned());
    };
    let Some(field) = key_field else {
        return pair(fields).map(Some);
    };
    let key = match fields.get(field) {
        Some(Value::String(key)) => key.clone(),
        Some(Value::Number(number)) => number.as_str().to_owned(),
        Some(_) => {
            return Err(format!(
                "its field `{field}` is no text and no number, so it cannot be the key"
            ));
        }
        None => return Err(format!("it has no field `{field}`, which is to be the key")),
    };
    rules::key(&key)?;
    let change = Change::Register(rules::value(&read)?);
    Ok(Some(Line { key, change }))
}

/// `{"key": …, "value": …}`, with a type where `export --plain` told one.
fn pair(fields: &serde_json::Map<String, Value>) -> Result<Line, String> {
    let known = ["key", "value", "type"];
    let (Some(Value::String(key)), Some(value)) = (fields.get("key"), fields.get("value")) else {
        return Err(
            "it is no {\"key\": \"...\", \"value\": ...}: if one of its fields is the key, name it with --key-field"
                .to_owned(),
        );
    };
    if let Some(unknown) = fields.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(format!(
            "it has a field `{unknown}` beside key and value, which would be lost"
        ));
    }
    rules::key(key)?;
    let change = match fields.get("type").map(Value::as_str) {
        None | Some(Some("register")) => Change::Register(rules::value(value)?),
        Some(Some("set")) => {
            let elements = value.as_array().ok_or("a set's value must be an array")?;
            Change::Set(elements.iter().map(rules::value).collect::<Result<_, _>>()?)
        }
        Some(Some(kind @ ("counter" | "siblings"))) => {
            return Err(format!(
                "a plain line of {kind} would count twice when it is imported twice: export without --plain"
            ));
        }
        Some(_) => return Err("its type is not register or set".to_owned()),
    };
    Ok(Line {
        key: key.clone(),
        change,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, key_field: Option<&str>) -> String {
        line(text.as_bytes(), key_field).unwrap_err()
    }

    fn register(key: &str, json: &str) -> Option<Line> {
        Some(Line {
            key: key.to_owned(),
            change: Change::Register(json.to_owned()),
        })
    }

    #[test]
    fn pairs_and_objects_are_understood() {
        assert_eq!(
            line(br#"{"key":"k","value":{"b":1.50,"a":[]}}"#, None),
            Ok(register("k", r#"{"b":1.50,"a":[]}"#))
        );
        assert_eq!(
            line(br#"{"id":"n1","x":1E5}"#, Some("id")),
            Ok(register("n1", r#"{"id":"n1","x":1E5}"#))
        );
        assert_eq!(line(br#"{"id":7}"#, Some("id")), Ok(register("7", r#"{"id":7}"#)));
        assert_eq!(line(b"  ", None), Ok(None));
        let set = line(br#"{"key":"k","value":[1,"a"],"type":"set"}"#, None)
            .unwrap()
            .unwrap();
        assert_eq!(set.change, Change::Set(vec!["1".to_owned(), "\"a\"".to_owned()]));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(told("[1]", None).contains("no JSON object"));
        assert!(told("{\"id\":\"n1\"}", None).contains("--key-field"));
        assert!(told("{\"key\":\"k\",\"value\":1,\"vlaue\":2}", None).contains("`vlaue`"));
        assert!(told("{\"x\":1}", Some("id")).contains("no field `id`"));
        assert!(told("{\"id\":null}", Some("id")).contains("no text"));
        assert!(told("{\"key\":\"\",\"value\":1}", None).contains("empty"));
        assert!(told("{\"key\":\"k\",\"value\":3,\"type\":\"counter\"}", None).contains("twice"));
        assert!(told("{\"key\":\"k\",\"value\":NaN}", None).contains("column"));
        assert!(told("{\"key\":\"k\",\"key\":\"l\",\"value\":1}", None).contains("twice in one object"));
    }
}
