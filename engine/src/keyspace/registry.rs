//! Family `registry`: namespaces, members and cluster-wide settings.
//!
//! ```text
//!  0x01 ‖ name               Namespace   number and policy
//!  0x02 ‖ number (u32 BE)    Name        of the namespace
//!  0x03                      Limits      accepted requests per node and hour; absent: the defaults
//!  0x04                      Head        next namespace number
//!  0x05                      Roster      the members of the cluster that were admitted
//!  0x06                      Invitations who may join
//! ```
//!
//! Namespace numbers are never reused. `system` and `shared` have no record: no client reaches them.

use serde::{Deserialize, Serialize};

use super::{NamespaceId, codec::First};
use crate::{clock::Timestamp, crdt::Strategy};

/// The road a namespace's writes take, chosen at its creation, for ever. Persisted: never reordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Replication {
    /// Every node accepts writes at any time; replicas converge.
    Mesh,
    /// Writes go through the leader; reads are linearizable.
    Consensus,
}

/// What holds for all keys of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespacePolicy {
    /// Fixed at creation.
    pub replication: Replication,
    /// How concurrent values become one at read time; may be changed, for nothing stored depends on it.
    pub strategy: Strategy,
}

/// One namespace, under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its number.
    pub id: NamespaceId,
    /// Its policy.
    pub policy: NamespacePolicy,
}
impl First for Namespace {}

/// The name of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name(pub String);
impl First for Name {}

/// Accepted requests per node and sliding hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Contributions; 1 to [`Limits::PER_HOUR_MAX`].
    pub contribute_per_hour: u32,
    /// Knowledge requests; 1 to [`Limits::PER_HOUR_MAX`].
    pub knowledge_per_hour: u32,
}
impl First for Limits {}

impl Limits {
    /// The highest limit that may be set: a window holds one stamp for each accepted request.
    pub const PER_HOUR_MAX: u32 = 10_000;
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            contribute_per_hour: 100,
            knowledge_per_hour: 50,
        }
    }
}

/// What all namespaces share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The number the next namespace gets.
    pub next: NamespaceId,
}
impl First for Head {}

impl Default for Head {
    fn default() -> Head {
        Head {
            next: NamespaceId::FIRST_USER,
        }
    }
}

/// What a member does for raft. Persisted: never reordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Votes, once it has caught up.
    Voter,
    /// Has all that is decided, and does not vote.
    Learner,
}

/// A member of the cluster, as it should be; raft's own members follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The node's name; one for each member.
    pub name: String,
    /// Raft's number of it.
    pub voter: u64,
    /// `HOST:PORT` at which other members reach it.
    pub address: String,
    /// What it is to do.
    pub role: Role,
    /// Since when.
    pub since: Timestamp,
}

/// All members, by name. Empty: nobody was ever invited, and the node is alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// Each once.
    pub members: Vec<Member>,
}
impl First for Roster {}

/// What a join token allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// SHA-256 of the token's secret.
    pub token: [u8; 32],
    /// As what whoever has it joins.
    pub role: Role,
    /// Until when.
    pub expires: Timestamp,
    /// The member whose place is taken.
    pub replaces: Option<String>,
    /// Who joined with it: name and raft's number. It is good for no other.
    pub used_by: Option<(String, u64)>,
}

/// All invitations that are not long expired, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitations {
    /// Each once.
    pub open: Vec<Invitation>,
}
impl First for Invitations {}

pub(super) const NAMESPACE: u8 = 0x01;
pub(super) const NAME: u8 = 0x02;
pub(super) const LIMITS: u8 = 0x03;
pub(super) const HEAD: u8 = 0x04;
pub(super) const ROSTER: u8 = 0x05;
pub(super) const INVITATIONS: u8 = 0x06;

/// Key of a [`Namespace`].
#[must_use]
pub fn namespace(name: &str) -> Vec<u8> {
    [&[NAMESPACE], name.as_bytes()].concat()
}

/// The name in the key of a [`Namespace`]; `None` for any other key.
#[must_use]
pub fn name_of(key: &[u8]) -> Option<&str> {
    let (&NAMESPACE, name) = key.split_first()? else {
        return None;
    };
    std::str::from_utf8(name).ok()
}

/// End (exclusive) of the keys of [`Namespace`].
#[must_use]
pub fn namespace_end() -> Vec<u8> {
    vec![NAMESPACE + 1]
}

/// Key of a [`Name`].
#[must_use]
pub fn name(id: NamespaceId) -> Vec<u8> {
    [&[NAME], &id.0.to_be_bytes()[..]].concat()
}

/// Key of the [`Limits`].
#[must_use]
pub fn limits() -> Vec<u8> {
    vec![LIMITS]
}

/// Key of the [`Head`].
#[must_use]
pub fn head() -> Vec<u8> {
    vec![HEAD]
}

/// Key of the [`Roster`].
#[must_use]
pub fn roster() -> Vec<u8> {
    vec![ROSTER]
}

/// Key of the [`Invitations`].
#[must_use]
pub fn invitations() -> Vec<u8> {
    vec![INVITATIONS]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::codec::golden;

    #[test]
    fn golden_bytes() {
        let namespace_with = |replication, strategy| Namespace {
            id: NamespaceId(16),
            policy: NamespacePolicy { replication, strategy },
        };
        golden(
            &namespace_with(Replication::Mesh, Strategy::LastWriteWins),
            &[1, 16, 0, 0],
        );
        golden(
            &namespace_with(Replication::Mesh, Strategy::HighestNodeWins),
            &[1, 16, 0, 1],
        );
        golden(
            &namespace_with(Replication::Consensus, Strategy::MergeUnion),
            &[1, 16, 1, 2],
        );
        golden(
            &namespace_with(Replication::Consensus, Strategy::KeepSiblings),
            &[1, 16, 1, 3],
        );
        golden(&Name("ab".into()), &[1, 2, b'a', b'b']);
        golden(
            &Limits {
                contribute_per_hour: 100,
                knowledge_per_hour: 300,
            },
            &[1, 100, 251, 44, 1],
        );
        golden(&Head::default(), &[1, 16]);
        assert_eq!(namespace("ab"), [1, b'a', b'b']);
        assert_eq!(name_of(&namespace("ab")), Some("ab"));
        assert_eq!(name_of(&limits()), None);
        assert_eq!(name(NamespaceId(258)), [2, 0, 0, 1, 2]);
        assert_eq!(limits(), [3]);
        assert_eq!(head(), [4]);
        assert_eq!((roster(), invitations()), (vec![5], vec![6]));
        let member = Member {
            name: "a".to_owned(),
            voter: 300,
            address: "h:1".to_owned(),
            role: Role::Learner,
            since: Timestamp(7),
        };
        let bytes = [1, 1, 1, b'a', 251, 44, 1, 3, b'h', b':', b'1', 1, 7];
        golden(&Roster { members: vec![member] }, &bytes);
        let invitation = Invitation {
            token: [9; 32],
            role: Role::Voter,
            expires: Timestamp(7),
            replaces: Some("b".to_owned()),
            used_by: Some(("a".to_owned(), 5)),
        };
        let bytes = [&[1, 1][..], &[9; 32], &[0, 7, 1, 1, b'b', 1, 1, b'a', 5]].concat();
        golden(&Invitations { open: vec![invitation] }, &bytes);
    }
}
