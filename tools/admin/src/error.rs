//! Why a verb failed: what happened, whether anything was changed, what to do next, and the code of `sysexits.h` that tells
//! a script.
//!
//! | the client says | code |
//! |---|---|
//! | nothing is there, a condition does not hold | 1 |
//! | a field breaks its rule, the state of the key forbids it | 65 |
//! | the name is taken | 73 |
//! | no node can be reached, or what is asked for is not served | 69 |
//! | busy, full for now, out of time | 75 |
//! | not allowed | 77 |
//! | the node failed inside | 70 |

use std::{fmt, io, path::Path};

use client::{Changed, Kind};

/// The command line cannot be understood.
pub(crate) const EX_USAGE: u8 = 64;

/// Refusals by what else the node is doing.
const PASSING: [&str; 2] = ["WORK_RUNS", "SNAPSHOT_IN_USE"];

/// The codes a verb ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Nothing is there, or a condition did not hold.
    No = 1,
    /// The command line is wrong in a way that only the verb sees.
    Usage = EX_USAGE as isize,
    /// What was given or found is no valid data.
    Data = 65,
    /// An input file cannot be read.
    NoInput = 66,
    /// No node could be reached.
    Unavailable = 69,
    /// The node, or this program, failed inside.
    Software = 70,
    /// A file or object cannot be created.
    CannotCreate = 73,
    /// Reading or writing failed.
    Io = 74,
    /// Try again.
    Temporary = 75,
    /// Not allowed.
    NotAllowed = 77,
    /// The configuration is wrong.
    Config = 78,
}

/// Why a verb ends without having done what it was asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The reader of standard output has seen enough: no failure to anybody.
    ReaderGone,
    /// Told to people, and to scripts by its code.
    Told {
        /// Tells scripts.
        code: Code,
        /// What happened.
        what: String,
        /// Whether anything was changed, where that can be asked.
        changed: Option<Changed>,
        /// What to do about it.
        next: Option<String>,
    },
}

impl Failure {
    /// Something happened.
    pub(crate) fn new(code: Code, what: impl Into<String>) -> Failure {
        Failure::Told {
            code,
            what: what.into(),
            changed: None,
            next: None,
        }
    }

    /// The command line is wrong; nothing was tried.
    pub(crate) fn usage(what: impl Into<String>) -> Failure {
        Failure::new(Code::Usage, what)
    }

    /// The system refuses.
    pub(crate) fn system(doing: &str, error: &io::Error) -> Failure {
        Failure::new(Code::Io, format!("{doing} failed: {error}"))
    }

    /// An input file cannot be read.
    pub(crate) fn no_input(path: &Path, error: &io::Error) -> Failure {
        Failure::new(Code::NoInput, format!("cannot read {}: {error}", path.display()))
    }

    /// With what to do about it.
    #[must_use]
    pub(crate) fn next(mut self, advice: impl Into<String>) -> Failure {
        if let Failure::Told { next, .. } = &mut self {
            *next = Some(advice.into());
        }
        self
    }

    /// With whether anything was changed; `None` of what only reads.
    #[must_use]
    pub(crate) fn changed(mut self, whether: Option<Changed>) -> Failure {
        if let Failure::Told { changed, .. } = &mut self {
            *changed = whether;
        }
        self
    }

    /// The code of the process.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Failure::ReaderGone => 0,
            Failure::Told { code, .. } => *code as u8,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure::Told {
            what, changed, next, ..
        } = self
        else {
            return Ok(());
        };
        formatter.write_str(what)?;
        match changed {
            Some(Changed::No) => formatter.write_str("\n  nothing was changed")?,
            Some(Changed::Perhaps) => formatter.write_str("\n  it may have been carried out all the same")?,
            None => {}
        }
        match next {
            Some(next) => write!(formatter, "\n  {next}"),
            None => Ok(()),
        }
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Failure {
        let code = match error.kind() {
            Kind::NotFound | Kind::ConditionFailed { .. } => Code::No,
            Kind::Refused if PASSING.contains(&error.reason()) => Code::Temporary,
            Kind::Invalid | Kind::Refused => Code::Data,
            Kind::AlreadyExists => Code::CannotCreate,
            Kind::Unreachable | Kind::Unsupported => Code::Unavailable,
            Kind::Busy | Kind::OutOfTime | Kind::Broken => Code::Temporary,
            Kind::NotAllowed => Code::NotAllowed,
            Kind::Settings | Kind::Tls => Code::Config,
            Kind::Internal => Code::Software,
        };
        let next = match error.kind() {
            Kind::Unreachable => {
                "is continuumd running? Start it with ./tools/run, or name another node with --endpoint HOST:PORT"
                    .to_owned()
            }
            Kind::Tls => {
                "give the cluster's authority with --tls-ca and your certificate with --tls-cert and --tls-key, or none of them to a node without TLS"
                    .to_owned()
            }
            Kind::NotFound if error.reason() == "NAMESPACE_UNKNOWN" => {
                "see what there is: continuum-admin namespaces list; or create it: continuum-admin namespaces create NAME"
                    .to_owned()
            }
            Kind::NotFound if error.reason() == "MEMBER_UNKNOWN" => {
                "see who is: continuum-admin cluster status".to_owned()
            }
            Kind::Busy | Kind::Broken if error.reason() == "NO_QUORUM" => {
                "see who is missing: continuum-admin cluster status; more than half of those that vote must run and reach each other"
                    .to_owned()
            }
            Kind::Refused if code == Code::Temporary => "try again when that is done".to_owned(),
            _ => error.what_to_do().to_owned(),
        };
        Failure::new(code, error.to_string())
            .changed(error.changed())
            .next(next)
    }
}
