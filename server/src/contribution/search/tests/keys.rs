//! Where usage counters lie on disk.

use engine::keyspace::{NamespaceId, concepts};

use super::{super::usage_key, *};

#[test]
fn golden_bytes_of_a_usage_key() {
    let key = usage_key(&ContentHash([0xab; 32]));
    assert_eq!(key, [&b"usage/"[..], &[0xab; 32]].concat());
    // In family `concepts`, under namespace 0.
    let concept = concepts::key(NamespaceId::SYSTEM, &key);
    assert_eq!(concept, [&b"\0\0\0\0usage/"[..], &[0xab; 32]].concat());
}
