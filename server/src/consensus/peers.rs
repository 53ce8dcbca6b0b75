//! What the other members ask of this one.
//!
//! Whoever calls was found to be who it says by the face. Here it is seen whether it means this node, and whether raft knows its
//! number by another name.

use std::{io, path::PathBuf, pin::pin};

use engine::image;
use openraft::{
    alias::SnapshotOf,
    async_runtime::watch::WatchReceiver as _,
    raft::{AppendEntriesRequest, StreamAppendError},
};
use proto::v1 as wire;
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};

use super::{
    images::Known,
    log::record_bytes_max,
    member::Member,
    propose::Undecided,
    snapshot::Image,
    types::{Proposals, Types, Vote, meta_of, rests_on, stored_vote},
    wire as messages,
};
use crate::{runtime::tasks, transport::Claim};

/// Said to one that speaks as a leader or candidate under another's number.
const NOT_LEADER: &str = "the caller speaks for another member";
/// Answers of one stream that wait to be sent.
const ANSWERS_MAX: usize = 64;

/// Why another member is not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It means another node, or is not who raft knows under its number.
    #[error("{0}")]
    Misplaced(String),
    /// Nothing happened.
    #[error("{0}")]
    NotTaken(String),
    /// It may have happened, or may still.
    #[error("{0}")]
    Unknown(String),
    /// The message is none.
    #[error("{0}")]
    Invalid(String),
    /// Raft here has died, or the disk does not do what it should.
    #[error("{0}")]
    Failed(String),
}

impl From<messages::Unreadable> for Refused {
    fn from(error: messages::Unreadable) -> Refused {
        Refused::Invalid(error.to_string())
    }
}

/// Answers the other members; clones share the node.
#[derive(Clone)]
pub struct Peers {
    member: Member,
}

impl Peers {
    pub(super) fn new(member: Member) -> Peers {
        Peers { member }
    }

    /// The cluster that callers must belong to.
    #[must_use]
    pub fn cluster(&self) -> [u8; 16] {
        self.member.engine.cluster()
    }

    /// Whether raft knows a member by this number and name.
    #[must_use]
    pub fn knows(&self, number: u64, name: &str) -> bool {
        let metrics = self.member.raft.metrics();
        let now = metrics.borrow_watched();
        let known = now.membership_config.membership().get_node(&number);
        known.is_some_and(|known| known.name == name)
    }

    /// Whoever calls means this node, and is who raft knows under its number; whether raft knows it.
    fn admit(&self, claim: &Claim) -> Result<bool, Refused> {
        let own = self.member.id;
        if claim.to != own {
            return Err(Refused::Misplaced(format!(
                "this node is {own:016x}, not {:016x}: it was begun anew since; remove the old member and let this one join",
                claim.to
            )));
        }
        let metrics = self.member.raft.metrics();
        let now = metrics.borrow_watched();
        match now.membership_config.membership().get_node(&claim.from) {
            Some(known) if known.name != claim.name => Err(Refused::Misplaced(format!(
                "member {:016x} is `{}`, not `{}`",
                claim.from, known.name, claim.name
            ))),
            known => {
                if known.is_some() {
                    self.member.network.contacts.called(claim.from);
                }
                Ok(known.is_some())
            }
        }
    }

    /// Whoever asks something of the leader is known to it.
    fn admit_member(&self, claim: &Claim) -> Result<(), Refused> {
        if self.admit(claim)? {
            return Ok(());
        }
        let name = &claim.name;
        Err(Refused::Misplaced(format!("`{name}` is no member of the cluster")))
    }

