//! Entries that come in parts, and what is too heavy to share a frame.

use std::sync::Arc;

use engine::{
    clock::Timestamp,
    image,
    json::Anonymiser,
    ledger::{Command, NodeId, PoolConcept},
    store::View,
};
use openraft::storage::RaftStateMachine as _;
use serde_json::json;

use super::{
    super::tests::{Machine as Node, no_images},
    *,
};
use crate::metrics::Metrics;

fn entry(index: u64, commands: impl IntoIterator<Item = Command>) -> EntryResponder<Types> {
    let proposals: Vec<Proposal> = commands
        .into_iter()
        .map(|command| Proposal {
            at: Timestamp(1),
            idempotency: None,
            command,
        })
        .collect();
    let id = raft_state::LogId {
        term: 1,
        leader: 1,
        index,
    };
    let entry = Entry {
        log_id: log_id(id),
        payload: EntryPayload::Normal(Proposals(Arc::from(proposals))),
    };
    (entry, None)
}

/// A contribution of `count` concepts, each of about `bytes`.
fn contribution(member: u64, count: u64, bytes: usize) -> Command {
    let concept = |number: u64| {
        let concept = json!({ "name": format!("{member} {number}"), "text": "x".repeat(bytes) });
        PoolConcept::new(concept, &Anonymiser::default()).unwrap()
    };
    Command::Contribute {
        node: NodeId::new(format!("member {member}")).unwrap(),
        concepts: (0..count).map(concept).collect(),
    }
}

/// Their effects are several frames. Everyone contributes twice, so that one decided again is seen.
fn commands() -> impl Iterator<Item = Command> {
    let twice = |member| [contribution(member, 2, 50_000), contribution(member, 1, 10)];
    (0..40).flat_map(twice)
}

fn large() -> EntryResponder<Types> {
    entry(0, commands())
}

/// The families after each command was decided for itself.
async fn one_by_one() -> Vec<(Vec<u8>, Vec<u8>)> {
    let engine = Node::with_segments(16 << 20).open();
    for command in commands() {
        let mut overlay = Overlay::new(engine.view(), &backup::hex(&engine.cluster()));
        let proposal = Proposal {
            at: Timestamp(1),
            idempotency: None,
            command,
        };
        ledger::apply(&mut overlay, proposal).unwrap();
        let batch = overlay.into_batch();
        engine.commit(batch, Durability::Synced).await.unwrap();
    }
    rows(engine.view())
}

fn open(engine: &Engine) -> Machine {
    Machine::open(engine.clone(), no_images(), &Metrics::new()).unwrap()
}

fn rows(view: &dyn View) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    for family in image::FAMILIES {
        let mut visit = |key: &[u8], value: &[u8]| {
            rows.push((key.to_vec(), value.to_vec()));
            true
        };
        view.scan(family, &[], None, &mut visit).unwrap();
    }
    rows
}

fn applied(engine: &Engine) -> Applied {
    raft_state::read(engine.view()).unwrap().unwrap_or_default()
}

/// Commits the next `count` frames of the entry, as far as there are any, and says how many there were.
async fn frames(machine: &mut Machine, count: usize) -> usize {
    let (mut entries, mut under_way) = ([large()].into_iter().peekable(), None);
    for done in 0..count {
        if under_way.is_none() && entries.peek().is_none() {
            return done;
        }
        let frame = machine.frame(&mut entries, &mut under_way, &mut Vec::new()).unwrap();
        machine.engine.commit(frame, Durability::Buffered).await.unwrap();
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_is_cut_between_its_parts_is_decided_as_if_it_were_not() {
    let whole = Node::with_segments(16 << 20).open();
    let parts = frames(&mut open(&whole), usize::MAX).await;
    assert!(parts > 3, "{parts} parts");
    assert_eq!(
        (applied(&whole).last.map(|last| last.index), applied(&whole).part),
        (Some(0), 0)
    );
    let expected = one_by_one().await;
    assert!(rows(whole.view()) == expected, "the same in one go");
    let mut between = 0;
    for done in 0..parts {
        // The process ends, or the power: then less may be in.
        for seed in [None, Some(1), Some(2), Some(3)] {
            let node = Node::with_segments(16 << 20);
            let engine = node.open();
            frames(&mut open(&engine), done).await;
            let node = match seed {
                None => {
                    engine.close().unwrap();
                    node
                }
                Some(seed) => node.power_cut(seed),
            };
            drop(engine);
            let engine = node.open();
            let found = applied(&engine);
            assert_eq!(found.last, None);
            between += u64::from(found.part > 0);
            open(&engine).apply(tokio_stream::iter([Ok(large())])).await.unwrap();
            assert_eq!(applied(&engine), applied(&whole), "{done} frames, seed {seed:?}");
            assert!(rows(engine.view()) == expected, "{done} frames, seed {seed:?}");
        }
    }
    assert!(between as usize >= parts - 1, "{between} found one that was not whole");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_tried_out_alone_is_not_put_on_what_others_write() {
    let engine = Node::with_segments(16 << 20).open();
    let heavy = contribution(1, 196, 60_000);
    let mut overlay = Overlay::new(engine.view(), "cluster");
    let proposal = |command: &Command| Proposal {
        at: Timestamp(1),
        idempotency: None,
        command: command.clone(),
    };
    ledger::apply(&mut overlay, proposal(&heavy)).unwrap();
    // Alone it fits; with what makes a frame nearly full it does not.
    let (bytes, bytes_max) = (overlay.bytes(), engine.batch_bytes_max());
    assert!(
        bytes < bytes_max && bytes + FRAME_BYTES_MAX > bytes_max,
        "{bytes} of {bytes_max}"
    );
    let before = contribution(0, 16, 60_000);
    let entries = vec![Ok(entry(0, [before.clone()])), Ok(entry(1, [heavy.clone()]))];
    open(&engine).apply(tokio_stream::iter(entries)).await.unwrap();
    assert_eq!(applied(&engine).last.map(|last| last.index), Some(1));
    // Within an entry, too.
    let engine = Node::with_segments(16 << 20).open();
    let entries = [Ok(entry(0, [before, heavy]))];
    open(&engine).apply(tokio_stream::iter(entries)).await.unwrap();
    assert_eq!(applied(&engine).last.map(|last| last.index), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_of_a_snapshot_is_not_gone_on_with() {
    let engine = Node::with_segments(1 << 20).open();
    let row = Installing {
        file: "image-7".to_owned(),
        then: Applied::default(),
    };
    let frame = Batch::one(Mutation::Raft(vec![raft_state::put(&row)]));
    engine.commit(frame, Durability::Synced).await.unwrap();
    let refused = Machine::open(engine, no_images(), &Metrics::new())
        .map(drop)
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the snapshot image-7 was being put in place when the node ended, and nobody has said where it lies"
    );
}
