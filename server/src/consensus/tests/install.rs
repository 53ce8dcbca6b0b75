//! A snapshot of one member, installed by another.

use std::path::Path;

use engine::{
    Batch, Durability, Engine, Mutation,
    clock::Timestamp,
    image,
    keyspace::{
        codec,
        raft_state::{self, Applied, Installing},
        registry::{self, Roster},
    },
    ledger::{Command, Member, NodeId, Role},
    store::{Family, Write},
};
use openraft::{
    RaftSnapshotBuilder as _,
    storage::{RaftLogStorage as _, RaftStateMachine as _},
};

use super::{
    super::{
        RaftSettings, Sequencer, Settings,
        log::Log,
        machine,
        snapshot::Image,
        types::{Vote, meta_of},
    },
    Machine, clock, no_images,
};
use crate::metrics::Metrics;

fn owned(engine: &Engine) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    for family in image::FAMILIES {
        let mut visit = |key: &[u8], value: &[u8]| {
            rows.push((key.to_vec(), value.to_vec()));
            true
        };
        engine.view().scan(family, &[], None, &mut visit).unwrap();
    }
    rows
}

async fn registered(members: std::ops::Range<u64>) -> Engine {
    let engine = Machine::new().open();
    let sequencer = Sequencer::start(engine.clone(), clock(), Settings::default(), &Metrics::new()).unwrap();
    for member in members {
        let command = Command::Register {
            node: NodeId::new(format!("member {member}")).unwrap(),
            verified: false,
        };
        sequencer.propose(command, None).await.unwrap();
    }
    sequencer.close();
    engine
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_exports_another_installs() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("image");
    let (from, to) = (registered(0..30).await, registered(100..110).await);
    let applied = from.export_image(&path).unwrap().applied;
    let metrics = Metrics::new();
    let mut log = Log::open(to.clone(), &metrics).unwrap();
    log.save_vote(&Vote::new(9, 3)).await.unwrap();
    let mut member = machine::Machine::open(to.clone(), no_images(), &metrics).unwrap();
    let meta = meta_of(&applied).unwrap();

    // Bytes that are not what they are said to be change nothing.
    let before = owned(&to);
    let other = meta_of(&Applied::default()).unwrap();
    let copy = place.path().join("copy");
    std::fs::copy(&path, &copy).unwrap();
    assert!(member.install_snapshot(&other, Image::File(copy)).await.is_err());
    assert_eq!(owned(&to), before);

    member.install_snapshot(&meta, Image::File(path.clone())).await.unwrap();
    assert_eq!(owned(&to), owned(&from));
    assert_eq!(
        member.applied_state().await.unwrap(),
        (meta.last_log_id, meta.last_membership.clone())
    );
    assert_eq!(member.get_current_snapshot().await.unwrap().unwrap().meta, meta);
    assert_eq!(raft_state::read::<Installing>(to.view()).unwrap(), None);
    let vote: Option<raft_state::Vote> = raft_state::read(to.view()).unwrap();
    assert_eq!(vote.map(|vote| (vote.term, vote.node)), Some((9, 3)));
    assert!(!path.exists(), "its bytes are in the database");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_a_position_and_costs_one_row() {
    let engine = registered(0..5).await;
    let mut member = machine::Machine::open(engine.clone(), no_images(), &Metrics::new()).unwrap();
    let (last, members) = member.applied_state().await.unwrap();
    let built = member.get_snapshot_builder().await.build_snapshot().await.unwrap();
    assert_eq!((built.meta.last_log_id, &built.meta.last_membership), (last, &members));
    let current = member.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(current.meta, built.meta);
}

fn start(engine: &Engine, incoming: Option<&Path>) -> std::io::Result<Sequencer> {
    let settings = Settings {
        raft: RaftSettings {
            incoming: incoming.map(Path::to_owned),
            ..RaftSettings::default()
        },
        ..Settings::default()
    };
    Sequencer::start(engine.clone(), clock(), settings, &Metrics::new())
}

/// Leads once more, in a later term.
async fn lead_again(engine: &Engine) {
    let sequencer = start(engine, None).unwrap();
    register(&sequencer, "later").await;
    sequencer.close();
}

async fn register(sequencer: &Sequencer, name: &str) {
    let command = Command::Register {
        node: NodeId::new(name).unwrap(),
        verified: false,
    };
    sequencer.propose(command, None).await.unwrap();
}

fn vote(engine: &Engine) -> raft_state::Vote {
    raft_state::read(engine.view()).unwrap().unwrap()
}

async fn put(engine: &Engine, row: Write) {
    let frame = Batch::one(Mutation::Raft(vec![row]));
    engine.commit(frame, Durability::Synced).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_install_that_was_cut_short_is_ended_before_the_node_leads() {
    // Of the terms of what was here and of what came either may be the later: what was here may end with entries that nobody decided.
    for (of_sender, of_receiver) in [(0, 0), (2, 0), (0, 2)] {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("image");
        let (from, to) = (registered(0..30).await, registered(100..110).await);
        for _ in 0..of_sender {
            lead_again(&from).await;
        }
        for _ in 0..of_receiver {
            lead_again(&to).await;
        }
        let then = from.export_image(&path).unwrap().applied;
        let kept = place.path().join("kept");
        std::fs::rename(&path, &kept).unwrap();
        // Raft saves the vote of whoever sends an image before it takes it.
        let sender = then.last.unwrap();
        if vote(&to).term < sender.term {
            let vote = raft_state::Vote {
                term: sender.term,
                node: sender.leader,
                committed: true,
            };
            put(&to, raft_state::put(&vote)).await;
        }
        let row = Installing {
            file: "image".to_owned(),
            then,
        };
        put(&to, raft_state::put(&row)).await;
        for (incoming, what) in [
            (None, "nobody has said where it lies"),
            (Some(place.path()), "put the file back"),
        ] {
            let refused = start(&to, incoming).map(drop).unwrap_err().to_string();
            assert!(refused.contains(what), "{refused}");
        }
        std::fs::rename(&kept, &path).unwrap();
        let sequencer = start(&to, Some(place.path())).unwrap();
        assert_eq!(owned(&to), owned(&from));
        assert_eq!(raft_state::read::<Installing>(to.view()).unwrap(), None);
        assert!(!path.exists(), "its bytes are in the database");
        register(&sequencer, "after").await;
        sequencer.close();
    }
}

/// It would lead in a term that is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_of_a_later_leader_than_the_vote_does_not_start() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("image");
    let (from, to) = (registered(0..30).await, registered(100..110).await);
    while from.export_image(&path).unwrap().applied.last.unwrap().term < vote(&to).term + 2 {
        lead_again(&from).await;
    }
    image::install(&to, &path).unwrap();
    let refused = start(&to, None).map(drop).unwrap_err().to_string();
    assert!(refused.contains("are not of one life"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_of_a_member_whose_cluster_may_live_on_do_not_start() {
    let engine = Machine::new().open();
    let roster = Roster {
        members: vec![Member {
            name: "test".to_owned(),
            // Of the life before the restore.
            voter: 1_234,
            address: "test:1".to_owned(),
            role: Role::Voter,
            since: Timestamp(1),
        }],
    };
    let row = Write {
        family: Family::Registry,
        key: registry::roster(),
        value: Some(codec::encode(&roster)),
    };
    let batch = Batch::one(Mutation::Apply(vec![row]));
    engine.commit(batch, Durability::Synced).await.unwrap();
    let refused = start(&engine, None).map(drop).unwrap_err().to_string();
    assert!(refused.contains("continuum-admin cluster replace"), "{refused}");
    assert_eq!(
        raft_state::read::<Applied>(engine.view()).unwrap(),
        None,
        "nothing was decided"
    );
}
