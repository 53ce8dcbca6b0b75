//! The gRPC clients of a node, and the few calls that several tests make.

use proto::v1::{
    CreateNamespaceRequest, DeleteRequest, GetRequest, ListRequest, PutRequest, Replication,
    concepts_client::ConceptsClient, namespaces_client::NamespacesClient, put_request::Write,
};
use tonic::{Status, transport::Channel};

use crate::Node;

/// A connection to the node's gRPC address.
///
/// # Panics
/// When it cannot be opened.
pub async fn channel(node: &Node) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{}", node.grpc())).expect("an address is a URI");
    endpoint
        .connect()
        .await
        .unwrap_or_else(|error| panic!("gRPC at {}: {error}", node.grpc()))
}

/// Reads and writes in one namespace.
#[derive(Clone, Debug)]
pub struct Namespace {
    client: ConceptsClient<Channel>,
    name: String,
}

impl Namespace {
    /// Creates the namespace with its defaults (last write wins).
    ///
    /// # Panics
    /// When the node refuses.
    pub async fn create(node: &Node, name: &str) -> Namespace {
        Namespace::with(node, name, Replication::Mesh).await
    }

    /// Creates the namespace, replicated by consensus.
    ///
    /// # Panics
    /// When the node refuses.
    pub async fn create_consensus(node: &Node, name: &str) -> Namespace {
        Namespace::with(node, name, Replication::Consensus).await
    }

    async fn with(node: &Node, name: &str, replication: Replication) -> Namespace {
        let channel = channel(node).await;
        let request = CreateNamespaceRequest {
            name: name.to_owned(),
            replication: replication.into(),
            ..CreateNamespaceRequest::default()
        };
        NamespacesClient::new(channel.clone())
            .create(request)
            .await
            .expect("a new namespace");
        Namespace {
            client: ConceptsClient::new(channel),
            name: name.to_owned(),
        }
    }

    /// A namespace that exists.
    ///
    /// # Panics
    /// When the node cannot be reached.
    pub async fn open(node: &Node, name: &str) -> Namespace {
        Namespace {
            client: ConceptsClient::new(channel(node).await),
            name: name.to_owned(),
        }
    }

    /// Writes a register.
    ///
    /// # Errors
    /// As the node answers.
    pub async fn put(&mut self, key: &str, json: &str) -> Result<(), Status> {
        let write = Some(Write::Register(json.to_owned()));
        let request = PutRequest {
            namespace: self.name.clone(),
            key: key.to_owned(),
            write,
            ..PutRequest::default()
        };
        self.client.put(request).await.map(|_| ())
    }

    /// Reads a register; `None` when it holds nothing.
    ///
    /// # Errors
    /// As the node answers.
    pub async fn get(&mut self, key: &str) -> Result<Option<String>, Status> {
        let request = GetRequest {
            namespace: self.name.clone(),
            key: key.to_owned(),
            ..GetRequest::default()
        };
        match self.client.get(request).await {
            Ok(answer) => Ok(answer.into_inner().concept.and_then(register)),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// As the node answers.
    pub async fn delete(&mut self, key: &str) -> Result<bool, Status> {
        let request = DeleteRequest {
            namespace: self.name.clone(),
            key: key.to_owned(),
            ..DeleteRequest::default()
        };
        Ok(self.client.delete(request).await?.into_inner().deleted)
    }

    /// Every key with its register, in the order of keys.
    ///
    /// # Errors
    /// As the node answers.
    pub async fn list(&mut self) -> Result<Vec<(String, String)>, Status> {
        let mut all = Vec::new();
        let mut page_token = Vec::new();
        loop {
            let request = ListRequest {
                namespace: self.name.clone(),
                page_size: 1000,
                page_token,
                ..ListRequest::default()
            };
            let page = self.client.list(request).await?.into_inner();
            for concept in page.concepts {
                let key = concept.key.clone();
                all.push((key, register(concept).unwrap_or_default()));
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(all);
            }
        }
    }
}

fn register(concept: proto::v1::Concept) -> Option<String> {
    match concept.value {
        Some(proto::v1::concept::Value::Register(value)) => Some(value.json),
        _ => None,
    }
}
