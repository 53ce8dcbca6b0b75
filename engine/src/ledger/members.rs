//! Who belongs to the cluster: invited, admitted, given a role, removed.
//!
//! ```text
//!  Found ─► the node that stood alone is the first member
//!  Form  ─► several that agreed on each other before there was a cluster are its first members
//!  Invite (sum of a token's secret) ─► Admit (the same sum, a name, raft's number) ─► a member      once; again for the same: nothing
//!  SetRole, Move, Remove
//! ```
//!
//! Here is decided who *should* be a member; whoever leads makes raft's own members follow. A member is a name and raft's number
//! together: a node that was wiped has another number, and comes in only with an invitation of its own.

use serde::{Deserialize, Serialize};

use super::{
    apply::Verdict,
    overlay::{Overlay, Records as _},
};
use crate::{
    clock::Timestamp,
    keyspace::{
        audit::Event as Audited,
        registry::{self, Invitation, Invitations, Member, Role, Roster},
        requests::Outcome as Recorded,
    },
    store::{Error, Family},
};

/// Members a cluster may have.
pub const MEMBERS_MAX: usize = 1_024;
/// Members that may vote: more make every decision slower and little safer.
pub const VOTERS_MAX: usize = 7;
/// Invitations that are kept.
pub const INVITATIONS_MAX: usize = 256;
/// Used or not, an invitation is forgotten so long after it has expired.
const KEPT_US: u64 = 24 * 3_600 * 1_000_000;

/// What changes. As it is here it lies in raft's log and in the audit: never reordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// The node that stands alone is the first member, or says where it is reached now.
    Found {
        /// Its name.
        name: String,
        /// Raft's number of it.
        voter: u64,
        /// `HOST:PORT` at which others reach it.
        address: String,
    },
    /// Whoever has the token may join.
    Invite {
        /// SHA-256 of its secret.
        token: [u8; 32],
        /// As what.
        role: Role,
        /// Until when, by ledger time.
        expires: Timestamp,
        /// The member whose place is taken.
        replaces: Option<String>,
    },
    /// A node joins.
    Admit {
        /// SHA-256 of the secret of its token.
        token: [u8; 32],
        /// Its name.
        name: String,
        /// Raft's number of it.
        voter: u64,
        /// `HOST:PORT` at which others reach it.
        address: String,
    },
    /// A member votes from now on, or does not.
    SetRole {
        /// Whose.
        name: String,
        /// From now on.
        role: Role,
    },
    /// A member leaves, whether it is there or not.
    Remove {
        /// Which.
        name: String,
    },
    /// Those that raft began with are the first members, and vote.
    Form {
        /// Name, raft's number and address of each.
        members: Vec<(String, u64, String)>,
    },
}

impl Change {
    /// How many bytes its texts have.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Change::Found { name, address, .. } | Change::Admit { name, address, .. } => name.len() + address.len(),
            Change::Invite { replaces, .. } => replaces.as_ref().map_or(0, String::len),
            Change::SetRole { name, .. } | Change::Remove { name } => name.len(),
            Change::Form { members } => members.iter().map(|(name, _, at)| name.len() + at.len()).sum(),
        }
    }
}

/// Why members stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// No such token.
    #[error("this cluster knows no such join token: have one made by `continuum-admin cluster token`")]
    TokenUnknown,
    /// Too late.
    #[error("the join token has expired: have another made by `continuum-admin cluster token`")]
    TokenExpired,
    /// Another node has joined with it.
    #[error(
        "`{by}` has joined with this token, and a token is good for one node: have another made by `continuum-admin cluster token`"
    )]
    TokenUsed {
        /// Who.
        by: String,
    },
    /// The name is taken.
    #[error("`{name}` is a member already, with other data: remove it first, or have a token made that replaces it")]
    MemberExists {
        /// The name.
        name: String,
    },
    /// No such member.
    #[error("`{name}` is no member of the cluster")]
    MemberUnknown {
        /// The name.
        name: String,
    },
    /// Nobody would be left to decide anything.
    #[error("`{name}` is the only member that votes: let another vote first")]
    LastVoter {
        /// The name.
        name: String,
    },
    /// There are [`VOTERS_MAX`].
    #[error("{VOTERS_MAX} members vote already: let one of them only learn, or join as a learner")]
    VotersFull,
    /// There are [`MEMBERS_MAX`].
    #[error("there are {MEMBERS_MAX} members already")]
    MembersFull,
    /// There are [`INVITATIONS_MAX`].
    #[error("there are {INVITATIONS_MAX} join tokens already: wait until some of them have expired for a day")]
    InvitationsFull,
}

pub(super) fn change(overlay: &mut Overlay<'_>, now: Timestamp, change: Change) -> Result<Verdict, Error> {
    let mut roster: Roster = overlay
        .record(Family::Registry, &registry::roster())?
        .unwrap_or_default();
    let mut invitations: Invitations = overlay
        .record(Family::Registry, &registry::invitations())?
        .unwrap_or_default();
    let before = (roster.clone(), invitations.clone());
    let verdict = match &change {
        Change::Found { name, voter, address } => found(&mut roster, now, name, *voter, address),
        Change::Invite {
            token,
            role,
            expires,
            replaces,
        } => {
            let invitation = Invitation {
                token: *token,
                role: *role,
                expires: *expires,
                replaces: replaces.clone(),
                used_by: None,
            };
            invite(&roster, &mut invitations, now, invitation)
        }
        Change::Admit {
            token,
            name,
            voter,
            address,
        } => {
            let member = Member {
                name: name.clone(),
                voter: *voter,
                address: address.clone(),
                // The invitation says.
                role: Role::Learner,
                since: now,
            };
            admit(&mut roster, &mut invitations, now, *token, member)
        }
        Change::SetRole { name, role } => set_role(&mut roster, name, *role),
        Change::Remove { name } => remove(&mut roster, name),
        Change::Form { members } => form(&mut roster, now, members),
    };
    if let Err(refusal) = verdict {
        return Ok(Verdict::Refused(super::Refusal::Members(refusal)));
    }
    if before == (roster.clone(), invitations.clone()) {
        return Ok(Verdict::Unchanged(Recorded::MembersChanged));
    }
    overlay.put(Family::Registry, registry::roster(), &roster);
    overlay.put(Family::Registry, registry::invitations(), &invitations);
    Ok(Verdict::Accepted {
        recorded: Recorded::MembersChanged,
        audited: Audited::Members(change),
    })
}

