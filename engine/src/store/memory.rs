//! A store in memory that loses, at a crash, what was not flushed.
//!
//! ```text
//!  write ──► live ──────────────► get, scan
//!        └─► unflushed ──flush──► durable ──► get_durable
//!                                    └─power_cut─► what the next life finds
//! ```

use std::collections::BTreeMap;

use parking_lot::RwLock;

use super::{Change, Error, Family, Store, View, Write};

type Table = BTreeMap<Vec<u8>, Vec<u8>>;

/// The store. Cheap to make; share it by `Arc`.
#[derive(Default)]
pub struct Memory {
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    live: [Table; Family::ALL.len()],
    durable: [Table; Family::ALL.len()],
    unflushed: Vec<Write>,
    power_is_off: bool,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new() -> Memory {
        Memory::default()
    }

    /// Puts one value, as tests do that prepare a state.
    pub fn put(&self, family: Family, key: &[u8], value: &[u8]) {
        self.state.write().apply(&Change {
            family,
            key,
            value: Some(value),
        });
    }

    /// Cuts the power: this store fails from now on. Returns what survived: what was flushed.
    #[must_use]
    pub fn power_cut(&self) -> Memory {
        let mut state = self.state.write();
        state.power_is_off = true;
        let durable = state.durable.clone();
        Memory {
            state: RwLock::new(State {
                live: durable.clone(),
                durable,
                ..State::default()
            }),
        }
    }
}

impl State {
    fn check_power(&self) -> Result<(), Error> {
        if self.power_is_off {
            Err(Error("the power is off".to_owned()))
        } else {
            Ok(())
        }
    }

    fn apply(&mut self, change: &Change<'_>) {
        alter(&mut self.live, change);
        self.unflushed.push(change.to_write());
    }
}

fn alter(tables: &mut [Table], change: &Change<'_>) {
    let table = &mut tables[change.family.index()];
    match change.value {
        Some(value) => table.insert(change.key.to_vec(), value.to_vec()),
        None => table.remove(change.key),
    };
}

impl View for Memory {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        // Also from within a scan, which holds the lock, while a writer waits for it.
        Ok(self.state.read_recursive().live[family.index()].get(key).cloned())
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        let state = self.state.read();
        for (key, value) in
            state.live[family.index()].range::<[u8], _>((std::ops::Bound::Included(from), std::ops::Bound::Unbounded))
        {
            if to.is_some_and(|to| key.as_slice() >= to) || !visit(key, value) {
                break;
            }
        }
        Ok(())
    }
}

impl Store for Memory {
    fn write(&self, changes: &[Change<'_>]) -> Result<(), Error> {
        let mut state = self.state.write();
        state.check_power()?;
        for change in changes {
            state.apply(change);
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), Error> {
        let mut state = self.state.write();
        state.check_power()?;
        let State { durable, unflushed, .. } = &mut *state;
        for write in unflushed.drain(..) {
            alter(durable, &write.as_change());
        }
        Ok(())
    }

    fn at_one_moment(&self, read: &mut dyn FnMut(&dyn View)) {
        let live = self.state.read().live.clone();
        let moment = Memory {
            state: RwLock::new(State {
                live,
                ..State::default()
            }),
        };
        read(&moment);
    }

    fn get_durable(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.state.read().durable[family.index()].get(key).cloned())
    }
}
