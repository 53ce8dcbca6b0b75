//! The registry of namespaces.

use proto::v1::{
    self, CreateNamespaceRequest, GetNamespaceRequest, ListNamespacesRequest, SetPolicyRequest,
    namespaces_client::NamespacesClient,
};

use crate::{Client, error::Error, retry::Repeat};

/// The most namespaces in one page of their list.
const PAGE_SIZE: u32 = 1_000;

/// How the concurrent values of a register become one when they are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The newest stamp wins.
    #[default]
    LastWriteWins,
    /// The highest node name wins; among values of that node the newest.
    HighestNodeWins,
    /// Objects are merged field by field, arrays united as sets; everything else by last write.
    MergeUnion,
    /// All are returned, and the client resolves.
    KeepSiblings,
}

/// The road that the writes of a namespace take; chosen at its creation, for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replication {
    /// Every node takes writes at any time, also while cut off; replicas converge.
    #[default]
    Mesh,
    /// A majority agrees on each write; reads see all that was acknowledged before.
    Consensus,
}

/// A namespace as it is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceInfo {
    /// Its name.
    pub name: String,
    /// Its number, never reused.
    pub id: u32,
    /// The road that its writes take.
    pub replication: Replication,
    /// How concurrent values are resolved.
    pub strategy: Strategy,
}

/// The registry of namespaces.
#[derive(Clone, Debug)]
pub struct Namespaces {
    client: Client,
}

impl Namespaces {
    pub(crate) fn new(client: Client) -> Namespaces {
        Namespaces { client }
    }

    /// Creates a namespace. It has no request id: when the connection breaks, it is not tried again.
    ///
    /// # Errors
    /// [`Kind::AlreadyExists`](crate::Kind::AlreadyExists) when the name is taken.
    pub async fn create(&self, name: &str, strategy: Strategy) -> Result<NamespaceInfo, Error> {
        self.register(name, v1::Replication::Mesh, strategy).await
    }

    /// Creates a namespace that replicates by consensus.
    ///
    /// # Errors
    /// As [`create`](Namespaces::create).
    pub async fn create_consensus(&self, name: &str) -> Result<NamespaceInfo, Error> {
        let strategy = Strategy::LastWriteWins;
        self.register(name, v1::Replication::Consensus, strategy).await
    }

    async fn register(
        &self,
        name: &str,
        replication: v1::Replication,
        strategy: Strategy,
    ) -> Result<NamespaceInfo, Error> {
        let request = CreateNamespaceRequest {
            name: name.to_owned(),
            replication: replication.into(),
            strategy: v1::Strategy::from(strategy).into(),
        };
        let send = |channel, request| async { NamespacesClient::new(channel).create(request).await };
        let answer = self.client.connection().call(Repeat::Never, request, send).await?;
        info(answer.namespace)
    }

    /// Reads one namespace.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::Kind::NotFound) when there is none of that name.
    pub async fn get(&self, name: &str) -> Result<NamespaceInfo, Error> {
        let request = GetNamespaceRequest { name: name.to_owned() };
        let send = |channel, request| async { NamespacesClient::new(channel).get(request).await };
        let answer = self.client.connection().call(Repeat::Reads, request, send).await?;
        info(answer.namespace)
    }

    /// All of them, in the order of their names; the reserved ones are not among them.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn list(&self) -> Result<Vec<NamespaceInfo>, Error> {
        let mut all = Vec::new();
        let mut page_token = Vec::new();
        loop {
            let request = ListNamespacesRequest {
                page_size: PAGE_SIZE,
                page_token,
            };
            let send = |channel, request| async { NamespacesClient::new(channel).list(request).await };
            let page = self.client.connection().call(Repeat::Reads, request, send).await?;
            for namespace in page.namespaces {
                all.push(info(Some(namespace))?);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(all);
            }
        }
    }

    /// Changes how concurrent values are resolved: at once, and for everything stored.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::Kind::NotFound) when there is none of that name.
    pub async fn set_policy(&self, name: &str, strategy: Strategy) -> Result<NamespaceInfo, Error> {
        let request = SetPolicyRequest {
            name: name.to_owned(),
            strategy: v1::Strategy::from(strategy).into(),
        };
        let send = |channel, request| async { NamespacesClient::new(channel).set_policy(request).await };
        let answer = self.client.connection().call(Repeat::Safe, request, send).await?;
        info(answer.namespace)
    }
}

fn info(namespace: Option<v1::Namespace>) -> Result<NamespaceInfo, Error> {
    let namespace = namespace.ok_or_else(|| Error::confused("no namespace in the answer"))?;
    Ok(NamespaceInfo {
        strategy: strategy(namespace.strategy())?,
        replication: match namespace.replication() {
            v1::Replication::Consensus => Replication::Consensus,
            v1::Replication::Mesh | v1::Replication::Unspecified => Replication::Mesh,
        },
        name: namespace.name,
        id: namespace.id,
    })
}

fn strategy(strategy: v1::Strategy) -> Result<Strategy, Error> {
    match strategy {
        v1::Strategy::Unspecified => Err(Error::confused("a strategy that this client does not know")),
        v1::Strategy::LastWriteWins => Ok(Strategy::LastWriteWins),
        v1::Strategy::HighestNodeWins => Ok(Strategy::HighestNodeWins),
        v1::Strategy::MergeUnion => Ok(Strategy::MergeUnion),
        v1::Strategy::KeepSiblings => Ok(Strategy::KeepSiblings),
    }
}

impl From<Strategy> for v1::Strategy {
    fn from(strategy: Strategy) -> v1::Strategy {
        match strategy {
            Strategy::LastWriteWins => v1::Strategy::LastWriteWins,
            Strategy::HighestNodeWins => v1::Strategy::HighestNodeWins,
            Strategy::MergeUnion => v1::Strategy::MergeUnion,
            Strategy::KeepSiblings => v1::Strategy::KeepSiblings,
        }
    }
}
