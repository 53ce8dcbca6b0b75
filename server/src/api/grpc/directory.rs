//! Name → namespace, and the gate before the reserved ones.
//!
//! Every call that names a namespace comes through here first, before any other field is looked at. The gate stands twice: by
//! name, and by number for whatever the registry should ever hold under another name.

use std::collections::HashMap;

use engine::{
    Engine,
    keyspace::NamespaceId,
    ledger::{self, Namespace, Replication},
    store::View,
};
use parking_lot::Mutex;
use wal::Lsn;

use super::{fields, status::Refused};

/// Closed to every call, reading and writing.
const RESERVED: [&str; 2] = ["shared", "system"];

/// Refuses reserved and malformed names; `field` is what the caller calls it.
pub(super) fn check_name(field: &'static str, name: &str) -> Result<(), Refused> {
    if RESERVED.contains(&name) {
        return Err(Refused::Reserved { name: name.to_owned() });
    }
    fields::namespace_name(field, name)
}

/// The namespace of this name.
pub(super) fn find(view: &dyn View, field: &'static str, name: &str) -> Result<Namespace, Refused> {
    check_name(field, name)?;
    let Some(namespace) = ledger::namespace(view, name)? else {
        return Err(Refused::NamespaceUnknown { name: name.to_owned() });
    };
    if namespace.id < NamespaceId::FIRST_USER {
        return Err(Refused::Reserved { name: name.to_owned() });
    }
    Ok(namespace)
}

/// The namespace of this name, whose keys are replicated by the mesh.
pub(super) fn open(view: &dyn View, field: &'static str, name: &str) -> Result<Namespace, Refused> {
    let namespace = find(view, field, name)?;
    match namespace.policy.replication {
        Replication::Mesh => Ok(namespace),
        Replication::Consensus => Err(Refused::ConsensusUnbuilt),
    }
}

/// The namespaces found lately, for the calls that come by the thousand.
#[derive(Default)]
pub(super) struct Found {
    /// As they were after this record of the log: nothing changes without another.
    at: Mutex<(Lsn, HashMap<String, Namespace>)>,
}

impl Found {
    /// As [`open`], from memory if nothing has been written since it was last looked for.
    pub(super) fn open(&self, engine: &Engine, field: &'static str, name: &str) -> Result<Namespace, Refused> {
        // Before it is read: what is written meanwhile has a later place.
        let now = *engine.committed().borrow();
        {
            let (at, namespaces) = &*self.at.lock();
            if *at == now
                && let Some(found) = namespaces.get(name)
            {
                return Ok(found.clone());
            }
        }
        let namespace = open(engine.view(), field, name)?;
        let (at, namespaces) = &mut *self.at.lock();
        if *at < now {
            *at = now;
            namespaces.clear();
        }
        if *at == now {
            namespaces.insert(name.to_owned(), namespace.clone());
        }
        Ok(namespace)
    }
}

/// Namespaces of clients by name, strictly after `after`, at most `count`.
pub(super) fn list(view: &dyn View, after: Option<&str>, count: usize) -> Result<Vec<Namespace>, Refused> {
    let mut namespaces = ledger::namespaces(view)?;
    namespaces.retain(|namespace| {
        namespace.id >= NamespaceId::FIRST_USER && after.is_none_or(|after| namespace.name.as_str() > after)
    });
    namespaces.truncate(count);
    Ok(namespaces)
}
