//! `continuumd`: a node as a process.
//!
//! It reads the command line, starts the node and waits for a signal. Exit codes are those of `sysexits.h`, so that a
//! service manager can tell a wrong setting from a broken disk.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Arg, ArgAction, ArgMatches, Command, builder::NonEmptyStringValueParser, error::ErrorKind};
use continuum_server::{
    config::{self, Effective, ROWS, Row, Sources},
    demo, formation,
    node::{Node, StartError},
    runtime::{self, directory, logs, process, signals::Signals, time::Stopwatch},
};

/// The command line cannot be understood.
const EX_USAGE: u8 = 64;
/// The data are damaged, or of another node or a newer build.
const EX_DATAERR: u8 = 65;
/// An address cannot be served.
const EX_UNAVAILABLE: u8 = 69;
/// The node cannot go on.
const EX_SOFTWARE: u8 = 70;
/// The system gives no thread.
const EX_OSERR: u8 = 71;
/// The data directory cannot be made or written.
const EX_CANTCREAT: u8 = 73;
/// The data directory is in use: try again later.
const EX_TEMPFAIL: u8 = 75;
/// The configuration is wrong.
const EX_CONFIG: u8 = 78;

/// gRPC and HTTP, each with its own connections.
const FACES: u64 = 2;
/// Descriptors the database and the log need beside the connections.
const FILES_BESIDE_CONNECTIONS: u64 = 512;

/// The flags `-h` shows; `--help` shows all.
const OFTEN: [&str; 7] = [
    "node-id",
    "bind",
    "http",
    "insecure-open",
    "data-dir",
    "log-level",
    "log-format",
];

const AFTER_HELP: &str = "\
Examples:
  continuumd                                   serve on loopback, data in ./continuum-data
  continuumd --data-dir /var/lib/continuum --http 127.0.0.1:8080
  continuumd --config /etc/continuum.toml
  CONTINUUM_LOG_FORMAT=json continuumd         every flag is a variable and a file key too
  continuumd demo                              three nodes on this machine, for trying out
  continuumd config print --origin             each effective value and where it comes from
  continuumd config print > continuum.toml     a file to start from
  continuumd config validate continuum.toml

Precedence: flag, environment, file, default. Any variable may be given as NAME_FILE,
naming a file with the value.";

fn main() -> ExitCode {
    let matches = match command_line().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            let told = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return ExitCode::from(if asked && told.is_ok() { 0 } else { EX_USAGE });
        }
    };
    let outcome = match matches.subcommand() {
        Some(("config", config)) => match config.subcommand() {
            Some(("print", print)) => print_config(&matches, print),
            Some(("validate", validate)) => validate_config(validate),
            _ => unreachable!("clap requires one of its subcommands"),
        },
        Some(("demo", asked)) => demonstrate(asked),
        _ => effective(&[&matches]).and_then(|effective| serve(&effective)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, text }) => {
            if let Some(text) = text {
                let _stderr_is_gone = writeln!(io::stderr(), "continuumd: {text}");
            }
            ExitCode::from(code)
        }
    }
}

/// Why the process ends, and with which code.
struct Failure {
    code: u8,
    /// For standard error, unless it was logged.
    text: Option<String>,
}

impl Failure {
    fn told(code: u8, text: impl Into<String>) -> Failure {
        Failure {
            code,
            text: Some(text.into()),
        }
    }
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Failure {
        let count = error.problems.len();
        let text = match count {
            1 => error.to_string(),
            _ => format!(
                "{count} problems in the configuration:\n  {}",
                error.problems.join("\n  ")
            ),
        };
        Failure::told(EX_CONFIG, text)
    }
}

fn command_line() -> Command {
    let print = Command::new("print")
        .about("Print every effective value, as a file that can be loaded")
        .arg(
            Arg::new("origin")
                .long("origin")
                .action(ArgAction::SetTrue)
                .help("Say where each value comes from"),
        )
        .arg(
            Arg::new("output")
                .short('o')
                .long("output")
                .value_parser(["toml", "json"])
                .default_value("toml")
                .help("Form of the output"),
        );
    let validate = Command::new("validate")
        .about("Check a configuration file by itself")
        .arg(
            Arg::new("file")
                .value_name("FILE")
                .required(true)
                .value_parser(clap::value_parser!(PathBuf)),
        );
    let config = Command::new("config")
        .about("Look at the configuration")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_settings(print, true))
        .subcommand(validate);
    let root = Command::new("continuumd")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A node of Continuum, the replicated knowledge database.\nStarted with none of the settings it serves alone, on loopback, with its data in ./continuum-data.")
        .after_help(AFTER_HELP)
        .args_conflicts_with_subcommands(false)
        .subcommand(config)
        .subcommand(demo_command());
    with_settings(root, false)
}

