//! Sealed tokens: what a caller carries for us and may not read, change, or use elsewhere.
//!
//! ```text
//!  version (1 byte = 1) ‖ HMAC-SHA256 (32 bytes) ‖ payload
//!
//!  authenticated: "continuum.v1 " ‖ purpose ‖ version ‖ namespace (u32 BE) ‖ length (u32 BE) ‖ bound ‖ payload
//!
//!  purpose            bound to            payload
//!  context            namespace, key      version vector, protobuf; where writes have revisions, that of the last one
//!  concept page       namespace, prefix   last key of the page
//!  position           namespace, prefix   cluster, incarnation and LSN, protobuf
//!  namespace page     nothing             last name of the page
//! ```
//!
//! Actors are spelled out in a context, so that a token is good at any node that has the key. A token is not secret:
//! it says which nodes wrote, and nothing of what.

use engine::{
    crdt::{Dot, VersionVector},
    identity::Actor,
    keyspace::NamespaceId,
};
use hmac::{Hmac, KeyInit, Mac};
use prost::Message;
use sha2::Sha256;

use super::status::Refused;

const VERSION: u8 = 1;
const MAC_BYTES: usize = 32;
/// The largest token that is opened; a context of a thousand actors with long names fits.
const TOKEN_BYTES_MAX: usize = 128 * 1024;

/// The cluster's key for tokens: whoever has it can forge them. Kept as an HMAC that has taken it in, which is half the work of
/// sealing something short.
#[derive(Clone)]
pub(super) struct Key(Hmac<Sha256>);

impl Key {
    /// A key from 32 random bytes, the same ones at every start and every node of the cluster.
    #[must_use]
    pub(super) fn new(bytes: [u8; 32]) -> Key {
        Key(Hmac::new_from_slice(&bytes).expect("HMAC takes keys of any length"))
    }
}

/// Never shows the key.
impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Key(…)")
    }
}

/// What a token is for and what it is bound to. A token opens under the very same subject only.
#[derive(Clone, Copy)]
pub(super) enum Subject<'a> {
    /// The context of a key.
    Context(NamespaceId, &'a [u8]),
    /// The next page of a listing of keys with a prefix.
    ConceptPage(NamespaceId, &'a [u8]),
    /// A position in the node's log, for watching keys with a prefix.
    Position(NamespaceId, &'a [u8]),
    /// The next page of the list of namespaces.
    NamespacePage,
}

impl Subject<'_> {
    fn label(self) -> &'static str {
        match self {
            Subject::Context(..) => "context",
            Subject::ConceptPage(..) => "concept page",
            Subject::Position(..) => "position",
            Subject::NamespacePage => "namespace page",
        }
    }

    fn field(self) -> &'static str {
        match self {
            Subject::Context(..) => "context",
            Subject::ConceptPage(..) | Subject::NamespacePage => "page_token",
            Subject::Position(..) => "resume_token",
        }
    }

    fn refused(self) -> Refused {
        let advice = match self {
            Subject::Context(..) => "not a context this cluster returned for this key: read the key again",
            Subject::ConceptPage(..) => "not a page token for this namespace and prefix: start from the first page",
            Subject::Position(..) => {
                "not a resume token for this namespace and prefix: begin with a scan, or watch from now"
            }
            Subject::NamespacePage => "not a page token for this list: start from the first page",
        };
        Refused::field(self.field(), "TOKEN_INVALID", advice)
    }
}

/// Seals `payload` for `subject`.
pub(super) fn seal(key: &Key, subject: Subject<'_>, payload: &[u8]) -> Vec<u8> {
    let mac = authenticate(key, subject, payload).finalize().into_bytes();
    [&[VERSION], mac.as_slice(), payload].concat()
}

/// Opens what [`seal`] made for the same subject.
pub(super) fn open<'t>(key: &Key, subject: Subject<'_>, token: &'t [u8]) -> Result<&'t [u8], Refused> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(subject.refused());
    }
    let (version, rest) = token.split_first().ok_or_else(|| subject.refused())?;
    if *version != VERSION {
        let advice =
            format!("a token of format {version}, this node knows format {VERSION}: read again for a fresh one");
        return Err(Refused::field(subject.field(), "TOKEN_FORMAT", advice));
    }
    let (mac, payload) = rest.split_at_checked(MAC_BYTES).ok_or_else(|| subject.refused())?;
    authenticate(key, subject, payload)
        .verify_slice(mac)
        .map_err(|_| subject.refused())?;
    Ok(payload)
}