    /// Gives a vote, durably, or says whether it would.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn vote(&self, claim: &Claim, message: wire::VoteRequest) -> Result<wire::VoteResponse, Refused> {
        self.admit(claim)?;
        let pre = message.pre;
        let request = messages::vote_request(message)?;
        if request.vote.leader_id.node_id != claim.from {
            return Err(Refused::Misplaced(NOT_LEADER.to_owned()));
        }
        let raft = &self.member.raft;
        let answer = if pre {
            raft.pre_vote(request).await
        } else {
            raft.vote(request).await
        };
        Ok(messages::vote_answer(&answer.map_err(failed)?))
    }

    /// Appends entries; each answer says that what its request brought is durable. Ends with the first answer that says otherwise.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn append(
        &self,
        claim: &Claim,
        requests: impl Stream<Item = wire::AppendRequest> + Send + 'static,
    ) -> Result<ReceiverStream<Result<wire::AppendResponse, Refused>>, Refused> {
        self.admit(claim)?;
        let (sender, mut notes) = mpsc::unbounded_channel();
        let caller = claim.from;
        let readable = requests.map_while(move |message| match messages::append_request(message) {
            Ok(request) if request.vote.leader_id.node_id != caller => {
                tracing::error!("{NOT_LEADER}: its entries are not taken");
                None
            }
            Ok(request) => {
                let _answers_are_gone = sender.send(committed(&request));
                Some(request)
            }
            Err(error) => {
                tracing::error!(%error, "the leader sent what this build cannot read");
                None
            }
        });
        let (answer_to, answers) = mpsc::channel(ANSWERS_MAX);
        let member = self.member.clone();
        drop(tasks::spawn(async move {
            let mut answers = pin!(member.raft.stream_append(readable));
            while let Some(answer) = answers.next().await {
                // Noted before raft had the request, so it is there.
                let decided = notes.try_recv().unwrap_or_default();
                if matches!(answer, Ok(Ok(_) | Err(StreamAppendError::Conflict(_)))) {
                    member.heard.leader(decided);
                }
                let answer = answer.map(|answer| messages::appended(&answer)).map_err(failed);
                if answer_to.send(answer).await.is_err() {
                    return;
                }
            }
        }));
        Ok(ReceiverStream::new(answers))
    }

    /// How much is here of an image that broke off.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn received(
        &self,
        claim: &Claim,
        message: wire::ReceivedRequest,
    ) -> Result<wire::ReceivedResponse, Refused> {
        self.admit(claim)?;
        let image = Known::of_wire(message.image)?;
        let images = &self.member.network.images;
        let _turn = images.turn().ok_or_else(another_image)?;
        let bytes = images.received(image).await;
        let bytes =
            bytes.map_err(|error| Refused::NotTaken(format!("what is here of the image cannot be read: {error}")))?;
        Ok(wire::ReceivedResponse { bytes })
    }

    /// Takes an image, or the rest of it, in the place of the ledger that is here. What has come of one that breaks off is kept.
    ///
    /// # Errors
    /// [`Refused`]; the ledger is what it was unless the image was whole.
    pub async fn install<E: std::fmt::Display>(
        &self,
        claim: &Claim,
        mut pieces: impl Stream<Item = Result<wire::InstallRequest, E>> + Send + Unpin,
    ) -> Result<wire::InstallResponse, Refused> {
        self.admit(claim)?;
        // Held until it is in place, also when the caller goes away meanwhile.
        let turn = self.member.network.images.turn().ok_or_else(another_image)?;
        self.member
            .engine
            .admits()
            .map_err(|full| Refused::NotTaken(full.to_string()))?;
        let broke_off = |error: &dyn std::fmt::Display| Refused::NotTaken(format!("the image broke off: {error}"));
        let untaken = |error: io::Error| Refused::NotTaken(format!("the image is not taken: {error}"));
        let first = pieces.next().await.ok_or_else(|| messages::missing("image"))?;
        let first = first.map_err(|error| broke_off(&error))?;
        let vote = messages::vote(first.ballot)?;
        if vote.leader_id.node_id != claim.from {
            return Err(Refused::Misplaced(NOT_LEADER.to_owned()));
        }
        let image = Known::of_wire(first.image)?;
        let taking = self
            .member
            .network
            .images
            .take(image, first.from, turn)
            .map_err(untaken)?;
        let mut goes_on = taking.piece(first.data).await;
        while goes_on && let Some(piece) = pieces.next().await {
            goes_on = taking.piece(piece.map_err(|error| broke_off(&error))?.data).await;
        }
        let (path, turn) = taking.end().await.map_err(untaken)?;
        let this = self.clone();
        let placed = tasks::spawn(async move {
            let placed = this.put_in_place(vote, path.clone()).await;
            // Whatever became of it, nobody needs the file any more; most often it is gone already.
            let _gone = std::fs::remove_file(&path);
            drop(turn);
            placed
        });
        let vote = placed.await.unwrap_or_else(|error| Err(failed(error)))?;
        Ok(wire::InstallResponse {
            ballot: Some(messages::ballot(&vote)),
        })
    }

    async fn put_in_place(&self, vote: Vote, path: PathBuf) -> Result<Vote, Refused> {
        let checked = {
            let path = path.clone();
            tasks::blocking(move || image::check(&path)).await
        };
        let checked = checked.ok_or_else(|| Refused::Failed("checking the image panicked".to_owned()))?;
        let applied = checked.map_err(|error| Refused::NotTaken(error.to_string()))?;
        if !rests_on(applied.last, Some(stored_vote(&vote))) {
            // Its sender follows another by now; what is applied never goes beyond the vote.
            return Err(Refused::NotTaken(
                "the image is of a later leader than its sender".to_owned(),
            ));
        }
        let snapshot = SnapshotOf::<Types, Image> {
            meta: meta_of(&applied).map_err(|error| Refused::NotTaken(error.to_string()))?,
            snapshot: Image::File(path),
        };
        let installed = self.member.raft.install_full_snapshot(vote, snapshot).await;
        Ok(installed.map_err(|error| Refused::Failed(error.to_string()))?.vote)
    }

    /// Tries to lead.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn transfer_leader(&self, claim: &Claim, message: wire::TransferLeaderRequest) -> Result<(), Refused> {
        self.admit(claim)?;
        let request = messages::transfer_request(message)?;
        let taken = self.member.raft.handle_transfer_leader(request).await;
        let taken = taken.map_err(|error| Refused::Failed(error.to_string()))?;
        taken.map_err(|error| Refused::NotTaken(error.to_string()))
    }

    /// Has another member's commands decided, if this node leads.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn propose(
        &self,
        claim: &Claim,
        message: wire::ProposeRequest,
    ) -> Result<wire::ProposeResponse, Refused> {
        self.admit_member(claim)?;
        let (bytes, bytes_max) = (message.record.len(), record_bytes_max(&self.member.engine));
        if bytes > bytes_max {
            return Err(Refused::Invalid(format!(
                "commands of {bytes} bytes are over the maximum of {bytes_max}"
            )));
        }
        let proposals = Proposals(messages::proposed(&message.record)?);
        match self.member.decide_for_another(proposals).await {
            Ok((index, decisions)) => Ok(wire::ProposeResponse {
                index,
                decisions: engine::ledger::encode_decisions(&decisions),
            }),
            Err(Undecided::Nothing(why)) => Err(Refused::NotTaken(why)),
            Err(Undecided::Never(why)) => Err(Refused::Invalid(why)),
            Err(Undecided::Unknown(why)) => Err(Refused::Unknown(why)),
            Err(Undecided::Died(why)) => Err(Refused::Failed(why)),
        }
    }

    /// Which entry must be applied before a linearizable read, if this node leads.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn read_index(&self, claim: &Claim) -> Result<wire::ReadIndexResponse, Refused> {
        self.admit_member(claim)?;
        let index = self.member.own_read_index().await;
        let index = index.map_err(|error| Refused::NotTaken(error.to_string()))?;
        Ok(wire::ReadIndexResponse { index })
    }

    /// What time it is here.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn clock(&self, claim: &Claim) -> Result<wire::ClockResponse, Refused> {
        self.admit(claim)?;
        let now_us = self.member.now().0;
        Ok(wire::ClockResponse { now_us })
    }
}

fn committed(request: &AppendEntriesRequest<Types>) -> Option<u64> {
    request.leader_commit.as_ref().map(|id| id.index)
}

fn another_image() -> Refused {
    Refused::NotTaken("another image is being taken".to_owned())
}

fn failed(error: impl std::fmt::Display) -> Refused {
    Refused::Failed(error.to_string())
}
