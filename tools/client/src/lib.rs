//! The Rust client of Continuum.
//!
//! ```text
//!  Client ─┬─ namespace("notes")   get  get_many  put  delete  batch  transact  list      one call each
//!          │                       scan  watch                        streams that go on after a break
//!          │                       bulk                               chunks, acknowledged in order, sent again after a break
//!          ├─ namespaces()         create  get  list  set_policy
//!          ├─ admin()              status  compact  snapshots  backup  verify  log level  whole states and pool in and out
//!          └─ cluster()            status  init  invite  set_role  remove  hand_over  digest
//!      │
//!   connection ── retry ── one table: what may be repeated, where, after what wait
//!      │
//!   one HTTP/2 connection for each endpoint, opened when it is needed
//! ```
//!
//! # A first program
//!
//! ```no_run
//! use continuum_client::{Client, Put, Settings, Strategy};
//!
//! # async fn example() -> Result<(), continuum_client::Error> {
//! let client = Client::connect(Settings::default())?;
//! client.namespaces().create("notes", Strategy::LastWriteWins).await?;
//! let notes = client.namespace("notes");
//! notes.put("greeting", Put::register(r#"{"text": "hello"}"#)).await?;
//! let concept = notes.get("greeting").await?.expect("it was written");
//! assert_eq!(concept.register(), Some(r#"{"text": "hello"}"#));
//! # Ok(())
//! # }
//! ```
//!
//! # Read, change, write: nobody's write is lost
//!
//! A write with `if_context` is carried out only if nobody has written the key since it was read.
//!
//! ```no_run
//! use continuum_client::{Error, Kind, Namespace, Put};
//!
//! /// Renames a note, whoever else changes it meanwhile.
//! async fn rename(notes: &Namespace, key: &str, title: &str) -> Result<(), Error> {
//!     loop {
//!         let Some(note) = notes.get(key).await? else {
//!             return Ok(());
//!         };
//!         let mut json: serde_json::Value =
//!             serde_json::from_str(note.register().unwrap_or("{}")).expect("nodes store JSON");
//!         json["title"] = title.into();
//!         let put = Put::register(json.to_string()).if_context(&note.context);
//!         match notes.put(key, put).await {
//!             Err(error) if matches!(error.kind(), Kind::ConditionFailed { .. }) => continue,
//!             done => return done.map(|_| ()),
//!         }
//!     }
//! }
//! ```
//!
//! # Everything there is, and every change after it
//!
//! ```no_run
//! use continuum_client::{Error, Event, Namespace, Selection};
//!
//! async fn follow(notes: &Namespace) -> Result<(), Error> {
//!     loop {
//!         let mut scan = notes.scan(Selection::default()).await?;
//!         while let Some(concept) = scan.next().await {
//!             println!("{:?}", concept?);
//!         }
//!         let mut watch = notes.watch(Selection::default(), scan.resume_token()).await?;
//!         while let Some(event) = watch.next().await {
//!             match event? {
//!                 Event::Put { concept, .. } => println!("{} is {:?}", concept.key, concept.value),
//!                 Event::Deleted { key, .. } => println!("{key} is gone"),
//!                 // The log does not reach back to where we were: begin again with a scan.
//!                 Event::Resync { reason } => println!("{reason}"),
//!                 Event::Progress { .. } => {}
//!             }
//!         }
//!     }
//! }
//! ```
//!
//! # Much at once
//!
//! ```no_run
//! use continuum_client::{Error, Namespace, Put, Write};
//!
//! async fn load(notes: &Namespace, lines: &[(String, String)]) -> Result<(), Error> {
//!     let mut bulk = notes.bulk();
//!     for lines in lines.chunks(500) {
//!         let writes = lines.iter().map(|(key, json)| Write::put(key, Put::register(json)));
//!         for acknowledged in bulk.send(writes).await? {
//!             acknowledged.outcome?;
//!         }
//!     }
//!     for acknowledged in bulk.settle().await? {
//!         acknowledged.outcome?;
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # What is safe
//!
//! Reads are repeated at will. Each write gets a name of its own (`request_id`), under which a node carries it out once: a
//! write whose connection broke is sent to the same node again under the same name, so that it happens once, though nobody
//! knows whether the first try arrived. What has no name (creating a namespace, a snapshot, with [`Settings::named_writes`] off any
//! write) is repeated only where nothing has happened. [`Error::changed`] tells of every failure whether something may have.
//!
//! The crate refuses to know what a node does, and needs a tokio runtime with time and I/O.
#![allow(
    clippy::disallowed_methods,
    reason = "a client runs by the real clock and draws its own names; it is no part of the simulated core"
)]

