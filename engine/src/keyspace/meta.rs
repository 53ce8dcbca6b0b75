//! Family `meta`: the node's own records, one for each name.
//!
//! ```text
//!  key                       value (through the codec)
//!  "format"                  format version of the whole store, u32
//!  "identity"                node name, incarnation, cluster id                 written at first start
//!  "context_key"             32 secret bytes that seal context tokens           written at first start
//!  "issued"                  last dot counter and last stamp given out          in the last record of each group that gave any
//!  "applied_lsn"             last record of the log that is in the store, u64   with every write to the store, never in the log
//!  "actor/" ‖ number u32 BE  node name, incarnation                             in the batch that first names the actor
//!  "request/", "asked/", "requests"                                             see [`requests`]
//!  "expiry/"                                                                    see [`expiry`]
//! ```

pub mod expiry;
pub mod requests;

use serde::{Deserialize, Serialize};
use wal::Lsn;

use super::{
    actors::Actors,
    codec::{self, First},
};
use crate::{
    clock::Stamp,
    identity::Actor,
    store::{self, Family, Store, View, end_of_prefix},
};

/// Name of the format version.
pub const FORMAT: &[u8] = b"format";
/// Name of the identity.
pub const IDENTITY: &[u8] = b"identity";
/// Name of the secret for context tokens.
pub const CONTEXT_KEY: &[u8] = b"context_key";
/// Name of what was given out.
pub const ISSUED: &[u8] = b"issued";
/// Name of the last record applied.
pub const APPLIED_LSN: &[u8] = b"applied_lsn";
pub(super) const ACTOR: &[u8] = b"actor/";

/// Format version of the whole store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format(pub u32);
impl First for Format {}

/// Who this data directory is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Name of the node.
    pub node: String,
    /// Random bits of its present life.
    pub incarnation: u64,
    /// The cluster it belongs to: random, drawn by the node that began the cluster.
    pub cluster: [u8; 16],
}
impl First for Identity {}

impl Identity {
    /// The author of this node's own writes.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor::new(&self.node, self.incarnation)
    }
}

/// The secret that seals context tokens.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextKey(pub [u8; 32]);
impl First for ContextKey {}

/// The last dot counter and the last stamp this node gave out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// Counter of the last dot; 0 when there was none.
    pub counter: u64,
    /// Where the hybrid clock stood.
    pub stamp: Stamp,
}
impl First for Issued {}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Applied(u64);
impl First for Applied {}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ActorRow {
    node: String,
    incarnation: u64,
}
impl First for ActorRow {}

/// Reads one record.
///
/// # Errors
/// When the store cannot be read or the record is damaged.
pub fn read<T: codec::Record>(view: &dyn View, name: &[u8]) -> Result<Option<T>, store::Error> {
    view.get(Family::Meta, name)?
        .map(|bytes| Ok(codec::decode(&bytes)?))
        .transpose()
}

/// The value of `applied_lsn`.
#[must_use]
pub fn encode_applied(lsn: Lsn) -> Vec<u8> {
    codec::encode(&Applied(lsn.0))
}

/// The last record of the log that is in the store.
///
/// # Errors
/// When the store cannot be read or the record is damaged.
pub fn applied(view: &dyn View) -> Result<Lsn, store::Error> {
    Ok(read::<Applied>(view, APPLIED_LSN)?.map_or(Lsn::ZERO, |applied| Lsn(applied.0)))
}

/// The last record of the log that is durably in the store: the log may be dropped up to it.
///
/// # Errors
/// When the store cannot be read or the record is damaged.
pub fn applied_durably(store: &dyn Store) -> Result<Lsn, store::Error> {
    let bytes = store.get_durable(Family::Meta, APPLIED_LSN)?;
    bytes.map_or(Ok(Lsn::ZERO), |bytes| Ok(Lsn(codec::decode::<Applied>(&bytes)?.0)))
}

/// Key and value of the row that gives `number` to `actor`.
#[must_use]
pub fn actor_row(number: u32, actor: &Actor) -> (Vec<u8>, Vec<u8>) {
    let key = [ACTOR, &number.to_be_bytes()].concat();
    (
        key,
        codec::encode(&ActorRow {
            node: actor.node.to_string(),
            incarnation: actor.incarnation,
        }),
    )
}

/// Reads all actor rows.
///
/// # Errors
/// When the store cannot be read or a row is damaged or missing.
pub fn actors(view: &dyn View) -> Result<Actors, store::Error> {
    let actors = Actors::default();
    let mut outcome = Ok(());
    view.scan(
        Family::Meta,
        ACTOR,
        end_of_prefix(ACTOR).as_deref(),
        &mut |key, value| {
            outcome = take_up(&actors, &key[ACTOR.len()..], value);
            outcome.is_ok()
        },
    )?;
    outcome.map(|()| actors)
}

fn take_up(actors: &Actors, number: &[u8], value: &[u8]) -> Result<(), store::Error> {
    let number = number
        .try_into()
        .map_err(|_| store::Error("the key of an actor row is damaged".to_owned()))?;
    let row: ActorRow = codec::decode(value)?;
    Ok(actors.restore(u32::from_be_bytes(number), Actor::new(&row.node, row.incarnation))?)
}

#[cfg(test)]
mod tests;
