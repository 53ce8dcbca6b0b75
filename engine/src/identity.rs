//! Who writes: node name plus incarnation.

use std::sync::Arc;

/// The author of dots: a node's name and the 64 random bits drawn at its first start, after a restore, and on any doubt.
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
        Actor { node: Arc::from(node), incarnation }
    }
}
