//! What other members ask of this one, and what strangers do.

use std::path::Path;

use engine::{
    Engine,
    clock::Timestamp,
    keyspace::raft_state::{self, Voter},
    ledger::{self, Command, NodeId, Outcome, Proposal},
};
use proto::v1 as wire;

use super::{
    super::{Peers, RaftSettings, Refused, Sequencer, Settings, types::Proposals, wire as messages},
    Machine, clock,
};
use crate::{metrics::Metrics, transport::Claim};

fn start(incoming: &Path) -> (Engine, Sequencer) {
    let engine = Machine::with_segments(16 << 20).open();
    let settings = Settings {
        raft: RaftSettings {
            incoming: Some(incoming.to_owned()),
            ..RaftSettings::default()
        },
        ..Settings::default()
    };
    let sequencer = Sequencer::start(engine.clone(), clock(), settings, &Metrics::new()).unwrap();
    (engine, sequencer)
}

fn own(engine: &Engine) -> u64 {
    let Voter(id) = raft_state::read(engine.view()).unwrap().unwrap();
    id
}

fn claim(engine: &Engine, from: u64, name: &str) -> Claim {
    Claim {
        cluster: engine.cluster(),
        from,
        name: name.to_owned(),
        to: own(engine),
    }
}

fn record(name: &str) -> Vec<u8> {
    let proposal = Proposal {
        at: Timestamp(1),
        idempotency: None,
        command: Command::Register {
            node: NodeId::new(name).unwrap(),
            verified: false,
        },
    };
    messages::proposals(&Proposals([proposal].into()))
}

async fn propose(peers: &Peers, claim: &Claim, record: Vec<u8>) -> Result<Vec<ledger::Decision>, Refused> {
    let answer = peers.propose(claim, wire::ProposeRequest { record }).await?;
    Ok(ledger::decode_decisions(&answer.decisions).unwrap())
}

fn known(engine: &Engine, name: &str) -> bool {
    let standing = ledger::standing(engine.view(), &NodeId::new(name).unwrap()).unwrap();
    standing.registered_at.is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_members_have_something_decided_and_only_under_their_own_number() {
    let place = tempfile::tempdir().unwrap();
    let (engine, sequencer) = start(place.path());
    let peers = sequencer.peers();
    let member = claim(&engine, own(&engine), "test");
    let decided = propose(&peers, &member, record("a")).await.unwrap();
    assert!(matches!(
        decided[..],
        [ledger::Decision {
            outcome: Outcome::Registered { .. },
            ..
        }]
    ));
    assert!(peers.read_index(&member).await.unwrap().index > 0);

    // Its certificate bears its name, and that is no member's: a client, or a node that was removed.
    let stranger = claim(&engine, 9, "me");
    let another = claim(&engine, own(&engine), "me");
    let elsewhere = Claim {
        to: 8,
        ..member.clone()
    };
    for (claim, why) in [
        (&stranger, "`me` is no member of the cluster"),
        (&another, "is `test`, not `me`"),
        (&elsewhere, "it was begun anew since"),
    ] {
        let refused = propose(&peers, claim, record("b")).await.unwrap_err();
        assert!(
            matches!(&refused, Refused::Misplaced(found) if found.contains(why)),
            "{refused:?}"
        );
        let refused = peers.read_index(claim).await.unwrap_err();
        assert!(
            matches!(&refused, Refused::Misplaced(found) if found.contains(why)),
            "{refused:?}"
        );
    }
    assert!(known(&engine, "a") && !known(&engine, "b"));

    // As a candidate under the number of somebody else.
    let ballot = Some(wire::Ballot {
        term: 1_000,
        node: own(&engine),
        committed: false,
    });
    let request = wire::VoteRequest {
        ballot,
        ..wire::VoteRequest::default()
    };
    let refused = peers.vote(&stranger, request).await.unwrap_err();
    assert!(matches!(refused, Refused::Misplaced(_)), "{refused:?}");
    assert!(sequencer.view().term < 1_000);
    sequencer.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_do_not_fit_the_log_are_refused_whoever_forwards_them() {
    let place = tempfile::tempdir().unwrap();
    let (engine, sequencer) = start(place.path());
    let (peers, member) = (sequencer.peers(), claim(&engine, own(&engine), "test"));
    let bytes_max = super::super::log::record_bytes_max(&engine);
    let largest = super::heavy(bytes_max);
    let over = super::heavy(bytes_max + 1);
    let refused = propose(&peers, &member, over).await.unwrap_err();
    assert!(
        matches!(&refused, Refused::Invalid(why) if why.contains("over the maximum")),
        "{refused:?}"
    );
    assert_eq!(propose(&peers, &member, largest).await.unwrap().len(), 1);
    assert!(sequencer.stopped().borrow().is_none());
    sequencer.close();
}

/// The pieces of an image sent by member 9, which leads in `term`.
fn pieces(term: u64, bytes: &[u8]) -> impl tokio_stream::Stream<Item = Result<wire::InstallRequest, String>> + Unpin {
    let ballot = Some(wire::Ballot {
        term,
        node: 9,
        committed: true,
    });
    let piece = wire::InstallRequest {
        ballot,
        data: bytes.to_vec().into(),
    };
    tokio_stream::once(Ok(piece))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_that_come_have_names_of_their_own_and_are_of_whoever_sends_them() {
    let (place, away) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let incoming = place.path().join("incoming");
    let (engine, sequencer) = start(&incoming);
    let path = away.path().join("image");
    let last = engine.export_image(&path).unwrap().last.unwrap();
    let bytes = std::fs::read(&path).unwrap();
    // One that was being put in place when the node ended.
    std::fs::create_dir_all(&incoming).unwrap();
    std::fs::write(incoming.join("image"), "of another").unwrap();
    let sender = claim(&engine, 9, "nine");
    let peers = sequencer.peers();

    let mut damaged = bytes.clone();
    damaged[20] ^= 1;
    let refused = peers
        .install(&sender, pieces(last.term + 1, &damaged))
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, Refused::NotTaken(why) if why.contains("damaged")),
        "{refused:?}"
    );
    // Its sender led before what it sends was decided.
    let refused = peers.install(&sender, pieces(last.term - 1, &bytes)).await.unwrap_err();
    assert!(
        matches!(&refused, Refused::NotTaken(why) if why.contains("later leader")),
        "{refused:?}"
    );
    let stranger = claim(&engine, 8, "eight");
    let refused = peers
        .install(&stranger, pieces(last.term + 1, &bytes))
        .await
        .unwrap_err();
    assert!(matches!(refused, Refused::Misplaced(_)), "{refused:?}");

    assert_eq!(std::fs::read(incoming.join("image")).unwrap(), b"of another");
    assert!(sequencer.stopped().borrow().is_none());
    sequencer.close();
}
