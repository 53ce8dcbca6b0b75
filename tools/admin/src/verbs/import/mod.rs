//! `import`: a file of JSON Lines, or a store of the Python system, into a node.
//!
//! ```text
//!  FILE ─► first line a header? ─┬─ yes: lossless ─► states, joined         namespace as in the header, made when absent
//!                                └─ no:  plain ────► writes, each once      --namespace N, --create-namespace
//!  --from python DIR ─► read whole, every sum compared ─► members, pool, replicated keys
//! ```
//!
//! All three may be run again after whatever ended them: states and pools take it twice without a change, and so does a plain
//! file where one value wins (elsewhere it is refused), whose lines write what they wrote before. Memory is bounded: several chunks, whatever the file holds.

mod chunks;
mod lossless;
mod plain;
mod python;

use std::{
    io,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use client::{Client, Kind};
use indicatif::ProgressBar;
use serde_json::json;

use super::{
    Verb,
    namespaces::{Policy, word},
};
use crate::{
    error::{Code, Failure},
    offline,
    packed::{Lines, STANDARD, Source},
    session::Session,
    show,
    states::Reader,
};

/// Write a file of JSON Lines into a namespace, or take over a store of the Python system
///
/// A file that `export` wrote is known by its first line and makes the same namespace again: types, concurrent values,
/// contexts, stamps and deletions. What is newer at the node stays. Any other file is plain: one JSON object a line, with
/// \"key\" and \"value\"; or, with --key-field, whole objects of which one field is the key. A name that ends in .gz or .zst is
/// unpacked; `-` is standard input.
///
/// An import that was interrupted is run again.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  continuum-admin import wordnet-concepts.jsonl.gz --namespace wordnet --create-namespace --key-field id
  continuum-admin import notes.jsonl.zst                         what `export notes` wrote
  continuum-admin import notes.jsonl --namespace copy-of-notes
  zcat lines.gz | continuum-admin import - --namespace notes --dry-run
  continuum-admin import --from python ./python-store --dry-run
  continuum-admin import --from python ./python-store

A bad line is named by its number: what stands before it is written, nothing behind it is. Plain lines of counters and of
concurrent values cannot be imported twice without counting twice, and are refused: export those without --plain.

Exit codes: 65 when a line, a sum or a file is bad.")]
pub(super) struct Import {
    /// The file, or `-` for standard input; with --from python the directory of the store
    path: PathBuf,
    /// Another system's store
    #[arg(long, value_enum, value_name = "SYSTEM")]
    from: Option<System>,
    /// The namespace to write to; of an export its own by default, of a Python store `replicated`
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Create the namespace when it is not there
    #[arg(long)]
    create_namespace: bool,
    /// How a namespace that is created resolves concurrent values; of an export as it was there by default
    #[arg(long, value_enum)]
    strategy: Option<Policy>,
    /// The field of each object that is its key
    #[arg(long, value_name = "FIELD", conflicts_with = "from")]
    key_field: Option<String>,
    /// Read the file as plain lines, whatever its first one is
    #[arg(long, conflicts_with_all = ["lossless", "from"])]
    plain: bool,
    /// Refuse a file that is no export
    #[arg(long, conflicts_with_all = ["from", "key_field"])]
    lossless: bool,
    /// Whom concepts are attributed to of which a Python store does not say who gave them: a name that no member has
    #[arg(long, value_name = "NAME", default_value = "python-import", requires = "from")]
    contributor: String,
    /// Leave out what is bad, and say so
    #[arg(long)]
    skip_bad: bool,
    /// Read and check everything, and write nothing
    #[arg(long)]
    dry_run: bool,
}

/// A system whose stores are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum System {
    /// The Python federation: shared/, contributions/, replication/ and a file for each node
    Python,
}

impl Verb for Import {
    const NAME: &'static str = "import";

    async fn run(self, session: Session) -> Result<(), Failure> {
        if self.from == Some(System::Python) {
            return python::run(&self, &session).await;
        }
        let source = Source::open(&self.path).map_err(|error| Failure::no_input(&self.path, &error))?;
        let mut reading = Reading {
            bar: session.output.bar("importing"),
            import: &self,
            session: &session,
            lines: source.lines(),
            written: 0,
            bad: 0,
            noted: 0,
        };
        reading.bar.set_length(reading.lines.total_bytes().unwrap_or(0));
        let first = reading.next()?;
        let export = match &first {
            Some((_, line)) if !self.plain && self.key_field.is_none() => Reader::begin(line),
            _ => None,
        };
        let outcome = match export {
            Some(begun) => {
                let (reader, header) = begun.map_err(|what| reading.failure(1, &what))?;
                lossless::run(&mut reading, reader, header).await
            }
            None if self.lossless => Err(reading.failure(1, "it is not the header of an export")),
            None => plain::run(&mut reading, first).await,
        };
        reading.bar.finish_and_clear();
        outcome
    }
}

