//! `namespaces`: where concepts live.

use clap::{Args, Subcommand, ValueEnum};
use client::{NamespaceInfo, Replication, Strategy};
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
  continuum-admin namespaces create locks --replication consensus
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
  continuum-admin namespaces create drafts --strategy keep-siblings
  continuum-admin namespaces create locks --replication consensus")]
    Create {
        /// Its name: up to 63 of a-z, 0-9, ".", "_" and "-", a letter or digit first
        name: String,
        /// How concurrent values of a register are resolved
        #[arg(long, value_enum, default_value = "last-write-wins")]
        strategy: Policy,
        /// The road that its writes take, for ever
        #[arg(long, value_enum, default_value = "mesh")]
        replication: Road,
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

/// The road that the writes of a namespace take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Road {
    /// Every node takes writes at any time, also while cut off
    Mesh,
    /// A majority agrees on each write; reads see all that was acknowledged before
    Consensus,
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
            What::Create {
                name,
                strategy,
                replication,
            } => {
                let created = match replication {
                    Road::Mesh => namespaces.create(&name, strategy.into()).await?,
                    Road::Consensus if strategy == Policy::LastWriteWins => namespaces.create_consensus(&name).await?,
                    Road::Consensus => {
                        let refusal = "--strategy is for --replication mesh: values that a majority agreed on are never concurrent";
                        return Err(Failure::usage(refusal).next("leave --strategy out"));
                    }
                };
                output.say(&format!("the namespace {name} is created, {}", kind(&created)));
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
    json!({
        "name": namespace.name,
        "id": namespace.id,
        "replication": road(namespace.replication),
        "strategy": word(namespace.strategy),
    })
}

/// What there is to say of how a namespace takes writes.
fn kind(namespace: &NamespaceInfo) -> &'static str {
    match namespace.replication {
        Replication::Mesh => word(namespace.strategy),
        Replication::Consensus => road(namespace.replication),
    }
}

/// The word for a road, as it is typed.
fn road(replication: Replication) -> &'static str {
    match replication {
        Replication::Mesh => "mesh",
        Replication::Consensus => "consensus",
    }
}

fn table(session: &Session, namespaces: &[NamespaceInfo]) -> String {
    let row = |namespace: &NamespaceInfo| {
        vec![
            namespace.name.clone(),
            namespace.id.to_string(),
            road(namespace.replication).to_owned(),
            match namespace.replication {
                Replication::Mesh => word(namespace.strategy).to_owned(),
                Replication::Consensus => "-".to_owned(),
            },
        ]
    };
    let rows = namespaces.iter().map(row).collect();
    session
        .output
        .table(&["NAMESPACE", "ID", "REPLICATION", "STRATEGY"], &[1], rows)
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
