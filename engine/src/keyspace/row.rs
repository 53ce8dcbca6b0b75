//! Any row of any family, for those who look at all of them: is it what it should be, and what does it say?
//!
//! Everything here is for people: texts may change at any time, nothing reads them back.

use std::fmt::{self, Debug};

use super::{
    audit,
    codec::{self, Record, Undecodable},
    concept_index, concepts, consensus, dots, ledger, meta, pool, raft_log, raft_state, registry,
    requests::{self, transactions},
};
use crate::{ledger::Proposal, store::Family};

/// The longest part of a value that [`show`] gives, in characters.
const SHOWN_MAX: usize = 2_000;

/// Decodes a row with the codec of its family.
///
/// # Errors
/// What is wrong with it.
pub fn check(family: Family, key: &[u8], value: &[u8]) -> Result<(), String> {
    decode(family, key, value).map(|_| ())
}

/// A row's value in words.
#[must_use]
pub fn show(family: Family, key: &[u8], value: &[u8]) -> String {
    let text = match decode(family, key, value) {
        Ok(row) => format!("{row:?}"),
        Err(error) => format!("{} bytes that cannot be read: {error}", value.len()),
    };
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], value.len()),
        None => text,
    }
}

/// A row's key in words.
#[must_use]
pub fn name(family: Family, key: &[u8]) -> String {
    let concept = |key: &[u8]| {
        concepts::split(key).map(|(namespace, key)| format!("namespace {}, key {}", namespace.0, text(key)))
    };
    let named = match family {
        Family::Consensus if key == consensus::head() => Some("the revision".to_owned()),
        Family::Concepts | Family::Consensus => concept(key),
        Family::ConceptIndex => concept_index::split(key).and_then(|(_, key)| concept(key)),
        Family::Dots => dots::split(key).map(|(actor, counter)| format!("actor {actor}, counter {counter}")),
        Family::Meta => Some(text(key)),
        Family::RaftLog => raft_log::index(key).map(|index| format!("entry {index}")),
        _ => key
            .split_first()
            .map(|(kind, rest)| format!("kind {kind}, {}", text(rest))),
    };
    named.unwrap_or_else(|| text(key))
}

/// Bytes as they can be read: quoted when they are text, else hexadecimal.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => format!("{text:?}"),
        _ => bytes
            .iter()
            .fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}")),
    }
}

/// A value that has no record of its own.
struct Plain(String);

impl Debug for Plain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

type Row = Box<dyn Debug>;

fn record<T: Record + Debug + 'static>(value: &[u8]) -> Result<Row, String> {
    let record: T = codec::decode(value).map_err(|error: Undecodable| error.to_string())?;
    Ok(Box::new(record))
}

