//! The way to other nodes, and who they are.
//!
//! ```text
//!  road ──► Transport::channel(address, name) ──► one multiplexed HTTP/2 connection for each node, opened when it is needed
//!                                                   TLS 1.3 if this node has an authority: the other's certificate must bear `name`
//!  face ──► Claim (metadata of a call) ──► verify: the same cluster, meant for this node, and on TLS the name in the certificate
//! ```
//!
//! It refuses to know what is said over it.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // sockets are what this module is for

mod claim;
mod stream;
mod traffic;

use std::{collections::HashMap, error::Error, io, sync::Arc, time::Duration};

pub use claim::{CLAIM, Claim, NotHim};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use stream::Connected;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{
    Status,
    transport::{Channel, Endpoint, Uri},
};
use tower::service_fn;
use traffic::Stream;
pub use traffic::Traffic;

use crate::runtime::{time::within, tls::Credentials};

/// Time for a connection to be made, TLS included.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// A connection that was silent for so long is asked whether it still lives; heartbeats keep it from being silent.
const PING_EVERY: Duration = Duration::from_secs(2);
/// A connection that does not answer that within so long is made anew.
const PONG_WITHIN: Duration = Duration::from_secs(2);
/// What may be on its way on one stream, and on all streams of a connection.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// An address that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no HOST:PORT")]
pub struct NoAddress(String);

/// The connections to other nodes; clones share them.
#[derive(Clone)]
pub struct Transport(Arc<Shared>);

struct Shared {
    credentials: Option<Arc<Credentials>>,
    /// By address and name.
    channels: Mutex<HashMap<(String, String), Counted>>,
}

/// A connection, and what goes over it.
type Counted = (Channel, Arc<Traffic>);

impl Transport {
    /// Connections with these credentials; without an authority among them they are plain.
    #[must_use]
    pub fn new(credentials: Option<Arc<Credentials>>) -> Transport {
        Transport(Arc::new(Shared {
            credentials,
            channels: Mutex::default(),
        }))
    }

    /// The connection to the node `name` at `address` (`HOST:PORT`). Calls over it wait until it is made, and fail when it cannot
    /// be. Its tasks run where this is called first.
    ///
    /// # Errors
    /// When that is no address.
    pub fn channel(&self, address: &str, name: &str) -> Result<Channel, NoAddress> {
        self.channel_counted(address, name).map(|(channel, _)| channel)
    }

    /// The same, and what goes over it.
    ///
    /// # Errors
    /// When that is no address.
    pub fn channel_counted(&self, address: &str, name: &str) -> Result<Counted, NoAddress> {
        let mut channels = self.0.channels.lock();
        let key = (address.to_owned(), name.to_owned());
        if let Some(known) = channels.get(&key) {
            return Ok(known.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| NoAddress(address.to_owned()))?;
        let endpoint = endpoint
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PONG_WITHIN)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let (shared, name) = (Arc::clone(&self.0), name.to_owned());
        let traffic = Arc::<Traffic>::default();
        let counts = Arc::clone(&traffic);
        let connector =
            service_fn(move |uri: Uri| connect(Arc::clone(&shared), uri, name.clone(), Arc::clone(&counts)));
        let made = (endpoint.connect_with_connector_lazy(connector), traffic);
        channels.insert(key, made.clone());
        Ok(made)
    }
}

/// A status with what caused it: tonic's own text of a connection that was not made says nothing.
#[must_use]
pub fn told(status: &Status) -> String {
    causes(status).fold(status.message().to_owned(), |told, cause| format!("{told}: {cause}"))
}

/// Whether no connection was made, so that the other side heard nothing.
#[must_use]
pub fn is_unconnected(status: &Status) -> bool {
    causes(status).any(|cause| cause.is::<tonic::ConnectError>())
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(Error::source(status), |&cause| cause.source())
}

async fn connect(
    shared: Arc<Shared>,
    uri: Uri,
    name: String,
    traffic: Arc<Traffic>,
) -> io::Result<TokioIo<Stream<Connected>>> {
    let connected = within(CONNECT_MAX, dial(&shared, &uri, &name)).await;
    let connected = connected.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))?;
    Ok(TokioIo::new(Stream::new(connected, traffic)))
}

async fn dial(shared: &Shared, uri: &Uri, name: &str) -> io::Result<Connected> {
    let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or_default());
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let credentials = shared.credentials.as_ref();
    let Some(tls) = credentials.and_then(|credentials| credentials.towards_nodes()) else {
        return Ok(Connected::Plain(stream));
    };
    let bears = ServerName::try_from(name.to_owned()).map_err(|_| {
        io::Error::other(format!(
            "`{name}` cannot stand in a certificate: a node's name must be one for DNS"
        ))
    })?;
    let stream = TlsConnector::from(tls).connect(bears, stream).await?;
    Ok(Connected::Tls(Box::new(stream)))
}
