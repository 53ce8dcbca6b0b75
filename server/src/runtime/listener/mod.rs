//! The accept loop: sockets in, HTTP/1.1 and h2c conversations with a router out, and no way to hold one open for free.
//!
//! ```text
//!  accept ─► room? (total, per address) ─► TLS, if any ─► Wire ─► hyper (1.1 or h2, by preface) ─► Router
//!              │ no: closed at once          │ reads  : head and idle time-outs, by Phase
//!              ▼                             │ writes : stalled-reader time-out
//!            counted                         │ writes are gathered, and go out when hyper waits: see `outgoing`
//!                                            └ end    : what the caller still sends is drained, so that it reads our answer
//!
//!  Router ─► Answer ─► pieces of 64 KiB ─► hyper ─► Wire
//!              │ within the room for answers   └ Progress: what waits for the caller, and how fast it is taken
//! ```
//!
//! | a caller that | is let go after |
//! |---|---|
//! | connects and says nothing, or dribbles its request head | `head_ms_max` since connecting, or since the head's first byte |
//! | dribbles a request body | `body_ms_max` since its head (the router sees [`BodyError::Late`]) |
//! | dribbles a message of a gRPC stream | `body_ms_max` since the message's first byte, as above |
//! | keeps a gRPC stream on which nothing is sent either way | never: a watch may wait for days. h2 pings find the dead |
//! | keeps a connection with nothing asked | `idle_ms_max` since the last answer, politely |
//! | does not read its answer, or only in sips | `write_ms_max` in which less than 64 KiB, and not all, was taken |
//!
//! The last row means a stream on h2, and the connection on HTTP/1; and on h2 too if the stream has ended and only a
//! piece of at most 64 KiB still waits, or if the socket takes no byte at all.
//!
//! Invariants: a connection counts against the limits from accept until its socket is closed; loopback has no limit per
//! address; a request is in flight until the last byte of its answer is with the system's socket, or among the 32 KiB at
//! most that are gathered before it; answers hold no more than `answers_bytes_max` until then (small ones aside); after
//! `stop`, gRPC streams end as soon as they are quiet and no connection outlives `drain_ms_max`. It refuses to know routes, bodies and callers' names; of gRPC it knows the
//! content type, how messages are framed and two status codes.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // sockets and their time-outs are what this module is for

mod alarm;
mod answer;
mod body;
mod farewell;
mod outgoing;
mod phase;
mod progress;
mod streams;
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

use answer::{Answer, Delivery, Kind, Room};
use axum::{
    body::{Body, HttpBody},
    http::{HeaderValue, Request, Response, StatusCode, Version, header},
};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use metrics::Gauge;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time,
};
use tokio_rustls::TlsAcceptor;
use tower::Service;

use body::Arriving;
pub use body::BodyError;
use farewell::Farewell;
use outgoing::{Outgoing, drive};
use phase::{Phase, Turn};
use progress::{PIECE_BYTES, Progress};
use streams::Streams;
use wire::{Stream, Wire, hang_up, linger};

use super::{
    tasks::{self, Stop},
    tls,
};

/// What a listener allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Connections at once. The process needs as many file descriptors beside those of the database.
    pub connections_max: usize,
    /// Connections at once from one address; loopback is exempt.
    pub connections_per_address_max: usize,
    /// Time for a request head, from its first byte (from connecting, for the first one). Milliseconds.
    pub head_ms_max: u64,
    /// Time for a request body, from the end of its head; for each message of a gRPC stream, from its first byte.
    /// Milliseconds.
    pub body_ms_max: u64,
    /// Time between an answer and the next request. Milliseconds.
    pub idle_ms_max: u64,
    /// Time for each 64 KiB of an answer to be taken, or for the rest of it. Milliseconds.
    pub write_ms_max: u64,
    /// Time for requests in flight to end once the listener stops. Milliseconds.
    pub drain_ms_max: u64,
    /// Time that a gRPC answer may have nothing to say once the listener stops. A request has twice as long, because the
    /// answer can tell the caller why it ends. Milliseconds.
    pub quiet_ms_max: u64,
    /// Bytes of a request head; more is answered 431. hyper takes no less than 8 KiB.
    pub head_bytes_max: usize,
    /// h2 requests at once on one connection.
    pub streams_max: u32,
    /// Bytes of all answers that are not sent yet, so that callers who do not read cannot exhaust the memory. An answer
    /// that finds no room is replaced by a 503; a gRPC stream ends with `UNKNOWN`.
    pub answers_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            connections_max: 16_384,
            connections_per_address_max: 256,
            head_ms_max: 10_000,
            body_ms_max: 30_000,
            idle_ms_max: 60_000,
            write_ms_max: 30_000,
            drain_ms_max: 10_000,
            quiet_ms_max: 250,
            head_bytes_max: 32 * 1024,
            streams_max: 128,
            answers_bytes_max: 256 * 1024 * 1024,
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
            ("answers_bytes_max", self.answers_bytes_max as u64),
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
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it calls from.
    pub address: SocketAddr,
    /// What it showed, on TLS, and the authority has signed.
    pub certificate: Option<Arc<CertificateDer<'static>>>,
}

