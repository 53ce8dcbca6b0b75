//! What changes members: decided at once, and then waited for, for raft's own members follow a moment later.

use std::time::{Duration, Instant};

use clap::Args;
use client::{
    Changed, Cluster,
    wire::{ClusterStatusResponse, MemberRole},
};
use serde_json::json;

use crate::{
    command::Caution,
    error::{Code, Failure},
    session::Session,
};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// A role, and the words for who has it.
pub(super) struct Part {
    role: MemberRole,
    name: &'static str,
    now: &'static str,
    not_yet: &'static str,
}

/// Of `promote`.
pub(super) const VOTES: Part = Part {
    role: MemberRole::Voter,
    name: "voter",
    now: "votes",
    not_yet: "shall vote, and does not yet: it votes once it has caught up",
};

/// Of `demote`.
pub(super) const LEARNS: Part = Part {
    role: MemberRole::Learner,
    name: "learner",
    now: "only learns",
    not_yet: "shall only learn, and still votes",
};

/// Looks until `is_so`, or for as long as one call may take. Whether it is.
async fn until(
    session: &Session,
    cluster: &Cluster,
    is_so: impl Fn(&ClusterStatusResponse) -> bool,
) -> Result<bool, Failure> {
    let deadline = Instant::now() + session.timeout();
    loop {
        if is_so(&cluster.status().await?) {
            return Ok(true);
        }
        if Instant::now() + LOOK > deadline {
            return Ok(false);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until something can be decided: what is sent before would hang, and might be decided long after its caller gave up.
async fn decidable(session: &Session, cluster: &Cluster) -> Result<(), Failure> {
    if until(session, cluster, |status| status.trouble.is_empty()).await? {
        return Ok(());
    }
    let status = cluster.status().await?;
    let what = format!("nothing can be decided, as {} sees it: {}", status.node, status.trouble);
    Err(Failure::new(Code::Temporary, what).changed(Some(Changed::No)).next(
        "see who is missing: continuum-admin cluster status; more than half of those that vote must run and reach each other",
    ))
}

fn late(what: String) -> Failure {
    Failure::new(Code::Temporary, what)
        .next("it is decided and goes on by itself: see continuum-admin cluster status, or wait longer with --timeout")
}

/// `promote` and `demote`.
pub(super) async fn set_role(session: &Session, name: &str, part: Part) -> Result<(), Failure> {
    let cluster = session.client()?.cluster();
    decidable(session, &cluster).await?;
    cluster.set_role(name, part.role).await?;
    let wanted = part.role == MemberRole::Voter;
    let done = until(session, &cluster, |status| {
        let member = status
            .members
            .iter()
            .find(|member| member.name == name && member.role() == part.role);
        member.is_some_and(|member| member.known && member.votes == wanted)
    })
    .await?;
    let json = json!({ "name": name, "role": part.name, "done": done });
    session.output.data(&json, String::new)?;
    if !done {
        return Err(late(format!("{name} {}", part.not_yet)));
    }
    session.output.say(&format!("{name} {} now", part.now));
    Ok(())
}

#[derive(Args, Debug)]
pub(super) struct Remove {
    /// The member
    name: String,
    #[command(flatten)]
    caution: Caution,
}

impl Remove {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let (name, output) = (&self.name, &session.output);
        let cluster = session.client()?.cluster();
        let before = cluster.status().await?;
        let found = before
            .members
            .iter()
            .find(|member| member.name == *name && member.role() != MemberRole::Unspecified);
        let found = found.ok_or_else(|| {
            Failure::new(Code::No, format!("{name} is no member of the cluster"))
                .next("see who is: continuum-admin cluster status")
        })?;
        let left = before
            .members
            .iter()
            .filter(|member| member.role() == MemberRole::Voter && member.name != *name)
            .count();
        let what = format!(
            "take {name} ({}) out of the cluster for good, which leaves {left} to vote",
            found.address
        );
        let go = session.may(self.caution, &what)?;
        let mut done = false;
        // Nobody tells one that is out how it went on.
        let asks_itself = before.node == *name;
        if go {
            decidable(session, &cluster).await?;
            cluster.remove(name).await?;
            done = !asks_itself
                && until(session, &cluster, |status| {
                    !status.members.iter().any(|member| member.id == found.id)
                })
                .await?;
        }
        let json = json!({ "name": name, "dry_run": !go, "removed": go, "done": done });
        output.data(&json, String::new)?;
        match (go, done, asks_itself) {
            (false, ..) => {}
            (true, true, _) => output.say(&format!("{name} is out; stop it if it still runs")),
            (true, false, true) => output.say(&format!(
                "{name} is to go, and was itself asked: see at another member whether it is out, continuum-admin cluster status --endpoint HOST:PORT, then stop it"
            )),
            (true, false, false) => return Err(late(format!("{name} is to go, and raft still knows it"))),
        }
        Ok(())
    }
}

/// `transfer-leader`.
pub(super) async fn transfer_leader(session: &Session, name: &str) -> Result<(), Failure> {
    let cluster = session.client()?.cluster();
    let before = cluster.status().await?;
    let member = before.members.iter().find(|member| member.name == name);
    if member.is_some_and(|member| !member.votes) {
        return Err(
            Failure::new(Code::No, format!("{name} does not vote, and so cannot lead"))
                .next(format!("let it vote first: continuum-admin cluster promote {name}")),
        );
    }
    decidable(session, &cluster).await?;
    cluster.hand_over(name).await?;
    let from = Some(&before.leader).filter(|leader| !leader.is_empty());
    session.output.say(&match from {
        Some(from) if from == name => format!("{name} leads, as before"),
        Some(from) => format!("{name} leads now, instead of {from}"),
        None => format!("{name} leads now"),
    });
    session
        .output
        .data(&json!({ "leader": name, "before": from }), String::new)
}
