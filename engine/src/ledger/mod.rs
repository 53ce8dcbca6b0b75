//! Accounts, scores, limits: the linearizable ledger as a pure function.
//!
//! ```text
//!  Proposal ─► apply ─► 1. idempotency   an answered key repeats its outcome, and writes nothing
//!                       2. rate limit    exact sliding hour per node and kind, twilight included
//!                       3. gate          knowledge only: grace below 10 consumed, then ratio ≥ 0.1, twilight passes
//!                       4. effects ─► balances, window, pool, event, registry
//!                       5. audit record, sealed to the one before
//!                       6. outcome kept under its idempotency key
//!
//!  a transaction takes a shorter way: its own names ─► compares ─► rows, one revision ─► its outcome kept under its name
//!
//!  Overlay = View + what earlier proposals of the same batch wrote ──into_batch──► one commit::Batch
//! ```
//!
//! Invariants:
//! - The same proposals over the same view give the same outcomes and, byte for byte, the same writes.
//! - A refused proposal writes nothing: it costs nothing and counts for nothing.
//! - Each content hash enters the pool once, ever, in the same batch that credits it to one account; those adopted from another
//!   system are credited to nobody.
//! - Ledger time never goes back: it is the latest proposer's time seen so far.
//! - Scores are whole numbers; 0.1 is compared as `10 · contributed ≥ consumed`, so that exactly 0.1 passes.
//! - The cost of a command depends on the command, not on how much the pool or the ledger holds.
//!
//! Reads the families `ledger`, `pool`, `requests`, `registry`, `audit` and `consensus` and no others. Refuses to know clocks, chance,
//! HTTP, the text of concepts, and who puts proposals in order.

mod account;
mod adopt;
mod apply;
pub mod audit;
mod decisions;
mod idempotency;
mod members;
mod namespaces;
mod overlay;
mod read;
pub mod rows;
mod transact;
mod window;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    clock::Timestamp,
    crdt::Strategy,
    json::{self, Anonymiser, ContentHash},
    keyspace::NamespaceId,
};

pub use crate::keyspace::{
    ledger::Event,
    pool::ATTRIBUTIONS_MAX,
    registry::{Limits, Member, NamespacePolicy, Replication, Role},
    requests::transactions::{Failed, Got, Performed, Transacted},
};
pub use account::{Standing, Tier};
pub use apply::apply;
pub use decisions::{decode_decisions, encode_decisions};
pub use members::{Change as MemberChange, INVITATIONS_MAX, MEMBERS_MAX, Refusal as MemberRefusal, VOTERS_MAX};
pub use namespaces::{NAMESPACE_NAME_BYTES_MAX, NAMESPACES_MAX};
pub use overlay::Overlay;
pub use read::{
    Attribution, PoolEntry, PoolStats, attribution, contribution_events, limited, limits, members, namespace,
    namespaces, pool_entries, pool_stats, standing, time,
};
pub use transact::{Action, Compare, Holds, TRANSACTION_PARTS_MAX, TRANSACTION_READ_BYTES_MAX, Transaction};

/// Consumed requests below which the gate stands open to everybody.
pub const GRACE_REQUESTS: u64 = 10;
/// The ratio of contributed to consumed from which on the gate opens.
pub const RATIO_MINIMUM: f64 = 0.1;

/// A member's name: 1 to 256 bytes of UTF-8 without control characters. Data, never a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct NodeId(String);

impl TryFrom<String> for NodeId {
    type Error = NodeIdError;
    fn try_from(name: String) -> Result<NodeId, NodeIdError> {
        NodeId::new(name)
    }
}

/// Why a text is no member's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeIdError {
    /// Nothing there.
    #[error("a node id must not be empty")]
    Empty,
    /// More than [`NodeId::BYTES_MAX`].
    #[error("a node id has at most {} bytes", NodeId::BYTES_MAX)]
    TooLong,
    /// A character of Unicode's category Cc.
    #[error("a node id has no control characters")]
    ControlCharacter,
}

impl NodeId {
    /// The longest name, in bytes.
    pub const BYTES_MAX: usize = 256;

