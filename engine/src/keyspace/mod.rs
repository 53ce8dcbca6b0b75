//! All key layouts on one page.
#![allow(unused, missing_docs)] // skeleton

/// A namespace's number; never reused. 0 is `system`, 1 is `shared` (the pool), users' begin at 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct NamespaceId(pub u32);

impl NamespaceId {
    /// The node's own counters and settings.
    pub const SYSTEM: NamespaceId = NamespaceId(0);
    /// The shared pool.
    pub const SHARED: NamespaceId = NamespaceId(1);
    /// The first that a client may get.
    pub const FIRST_USER: NamespaceId = NamespaceId(16);
}
