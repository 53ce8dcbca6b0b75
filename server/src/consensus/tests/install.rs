//! A snapshot of one member, installed by another.

use std::path::Path;

use engine::{
    Batch, Durability, Engine, Mutation, image,
    keyspace::raft_state::{self, Applied, Installing},
    ledger::{Command, NodeId},
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
    Machine, clock,
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
    let applied = from.export_image(&path).unwrap();
    let metrics = Metrics::new();
    let mut log = Log::open(to.clone(), &metrics).unwrap();
    log.save_vote(&Vote::new(9, 3)).await.unwrap();
    let mut member = machine::Machine::open(to.clone(), None, &metrics).unwrap();
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
    let mut member = machine::Machine::open(engine.clone(), None, &Metrics::new()).unwrap();
    let (last, members) = member.applied_state().await.unwrap();
    let built = member.get_snapshot_builder().await.build_snapshot().await.unwrap();
    assert_eq!((built.meta.last_log_id, &built.meta.last_membership), (last, &members));
    let current = member.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(current.meta, built.meta);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_install_that_was_cut_short_is_ended() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("image");
    let (from, to) = (registered(0..30).await, registered(100..110).await);
    let then = from.export_image(&path).unwrap();
    let kept = place.path().join("kept");
    std::fs::rename(&path, &kept).unwrap();
    let row = raft_state::put(&Installing {
        file: "image".to_owned(),
        then: then.clone(),
    });
    let frame = Batch::one(Mutation::Raft(vec![row]));
    to.commit(frame, Durability::Synced).await.unwrap();
    let start = |incoming: Option<&Path>| {
        let settings = Settings {
            raft: RaftSettings {
                incoming: incoming.map(Path::to_owned),
                ..RaftSettings::default()
            },
            ..Settings::default()
        };
        Sequencer::start(to.clone(), clock(), settings, &Metrics::new())
    };
    for (incoming, what) in [
        (None, "nobody has said where it lies"),
        (Some(place.path()), "put the file back"),
    ] {
        let refused = start(incoming).map(drop).unwrap_err().to_string();
        assert!(refused.contains(what), "{refused}");
    }
    std::fs::rename(&kept, &path).unwrap();
    let resumed = {
        let (to, place) = (to.clone(), place.path().to_owned());
        tokio::task::spawn_blocking(move || image::install_unfinished(&to, &place))
            .await
            .unwrap()
    };
    assert_eq!(resumed.unwrap(), Some(then));
    assert_eq!(owned(&to), owned(&from));
    assert_eq!(raft_state::read::<Installing>(to.view()).unwrap(), None);
    assert!(!path.exists(), "its bytes are in the database");
}
