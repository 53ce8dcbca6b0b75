//! `get`: what a key holds.

use clap::Args;
use client::{Concept, Value as Held, Version};

use super::Verb;
use crate::{
    error::{Code, Failure},
    session::Session,
    show,
};

/// Print what a key holds
///
/// Prints the JSON of a register as it was written, each value of siblings and each element of a set on a line of its own,
/// the sum of a counter.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  continuum-admin get notes greeting
  continuum-admin get notes greeting --details         who wrote it, when, and the context to write with
  continuum-admin get notes greeting -o json | jq .value

Exit codes: 1 when the key holds nothing.")]
pub(super) struct Get {
    /// The namespace
    namespace: String,
    /// The key
    key: String,
    /// Tell of the type, the writers and the context as well
    #[arg(long)]
    details: bool,
}

impl Verb for Get {
    const NAME: &'static str = "get";

    async fn run(self, session: Session) -> Result<(), Failure> {
        let found = session.client()?.namespace(&self.namespace).get(&self.key).await?;
        let concept = found.ok_or_else(|| nothing(&self.namespace, &self.key))?;
        session.output.data(&show::concept(&self.namespace, &concept), || {
            if self.details {
                details(&session, &concept)
            } else {
                plain(&concept)
            }
        })
    }
}

/// The key holds nothing.
pub(super) fn nothing(namespace: &str, key: &str) -> Failure {
    Failure::new(Code::No, format!("the key {key} holds nothing in {namespace}"))
        .next(format!("see what there is: continuum-admin scan {namespace}"))
}

fn plain(concept: &Concept) -> String {
    let lines = match &concept.value {
        Held::Register(one) => vec![one.json.clone()],
        Held::Siblings(all) => all.iter().map(|one| one.json.clone()).collect(),
        Held::Set(elements) => elements.clone(),
        Held::Counter(total) => vec![total.to_string()],
    };
    lines.into_iter().map(|line| line + "\n").collect()
}

fn details(session: &Session, concept: &Concept) -> String {
    let mut facts = vec![("key", concept.key.clone()), ("type", show::kind(concept).to_owned())];
    match &concept.value {
        Held::Register(one) => facts.extend(version(one)),
        Held::Siblings(all) => facts.extend(all.iter().flat_map(version)),
        Held::Set(elements) => facts.extend(elements.iter().map(|element| ("element", element.clone()))),
        Held::Counter(total) => facts.push(("total", total.to_string())),
    }
    match concept.place {
        Some(place) => {
            facts.push(("revision", place.revision.to_string()));
            facts.push(("created at", place.created_revision.to_string()));
            facts.push(("version", place.version.to_string()));
        }
        None => {
            let clock = concept.clock.iter().map(|(node, count)| format!("{node}: {count}"));
            facts.push(("clock", clock.collect::<Vec<_>>().join(", ")));
        }
    }
    facts.push(("context", concept.context.to_string()));
    session.output.facts(&facts)
}

fn version(version: &Version) -> Vec<(&'static str, String)> {
    let at = version.written_at.map_or_else(
        || "unknown".to_owned(),
        |at| format!("{} ({})", show::time(at), show::ago(at)),
    );
    // Of what a majority has written no single node is named.
    let written = match version.written_by.as_str() {
        "" => at,
        node => format!("{at} by {node}"),
    };
    let mut facts = vec![("value", version.json.clone()), ("written", written)];
    facts.extend(version.expires_at.map(|at| ("expires", show::time(at))));
    facts
}
