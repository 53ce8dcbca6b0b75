//! The verbs, one file each, and the table that makes the command line of them.
//!
//! A verb is a struct of its arguments that derives [`clap::Args`]: the comment above it is what help says it does, and its
//! `after_help` has examples. To add one: its file, a line of `mod`, a line of the table, and a schema in `schemas/` for each
//! of its leaves.

use std::pin::Pin;

use clap::{ArgMatches, Args, Command};

use crate::{error::Failure, session::Session};

mod backup;
mod cert;
mod cluster;
mod compact;
mod completions;
mod config;
mod delete;
mod export;
mod get;
mod import;
mod log_level;
mod man;
mod namespaces;
mod put;
mod restore;
mod scan;
mod snapshot;
mod status;
mod verify;
mod wal;
mod watch;

/// The table, in the order of help.
pub(crate) const VERBS: &[Row] = &[
    row::<status::Status>(),
    row::<cluster::Cluster>(),
    row::<namespaces::Namespaces>(),
    row::<get::Get>(),
    row::<put::Put>(),
    row::<delete::Delete>(),
    row::<scan::Scan>(),
    row::<watch::Watch>(),
    row::<import::Import>(),
    row::<export::Export>(),
    row::<snapshot::Snapshot>(),
    row::<backup::Backup>(),
    row::<restore::Restore>(),
    row::<compact::Compact>(),
    row::<verify::Verify>(),
    row::<wal::Wal>(),
    row::<cert::Cert>(),
    row::<log_level::LogLevel>(),
    row::<config::Config>(),
    row::<completions::Completions>(),
    row::<man::Man>(),
];

/// A verb with its arguments.
pub(crate) trait Verb: Args {
    /// Its word on the command line.
    const NAME: &'static str;

    /// Does it.
    async fn run(self, session: Session) -> Result<(), Failure>;
}

/// A verb under way.
pub(crate) type Running = Pin<Box<dyn Future<Output = Result<(), Failure>>>>;

/// A verb in the table.
pub(crate) struct Row {
    /// Its word on the command line.
    pub(crate) name: &'static str,
    /// Puts its arguments on a command.
    pub(crate) arguments: fn(Command) -> Command,
    /// Does it.
    pub(crate) run: fn(&ArgMatches, Session) -> Result<Running, clap::Error>,
}

const fn row<V: Verb + 'static>() -> Row {
    Row {
        name: V::NAME,
        arguments: V::augment_args,
        run: |matches, session| Ok(Box::pin(V::from_arg_matches(matches)?.run(session))),
    }
}