/// A file that is imported.
struct Reading<'a> {
    import: &'a Import,
    session: &'a Session,
    lines: Lines,
    bar: ProgressBar,
    /// Keys that nodes acknowledged; without a node, those that were checked.
    written: u64,
    /// Lines that were left out.
    bad: u64,
    /// How many of them were told one by one.
    noted: u64,
}

/// Bad lines that are told one by one with `--skip-bad`; the others are counted.
const BAD_TOLD_MAX: u64 = 100;

impl Reading<'_> {
    /// The next line, its own.
    fn next(&mut self) -> Result<Option<(u64, Vec<u8>)>, Failure> {
        let next = self
            .lines
            .next()
            .map(|line| line.map(|(number, line)| (number, line.to_vec())));
        self.bar.set_position(self.lines.read_bytes());
        next.map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&self, error: &io::Error) -> Failure {
        let cut = error.kind() == io::ErrorKind::UnexpectedEof;
        let what = if cut {
            "it is cut off".to_owned()
        } else {
            error.to_string()
        };
        let code = if cut { Code::Data } else { offline::code_of(error) };
        let failure = Failure::new(code, format!("cannot read {}: {what}", self.shown()));
        failure.next("get a whole file, and run it again")
    }

    fn shown(&self) -> String {
        if self.import.path == Path::new(STANDARD) {
            "standard input".to_owned()
        } else {
            self.import.path.display().to_string()
        }
    }

    /// A line that cannot be imported.
    fn failure(&self, number: u64, what: &str) -> Failure {
        let failure = Failure::new(Code::Data, format!("{}, line {number}: {what}", self.shown()));
        failure.next("correct the line and run it again, or leave such lines out with --skip-bad")
    }

    /// Takes note of a bad line, if such lines are to be left out.
    fn skip(&mut self, number: u64, what: &str) -> Result<(), Failure> {
        if !self.import.skip_bad {
            return Err(self.failure(number, what));
        }
        self.bad += 1;
        if self.noted < BAD_TOLD_MAX {
            self.noted += 1;
            let told = format!("{}, line {number}: {what}: left out", self.shown());
            self.bar.suspend(|| self.session.output.say(&told));
        }
        Ok(())
    }

    fn progress(&self) {
        let rate = self.written as f64 / self.bar.elapsed().as_secs_f64().max(0.001);
        let doing = format!(
            "importing {} keys, {}/s",
            show::number(self.written),
            show::number(rate as u64)
        );
        self.bar.set_message(doing);
    }

    /// What was done, of one namespace.
    fn tell(&self, form: &str, namespace: &str) -> Result<(), Failure> {
        self.bar.finish_and_clear();
        let verb = if self.import.dry_run {
            "keys would be written to"
        } else {
            "keys are written to"
        };
        let bad = match self.bad {
            0 => String::new(),
            bad => format!("; {} bad lines were left out", show::number(bad)),
        };
        let told = format!("{} {verb} {namespace}{bad}", show::number(self.written));
        self.session.output.say(&told);
        let json = json!({
            "form": form,
            "namespace": namespace,
            "keys": self.written,
            "bad": self.bad,
            "dry_run": self.import.dry_run,
        });
        self.session.output.data(&json, String::new)
    }

    /// A failure after which some of the file is written.
    fn so_far(&self, failure: Failure) -> Failure {
        self.bar.suspend(|| {
            if self.written > 0 {
                let keys = show::number(self.written);
                self.session
                    .output
                    .say(&format!("{keys} keys are written; run it again to write the rest"));
            }
        });
        failure
    }
}

/// Sees to it that a namespace is there.
async fn ensure(client: &Client, name: &str, create: Option<Policy>, session: &Session) -> Result<(), Failure> {
    match client.namespaces().get(name).await {
        Ok(_) => Ok(()),
        Err(error) if *error.kind() == Kind::NotFound => {
            let Some(policy) = create else {
                let what = format!("there is no namespace {name}");
                return Err(
                    Failure::new(Code::No, what).next("add --create-namespace, or name another with --namespace")
                );
            };
            match client.namespaces().create(name, policy.into()).await {
                Ok(created) => {
                    let told = format!("the namespace {name} is created, {}", word(created.strategy));
                    session.output.say(&told);
                    Ok(())
                }
                // Somebody else was faster.
                Err(error) if *error.kind() == Kind::AlreadyExists => Ok(()),
                Err(error) => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}