    /// Checks a name.
    ///
    /// # Errors
    /// [`NodeIdError`] says which rule it breaks.
    pub fn new(name: impl Into<String>) -> Result<NodeId, NodeIdError> {
        let name = name.into();
        if name.is_empty() {
            return Err(NodeIdError::Empty);
        }
        if name.len() > NodeId::BYTES_MAX {
            return Err(NodeIdError::TooLong);
        }
        if name.chars().any(char::is_control) {
            return Err(NodeIdError::ControlCharacter);
        }
        Ok(NodeId(name))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A command with all that apply may not look up for itself. As it and its parts are here they lie in raft's log
/// ([`crate::keyspace::raft_log`]): fields and variants are never reordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// The proposer's wall time; ledger time = max(previous, this).
    pub at: Timestamp,
    /// Present when the caller may retry.
    pub idempotency: Option<Idempotency>,
    /// What is asked.
    pub command: Command,
}

/// Makes a retry safe: the first outcome is kept for 24 hours and repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idempotency {
    /// Who chose the key; keys of different callers never meet. At most 256 bytes.
    pub caller: String,
    /// The caller's key; at most 256 bytes.
    pub key: String,
    /// SHA-256 of the request (route and body): another request under the same key is refused.
    pub body: [u8; 32],
}

/// All that may be asked of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Makes a member known; again with `verified` upgrades it.
    Register {
        /// Who.
        node: NodeId,
        /// Whether the constant was shown.
        verified: bool,
    },
    /// Gives concepts to the pool.
    Contribute {
        /// Who.
        node: NodeId,
        /// At most 1,000; the door checks.
        concepts: Vec<PoolConcept>,
    },
    /// Pays 1.0 for one knowledge request.
    Consume {
        /// Who.
        node: NodeId,
    },
    /// Changes the limits of all members, from the next request on.
    SetLimits(Limits),
    /// Takes over members and concepts of another system; again, it changes nothing.
    Adopt {
        /// Whom the concepts are attributed to: an account that nobody uses, opened with the first of them.
        contributor: NodeId,
        /// At most 1,000; the door checks.
        members: Vec<AdoptedMember>,
        /// At most 1,000; the door checks.
        concepts: Vec<AdoptedConcept>,
    },
    /// Creates a namespace.
    CreateNamespace {
        /// `[a-z0-9][a-z0-9._-]{0,62}`, and neither `system` nor `shared`.
        name: String,
        /// Its policy; the replication is for ever.
        policy: NamespacePolicy,
    },
    /// Changes how concurrent values of a namespace are read.
    SetNamespacePolicy {
        /// Of the namespace.
        name: String,
        /// From now on.
        strategy: Strategy,
    },
    /// Compares and changes keys of a namespace with `replication = consensus`.
    Transact(Transaction),
    /// Changes who belongs to the cluster.
    Members(MemberChange),
}

/// An anonymised concept and its identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolConcept {
    /// Its identity.
    pub hash: ContentHash,
    /// Anonymised JSON text, numbers and key order as sent.
    pub json: String,
}

impl PoolConcept {
    /// Anonymises `concept`; `None` when nothing is left of it.
    #[must_use]
    pub fn new(mut concept: Value, rules: &Anonymiser) -> Option<PoolConcept> {
        rules.anonymise(&mut concept);
        if concept.as_object().is_some_and(serde_json::Map::is_empty) {
            return None;
        }
        Some(PoolConcept {
            hash: ContentHash::of(&concept),
            json: json::to_text(&concept),
        })
    }
}

/// A member as another system knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptedMember {
    /// Who.
    pub node: NodeId,
    /// When it registered there, if it did.
    pub registered_at: Option<Timestamp>,
    /// Whether it showed the constant.
    pub verified: bool,
    /// Lifetime total of concepts credited; the account's becomes at least this.
    pub contributed: u64,
    /// Lifetime total of knowledge requests; the account's becomes at least this.
    pub consumed: u64,
    /// Its latest contributions, oldest first; the last 100 are taken, by an account that has none.
    pub contributions: Vec<AdoptedContribution>,
}

