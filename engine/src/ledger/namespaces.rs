//! The closed registry of namespaces.

use super::{
    NamespacePolicy, Refusal,
    apply::Verdict,
    overlay::{Overlay, Records},
};
use crate::{
    crdt::Strategy,
    keyspace::{
        NamespaceId,
        audit::Event as Audited,
        registry::{self, Head, Namespace},
        requests::Outcome as Recorded,
    },
    store::{Error, Family},
};

/// The longest name, in bytes.
pub const NAMESPACE_NAME_BYTES_MAX: usize = 63;
/// Namespaces a cluster may have; a list of all is one answer.
pub const NAMESPACES_MAX: u32 = 65_536;

/// Names no client may have or reach.
const RESERVED: [&str; 2] = ["system", "shared"];

pub(super) fn create(overlay: &mut Overlay<'_>, name: String, policy: NamespacePolicy) -> Result<Verdict, Error> {
    if !is_valid(&name) {
        return Ok(Verdict::Refused(Refusal::NamespaceName));
    }
    let key = registry::namespace(&name);
    if overlay.record::<Namespace>(Family::Registry, &key)?.is_some() {
        return Ok(Verdict::Refused(Refusal::NamespaceExists));
    }
    let Head { next: id } = overlay.record(Family::Registry, &registry::head())?.unwrap_or_default();
    if id.0 - NamespaceId::FIRST_USER.0 >= NAMESPACES_MAX {
        return Ok(Verdict::Refused(Refusal::NamespacesFull));
    }
    let namespace = Namespace { id, policy };
    overlay.put(
        Family::Registry,
        registry::head(),
        &Head {
            next: NamespaceId(id.0 + 1),
        },
    );
    overlay.put(Family::Registry, registry::name(id), &registry::Name(name.clone()));
    overlay.put(Family::Registry, key, &namespace);
    let audited = Audited::NamespaceCreated {
        name: name.clone(),
        id,
        policy,
    };
    Ok(Verdict::Accepted {
        recorded: Recorded::NamespaceCreated { name, namespace },
        audited,
    })
}

pub(super) fn set_policy(overlay: &mut Overlay<'_>, name: String, strategy: Strategy) -> Result<Verdict, Error> {
    let key = registry::namespace(&name);
    let Some(mut namespace) = overlay.record::<Namespace>(Family::Registry, &key)? else {
        return Ok(Verdict::Refused(Refusal::NamespaceUnknown));
    };
    namespace.policy.strategy = strategy;
    overlay.put(Family::Registry, key, &namespace);
    Ok(Verdict::Accepted {
        recorded: Recorded::NamespacePolicySet,
        audited: Audited::NamespacePolicySet { name, strategy },
    })
}

/// `[a-z0-9][a-z0-9._-]{0,62}` and not reserved.
fn is_valid(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    bytes.len() <= NAMESPACE_NAME_BYTES_MAX
        && bytes.first().is_some_and(|&first| plain(first))
        && bytes
            .iter()
            .all(|&byte| plain(byte) || matches!(byte, b'.' | b'_' | b'-'))
        && !RESERVED.contains(&name)
}