fn authenticate(key: &Key, subject: Subject<'_>, payload: &[u8]) -> Hmac<Sha256> {
    let (namespace, bound) = match subject {
        Subject::Context(namespace, bound)
        | Subject::ConceptPage(namespace, bound)
        | Subject::Position(namespace, bound) => (namespace, bound),
        Subject::NamespacePage => (NamespaceId::SYSTEM, &[][..]),
    };
    let mut mac = key.0.clone();
    mac.update(b"continuum.v1 ");
    mac.update(subject.label().as_bytes());
    mac.update(&[VERSION]);
    mac.update(&namespace.0.to_be_bytes());
    mac.update(
        &u32::try_from(bound.len())
            .expect("keys and prefixes were checked to be short")
            .to_be_bytes(),
    );
    mac.update(bound);
    mac.update(payload);
    mac
}

/// A context as it travels.
#[derive(Clone, PartialEq, Message)]
struct Context {
    #[prost(message, repeated, tag = "1")]
    seen: Vec<Seen>,
}

/// The highest write seen of one actor.
#[derive(Clone, PartialEq, Message)]
struct Seen {
    #[prost(string, tag = "1")]
    node: String,
    #[prost(fixed64, tag = "2")]
    incarnation: u64,
    #[prost(uint64, tag = "3")]
    counter: u64,
}

/// Seals what was read of a key.
pub(super) fn seal_context(key: &Key, namespace: NamespaceId, concept: &[u8], context: &VersionVector) -> Vec<u8> {
    let seen = context.0.iter().map(|(actor, counter)| Seen {
        node: actor.node.to_string(),
        incarnation: actor.incarnation,
        counter: *counter,
    });
    let payload = Context { seen: seen.collect() }.encode_to_vec();
    seal(key, Subject::Context(namespace, concept), &payload)
}

/// Opens what [`seal_context`] made for the same key.
pub(super) fn open_context(
    key: &Key,
    namespace: NamespaceId,
    concept: &[u8],
    token: &[u8],
) -> Result<VersionVector, Refused> {
    let subject = Subject::Context(namespace, concept);
    let payload = open(key, subject, token)?;
    let context = Context::decode(payload).map_err(|_| subject.refused())?;
    let mut vector = VersionVector::default();
    for seen in context.seen {
        vector.insert(&Dot {
            actor: Actor::new(&seen.node, seen.incarnation),
            counter: seen.counter,
        });
    }
    Ok(vector)
}

/// The context of a key of a namespace that replicates by consensus.
#[derive(Clone, PartialEq, Message)]
struct Revision {
    /// Of the last write; 0: the key holds nothing. No field of [`Context`] has its number.
    #[prost(uint64, tag = "2")]
    revision: u64,
}

/// Seals the revision of what was read of a key.
pub(super) fn seal_revision(key: &Key, namespace: NamespaceId, concept: &[u8], revision: u64) -> Vec<u8> {
    let payload = Revision { revision }.encode_to_vec();
    seal(key, Subject::Context(namespace, concept), &payload)
}

/// Opens what [`seal_revision`] made for the same key.
pub(super) fn open_revision(key: &Key, namespace: NamespaceId, concept: &[u8], token: &[u8]) -> Result<u64, Refused> {
    let subject = Subject::Context(namespace, concept);
    let payload = open(key, subject, token)?;
    let sealed = Revision::decode(payload).map_err(|_| subject.refused())?;
    Ok(sealed.revision)
}

/// A place in the log of one life of one node.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Position {
    /// The node's cluster.
    #[prost(bytes = "vec", tag = "1")]
    pub(super) cluster: Vec<u8>,
    /// The node's incarnation: a restored one begins a history of its own.
    #[prost(fixed64, tag = "2")]
    pub(super) incarnation: u64,
    /// Everything up to here has been seen.
    #[prost(uint64, tag = "3")]
    pub(super) lsn: u64,
}

/// A resume token, opened.
#[derive(Debug, PartialEq)]
pub(super) enum Resume {
    /// A position that this cluster sealed.
    Position(Position),
    /// A token of another cluster.
    OtherCluster,
}

/// Opens what [`seal_position`] made for the same prefix.
pub(super) fn open_position(
    key: &Key,
    namespace: NamespaceId,
    prefix: &[u8],
    token: &[u8],
    cluster: &[u8; 16],
) -> Result<Resume, Refused> {
    let subject = Subject::Position(namespace, prefix);
    let decode = |payload: &[u8]| Position::decode(payload).map_err(|_| subject.refused());
    match open(key, subject, token) {
        Ok(payload) => decode(payload).map(Resume::Position),
        Err(refused) => {
            // What a foreign token says of itself is believed for one thing only: that its bearer must begin anew.
            let claimed = token.get(1 + MAC_BYTES..).and_then(|payload| decode(payload).ok());
            match claimed {
                Some(position) if position.cluster.len() == cluster.len() && position.cluster != cluster => {
                    Ok(Resume::OtherCluster)
                }
                _ => Err(refused),
            }
        }
    }
}

/// Seals a position for keys with `prefix`.
pub(super) fn seal_position(key: &Key, namespace: NamespaceId, prefix: &[u8], position: &Position) -> Vec<u8> {
    seal(key, Subject::Position(namespace, prefix), &position.encode_to_vec())
}
