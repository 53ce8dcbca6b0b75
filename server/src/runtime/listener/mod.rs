//! The accept loop: sockets in, HTTP/1.1 and h2c conversations with a router out, and no way to hold one open for free.
//!
//! ```text
//!  accept ─► room? (total, per address) ─► Wire ─► hyper (1.1 or h2, by preface) ─► Router
//!              │ no: closed at once          │ reads  : head and idle time-outs, by Phase
//!              ▼                             │ writes : stalled-reader time-out
//!            counted                         └ end    : what the caller still sends is drained, so that it reads our answer
//! ```
//!
//! | a caller that | is let go after |
//! |---|---|
//! | connects and says nothing, or dribbles its request head | `head_ms_max` since connecting, or since the head's first byte |
//! | dribbles a request body | `body_ms_max` since its head (the router sees [`BodyError::Late`]) |
//! | keeps a connection with nothing asked | `idle_ms_max` since the last answer, politely |
//! | does not read its answer | `write_ms_max` without a byte taken |
//!
//! Invariants: a connection counts against the limits from accept until its socket is closed; loopback has no limit per
//! address; after `stop`, no connection outlives `drain_ms_max`. It refuses to know routes, bodies and callers' names.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // sockets and their time-outs are what this module is for

mod body;
mod phase;
#[cfg(test)]
mod tests;
mod wire;

use std::{
    collections::HashMap,
    convert::Infallible,
    error::Error,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body, http::Request};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use metrics::Gauge;
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time,
};
use tower::Service;

pub use body::BodyError;
use body::{Answer, Arriving};
use phase::Phase;
use wire::{Wire, linger};

/// What a listener allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Connections at once. The process needs as many file descriptors beside those of the database.
    pub connections_max: usize,
    /// Connections at once from one address; loopback is exempt.
    pub connections_per_address_max: usize,
    /// Time for a request head, from its first byte (from connecting, for the first one). Milliseconds.
    pub head_ms_max: u64,
    /// Time for a request body, from the end of its head. Milliseconds.
    pub body_ms_max: u64,
    /// Time between an answer and the next request. Milliseconds.
    pub idle_ms_max: u64,
    /// Time without a byte of the answer being taken. Milliseconds.
    pub write_ms_max: u64,
    /// Time for requests in flight to end once the listener stops. Milliseconds.
    pub drain_ms_max: u64,
    /// Bytes of a request head; more is answered 431. hyper takes no less than 8 KiB.
    pub head_bytes_max: usize,
    /// h2 requests at once on one connection.
    pub streams_max: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            connections_max: 4_096,
            connections_per_address_max: 256,
            head_ms_max: 10_000,
            body_ms_max: 30_000,
            idle_ms_max: 60_000,
            write_ms_max: 30_000,
            drain_ms_max: 10_000,
            head_bytes_max: 32 * 1024,
            streams_max: 128,
        }
    }
}

/// hyper's own minimum for its read buffer, which bounds the request head.
const HEAD_BYTES_MIN: usize = 8 * 1024;

impl Settings {
    /// Whether a listener can work with these numbers.
    ///
    /// # Errors
    /// The name of the first setting that cannot stand, and why.
    pub fn validate(&self) -> Result<(), String> {
        let positive = [
            ("connections_max", self.connections_max as u64),
            ("connections_per_address_max", self.connections_per_address_max as u64),
            ("head_ms_max", self.head_ms_max),
            ("body_ms_max", self.body_ms_max),
            ("idle_ms_max", self.idle_ms_max),
            ("write_ms_max", self.write_ms_max),
            ("streams_max", u64::from(self.streams_max)),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{name} is 0, which would refuse every caller; use at least 1"));
        }
        if self.head_bytes_max < HEAD_BYTES_MIN {
            return Err(format!(
                "head_bytes_max is {}; use at least {HEAD_BYTES_MIN}",
                self.head_bytes_max
            ));
        }
        Ok(())
    }
}

/// Who is at the other end of the connection; in the extensions of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// How hyper's own refusals of unreadable request heads (400, 431, 414) look: status code to JSON body. hyper leaves
/// them empty.
pub type Unreadable = fn(u16) -> String;

