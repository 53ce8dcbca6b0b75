//! What happens before the engine takes its first batch: whose data these are, and what the log knows that the store
//! does not.
//!
//! ```text
//!  store: format? ──► identity? ──absent, and no log──► drawn, written, flushed
//!                        │
//!                        ▼
//!  log: opened (torn tail dropped), its owner must be the same node
//!                        │
//!                        ▼
//!  records above applied_lsn ──► store, in steps of 1 MiB
//! ```

use std::sync::Arc;

use wal::{Log, Lsn, storage::Storage};

use crate::{
    commit::record,
    format,
    keyspace::{
        codec,
        meta::{self, ContextKey, Identity},
    },
    open::{Environment, OpenError, Settings},
    store::{Change, Family, Store},
};

/// The store is written in steps of so many bytes of log.
const STEP_BYTES: usize = 1 << 20;

/// What was there.
pub(crate) struct Recovered {
    pub(crate) identity: Identity,
    pub(crate) context_key: ContextKey,
    pub(crate) log: Log,
    /// Bytes of log that the store held only in part: they count towards the next flush.
    pub(crate) replayed_bytes: u64,
    pub(crate) applied: Lsn,
    /// The last record durably in the store.
    pub(crate) durable: Lsn,
}

/// Brings log and store together.
///
/// # Errors
/// [`OpenError`], with what to do.
pub(crate) fn recover(settings: &Settings, environment: &Environment) -> Result<Recovered, OpenError> {
    let store = &*environment.store;
    format::upgrade(store).map_err(|error| OpenError::Refused(error.to_string()))?;
    let (identity, context_key) = match meta::read::<Identity>(store, meta::IDENTITY)? {
        Some(identity) => known(store, environment, identity)?,
        None => {
            let birth = Birth::drawn(environment.entropy);
            first_start(environment, birth)?
        }
    };
    let applied = meta::applied(store)?;
    let durable = meta::applied_durably(store)?;
    let log_settings = wal::Settings {
        verify_above: durable,
        ..settings.log()
    };
    let owner = codec::encode(&identity);
    let (mut log, found) = Log::open(Arc::clone(&environment.log), log_settings, &owner)?;
    check_owner(&identity, &found.owner)?;
    if found.truncated_bytes > 0 {
        tracing::info!(
            bytes = found.truncated_bytes,
            "an unacknowledged tail of the log was dropped"
        );
    }
    if found.segments == 0 && applied > Lsn::ZERO {
        return Err(OpenError::Refused(format!(
            "the database holds records up to {applied}, but its log is gone, and with it every later record: put the folder of the log back (is its disk mounted?), or restore a backup into an empty data directory"
        )));
    }
    if found.last < applied {
        // Never so as long as every flush follows a sync. LSNs are not reused, so whoever follows the log sees a hole.
        tracing::error!(
            log = found.last.0,
            store = applied.0,
            "bug: the store is ahead of the log; the log goes on behind it"
        );
        log.skip_past(applied)?;
    }
    let replayed_bytes = replay(&log, store, applied)?;
    let applied = log.last();
    Ok(Recovered {
        identity,
        context_key,
        log,
        replayed_bytes,
        applied,
        durable,
    })
}

fn known(
    store: &dyn Store,
    environment: &Environment,
    identity: Identity,
) -> Result<(Identity, ContextKey), OpenError> {
    if identity.node != environment.node {
        let (stored, given) = (&identity.node, &environment.node);
        return Err(OpenError::Refused(format!(
            "these data belong to node {stored:?}, but the node is now called {given:?}: start it as {stored:?}, or give {given:?} a data directory of its own"
        )));
    }
    let Some(context_key) = meta::read(store, meta::CONTEXT_KEY)? else {
        return Err(OpenError::Refused(
            "the store is damaged: the secret for context tokens is missing".to_owned(),
        ));
    };
    Ok((identity, context_key))
}

/// What a node is given once, at its first start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Birth {
    /// The cluster it belongs to.
    pub cluster: [u8; 16],
    /// Its life, and raft's number of it.
    pub incarnation: u64,
    /// The cluster's secret for context tokens.
    pub context_key: [u8; 32],
}

impl Birth {
    /// Of a node that founds a cluster of its own.
    #[must_use]
    pub fn drawn(entropy: fn() -> u64) -> Birth {
        let mut birth = Birth {
            cluster: [0; 16],
            incarnation: 0,
            context_key: [0; 32],
        };
        for chunk in birth.cluster.chunks_mut(8).chain(birth.context_key.chunks_mut(8)) {
            chunk.copy_from_slice(&entropy().to_le_bytes());
        }
        birth.incarnation = entropy();
        birth
    }
}

