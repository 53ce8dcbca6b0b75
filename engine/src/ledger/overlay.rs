//! The view of a batch under way: what is stored, and over it what earlier proposals wrote.

use std::collections::BTreeMap;

use crate::{
    clock::{Stamp, Timestamp},
    commit::{Batch, Mutation},
    crdt::{Content, Dot, Entry, State},
    identity::Actor,
    json::ContentHash,
    keyspace::{
        NamespaceId,
        codec::{self, Record},
    },
    store::{Error, Family, View, Write},
};

/// Reading records, from a view or from an overlay on one.
pub(super) trait Records {
    /// The record under a key.
    fn record<T: Record>(&self, family: Family, key: &[u8]) -> Result<Option<T>, Error>;
}

impl Records for dyn View + '_ {
    fn record<T: Record>(&self, family: Family, key: &[u8]) -> Result<Option<T>, Error> {
        self.get(family, key)?
            .map(|bytes| codec::decode(&bytes))
            .transpose()
            .map_err(Error::from)
    }
}

/// A batch of proposals under way. Drop it after an error: it may hold half of a proposal.
pub struct Overlay<'a> {
    view: &'a dyn View,
    /// Author of the pool's dots: the cluster, not a node, so that all voters agree bit for bit.
    author: Actor,
    /// Ordered, so that equal proposals give equal batches.
    writes: BTreeMap<Family, BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
    joins: Vec<Mutation>,
    /// Bytes written so far, what was written over included.
    bytes: usize,
}

/// What a row or a join takes in a batch besides its bytes.
const ROW_BYTES: usize = 64;

impl<'a> Overlay<'a> {
    /// Nothing written yet. `cluster` is the cluster's id, the same on every voter and for ever.
    #[must_use]
    pub fn new(view: &'a dyn View, cluster: &str) -> Overlay<'a> {
        Overlay {
            view,
            author: Actor::new(cluster, 0),
            writes: BTreeMap::new(),
            joins: Vec::new(),
            bytes: 0,
        }
    }

    /// Bytes that its batch has at most.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing was decided that has to be committed: all were refused, or repeated earlier answers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.joins.is_empty()
    }

    /// All decisions as one batch: the ledger's writes first, then the pool's concepts.
    #[must_use]
    pub fn into_batch(self) -> Batch {
        if self.is_empty() {
            return Batch::default();
        }
        let writes = self
            .writes
            .into_iter()
            .flat_map(|(family, writes)| writes.into_iter().map(move |(key, value)| Write { family, key, value }));
        let mut mutations = vec![Mutation::Apply(writes.collect())];
        mutations.extend(self.joins);
        Batch::of(mutations)
    }

    pub(super) fn put<T: Record>(&mut self, family: Family, key: Vec<u8>, record: &T) {
        let value = codec::encode(record);
        self.bytes += key.len() + value.len() + ROW_BYTES;
        self.writes.entry(family).or_default().insert(key, Some(value));
    }

    pub(super) fn delete(&mut self, family: Family, key: Vec<u8>) {
        self.bytes += key.len() + ROW_BYTES;
        self.writes.entry(family).or_default().insert(key, None);
    }

    /// The concept of a hash that is new to the pool.
    pub(super) fn join(&mut self, hash: &ContentHash, counter: u64, at: Timestamp, json: String) {
        let dot = Dot {
            actor: self.author.clone(),
            counter,
        };
        let entry = Entry {
            stamp: Stamp::at(at),
            expires: None,
            content: Content::Register(json),
        };
        let state = State::single(dot, entry);
        self.bytes += hash.0.len() + state.stored_bytes() + ROW_BYTES;
        self.joins.push(Mutation::Join {
            namespace: NamespaceId::SHARED,
            key: hash.0.to_vec(),
            state,
        });
    }
}

impl Records for Overlay<'_> {
    fn record<T: Record>(&self, family: Family, key: &[u8]) -> Result<Option<T>, Error> {
        match self.writes.get(&family).and_then(|writes| writes.get(key)) {
            Some(Some(bytes)) => Ok(Some(codec::decode(bytes)?)),
            Some(None) => Ok(None),
            None => self.view.record(family, key),
        }
    }
}