/// Serves `router` on `listener` until `stop` resolves, then drains. `connections` shows how many there are.
///
/// # Panics
/// When `settings` do not [validate](Settings::validate).
pub async fn serve(
    listener: TcpListener,
    router: Router,
    settings: Settings,
    unreadable: Unreadable,
    connections: Gauge,
    stop: impl Future<Output = ()>,
) {
    settings.validate().expect("the caller validated the settings");
    let drain = Duration::from_millis(settings.drain_ms_max);
    let (stopping, stopped) = watch::channel(false);
    let host = Arc::new(Host {
        settings,
        router,
        unreadable,
        crowd: Mutex::default(),
        connections,
        stopped,
    });
    let mut conversations = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if let Some(place) = Place::take(&host, peer.ip()) {
                        conversations.spawn(converse(Arc::clone(&host), stream, peer, place));
                    } else {
                        tracing::debug!(%peer, "connection refused: no room");
                    }
                }
                Err(error) => accept_failed(&error).await,
            },
            Some(_) = conversations.join_next(), if !conversations.is_empty() => {}
        }
    }
    drop(listener);
    let _heard = stopping.send(true);
    let drained = async { while conversations.join_next().await.is_some() {} };
    if time::timeout(drain, drained).await.is_err() {
        tracing::warn!(
            cut = conversations.len(),
            "requests were still in flight at the end of the drain time"
        );
        conversations.shutdown().await;
    }
}

/// A caller that left before we came is nothing; running out of descriptors passes only with time.
async fn accept_failed(error: &io::Error) {
    const PAUSE: Duration = Duration::from_millis(200);
    if matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    ) {
        return;
    }
    tracing::warn!(%error, "cannot accept connections; trying again");
    time::sleep(PAUSE).await;
}

/// What all conversations of one listener share.
struct Host {
    settings: Settings,
    router: Router,
    unreadable: Unreadable,
    crowd: Mutex<Crowd>,
    connections: Gauge,
    stopped: watch::Receiver<bool>,
}

impl Host {
    /// Waits for the listener's stop.
    async fn stopping(&self) {
        // An error means that the listener is gone, which is a stop as well.
        drop(self.stopped.clone().wait_for(|stopped| *stopped).await);
    }
}

/// Who is connected.
#[derive(Default)]
struct Crowd {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A place in the crowd, given back on drop.
struct Place {
    host: Arc<Host>,
    address: IpAddr,
}

impl Place {
    /// `None` when there is no room.
    fn take(host: &Arc<Host>, address: IpAddr) -> Option<Place> {
        // An IPv4 caller of a dual-stack socket is the same caller.
        let address = address.to_canonical();
        let mut crowd = host.crowd.lock();
        let here = crowd.by_address.get(&address).copied().unwrap_or(0);
        let crowded = here >= host.settings.connections_per_address_max && !address.is_loopback();
        if crowd.total >= host.settings.connections_max || crowded {
            return None;
        }
        crowd.total += 1;
        crowd.by_address.insert(address, here + 1);
        drop(crowd);
        host.connections.increment(1.0);
        Some(Place {
            host: Arc::clone(host),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.host.connections.decrement(1.0);
        let mut crowd = self.host.crowd.lock();
        crowd.total -= 1;
        if let Some(here) = crowd.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                crowd.by_address.remove(&self.address);
            }
        }
    }
}

/// One connection, from its first byte to its last.
async fn converse(host: Arc<Host>, stream: TcpStream, peer: SocketAddr, place: Place) {
    // Answers are written whole; waiting to fill a packet only adds latency.
    let _best_effort = stream.set_nodelay(true);
    let phase = Arc::new(Phase::new(&host.settings));
    let (wire, remains) = Wire::new(stream, Arc::clone(&phase), &host.settings, host.unreadable);
    if let Err(error) = answer_all(&host, wire, phase, peer).await {
        tracing::debug!(%peer, %error, "connection ended early");
    }
    // A stop need not wait for callers that keep their end open.
    tokio::select! {
        () = linger(remains) => {}
        () = host.stopping() => {}
    }
    drop(place);
}

/// Answers requests until either side ends the conversation. The wire is closed for writing when this returns.
async fn answer_all(
    host: &Host,
    wire: Wire,
    phase: Arc<Phase>,
    peer: SocketAddr,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let body_time = Duration::from_millis(host.settings.body_ms_max);
    let service = service_fn(|request: Request<Incoming>| {
        let turn = Phase::begin(&phase);
        let mut request = request.map(|body| Body::new(Arriving::new(body, body_time)));
        request.extensions_mut().insert(Peer(peer));
        let answer = host.router.clone().call(request);
        async move { Ok::<_, Infallible>(answer.await?.map(|body| Answer::new(body, turn))) }
    });
    let builder = protocols(&host.settings);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(wire), service));
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = phase.tired() => {}
        () = host.stopping() => phase.tire(),
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

fn protocols(settings: &Settings) -> auto::Builder<TokioExecutor> {
    /// An h2 peer that vanished without a word is noticed after these two.
    const PING_EVERY: Duration = Duration::from_secs(20);
    const PONG_WITHIN: Duration = Duration::from_secs(10);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // hyper's own time-out also runs between requests, so it cannot tell a slow head from an idle connection. Phase can.
        .header_read_timeout(None)
        .max_buf_size(settings.head_bytes_max);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN)
        .max_concurrent_streams(settings.streams_max)
        .max_header_list_size(u32::try_from(settings.head_bytes_max).unwrap_or(u32::MAX));
    builder
}
