//! `continuum.v1.Admin`: running a node.
//!
//! ```text
//!  Status                             describe    what every row under the faces says of itself
//!  Compact, Verify                    work        long work beside the workers; messages tell how far it is
//!  snapshots, Backup                  snapshots   policy of `crate::snapshots`; files out, chunk by chunk
//!  ExportStates, ImportStates         states      whole CRDT states, as replicas exchange them
//!  ImportPool                         pool        another system's members and concepts, through the ledger
//!  log level                          runtime::logs
//! ```
//!
//! Everything goes through the same doors as other calls: states are joined by `Engine::commit`, the pool is changed by the
//! sequencer. The service refuses to know where the files of a database lie and what is in them.

mod describe;
mod pool;
mod snapshots;
mod states;
mod work;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use engine::{Engine, clock::Timestamp};
use proto::v1::{
    BackupRequest, BackupResponse, CompactRequest, CompactResponse, CreateSnapshotRequest, CreateSnapshotResponse,
    DeleteSnapshotRequest, DeleteSnapshotResponse, ExportStatesRequest, ExportStatesResponse, GetLogLevelRequest,
    GetLogLevelResponse, ImportPoolRequest, ImportPoolResponse, ImportStatesRequest, ImportStatesResponse,
    ListSnapshotsRequest, ListSnapshotsResponse, SetLogLevelRequest, SetLogLevelResponse, StatusRequest,
    StatusResponse, VerifyRequest, VerifyResponse, admin_server::Admin,
};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use super::{Components, flow::Flow, status::Refused};
use crate::{
    contribution::Contribution,
    runtime::{health::Health, logs, tasks},
    snapshots::Snapshots,
};

/// Streams of states at once: each export holds a thread and a snapshot of the database.
const EXPORTS_MAX: usize = 4;

/// What only operators ask for.
#[derive(Clone)]
pub struct Operations {
    /// The node, as it names itself.
    pub about: About,
    /// Its checks.
    pub health: Health,
    /// The pool is imported through it.
    pub contribution: Contribution,
    /// Its snapshots, and what backups are made of.
    pub snapshots: Snapshots,
}

/// What a node says of itself.
#[derive(Clone, Debug)]
pub struct About {
    /// Its name.
    pub name: String,
    /// Where this face is served.
    pub grpc_address: SocketAddr,
    /// Where HTTP is served.
    pub http_address: SocketAddr,
    /// The data directory, absolute.
    pub data_directory: PathBuf,
    /// When it began to serve.
    pub started_at: Timestamp,
}

/// The service; clones share what it stands on.
#[derive(Clone)]
pub(super) struct Service {
    shared: Arc<Shared>,
}

struct Shared {
    components: Components,
    operations: Operations,
    exports: Arc<Semaphore>,
}

impl Service {
    pub(super) fn new(components: Components, operations: Operations) -> Service {
        let shared = Shared {
            components,
            operations,
            exports: Arc::new(Semaphore::new(EXPORTS_MAX)),
        };
        Service {
            shared: Arc::new(shared),
        }
    }

    fn engine(&self) -> &Engine {
        &self.shared.components.engine
    }

    fn operations(&self) -> &Operations {
        &self.shared.operations
    }
}

/// A time as messages have it.
pub(super) fn time_of(at: Timestamp) -> prost_types::Timestamp {
    // 2^64 microseconds are less than 2^63 seconds, and a remainder of a million fits as nanoseconds.
    prost_types::Timestamp {
        seconds: i64::try_from(at.0 / 1_000_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(at.0 % 1_000_000 * 1_000).unwrap_or(0),
    }
}

/// Runs `work`, which reads or writes files, beside the workers.
async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<Response<T>, Status> {
    let done = tasks::blocking(work).await;
    Ok(Response::new(done.ok_or(Refused::Confused)??))
}

#[tonic::async_trait]
impl Admin for Service {
    async fn status(&self, _request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let service = self.clone();
        beside(move || service.describe()).await
    }

    type CompactStream = Flow<CompactResponse>;

    async fn compact(&self, request: Request<CompactRequest>) -> Result<Response<Flow<CompactResponse>>, Status> {
        Ok(Response::new(self.compact_checked(&request.into_inner())?))
    }

    async fn create_snapshot(
        &self,
        request: Request<CreateSnapshotRequest>,
    ) -> Result<Response<CreateSnapshotResponse>, Status> {
        let service = self.clone();
        beside(move || service.create_snapshot_checked(&request.into_inner())).await
    }

    async fn list_snapshots(
        &self,
        _request: Request<ListSnapshotsRequest>,
    ) -> Result<Response<ListSnapshotsResponse>, Status> {
        let service = self.clone();
        beside(move || service.list_snapshots_checked()).await
    }

    async fn delete_snapshot(
        &self,
        request: Request<DeleteSnapshotRequest>,
    ) -> Result<Response<DeleteSnapshotResponse>, Status> {
        let service = self.clone();
        beside(move || service.delete_snapshot_checked(&request.into_inner())).await
    }

    type BackupStream = Flow<BackupResponse>;

    async fn backup(&self, request: Request<BackupRequest>) -> Result<Response<Flow<BackupResponse>>, Status> {
        let service = self.clone();
        beside(move || service.backup_checked(request.into_inner())).await
    }

    type VerifyStream = Flow<VerifyResponse>;

    async fn verify(&self, _request: Request<VerifyRequest>) -> Result<Response<Flow<VerifyResponse>>, Status> {
        Ok(Response::new(self.verify_checked()?))
    }

    async fn get_log_level(
        &self,
        _request: Request<GetLogLevelRequest>,
    ) -> Result<Response<GetLogLevelResponse>, Status> {
        let level = logs::level().unwrap_or_default();
        Ok(Response::new(GetLogLevelResponse { level }))
    }

    async fn set_log_level(
        &self,
        request: Request<SetLogLevelRequest>,
    ) -> Result<Response<SetLogLevelResponse>, Status> {
        let level = request.into_inner().level;
        let before = logs::set_level(&level).map_err(|rule| Refused::field("level", "LOG_LEVEL", rule))?;
        tracing::info!(level, "the log level was changed");
        let before = before.unwrap_or_default();
        Ok(Response::new(SetLogLevelResponse { before }))
    }

    type ExportStatesStream = Flow<ExportStatesResponse>;

    async fn export_states(
        &self,
        request: Request<ExportStatesRequest>,
    ) -> Result<Response<Flow<ExportStatesResponse>>, Status> {
        Ok(Response::new(self.export_checked(&request.into_inner())?))
    }

    type ImportStatesStream = Flow<ImportStatesResponse>;

    async fn import_states(
        &self,
        request: Request<Streaming<ImportStatesRequest>>,
    ) -> Result<Response<Flow<ImportStatesResponse>>, Status> {
        Ok(Response::new(self.import_checked(request.into_inner())))
    }

    async fn import_pool(&self, request: Request<ImportPoolRequest>) -> Result<Response<ImportPoolResponse>, Status> {
        Ok(Response::new(self.import_pool_checked(request.into_inner()).await?))
    }
}
