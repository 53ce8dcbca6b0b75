//! A node put together from its rows.
//!
//! ```text
//!  start:  bind both addresses ─► lock the data directory ─► whose data? ─► engine (replay) ─► raft ─► limits ─► faces accept
//!                                                              └► nobody's yet: joins, or forms a cluster with others (`forming`)
//!                                                              └► search thread: rebuild, then follow
//!  stop:   unready ─► faces drain ─► usage counts ─► sequencer ─► engine (flush) ─► unlock
//!  fail:   engine or sequencer stopped by itself ─► not live; `failed` says why; the process must exit
//! ```
//!
//! Nothing is accepted before the engine has recovered, but what others ask a node with which they form a cluster; connections that come
//! earlier wait in the kernel's backlog.
//! `continuumd`, the tests and the benches all start a node here. The module refuses to decide anything itself.

mod assemble;
mod forming;
mod timed_log;
mod upkeep;
mod watch;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, thread::JoinHandle, time::Duration};

use engine::{Engine, OpenError, clock::Clock};
use tokio::task::JoinHandle as Task;

use crate::{
    config,
    consensus::Sequencer,
    contribution::{self, Contribution},
    formation,
    metrics::Metrics,
    runtime::{
        directory::{self, Directory},
        health::{Bearing, Health},
        tasks::{self, Stopper},
        time::{SystemClock, within},
        tls::TlsError,
    },
    snapshots,
};

/// The engine works.
const CHECK_ENGINE: &str = "engine";
/// The node's data are of a node of some cluster: it does not wait for others to form one.
const CHECK_FORMATION: &str = "formation";
/// The sequencer works.
const CHECK_SEQUENCER: &str = "sequencer";
/// The search index follows the pool.
const CHECK_SEARCH: &str = "search";
/// It has reached what the pool held at start; until then a knowledge request waits, or is sent away to retry for free.
const CHECK_SEARCH_BUILT: &str = "search_built";
/// The node accepts requests.
const CHECK_SERVING: &str = "serving";

/// Somebody leads, and a majority hears.
const CHECK_QUORUM: &str = "quorum";
/// The disk has room for writes.
const CHECK_DISK: &str = "disk";
/// This machine's clock agrees with those of the other members and is not behind ledger time: limits slide.
const CHECK_CLOCK: &str = "clock";

const CHECKS: [(&str, Bearing); 9] = [
    (CHECK_FORMATION, Bearing::Ready),
    (CHECK_ENGINE, Bearing::Live),
    (CHECK_SEQUENCER, Bearing::Live),
    (CHECK_QUORUM, Bearing::Ready),
    (CHECK_SEARCH, Bearing::Ready),
    (CHECK_SEARCH_BUILT, Bearing::Limited),
    (CHECK_SERVING, Bearing::Ready),
    (CHECK_DISK, Bearing::Limited),
    (CHECK_CLOCK, Bearing::Limited),
];

