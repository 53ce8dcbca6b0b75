//! `log-level`: what the node logs.

use clap::Args;
use serde_json::json;

use super::Verb;
use crate::{error::Failure, session::Session};

/// Show what the node logs, or change it until it is started again
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  continuum-admin log-level
  continuum-admin log-level debug
  continuum-admin log-level info,continuum_server=debug")]
pub(super) struct LogLevel {
    /// error, warn, info, debug, trace, or directives such as info,continuum_server=debug
    level: Option<String>,
    /// Say what would be done, and do nothing
    #[arg(long, requires = "level")]
    dry_run: bool,
}

impl Verb for LogLevel {
    const NAME: &'static str = "log-level";

    async fn run(self, session: Session) -> Result<(), Failure> {
        let admin = session.client()?.admin();
        let output = &session.output;
        let Some(level) = self.level else {
            let level = admin.log_level().await?;
            return output.data(&json!({ "level": level }), || format!("{level}\n"));
        };
        let before = if self.dry_run {
            let before = admin.log_level().await?;
            output.say(&format!("would log {level} instead of {before}; nothing was changed"));
            before
        } else {
            let before = admin.set_log_level(&level).await?;
            output.say(&format!(
                "the node logs {level} until it is started again; it was {before}"
            ));
            before
        };
        output.data(
            &json!({ "level": level, "before": before, "dry_run": self.dry_run }),
            String::new,
        )
    }
}
