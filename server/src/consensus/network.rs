//! From this node's raft to the others'.
//!
//! ```text
//!  append, heartbeat   Append: one stream, requests sent without waiting for the answers to those before
//!  vote, pre-vote      Vote
//!  far behind          an image of one moment ─► Received, how much of it is there ─► Install, the rest in pieces
//! ```
//!
//! Who cannot be reached, or does not take this node for who it is, is unreachable to raft: it waits a little and tries again.
//! The first failure of a kind is told, and so is the way back.

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use bytes::Bytes;
use engine::Engine;
use openraft::{
    OptionalSend, RaftNetworkFactory, RaftNetworkV2,
    alias::SnapshotOf,
    base::{BoxFuture, BoxStream},
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::RPCOption,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use parking_lot::Mutex;
use proto::v1::{self as wire, peers_client::PeersClient};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{
    Request, Status,
    metadata::{BinaryMetadataKey, BinaryMetadataValue},
    transport::Channel,
};

use super::{
    acknowledged::Acknowledged,
    images::{Images, Outgoing},
    snapshot::Image,
    types::{LogId, Peer, Types, Vote},
    wire as messages,
};
use crate::{
    runtime::{
        tasks,
        time::{Stopwatch, within},
    },
    transport::{Claim, Traffic, Transport, told},
};

/// The largest message taken from another member: many entries.
pub(super) const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// An image travels in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;
/// Pieces that wait to be sent.
const PIECES_MAX: usize = 2;
/// Time to look through what is there of an image that broke off.
const RECEIVED_WITHIN: Duration = Duration::from_mins(1);

/// Makes the ways to other members; clones share the connections.
#[derive(Clone)]
pub(super) struct Network {
    pub(super) transport: Transport,
    pub(super) engine: Engine,
    /// This node, as it calls itself when it calls.
    pub(super) id: u64,
    /// What the members took of what they were sent.
    pub(super) acknowledged: Acknowledged,
    /// Images of the ledger, for those that are far behind.
    pub(super) images: Images,
    /// When each member was heard, and what was told of those that cannot be reached.
    pub(super) contacts: Contacts,
    /// The way to each member that was asked for, by its number.
    pub(super) links: Arc<Mutex<HashMap<u64, Link>>>,
}

impl Network {
    /// The way to one member: made once, as long as it is found where it was.
    pub(super) fn link(&self, target: u64, peer: &Peer) -> Link {
        let mut links = self.links.lock();
        match links.get(&target) {
            Some(link) if link.0.peer == *peer => link.clone(),
            _ => {
                let link = Link(Arc::new(self.way(target, peer)));
                links.insert(target, link.clone());
                link
            }
        }
    }

    /// The same, if it was made.
    pub(super) fn known_link(&self, target: u64) -> Option<Link> {
        self.links.lock().get(&target).cloned()
    }

    fn way(&self, target: u64, peer: &Peer) -> Way {
        let claim = Claim {
            cluster: self.engine.cluster(),
            from: self.id,
            name: self.engine.actor().node.to_string(),
            to: target,
        };
        let channel = self.transport.channel_counted(&peer.address, &peer.name);
        let traffic = channel.as_ref().ok().map(|(_, traffic)| Arc::clone(traffic));
        Way {
            client: channel.map_err(|error| error.to_string()).map(|(channel, _)| {
                PeersClient::new(channel)
                    .max_decoding_message_size(MESSAGE_BYTES_MAX)
                    .max_encoding_message_size(MESSAGE_BYTES_MAX)
            }),
            claim: claim.metadata(),
            target,
            peer: peer.clone(),
            acknowledged: self.acknowledged.clone(),
            images: self.images.clone(),
            contacts: self.contacts.clone(),
            traffic,
        }
    }
}

/// When each member was heard, and what was told of those that cannot be reached; clones share it.
#[derive(Clone, Default)]
pub(super) struct Contacts(Arc<Mutex<HashMap<u64, Contact>>>);

#[derive(Default)]
struct Contact {
    /// Since its last call or answer.
    heard: Option<Stopwatch>,
    /// Why it cannot be reached.
    trouble: Option<String>,
}

impl Contacts {
    /// A member has called.
    pub(super) fn called(&self, member: u64) {
        self.0.lock().entry(member).or_default().heard = Some(Stopwatch::start());
    }

    /// A member has answered; whether it could not be reached before.
    fn answered(&self, member: u64) -> bool {
        let mut contacts = self.0.lock();
        let contact = contacts.entry(member).or_default();
        contact.heard = Some(Stopwatch::start());
        contact.trouble.take().is_some()
    }

    /// A member cannot be reached; whether that is news.
    fn failed(&self, member: u64, why: &str) -> bool {
        let mut contacts = self.0.lock();
        let contact = contacts.entry(member).or_default();
        let before = contact.trouble.replace(why.to_owned());
        before.as_deref() != Some(why)
    }

    /// How long a member has not been heard; `None` if it never was.
    pub(super) fn silence(&self, member: u64) -> Option<Duration> {
        let heard = self.0.lock().get(&member)?.heard?;
        Some(heard.elapsed())
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, peer: &Peer) -> Link {
        self.link(target, peer)
    }
}

/// The way to one member; clones share it.
#[derive(Clone)]
pub(super) struct Link(Arc<Way>);

struct Way {
    client: Result<PeersClient<Channel>, String>,
    claim: (BinaryMetadataKey, BinaryMetadataValue),
    target: u64,
    peer: Peer,
    acknowledged: Acknowledged,
    images: Images,
    contacts: Contacts,
    traffic: Option<Arc<Traffic>>,
}

impl Link {
    pub(super) fn client(&self) -> Result<PeersClient<Channel>, Unreachable<Types>> {
        self.0.client.clone().map_err(Unreachable::from_string)
    }

    /// `message` with this node's claim.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let (key, value) = self.0.claim.clone();
        request.metadata_mut().insert_bin(key, value);
        request
    }

    fn failed(&self, status: &Status) -> RPCError<Types> {
        let told = told(status);
        if self.0.contacts.failed(self.0.target, &told) {
            tracing::info!(
                member = self.0.peer.name,
                reason = told,
                "a member of the cluster cannot be reached"
            );
        }
        Unreachable::from_string(told).into()
    }

    /// What goes over the connections to it.
    pub(super) fn traffic(&self) -> Option<&Traffic> {
        self.0.traffic.as_deref()
    }

    pub(super) fn answered(&self) {
        if self.0.contacts.answered(self.0.target) {
            tracing::info!(member = self.0.peer.name, "the member can be reached again");
        }
    }

    async fn ask(
        &self,
        request: VoteRequest<Types>,
        pre: bool,
        option: &RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let mut client = self.client()?;
        let request = self.request(messages::vote_message(&request, pre));
        let answer = within(option.hard_ttl(), client.vote(request)).await;
        let answer = answer.unwrap_or_else(|| Err(Status::deadline_exceeded("no answer in time")));
        let answer = answer.map_err(|status| self.failed(&status))?;
        self.answered();
        Ok(messages::vote_response(answer.into_inner()).map_err(NetworkError::from_string)?)
    }

    /// Sends an image that has come at least as far as `upto`: what the other side does not have of it yet.
    async fn send_image(
        &self,
        vote: Vote,
        engine: Engine,
        upto: Option<LogId>,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let mut client = self.client()?;
        let images = &self.0.images;
        let image = images
            .outgoing(&engine, upto)
            .await
            .map_err(NetworkError::from_string)?;
        let known = image.known.to_wire();
        let asked = client.received(self.request(wire::ReceivedRequest { image: Some(known) }));
        let asked = within(RECEIVED_WITHIN, asked).await;
        let answer = asked.unwrap_or_else(|| Err(Status::deadline_exceeded("no answer in time")));
        let from = answer.map_err(|status| self.untaken(&status))?.into_inner().bytes;
        let from = if from <= image.known.bytes { from } else { 0 };
        if from > 0 {
            let (member, of) = (&self.0.peer.name, image.known.bytes);
            tracing::info!(member, from, of, "an image of the ledger goes on where it broke off");
        }
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        let reading = (Arc::clone(&image), images.clone(), self.0.target);
        tasks::start_blocking(move || read_pieces(&reading, &vote, from, &sender));
        let answer = client.install(self.request(ReceiverStream::new(pieces))).await;
        let answer = answer.map_err(|status| self.untaken(&status))?;
        images.taken(&image);
        self.answered();
        let vote = messages::vote(answer.into_inner().ballot).map_err(NetworkError::from_string)?;
        Ok(SnapshotResponse::new(vote))
    }

    fn untaken(&self, status: &Status) -> Unreachable<Types> {
        let told = told(status);
        tracing::warn!(
            member = self.0.peer.name,
            reason = told,
            "a member that is far behind did not take the ledger's image; it is tried again"
        );
        Unreachable::from_string(told)
    }
}

