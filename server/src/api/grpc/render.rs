//! State → message. Strategies are applied here, at read time.

use std::collections::HashMap;

use engine::{
    clock::Stamp,
    crdt::{Reading, Sibling, State, Strategy, VersionVector},
    keyspace::NamespaceId,
};
use proto::v1::{Concept, Counter, Set, Siblings, Value, concept};

use super::token::{self, Key};

/// How a namespace is read: fixed for one call.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) key: &'a Key,
    pub(super) namespace: NamespaceId,
    pub(super) strategy: Strategy,
    pub(super) now: Stamp,
    /// Whether concepts carry their context and clock: sealing costs as much as all the rest.
    pub(super) with_contexts: bool,
}

impl Reader<'_> {
    /// Whether callers see anything of it.
    pub(super) fn finds(&self, state: &State) -> bool {
        state.is_visible(self.now)
    }

    /// The concept as callers see it; `None` when nothing is to be seen.
    pub(super) fn concept(&self, concept: &[u8], state: &State) -> Option<Concept> {
        let value = match state.read(self.strategy, self.now)? {
            Reading::Value(sibling) => concept::Value::Register(value(sibling)),
            Reading::Siblings(siblings) => concept::Value::Siblings(Siblings {
                values: siblings.into_iter().map(value).collect(),
            }),
            Reading::Set(elements) => concept::Value::Set(Set { elements }),
            Reading::Counter(total) => concept::Value::Counter(Counter { total: nearest(total) }),
        };
        let (context, clock) = if self.with_contexts {
            let context = token::seal_context(self.key, self.namespace, concept, &state.context);
            (context, clock(&state.context))
        } else {
            (Vec::new(), HashMap::new())
        };
        Some(Concept {
            key: String::from_utf8_lossy(concept).into_owned(),
            value: Some(value),
            context,
            clock,
            ..Concept::default()
        })
    }
}

/// A version vector as people read it.
pub(super) fn clock(context: &VersionVector) -> HashMap<String, u64> {
    context
        .folded()
        .into_iter()
        .map(|(node, counter)| (node.to_string(), counter))
        .collect()
}

fn value(sibling: Sibling) -> Value {
    Value {
        json: sibling.json,
        written_at: Some(timestamp(sibling.stamp)),
        written_by: sibling.actor.node.to_string(),
        expires_at: sibling.expires.map(timestamp),
    }
}

fn timestamp(stamp: Stamp) -> prost_types::Timestamp {
    let milliseconds = stamp.milliseconds();
    // 48 bits of milliseconds and less than 10^9 nanoseconds: both always fit.
    let seconds = i64::try_from(milliseconds / 1_000).unwrap_or(i64::MAX);
    let nanos = i32::try_from(milliseconds % 1_000 * 1_000_000).unwrap_or(0);
    prost_types::Timestamp { seconds, nanos }
}

fn nearest(total: i128) -> i64 {
    i64::try_from(total).unwrap_or(if total < 0 { i64::MIN } else { i64::MAX })
}
