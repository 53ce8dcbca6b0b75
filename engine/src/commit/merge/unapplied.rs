//! What groups on their way have written and the store does not show yet.
//!
//! ```text
//!  begin(group) ─► put, put … ─┬─ keep   the batch goes into the log
//!                              └─ undo   it is refused: everything is as before it
//!  settle(group)               the store shows everything up to this group: it is read there from now on
//! ```

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// As it stands in the family.
type Key = Arc<[u8]>;

/// Values by key; the newest of each.
pub(super) struct Unapplied<V> {
    values: HashMap<Key, Written<V>, xxhash_rust::xxh3::Xxh3DefaultBuilder>,
    /// Keys by the group that wrote them, so that they can be let go.
    groups: VecDeque<(u64, Vec<Key>)>,
    /// What the running batch has replaced.
    undo: Vec<(Key, Option<Written<V>>)>,
}

/// A value and the group that wrote it.
type Written<V> = (u64, V);

impl<V> Default for Unapplied<V> {
    fn default() -> Unapplied<V> {
        Unapplied {
            values: HashMap::default(),
            groups: VecDeque::new(),
            undo: Vec::new(),
        }
    }
}

impl<V> Unapplied<V> {
    /// What is put from now on belongs to `group`.
    pub(super) fn begin(&mut self, group: u64) {
        self.groups.push_back((group, Vec::new()));
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&V> {
        self.values.get(key).map(|(_, value)| value)
    }

    pub(super) fn put(&mut self, key: &Key, value: V) {
        let (group, keys) = self.groups.back_mut().expect("a group is begun before its batches");
        keys.push(Arc::clone(key));
        let replaced = self.values.insert(Arc::clone(key), (*group, value));
        self.undo.push((Arc::clone(key), replaced));
    }

    pub(super) fn keep(&mut self) {
        self.undo.clear();
    }

    pub(super) fn undo(&mut self) {
        while let Some((key, replaced)) = self.undo.pop() {
            match replaced {
                Some(value) => self.values.insert(key, value),
                None => self.values.remove(&key),
            };
        }
    }

    pub(super) fn settle(&mut self, applied: u64) {
        while let Some((_, keys)) = self.groups.pop_front_if(|(group, _)| *group <= applied) {
            for key in keys {
                if self.values.get(&key).is_some_and(|(group, _)| *group <= applied) {
                    self.values.remove(&key);
                }
            }
        }
    }
}