fn demo_command() -> Command {
    Command::new("demo")
        .about("Start a cluster on this machine, for trying out; Ctrl-C stops it")
        .arg(
            Arg::new("nodes")
                .long("nodes")
                .value_name("COUNT")
                .value_parser(clap::value_parser!(u8).range(1..=i64::from(demo::NODES_MAX)))
                .default_value("3")
                .help("How many nodes, each a process"),
        )
        .arg(
            Arg::new("base-port")
                .long("base-port")
                .value_name("PORT")
                .value_parser(clap::value_parser!(u16).range(1..=64_000))
                .help("gRPC of the first node; the others follow, HTTP a thousand above [default: 7000 and 8000, or what is free]"),
        )
        .arg(
            Arg::new("dir")
                .long("dir")
                .value_name("FOLDER")
                .value_parser(clap::value_parser!(PathBuf))
                .help("Where data, certificates and logs lie; the same folder is the same cluster again [default: a temporary one]"),
        )
        .arg(
            Arg::new("insecure-loopback")
                .long("insecure-loopback")
                .action(ArgAction::SetTrue)
                .help("No TLS"),
        )
        .arg(
            Arg::new("output")
                .short('o')
                .long("output")
                .value_parser(["text", "json"])
                .default_value("text")
                .help("json: one line, once the cluster is ready"),
        )
        .after_help("Examples:\n  continuumd demo\n  continuumd demo --nodes 5 --dir ./cluster\n  continuumd demo -o json --base-port 17000")
}

/// A cluster of processes, until a signal comes.
fn demonstrate(asked: &ArgMatches) -> Result<(), Failure> {
    let runtime =
        runtime::build(1).map_err(|error| Failure::told(EX_OSERR, format!("cannot start threads: {error}")))?;
    let told = |error: demo::Error| Failure::told(EX_UNAVAILABLE, error.to_string());
    let program = std::env::current_exe();
    let settings = demo::Settings {
        nodes: *asked.get_one("nodes").expect("it has a default"),
        base_port: asked.get_one("base-port").copied(),
        folder: asked.get_one("dir").cloned(),
        insecure: asked.get_flag("insecure-loopback"),
        program: program.map_err(|error| Failure::told(EX_OSERR, format!("cannot find continuumd itself: {error}")))?,
    };
    runtime.block_on(async {
        let mut signals = Signals::listen()
            .map_err(|error| Failure::told(EX_OSERR, format!("cannot listen for signals: {error}")))?;
        let demo = tokio::select! {
            started = demo::Demo::start(&settings) => started.map_err(told)?,
            _ = signals.next() => return Ok(()),
        };
        let written = match asked.get_one::<String>("output").map(String::as_str) {
            Some("json") => write_out(&format!("{}\n", demo.to_json())),
            _ => write_out(&demo.to_text()),
        };
        if written.is_ok() {
            signals.next().await;
        }
        demo.stop().await.map_err(told)?;
        written
    })
}

/// A flag for each row of the table. `-h` shows those typed often, `--help` all.
fn with_settings(command: Command, hidden: bool) -> Command {
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help(format!("Configuration file, TOML [{}]", config::FILE_VARIABLE))
        .hide(hidden);
    let defaults = config::load(&Sources::default()).expect("the defaults are valid");
    let (later, now): (Vec<_>, Vec<_>) = defaults.rows().partition(|(row, ..)| row.awaits.is_some());
    // Headings stand in the order in which they first occur.
    let settings = now
        .into_iter()
        .chain(later)
        .map(|(row, default, _)| flag(row, &default).hide(hidden));
    command.arg(file).args(settings)
}

/// The flag of one row.
fn flag(row: &'static Row, default: &str) -> Arg {
    let default = if default.is_empty() {
        String::new()
    } else {
        format!(", default {default}")
    };
    let heading = match (row.awaits, row.section()) {
        (Some(_), _) => Some("Accepted, without effect in this version"),
        (None, "") => None,
        (None, "storage") => Some("Storage"),
        (None, "contribution") => Some("Contribution"),
        (None, "http") => Some("Connections"),
        (None, _) => Some("Process"),
    };
    let often = OFTEN.contains(&row.flag);
    let arg = Arg::new(row.key)
        .long(row.flag)
        .value_name(row.placeholder)
        .value_parser(NonEmptyStringValueParser::new())
        .help(format!("{} [{}{default}]", row.help, row.variable))
        .help_heading(heading)
        .hide_short_help(!often);
    if row.placeholder == "BOOL" {
        // `--flag` alone means true.
        arg.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        arg
    }
}

/// The settings in effect; later matches override earlier ones.
fn effective(matches: &[&ArgMatches]) -> Result<Effective, Failure> {
    let given = |key: &str| matches.iter().rev().find_map(|matches| matches.get_one::<String>(key));
    let flags = ROWS
        .iter()
        .enumerate()
        .filter_map(|(row, entry)| Some((row, given(entry.key)?.clone())))
        .collect();
    let file = matches
        .iter()
        .rev()
        .find_map(|matches| matches.get_one::<PathBuf>("config"))
        .cloned();
    let environment = std::env::vars_os()
        .map(|(name, value)| {
            (
                name.to_string_lossy().into_owned(),
                value.to_string_lossy().into_owned(),
            )
        })
        .collect();
    Ok(config::load(&Sources {
        flags,
        environment,
        file,
    })?)
}

