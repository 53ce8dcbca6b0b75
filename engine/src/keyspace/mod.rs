//! All key layouts on one page.
//!
//! ```text
//!  family          key                                     value                                   module
//!  concepts        namespace (u32 BE) ‖ key                CRDT state, actors interned             concepts
//!  concept_index   hash64(ns ‖ key) (u64 BE) ‖ ns ‖ key    ∅, written once per key                 concept_index
//!  dots            actor (u32 BE) ‖ counter (u64 BE)       namespace (u32 BE) ‖ key                dots
//!  pool            … content hash → who gave it first; dot counter                                 pool
//!  ledger          … account → balances, tier, rings                                               ledger
//!  requests        … caller ‖ idempotency key → outcome                                            requests
//!  registry        … namespaces, members                                                           registry
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
pub mod dots;
pub mod ledger;
pub mod meta;
pub mod pool;
pub mod registry;
pub mod requests;

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
