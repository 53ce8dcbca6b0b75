//! `completions`: a script for the shell.

use clap::Args;
use clap_complete::Shell;
use serde_json::json;

use super::Verb;
use crate::{command, error::Failure, session::Session};

/// Print a completion script for a shell
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  continuum-admin completions bash > /etc/bash_completion.d/continuum-admin
  continuum-admin completions zsh > ~/.zfunc/_continuum-admin
  continuum-admin completions fish > ~/.config/fish/completions/continuum-admin.fish")]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Verb for Completions {
    const NAME: &'static str = "completions";

    async fn run(self, session: Session) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command::root(), "continuum-admin", &mut script);
        let script = String::from_utf8_lossy(&script).into_owned();
        let json = json!({ "shell": self.shell.to_string(), "script": script });
        session.output.data(&json, || script)
    }
}