fn decode(family: Family, key: &[u8], value: &[u8]) -> Result<Row, String> {
    let kind = key.first().copied().unwrap_or_default();
    match family {
        Family::Concepts if concepts::split(key).is_none() => Err(stray(family)),
        Family::Concepts => record::<concepts::Stored<String>>(value),
        Family::ConceptIndex => index(key, value),
        Family::Dots => dot(key, value),
        Family::Pool => match kind {
            pool::POOLED => record::<pool::Pooled>(value),
            pool::INDEXED => record::<pool::Indexed>(value),
            pool::HEAD => record::<pool::Head>(value),
            _ => Err(stray(family)),
        },
        Family::Ledger => match kind {
            ledger::ACCOUNT => record::<ledger::Account>(value),
            ledger::NAME => record::<ledger::Name>(value),
            ledger::WINDOW => record::<ledger::Window>(value),
            ledger::EVENT => record::<ledger::Event>(value),
            ledger::HEAD => record::<ledger::Head>(value),
            _ => Err(stray(family)),
        },
        Family::Requests => match kind {
            requests::ANSWERED => record::<requests::Answered>(value),
            requests::ASKED => record::<requests::Asked>(value),
            requests::TURN => record::<requests::Turn>(value),
            requests::CALLER => record::<requests::Caller>(value),
            requests::HEAD => record::<requests::Head>(value),
            transactions::CARRIED => record::<transactions::Carried>(value),
            transactions::ASKED => record::<transactions::Asked>(value),
            transactions::HEAD => record::<transactions::Head>(value),
            _ => Err(stray(family)),
        },
        Family::Registry => match kind {
            registry::NAMESPACE => record::<registry::Namespace>(value),
            registry::NAME => record::<registry::Name>(value),
            registry::LIMITS => record::<registry::Limits>(value),
            registry::HEAD => record::<registry::Head>(value),
            registry::ROSTER => record::<registry::Roster>(value),
            registry::INVITATIONS => record::<registry::Invitations>(value),
            _ => Err(stray(family)),
        },
        Family::Audit => match kind {
            audit::SEALED => sealed(value),
            audit::HEAD => record::<audit::Head>(value),
            _ => Err(stray(family)),
        },
        Family::Meta => meta_row(key, value),
        Family::RaftLog if raft_log::index(key).is_none() => Err(stray(family)),
        Family::RaftLog => record::<raft_log::Stored<Vec<Proposal>>>(value),
        Family::RaftState => match key {
            [raft_state::VOTE] => record::<raft_state::Vote>(value),
            [raft_state::PURGED] => record::<raft_state::Purged>(value),
            [raft_state::APPLIED] => record::<raft_state::Applied>(value),
            [raft_state::SNAPSHOT] => record::<raft_state::Snapshot>(value),
            [raft_state::INSTALLING] => record::<raft_state::Installing>(value),
            [raft_state::VOTER] => record::<raft_state::Voter>(value),
            _ => Err(stray(family)),
        },
        Family::Consensus if key == consensus::head() => record::<consensus::Head>(value),
        Family::Consensus if consensus::is_row(key) => record::<consensus::Row>(value),
        Family::Consensus => Err(stray(family)),
    }
}

fn stray(family: Family) -> String {
    format!("family {} has no rows with such a key", family.name())
}

fn index(key: &[u8], value: &[u8]) -> Result<Row, String> {
    let concept = concept_index::split(key).map(|(_, concept)| concept);
    let is_sound = value.is_empty() && concept.is_some_and(|concept| concept_index::key(concept) == key);
    if is_sound {
        Ok(Box::new(Plain("present".to_owned())))
    } else {
        Err("the hash does not fit the key, or there is a value".to_owned())
    }
}

fn dot(key: &[u8], value: &[u8]) -> Result<Row, String> {
    let concept = dots::decode(value).filter(|concept| concepts::split(concept).is_some());
    match concept.filter(|_| dots::split(key).is_some()) {
        Some(concept) => Ok(Box::new(Plain(name(Family::Concepts, concept)))),
        None => Err("it is no dot of a concept".to_owned()),
    }
}

fn sealed(value: &[u8]) -> Result<Row, String> {
    let sealed: audit::Sealed = codec::decode(value).map_err(|error| error.to_string())?;
    record::<audit::Body>(&sealed.body)
}

fn meta_row(key: &[u8], value: &[u8]) -> Result<Row, String> {
    match key {
        meta::FORMAT => record::<meta::Format>(value),
        meta::IDENTITY => record::<meta::Identity>(value),
        meta::CONTEXT_KEY => {
            codec::decode::<meta::ContextKey>(value).map_err(|error| error.to_string())?;
            Ok(Box::new(Plain("a secret".to_owned())))
        }
        meta::ISSUED => record::<meta::Issued>(value),
        meta::APPLIED_LSN => record::<meta::Applied>(value),
        meta::requests::HEAD => record::<meta::requests::Head>(value),
        _ if key.starts_with(meta::ACTOR) => record::<meta::ActorRow>(value),
        _ if key.starts_with(meta::requests::CARRIED) => record::<meta::requests::Carried>(value),
        _ if key.starts_with(meta::requests::ASKED) => record::<meta::requests::Asked>(value),
        _ if key.starts_with(meta::expiry::EXPIRY) => expiry(key, value),
        _ => Err(stray(Family::Meta)),
    }
}

