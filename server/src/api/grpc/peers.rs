//! `continuum.v1.Peers`: the other members' calls, handed to consensus once the caller is who it says.

use std::pin::Pin;

use engine::ledger::{Command, MemberChange, Outcome};
use proto::v1::{
    AppendRequest, AppendResponse, ClockRequest, ClockResponse, Formed, InstallRequest, InstallResponse, JoinRequest,
    JoinResponse, MeetRequest, MeetResponse, ProposeRequest, ProposeResponse, ReadIndexRequest, ReadIndexResponse,
    ReceivedRequest, ReceivedResponse, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    meet_response::Stand, peers_server::Peers,
};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Request, Response, Status, Streaming};

use super::{Components, status};
use crate::{
    consensus::{self, Refused},
    formation::{NO_CLUSTER, Token},
    runtime::listener::Peer,
    transport::{Claim, NotHim},
};

/// The service; clones share what it stands on.
#[derive(Clone)]
pub(super) struct Service {
    components: Components,
    peers: consensus::Peers,
}

impl Service {
    pub(super) fn new(components: Components) -> Service {
        let peers = components.sequencer.peers();
        Service { components, peers }
    }

    /// Who calls.
    fn claim<T>(&self, request: &Request<T>) -> Result<Claim, Status> {
        let secure = self.components.reach.authority.is_some();
        claim(request, self.peers.cluster(), secure)
    }
}

/// Who of `cluster` calls; on TLS (`secure`) it is known by its certificate.
pub(super) fn claim<T>(request: &Request<T>, cluster: [u8; 16], secure: bool) -> Result<Claim, Status> {
    let peer = request.extensions().get::<Peer>();
    Claim::verify(request.metadata(), peer, cluster, secure).map_err(|error| {
        let reason = match error {
            NotHim::Silent => "PEER_UNKNOWN",
            NotHim::Foreign => "CLUSTER_FOREIGN",
            NotHim::Name(_) => "PEER_NAME",
        };
        tracing::warn!(caller = ?peer.map(|peer| peer.address), "a call of another node was refused: {error}");
        let why = error.to_string();
        let code = Code::PermissionDenied;
        status::Refused::Peer { code, reason, why }.into()
    })
}

fn refused(refused: &Refused) -> Status {
    let (code, reason) = match refused {
        Refused::Misplaced(_) => (Code::FailedPrecondition, "PEER_MISPLACED"),
        Refused::NotTaken(_) => (Code::FailedPrecondition, "NOT_TAKEN"),
        Refused::Unknown(_) => (Code::Unavailable, "OUTCOME_UNKNOWN"),
        Refused::Invalid(_) => (Code::InvalidArgument, "PEER_MESSAGE"),
        Refused::Failed(_) => (Code::Unavailable, "RAFT_STOPPED"),
    };
    let why = refused.to_string();
    status::Refused::Peer { code, reason, why }.into()
}

#[tonic::async_trait]
impl Peers for Service {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let claim = self.claim(&request)?;
        let JoinRequest { secret, address } = request.into_inner();
        let admit = MemberChange::Admit {
            token: Token::sum_of(&secret),
            name: claim.name.clone(),
            voter: claim.from,
            address,
        };
        let decided = self.components.sequencer.propose(Command::Members(admit), None).await;
        match decided.map_err(status::Refused::from)?.outcome {
            Outcome::Done => {}
            Outcome::Refused(refusal) => return Err(status::Refused::Registry(refusal).into()),
            _ => return Err(status::Refused::Confused.into()),
        }
        tracing::info!(member = claim.name, "a node has joined the cluster");
        Ok(Response::new(JoinResponse {
            context_key: self.components.engine.context_key().to_vec(),
        }))
    }

    async fn meet(&self, request: Request<MeetRequest>) -> Result<Response<MeetResponse>, Status> {
        let secure = self.components.reach.authority.is_some();
        let claim = claim(&request, NO_CLUSTER, secure)?;
        let engine = &self.components.engine;
        let is_member = self.peers.knows(claim.from, &claim.name);
        let formed = Formed {
            cluster: engine.cluster().to_vec(),
            name: engine.actor().node.to_string(),
            context_key: if is_member {
                engine.context_key().to_vec()
            } else {
                Vec::new()
            },
        };
        Ok(Response::new(MeetResponse {
            stand: Some(Stand::Formed(formed)),
        }))
    }

    async fn vote(&self, request: Request<VoteRequest>) -> Result<Response<VoteResponse>, Status> {
        let claim = self.claim(&request)?;
        let answer = self.peers.vote(&claim, request.into_inner()).await;
        answer.map(Response::new).map_err(|error| refused(&error))
    }

    type AppendStream = Pin<Box<dyn Stream<Item = Result<AppendResponse, Status>> + Send>>;

    async fn append(&self, request: Request<Streaming<AppendRequest>>) -> Result<Response<Self::AppendStream>, Status> {
        let claim = self.claim(&request)?;
        // A stream that breaks is a stream that ends: what has come is answered.
        let requests = request.into_inner().map_while(Result::ok);
        let answers = self.peers.append(&claim, requests).map_err(|error| refused(&error))?;
        let answers = answers.map(|answer| answer.map_err(|error| refused(&error)));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn received(&self, request: Request<ReceivedRequest>) -> Result<Response<ReceivedResponse>, Status> {
        let claim = self.claim(&request)?;
        let answer = self.peers.received(&claim, request.into_inner()).await;
        answer.map(Response::new).map_err(|error| refused(&error))
    }

    async fn install(&self, request: Request<Streaming<InstallRequest>>) -> Result<Response<InstallResponse>, Status> {
        let claim = self.claim(&request)?;
        let answer = self.peers.install(&claim, request.into_inner()).await;
        answer.map(Response::new).map_err(|error| refused(&error))
    }

    async fn transfer_leader(
        &self,
        request: Request<TransferLeaderRequest>,
    ) -> Result<Response<TransferLeaderResponse>, Status> {
        let claim = self.claim(&request)?;
        let taken = self.peers.transfer_leader(&claim, request.into_inner()).await;
        taken.map_err(|error| refused(&error))?;
        Ok(Response::new(TransferLeaderResponse {}))
    }

    async fn propose(&self, request: Request<ProposeRequest>) -> Result<Response<ProposeResponse>, Status> {
        let claim = self.claim(&request)?;
        let answer = self.peers.propose(&claim, request.into_inner()).await;
        answer.map(Response::new).map_err(|error| refused(&error))
    }

    async fn read_index(&self, request: Request<ReadIndexRequest>) -> Result<Response<ReadIndexResponse>, Status> {
        let claim = self.claim(&request)?;
        let answer = self.peers.read_index(&claim).await;
        answer.map(Response::new).map_err(|error| refused(&error))
    }

    async fn clock(&self, request: Request<ClockRequest>) -> Result<Response<ClockResponse>, Status> {
        let claim = self.claim(&request)?;
        let answer = self.peers.clock(&claim);
        answer.map(Response::new).map_err(|error| refused(&error))
    }
}
