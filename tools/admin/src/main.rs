//! `continuum-admin`: the operator's command line.
//!
//! ```text
//!  command line ──► command   one clap tree, made of the table in verbs
//!                      │
//!                   session   which cluster, how long, how it is shown      contexts   admin.toml: several clusters by name
//!                      │
//!                   verbs/*   one file for each verb ──► client ──► a node
//!                      │                │
//!                   output           error      data to stdout, words to stderr, sysexits codes
//! ```
//!
//! Adding a verb is one file in `verbs`, one line in its table and one schema for each of its leaves: the tests walk the
//! tree and ask for the schema and for an example in the help.
//!
//! Invariants: standard output carries data alone, in the form that `--output` names; whatever destroys asks first or was
//! told `--yes`; a reader of the output that has seen enough is no failure. It exports no variable and reads one.
#![allow(
    clippy::disallowed_methods,
    reason = "a tool of people runs by the real clock; it is no part of the simulated core"
)]

mod command;
mod contexts;
mod error;
mod offline;
mod output;
mod packed;
mod python;
mod receive;
mod rules;
mod session;
mod show;
mod states;
mod sum;
mod verbs;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::{FromArgMatches as _, error::ErrorKind};

use crate::{error::Failure, output::Output, session::Session};

fn main() -> ExitCode {
    let matches = match command::root().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return refuse(&error),
    };
    let options = match command::Options::from_arg_matches(&matches) {
        Ok(options) => options,
        Err(error) => return refuse(&error),
    };
    let output = Output::of(&options);
    match run(&matches, options, output.clone()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.code())
        }
    }
}

/// The command line cannot be understood, or help was asked for.
fn refuse(error: &clap::Error) -> ExitCode {
    let told = error.print();
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    // A reader that closed early has seen enough.
    let gone = told.is_err_and(|error| error.kind() != std::io::ErrorKind::BrokenPipe);
    ExitCode::from(if asked && !gone { 0 } else { error::EX_USAGE })
}

fn run(matches: &clap::ArgMatches, options: command::Options, output: Output) -> Result<(), Failure> {
    let (name, arguments) = matches.subcommand().expect("clap requires a verb");
    let row = verbs::VERBS
        .iter()
        .find(|row| row.name == name)
        .expect("the tree is made of the table");
    let session = Session::new(options, output);
    let running = (row.run)(arguments, session).map_err(|error| Failure::usage(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::system("starting the runtime", &error))?;
    let outcome = runtime.block_on(running);
    // Whoever still waits for a line of standard input has nobody left to give it to.
    runtime.shutdown_background();
    outcome
}
