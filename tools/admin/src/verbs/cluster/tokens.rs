//! How nodes come in: the first by itself, each other one by a token.

use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use client::wire::{InviteRequest, MemberRole};
use serde_json::json;
use server::formation;

use crate::{
    command,
    error::{Code, Failure},
    session::Session,
    show,
};

/// As what a node joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Role {
    /// Votes, once it has caught up
    Voter,
    /// Has everything that is decided, and does not vote
    Learner,
}

#[derive(Args, Debug)]
pub(super) struct Token {
    /// As what the node joins [default: voter; of one that replaces another, what that was]
    #[arg(long, value_enum)]
    role: Option<Role>,
    /// The member whose place the node takes
    #[arg(long, value_name = "NAME")]
    replace: Option<String>,
    #[command(flatten)]
    valid: Valid,
}

#[derive(Args, Debug)]
pub(super) struct AddLearner {
    #[command(flatten)]
    valid: Valid,
}

#[derive(Args, Debug)]
pub(super) struct Replace {
    /// The member whose place the node takes
    name: String,
    #[command(flatten)]
    valid: Valid,
}

#[derive(Args, Clone, Copy, Debug)]
struct Valid {
    /// How long the token is good, at most a week (168h)
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = command::duration)]
    valid: Duration,
}

#[derive(Args, Debug)]
pub(super) struct Join {
    /// The token
    token: String,
}

/// Readies the node to take members.
pub(super) async fn init(session: &Session) -> Result<(), Failure> {
    let cluster = session.client()?.cluster();
    let address = cluster.init().await?;
    let status = cluster.status().await?;
    session.output.say(&format!(
        "{} is a member of the cluster {}, reached at {address}; go on with: continuum-admin cluster token",
        status.node, status.cluster
    ));
    let json = json!({ "cluster": status.cluster, "node": status.node, "address": address });
    session.output.data(&json, String::new)
}

impl Token {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let cluster = session.client()?.cluster();
        let role = match (self.role, &self.replace) {
            (Some(role), _) => role,
            (None, None) => Role::Voter,
            (None, Some(name)) => {
                let members = cluster.status().await?.members;
                let replaced = members.iter().find(|member| member.name == *name);
                match replaced.map(client::wire::ClusterMember::role) {
                    Some(MemberRole::Learner) => Role::Learner,
                    _ => Role::Voter,
                }
            }
        };
        let whole = self.valid.valid.as_secs() + u64::from(self.valid.valid.subsec_nanos() > 0);
        let wanted = match role {
            Role::Voter => MemberRole::Voter,
            Role::Learner => MemberRole::Learner,
        };
        let request = InviteRequest {
            role: wanted.into(),
            valid_s: u32::try_from(whole).unwrap_or(u32::MAX),
            replaces: self.replace.clone().unwrap_or_default(),
        };
        let made = cluster.invite(request).await?;
        let expires = made
            .expires
            .and_then(|at| SystemTime::try_from(at).ok())
            .map(show::time);
        let word = role.to_possible_value().map(|value| value.get_name().to_owned());
        let mut words = "the token is a secret, and good for one node".to_owned();
        if let Some(expires) = &expires {
            words.push_str(&format!(" until {expires}"));
        }
        if let Some(name) = &self.replace {
            words.push_str(&format!(", which takes the place of {name}"));
        }
        words.push_str("; start that node, without data, with it: continuumd --join TOKEN, or CONTINUUM_JOIN=TOKEN in its environment");
        session.output.say(&words);
        let json = json!({ "token": made.token, "role": word, "expires_at": expires, "replaces": self.replace });
        session.output.data(&json, || format!("{}\n", made.token))
    }
}

impl AddLearner {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let token = Token {
            role: Some(Role::Learner),
            replace: None,
            valid: self.valid,
        };
        token.run(session).await
    }
}

impl Replace {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let token = Token {
            role: None,
            replace: Some(self.name),
            valid: self.valid,
        };
        token.run(session).await
    }
}

impl Join {
    /// The tool cannot make a node join; it can say who can.
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let read: Result<formation::Token, _> = self.token.parse();
        let token = read.map_err(|error| {
            Failure::new(Code::Data, error.to_string()).next("have one made: continuum-admin cluster token")
        })?;
        let cluster = engine::backup::hex(&token.cluster);
        let expires = show::time(SystemTime::UNIX_EPOCH + Duration::from_micros(token.expires.0));
        let seeds = token
            .seeds
            .iter()
            .map(|(name, address)| json!({ "name": name, "address": address }));
        let json = json!({
            "cluster": cluster,
            "tls": token.authority.is_some(),
            "seeds": seeds.collect::<Vec<_>>(),
            "expires_at": expires,
        });
        let tls = if token.authority.is_some() { "yes" } else { "no" };
        let mut facts = vec![
            ("cluster", cluster.clone()),
            ("good until", expires),
            ("TLS", tls.to_owned()),
        ];
        let seeds = token.seeds.iter();
        facts.extend(seeds.map(|(name, address)| ("member", format!("{name} at {address}"))));
        session.output.data(&json, || session.output.facts(&facts))?;
        Err(Failure::usage(
            "no node has joined: a node joins when it is started with the token, without data of its own",
        )
        .next("on its machine: continuumd --join TOKEN, or CONTINUUM_JOIN=TOKEN in its environment"))
    }
}
