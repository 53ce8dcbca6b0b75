//! Who writes: node name plus incarnation.
//!
//! A name alone does not do. A data directory restored from a backup, or copied, would count on from an old counter and
//! give two different writes the same [`Dot`](crate::crdt::Dot); a join would then silently keep one of them. Sixty-four
//! fresh random bits at first start, after a restore and on any doubt make the restored node another actor. A counter
//! in their place would repeat itself: two restores of one backup would both be "incarnation 2".

use std::{fmt, sync::Arc};

/// The author of dots: a node's name and the 64 random bits drawn at its first start, after a restore, and on any doubt.
///
/// Ordered by name first, so that everything a strategy breaks ties with reads as "by node".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor {
    /// Node name.
    pub node: Arc<str>,
    /// Random bits, so that two restores of one backup never produce the same dots.
    pub incarnation: u64,
}

impl Actor {
    /// An actor from its parts.
    #[must_use]
    pub fn new(node: &str, incarnation: u64) -> Actor {
        Actor {
            node: Arc::from(node),
            incarnation,
        }
    }
}

/// `replica-1/00000000000000a7`: the full identity, for logs. Users see the name alone.
impl fmt::Display for Actor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{:016x}", self.node, self.incarnation)
    }
}
