//! What a node answers while it forms a cluster with others: who it is. There is nothing else yet.

use std::pin::Pin;

use proto::v1::{
    AppendRequest, AppendResponse, ClockRequest, ClockResponse, InstallRequest, InstallResponse, JoinRequest,
    JoinResponse, MeetRequest, MeetResponse, ProposeRequest, ProposeResponse, ReadIndexRequest, ReadIndexResponse,
    ReceivedRequest, ReceivedResponse, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    peers_server::{Peers, PeersServer},
};
use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status, Streaming, service::Routes};

use super::{peers::claim, status};
use crate::formation::{Meeting, NO_CLUSTER};

/// The service; clones share the meeting.
#[derive(Clone)]
struct Service {
    meeting: Meeting,
    /// Callers show certificates.
    secure: bool,
}

/// The routes of a node that is forming: `Peers.Meet`, and the health service, which says that it does not serve.
pub fn routes(meeting: Meeting, secure: bool) -> axum::Router {
    let (_, health) = tonic_health::server::health_reporter();
    let others = async || not_yet().into_http::<axum::body::Body>();
    Routes::new(health)
        .add_service(PeersServer::new(Service { meeting, secure }))
        .prepare()
        .into_axum_router()
        .reset_fallback()
        .fallback(others)
}

fn not_yet() -> Status {
    status::Refused::Peer {
        code: Code::Unavailable,
        reason: "FORMING",
        why: "this node is forming a cluster with others; its log and /readyz say for whom it waits".to_owned(),
    }
    .into()
}

#[tonic::async_trait]
impl Peers for Service {
    async fn meet(&self, request: Request<MeetRequest>) -> Result<Response<MeetResponse>, Status> {
        let claim = claim(&request, NO_CLUSTER, self.secure)?;
        Ok(Response::new(self.meeting.answer(claim.from, &claim.name)))
    }

    async fn join(&self, _: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        Err(not_yet())
    }

    async fn vote(&self, _: Request<VoteRequest>) -> Result<Response<VoteResponse>, Status> {
        Err(not_yet())
    }

    type AppendStream = Pin<Box<dyn Stream<Item = Result<AppendResponse, Status>> + Send>>;

    async fn append(&self, _: Request<Streaming<AppendRequest>>) -> Result<Response<Self::AppendStream>, Status> {
        Err(not_yet())
    }

    async fn received(&self, _: Request<ReceivedRequest>) -> Result<Response<ReceivedResponse>, Status> {
        Err(not_yet())
    }

    async fn install(&self, _: Request<Streaming<InstallRequest>>) -> Result<Response<InstallResponse>, Status> {
        Err(not_yet())
    }

    async fn transfer_leader(
        &self,
        _: Request<TransferLeaderRequest>,
    ) -> Result<Response<TransferLeaderResponse>, Status> {
        Err(not_yet())
    }

    async fn propose(&self, _: Request<ProposeRequest>) -> Result<Response<ProposeResponse>, Status> {
        Err(not_yet())
    }

    async fn read_index(&self, _: Request<ReadIndexRequest>) -> Result<Response<ReadIndexResponse>, Status> {
        Err(not_yet())
    }

    async fn clock(&self, _: Request<ClockRequest>) -> Result<Response<ClockResponse>, Status> {
        Err(not_yet())
    }
}