impl Environment {
    /// The cluster and the life of the node whose data these are; `None` before its first start.
    ///
    /// # Errors
    /// When the store cannot be read or is damaged.
    pub fn identity(&self) -> Result<Option<([u8; 16], u64)>, OpenError> {
        let identity = meta::read::<Identity>(&*self.store, meta::IDENTITY)?;
        Ok(identity.map(|identity| (identity.cluster, identity.incarnation)))
    }

    /// Makes this the first start of a node of a cluster that there is already; without it, opening founds one.
    ///
    /// # Errors
    /// When it is not the first start.
    pub fn be_born(&self, birth: Birth) -> Result<(), OpenError> {
        if self.identity()?.is_some() {
            return Err(OpenError::Refused("these data belong to a node already".to_owned()));
        }
        first_start(self, birth).map(drop)
    }
}

fn first_start(environment: &Environment, birth: Birth) -> Result<(Identity, ContextKey), OpenError> {
    let store = &*environment.store;
    if !is_empty(&*environment.log)? {
        return Err(OpenError::Refused(
            "there is a log, but the store beside it is empty: bring back the store the log belongs to, or move both away to begin anew"
                .to_owned(),
        ));
    }
    let identity = Identity {
        node: environment.node.clone(),
        incarnation: birth.incarnation,
        cluster: birth.cluster,
    };
    let context_key = ContextKey(birth.context_key);
    let records = [
        (meta::FORMAT, codec::encode(&meta::Format(format::CURRENT))),
        (meta::IDENTITY, codec::encode(&identity)),
        (meta::CONTEXT_KEY, codec::encode(&context_key)),
    ];
    let changes = records.each_ref().map(|(key, value)| Change {
        family: Family::Meta,
        key,
        value: Some(value.as_slice()),
    });
    store.write(&changes)?;
    store.flush()?;
    Ok((identity, context_key))
}

fn is_empty(storage: &dyn Storage) -> Result<bool, OpenError> {
    let names = storage.list().map_err(wal::Error::Io)?;
    Ok(!names.iter().any(|name| name.ends_with(".log")))
}

fn check_owner(identity: &Identity, owner: &[u8]) -> Result<(), OpenError> {
    if owner.is_empty() {
        return Ok(());
    }
    let owner: Identity = codec::decode(owner).map_err(|error| OpenError::Refused(error.to_string()))?;
    if (&owner.node, owner.cluster) == (&identity.node, identity.cluster) {
        return Ok(());
    }
    Err(OpenError::Refused(format!(
        "the log belongs to node {:?}, the store beside it to node {:?} of another data directory: bring together what belongs together",
        owner.node, identity.node
    )))
}

fn replay(log: &Log, store: &dyn Store, applied: Lsn) -> Result<u64, OpenError> {
    let mut reader = log.reader(applied)?;
    let mut step = Vec::new();
    let (mut total, mut waiting) = (0, 0);
    while let Some(entry) = reader.next()? {
        waiting += entry.body.len();
        step.push(entry);
        if waiting >= STEP_BYTES {
            replay_step(&mut step, store)?;
            total += std::mem::take(&mut waiting);
        }
    }
    replay_step(&mut step, store)?;
    Ok((total + waiting) as u64)
}

fn replay_step(entries: &mut Vec<wal::Entry>, store: &dyn Store) -> Result<(), OpenError> {
    let Some(last) = entries.last() else { return Ok(()) };
    let applied = meta::encode_applied(last.lsn);
    let mut changes = Vec::with_capacity(entries.len() * 4);
    for entry in &*entries {
        if entry.header != record::KIND_WRITES {
            let (lsn, kind) = (entry.lsn, entry.header);
            return Err(OpenError::Refused(format!(
                "record {lsn} of the log is of kind {kind}, which this build does not know: start the newer build that wrote it"
            )));
        }
        let unreadable = |error| OpenError::Refused(format!("record {} of the log: {error}", entry.lsn));
        record::read(&entry.body, &mut changes).map_err(unreadable)?;
    }
    changes.push(Change {
        family: Family::Meta,
        key: meta::APPLIED_LSN,
        value: Some(&applied),
    });
    store.write(&changes)?;
    entries.clear();
    Ok(())
}
