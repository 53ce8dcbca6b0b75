//! The cluster as it is shown.

use std::time::SystemTime;

use client::wire::{ClusterMember, ClusterStatusResponse, MemberRole};
use serde_json::{Value, json};

use crate::{output::Output, show};

/// Whether the node has members, itself at least: before `init` raft alone knows it.
pub(super) fn is_ready_for_others(status: &ClusterStatusResponse) -> bool {
    status
        .members
        .iter()
        .any(|member| member.role() != MemberRole::Unspecified)
}

pub(super) fn json(status: &ClusterStatusResponse) -> Value {
    let members = status.members.iter().map(|member| {
        json!({
            "name": member.name,
            "address": member.address,
            "id": member.id,
            "role": role(status, member),
            "votes": member.votes,
            "leads": leads(status, member),
            "known": member.known,
            "matched": member.matched,
            "behind": behind(status, member),
            "since": member.since.and_then(|at| SystemTime::try_from(at).ok()).map(show::time),
        })
    });
    json!({
        "cluster": status.cluster,
        "node": status.node,
        "initialised": is_ready_for_others(status),
        "leader": Some(&status.leader).filter(|leader| !leader.is_empty()),
        "term": status.term,
        "committed": status.committed,
        "applied": status.applied,
        "trouble": status.trouble,
        "members": members.collect::<Vec<_>>(),
    })
}

pub(super) fn text(output: &Output, status: &ClusterStatusResponse) -> String {
    let leader = if status.leader.is_empty() {
        output.paint.bad("nobody")
    } else {
        status.leader.clone()
    };
    let facts = [
        ("cluster", status.cluster.clone()),
        ("asked", status.node.clone()),
        ("leader", format!("{leader}, term {}", show::number(status.term))),
        (
            "decided",
            format!(
                "up to {}, applied here up to {}",
                show::number(status.committed),
                show::number(status.applied)
            ),
        ),
    ];
    let row = |member: &ClusterMember| {
        vec![
            member.name.clone(),
            member.address.clone(),
            role(status, member).to_owned(),
            votes(member).to_owned(),
            if leads(status, member) { "yes" } else { "" }.to_owned(),
            behind(status, member).map_or_else(|| "?".to_owned(), show::number),
        ]
    };
    let headings = ["NAME", "ADDRESS", "ROLE", "VOTES", "LEADS", "BEHIND"];
    let table = output.table(&headings, &[5], status.members.iter().map(row).collect());
    format!("{}\n{table}", output.facts(&facts))
}

/// As what it is to be a member.
fn role(status: &ClusterStatusResponse, member: &ClusterMember) -> &'static str {
    match member.role() {
        MemberRole::Voter => "voter",
        MemberRole::Learner => "learner",
        MemberRole::Unspecified if is_ready_for_others(status) => "leaving",
        MemberRole::Unspecified => "alone",
    }
}

fn votes(member: &ClusterMember) -> &'static str {
    match (member.votes, member.role()) {
        (true, _) => "yes",
        (false, MemberRole::Voter) => "not yet",
        (false, _) => "no",
    }
}

fn leads(status: &ClusterStatusResponse, member: &ClusterMember) -> bool {
    // One that was replaced under its own name is there twice for a moment.
    member.known && !status.leader.is_empty() && member.name == status.leader
}

/// Decided entries that it is not known to have.
fn behind(status: &ClusterStatusResponse, member: &ClusterMember) -> Option<u64> {
    let itself = (member.known && member.name == status.node).then_some(status.applied);
    let has = itself.or(member.matched)?;
    Some(status.committed.saturating_sub(has))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, role: MemberRole, votes: bool, matched: Option<u64>) -> ClusterMember {
        ClusterMember {
            name: name.to_owned(),
            role: role.into(),
            votes,
            known: true,
            matched,
            ..ClusterMember::default()
        }
    }

    fn status(members: Vec<ClusterMember>) -> ClusterStatusResponse {
        ClusterStatusResponse {
            node: "one".to_owned(),
            leader: "one".to_owned(),
            committed: 10,
            applied: 9,
            members,
            ..ClusterStatusResponse::default()
        }
    }

    #[test]
    fn members_are_told_apart_by_what_they_should_be_and_are() {
        let status = status(vec![
            member("one", MemberRole::Voter, true, Some(10)),
            member("two", MemberRole::Voter, false, Some(4)),
            member("three", MemberRole::Unspecified, true, None),
        ]);
        let shown = json(&status);
        let field = |name: &str| -> Vec<Value> {
            let members = shown["members"].as_array().unwrap().iter();
            members.map(|member| member[name].clone()).collect()
        };
        assert_eq!(field("role"), ["voter", "voter", "leaving"]);
        assert_eq!(field("leads"), [true, false, false]);
        assert_eq!(field("behind"), [json!(1), json!(6), json!(null)]);
        assert_eq!(votes(&status.members[1]), "not yet");
        assert_eq!(shown["initialised"], true);
    }

    #[test]
    fn a_node_that_stands_alone_is_not_leaving() {
        let alone = status(vec![member("one", MemberRole::Unspecified, true, None)]);
        assert_eq!(json(&alone)["members"][0]["role"], "alone");
        assert_eq!(json(&alone)["initialised"], false);
        let nobody = ClusterStatusResponse {
            leader: String::new(),
            members: vec![member("", MemberRole::Unspecified, true, None)],
            ..ClusterStatusResponse::default()
        };
        assert_eq!(json(&nobody)["leader"], Value::Null);
        assert_eq!(json(&nobody)["members"][0]["leads"], false);
    }
}
