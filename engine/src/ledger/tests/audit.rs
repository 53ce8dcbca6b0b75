//! The chain holds, and every kind of tampering shows.

use super::*;
use crate::keyspace::{
    audit::{self as family, Body, Sealed},
    codec,
};
use crate::ledger::audit::{Fault, Verified, verify};

fn story() -> World {
    let mut world = World::default();
    world.register("a", true);
    world.contribute("a", [1, 2]);
    world.consume("a");
    world.propose(Command::SetLimits(Limits {
        contribute_per_hour: 1,
        knowledge_per_hour: 1,
    }));
    let policy = NamespacePolicy {
        replication: Replication::Mesh,
        strategy: Strategy::LastWriteWins,
    };
    world.propose(Command::CreateNamespace {
        name: "n".into(),
        policy,
    });
    world.propose(Command::SetNamespacePolicy {
        name: "n".into(),
        strategy: Strategy::MergeUnion,
    });
    world
}

fn broken_at(world: &World) -> u64 {
    match verify(world) {
        Err(Fault::Broken { sequence, .. }) => sequence,
        other => panic!("{other:?}"),
    }
}

fn at(sequence: u64) -> (Family, Vec<u8>) {
    (Family::Audit, family::sealed(sequence))
}

#[test]
fn each_accepted_command_is_one_record_and_refusals_are_none() {
    let mut world = story();
    let Verified { records: 6, hash } = verify(&world).expect("sound") else {
        panic!()
    };
    assert!(is_limited(&world.consume("a")));
    world.propose(Command::SetNamespacePolicy {
        name: "unknown".into(),
        strategy: Strategy::MergeUnion,
    });
    assert_eq!(verify(&world).expect("sound"), Verified { records: 6, hash });
    assert_eq!(
        verify(&World::default()).expect("empty"),
        Verified {
            records: 0,
            hash: [0; 32]
        }
    );
}

#[test]
fn records_say_who_did_what_and_when() {
    let world = story();
    let Sealed { body, .. } = codec::decode(&world.records[&at(2)]).expect("a record");
    let Body {
        sequence: 2,
        at,
        event:
            family::Event::Contributed {
                node,
                new: 2,
                duplicates: 0,
                pool_counter: 2,
                ..
            },
    } = codec::decode(&body).expect("a body")
    else {
        panic!()
    };
    assert_eq!((at, node.as_str()), (Timestamp(START), "a"));
}

#[test]
fn every_changed_byte_shows() {
    let world = story();
    for sequence in 1..=6 {
        for byte in 0..world.records[&at(sequence)].len() {
            let mut tampered = story();
            tampered.records.get_mut(&at(sequence)).expect("there")[byte] ^= 1;
            assert_eq!(broken_at(&tampered), sequence, "byte {byte}");
        }
    }
}

#[test]
fn removal_swapping_cutting_and_adding_show() {
    let mut tampered = story();
    tampered.records.remove(&at(3));
    assert_eq!(broken_at(&tampered), 3);

    let mut tampered = story();
    let (second, third) = (tampered.records[&at(2)].clone(), tampered.records[&at(3)].clone());
    tampered.records.insert(at(2), third);
    tampered.records.insert(at(3), second);
    assert_eq!(broken_at(&tampered), 2);

    let mut tampered = story();
    tampered.records.remove(&at(6));
    assert_eq!(broken_at(&tampered), 6, "the end is cut off");

    let mut tampered = story();
    let Sealed { hash, .. } = codec::decode(&tampered.records[&at(6)]).expect("a record");
    let body = codec::encode(&Body {
        sequence: 7,
        at: Timestamp(START),
        event: family::Event::LimitsSet(Limits::default()),
    });
    tampered.records.insert(
        at(7),
        codec::encode(&Sealed {
            hash: family::seal(&hash, &body),
            body,
        }),
    );
    assert_eq!(broken_at(&tampered), 8, "a record was added behind the head's back");

    let mut tampered = story();
    let Sealed { body, .. } = codec::decode(&tampered.records[&at(1)]).expect("a record");
    let mut forged: Body = codec::decode(&body).expect("a body");
    forged.at = Timestamp(1);
    let body = codec::encode(&forged);
    tampered.records.insert(
        at(1),
        codec::encode(&Sealed {
            hash: family::seal(&[0; 32], &body),
            body,
        }),
    );
    assert_eq!(broken_at(&tampered), 2, "a record sealed anew does not carry the next");
}