fn print_config(root: &ArgMatches, print: &ArgMatches) -> Result<(), Failure> {
    let effective = effective(&[root, print])?;
    let origins = print.get_flag("origin");
    let text = match print.get_one::<String>("output").map(String::as_str) {
        Some("json") => format!("{:#}\n", effective.to_json(origins)),
        _ => effective.to_toml(origins),
    };
    write_out(&text)
}

fn validate_config(validate: &ArgMatches) -> Result<(), Failure> {
    let file = validate.get_one::<PathBuf>("file").expect("clap requires it");
    let effective = config::validate_file(file)?;
    let mut text = String::new();
    for warning in effective.without_effect() {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text.push_str(&format!("{} is valid\n", file.display()));
    write_out(&text)
}

/// A reader that has seen enough (`| head`) is no failure.
fn write_out(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::told(
            EX_OSERR,
            format!("cannot write to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}

fn serve(effective: &Effective) -> Result<(), Failure> {
    let since = Stopwatch::start();
    let settings = &effective.settings;
    logs::start(&settings.log).map_err(|problem| Failure::told(EX_CONFIG, problem))?;
    for warning in effective.without_effect() {
        tracing::warn!("{warning}");
    }
    if settings.node.insecure_open {
        tracing::warn!(
            "insecure_open: addresses beyond loopback are served without TLS; whoever reaches them may read and write"
        );
    }
    let open_files = process::raise_open_files();
    let wanted = FACES * u64::from(settings.http.connections_max) + FILES_BESIDE_CONNECTIONS;
    if open_files < wanted {
        // No warning yet: few nodes see so many callers on both faces. A connection that cannot be accepted is one.
        tracing::info!(
            open_files,
            wanted,
            "the system allows fewer open files than the connections may need; raise its limit (ulimit -n) or lower http.connections_max"
        );
    }
    let runtime = runtime::build(settings.runtime.worker_threads)
        .map_err(|error| Failure::told(EX_OSERR, format!("cannot start threads: {error}")))?;
    let outcome = runtime.block_on(run(settings, since));
    // Whoever still blocks here (a search under way) has nobody left to answer.
    runtime.shutdown_timeout(Duration::from_millis(500));
    outcome
}

async fn run(settings: &config::Settings, since: Stopwatch) -> Result<(), Failure> {
    let mut signals =
        Signals::listen().map_err(|error| Failure::told(EX_OSERR, format!("cannot listen for signals: {error}")))?;
    let node = tokio::select! {
        started = Node::start(settings) => started.map_err(|error| not_started(&error))?,
        signal = signals.next() => {
            tracing::info!(signal, "stopped while starting");
            return Ok(());
        }
    };
    tracing::info!(
        grpc = %node.grpc_address(),
        http = %format_args!("http://{}", node.http_address()),
        data = %node.data_directory().display(),
        node = node.name(),
        version = env!("CARGO_PKG_VERSION"),
        ready_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
        "serving",
    );
    tokio::select! {
        signal = signals.next() => {
            tracing::info!(signal, "stopping: requests under way may finish; a second signal ends the process at once");
        }
        reason = node.failed() => {
            tracing::error!(reason, "the node cannot go on and exits; nothing after the failure was acknowledged, the next start recovers");
            return Err(Failure { code: EX_SOFTWARE, text: None });
        }
    }
    tokio::select! {
        closed = node.shutdown() => match closed {
            Ok(()) => {
                tracing::info!("stopped");
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "the engine was not closed in order; the next start replays its log");
                Err(Failure { code: EX_SOFTWARE, text: None })
            }
        },
        signal = signals.next() => {
            tracing::warn!(signal, "stopped at once; the next start replays the log");
            Err(Failure { code: EX_SOFTWARE, text: None })
        }
    }
}

/// The failure of a start: logged, because a service manager keeps logs, and with a code it can act on.
fn not_started(error: &StartError) -> Failure {
    tracing::error!("{error}");
    let code = match error {
        StartError::Bind { .. } => EX_UNAVAILABLE,
        StartError::Directory(directory::Error::Locked { .. }) => EX_TEMPFAIL,
        StartError::Directory(directory::Error::Another { .. }) => EX_CONFIG,
        StartError::Directory(directory::Error::Unfinished(_)) => EX_DATAERR,
        StartError::Directory(directory::Error::Io { .. }) => EX_CANTCREAT,
        StartError::Engine { .. } | StartError::Consensus(_) | StartError::Limits(_) | StartError::Pool(_) => {
            EX_DATAERR
        }
        StartError::Snapshots(_) => EX_CANTCREAT,
        StartError::Tls(_) | StartError::Token(_) => EX_CONFIG,
        StartError::Formation(error) => match error {
            formation::Error::Unreachable(_) => EX_TEMPFAIL,
            formation::Error::Marker { .. } => EX_CANTCREAT,
            formation::Error::Engine(_) | formation::Error::OfAnother => EX_DATAERR,
            _ => EX_CONFIG,
        },
        StartError::Thread(_) => EX_OSERR,
    };
    Failure { code, text: None }
}
