//! `continuum.v1.Namespaces`: Create, Get, List, SetPolicy. Every change is a command to the sequencer.

use engine::{
    crdt,
    ledger::{Command, Namespace, NamespacePolicy, Outcome, Refusal, Replication},
};
use proto::v1::{
    self as wire, CreateNamespaceRequest, CreateNamespaceResponse, GetNamespaceRequest, GetNamespaceResponse,
    ListNamespacesRequest, ListNamespacesResponse, SetPolicyRequest, SetPolicyResponse, namespaces_server::Namespaces,
};
use tonic::{Request, Response, Status};

use super::{
    Components, directory, fields,
    status::Refused,
    token::{self, Key, Subject},
};

/// The service; clones share engine and sequencer.
#[derive(Clone)]
pub(super) struct Service {
    components: Components,
    key: Key,
}

impl Service {
    pub(super) fn new(components: Components) -> Service {
        Service {
            key: components.key(),
            components,
        }
    }

    async fn create_checked(&self, request: CreateNamespaceRequest) -> Result<CreateNamespaceResponse, Refused> {
        directory::check_name("name", &request.name)?;
        let policy = NamespacePolicy {
            replication: replication(request.replication)?,
            strategy: strategy(request.strategy)?.unwrap_or(crdt::Strategy::LastWriteWins),
        };
        if policy.replication == Replication::Consensus && policy.strategy != crdt::Strategy::LastWriteWins {
            let rule =
                "none, or last_write_wins: values of a namespace that replicates by consensus are never concurrent";
            return Err(Refused::field("strategy", "STRATEGY_CONSENSUS", rule));
        }
        let command = Command::CreateNamespace {
            name: request.name.clone(),
            policy,
        };
        match self.components.sequencer.propose(command, None).await?.outcome {
            Outcome::NamespaceCreated(namespace) => Ok(CreateNamespaceResponse {
                namespace: Some(message(&namespace)),
            }),
            Outcome::Refused(Refusal::NamespaceExists) => Err(Refused::NamespaceExists { name: request.name }),
            Outcome::Refused(refusal) => Err(Refused::Registry(refusal)),
            _ => Err(Refused::Confused),
        }
    }

    fn get_checked(&self, request: &GetNamespaceRequest) -> Result<GetNamespaceResponse, Refused> {
        let namespace = directory::find(self.components.engine.view(), "name", &request.name)?;
        Ok(GetNamespaceResponse {
            namespace: Some(message(&namespace)),
        })
    }

    fn list_checked(&self, request: &ListNamespacesRequest) -> Result<ListNamespacesResponse, Refused> {
        let page_size = fields::page_size(request.page_size)?;
        let after = match request.page_token.as_slice() {
            [] => None,
            token => {
                let name = token::open(&self.key, Subject::NamespacePage, token)?;
                Some(std::str::from_utf8(name).map_err(|_| Refused::Confused)?)
            }
        };
        let mut namespaces = directory::list(self.components.engine.view(), after, page_size + 1)?;
        let more = namespaces.len() > page_size;
        namespaces.truncate(page_size);
        let next_page_token = match namespaces.last() {
            Some(last) if more => token::seal(&self.key, Subject::NamespacePage, last.name.as_bytes()),
            _ => Vec::new(),
        };
        Ok(ListNamespacesResponse {
            namespaces: namespaces.iter().map(message).collect(),
            next_page_token,
        })
    }

    async fn set_policy_checked(&self, request: SetPolicyRequest) -> Result<SetPolicyResponse, Refused> {
        let found = directory::mesh(self.components.engine.view(), "name", &request.name, "a strategy")?;
        let Some(strategy) = strategy(request.strategy)? else {
            return Err(Refused::field(
                "strategy",
                "STRATEGY_MISSING",
                "name the strategy to change to",
            ));
        };
        let command = Command::SetNamespacePolicy {
            name: request.name.clone(),
            strategy,
        };
        match self.components.sequencer.propose(command, None).await?.outcome {
            Outcome::Done => {
                let changed = Namespace {
                    policy: NamespacePolicy {
                        strategy,
                        ..found.policy
                    },
                    ..found
                };
                Ok(SetPolicyResponse {
                    namespace: Some(message(&changed)),
                })
            }
            Outcome::Refused(Refusal::NamespaceUnknown) => Err(Refused::NamespaceUnknown { name: request.name }),
            Outcome::Refused(refusal) => Err(Refused::Registry(refusal)),
            _ => Err(Refused::Confused),
        }
    }
}

/// Unspecified stands for mesh.
fn replication(number: i32) -> Result<Replication, Refused> {
    match wire::Replication::try_from(number) {
        Ok(wire::Replication::Unspecified | wire::Replication::Mesh) => Ok(Replication::Mesh),
        Ok(wire::Replication::Consensus) => Ok(Replication::Consensus),
        Err(_) => Err(Refused::field(
            "replication",
            "REPLICATION_UNKNOWN",
            format!("{number} is none that this node knows"),
        )),
    }
}

fn strategy(number: i32) -> Result<Option<crdt::Strategy>, Refused> {
    match wire::Strategy::try_from(number) {
        Ok(wire::Strategy::Unspecified) => Ok(None),
        Ok(wire::Strategy::LastWriteWins) => Ok(Some(crdt::Strategy::LastWriteWins)),
        Ok(wire::Strategy::HighestNodeWins) => Ok(Some(crdt::Strategy::HighestNodeWins)),
        Ok(wire::Strategy::MergeUnion) => Ok(Some(crdt::Strategy::MergeUnion)),
        Ok(wire::Strategy::KeepSiblings) => Ok(Some(crdt::Strategy::KeepSiblings)),
        Err(_) => Err(Refused::field(
            "strategy",
            "STRATEGY_UNKNOWN",
            format!("{number} is none that this node knows"),
        )),
    }
}

fn message(namespace: &Namespace) -> wire::Namespace {
    let replication = match namespace.policy.replication {
        Replication::Mesh => wire::Replication::Mesh,
        Replication::Consensus => wire::Replication::Consensus,
    };
    let strategy = match namespace.policy.strategy {
        crdt::Strategy::LastWriteWins => wire::Strategy::LastWriteWins,
        crdt::Strategy::HighestNodeWins => wire::Strategy::HighestNodeWins,
        crdt::Strategy::MergeUnion => wire::Strategy::MergeUnion,
        crdt::Strategy::KeepSiblings => wire::Strategy::KeepSiblings,
    };
    wire::Namespace {
        name: namespace.name.clone(),
        id: namespace.id.0,
        replication: replication.into(),
        strategy: strategy.into(),
    }
}

#[tonic::async_trait]
impl Namespaces for Service {
    async fn create(
        &self,
        request: Request<CreateNamespaceRequest>,
    ) -> Result<Response<CreateNamespaceResponse>, Status> {
        Ok(Response::new(self.create_checked(request.into_inner()).await?))
    }

    async fn get(&self, request: Request<GetNamespaceRequest>) -> Result<Response<GetNamespaceResponse>, Status> {
        Ok(Response::new(self.get_checked(request.get_ref())?))
    }

    async fn list(&self, request: Request<ListNamespacesRequest>) -> Result<Response<ListNamespacesResponse>, Status> {
        Ok(Response::new(self.list_checked(request.get_ref())?))
    }

    async fn set_policy(&self, request: Request<SetPolicyRequest>) -> Result<Response<SetPolicyResponse>, Status> {
        Ok(Response::new(self.set_policy_checked(request.into_inner()).await?))
    }
}
