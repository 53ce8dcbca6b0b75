//! Settings: flag > environment > file > default.
//!
//! ```text
//!   flags ─────────────┐
//!   CONTINUUM_* ───────┤            table::ROWS names each setting once
//!   NODE_ID, … (alias) ┼─► load ─► Effective { Settings, an Origin for each }
//!   FILE (TOML) ───────┤
//!   Default ───────────┘
//! ```
//!
//! Any variable can be given as `NAME_FILE` instead, naming a file that holds the value. An empty variable counts as
//! absent. A key or variable nobody knows is an error that names the nearest one. All problems are told at once.
//!
//! The module refuses to know what a setting does: it reads texts that are handed in, and the file.

mod file;
mod print;
mod settings;
mod table;
mod validate;
mod value;

use std::{
    fmt,
    path::{Path, PathBuf},
};

pub use settings::{
    Contribution, Discovery, DiscoveryMethod, Gossip, Http, Log, LogFormat, Node, Raft, Runtime, Settings, Storage, Tls,
};
pub use table::{ROWS, Row};

/// The variable that names the configuration file when the flag `--config` does not.
pub const FILE_VARIABLE: &str = "CONTINUUM_CONFIG";
const PREFIX: &str = "CONTINUUM_";

/// What variables of `continuum-admin` begin with: they may stand beside a node's own.
const ADMIN_PREFIX: &str = "CONTINUUM_ADMIN_";
const INDIRECT: &str = "_FILE";

/// Where an effective value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A line of the file.
    File(PathBuf, usize),
    /// An environment variable.
    Variable(String),
    /// A file named by an environment variable.
    VariableFile(String, PathBuf),
    /// A flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => formatter.write_str("default"),
            Origin::File(path, line) => write!(formatter, "file {}:{line}", path.display()),
            Origin::Variable(name) => write!(formatter, "environment {name}"),
            Origin::VariableFile(name, path) => write!(formatter, "environment {name} ({})", path.display()),
            Origin::Flag(name) => write!(formatter, "flag --{name}"),
        }
    }
}

/// What is wrong with the configuration, each problem with its place and what to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.join("\n"))]
pub struct Error {
    /// At least one.
    pub problems: Vec<String>,
}

impl Error {
    fn one(problem: String) -> Error {
        Error {
            problems: vec![problem],
        }
    }
}

/// What was said, and by whom.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Flags: row in [`ROWS`], value.
    pub flags: Vec<(usize, String)>,
    /// The process's environment, whole.
    pub environment: Vec<(String, String)>,
    /// The file named by `--config`; [`FILE_VARIABLE`] otherwise.
    pub file: Option<PathBuf>,
}

/// The settings in effect and where each came from.
#[derive(Clone, Debug)]
pub struct Effective {
    /// The settings.
    pub settings: Settings,
    /// One for each row of [`ROWS`].
    origins: Vec<Origin>,
}

impl Effective {
    /// Each row with its effective value and origin.
    pub fn rows(&self) -> impl Iterator<Item = (&'static Row, String, &Origin)> {
        ROWS.iter()
            .zip(&self.origins)
            .map(|(row, origin)| (row, (row.show)(&self.settings), origin))
    }

    /// A warning for each setting someone gave that this version does not heed yet.
    #[must_use]
    pub fn without_effect(&self) -> Vec<String> {
        let given = self.rows().filter(|(_, _, origin)| **origin != Origin::Default);
        given
            .filter_map(|(row, value, origin)| {
                let part = row.awaits?;
                Some(format!(
                    "{} = {value} ({origin}) has no effect: this version has no {part} yet",
                    row.key
                ))
            })
            .collect()
    }
}

/// Puts the sources together.
///
/// # Errors
/// When a key or variable is unknown, a value cannot be read, or the settings do not fit together.
pub fn load(sources: &Sources) -> Result<Effective, Error> {
    let mut layers = Layers {
        settings: Settings::default(),
        origins: vec![Origin::Default; ROWS.len()],
        problems: Vec::new(),
    };
    let variable = lookup(&sources.environment, FILE_VARIABLE).map(PathBuf::from);
    if let Some(path) = sources.file.clone().or(variable) {
        layers.file(&path);
    }
    layers.environment(&sources.environment);
    for (row, text) in &sources.flags {
        let flag = ROWS[*row].flag;
        layers.set(*row, text, Origin::Flag(flag));
    }
    if layers.problems.is_empty() {
        layers.problems = validate::problems(&layers.settings);
    }
    if layers.problems.is_empty() {
        Ok(Effective {
            settings: layers.settings,
            origins: layers.origins,
        })
    } else {
        Err(Error {
            problems: layers.problems,
        })
    }
}