mod admin;
mod bulk;
mod change;
mod cluster;
mod concept;
mod connection;
mod context;
mod error;
mod gather;
mod namespace;
mod namespaces;
mod pages;
mod resume;
mod retry;
mod settings;
mod transaction;
mod watch;

use std::sync::Arc;

pub use admin::{Admin, Messages};
pub use bulk::{Acknowledgement, Bulk, BulkWrite, CHUNK_BYTES_MAX, Road, StateImport, StateJoins, Writes};
pub use change::{Batched, Delete, Deleted, Put, Write, WriteResult, Written};
pub use cluster::Cluster;
pub use concept::{Concept, Place, Value, Version};
pub use connection::channel;
pub use context::{Context, ResumeToken, TokenMalformed};
pub use error::{Changed, Error, Kind, Violation};
pub use namespace::{Namespace, Page, PageToken, Selection};
pub use namespaces::{NamespaceInfo, Namespaces, Replication, Strategy};
pub use pages::{Concepts, Pages, Scan, Source, StateExport, States};
pub use settings::{Identity, Settings, Tls};
pub use tonic::Code;
pub use transaction::{Action, ActionResult, Compare, Transacted, Transaction};
pub use watch::{Event, Resync, Watch};

/// The messages of `continuum.v1`, which [`Admin`] and [`Cluster`] take and return.
pub use proto::v1 as wire;

use crate::connection::{Bounds, Connection};

/// A cluster of Continuum. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    connection: Arc<Connection>,
}

impl Client {
    /// A client of the nodes that the settings name. Connections are opened when they are needed, so that a node may be
    /// started later.
    ///
    /// # Errors
    /// [`Kind::Settings`] when the settings do not fit together.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn connect(settings: Settings) -> Result<Client, Error> {
        let connection = Arc::new(Connection::new(settings)?);
        Ok(Client { connection })
    }

    /// A namespace; whether there is one of that name its first call tells.
    #[must_use]
    pub fn namespace(&self, name: impl Into<String>) -> Namespace {
        Namespace::new(self.clone(), name.into())
    }

    /// The registry of namespaces.
    #[must_use]
    pub fn namespaces(&self) -> Namespaces {
        Namespaces::new(self.clone())
    }

    /// The calls of an operator.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// Who belongs to the cluster, and who leads.
    #[must_use]
    pub fn cluster(&self) -> Cluster {
        Cluster::new(self.clone())
    }

    /// The settings it was made with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        self.connection.settings()
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// For the beginning of a stream.
    pub(crate) fn begin(&self) -> Bounds {
        Bounds {
            place: None,
            time: self.settings().call_timeout,
            tell: false,
            patient: false,
        }
    }

    /// For going on with a stream, at this endpoint if one is given.
    pub(crate) fn resume(&self, place: Option<usize>) -> Bounds {
        Bounds {
            place,
            time: self.settings().resume_timeout,
            tell: false,
            patient: true,
        }
    }
}

/// A name for a write, unlike all others.
fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sendable<T: Send>(_: &T) {}

    /// Programs spawn them on many threads.
    #[tokio::test]
    async fn whatever_waits_can_be_spawned() {
        let client = Client::connect(Settings::default()).unwrap();
        let (notes, admin) = (client.namespace("notes"), client.admin());
        sendable(&notes.get("k"));
        sendable(&notes.put("k", Put::counter(1)));
        sendable(&notes.batch([Write::delete("k", Delete::new())]));
        sendable(&notes.transact(Transaction::new().then(Action::get("k"))));
        sendable(&notes.scan(Selection::default()));
        sendable(&notes.watch(Selection::default(), &ResumeToken::default()));
        sendable(&client.namespaces().list());
        sendable(&admin.verify());
        sendable(&client.cluster().status());
        let mut bulk = notes.bulk();
        sendable(&bulk.send([Write::put("k", Put::counter(1))]));
        sendable(&bulk);
    }
}
