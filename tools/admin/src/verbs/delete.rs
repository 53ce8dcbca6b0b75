//! `delete`: deletes a key.

use clap::Args;
use client::{Context, Delete as Change};
use serde_json::json;

use super::{Verb, get, put};
use crate::{command::Caution, error::Failure, session::Session, show};

/// Delete a key
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  continuum-admin delete notes greeting
  continuum-admin delete notes greeting --yes
  continuum-admin delete notes greeting --dry-run
  continuum-admin delete drafts plan --context-token \"$(continuum-admin get drafts plan -o json | jq -r .context)\"

Exit codes: 1 when there was nothing to delete, or the condition did not hold; nothing was changed then.")]
pub(super) struct Delete {
    /// The namespace
    namespace: String,
    /// The key
    key: String,
    /// Delete only if nobody has written the key since the read that printed this context
    #[arg(long, value_name = "TOKEN", conflicts_with = "context_token")]
    if_context: Option<Context>,
    /// Delete what the read that printed this context has seen; needed where several values are kept
    #[arg(long, value_name = "TOKEN")]
    context_token: Option<Context>,
    #[command(flatten)]
    caution: Caution,
}

impl Verb for Delete {
    const NAME: &'static str = "delete";

    async fn run(self, session: Session) -> Result<(), Failure> {
        let namespace = session.client()?.namespace(&self.namespace);
        let name = format!("{}/{}", self.namespace, self.key);
        // Whoever is asked should see what is at stake.
        let present = if self.caution.yes && !self.caution.dry_run {
            None
        } else {
            let present = namespace.get(&self.key).await?;
            Some(present.ok_or_else(|| get::nothing(&self.namespace, &self.key))?)
        };
        let holding = present.as_ref().map(|concept| {
            let columns = Some(60);
            format!(", which holds {}", show::fit(&show::value_line(concept), columns))
        });
        let what = format!("delete {name}{}", holding.unwrap_or_default());
        let go = session.may(self.caution, &what)?;
        let mut json = json!({ "namespace": self.namespace, "key": self.key, "dry_run": !go });
        if !go {
            json["before"] = json!(present.map(|concept| show::concept(&self.namespace, &concept)));
            return session.output.data(&json, String::new);
        }
        let change = match (&self.if_context, &self.context_token) {
            (Some(context), _) => Change::new().if_context(context),
            (None, Some(context)) => Change::new().context(context),
            // What was shown is what goes, and nothing that was written while the question stood.
            (None, None) => match &present {
                Some(shown) => Change::new().if_context(&shown.context),
                None => Change::new(),
            },
        };
        let deleted = namespace.delete(&self.key, change).await.map_err(put::told)?;
        json["deleted"] = deleted.deleted.into();
        json["replayed"] = deleted.replayed.into();
        session.output.data(&json, String::new)?;
        if deleted.deleted || deleted.replayed {
            session.output.say(&format!("{name} is deleted"));
            Ok(())
        } else {
            Err(get::nothing(&self.namespace, &self.key))
        }
    }
}
