//! The gRPC face: `continuum.v1`.
//!
//! ```text
//!   call ──► fields (names, keys, JSON, sizes)    says no before anything is read
//!        ──► directory (name → namespace)         `shared` and `system` end here
//!        ──► token (contexts, page tokens)        opened with the cluster's key, bound to what they were given for
//!        ──► Engine::commit / Sequencer::propose  the only two ways to change anything
//!        ──► render (state → message)             strategies are applied here, at read time
//!   any error ──► status                          one table: code, reason, details
//! ```
//!
//! | service | what |
//! |---|---|
//! | `continuum.v1.Concepts` | Put, Get, GetMany, Delete, Batch, Write, Transact, List, Scan, Watch |
//! | `continuum.v1.Namespaces` | Create, Get, List, SetPolicy |
//! | `continuum.v1.Admin` | running the node: see `admin` |
//! | `continuum.v1.Cluster` | who belongs to it: see `cluster` |
//! | `continuum.v1.Peers` | raft between members: see `peers` |
//! | `grpc.health.v1.Health` | the node's readiness, for `""` and each service |
//! | `grpc.reflection.v1` and `v1alpha` | all of the above, described |
//!
//! The .proto files are the contract; every limit they name is a constant in `fields`. Streams are made beside the calls
//! (`scan`, `watch`) and end with them: see `flow`. Apart from them the face keeps no state and starts no task, and it refuses
//! to know who calls, which port it listens on and where the token key is kept.

pub mod admin;
mod bulk;
mod cluster;
mod concepts;
mod consensus;
mod count;
mod deadline;
mod directory;
mod feed;
mod fields;
mod flow;
pub mod forming;
mod namespaces;
mod peers;
mod render;
mod scan;
mod services;
mod status;
mod token;
mod watch;
mod writes;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use count::Counts;
use engine::{Engine, clock::Clock};
use proto::v1::{
    admin_server::AdminServer, cluster_server::ClusterServer, concepts_server::ConceptsServer,
    namespaces_server::NamespacesServer, peers_server::PeersServer,
};
pub use services::Services;
use tonic::service::Routes;
use tonic_health::server::HealthReporter;

use crate::{consensus::Sequencer, metrics::Metrics, runtime::tasks::Stop};

/// The largest request message, in bytes; a larger one is refused with `OUT_OF_RANGE` before it is read.
pub const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The largest message of another member: many entries of raft's log.
const PEER_BYTES_MAX: usize = 64 << 20;

/// What is served beside reflection itself, described.
const DESCRIPTORS: [&[u8]; 2] = [proto::FILE_DESCRIPTOR_SET, tonic_health::pb::FILE_DESCRIPTOR_SET];

/// The numbers of streams.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Scans at once: each holds a thread for blocking work, and a snapshot of the database.
    pub scans_max: usize,
    /// Watches at once.
    pub watches_max: usize,
    /// Time without a message being taken, after which a stream is ended: less than the listener's, which cannot say why.
    pub stall_max: Duration,
    /// A watch says that there is nothing to say whenever so much time has passed without a message.
    pub progress_interval: Duration,
    /// Time that a watch may take to catch up, with the log kept for it.
    pub catch_up_max: Duration,
    /// Recent changes kept in memory for all watches together, in bytes of keys and values.
    pub recent_bytes_max: usize,
    /// Backups are sent no faster, in bytes; 0: as fast as they are taken.
    pub backup_bytes_per_s: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            scans_max: 16,
            watches_max: 1_024,
            stall_max: Duration::from_secs(20),
            progress_interval: Duration::from_secs(5),
            catch_up_max: Duration::from_secs(600),
            recent_bytes_max: 16 << 20,
            backup_bytes_per_s: 0,
        }
    }
}

/// What the face stands on.
#[derive(Clone)]
pub struct Components {
    /// Concepts are read from it and written to it.
    pub engine: Engine,
    /// Namespaces are created through it.
    pub sequencer: Sequencer,
    /// What a join token says of this node.
    pub reach: Reach,
    /// Decides which values have expired at a read.
    pub clock: Arc<dyn Clock>,
    /// Calls are counted and timed in it.
    pub metrics: Metrics,
    /// The numbers of streams.
    pub settings: Settings,
    /// Streams end by themselves once it is given.
    pub stop: Stop,
}

/// How other nodes reach this one, and tell it from an impostor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// `HOST:PORT`, if it can be told.
    pub address: Option<String>,
    /// SHA-256 over the certificates of the cluster's authority; without one, callers are believed to be who they say.
    pub authority: Option<[u8; 32]>,
}

impl Components {
    /// Seals contexts and page tokens: kept by the engine across restarts.
    fn key(&self) -> token::Key {
        token::Key::new(*self.engine.context_key())
    }
}

/// The services, and the switch that says whether they are ready.
pub struct Face {
    /// Everything served.
    pub services: Services,
    /// Not serving until [`set_ready`] says otherwise.
    pub health: HealthReporter,
}

/// The services of a node over its engine and sequencer.
#[must_use]
pub fn routes(components: Components, operations: admin::Operations) -> Face {
    let (health, health_service) = tonic_health::server::health_reporter();
    let counts = Counts::new(components.metrics.clone(), &DESCRIPTORS);
    let concepts = concepts::Service::new(components.clone());
    let namespaces = namespaces::Service::new(components.clone());
    let peers = peers::Service::new(components.clone());
    let cluster = cluster::Service::new(components.clone());
    let admin = admin::Service::new(components, operations);
    let describe = || {
        let builder = tonic_reflection::server::Builder::configure();
        DESCRIPTORS.iter().fold(builder, |builder, set| {
            builder.register_encoded_file_descriptor_set(set)
        })
    };
    let compiled = "the descriptors were compiled with this binary";
    let others = Routes::new(health_service)
        .add_service(describe().build_v1().expect(compiled))
        .add_service(describe().build_v1alpha().expect(compiled))
        .add_service(NamespacesServer::new(namespaces).max_decoding_message_size(REQUEST_BYTES_MAX))
        .add_service(ClusterServer::new(cluster).max_decoding_message_size(REQUEST_BYTES_MAX))
        .add_service(
            PeersServer::new(peers)
                .max_decoding_message_size(PEER_BYTES_MAX)
                .max_encoding_message_size(PEER_BYTES_MAX),
        )
        .add_service(AdminServer::new(admin).max_decoding_message_size(REQUEST_BYTES_MAX))
        .prepare()
        .into_axum_router();
    let concepts = ConceptsServer::new(concepts).max_decoding_message_size(REQUEST_BYTES_MAX);
    Face {
        services: Services::new(concepts, others, counts),
        health,
    }
}

/// Tells the health service of a change in the node's readiness, for the node as a whole and each service.
pub async fn set_ready(health: &HealthReporter, ready: bool) {
    use tonic_health::ServingStatus::{NotServing, Serving};
    let status = if ready { Serving } else { NotServing };
    for service in [
        "",
        proto::v1::concepts_server::SERVICE_NAME,
        proto::v1::namespaces_server::SERVICE_NAME,
        proto::v1::admin_server::SERVICE_NAME,
        proto::v1::cluster_server::SERVICE_NAME,
    ] {
        health.set_service_status(service, status).await;
    }
}