/// Reads the image behind `from`. A reader that fails ends the stream early, which the other side notices.
fn read_pieces(
    (image, images, member): &(Arc<Outgoing>, Images, u64),
    vote: &Vote,
    from: u64,
    pieces: &mpsc::Sender<wire::InstallRequest>,
) {
    use std::io::{Read as _, Seek as _};
    let read = || {
        let mut file = std::fs::File::open(&image.path)?;
        file.seek(io::SeekFrom::Start(from))?;
        let mut first = Some(wire::InstallRequest {
            ballot: Some(messages::ballot(vote)),
            image: Some(image.known.to_wire()),
            from,
            data: Bytes::new(),
        });
        loop {
            let mut data = Vec::with_capacity(PIECE_BYTES);
            if (&mut file).take(PIECE_BYTES as u64).read_to_end(&mut data)? == 0 && first.is_none() {
                return Ok::<_, io::Error>(());
            }
            let mut piece = first.take().unwrap_or_default();
            let bytes = data.len();
            piece.data = Bytes::from(data);
            if pieces.blocking_send(piece).is_err() {
                return Ok(());
            }
            images.count_sent(*member, bytes);
        }
    };
    if let Err(error) = read() {
        tracing::warn!(%error, "an image of the ledger could not be sent whole");
    }
}

