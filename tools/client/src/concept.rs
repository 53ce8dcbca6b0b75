//! What keys hold, as it is read.

use std::{collections::BTreeMap, time::SystemTime};

use proto::v1;

use crate::{Context, error::Error};

/// A key and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concept {
    /// The key.
    pub key: String,
    /// What it holds.
    pub value: Value,
    /// What was read: pass it with a write of this key to replace exactly that. Empty where contexts were left out.
    pub context: Context,
    /// The same for people, folded by node: `{"replica-1": 2}`.
    pub clock: BTreeMap<String, u64>,
    /// Where the namespace replicates by consensus: the revisions of the key.
    pub place: Option<Place>,
}

/// Where a key of a namespace that replicates by consensus stands among all writes of its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Revision of the last write of the key.
    pub revision: u64,
    /// Of the write that made it.
    pub created_revision: u64,
    /// Writes since, that one included.
    pub version: u64,
}

/// What a key holds, by its type. A register with several values that only a client can resolve comes as siblings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// One value.
    Register(Version),
    /// Every concurrent value, newest first.
    Siblings(Vec<Version>),
    /// The elements: canonical JSON, ordered by bytes.
    Set(Vec<String>),
    /// The sum.
    Counter(i64),
}

/// One JSON value, and who wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// JSON text, as sent or as merged by the namespace's strategy.
    pub json: String,
    /// By the clock of the node that took the write.
    pub written_at: Option<SystemTime>,
    /// That node.
    pub written_by: String,
    /// When it stops being visible.
    pub expires_at: Option<SystemTime>,
}

impl Concept {
    /// The value of a register.
    #[must_use]
    pub fn register(&self) -> Option<&str> {
        match &self.value {
            Value::Register(version) => Some(&version.json),
            _ => None,
        }
    }

    /// Every concurrent value; of a register its one.
    #[must_use]
    pub fn versions(&self) -> &[Version] {
        match &self.value {
            Value::Register(version) => std::slice::from_ref(version),
            Value::Siblings(versions) => versions,
            Value::Set(_) | Value::Counter(_) => &[],
        }
    }

    /// The elements of a set.
    #[must_use]
    pub fn set(&self) -> Option<&[String]> {
        match &self.value {
            Value::Set(elements) => Some(elements),
            _ => None,
        }
    }

    /// The total of a counter.
    #[must_use]
    pub fn counter(&self) -> Option<i64> {
        match &self.value {
            Value::Counter(total) => Some(*total),
            _ => None,
        }
    }
}

impl TryFrom<v1::Concept> for Concept {
    type Error = Error;

    fn try_from(concept: v1::Concept) -> Result<Concept, Error> {
        let value = match concept.value {
            Some(v1::concept::Value::Register(value)) => Value::Register(value.into()),
            Some(v1::concept::Value::Siblings(siblings)) => {
                Value::Siblings(siblings.values.into_iter().map(Version::from).collect())
            }
            Some(v1::concept::Value::Set(set)) => Value::Set(set.elements),
            Some(v1::concept::Value::Counter(counter)) => Value::Counter(counter.total),
            None => return Err(Error::confused("a concept without a value")),
        };
        Ok(Concept {
            key: concept.key,
            value,
            context: concept.context.into(),
            clock: concept.clock.into_iter().collect(),
            place: (concept.revision > 0).then_some(Place {
                revision: concept.revision,
                created_revision: concept.created_revision,
                version: concept.version,
            }),
        })
    }
}

impl From<v1::Value> for Version {
    fn from(value: v1::Value) -> Version {
        Version {
            json: value.json,
            written_at: value.written_at.and_then(|at| at.try_into().ok()),
            written_by: value.written_by,
            expires_at: value.expires_at.and_then(|at| at.try_into().ok()),
        }
    }
}