/// How refusals look that no router makes: status code to JSON body. They are hyper's own of unreadable request heads
/// (400, 431, 414), which it leaves empty, and ours of an answer without room (503).
pub type Unreadable = fn(u16) -> String;

/// What answers the requests of a listener: an axum router, or another service over its bodies.
pub trait Answers:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<S> Answers for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// Where callers come in.
pub struct Socket {
    /// Bound.
    pub tcp: TcpListener,
    /// What is spoken on it; without, everything is plain.
    pub tls: Option<tls::Server>,
}

impl Socket {
    /// A second handle on the same socket: whoever comes is given to one of those that listen, and nobody is turned away while
    /// one of them does.
    ///
    /// # Errors
    /// When the system has none to give.
    pub fn again(&self) -> io::Result<Socket> {
        use std::os::fd::AsFd as _;
        let handle = std::net::TcpListener::from(self.tcp.as_fd().try_clone_to_owned()?);
        Ok(Socket {
            tcp: TcpListener::from_std(handle)?,
            tls: self.tls.clone(),
        })
    }
}

impl From<TcpListener> for Socket {
    fn from(tcp: TcpListener) -> Socket {
        Socket { tcp, tls: None }
    }
}

/// Serves `router` on `socket` until `stop` resolves, then drains. `connections` shows how many there are.
///
/// # Panics
/// When `settings` do not [validate](Settings::validate).
pub async fn serve<S: Answers>(
    socket: impl Into<Socket>,
    router: S,
    settings: Settings,
    unreadable: Unreadable,
    connections: Gauge,
    stop: impl Future<Output = ()>,
) {
    settings.validate().expect("the caller validated the settings");
    let drain = Duration::from_millis(settings.drain_ms_max);
    let (stopper, stopping) = tasks::stop();
    let Socket { tcp, tls } = socket.into();
    let host = Arc::new(Host::new(settings, router, tls, unreadable, connections, stopping));
    let mut conversations = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = tcp.accept() => match accepted {
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
    drop(tcp);
    stopper.stop();
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
struct Host<S> {
    settings: Settings,
    router: S,
    tls: Option<tls::Server>,
    unreadable: Unreadable,
    crowd: Mutex<Crowd>,
    connections: Gauge,
    room: Room,
    stop: Stop,
}

impl<S> Host<S> {
    fn new(
        settings: Settings,
        router: S,
        tls: Option<tls::Server>,
        unreadable: Unreadable,
        connections: Gauge,
        stop: Stop,
    ) -> Host<S> {
        Host {
            room: Room::new(settings.answers_bytes_max),
            settings,
            router,
            tls,
            unreadable,
            crowd: Mutex::default(),
            connections,
            stop,
        }
    }

    fn write_limit(&self) -> Duration {
        Duration::from_millis(self.settings.write_ms_max)
    }

    /// `body` with the time it has.
    fn arriving(&self, body: Incoming, grpc: bool) -> Arriving {
        let limit = Duration::from_millis(self.settings.body_ms_max);
        if grpc {
            Arriving::messages(body, limit, self.farewell(2))
        } else {
            Arriving::whole(body, limit)
        }
    }

    /// How a direction of a gRPC stream ends after a stop: when it was quiet for so many times the setting.
    fn farewell(&self, times: u64) -> Farewell {
        let quiet = Duration::from_millis(self.settings.quiet_ms_max.saturating_mul(times));
        Farewell::new(self.stop.clone(), quiet)
    }

    /// What a caller gets whose answer finds no room. Its request has been carried out.
    fn no_room(&self) -> Response<Body> {
        tracing::debug!("an answer found no room: too many wait to be read");
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let mut response = Response::new(Body::from((self.unreadable)(status.as_u16())));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        response
    }
}

/// Who is connected.
#[derive(Default)]
struct Crowd {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A place in the crowd, given back on drop.
struct Place<S> {
    host: Arc<Host<S>>,
    address: IpAddr,
}

impl<S> Place<S> {
    /// `None` when there is no room.
    fn take(host: &Arc<Host<S>>, address: IpAddr) -> Option<Place<S>> {
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

impl<S> Drop for Place<S> {
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

/// Time for the last bytes to leave after a conversation that ended in an error.
const PARTING_MAX: Duration = Duration::from_secs(1);

/// One connection, from its first byte to its last.
async fn converse<S: Answers>(host: Arc<Host<S>>, stream: TcpStream, peer: SocketAddr, place: Place<S>) {
    // Answers are written whole; waiting to fill a packet only adds latency.
    let _best_effort = stream.set_nodelay(true);
    let Some(stream) = secure(&host, stream, peer).await else {
        return;
    };
    let caller = Peer {
        address: peer,
        certificate: stream.certificate(),
    };
    let phase = Arc::new(Phase::new(&host.settings));
    let (wire, outgoing, remains) = Wire::new(stream, Arc::clone(&phase), &host.settings, host.unreadable);
    if let Err(error) = answer_all(&host, (wire, &outgoing), phase, caller).await {
        tracing::debug!(%peer, %error, "connection ended early");
    }
    // After an error nothing has told the caller that there is no more.
    let ended = std::future::poll_fn(|context| outgoing.poll_shutdown(context));
    let _in_time = time::timeout(PARTING_MAX, ended).await;
    // A stop need not wait for callers that keep their end open.
    tokio::select! {
        () = linger(remains) => {}
        () = host.stop.given() => {}
    }
    drop(place);
}

/// The caller's connection as requests come over it; `None` when no TLS could be agreed on in time.
async fn secure<S>(host: &Host<S>, stream: TcpStream, peer: SocketAddr) -> Option<Stream> {
    let Some(tls) = &host.tls else {
        return Some(Stream::Plain(stream));
    };
    let limit = Duration::from_millis(host.settings.head_ms_max);
    let agreed = tokio::select! {
        agreed = time::timeout(limit, TlsAcceptor::from(tls.config()).accept(stream).into_fallible()) => agreed,
        () = host.stop.given() => return None,
    };
    match agreed {
        Ok(Ok(stream)) => return Some(Stream::Tls(Box::new(stream))),
        Ok(Err((error, stream))) => {
            tracing::info!(%peer, %error, "connection refused: no TLS could be agreed on");
            tokio::select! {
                () = hang_up(stream) => {}
                () = host.stop.given() => {}
            }
        }
        Err(_) => tracing::debug!(%peer, "connection closed: its TLS handshake took too long"),
    }
    None
}

/// Answers requests until either side ends the conversation. The wire is closed for writing when this returns.
async fn answer_all<S: Answers>(
    host: &Arc<Host<S>>,
    (wire, outgoing): (Wire, &Outgoing),
    phase: Arc<Phase>,
    peer: Peer,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let progress = Arc::new(Progress::new(host.write_limit()));
    let service = service_fn(|request| {
        let turn = Phase::begin(&phase);
        answer_one(Arc::clone(host), request, peer.clone(), turn, Arc::clone(&progress))
    });
    let streams = Streams::new(Arc::clone(&phase), host.write_limit());
    let builder = protocols(&host.settings, streams);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(wire), service));
    let conversation = async {
        tokio::select! {
            ended = drive(connection.as_mut(), outgoing) => return ended,
            () = phase.tired() => {}
            () = host.stop.given() => phase.tire(),
        }
        connection.as_mut().graceful_shutdown();
        drive(connection, outgoing).await
    };
    tokio::select! {
        biased; // `stalled` sees what the conversation hands over
        ended = conversation => ended,
        () = progress.stalled() => Err("the caller does not read its answer".into()),
        () = phase.given_up() => Err("the caller does not read the end of an answer".into()),
    }
}

/// Answers a request. `connection` counts what waits for the caller unless its stream does that by itself.
async fn answer_one<S: Answers>(
    host: Arc<Host<S>>,
    request: Request<Incoming>,
    peer: Peer,
    turn: Turn,
    connection: Arc<Progress>,
) -> Result<Response<Answer>, Infallible> {
    let grpc = is_grpc(&request);
    let mut request = request.map(|body| Body::new(host.arriving(body, grpc)));
    request.extensions_mut().insert(peer);
    let response = host.router.clone().call(request).await?;
    let (response, share) = match host.room.take(response.body().size_hint().lower()) {
        Ok(share) => (response, share),
        Err(_full) => (host.no_room(), None),
    };
    let stream = streams::answer();
    let kind = match stream {
        Some(_) if grpc => Kind::Grpc(host.farewell(1)),
        Some(_) => Kind::H2,
        None => Kind::Http1,
    };
    let delivery = Delivery::new(stream.unwrap_or(connection), turn);
    Ok(response.map(|body| Answer::new(body, share, host.room.clone(), delivery, kind)))
}

/// Whether the request's body is a stream of gRPC messages.
fn is_grpc(request: &Request<Incoming>) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE);
    request.version() == Version::HTTP_2 && kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn protocols(settings: &Settings, streams: Streams) -> auto::Builder<Streams> {
    /// An h2 peer that vanished without a word is noticed after these two.
    const PING_EVERY: Duration = Duration::from_secs(20);
    const PONG_WITHIN: Duration = Duration::from_secs(10);
    /// For each stream: enough for the socket to be kept busy while the next piece is fetched.
    const SEND_BUFFER_BYTES: usize = 2 * PIECE_BYTES;
    let mut builder = auto::Builder::new(streams);
    builder
        .http1()
        .timer(TokioTimer::new())
        // Who has said all may hang up its half of the line and still wants the answer; the work is done in any case. Who
        // is gone altogether is noticed when the answer is written.
        .half_close(true)
        // hyper's own time-out also runs between requests, so it cannot tell a slow head from an idle connection. Phase can.
        .header_read_timeout(None)
        .max_buf_size(settings.head_bytes_max);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN)
        .max_concurrent_streams(settings.streams_max)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(u32::try_from(settings.head_bytes_max).unwrap_or(u32::MAX));
    builder
}
