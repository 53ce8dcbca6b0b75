//! Name → namespace, and the gate before the reserved ones.
//!
//! Every call that names a namespace comes through here first, before any other field is looked at. The gate stands twice: by
//! name, and by number for whatever the registry should ever hold under another name.

use engine::{
    keyspace::NamespaceId,
    ledger::{self, Namespace, Replication},
    store::View,
};

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

/// The namespace of this name, whose keys are replicated by the mesh; `what` is asked for that others do not have.
pub(super) fn mesh(view: &dyn View, field: &'static str, name: &str, what: &'static str) -> Result<Namespace, Refused> {
    let namespace = find(view, field, name)?;
    match namespace.policy.replication {
        Replication::Mesh => Ok(namespace),
        Replication::Consensus => Err(Refused::MeshOnly {
            namespace: namespace.name,
            what,
        }),
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