fn found(roster: &mut Roster, now: Timestamp, name: &str, voter: u64, address: &str) -> Result<(), Refusal> {
    if roster.members.is_empty() {
        roster.members.push(Member {
            name: name.to_owned(),
            voter,
            address: address.to_owned(),
            role: Role::Voter,
            since: now,
        });
        return Ok(());
    }
    let place = find(roster, name)?;
    let member = &mut roster.members[place];
    if member.voter != voter {
        return Err(Refusal::MemberExists { name: name.to_owned() });
    }
    address.clone_into(&mut member.address);
    Ok(())
}

/// Each of the first members says this once it hears a leader, so only the first word counts: whoever was removed or moved since stays so.
fn form(roster: &mut Roster, now: Timestamp, members: &[(String, u64, String)]) -> Result<(), Refusal> {
    if !roster.members.is_empty() {
        return Ok(());
    }
    if members.len() > VOTERS_MAX {
        return Err(Refusal::VotersFull);
    }
    roster.members = members
        .iter()
        .map(|(name, voter, address)| Member {
            name: name.clone(),
            voter: *voter,
            address: address.clone(),
            role: Role::Voter,
            since: now,
        })
        .collect();
    roster.members.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(())
}

fn invite(
    roster: &Roster,
    invitations: &mut Invitations,
    now: Timestamp,
    invitation: Invitation,
) -> Result<(), Refusal> {
    if let Some(replaced) = &invitation.replaces {
        find(roster, replaced)?;
    }
    let open = &mut invitations.open;
    open.retain(|kept| now.0 < kept.expires.0.saturating_add(KEPT_US) && kept.token != invitation.token);
    if open.len() >= INVITATIONS_MAX {
        return Err(Refusal::InvitationsFull);
    }
    open.push(invitation);
    Ok(())
}

fn admit(
    roster: &mut Roster,
    invitations: &mut Invitations,
    now: Timestamp,
    token: [u8; 32],
    mut member: Member,
) -> Result<(), Refusal> {
    let invitation = invitations.open.iter_mut().find(|invitation| invitation.token == token);
    let invitation = invitation.ok_or(Refusal::TokenUnknown)?;
    match &invitation.used_by {
        // It asks again because the answer was lost.
        Some((name, voter)) if (name, *voter) == (&member.name, member.voter) => return Ok(()),
        Some((name, _)) => return Err(Refusal::TokenUsed { by: name.clone() }),
        None if invitation.expires < now => return Err(Refusal::TokenExpired),
        None => {}
    }
    member.role = invitation.role;
    let replaced = invitation.replaces.as_ref();
    roster.members.retain(|known| Some(&known.name) != replaced);
    if roster
        .members
        .iter()
        .any(|known| known.name == member.name || known.voter == member.voter)
    {
        return Err(Refusal::MemberExists { name: member.name });
    }
    if roster.members.len() >= MEMBERS_MAX {
        return Err(Refusal::MembersFull);
    }
    match (member.role, voters(roster)) {
        (Role::Learner, 0) => {
            return Err(Refusal::LastVoter {
                name: replaced.cloned().unwrap_or_default(),
            });
        }
        (Role::Voter, VOTERS_MAX..) => return Err(Refusal::VotersFull),
        _ => {}
    }
    invitation.used_by = Some((member.name.clone(), member.voter));
    roster.members.push(member);
    roster.members.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(())
}

fn set_role(roster: &mut Roster, name: &str, role: Role) -> Result<(), Refusal> {
    let others = voters_beside(roster, name);
    let place = find(roster, name)?;
    if role == Role::Learner && others == 0 {
        return Err(Refusal::LastVoter { name: name.to_owned() });
    }
    if role == Role::Voter && others >= VOTERS_MAX {
        return Err(Refusal::VotersFull);
    }
    roster.members[place].role = role;
    Ok(())
}

fn remove(roster: &mut Roster, name: &str) -> Result<(), Refusal> {
    let place = find(roster, name)?;
    if voters_beside(roster, name) == 0 {
        return Err(Refusal::LastVoter { name: name.to_owned() });
    }
    roster.members.remove(place);
    Ok(())
}

fn find(roster: &Roster, name: &str) -> Result<usize, Refusal> {
    let place = roster.members.iter().position(|member| member.name == name);
    place.ok_or_else(|| Refusal::MemberUnknown { name: name.to_owned() })
}

fn voters(roster: &Roster) -> usize {
    roster
        .members
        .iter()
        .filter(|member| member.role == Role::Voter)
        .count()
}

fn voters_beside(roster: &Roster, name: &str) -> usize {
    let others = roster.members.iter().filter(|member| member.name != name);
    others.filter(|member| member.role == Role::Voter).count()
}
