//! What other members ask of this one, and what strangers do.

use std::{path::Path, time::Duration};

use engine::{
    Engine,
    clock::Timestamp,
    keyspace::raft_state::{self, Voter},
    ledger::{self, Command, NodeId, Outcome, Proposal},
};
use proto::v1 as wire;
use sha2::{Digest as _, Sha256};

use super::{
    super::{Peers, RaftSettings, Refused, Sequencer, Settings, types::Proposals, wire as messages},
    Machine, clock,
};
use crate::{metrics::Metrics, runtime::time::Stopwatch, transport::Claim};

fn settings(incoming: &Path) -> Settings {
    Settings {
        raft: RaftSettings {
            incoming: Some(incoming.to_owned()),
            ..RaftSettings::default()
        },
        ..Settings::default()
    }
}

fn start(incoming: &Path) -> (Engine, Sequencer) {
    let engine = Machine::with_segments(16 << 20).open();
    let sequencer = Sequencer::start(engine.clone(), clock(), settings(incoming), &Metrics::new()).unwrap();
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

/// An image as its sender describes it.
fn described(bytes: &[u8]) -> wire::Image {
    wire::Image {
        sum: Sha256::digest(bytes).to_vec(),
        bytes: bytes.len() as u64,
    }
}

/// What member 9, which leads in `term`, sends of an image behind `from`, in pieces of `size`.
fn pieces(
    term: u64,
    image: &wire::Image,
    bytes: &[u8],
    (from, size): (usize, usize),
) -> Vec<Result<wire::InstallRequest, String>> {
    let mut first = Some(wire::InstallRequest {
        ballot: Some(wire::Ballot {
            term,
            node: 9,
            committed: true,
        }),
        image: Some(image.clone()),
        from: from as u64,
        ..wire::InstallRequest::default()
    });
    let piece = |data: &[u8]| {
        let mut piece = first.take().unwrap_or_default();
        piece.data = data.to_vec().into();
        Ok(piece)
    };
    bytes[from..].chunks(size).map(piece).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_that_come_have_names_of_their_own_and_are_of_whoever_sends_them() {
    let (place, away) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let incoming = place.path().join("incoming");
    let (engine, sequencer) = start(&incoming);
    let path = away.path().join("image");
    let last = engine.export_image(&path).unwrap().applied.last.unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let image = described(&bytes);
    // One that was being put in place when the node ended.
    std::fs::create_dir_all(&incoming).unwrap();
    std::fs::write(incoming.join("image"), "of another").unwrap();
    let sender = claim(&engine, 9, "nine");
    let peers = sequencer.peers();
    let install = async |claim: &Claim, term: u64, bytes: &[u8]| {
        let pieces = pieces(term, &image, bytes, (0, usize::MAX));
        peers.install(claim, tokio_stream::iter(pieces)).await.unwrap_err()
    };

    let mut damaged = bytes.clone();
    damaged[20] ^= 1;
    let refused = install(&sender, last.term + 1, &damaged).await;
    assert!(
        matches!(&refused, Refused::NotTaken(why) if why.contains("damaged")),
        "{refused:?}"
    );
    let longer = [&bytes[..], b"more"].concat();
    let refused = install(&sender, last.term + 1, &longer).await;
    assert!(
        matches!(&refused, Refused::NotTaken(why) if why.contains("more than")),
        "{refused:?}"
    );
    // Its sender led before what it sends was decided.
    let refused = install(&sender, last.term - 1, &bytes).await;
    assert!(
        matches!(&refused, Refused::NotTaken(why) if why.contains("later leader")),
        "{refused:?}"
    );
    let stranger = claim(&engine, 8, "eight");
    let refused = install(&stranger, last.term + 1, &bytes).await;
    assert!(matches!(refused, Refused::Misplaced(_)), "{refused:?}");

    assert_eq!(std::fs::read(incoming.join("image")).unwrap(), b"of another");
    assert!(sequencer.stopped().borrow().is_none());
    sequencer.close();
}

/// The files of images that broke off.
fn parts(incoming: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(incoming).unwrap().map(|entry| entry.unwrap().path());
    let is_part = |path: &std::path::PathBuf| path.extension().is_some_and(|extension| extension == "part");
    entries.filter(is_part).collect()
}

/// Member 9, that sends an image as far as the node itself: it is taken, and there is nothing to put in place.
struct Sender {
    peers: Peers,
    claim: Claim,
    term: u64,
    image: wire::Image,
    bytes: Vec<u8>,
}

impl Sender {
    fn of(engine: &Engine, sequencer: &Sequencer) -> Sender {
        let away = tempfile::tempdir().unwrap();
        let path = away.path().join("image");
        let term = engine.export_image(&path).unwrap().applied.last.unwrap().term + 1;
        let bytes = std::fs::read(&path).unwrap();
        Sender {
            peers: sequencer.peers(),
            claim: claim(engine, 9, "nine"),
            term,
            image: described(&bytes),
            bytes,
        }
    }

    /// How much of it the node has.
    async fn received(&self) -> usize {
        let since = Stopwatch::start();
        loop {
            let image = Some(self.image.clone());
            match self.peers.received(&self.claim, wire::ReceivedRequest { image }).await {
                Ok(answer) => return usize::try_from(answer.bytes).unwrap(),
                // What has come is written beside the call that broke off.
                Err(Refused::NotTaken(why)) if why.contains("another image") => {}
                Err(error) => panic!("{error}"),
            }
            assert!(
                since.elapsed() < Duration::from_secs(30),
                "an image is being taken for ever"
            );
            tokio::task::yield_now().await;
        }
    }

    /// Sends what stands behind `from`; after so many pieces it breaks off.
    async fn send(&self, from: usize, pieces_max: usize) -> Result<wire::InstallResponse, Refused> {
        let mut pieces = pieces(self.term, &self.image, &self.bytes, (from, 64));
        if pieces_max < pieces.len() {
            pieces.truncate(pieces_max);
            pieces.push(Err("the connection is gone".to_owned()));
        }
        self.peers.install(&self.claim, tokio_stream::iter(pieces)).await
    }

    async fn refused(&self, from: usize, pieces_max: usize, expected: &str) {
        let refused = self.send(from, pieces_max).await.unwrap_err();
        assert!(
            matches!(&refused, Refused::NotTaken(why) if why.contains(expected)),
            "{refused:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_breaks_off_goes_on_where_it_ended() {
    let place = tempfile::tempdir().unwrap();
    let incoming = place.path().join("incoming");
    let (engine, sequencer) = start(&incoming);
    let sender = Sender::of(&engine, &sequencer);
    let half = sender.bytes.len() / 2;
    assert_eq!(sender.received().await, 0);
    sender.refused(0, half / 64, "the connection is gone").await;
    let has = sender.received().await;
    let part = parts(&incoming).pop().unwrap();
    assert!(has > 0 && has <= half, "whole chunks of {half}: {has}");
    assert_eq!(std::fs::read(&part).unwrap(), sender.bytes[..has]);

    // Beyond what is there nothing is taken, and nothing is lost by it.
    sender.refused(has + 1, usize::MAX, "bytes of the image are here").await;
    assert_eq!(sender.received().await, has);
    // Damage on this disk is found, and only what stands before it is believed.
    let mut damaged = sender.bytes[..has].to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(&part, &damaged).unwrap();
    let sound = sender.received().await;
    assert!(sound < has, "{sound} of {has}");
    assert_eq!(std::fs::read(&part).unwrap(), sender.bytes[..sound]);

    // The rest is sent, and nothing is left of it once it was looked at.
    sender.send(sound, usize::MAX).await.unwrap();
    assert_eq!(std::fs::read_dir(&incoming).unwrap().count(), 0);
    sequencer.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_part_of_an_image_is_kept_also_over_a_start() {
    let place = tempfile::tempdir().unwrap();
    let incoming = place.path().join("incoming");
    let (engine, sequencer) = start(&incoming);
    let mut sender = Sender::of(&engine, &sequencer);
    sender.refused(0, 2, "the connection is gone").await;
    sender.received().await;
    let before = parts(&incoming);
    // Another one takes the place of what broke off.
    sender.bytes.extend(b"another");
    sender.image = described(&sender.bytes);
    sender.refused(0, 2, "the connection is gone").await;
    sender.received().await;
    let after = parts(&incoming);
    assert!(
        before.len() == 1 && after.len() == 1 && before != after,
        "{before:?}, {after:?}"
    );
    sequencer.close();
    drop((sender, sequencer));
    std::fs::write(incoming.join("outgoing-1"), "of another life").unwrap();
    let again = Sequencer::start(engine, clock(), settings(&incoming), &Metrics::new()).unwrap();
    assert_eq!(parts(&incoming), after);
    assert!(!incoming.join("outgoing-1").exists());
    again.close();
}
