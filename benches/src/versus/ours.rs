//! Three `continuumd` processes with their defaults, asked in a namespace with `replication = consensus`.

use std::time::{Duration, Instant};

use continuum_tests::{Launch, Node};
use proto::v1::{
    ClusterStatusRequest, CreateNamespaceRequest, GetRequest, InitClusterRequest, InviteRequest, PutRequest,
    Replication, cluster_client::ClusterClient, concept::Value, concepts_client::ConceptsClient,
    namespaces_client::NamespacesClient, put_request::Write,
};
use tonic::{Code, Status, transport::Channel};

use super::{Client, MEMBERS, NAMES, READY_WITHIN, Security, Store};

const NAMESPACE: &str = "beside";

/// One client of ours.
#[derive(Clone)]
pub struct Asking(ConceptsClient<Channel>);

impl Client for Asking {
    async fn put(&mut self, key: String, value: String) -> Result<(), Status> {
        let request = PutRequest {
            namespace: NAMESPACE.to_owned(),
            key,
            write: Some(Write::Register(value)),
            ..PutRequest::default()
        };
        self.0.put(request).await.map(drop)
    }

    async fn get(&mut self, key: String) -> Result<usize, Status> {
        let request = GetRequest {
            namespace: NAMESPACE.to_owned(),
            key,
            ..GetRequest::default()
        };
        match self.0.get(request).await {
            Ok(answer) => {
                Ok(answer
                    .into_inner()
                    .concept
                    .and_then(|concept| concept.value)
                    .map_or(0, |value| match value {
                        Value::Register(value) => value.json.len(),
                        _ => 0,
                    }))
            }
            Err(status) if status.code() == Code::NotFound => Ok(0),
            Err(status) => Err(status),
        }
    }
}

/// The cluster; dropped, its processes are killed and reaped.
pub struct Ours<'a> {
    security: &'a Security,
    nodes: Vec<Node>,
}

impl<'a> Ours<'a> {
    /// Starts it, and waits until all its members vote.
    ///
    /// # Panics
    /// When it does not come together.
    pub async fn start(security: &'a Security) -> Ours<'a> {
        let mut ours = Ours {
            security,
            nodes: Vec::new(),
        };
        ours.nodes.push(ours.launch(0).start().await);
        let mut cluster = ClusterClient::new(ours.channel(0));
        cluster
            .init(InitClusterRequest {})
            .await
            .expect("a node that stands alone");
        for member in 1..MEMBERS {
            let invited = cluster.invite(InviteRequest::default()).await.expect("a token");
            let launch = ours.launch(member).argument("--join");
            ours.nodes
                .push(launch.argument(invited.into_inner().token).start().await);
        }
        let deadline = Instant::now() + READY_WITHIN;
        while ours.voters().await != Some(MEMBERS) {
            assert!(Instant::now() < deadline, "our nodes do not come together");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let request = CreateNamespaceRequest {
            name: NAMESPACE.to_owned(),
            replication: Replication::Consensus.into(),
            ..CreateNamespaceRequest::default()
        };
        let created = NamespacesClient::new(ours.channel(0)).create(request).await;
        created.expect("a new namespace");
        // Every member knows the namespace once it has answered a linearizable read there.
        for member in 0..MEMBERS {
            let mut asking = Ours::client(ours.channel(member));
            while asking.get(String::from("ready")).await.is_err() {
                assert!(Instant::now() < deadline, "a member does not answer reads");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        ours
    }

    fn launch(&self, member: usize) -> Launch {
        let mut launch = Launch::new().argument("--node-id").argument(NAMES[member]);
        for (option, file) in ["--tls-ca", "--tls-cert", "--tls-key"]
            .into_iter()
            .zip(self.security.files(NAMES[member]).into_iter().flatten())
        {
            launch = launch.argument(option).argument(file);
        }
        launch
    }

    fn channel(&self, member: usize) -> Channel {
        self.security.channel(&self.endpoint(member))
    }

    async fn voters(&self) -> Option<usize> {
        let status = ClusterClient::new(self.channel(0))
            .status(ClusterStatusRequest {})
            .await;
        let status = status.ok()?.into_inner();
        Some(status.members.iter().filter(|member| member.votes).count())
    }
}

impl Store for Ours<'_> {
    type Client = Asking;

    const NAME: &'static str = "continuum";

    fn client(channel: Channel) -> Asking {
        Asking(ConceptsClient::new(channel))
    }

    fn endpoint(&self, member: usize) -> String {
        self.nodes[member].grpc().to_string()
    }

    async fn leader(&self, without: Option<usize>) -> Option<usize> {
        for member in (0..MEMBERS).filter(|member| Some(*member) != without) {
            let asked = ClusterClient::new(self.channel(member))
                .status(ClusterStatusRequest {})
                .await;
            let leader = asked.ok()?.into_inner().leader;
            if let Some(found) = NAMES.iter().position(|name| *name == leader) {
                return Some(found);
            }
        }
        None
    }

    fn kill(&mut self, member: usize) {
        self.nodes[member].kill();
    }

    async fn restart(&mut self, member: usize) {
        self.nodes[member].restart().await;
    }
}
