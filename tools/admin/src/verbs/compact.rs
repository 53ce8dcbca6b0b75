//! `compact`: gives room back.

use clap::Args;
use client::wire::CompactRequest;
use serde_json::json;

use super::Verb;
use crate::{
    error::{Code, Failure},
    session::Session,
    show,
};

/// Rewrite the database's files, which gives room back
///
/// Overwritten and deleted data keep their room until then. Nodes do this by themselves where it pays; this does it now, for everything or for a range of keys. Reads and writes go on
/// meanwhile, more slowly. Ctrl-C ends it after the piece under way; what was done stays done.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  continuum-admin compact
  continuum-admin compact --namespace notes
  continuum-admin compact --namespace notes --from user/ --to user0")]
pub(super) struct Compact {
    /// Only this namespace
    #[arg(long, value_name = "NAMESPACE", default_value = "", hide_default_value = true)]
    namespace: String,
    /// Only keys from this one on
    #[arg(
        long,
        value_name = "KEY",
        requires = "namespace",
        default_value = "",
        hide_default_value = true
    )]
    from: String,
    /// Only keys below this one
    #[arg(
        long,
        value_name = "KEY",
        requires = "namespace",
        default_value = "",
        hide_default_value = true
    )]
    to: String,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Verb for Compact {
    const NAME: &'static str = "compact";

    async fn run(self, session: Session) -> Result<(), Failure> {
        let admin = session.client()?.admin();
        let output = &session.output;
        let what = match self.namespace.as_str() {
            "" => "the whole database".to_owned(),
            namespace => format!("the namespace {namespace}"),
        };
        if self.dry_run {
            let families = admin.status().await?.families;
            let bytes: u64 = families.iter().map(|family| family.bytes).sum();
            output.say(&format!(
                "would compact {what}; the database has {} in all; nothing was changed",
                show::bytes(bytes)
            ));
            let json = json!({ "dry_run": true, "before_bytes": bytes });
            return output.data(&json, String::new);
        }
        let request = CompactRequest {
            namespace: self.namespace,
            from: self.from,
            to: self.to,
        };
        let mut messages = admin.compact(request).await?;
        let bar = output.bar("compacting");
        while let Some(message) = messages.next().await? {
            bar.set_length(message.total_bytes);
            bar.set_position(message.done_bytes);
            if message.done {
                bar.finish_and_clear();
                let (before, after) = (message.before_bytes, message.after_bytes);
                output.say(&format!(
                    "{what} is compacted: {} before, {} now",
                    show::bytes(before),
                    show::bytes(after)
                ));
                let json = json!({ "dry_run": false, "before_bytes": before, "after_bytes": after });
                return output.data(&json, String::new);
            }
        }
        Err(
            Failure::new(Code::Software, "the node ended the compaction without saying so")
                .next("run it again: what was done stays done"),
        )
    }
}
