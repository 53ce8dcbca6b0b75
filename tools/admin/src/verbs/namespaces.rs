//! `namespaces`: where concepts live.

use clap::{Args, Subcommand, ValueEnum};
use client::{NamespaceInfo, Strategy};
use serde_json::{Value, json};

use super::Verb;
use crate::{error::Failure, session::Session};

/// List and create namespaces, and choose how concurrent values are resolved
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  continuum-admin namespaces list
  continuum-admin namespaces create notes
  continuum-admin namespaces create drafts --strategy keep-siblings
  continuum-admin namespaces set-policy notes merge-union")]
pub(super) struct Namespaces {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// List the namespaces
    #[command(after_help = "Examples:\n  continuum-admin namespaces list\n  continuum-admin namespaces list -o json")]
    List,
    /// Create a namespace
    #[command(after_help = "\
Examples:
  continuum-admin namespaces create notes
  continuum-admin namespaces create drafts --strategy keep-siblings")]
    Create {
        /// Its name: up to 63 of a-z, 0-9, ".", "_" and "-", a letter or digit first
        name: String,
        /// How concurrent values of a register are resolved
        #[arg(long, value_enum, default_value = "last-write-wins")]
        strategy: Policy,
    },
    /// Show one namespace
    #[command(after_help = "Examples:\n  continuum-admin namespaces get notes")]
    Get {
        /// Its name
        name: String,
    },
    /// Change how concurrent values are resolved: at once, for everything stored; nothing stored is changed
    #[command(after_help = "Examples:\n  continuum-admin namespaces set-policy notes merge-union --dry-run")]
    SetPolicy {
        /// Its name
        name: String,
        /// The new strategy
        #[arg(value_enum)]
        strategy: Policy,
        /// Say what would be done, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// How the concurrent values of a register become one when they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Policy {
    /// The newest wins
    LastWriteWins,
    /// That of the highest node name wins
    HighestNodeWins,
    /// Objects are merged field by field, arrays united
    MergeUnion,
    /// All are kept; the reader resolves
    KeepSiblings,
}

impl Verb for Namespaces {
    const NAME: &'static str = "namespaces";

    async fn run(self, session: Session) -> Result<(), Failure> {
        let namespaces = session.client()?.namespaces();
        let output = &session.output;
        match self.what {
            What::List => {
                let all = namespaces.list().await?;
                if all.is_empty() && !output.is_json() {
                    output.say("there are no namespaces yet: continuum-admin namespaces create NAME");
                }
                let json: Vec<Value> = all.iter().map(one).collect();
                output.data(&json!({ "namespaces": json }), || table(&session, &all))
            }
            What::Create { name, strategy } => {
                let created = namespaces.create(&name, strategy.into()).await?;
                output.say(&format!("the namespace {name} is created, {}", word(created.strategy)));
                output.data(&one(&created), String::new)
            }
            What::Get { name } => {
                let found = namespaces.get(&name).await?;
                output.data(&one(&found), || table(&session, std::slice::from_ref(&found)))
            }
            What::SetPolicy {
                name,
                strategy,
                dry_run,
            } => {
                let before = namespaces.get(&name).await?;
                let after = Strategy::from(strategy);
                let (from, to) = (word(before.strategy), word(after));
                if dry_run {
                    output.say(&format!(
                        "would resolve {name} by {to} instead of {from}; nothing was changed"
                    ));
                } else {
                    namespaces.set_policy(&name, after).await?;
                    output.say(&format!("{name} is resolved by {to} now; it was {from}"));
                }
                let json = json!({ "name": name, "id": before.id, "strategy": to, "before": from, "dry_run": dry_run });
                output.data(&json, String::new)
            }
        }
    }
}

fn one(namespace: &NamespaceInfo) -> Value {
    json!({ "name": namespace.name, "id": namespace.id, "strategy": word(namespace.strategy) })
}

fn table(session: &Session, namespaces: &[NamespaceInfo]) -> String {
    let row = |namespace: &NamespaceInfo| {
        vec![
            namespace.name.clone(),
            namespace.id.to_string(),
            word(namespace.strategy).to_owned(),
        ]
    };
    let rows = namespaces.iter().map(row).collect();
    session.output.table(&["NAMESPACE", "ID", "STRATEGY"], &[1], rows)
}

/// The word for a strategy, as it is typed.
pub(super) fn word(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::LastWriteWins => "last-write-wins",
        Strategy::HighestNodeWins => "highest-node-wins",
        Strategy::MergeUnion => "merge-union",
        Strategy::KeepSiblings => "keep-siblings",
    }
}

impl From<Policy> for Strategy {
    fn from(policy: Policy) -> Strategy {
        match policy {
            Policy::LastWriteWins => Strategy::LastWriteWins,
            Policy::HighestNodeWins => Strategy::HighestNodeWins,
            Policy::MergeUnion => Strategy::MergeUnion,
            Policy::KeepSiblings => Strategy::KeepSiblings,
        }
    }
}
