use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::*;
use crate::{
    Batch, Mutation, Supersede,
    clock::Clock,
    commit::{
        Receipt,
        merge::{Admission, Resumed},
        record,
    },
    crdt::Operation,
    identity::Actor,
    keyspace::{
        NamespaceId,
        actors::Actors,
        meta::{self, requests::Head},
    },
    store::{Family, Store, View, memory::Memory},
};

struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

/// A merger that remembers three requests, and the log's place in it taken by the test.
struct Bench {
    merger: Merger,
    store: Arc<Memory>,
    clock: Arc<Hand>,
    group: u64,
}

impl Bench {
    fn new() -> Bench {
        let store = Arc::new(Memory::new());
        let clock = Arc::new(Hand(AtomicU64::new(1_000_000)));
        let resumed = Resumed {
            issued: meta::Issued::default(),
            requests: Head::default(),
        };
        let mut merger = Merger::new(
            Arc::clone(&store) as Arc<dyn Store>,
            Arc::new(Actors::default()),
            Arc::clone(&clock) as Arc<dyn Clock>,
            Actor::new("a", 1),
            resumed,
            1 << 20,
        );
        merger.requests_max = 3;
        Bench {
            merger,
            store,
            clock,
            group: 0,
        }
    }

    /// Merges one batch as a group of its own; what it writes reaches the store when `applied`.
    fn commit(&mut self, batch: Batch, applied: bool) -> Result<Receipt, CommitError> {
        self.group += 1;
        let mut merged = self.merger.merge(&[batch], Admission::All, self.group, 1 << 20);
        let outcome = merged.outcomes(wal::Lsn(self.group)).remove(0);
        if applied {
            let mut changes = Vec::new();
            for range in &merged.records {
                record::read(&merged.buffer[range.clone()], &mut changes).expect("written just now");
            }
            self.store.write(&changes).expect("memory");
            self.merger.settle(self.group);
        }
        outcome
    }

    fn rows(&self, prefix: &[u8]) -> usize {
        let mut rows = 0;
        let to = crate::store::end_of_prefix(prefix);
        let mut visit = |_: &[u8], _: &[u8]| {
            rows += 1;
            true
        };
        self.store
            .scan(Family::Meta, prefix, to.as_deref(), &mut visit)
            .expect("memory");
        rows
    }

    fn head(&self) -> Option<Head> {
        meta::read(&*self.store, requests::HEAD).expect("memory")
    }
}

fn named(id: &str, delta: i64) -> Batch {
    let mut body = [0; 16];
    body[..8].copy_from_slice(&delta.to_le_bytes());
    Batch {
        request: Some(Request {
            id: id.to_owned(),
            body,
        }),
        ..Batch::one(Mutation::Local {
            namespace: NamespaceId::FIRST_USER,
            key: b"k".to_vec(),
            operation: Operation::Add { delta },
            supersede: Supersede::All,
        })
    }
}

fn is_replay(outcome: &Result<Receipt, CommitError>) -> bool {
    outcome.as_ref().expect("not refused").replayed.is_some()
}

#[test]
fn beyond_the_bound_the_oldest_is_forgotten_whether_applied_or_not() {
    for applied in [true, false] {
        let mut bench = Bench::new();
        for id in ["1", "2", "3", "4"] {
            assert!(!is_replay(&bench.commit(named(id, 1), applied)));
        }
        for id in ["4", "3", "2"] {
            assert!(is_replay(&bench.commit(named(id, 1), applied)), "{id}");
        }
        assert!(
            !is_replay(&bench.commit(named("1", 1), applied)),
            "the oldest was forgotten"
        );
        assert!(!is_replay(&bench.commit(named("2", 1), applied)), "and for it the next");
        if applied {
            assert_eq!((bench.rows(b"request/"), bench.rows(b"asked/")), (3, 3));
            assert_eq!(bench.head(), Some(Head { next: 6, oldest: 3 }));
        }
    }
}

#[test]
fn an_old_id_may_be_used_again_and_is_not_forgotten_with_its_first_use() {
    let mut bench = Bench::new();
    bench.commit(named("1", 1), true).expect("new");
    bench.clock.0.fetch_add(requests::KEPT_US, Ordering::Relaxed);
    assert!(!is_replay(&bench.commit(named("1", 2), true)), "a day later it is new");
    let forget = Batch::one(Mutation::Forget { through: 0 });
    bench.commit(forget, true).expect("forgotten");
    assert_eq!((bench.rows(b"request/"), bench.rows(b"asked/")), (1, 1));
    assert!(is_replay(&bench.commit(named("1", 2), true)));
    // Places that are forgotten, or not yet given out, are nothing to forget.
    let last = bench.commit(Batch::one(Mutation::Forget { through: 0 }), true);
    assert!(last.is_ok() && bench.rows(b"request/") == 1);
    bench
        .commit(Batch::one(Mutation::Forget { through: 99 }), true)
        .expect("forgotten");
    assert_eq!((bench.rows(b"request/"), bench.rows(b"asked/")), (0, 0));
    assert_eq!(bench.head(), Some(Head { next: 2, oldest: 2 }));
}

#[test]
fn a_refused_batch_gives_back_what_was_forgotten_for_it() {
    let mut bench = Bench::new();
    for id in ["1", "2", "3"] {
        bench.commit(named(id, 1), true).expect("new");
    }
    // Refused for its last mutation, when the first has forgotten two.
    let mut refused = named("4", 1);
    refused.mutations = vec![
        Mutation::Forget { through: 1 },
        Mutation::Local {
            namespace: NamespaceId::FIRST_USER,
            key: b"k".to_vec(),
            operation: Operation::Change {
                add: vec!["1".to_owned()],
                remove: Vec::new(),
            },
            supersede: Supersede::All,
        },
    ];
    let refused = bench.commit(refused, true);
    assert!(
        matches!(refused, Err(CommitError::Rejected { index: 1, .. })),
        "{refused:?}"
    );
    let before = bench.merger.before();
    bench.commit(named("5", 1), false).expect("merged");
    // The log did not take it.
    bench.merger.roll_back(&before);
    for id in ["1", "2", "3"] {
        assert!(is_replay(&bench.commit(named(id, 1), true)), "{id}");
    }
    assert!(!is_replay(&bench.commit(named("4", 1), true)));
    assert_eq!(bench.head(), Some(Head { next: 4, oldest: 1 }));
}

#[test]
fn ids_that_are_none_are_refused() {
    let mut bench = Bench::new();
    for id in ["", &"x".repeat(65)] {
        assert!(matches!(bench.commit(named(id, 1), true), Err(CommitError::Invalid(_))));
    }
}
