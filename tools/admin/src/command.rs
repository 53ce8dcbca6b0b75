//! The clap tree: options that every verb takes, and the verbs of the table.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Command, ValueEnum};
use jiff::SignedDuration;

use crate::verbs;

/// Names the nodes to ask, with commas between, when neither `--endpoint` nor `--context` does.
pub(crate) const ENDPOINT_VARIABLE: &str = "CONTINUUM_ADMIN_ENDPOINT";

const AFTER_HELP: &str = "\
Examples:
  continuum-admin status                                how the node at 127.0.0.1:7000 stands
  continuum-admin namespaces create notes
  continuum-admin put notes greeting '{\"text\": \"hello\"}'
  continuum-admin get notes greeting
  continuum-admin scan notes --prefix gre -o json       one JSON object a line
  continuum-admin watch notes                           every change, until Ctrl-C
  continuum-admin config set home --endpoint db1:7000 --endpoint db2:7000
  continuum-admin --context home status

Each verb has its own --help, with examples; `continuum-admin man` prints the manual.";

const AFTER_LONG_HELP: &str = "\
Data go to standard output and nothing else does; words, questions and errors go to standard error.

Exit codes, those of sysexits.h:
   0  done
   1  there is no such key, or a condition did not hold: nothing was changed
  64  the command line is wrong
  65  what was given or found is no valid data
  66  an input file cannot be read
  69  no node could be reached
  70  the node failed inside
  73  an output file or object cannot be created, or exists
  74  reading or writing failed
  75  busy, not ready, or out of time: try again
  77  not allowed
  78  the configuration is wrong";

/// What every verb takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Options of every verb")]
pub(crate) struct Options {
    /// Form of the data: a table for people, or JSON: one document, or one object a line where data stream; the schemas
    /// are in tools/admin/schemas
    #[arg(short, long, value_enum, value_name = "FORM", default_value = "table", global = true)]
    pub(crate) output: Form,

    /// A node's gRPC address; may be given several times, the next is asked when one cannot be reached
    /// [env: CONTINUUM_ADMIN_ENDPOINT] [default: the context in use, else 127.0.0.1:7000]
    #[arg(long, value_name = "HOST:PORT", global = true)]
    pub(crate) endpoint: Vec<String>,

    /// The cluster to ask, by its name in admin.toml (see `config`)
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) context: Option<String>,

    /// The authority of the cluster, PEM: connections are made over TLS, to nodes that it signed for
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) tls_ca: Option<PathBuf>,

    /// The certificate to show to nodes that ask for one, PEM
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) tls_cert: Option<PathBuf>,

    /// Its private key, PEM
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) tls_key: Option<PathBuf>,

    /// How long one call may take, retries included; a stream, and making a snapshot: until it begins
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration, global = true)]
    pub(crate) timeout: Duration,

    /// Say nothing but data and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

/// The form of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    // Help says it above; a comment for clap would make a paragraph of each.
    Table,
    Json,
}

/// What every verb takes that destroys.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Caution {
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,

    /// Say what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// The whole tree.
pub(crate) fn root() -> Command {
    // First, for it brings a description of its own.
    let root = Options::augment_args(Command::new("continuum-admin"))
        .version(env!("CARGO_PKG_VERSION"))
        .about("Runs a cluster of Continuum: looks, reads, writes, watches, and looks after a node's files")
        .long_about(None)
        .after_help(AFTER_HELP)
        .after_long_help(format!("{AFTER_HELP}\n\n{AFTER_LONG_HELP}"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true);
    verbs::VERBS.iter().fold(root, |root, row| {
        root.subcommand((row.arguments)(Command::new(row.name)))
    })
}

/// A time with its unit: `10s`, `500ms`, `1h30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("expected a time above zero with its unit, such as 10s, 500ms or 1h30m, got `{text}`");
    let read: SignedDuration = text.parse().map_err(|_| wrong())?;
    let read = Duration::try_from(read).map_err(|_| wrong())?;
    if read.is_zero() { Err(wrong()) } else { Ok(read) }
}

/// A number of bytes, with a unit or without: `10MiB`, `500KB`, `4096`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("expected a number of bytes such as 4096, 500KB or 10MiB, got `{text}`");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit = match text[digits..].trim_start() {
        "" | "B" => 1,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).ok_or_else(wrong)
}
