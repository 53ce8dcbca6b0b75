//! All key layouts on one page.
//!
//! ```text
//!  family          key                                     value                                   module
//!  concepts        namespace (u32 BE) ‖ key                CRDT state, actors interned             concepts
//!  concept_index   hash64(ns ‖ key) (u64 BE) ‖ ns ‖ key    ∅, written once per key                 concept_index
//!  dots            actor (u32 BE) ‖ counter (u64 BE)       namespace (u32 BE) ‖ key                dots
//!  consensus       namespace (u32 BE) ‖ key                revisions, version, time, JSON          consensus
//!  pool            … content hash → who gave it first; dot counter                                 pool
//!  ledger          … account → balances, tier, rings                                               ledger
//!  requests        … caller ‖ idempotency key → outcome                                            requests
//!  registry        … namespaces, members                                                           registry
//!  raft_log        index (u64 BE)                          term, leader, payload                   raft_log
//!  raft_state      … vote, purged, applied, snapshot                                               raft_state
//!  audit           … sequence → hash-chained record                                                audit
//!  meta            name → one record each                                                          meta
//! ```
//!
//! Numbers in keys are big endian, so that bytes sort as numbers do. Values go through [`codec`], the only module that
//! knows how a record becomes bytes. A family refuses to know which thread writes it and whether the bytes are durable.

pub mod actors;
pub mod audit;
pub mod codec;
pub mod concept_index;
pub mod concepts;
pub mod consensus;
pub mod dots;
pub mod ledger;
pub mod meta;
pub mod pool;
pub mod raft_log;
pub mod raft_state;
pub mod registry;
pub mod requests;
pub mod row;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_namespaces_are_for_ever() {
        let reserved = [NamespaceId::SYSTEM, NamespaceId::SHARED, NamespaceId::FIRST_USER];
        assert_eq!(reserved, [0, 1, 16].map(NamespaceId));
        // As they stand in front of every concept's key, and as a record holds them.
        assert_eq!(concepts::key(NamespaceId::SYSTEM, b"k"), [0, 0, 0, 0, b'k']);
        assert_eq!(concepts::key(NamespaceId::SHARED, b"k"), [0, 0, 0, 1, b'k']);
        assert_eq!(concepts::key(NamespaceId::FIRST_USER, b"k"), [0, 0, 0, 16, b'k']);
        let mut part = Vec::new();
        codec::append(&NamespaceId(300), &mut part);
        assert_eq!(part, [251, 44, 1]);
    }
}
