//! `export`: a namespace as a file of JSON Lines.

use std::{io::Write as _, path::PathBuf};

use clap::Args;
use client::{Client, Concept, Replication, Selection, Value as Held, wire::ExportStatesRequest};
use serde_json::json;

use super::{Verb, namespaces::word};
use crate::{
    command::Caution,
    error::{Code, Failure},
    packed::{STANDARD, Target},
    session::Session,
    show,
    states::{Namespace, Writer},
};

/// Write a namespace to a file of JSON Lines
///
/// As it is, the file is lossless: types, concurrent values, contexts, stamps and deleted keys, one key a line; `import` makes
/// the same namespace of it, and its export is equal byte for byte. With --plain it has keys and values alone, as programs
/// like them. A name that ends in .gz or .zst is packed. The file is there whole or not at all.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  continuum-admin export notes notes.jsonl.zst
  continuum-admin export notes - --plain | jq -r .key
  continuum-admin export notes notes.jsonl --yes                 write over the file

Plain lines: {\"key\": ..., \"value\": ...}; a set and concurrent values are arrays, a counter is a number, and \"type\" says so.")]
pub(super) struct Export {
    /// The namespace
    namespace: String,
    /// The file, or `-` for standard output
    file: PathBuf,
    /// Keys and values alone, as they are read; deleted keys are left out
    #[arg(long)]
    plain: bool,
    #[command(flatten)]
    caution: Caution,
}

impl Verb for Export {
    const NAME: &'static str = "export";

    async fn run(self, session: Session) -> Result<(), Failure> {
        let client = session.client()?;
        let shown = self.file.display().to_string();
        if self.caution.dry_run || self.file.exists() {
            let what = if self.file.exists() { "write over" } else { "write" };
            // A namespace that is not there is said before anybody is asked.
            client.namespaces().get(&self.namespace).await?;
            if !session.may(self.caution, &format!("{what} {shown}"))? {
                let json = json!({ "namespace": self.namespace, "file": shown, "dry_run": true });
                return session.output.data(&json, String::new);
            }
        }
        let info = client.namespaces().get(&self.namespace).await?;
        if info.replication == Replication::Consensus && !self.plain {
            let what = format!(
                "{} replicates by consensus: its keys have no contexts or stamps to keep",
                self.namespace
            );
            return Err(
                Failure::new(Code::No, what).next("export it with --plain; continuum-admin backup keeps revisions too")
            );
        }
        let target = Target::create(&self.file).map_err(|error| self.cannot(&error))?;
        let mut writing = Writing {
            export: &self,
            session: &session,
            target,
            keys: 0,
        };
        if self.plain {
            writing.plain(&client).await?;
        } else {
            let namespace = Namespace {
                name: info.name,
                replication: "mesh".to_owned(),
                strategy: word(info.strategy).to_owned(),
            };
            writing.lossless(&client, namespace).await?;
        }
        let keys = writing.keys;
        writing.target.finish().map_err(|error| self.cannot(&error))?;
        let form = if self.plain { "plain" } else { "lossless" };
        let told = format!(
            "{} keys of {} are in {shown}, {form}",
            show::number(keys),
            self.namespace
        );
        if shown == STANDARD {
            return Ok(());
        }
        session.output.say(&told);
        let bytes = std::fs::metadata(&self.file).map_or(0, |metadata| metadata.len());
        let json = json!({
            "namespace": self.namespace,
            "file": shown,
            "form": form,
            "keys": keys,
            "bytes": bytes,
            "dry_run": false,
        });
        session.output.data(&json, String::new)
    }
}

impl Export {
    fn cannot(&self, error: &std::io::Error) -> Failure {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Failure::ReaderGone;
        }
        let what = format!("cannot write {}: {error}", self.file.display());
        Failure::new(Code::CannotCreate, what).next("put that right, or name another file, and run it again")
    }
}

/// A file being written.
struct Writing<'a> {
    export: &'a Export,
    session: &'a Session,
    target: Target,
    keys: u64,
}

impl Writing<'_> {
    async fn lossless(&mut self, client: &Client, namespace: Namespace) -> Result<(), Failure> {
        let request = ExportStatesRequest {
            namespace: namespace.name.clone(),
            ..ExportStatesRequest::default()
        };
        let mut states = client.admin().export_states(request).await?;
        let bar = self.session.output.count("exporting");
        let (mut writer, first) = Writer::begin(namespace);
        self.line(&first)?;
        while let Some(state) = states.next().await {
            self.line(&writer.key(&state?))?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        self.keys = writer.keys();
        self.line(&writer.end())
    }

    async fn plain(&mut self, client: &Client) -> Result<(), Failure> {
        let selection = Selection {
            contexts: false,
            ..Selection::default()
        };
        let mut concepts = client.namespace(&self.export.namespace).scan(selection).await?;
        let bar = self.session.output.count("exporting");
        while let Some(concept) = concepts.next().await {
            self.line(&plain(&concept?))?;
            self.keys += 1;
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn line(&mut self, line: &str) -> Result<(), Failure> {
        self.target
            .write_all(line.as_bytes())
            .map_err(|error| self.export.cannot(&error))
    }
}

/// The line of a concept; the JSON of values as it was written.
fn plain(concept: &Concept) -> String {
    let key = serde_json::Value::from(concept.key.as_str());
    let list = |values: Vec<String>| format!("[{}]", values.join(","));
    let (value, kind) = match &concept.value {
        Held::Register(one) => (one_line(&one.json), ""),
        Held::Siblings(all) => (
            list(all.iter().map(|one| one_line(&one.json)).collect()),
            ",\"type\":\"siblings\"",
        ),
        Held::Set(elements) => (list(elements.clone()), ",\"type\":\"set\""),
        Held::Counter(total) => (total.to_string(), ",\"type\":\"counter\""),
    };
    format!("{{\"key\":{key},\"value\":{value}{kind}}}\n")
}

/// JSON on one line: its writer may have broken it into several.
fn one_line(json: &str) -> String {
    if !json.contains(['\n', '\r']) {
        return json.to_owned();
    }
    engine::json::parse(json.as_bytes()).map_or_else(
        |_| json.replace(['\n', '\r'], " "),
        |value| engine::json::to_text(&value),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_lines_are_json_and_keep_what_was_written() {
        let version = |json: &str| client::Version {
            json: json.to_owned(),
            written_at: None,
            written_by: String::new(),
            expires_at: None,
        };
        let line = |value| {
            plain(&Concept {
                key: "k\"\n".to_owned(),
                value,
                context: client::Context::default(),
                clock: std::collections::BTreeMap::new(),
                place: None,
            })
        };
        assert_eq!(
            line(Held::Register(version("{\"b\": 1.50,\n\"a\":1E5}"))),
            "{\"key\":\"k\\\"\\n\",\"value\":{\"b\":1.50,\"a\":1E5}}\n"
        );
        assert_eq!(
            line(Held::Register(version("{ }"))),
            "{\"key\":\"k\\\"\\n\",\"value\":{ }}\n"
        );
        assert_eq!(
            line(Held::Siblings(vec![version("1"), version("[2]")])),
            "{\"key\":\"k\\\"\\n\",\"value\":[1,[2]],\"type\":\"siblings\"}\n"
        );
        assert_eq!(
            line(Held::Counter(-3)),
            "{\"key\":\"k\\\"\\n\",\"value\":-3,\"type\":\"counter\"}\n"
        );
    }
}