impl RaftNetworkV2<Types> for Link {
    type SnapshotData = Image;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let mut answers = self
            .stream_append(Box::pin(tokio_stream::once(request)), option)
            .await?;
        let answer = answers.next().await;
        let silent = || RPCError::from(NetworkError::from_string("the stream ended without an answer"));
        Ok(answer.unwrap_or_else(|| Err(silent()))?.into())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            // openraft's pause after a failure lies before the first request. Without asking for that, who cannot be reached would
            // be called again at once, for ever.
            let first = input.next().await;
            let input = tokio_stream::iter(first).chain(input);
            let mut client = self.client()?;
            let unanswered = self.0.acknowledged.stream(self.0.target);
            let sent = unanswered.clone();
            let requests = self.request(input.map(move |request| {
                sent.sent(request.vote);
                messages::append(&request)
            }));
            let answers = client.append(requests).await.map_err(|status| self.failed(&status))?;
            let this = &*self;
            let results = answers.into_inner().map(move |answer| match answer {
                Ok(answer) => {
                    this.answered();
                    let answer = messages::append_result(answer).map_err(NetworkError::from_string)?;
                    unanswered.answered(&answer);
                    Ok(answer)
                }
                Err(status) => Err(this.failed(&status)),
            });
            Ok(Box::pin(results) as BoxStream<'s, _>)
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask(request, false, &option).await
    }

    /// The default grants.
    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask(request, true, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<Types, Image>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let upto = snapshot.meta.last_log_id;
        let Image::Present(engine) = snapshot.snapshot else {
            return Err(Unreachable::from_string("a snapshot is always sent from the database").into());
        };
        tokio::select! {
            sent = self.send_image(vote, engine, upto) => sent,
            closed = cancel => Err(closed.into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let mut client = self.client()?;
        let request = self.request(messages::transfer(&request));
        let answer = within(option.hard_ttl(), client.transfer_leader(request)).await;
        match answer.unwrap_or_else(|| Err(Status::deadline_exceeded("no answer in time"))) {
            Ok(_) => Ok(Ok(())),
            Err(status) => Err(self.failed(&status)),
        }
    }
}
