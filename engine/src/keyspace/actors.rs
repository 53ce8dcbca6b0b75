//! Actors, spelled out in memory, are four bytes on disk.
//!
//! ```text
//!  Actor ──intern──► number      the first batch that names an actor also writes its row into `meta`
//!  number ──actor──► Actor       every row is read at open
//! ```
//!
//! Numbers belong to one data directory: they never travel. They count up from 0 without gaps and are never reused.

use std::collections::HashMap;

use parking_lot::RwLock;

use super::codec::Undecodable;
use crate::identity::Actor;

/// The table of one engine.
#[derive(Default)]
pub struct Actors {
    table: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    by_number: Vec<Actor>,
    by_actor: HashMap<Actor, u32>,
}

impl Actors {
    /// The actor behind `number`.
    ///
    /// # Errors
    /// When no row gave that number: the database is damaged.
    pub fn actor(&self, number: u32) -> Result<Actor, Undecodable> {
        self.table
            .read()
            .by_number
            .get(number as usize)
            .cloned()
            .ok_or_else(|| Undecodable::Damaged {
                record: "actor",
                length: 4,
                reason: format!("no actor has the number {number}"),
            })
    }

    /// The number of `actor`, if it has one.
    #[must_use]
    pub fn number(&self, actor: &Actor) -> Option<u32> {
        self.table.read().by_actor.get(actor).copied()
    }

    /// The number of `actor` and whether it was given just now: then its row must be written in the same batch.
    pub fn intern(&self, actor: &Actor) -> (u32, bool) {
        if let Some(number) = self.number(actor) {
            return (number, false);
        }
        (self.table.write().add(actor.clone()), true)
    }

    /// Takes up one row read from `meta`.
    ///
    /// # Errors
    /// When rows are missing before it.
    pub fn restore(&self, number: u32, actor: Actor) -> Result<(), Undecodable> {
        let given = self.table.write().add(actor);
        if given == number {
            return Ok(());
        }
        Err(Undecodable::Damaged {
            record: "actor",
            length: 4,
            reason: format!("row {given} is missing before row {number}"),
        })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.read().by_number.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets numbers from `length` on: the batch that gave them was not written.
    pub fn truncate(&self, length: usize) {
        let mut table = self.table.write();
        let Table { by_number, by_actor } = &mut *table;
        for actor in by_number.drain(length.min(by_number.len())..) {
            by_actor.remove(&actor);
        }
    }
}

impl Table {
    fn add(&mut self, actor: Actor) -> u32 {
        let number = u32::try_from(self.by_number.len()).expect("each actor takes memory, so there are less than 2^32");
        self.by_number.push(actor.clone());
        self.by_actor.insert(actor, number);
        number
    }
}
