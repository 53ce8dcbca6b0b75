//! `scan`: the keys of a namespace and what they hold.

use clap::Args;
use client::{Concept, Selection};

use super::Verb;
use crate::{error::Failure, output::Output, session::Session, show};

/// Keys looked at to find out how wide their column should be.
const LOOKED_AT: usize = 200;
/// The widest that the column of keys becomes.
const KEY_COLUMNS_MAX: usize = 48;
/// Columns of the longest word for a type, and what stands between columns.
const KIND_COLUMNS: usize = 8;
const GAP: usize = 2;

/// Print the keys of a namespace and what they hold, as they are at one moment
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  continuum-admin scan notes
  continuum-admin scan notes --prefix user/ --limit 20
  continuum-admin scan notes --start-after user/7 --end user/8
  continuum-admin scan notes --no-contexts -o json > notes.jsonl
  continuum-admin scan notes -o json | jq -r .key")]
pub(super) struct Scan {
    /// The namespace
    namespace: String,
    /// Only keys that begin with this
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    /// Only keys above this one
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    start_after: String,
    /// Only keys below this one
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    end: String,
    /// At most so many keys
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u64>,
    /// Leave contexts and clocks out of the JSON: faster, smaller
    #[arg(long)]
    no_contexts: bool,
}

impl Verb for Scan {
    const NAME: &'static str = "scan";

    async fn run(self, session: Session) -> Result<(), Failure> {
        let output = &session.output;
        let selection = Selection {
            prefix: self.prefix,
            start_after: self.start_after,
            end: self.end,
            contexts: output.is_json() && !self.no_contexts,
        };
        let mut scan = session.client()?.namespace(&self.namespace).scan(selection).await?;
        let mut printer = Printer::new(output, &self.namespace);
        let mut left = self.limit.unwrap_or(u64::MAX);
        while left > 0
            && let Some(concept) = scan.next().await
        {
            printer.print(concept?)?;
            left -= 1;
        }
        printer.finish()
    }
}

/// Prints concepts in columns that are as wide as the first keys need.
pub(super) struct Printer<'a> {
    output: &'a Output,
    namespace: &'a str,
    /// Kept until their widths are known.
    waiting: Vec<Concept>,
    key_columns: Option<usize>,
}

impl<'a> Printer<'a> {
    pub(super) fn new(output: &'a Output, namespace: &'a str) -> Printer<'a> {
        Printer {
            output,
            namespace,
            waiting: Vec::new(),
            key_columns: None,
        }
    }

    pub(super) fn print(&mut self, concept: Concept) -> Result<(), Failure> {
        match self.key_columns {
            Some(columns) => self.one(&concept, columns),
            None if self.output.is_json() => self.one(&concept, 0),
            None => {
                self.waiting.push(concept);
                if self.waiting.len() < LOOKED_AT {
                    return Ok(());
                }
                self.finish()
            }
        }
    }

    /// Prints what waits.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return Ok(());
        }
        let widest = waiting
            .iter()
            .map(|concept| concept.key.chars().count())
            .max()
            .unwrap_or(0);
        let columns = widest.clamp("KEY".len(), KEY_COLUMNS_MAX);
        self.key_columns = Some(columns);
        let heading = format!("{:columns$}  {:KIND_COLUMNS$}  VALUE", "KEY", "TYPE");
        self.output.out(&format!("{}\n", self.output.paint.bold(&heading)))?;
        waiting.iter().try_for_each(|concept| self.one(concept, columns))
    }

    fn one(&self, concept: &Concept, columns: usize) -> Result<(), Failure> {
        let json = || show::concept(self.namespace, concept);
        self.output.line(json, || {
            let (key, kind) = (show::fit(&concept.key, None), show::kind(concept));
            let before = columns.max(key.chars().count()) + KIND_COLUMNS + 2 * GAP;
            let room = self.output.width.map(|width| width.saturating_sub(before).max(GAP));
            format!(
                "{key:columns$}  {kind:KIND_COLUMNS$}  {}",
                show::fit(&show::value_line(concept), room)
            )
        })
    }
}
