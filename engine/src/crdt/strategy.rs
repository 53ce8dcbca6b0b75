//! Reading: how concurrent values become what a caller sees.
//!
//! | strategy | order of candidates, best first | a read gives |
//! |---|---|---|
//! | `last_write_wins` | stamp, actor, digest | the best |
//! | `highest_node_wins` | node name, stamp, incarnation, digest | the best |
//! | `merge_union` | as `last_write_wins` | all, folded by [`super::union`] |
//! | `keep_siblings` | as `last_write_wins` | all |
//!
//! Each is a function of the *set* of candidates: they are ordered here by what they are, never by how they arrived.
//! The digest (SHA-256 of the text) decides between values of one actor with one stamp, which only a broken clock makes.

use std::cmp::{Ordering, Reverse};

use sha2::{Digest, Sha256};

use super::{Content, Entry, Kind, State, kind_of, union};
use crate::{clock::Stamp, identity::Actor};

/// How concurrent values become one, at read time. Persisted: never reordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Strategy {
    /// The newest stamp wins; ties go to the higher actor, then the higher digest.
    LastWriteWins,
    /// The highest node name wins; among values of that node the newest.
    HighestNodeWins,
    /// Objects are merged by field, arrays united; everything else by last write.
    MergeUnion,
    /// All are returned and the client resolves.
    KeepSiblings,
}

/// One value as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// JSON text: as sent, or as merged.
    pub json: String,
    /// When it was written; of a merged value, the newest part.
    pub stamp: Stamp,
    /// Who wrote it; of a merged value, the newest part.
    pub actor: Actor,
    /// When this reading stops to hold; of a merged value, the first of its parts to go.
    pub expires: Option<Stamp>,
}

/// What a key holds, as a caller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A register: one value.
    Value(Sibling),
    /// Concurrent values, newest first; never empty. A siblings key, or a register under `keep_siblings` that has several.
    Siblings(Vec<Sibling>),
    /// Elements in canonical JSON, ordered by bytes; never empty.
    Set(Vec<String>),
    /// The sum. Beyond 64 bits only when replicas exceeded them together.
    Counter(i128),
}

impl State {
    /// The key as seen at `now`: expired values are hidden. `None` when nothing is to be seen.
    #[must_use]
    pub fn read(&self, strategy: Strategy, now: Stamp) -> Option<Reading> {
        let live: Vec<_> = self.entries.iter().filter(|(_, entry)| is_live(entry, now)).collect();
        let kind = kind_of(live.iter().map(|(_, entry)| *entry))?;
        Some(match kind {
            Kind::Register => resolve(
                strategy,
                live.iter()
                    .filter_map(|(dot, entry)| value(&dot.actor, entry))
                    .collect(),
            )?,
            Kind::Siblings => {
                let mut siblings: Vec<Sibling> = live
                    .iter()
                    .filter_map(|(dot, entry)| value(&dot.actor, entry))
                    .collect();
                siblings.extend(set_as_value(&live));
                siblings.extend(counter_as_value(&live));
                resolve(Strategy::KeepSiblings, siblings).map(always_siblings)?
            }
            Kind::Set => Reading::Set(elements(&live)),
            Kind::Counter => Reading::Counter(sum(live.iter().map(|(_, entry)| *entry))),
        })
    }

    /// A counter's value, whatever else the key may hold.
    pub(super) fn total(&self) -> i128 {
        sum(self.entries.values())
    }
}

/// Resolves a set of candidates given in any order; `None` when there are none.
pub(super) fn resolve(strategy: Strategy, mut candidates: Vec<Sibling>) -> Option<Reading> {
    match strategy {
        Strategy::LastWriteWins => candidates.into_iter().max_by(by_last_write).map(Reading::Value),
        Strategy::HighestNodeWins => candidates.into_iter().max_by(by_highest_node).map(Reading::Value),
        Strategy::MergeUnion => {
            candidates.sort_by(|a, b| by_last_write(b, a));
            let newest = candidates.first()?.clone();
            let texts: Vec<&str> = candidates.iter().map(|candidate| candidate.json.as_str()).collect();
            let expires = candidates.iter().filter_map(|candidate| candidate.expires).min();
            Some(Reading::Value(Sibling {
                json: union::of(&texts),
                expires,
                ..newest
            }))
        }
        Strategy::KeepSiblings => {
            candidates.sort_by(|a, b| by_last_write(b, a));
            if candidates.len() > 1 {
                Some(Reading::Siblings(candidates))
            } else {
                candidates.pop().map(Reading::Value)
            }
        }
    }
}

