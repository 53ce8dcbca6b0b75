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

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(node: &str) -> Actor {
        Actor::new(node, 7)
    }

    #[test]
    fn numbers_count_up_from_0_and_stay() {
        let actors = Actors::default();
        assert!(actors.is_empty());
        assert_eq!(actors.intern(&actor("b")), (0, true));
        assert_eq!(
            actors.intern(&actor("a")),
            (1, true),
            "in the order of arrival, not of names"
        );
        assert_eq!(
            actors.intern(&Actor::new("b", 8)),
            (2, true),
            "another incarnation is another actor"
        );
        assert_eq!(actors.intern(&actor("b")), (0, false), "whose row is written already");
        assert_eq!(actors.len(), 3);
        assert_eq!(actors.number(&actor("a")), Some(1));
        assert_eq!(actors.actor(1), Ok(actor("a")));
    }

    #[test]
    fn a_number_that_no_row_gave_is_damage() {
        let actors = Actors::default();
        actors.intern(&actor("a"));
        assert!(matches!(actors.actor(1), Err(Undecodable::Damaged { .. })));
        assert_eq!(actors.number(&actor("b")), None);
    }

    #[test]
    fn rows_are_restored_in_order_and_a_gap_is_damage() {
        let actors = Actors::default();
        assert_eq!(actors.restore(0, actor("a")), Ok(()));
        let missing = actors.restore(2, actor("c")).expect_err("row 1 is missing");
        assert!(
            missing.to_string().contains("row 1 is missing before row 2"),
            "{missing}"
        );
    }

    #[test]
    fn numbers_of_a_batch_that_was_not_written_are_given_again() {
        let actors = Actors::default();
        actors.intern(&actor("a"));
        actors.intern(&actor("b"));
        actors.truncate(1);
        assert_eq!((actors.len(), actors.number(&actor("b"))), (1, None));
        assert_eq!(actors.intern(&actor("c")), (1, true));
        actors.truncate(9);
        assert_eq!(actors.len(), 2, "there is nothing to forget");
    }
}