/// Why a node did not start, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be bound.
    #[error("cannot serve {face} on {address}: {source}{}", bind_advice(.source, .flag))]
    Bind {
        /// `gRPC` or `HTTP`.
        face: &'static str,
        /// Where.
        address: SocketAddr,
        /// Its flag.
        flag: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The data directory.
    #[error(transparent)]
    Directory(#[from] directory::Error),
    /// The engine did not open.
    #[error("cannot open the data in {}: {source}", .path.display())]
    Engine {
        /// The data directory.
        path: PathBuf,
        /// Why.
        source: OpenError,
    },
    /// The join token is none.
    #[error("join: {0}")]
    Token(formation::Unreadable),
    /// It did not come into the cluster.
    #[error("cannot join: {0}")]
    Formation(#[from] formation::Error),
    /// Raft did not start.
    #[error("cannot start consensus: {0}")]
    Consensus(io::Error),
    /// The configured limits could not be put into force.
    #[error("cannot put the configured limits into force: {0}")]
    Limits(contribution::Error),
    /// The pool cannot be read.
    #[error("cannot read the pool: {0}")]
    Pool(contribution::Error),
    /// The snapshots beside the data cannot be looked through.
    #[error(transparent)]
    Snapshots(#[from] snapshots::Error),
    /// The certificate, its key or the authority.
    #[error(transparent)]
    Tls(TlsError),
    /// The system gave no thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

fn bind_advice(error: &io::Error, flag: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "; another process (perhaps another continuumd) serves there: stop it, or choose another address with --{flag}, port 0 takes a free one"
        ),
        io::ErrorKind::PermissionDenied => format!("; ports below 1024 need a privilege: choose another with --{flag}"),
        io::ErrorKind::AddrNotAvailable => {
            format!("; this machine has no such address: choose one of its own with --{flag}")
        }
        _ => String::new(),
    }
}

/// A running node.
pub struct Node {
    grpc_address: SocketAddr,
    http_address: SocketAddr,
    name: String,
    directory: Directory,
    engine: Engine,
    sequencer: Sequencer,
    contribution: Contribution,
    health: Health,
    metrics: Metrics,
    drain_max: Duration,
    /// The faces' word to stop, and their tasks.
    faces: (Stopper, Vec<Task<()>>),
    /// The word for what works behind them.
    background: (Stopper, Vec<Task<()>>),
    search: JoinHandle<()>,
}

/// What a node is given besides its settings.
pub struct Components {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

impl Default for Components {
    fn default() -> Components {
        Components {
            clock: Arc::new(SystemClock),
        }
    }
}

impl Node {
    /// Starts a node on the system's clock.
    ///
    /// # Errors
    /// [`StartError`]; nothing keeps running then.
    pub async fn start(settings: &config::Settings) -> Result<Node, StartError> {
        Node::start_with(settings, Components::default()).await
    }

    /// Where gRPC is served.
    #[must_use]
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc_address
    }

    /// Where HTTP is served.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The data directory, absolute.
    #[must_use]
    pub fn data_directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// The engine, for tests and measurements.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The contribution service, for tests and measurements.
    #[must_use]
    pub fn contribution(&self) -> &Contribution {
        &self.contribution
    }

    /// The state of its checks.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// What it counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Waits until the node cannot go on, and says why. The process should then exit: the next start recovers.
    pub async fn failed(&self) -> String {
        let (mut engine, mut sequencer) = (self.engine.stopped(), self.sequencer.stopped());
        tokio::select! {
            reason = watch::reason(&mut engine) => format!("the engine stopped: {reason}"),
            reason = watch::reason(&mut sequencer) => format!("the sequencer stopped: {reason}"),
        }
    }

    /// Stops: takes no more requests, finishes those under way within the configured time, and closes the engine.
    ///
    /// # Errors
    /// When the engine could not be closed in order; nothing acknowledged is lost, the next start replays.
    pub async fn shutdown(self) -> Result<(), OpenError> {
        self.health.fail(CHECK_SERVING, "stopping");
        let (stopper, faces) = self.faces;
        stopper.stop();
        // The listeners keep the time themselves; this only guards against one that does not.
        let drained = within(self.drain_max + DRAIN_SLACK, async { finish(faces).await }).await;
        if drained.is_none() {
            tracing::warn!("a face did not stop in time");
        }
        let (stopper, background) = self.background;
        stopper.stop();
        // Usage counts may wait for room on a full disk; they order results, and are nobody's credit.
        if within(self.drain_max + DRAIN_SLACK, finish(background)).await.is_none() {
            tracing::warn!("the last usage counts could not be made durable");
        }
        let (engine, sequencer, search) = (self.engine, self.sequencer, self.search);
        let closed = tasks::blocking(move || {
            let _panic_was_logged = search.join();
            // Every caller is gone by now. A batch that waits for room on a full disk would keep the sequencer for ever.
            engine.stop_taking();
            sequencer.close();
            engine.close()
        })
        .await;
        drop(self.directory);
        closed.unwrap_or_else(|| Err(OpenError::Refused("closing the engine panicked".to_owned())))
    }
}

/// Beyond the time the listeners give their own connections.
const DRAIN_SLACK: Duration = Duration::from_secs(2);

async fn finish(tasks: Vec<Task<()>>) {
    for task in tasks {
        // A panic was logged where it happened.
        let _joined = task.await;
    }
}

#[cfg(test)]
mod tests;