fn always_siblings(reading: Reading) -> Reading {
    if let Reading::Value(only) = reading {
        Reading::Siblings(vec![only])
    } else {
        reading
    }
}

fn by_last_write(a: &Sibling, b: &Sibling) -> Ordering {
    (a.stamp, &a.actor)
        .cmp(&(b.stamp, &b.actor))
        .then_with(|| by_text(a, b))
}

fn by_highest_node(a: &Sibling, b: &Sibling) -> Ordering {
    let key = |sibling: &Sibling| (sibling.actor.node.clone(), sibling.stamp, sibling.actor.incarnation);
    key(a).cmp(&key(b)).then_with(|| by_text(a, b))
}

/// Digest first, as on every replica of any version; the text itself and the expiry make the order total.
fn by_text(a: &Sibling, b: &Sibling) -> Ordering {
    let digest = |sibling: &Sibling| Sha256::digest(sibling.json.as_bytes());
    let texts = if a.json == b.json {
        Ordering::Equal
    } else {
        digest(a).cmp(&digest(b)).then_with(|| a.json.cmp(&b.json))
    };
    texts.then_with(|| Reverse(a.expires).cmp(&Reverse(b.expires)))
}

pub(super) fn is_live(entry: &Entry, now: Stamp) -> bool {
    entry.expires.is_none_or(|expires| expires > now)
}

fn value(actor: &Actor, entry: &Entry) -> Option<Sibling> {
    match &entry.content {
        Content::Register(json) | Content::Sibling(json) => Some(Sibling {
            json: json.clone(),
            stamp: entry.stamp,
            actor: actor.clone(),
            expires: entry.expires,
        }),
        Content::Element(_) | Content::Sums { .. } => None,
    }
}

type Live<'a> = [(&'a super::Dot, &'a Entry)];

fn elements(live: &Live<'_>) -> Vec<String> {
    let mut elements: Vec<String> = live
        .iter()
        .filter_map(|(_, entry)| {
            if let Content::Element(json) = &entry.content {
                Some(json.clone())
            } else {
                None
            }
        })
        .collect();
    elements.sort_unstable();
    elements.dedup();
    elements
}

fn sum<'a>(entries: impl Iterator<Item = &'a Entry>) -> i128 {
    entries
        .map(|entry| match entry.content {
            Content::Sums { increments, decrements } => i128::from(increments) - i128::from(decrements),
            _ => 0,
        })
        .sum()
}

/// In a mix of kinds: the set as one array, written by whoever wrote to it last.
fn set_as_value(live: &Live<'_>) -> Option<Sibling> {
    newest_of(live, Kind::Set, || format!("[{}]", elements(live).join(",")))
}

/// In a mix of kinds: the counter as one number, written by whoever moved it last.
fn counter_as_value(live: &Live<'_>) -> Option<Sibling> {
    newest_of(live, Kind::Counter, || {
        sum(live.iter().map(|(_, entry)| *entry)).to_string()
    })
}

fn newest_of(live: &Live<'_>, kind: Kind, json: impl Fn() -> String) -> Option<Sibling> {
    let of_kind = live.iter().filter(|(_, entry)| entry.content.kind() == kind);
    let (dot, entry) = of_kind.max_by_key(|(dot, entry)| (entry.stamp, &dot.actor))?;
    Some(Sibling {
        json: json(),
        stamp: entry.stamp,
        actor: dot.actor.clone(),
        expires: None,
    })
}
