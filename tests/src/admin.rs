//! `continuum-admin` as people and scripts run it: a process with an environment, two streams and an exit code.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStderr, Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Node, node::built};

/// Runs `continuum-admin` against one node, with a folder of its own for configuration.
#[derive(Debug)]
pub struct Admin {
    endpoint: Option<String>,
    home: TempDir,
}

/// What a run left.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Admin {
    /// Against this node.
    #[must_use]
    pub fn of(node: &Node) -> Admin {
        Admin {
            endpoint: Some(node.grpc().to_string()),
            ..Admin::alone()
        }
    }

    /// Without a node named.
    ///
    /// # Panics
    /// When there is no directory to be had.
    #[must_use]
    pub fn alone() -> Admin {
        Admin {
            endpoint: None,
            home: TempDir::with_prefix("continuum-admin-").expect("a temporary directory"),
        }
    }

    /// Where it keeps its configuration, and other files may lie.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The command, not yet run. Nothing of the test's own environment changes what it does.
    #[must_use]
    pub fn command<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(built("continuum-admin"));
        if let Some(endpoint) = &self.endpoint {
            command.args(["--endpoint", endpoint]);
        }
        command.args(words).stdin(Stdio::null());
        for name in ["CONTINUUM_ADMIN_ENDPOINT", "NO_COLOR", "TERM", "COLUMNS"] {
            command.env_remove(name);
        }
        command.env("XDG_CONFIG_HOME", self.home.path());
        command
    }

    /// Runs it.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn run(&self, words: &[&str]) -> Ran {
        let output = self.command(words).output();
        Ran::of(output.expect("continuum-admin starts"))
    }

    /// Runs it with something to read.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn run_reading(&self, words: &[&str], input: &str) -> Ran {
        let mut command = self.command(words);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("continuum-admin starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        // Whoever refuses the command line reads nothing.
        let _unread = stdin.write_all(input.as_bytes());
        drop(stdin);
        Ran::of(child.wait_with_output().expect("continuum-admin ends"))
    }

    /// Runs it, expects success, and returns its words to people and its data.
    ///
    /// # Panics
    /// When it fails.
    pub fn ok(&self, words: &[&str]) -> Ran {
        let ran = self.run(words);
        assert_eq!(ran.code, Some(0), "{words:?}: {}", ran.err);
        ran
    }

    /// Starts a watch and waits until it has begun.
    ///
    /// # Panics
    /// When it does not begin.
    #[must_use]
    pub fn watch(&self, words: &[&str]) -> Watching {
        let mut command = self.command(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("continuum-admin starts");
        let mut words_of = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut told = String::new();
        words_of.read_line(&mut told).expect("it tells something");
        assert!(told.starts_with("watching "), "{told}");
        Watching {
            child,
            _words: words_of,
        }
    }
}

/// A watch under way.
#[derive(Debug)]
pub struct Watching {
    child: Child,
    /// Held, so that it may go on telling.
    _words: BufReader<ChildStderr>,
}

impl Watching {
    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn ended(self) -> Ran {
        Ran::of(self.child.wait_with_output().expect("continuum-admin ends"))
    }
}

impl Ran {
    /// From what the system says.
    #[must_use]
    pub fn of(output: Output) -> Ran {
        Ran {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The one document.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.out, self.err))
    }

    /// One object a line.
    ///
    /// # Panics
    /// When a line is none.
    #[must_use]
    pub fn lines(&self) -> Vec<Value> {
        let read = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.out.lines().map(read).collect()
    }
}
