//! `cluster`: who belongs to it, who votes, who leads.
//!
//! ```text
//!  status ─► shown                                  page
//!  init, token, add-learner, replace, join          tokens     how nodes come in
//!  promote, demote, remove, transfer-leader         changes    decided at once, then waited for
//! ```

mod changes;
mod page;
mod tokens;

use clap::{Args, Subcommand};

use super::Verb;
use crate::{
    error::{Code, Failure},
    session::Session,
};

/// Show and change who belongs to the cluster, who votes and who leads
///
/// Any member may be asked. What is changed is decided by the members that vote, so more than half of them must run.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  continuum-admin cluster init                          on the first node
  continuum-admin cluster token                         then continuumd --join TOKEN on each other one
  continuum-admin cluster status
  continuum-admin cluster transfer-leader db2           before maintenance of the node that leads
  continuum-admin cluster replace db3                   a token for the node that takes the place of a lost one
  continuum-admin cluster remove db3")]
pub(super) struct Cluster {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Show the members, and whether anything can be decided
    #[command(after_help = "\
Examples:
  continuum-admin cluster status
  continuum-admin cluster status --endpoint db2:7000
  continuum-admin cluster status -o json | jq -r .leader

How far members are BEHIND only the node that leads knows; others know it of themselves.

Exit codes: 0 when somebody leads, 75 when nothing can be decided now, 69 when no node can be reached.")]
    Status,
    /// Ready a node that stands alone to take members; it is the first one, with all that it holds
    ///
    /// Done again, it changes nothing, unless the node is reached at another address now.
    #[command(
        after_help = "Examples:\n  continuum-admin cluster init\n  continuum-admin cluster init --endpoint db1:7000"
    )]
    Init,
    /// Make a join token, good for one node: a secret
    #[command(after_help = "\
Examples:
  continuum-admin cluster token
  continuum-admin cluster token --role learner --valid 10m
  continuum-admin cluster token --replace db3
  CONTINUUM_JOIN=ctm1.CgEB continuumd --node-id db2 --bind 10.0.0.2:7000     how it is used")]
    Token(tokens::Token),
    /// Make a join token for a node that has everything and does not vote; the same as `token --role learner`
    #[command(
        after_help = "Examples:\n  continuum-admin cluster add-learner\n  continuum-admin cluster add-learner --valid 10m"
    )]
    AddLearner(tokens::AddLearner),
    /// Make a join token for the node that takes the place of a member; the same as `token --replace NAME`
    ///
    /// The member leaves at the moment the new one comes in, whether it can be reached or not. Both may have one name.
    #[command(
        after_help = "Examples:\n  continuum-admin cluster replace db3\n  continuum-admin cluster replace db3 --valid 10m"
    )]
    Replace(tokens::Replace),
    /// Show what a join token holds, and how a node joins with it: by being started with it
    #[command(after_help = "\
Examples:
  continuum-admin cluster join ctm1.CgEB

Exit code: always 64, or 65 when it is no token: only continuumd --join TOKEN makes a node join, with an empty data directory.")]
    Join(tokens::Join),
    /// Let a member vote, and wait until it does
    #[command(
        after_help = "Examples:\n  continuum-admin cluster promote db4\n  continuum-admin cluster promote db4 --timeout 5m"
    )]
    Promote {
        /// The member
        name: String,
    },
    /// Let a member only learn, and wait until it does not vote any more
    #[command(after_help = "Examples:\n  continuum-admin cluster demote db4")]
    Demote {
        /// The member
        name: String,
    },
    /// Take a member out for good, whether it can be reached or not, and wait until it is out
    ///
    /// Its data stay where they are; it comes back only with an empty data directory and a token.
    #[command(
        after_help = "Examples:\n  continuum-admin cluster remove db3\n  continuum-admin cluster remove db3 --dry-run\n  continuum-admin cluster remove db3 --yes"
    )]
    Remove(changes::Remove),
    /// Let another voter lead, and wait until it does
    #[command(after_help = "Examples:\n  continuum-admin cluster transfer-leader db2")]
    TransferLeader {
        /// The voter that shall lead
        name: String,
    },
}

impl Verb for Cluster {
    const NAME: &'static str = "cluster";

    async fn run(self, session: Session) -> Result<(), Failure> {
        match self.what {
            What::Status => status(&session).await,
            What::Init => tokens::init(&session).await,
            What::Token(token) => token.run(&session).await,
            What::AddLearner(token) => token.run(&session).await,
            What::Replace(token) => token.run(&session).await,
            What::Join(join) => join.run(&session),
            What::Promote { name } => changes::set_role(&session, &name, changes::VOTES).await,
            What::Demote { name } => changes::set_role(&session, &name, changes::LEARNS).await,
            What::Remove(remove) => remove.run(&session).await,
            What::TransferLeader { name } => changes::transfer_leader(&session, &name).await,
        }
    }
}

async fn status(session: &Session) -> Result<(), Failure> {
    let status = session.client()?.cluster().status().await?;
    let output = &session.output;
    output.data(&page::json(&status), || page::text(output, &status))?;
    if !page::is_ready_for_others(&status) {
        output.say("the node stands alone: continuum-admin cluster init readies it to take members");
    }
    let trouble = match status.trouble.as_str() {
        "" if !status.leader.is_empty() => return Ok(()),
        "" => "nobody leads",
        trouble => trouble,
    };
    let what = format!("nothing can be decided, as {} sees it: {trouble}", status.node);
    Err(Failure::new(Code::Temporary, what).next(
        "see to it that more than half of those that vote run and reach each other, or wait if one was just lost",
    ))
}
