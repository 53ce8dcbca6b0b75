use super::*;
use crate::{
    clock::Timestamp,
    crdt::Strategy,
    json::ContentHash,
    keyspace::NamespaceId,
    keyspace::{codec::refuses_all_but, raft_state::Peer},
    ledger::{
        Action, AdoptedConcept, AdoptedContribution, AdoptedMember, Command, Compare, Holds, Idempotency, Limits,
        MemberChange, NamespacePolicy, NodeId, PoolConcept, Replication, Transaction,
    },
    store::memory::Memory,
};

fn node() -> NodeId {
    NodeId::new("n").unwrap()
}

fn concept() -> PoolConcept {
    PoolConcept {
        hash: ContentHash([7; 32]),
        json: "{}".to_owned(),
    }
}

fn of(commands: Vec<Command>) -> Entry {
    let proposals: Vec<Proposal> = commands
        .into_iter()
        .map(|command| Proposal {
            at: Timestamp(9),
            idempotency: None,
            command,
        })
        .collect();
    Entry {
        term: 3,
        leader: 300,
        payload: Payload::Proposals(proposals.into()),
    }
}

/// Pins the bytes of an entry, both ways.
#[track_caller]
fn golden(entry: &Entry, bytes: &[u8]) {
    assert_eq!(encode(entry), bytes, "{entry:?}");
    assert_eq!(decode(bytes).as_ref(), Ok(entry));
    refuses_all_but(bytes, decode);
}

#[test]
fn golden_bytes_of_entries() {
    let blank = Entry {
        term: 3,
        leader: 300,
        payload: Payload::Blank,
    };
    golden(&blank, &[1, 3, 251, 44, 1, 0]);
    let members = Membership {
        voters: vec![vec![9]],
        peers: vec![(9, Peer::default())],
    };
    let payload = Payload::Membership(members);
    golden(&Entry { payload, ..blank }, &[1, 3, 251, 44, 1, 2, 1, 1, 9, 1, 9, 0, 0]);
    assert_eq!((key(258), index(&key(258))), (vec![0, 0, 0, 0, 0, 0, 1, 2], Some(258)));
    assert_eq!(index(&[1]), None);
}

/// The bytes of one command, between what is before each and behind it.
fn command(command: Command) -> Vec<u8> {
    let entry = of(vec![command]);
    let bytes = encode(&entry);
    golden(&entry, &bytes);
    let before = [1, 3, 251, 44, 1, 1, 1, 9, 0];
    assert_eq!(bytes[..before.len()], before);
    bytes[before.len()..].to_vec()
}

#[test]
fn golden_bytes_of_commands() {
    let hash = [7; 32];
    let register = Command::Register {
        node: node(),
        verified: true,
    };
    assert_eq!(command(register), [0, 1, b'n', 1]);
    let contribute = Command::Contribute {
        node: node(),
        concepts: vec![concept()],
    };
    let expected = [&[1, 1, b'n', 1][..], &hash, &[2, b'{', b'}']].concat();
    assert_eq!(command(contribute), expected);
    assert_eq!(command(Command::Consume { node: node() }), [2, 1, b'n']);
    let limits = Limits {
        contribute_per_hour: 4,
        knowledge_per_hour: 5,
    };
    assert_eq!(command(Command::SetLimits(limits)), [3, 4, 5]);
    let adopt = Command::Adopt {
        contributor: node(),
        members: vec![AdoptedMember {
            node: node(),
            registered_at: Some(Timestamp(1)),
            verified: false,
            contributed: 2,
            consumed: 3,
            contributions: vec![AdoptedContribution {
                at: Timestamp(4),
                new: 5,
            }],
        }],
        concepts: vec![AdoptedConcept {
            concept: concept(),
            first_at: Timestamp(6),
        }],
    };
    let members = [1, 1, b'n', 1, 1, 0, 2, 3, 1, 4, 5];
    let expected = [&[4, 1, b'n'][..], &members, &[1], &hash, &[2, b'{', b'}', 6]].concat();
    assert_eq!(command(adopt), expected);
    let create = Command::CreateNamespace {
        name: "s".to_owned(),
        policy: NamespacePolicy {
            replication: Replication::Consensus,
            strategy: Strategy::KeepSiblings,
        },
    };
    assert_eq!(command(create), [5, 1, b's', 1, 3]);
    let policy = Command::SetNamespacePolicy {
        name: "s".to_owned(),
        strategy: Strategy::MergeUnion,
    };
    assert_eq!(command(policy), [6, 1, b's', 2]);
}

