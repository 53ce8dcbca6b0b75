//! Who belongs to the cluster: thin over the service `Cluster`. Any member may be asked; what is changed is decided by all.

use proto::v1::{
    ClusterStatusRequest, ClusterStatusResponse, DigestRequest, DigestResponse, HandOverRequest, InitClusterRequest,
    InviteRequest, InviteResponse, MemberRole, RemoveMemberRequest, SetRoleRequest, cluster_client::ClusterClient,
};
use tonic::{Request, Response, Status, transport::Channel};

use crate::{Client, error::Error, retry::Repeat};

/// The members of a cluster, and who of them leads.
#[derive(Clone, Debug)]
pub struct Cluster {
    client: Client,
}

impl Cluster {
    pub(crate) fn new(client: Client) -> Cluster {
        Cluster { client }
    }

    /// The cluster as the node that answers sees it; without a quorum too.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn status(&self) -> Result<ClusterStatusResponse, Error> {
        let send = |channel, request| async { ClusterClient::new(channel).status(request).await };
        self.call(Repeat::Reads, ClusterStatusRequest {}, send).await
    }

    /// Readies the node, which stands alone, to take members; returns where they reach it. Doing it twice changes nothing.
    ///
    /// # Errors
    /// [`Kind::Refused`](crate::Kind::Refused) when the node does not know at which address others reach it.
    pub async fn init(&self) -> Result<String, Error> {
        let send = |channel, request| async { ClusterClient::new(channel).init(request).await };
        Ok(self.call(Repeat::Safe, InitClusterRequest {}, send).await?.address)
    }

    /// Makes a join token, good for one node. Not tried again when the connection breaks: a token that nobody got lets nobody
    /// in, and lies there until it has expired.
    ///
    /// # Errors
    /// [`Kind::Refused`](crate::Kind::Refused) before [`Cluster::init`], [`Kind::NotFound`](crate::Kind::NotFound) when the
    /// member to be replaced is none, [`Kind::Invalid`](crate::Kind::Invalid) when it is to be good for more than a week.
    pub async fn invite(&self, request: InviteRequest) -> Result<InviteResponse, Error> {
        let send = |channel, request| async { ClusterClient::new(channel).invite(request).await };
        self.call(Repeat::Never, request, send).await
    }

    /// Lets a member vote, or only learn. It is decided when this returns; raft's members follow, as [`Cluster::status`] shows.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::Kind::NotFound) when it is no member, [`Kind::Refused`](crate::Kind::Refused) when nobody would
    /// vote, or too many.
    pub async fn set_role(&self, name: &str, role: MemberRole) -> Result<(), Error> {
        let request = SetRoleRequest {
            name: name.to_owned(),
            role: role.into(),
        };
        let send = |channel, request| async { ClusterClient::new(channel).set_role(request).await };
        self.call(Repeat::Safe, request, send).await.map(|_| ())
    }

    /// Takes a member out, whether it can be reached or not. It is decided when this returns; raft's members follow. A second
    /// try after a connection that broke finds that it is no member.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::Kind::NotFound) when it is no member, [`Kind::Refused`](crate::Kind::Refused) when nobody would
    /// vote.
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        let request = RemoveMemberRequest { name: name.to_owned() };
        let send = |channel, request| async { ClusterClient::new(channel).remove(request).await };
        self.call(Repeat::Safe, request, send).await.map(|_| ())
    }

    /// Asks a voter to lead, and waits until it does.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::Kind::NotFound) when it is no voter; [`Kind::Broken`](crate::Kind::Broken) when it does not come
    /// to lead in time, or there is no quorum.
    pub async fn hand_over(&self, name: &str) -> Result<(), Error> {
        let request = HandOverRequest { name: name.to_owned() };
        let send = |channel, request| async { ClusterClient::new(channel).hand_over(request).await };
        self.call(Repeat::Safe, request, send).await.map(|_| ())
    }

    /// What the ledger of the node that answers comes to, now; ask each node by a client of its own.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn digest(&self) -> Result<DigestResponse, Error> {
        let send = |channel, request| async { ClusterClient::new(channel).digest(request).await };
        self.call(Repeat::Reads, DigestRequest {}, send).await
    }

    async fn call<Q: Clone, A, F>(
        &self,
        repeat: Repeat,
        request: Q,
        send: impl Fn(Channel, Request<Q>) -> F,
    ) -> Result<A, Error>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        self.client.connection().call(repeat, request, send).await
    }
}
