//! `watch`: every change, as it happens.

use clap::Args;
use client::{Event, Namespace, ResumeToken, Resync, Selection};
use serde_json::{Value, json};

use super::Verb;
use crate::{
    error::{Code, Failure},
    session::Session,
    show,
};

/// Print every change of a namespace's keys, as it happens
///
/// A connection that breaks is opened again where it was: nothing is missed while the node keeps its log.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  continuum-admin watch notes                       until Ctrl-C
  continuum-admin watch notes --prefix user/
  continuum-admin watch notes --count 1             wait for one change
  continuum-admin watch notes -o json | jq -c 'select(.event == \"put\")'
  continuum-admin watch notes --from-token 0a1b2c   every change since; each JSON object has a token
  continuum-admin watch notes --rescan              print what there is first, and again where changes were lost

Exit codes: 75 when changes were lost and --rescan was not given.")]
pub(super) struct Watch {
    /// The namespace
    namespace: String,
    /// Only keys that begin with this
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    /// Begin after the change that printed this token, instead of now
    #[arg(long, value_name = "TOKEN", conflicts_with = "rescan")]
    from_token: Option<ResumeToken>,
    /// End after so many changes
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print every key first, and again whenever the node's log no longer reaches back
    #[arg(long)]
    rescan: bool,
    /// Tell of progress, too: the position, and in JSON the token, while nothing changes
    #[arg(long)]
    progress: bool,
}

impl Verb for Watch {
    const NAME: &'static str = "watch";

    async fn run(self, session: Session) -> Result<(), Failure> {
        let namespace = session.client()?.namespace(&self.namespace);
        let mut left = self.count.unwrap_or(u64::MAX);
        let mut token = self.from_token.clone().unwrap_or_default();
        loop {
            if self.rescan {
                token = self.scan(&session, &namespace).await?;
            }
            let Some(reason) = self.follow(&session, &namespace, &token, &mut left).await? else {
                return Ok(());
            };
            if !self.rescan {
                let what = format!("changes were lost: {reason}");
                return Err(Failure::new(Code::Temporary, what)
                    .next("scan the namespace and watch again, or let --rescan do both"));
            }
            session
                .output
                .say(&format!("changes were lost: {reason}; scanning again"));
        }
    }
}

impl Watch {
    fn selection(&self, session: &Session) -> Selection {
        Selection {
            contexts: session.output.is_json(),
            ..Selection::prefix(&self.prefix)
        }
    }

    /// Prints every key; returns where the watch begins.
    async fn scan(&self, session: &Session, namespace: &Namespace) -> Result<ResumeToken, Failure> {
        let mut scan = namespace.scan(self.selection(session)).await?;
        let lsn = scan.lsn();
        while let Some(concept) = scan.next().await {
            let concept = concept?;
            let json = || json!({ "event": "found", "lsn": lsn, "concept": show::concept(&self.namespace, &concept) });
            let text = || line(session, "found", lsn, &concept.key, &show::value_line(&concept));
            session.output.line(json, text)?;
        }
        Ok(scan.resume_token().clone())
    }

    /// Prints changes until there were enough (`None`), or some were lost.
    async fn follow(
        &self,
        session: &Session,
        namespace: &Namespace,
        token: &ResumeToken,
        left: &mut u64,
    ) -> Result<Option<Resync>, Failure> {
        let mut watch = namespace.watch(self.selection(session), token).await?;
        session.output.say(&format!(
            "watching {} from {}; Ctrl-C ends",
            self.namespace,
            show::number(watch.lsn())
        ));
        while let Some(event) = watch.next().await {
            let event = event?;
            if let Event::Resync { reason } = event {
                return Ok(Some(reason));
            }
            let progress = matches!(event, Event::Progress { .. });
            if progress && !self.progress {
                continue;
            }
            let json = || self.json(&event, watch.resume_token());
            session.output.line(json, || text(session, &event))?;
            *left -= u64::from(!progress);
            if *left == 0 {
                return Ok(None);
            }
        }
        Err(Failure::new(Code::Software, "the watch ended without a reason"))
    }

    fn json(&self, event: &Event, token: &ResumeToken) -> Value {
        let token = token.to_string();
        match event {
            Event::Put { lsn, concept } => {
                json!({ "event": "put", "lsn": lsn, "concept": show::concept(&self.namespace, concept), "token": token })
            }
            Event::Deleted { lsn, key } => {
                json!({ "event": "deleted", "lsn": lsn, "namespace": self.namespace, "key": key, "token": token })
            }
            Event::Progress { lsn } => json!({ "event": "progress", "lsn": lsn, "token": token }),
            Event::Resync { reason } => json!({ "event": "resync", "reason": reason.to_string() }),
        }
    }
}

fn text(session: &Session, event: &Event) -> String {
    match event {
        Event::Put { lsn, concept } => line(session, "put", *lsn, &concept.key, &show::value_line(concept)),
        Event::Deleted { lsn, key } => line(session, "deleted", *lsn, key, ""),
        Event::Progress { lsn } => line(session, "nothing", *lsn, "", ""),
        Event::Resync { reason } => reason.to_string(),
    }
}

fn line(session: &Session, what: &str, lsn: u64, key: &str, value: &str) -> String {
    let paint = session.output.paint;
    let what = format!("{what:7}");
    let what = match what.trim_end() {
        "deleted" => paint.bad(&what),
        "found" | "nothing" => paint.dim(&what),
        _ => paint.good(&what),
    };
    let room = session
        .output
        .width
        .map(|width| width.saturating_sub(key.chars().count() + 23).max(2));
    let line = format!("{lsn:>10}  {what}  {key}  {}", show::fit(value, room));
    line.trim_end().to_owned()
}