#[test]
fn golden_bytes_of_changes_of_members() {
    let remove = MemberChange::Remove { name: "m".to_owned() };
    assert_eq!(command(Command::Members(remove)), [8, 4, 1, b'm']);
    let form = MemberChange::Form {
        members: vec![("m".to_owned(), 9, "a".to_owned()), ("n".to_owned(), 8, "b".to_owned())],
    };
    let members = [1, b'm', 9, 1, b'a', 1, b'n', 8, 1, b'b'];
    assert_eq!(command(Command::Members(form)), [&[8, 5, 2][..], &members].concat());
}

#[test]
fn golden_bytes_of_a_transaction() {
    let compare = |holds| Compare {
        key: "a".to_owned(),
        holds,
    };
    let transact = Command::Transact(Transaction {
        namespace: NamespaceId(16),
        compares: vec![
            compare(Holds::Nothing),
            compare(Holds::Something),
            compare(Holds::Revision(300)),
            compare(Holds::Json("1".to_owned())),
        ],
        then: vec![
            Action::Put {
                key: "k".to_owned(),
                json: "{}".to_owned(),
            },
            Action::Delete { key: "l".to_owned() },
        ],
        otherwise: vec![Action::Get { key: "m".to_owned() }],
    });
    let compares = [4, 1, b'a', 0, 1, b'a', 1, 1, b'a', 2, 251, 44, 1, 1, b'a', 3, 1, b'1'];
    let then = [2, 0, 1, b'k', 2, b'{', b'}', 1, 1, b'l'];
    let expected = [&[7, 16][..], &compares, &then, &[1, 2, 1, b'm']].concat();
    assert_eq!(command(transact), expected);
}

#[test]
fn golden_bytes_of_a_retry() {
    let mut entry = of(vec![]);
    entry.payload = Payload::Proposals(
        vec![Proposal {
            at: Timestamp(9),
            idempotency: Some(Idempotency {
                caller: "c".to_owned(),
                key: "k".to_owned(),
                body: [8; 32],
            }),
            command: Command::Consume { node: node() },
        }]
        .into(),
    );
    let bytes = [
        &[1, 3, 251, 44, 1, 1, 1, 9, 1, 1, b'c', 1, b'k'][..],
        &[8; 32],
        &[2, 1, b'n'],
    ];
    golden(&entry, &bytes.concat());
}

fn filled(indexes: &[u64]) -> Memory {
    let store = Memory::new();
    for &index in indexes {
        let entry = Entry {
            term: index,
            leader: 1,
            payload: Payload::Blank,
        };
        store.put(Family::RaftLog, &key(index), &encode(&entry));
    }
    store
}

#[test]
fn the_last_entry_is_found_wherever_the_log_begins() {
    for first in [0, 1, 7, 1 << 33] {
        for length in 0..70 {
            let indexes: Vec<u64> = (first..first + length).collect();
            let store = filled(&indexes);
            assert_eq!(last(&store, first).unwrap(), indexes.last().copied());
        }
    }
}

#[test]
fn entries_are_read_in_order_and_a_hole_is_told() {
    let store = filled(&[4, 5, 6, 8]);
    let found = |from, to| {
        let entries = entries(&store, from, to)?;
        Ok::<_, store::Error>(entries.iter().map(|(index, entry)| (*index, entry.term)).collect())
    };
    assert_eq!(found(0, 6), Ok(vec![(4, 4), (5, 5)]));
    assert_eq!(found(5, 8), Ok(vec![(5, 5), (6, 6)]));
    assert_eq!(found(9, 20), Ok(vec![]));
    let told = found(4, 9).unwrap_err();
    assert!(told.0.contains("entry 7 of raft's log is missing"), "{told}");
}

#[test]
fn an_end_with_something_behind_it_is_none() {
    for (indexes, gone) in [(&[5, 6][..], 4), (&[4, 5, 7], 6), (&[4, 9], 5)] {
        let told = last(&filled(indexes), 4).unwrap_err();
        assert!(
            told.0.contains(&format!("entry {gone} of raft's log is missing")),
            "{told}"
        );
    }
    // What lies before the first is nobody's.
    assert_eq!(last(&filled(&[1, 2]), 4), Ok(None));
}
