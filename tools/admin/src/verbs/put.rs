//! `put`: writes a key.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
    time::Duration,
};

use clap::{Args, ValueEnum};
use client::{Context, Kind, Put as Change};
use serde_json::{Value, json};

use super::Verb;
use crate::{
    command,
    error::{Code, Failure},
    session::Session,
    show,
};

/// The most that is read of a value, in bytes: far more than nodes take.
const VALUE_BYTES_MAX: u64 = 16 << 20;

/// Write a key
///
/// The value is JSON: an argument, `@FILE`, or `-` for standard input. Of a counter it is the number to add; of a set a JSON
/// array of the elements to add.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  continuum-admin put notes greeting '{\"text\": \"hello\"}'
  continuum-admin put notes big @document.json
  jq .result answer.json | continuum-admin put notes result -
  continuum-admin put notes session '{\"user\": 7}' --ttl 30m
  continuum-admin put notes lock '\"mine\"' --if-absent
  continuum-admin put notes hits 1 --type counter
  continuum-admin put notes balance --type counter -- -5
  continuum-admin put notes tags '[\"red\", \"blue\"]' --type set --remove '\"green\"'

Write only if nobody else has since you read:
  token=$(continuum-admin get notes greeting -o json | jq -r .context)
  continuum-admin put notes greeting '{\"text\": \"bye\"}' --if-context \"$token\"

Exit codes: 1 when the condition did not hold; nothing was changed then.")]
pub(super) struct Put {
    /// The namespace
    namespace: String,
    /// The key
    key: String,
    /// JSON, `@FILE`, or `-` for standard input
    #[arg(required_unless_present = "remove")]
    value: Option<String>,
    /// The type of the key, fixed by its first write
    #[arg(long = "type", value_enum, value_name = "TYPE", default_value = "register")]
    kind: Type,
    /// An element to remove from a set: JSON; may be given several times
    #[arg(long, value_name = "JSON")]
    remove: Vec<String>,
    /// Hide the value from reads after so long: 30m, 12h
    #[arg(long, value_name = "DURATION", value_parser = command::duration)]
    ttl: Option<Duration>,
    /// Write only if the key holds nothing
    #[arg(long, conflicts_with_all = ["if_context", "context_token"])]
    if_absent: bool,
    /// Write only if nobody has written the key since the read that printed this context
    #[arg(long, value_name = "TOKEN", conflicts_with = "context_token")]
    if_context: Option<Context>,
    /// Replace what the read that printed this context has seen; stay beside everything else
    #[arg(long, value_name = "TOKEN")]
    context_token: Option<Context>,
    /// Say what would be replaced, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// The type of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Type {
    /// One value; concurrent ones are resolved by the namespace's strategy
    Register,
    /// Every concurrent value is kept until the reader resolves
    Sibling,
    /// Elements
    Set,
    /// A number that nodes add to
    Counter,
}

impl Verb for Put {
    const NAME: &'static str = "put";

    async fn run(self, session: Session) -> Result<(), Failure> {
        let text = self.value.as_deref().map(read).transpose()?;
        let change = self.change(text.as_deref())?;
        let namespace = session.client()?.namespace(&self.namespace);
        let output = &session.output;
        let name = format!("{}/{}", self.namespace, self.key);
        if self.dry_run {
            let present = namespace.get(&self.key).await?;
            let words = match &present {
                Some(concept) => format!("would write {name}, which holds {}", show::value_line(concept)),
                None => format!("would write {name}, which holds nothing"),
            };
            output.say(&format!("{words}; nothing was changed"));
            let before = present.map(|concept| show::concept(&self.namespace, &concept));
            let json = json!({ "namespace": self.namespace, "key": self.key, "dry_run": true, "before": before });
            return output.data(&json, String::new);
        }
        let written = namespace.put(&self.key, change.return_concept()).await.map_err(told)?;
        let again = if written.replayed { ", by an earlier try" } else { "" };
        output.say(&format!("{name} is written{again}"));
        let concept = written.concept.map(|concept| show::concept(&self.namespace, &concept));
        let json = json!({
            "namespace": self.namespace,
            "key": self.key,
            "dry_run": false,
            "replayed": written.replayed,
            "concept": concept,
        });
        output.data(&json, String::new)
    }
}

impl Put {
    fn change(&self, text: Option<&str>) -> Result<Change, Failure> {
        if !self.remove.is_empty() && self.kind != Type::Set {
            return Err(Failure::usage("--remove is for sets").next("add --type set"));
        }
        let text = text.unwrap_or("[]");
        let change = match self.kind {
            Type::Register => Change::register(json_text(text)?),
            Type::Sibling => Change::sibling(json_text(text)?),
            Type::Counter => Change::counter(text.trim().parse().map_err(|_| {
                Failure::new(Code::Data, format!("`{}` is no whole number of 64 bits", text.trim()))
                    .next("name how much to add; a negative number goes after `--`")
            })?),
            Type::Set => {
                let remove: Result<Vec<String>, Failure> = self.remove.iter().map(|text| json_text(text)).collect();
                Change::set(elements(text)?, remove?)
            }
        };
        let change = match self.ttl {
            Some(ttl) => change.ttl(ttl),
            None => change,
        };
        Ok(match (&self.if_context, &self.context_token) {
            (Some(context), _) => change.if_context(context),
            (None, Some(context)) => change.context(context),
            (None, None) if self.if_absent => change.if_absent(),
            (None, None) => change,
        })
    }
}

/// A condition that did not hold is told with what to do in words of this tool.
pub(super) fn told(error: client::Error) -> Failure {
    let next = match error.kind() {
        Kind::ConditionFailed { exists: true, .. } => {
            Some("it was written since: `get` it, decide again, and use the context that prints")
        }
        Kind::ConditionFailed { exists: false, .. } => Some("it holds nothing any more: write it with --if-absent"),
        _ => None,
    };
    let failure = Failure::from(error);
    match next {
        Some(next) => failure.next(next),
        None => failure,
    }
}

/// An argument as it is, `@FILE`, or `-`.
fn read(value: &str) -> Result<String, Failure> {
    let bytes = if value == "-" {
        let mut bytes = Vec::new();
        let taken = io::stdin().lock().take(VALUE_BYTES_MAX).read_to_end(&mut bytes);
        taken.map_err(|error| Failure::no_input(Path::new("standard input"), &error))?;
        bytes
    } else if let Some(path) = value.strip_prefix('@') {
        let path = Path::new(path);
        fs::read(path).map_err(|error| Failure::no_input(path, &error))?
    } else {
        return Ok(value.to_owned());
    };
    String::from_utf8(bytes).map_err(|_| Failure::new(Code::Data, "the value is no UTF-8").next("JSON is UTF-8"))
}

/// JSON without white space around it, checked here so that a forgotten quote is told in words.
fn json_text(text: &str) -> Result<String, Failure> {
    let text = text.trim();
    match serde_json::from_str::<Value>(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(
            Failure::new(Code::Data, format!("the value is no JSON: {error}")).next(format!(
                "a text needs quotes of its own: '\"{}\"'",
                show::fit(&text.replace(['"', '\''], ""), Some(24))
            )),
        ),
    }
}

fn elements(text: &str) -> Result<Vec<String>, Failure> {
    match serde_json::from_str(text) {
        Ok(Value::Array(elements)) => Ok(elements.iter().map(Value::to_string).collect()),
        _ => Err(Failure::new(Code::Data, "the value is no JSON array")
            .next("name the elements to add in brackets: '[\"red\", \"blue\"]'")),
    }
}