/// Checks a file by itself, without environment and flags.
///
/// # Errors
/// As [`load`].
pub fn validate_file(path: &Path) -> Result<Effective, Error> {
    load(&Sources {
        file: Some(path.to_owned()),
        ..Sources::default()
    })
}

/// The value of a variable; an empty one counts as absent.
fn lookup<'a>(environment: &'a [(String, String)], name: &str) -> Option<&'a str> {
    environment
        .iter()
        .find(|(known, value)| known == name && !value.is_empty())
        .map(|(_, value)| value.as_str())
}

/// The settings while sources are laid over them, lowest first.
struct Layers {
    settings: Settings,
    origins: Vec<Origin>,
    problems: Vec<String>,
}

impl Layers {
    fn set(&mut self, row: usize, text: &str, origin: Origin) {
        let entry = &ROWS[row];
        let unit_misplaced = !entry.counts_bytes() && entry.placeholder == "NUMBER" && text.trim_end().ends_with("iB");
        let read = if unit_misplaced {
            Err(format!("expected a whole number, got `{text}`"))
        } else {
            (entry.read)(&mut self.settings, text)
        };
        match read {
            Ok(()) => self.origins[row] = origin,
            Err(problem) => self.problems.push(format!("{} ({origin}): {problem}", entry.key)),
        }
    }

    fn file(&mut self, path: &Path) {
        let content = match std::fs::read_to_string(path) {
            Ok(content) => content,
            Err(error) => {
                let problem = format!("cannot read the configuration file {}: {error}", path.display());
                return self.problems.push(problem);
            }
        };
        match file::read(path, &content) {
            Ok(found) => {
                for file::Found { row, text, line } in found {
                    self.set(row, &text, Origin::File(path.to_owned(), line));
                }
            }
            Err(error) => self.problems.extend(error.problems),
        }
    }

    fn environment(&mut self, environment: &[(String, String)]) {
        for (row, entry) in ROWS.iter().enumerate() {
            if let Some((name, text)) = entry.alias.and_then(|alias| Some((alias, lookup(environment, alias)?))) {
                self.set(row, text, Origin::Variable(name.to_owned()));
            }
            let direct = lookup(environment, entry.variable);
            let indirect = format!("{}{INDIRECT}", entry.variable);
            match (direct, lookup(environment, &indirect)) {
                (Some(_), Some(_)) => {
                    self.problems
                        .push(format!("{} and {indirect} are both set: keep one", entry.variable));
                }
                (Some(text), None) => self.set(row, text, Origin::Variable(entry.variable.to_owned())),
                (None, Some(path)) => self.indirect(row, &indirect, Path::new(path)),
                (None, None) => {}
            }
        }
        for (name, value) in environment {
            let is_ours = name.starts_with(PREFIX) && !name.starts_with(ADMIN_PREFIX);
            if !value.is_empty() && is_ours && !is_known(name) && !is_service_link(name) {
                let candidates = ROWS.iter().map(|row| row.variable).chain([FILE_VARIABLE]);
                self.problems
                    .push(table::unknown("environment variable", name, candidates));
            }
        }
    }

    fn indirect(&mut self, row: usize, name: &str, path: &Path) {
        match std::fs::read_to_string(path) {
            Ok(content) => self.set(
                row,
                content.trim_end(),
                Origin::VariableFile(name.to_owned(), path.to_owned()),
            ),
            Err(error) => self.problems.push(format!(
                "{name} names {}, which cannot be read: {error}",
                path.display()
            )),
        }
    }
}

fn is_known(name: &str) -> bool {
    let base = name.strip_suffix(INDIRECT);
    name == FILE_VARIABLE
        || ROWS
            .iter()
            .any(|row| row.variable == name || base == Some(row.variable))
}

/// Kubernetes sets `CONTINUUM_SERVICE_HOST`, `CONTINUUM_PORT_7000_TCP` and their like in every pod beside a service of
/// that name; they are nobody's mistake.
fn is_service_link(name: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name
            .split_once("_PORT_")
            .is_some_and(|(_, rest)| rest.starts_with(|first: char| first.is_ascii_digit()))
}

#[cfg(test)]
mod tests;