/// A contribution as another system knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptedContribution {
    /// When.
    pub at: Timestamp,
    /// Concepts credited.
    pub new: u64,
}

/// A concept of another system's pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptedConcept {
    /// Anonymised, under the identity that it has here.
    pub concept: PoolConcept,
    /// When it was first given there; its age here.
    pub first_at: Timestamp,
}

/// A namespace and its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Never reused.
    pub id: NamespaceId,
    /// As created.
    pub name: String,
    /// Now.
    pub policy: NamespacePolicy,
}

/// The kinds of requests with a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limited {
    /// Contributions.
    Contribute,
    /// Knowledge requests.
    Knowledge,
}

/// What came of a proposal, and whether it came of it before. As it and its parts are here they travel between nodes
/// ([`encode_decisions`]): fields and variants are never reordered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// What came of it.
    pub outcome: Outcome,
    /// Told again under its idempotency key: nothing was done or written this time.
    pub repeated: bool,
}

/// What came of a proposal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// Of [`Command::Register`].
    Registered {
        /// Whether it had been registered before.
        already: bool,
        /// Of the first registration.
        registered_at: Timestamp,
        /// Now.
        standing: Standing,
    },
    /// Of [`Command::Contribute`].
    Contributed {
        /// Concepts credited.
        new: u64,
        /// Concepts that the pool had, or that came twice in the request.
        duplicates: u64,
        /// Now.
        standing: Standing,
    },
    /// Charged 1.0; the answer may be read once the local pool counter has reached `pool_counter`.
    Charged {
        /// The pool's counter at the charge.
        pool_counter: u64,
        /// Now.
        standing: Standing,
    },
    /// Of [`Command::Adopt`].
    Adopted {
        /// Members that had no account.
        members_new: u64,
        /// Members that had one.
        members_known: u64,
        /// Concepts that the pool did not have.
        concepts_new: u64,
        /// Concepts that it had, or that came twice.
        concepts_known: u64,
    },
    /// Of [`Command::SetLimits`], [`Command::SetNamespacePolicy`] and [`Command::Members`].
    Done,
    /// Of [`Command::CreateNamespace`].
    NamespaceCreated(Namespace),
    /// Nothing was done, charged or credited.
    Refused(Refusal),
    /// Of [`Command::Transact`].
    Transacted(Transacted),
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// The window is full.
    #[error("{limit} requests in the last hour; retry in {} s", (retry_at.0.saturating_sub(now.0)).div_ceil(1_000_000))]
    RateLimited {
        /// Which window.
        kind: Limited,
        /// Requests per hour.
        limit: u32,
        /// When the next request will be accepted, if nothing else is.
        retry_at: Timestamp,
        /// Ledger time of the refusal.
        now: Timestamp,
    },
    /// "Can't use it unless you add to it."
    #[error("the ratio of contributed to consumed is below {minimum}; contribute {deficit} more first")]
    Gate {
        /// As it was before and still is.
        standing: Standing,
        /// The ratio needed.
        minimum: f64,
        /// What is missing: minimum · consumed − contributed.
        deficit: f64,
    },
    /// The key was used for another request within 24 hours.
    #[error("this idempotency key was used for another request; use a fresh key")]
    KeyReused,
    /// The name is taken.
    #[error("a namespace of this name exists")]
    NamespaceExists,
    /// No such namespace.
    #[error("no namespace of this name exists; create it first")]
    NamespaceUnknown,
    /// The name is reserved or breaks the rules.
    #[error(
        "a namespace is named by 1 to {NAMESPACE_NAME_BYTES_MAX} of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit; system and shared are reserved"
    )]
    NamespaceName,
    /// There are [`NAMESPACES_MAX`] already.
    #[error("there are {NAMESPACES_MAX} namespaces already")]
    NamespacesFull,
    /// A limit of 0, or above [`Limits::PER_HOUR_MAX`].
    #[error("a limit is 1 to {} requests per hour", Limits::PER_HOUR_MAX)]
    LimitsOutOfRange,
    /// Of [`Command::Members`].
    #[error(transparent)]
    Members(MemberRefusal),
}