fn expiry(key: &[u8], value: &[u8]) -> Result<Row, String> {
    match meta::expiry::parts(key) {
        Some((stamp, namespace, concept)) if value.is_empty() => {
            let concept = name(Family::Concepts, &concepts::key(namespace, concept));
            Ok(Box::new(Plain(format!("{concept}, at {stamp:?}"))))
        }
        _ => Err("it names no concept, or there is a value".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::NamespaceId;

    #[test]
    fn rows_are_named_and_shown() {
        let key = concepts::key(NamespaceId(16), b"k");
        assert_eq!(name(Family::Concepts, &key), "namespace 16, key \"k\"");
        assert_eq!(
            name(Family::ConceptIndex, &concept_index::key(&key)),
            "namespace 16, key \"k\""
        );
        assert_eq!(name(Family::Concepts, &[0, 0, 0, 1, 255, 0]), "namespace 1, key 0xff00");
        assert_eq!(name(Family::Dots, &dots::key(3, 7)), "actor 3, counter 7");
        assert_eq!(name(Family::Consensus, &key), "namespace 16, key \"k\"");
        assert_eq!(name(Family::Consensus, &consensus::head()), "the revision");
        assert_eq!(name(Family::Ledger, &ledger::account("né")), "kind 1, \"né\"");
        assert_eq!(name(Family::RaftLog, &raft_log::key(258)), "entry 258");
        let vote = raft_state::put(&raft_state::Vote {
            term: 2,
            node: 7,
            committed: false,
        });
        let shown = show(vote.family, &vote.key, &vote.value.unwrap());
        assert_eq!(shown, "Vote { term: 2, node: 7, committed: false }");
        let applied = meta::encode_applied(wal::Lsn(300));
        assert_eq!(show(Family::Meta, meta::APPLIED_LSN, &applied), "Applied(300)");
        let secret = codec::encode(&meta::ContextKey([7; 32]));
        assert_eq!(show(Family::Meta, meta::CONTEXT_KEY, &secret), "a secret");
        let mut value = Vec::new();
        dots::encode_into(&key, &mut value);
        assert_eq!(show(Family::Dots, &dots::key(3, 7), &value), "namespace 16, key \"k\"");
    }

    #[test]
    fn rows_that_are_not_what_they_should_be_are_refused() {
        let key = concepts::key(NamespaceId(16), b"k");
        let mut index = concept_index::key(&key);
        assert_eq!(check(Family::ConceptIndex, &index, &[]), Ok(()));
        assert!(check(Family::ConceptIndex, &index, &[1]).is_err());
        index[0] ^= 1;
        assert!(check(Family::ConceptIndex, &index, &[]).is_err());
        assert!(check(Family::Concepts, &key, &[1, 0]).is_err());
        assert_eq!(check(Family::Concepts, &key, &[1, 0, 0]), Ok(()));
        assert!(check(Family::Dots, &dots::key(3, 7), &[1, 0, 0]).is_err());
        let expiry = meta::expiry::key(crate::clock::Stamp(258), &key);
        assert_eq!(check(Family::Meta, &expiry, &[]), Ok(()));
        assert!(check(Family::Meta, &expiry, &[1]).is_err());
        assert!(check(Family::Meta, b"expiry/", &[]).is_err());
        assert!(check(Family::Consensus, &key, &[1, 0]).is_err());
        assert_eq!(check(Family::Consensus, &key, &[1, 1, 1, 1, 9, 1, b'7']), Ok(()));
        assert_eq!(check(Family::Consensus, &consensus::head(), &[1, 5]), Ok(()));
        assert_eq!(check(Family::Requests, &transactions::head(), &[1, 2, 1]), Ok(()));
        for family in [
            Family::Consensus,
            Family::Pool,
            Family::Ledger,
            Family::Requests,
            Family::Registry,
            Family::Audit,
            Family::RaftLog,
            Family::RaftState,
            Family::Meta,
        ] {
            assert!(check(family, &[99], &[1, 0]).is_err(), "{}", family.name());
            assert!(check(family, &[], &[1, 0]).is_err(), "{}", family.name());
        }
    }
}
