//! Running a node: thin over the service `Admin`, whose messages it hands out as they are.

use proto::v1::{
    BackupRequest, BackupResponse, CompactRequest, CompactResponse, CreateSnapshotRequest, DeleteSnapshotRequest,
    ExportStatesRequest, GetLogLevelRequest, ImportPoolRequest, ImportPoolResponse, ListSnapshotsRequest,
    SetLogLevelRequest, Snapshot, StatusRequest, StatusResponse, VerifyRequest, VerifyResponse,
    admin_client::AdminClient,
};
use tonic::{Request, Response, Status, Streaming, transport::Channel};

use crate::{
    Client, StateExport, StateImport,
    connection::{ANSWER_BYTES_MAX, Bounds},
    error::Error,
    retry::Repeat,
    settings::DURATION_MAX,
};

/// The calls of an operator. Each is about the one node that answers it.
#[derive(Clone, Debug)]
pub struct Admin {
    client: Client,
}

/// Messages of a call that tells of its progress. Dropped, the call ends.
#[derive(Debug)]
pub struct Messages<T> {
    stream: Streaming<T>,
    reads: bool,
}

impl<T> Messages<T> {
    /// The next message; `None` after the last.
    ///
    /// # Errors
    /// When the call fails, or the connection breaks.
    pub async fn next(&mut self) -> Result<Option<T>, Error> {
        let told = self.stream.message().await.map_err(Error::from);
        told.map_err(|error| if self.reads { error.reading() } else { error })
    }
}

impl Admin {
    pub(crate) fn new(client: Client) -> Admin {
        Admin { client }
    }

    /// How the node stands.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn status(&self) -> Result<StatusResponse, Error> {
        let send = |channel, request| async { admin(channel).status(request).await };
        self.call(Repeat::Reads, StatusRequest {}, send).await
    }

    /// Rewrites the database's files, telling how far it is. Dropped, it stops after the piece under way.
    ///
    /// # Errors
    /// When the node refuses it, or it does not begin in time.
    pub async fn compact(&self, request: CompactRequest) -> Result<Messages<CompactResponse>, Error> {
        let send = |channel, request| async { admin(channel).compact(request).await };
        self.open(Repeat::Never, request, send).await
    }

    /// Keeps the node's present state under a name; an empty one stands for the time. Not tried again when the connection
    /// breaks. The call's time-out is for finding the node: it answers once it has read its whole database.
    ///
    /// # Errors
    /// [`Kind::AlreadyExists`](crate::Kind::AlreadyExists) when the name is taken.
    pub async fn create_snapshot(&self, name: &str) -> Result<Snapshot, Error> {
        let request = CreateSnapshotRequest { name: name.to_owned() };
        let send = |channel, request| async { admin(channel).create_snapshot(request).await };
        self.status().await?;
        let bounds = Bounds {
            time: DURATION_MAX,
            ..self.client.begin()
        };
        let connection = self.client.connection();
        let (answer, _) = connection.call_within(bounds, Repeat::Never, request, send).await?;
        answer
            .snapshot
            .ok_or_else(|| Error::confused("no snapshot in the answer"))
    }

    /// The snapshots, in the order of their names.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn list_snapshots(&self) -> Result<Vec<Snapshot>, Error> {
        let send = |channel, request| async { admin(channel).list_snapshots(request).await };
        Ok(self.call(Repeat::Reads, ListSnapshotsRequest {}, send).await?.snapshots)
    }

    /// Removes a snapshot. Not tried again when the connection breaks.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::Kind::NotFound) when there is none of that name.
    pub async fn delete_snapshot(&self, name: &str) -> Result<(), Error> {
        let request = DeleteSnapshotRequest { name: name.to_owned() };
        let send = |channel, request| async { admin(channel).delete_snapshot(request).await };
        self.call(Repeat::Never, request, send).await.map(|_| ())
    }

    /// Streams a backup. One that broke is gone on with by the id of its first message and what was received.
    ///
    /// # Errors
    /// When the node refuses it, or it does not begin in time.
    pub async fn backup(&self, request: BackupRequest) -> Result<Messages<BackupResponse>, Error> {
        let send = |channel, request| async { admin(channel).backup(request).await };
        self.open(Repeat::Reads, request, send).await
    }

    /// Reads the whole log and database and checks every sum and record, telling how far it is.
    ///
    /// # Errors
    /// When the node refuses it, or it does not begin in time.
    pub async fn verify(&self) -> Result<Messages<VerifyResponse>, Error> {
        let send = |channel, request| async { admin(channel).verify(request).await };
        self.open(Repeat::Reads, VerifyRequest {}, send).await
    }

    /// The level of the node's log, as directives.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn log_level(&self) -> Result<String, Error> {
        let send = |channel, request| async { admin(channel).get_log_level(request).await };
        Ok(self.call(Repeat::Reads, GetLogLevelRequest {}, send).await?.level)
    }

    /// Changes what is logged from now on, until the node is started again; returns what it was.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::Kind::Invalid) when it is no level.
    pub async fn set_log_level(&self, level: &str) -> Result<String, Error> {
        let request = SetLogLevelRequest {
            level: level.to_owned(),
        };
        let send = |channel, request| async { admin(channel).set_log_level(request).await };
        Ok(self.call(Repeat::Safe, request, send).await?.before)
    }

    /// The whole states of the keys of a namespace, in byte order, as they were at one moment.
    ///
    /// # Errors
    /// When the node refuses it, or it does not begin in time.
    pub async fn export_states(&self, request: ExportStatesRequest) -> Result<StateExport, Error> {
        StateExport::begin(self.client.clone(), request).await
    }

    /// Joins whole states into a namespace, in chunks. Doing it twice changes nothing.
    #[must_use]
    pub fn import_states(&self, namespace: &str) -> StateImport {
        StateImport::new(self.client.clone(), namespace.to_owned())
    }

    /// Takes over members and concepts of another system's pool. Doing it twice changes nothing.
    ///
    /// # Errors
    /// When the node refuses it, or there is no answer.
    pub async fn import_pool(&self, request: ImportPoolRequest) -> Result<ImportPoolResponse, Error> {
        let send = |channel, request| async { admin(channel).import_pool(request).await };
        self.call(Repeat::Safe, request, send).await
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

    async fn open<Q: Clone, A, F>(
        &self,
        repeat: Repeat,
        request: Q,
        send: impl Fn(Channel, Request<Q>) -> F,
    ) -> Result<Messages<A>, Error>
    where
        F: Future<Output = Result<Response<Streaming<A>>, Status>>,
    {
        let bounds = self.client.begin();
        let connection = self.client.connection();
        let (stream, _) = connection.call_within(bounds, repeat, request, send).await?;
        let reads = repeat == Repeat::Reads;
        Ok(Messages { stream, reads })
    }
}

fn admin(channel: Channel) -> AdminClient<Channel> {
    AdminClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}
