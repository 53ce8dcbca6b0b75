//! One multiplexed HTTP/2 connection for each endpoint, opened when it is first needed, and the tries of a call over them.
//!
//! ```text
//!   call ──► endpoint in use ──► node
//!    ▲            │ cannot be reached, broke
//!    │            ▼
//!    └── wait ◄── Tries: again? where? ──► the failure, once there is no more to be tried or no more time
//! ```

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{
    Request, Response, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use crate::{
    Settings,
    error::Error,
    gather::Connector,
    retry::{Next, Repeat, Tries},
    settings::{Identity, Tls},
};

/// The largest frame a node may send: streams of backups and scans then take a few calls to the system for each message.
const FRAME_BYTES_MAX: u32 = 1 << 20;
/// What may be on its way on one stream, and on all streams of a connection.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// The largest answer that is taken, in bytes: a batch of large concepts that are returned.
pub(crate) const ANSWER_BYTES_MAX: usize = 256 << 20;

/// The endpoints, and which of them is in use.
#[derive(Debug)]
pub(crate) struct Connection {
    settings: Settings,
    nodes: Vec<Node>,
    in_use: AtomicUsize,
}

#[derive(Debug)]
struct Node {
    name: String,
    channel: Channel,
}

/// Where a call may be made, and by when it must be done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// At this endpoint only.
    pub(crate) place: Option<usize>,
    /// All tries together.
    pub(crate) time: Duration,
    /// Whether the node is told the deadline: of a stream it would be one for the whole of it.
    pub(crate) tell: bool,
    /// Whether it is tried as long as there is time, however often.
    pub(crate) patient: bool,
}

impl Connection {
    /// # Errors
    /// When the settings do not fit together. Nothing is connected yet.
    pub(crate) fn new(settings: Settings) -> Result<Connection, Error> {
        settings.validate()?;
        let node = |name: &String| {
            Ok(Node {
                name: name.clone(),
                channel: channel(&settings, name)?,
            })
        };
        Ok(Connection {
            nodes: settings.endpoints.iter().map(node).collect::<Result<_, Error>>()?,
            in_use: AtomicUsize::new(0),
            settings,
        })
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Makes a call, again and again if it may be, until its deadline.
    pub(crate) async fn call<Q: Clone, A, F>(
        &self,
        repeat: Repeat,
        request: Q,
        send: impl Fn(Channel, Request<Q>) -> F,
    ) -> Result<A, Error>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let bounds = Bounds {
            place: None,
            time: self.settings.call_timeout,
            tell: true,
            patient: false,
        };
        let (answer, _) = self.call_within(bounds, repeat, request, send).await?;
        Ok(answer)
    }

    /// The same within given bounds; also says which endpoint answered.
    pub(crate) async fn call_within<Q: Clone, A, F>(
        &self,
        bounds: Bounds,
        repeat: Repeat,
        request: Q,
        send: impl Fn(Channel, Request<Q>) -> F,
    ) -> Result<(A, usize), Error>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let deadline = Instant::now() + bounds.time;
        let mut tries = Tries::new(&self.settings, repeat, &bounds);
        let mut place = bounds.place.unwrap_or_else(|| self.in_use.load(Ordering::Relaxed));
        let mut last: Option<Error> = None;
        loop {
            let node = &self.nodes[place];
            let mut one = Request::new(request.clone());
            if bounds.tell {
                one.set_timeout(deadline.saturating_duration_since(Instant::now()));
            }
            let error = match timeout_at(deadline, send(node.channel.clone(), one)).await {
                Ok(Ok(answer)) => {
                    self.in_use.store(place, Ordering::Relaxed);
                    return Ok((answer.into_inner(), place));
                }
                Ok(Err(status)) => Error::from(status).at(&node.name),
                Err(_) => Error::out_of_time(bounds.time, last.as_ref()),
            };
            let perhaps = last.as_ref().is_some_and(Error::is_perhaps);
            let error = match repeat {
                Repeat::Reads => error.reading(),
                Repeat::Safe | Repeat::Never => error.perhaps_earlier(perhaps),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            match tries.next(&error, left, rand::random()) {
                Next::Stop => return Err(error),
                Next::Again { wait, elsewhere } => {
                    if elsewhere {
                        place = (place + 1) % self.nodes.len();
                    }
                    last = Some(error);
                    sleep(wait).await;
                }
            }
        }
    }
}

/// A bare connection to `endpoint`, opened when it is first needed, for the stubs of `continuum-proto`: with the settings' time
/// to connect and pings, and without the tries of a [`Client`](crate::Client).
///
/// # Errors
/// When `endpoint` is not `HOST:PORT`.
pub fn channel(settings: &Settings, endpoint: &str) -> Result<Channel, Error> {
    let endpoint = uri(endpoint, settings.tls.as_ref())?
        // Of a call with little time something must be left to say what is wrong.
        .connect_timeout(settings.connect_timeout.min(settings.call_timeout / 2))
        .http2_keep_alive_interval(settings.keepalive_interval)
        .keep_alive_timeout(settings.keepalive_timeout)
        .keep_alive_while_idle(true)
        .max_frame_size(FRAME_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    Ok(endpoint.connect_with_connector_lazy(Connector::new()))
}

/// `HOST:PORT`, with or without the scheme that `tls` asks for.
pub(crate) fn uri(endpoint: &str, tls: Option<&Tls>) -> Result<Endpoint, Error> {
    let wrong = |why: &str| Error::settings(format!("the endpoint `{endpoint}` {why}: expected HOST:PORT"));
    let scheme = if tls.is_some() { "https" } else { "http" };
    let address = match endpoint.split_once("://") {
        None => endpoint,
        Some((given, rest)) if given == scheme => rest.trim_end_matches('/'),
        Some(("https", _)) => return Err(wrong("asks for TLS, but no authority is given whose nodes to believe")),
        Some(("http", _)) => return Err(wrong("asks for no TLS, though an authority is given")),
        Some(_) => return Err(wrong("has a scheme that is not http or https")),
    };
    let port = address.rsplit_once(':').and_then(|(host, port)| {
        let host_is_one = !host.is_empty() && (!host.contains(':') || (host.starts_with('[') && host.ends_with(']')));
        host_is_one.then(|| port.parse::<u16>().ok()).flatten()
    });
    if port.is_none() || address.contains(['/', '@', '?', '#', ' ']) {
        return Err(wrong("has no host, or no port, or more than that"));
    }
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
        .map_err(|error| wrong(&format!("is no address ({error})")))?;
    let Some(tls) = tls else {
        return Ok(endpoint);
    };
    let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&tls.ca));
    if let Some(Identity { cert, key }) = &tls.identity {
        config = config.identity(tonic::transport::Identity::from_pem(cert, key));
    }
    endpoint.tls_config(config).map_err(|error| {
        Error::settings(format!(
            "TLS cannot be spoken with these certificates: {}",
            told(&error)
        ))
    })
}

/// An error with its causes: the library's own says where it was, not what.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |told, cause| format!("{told}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_host_and_port() {
        for good in [
            "db1:7000",
            "127.0.0.1:7000",
            "[::1]:7000",
            "http://db1:7000",
            "http://db1:7000/",
        ] {
            assert!(uri(good, None).is_ok(), "{good}");
        }
        for bad in [
            "",
            "db1",
            ":7000",
            "db1:",
            "db1:70000",
            "::1:7000",
            "a b:1",
            "u@db1:7000",
            "db1:7000/x",
            "ftp://db1:1",
        ] {
            assert!(uri(bad, None).is_err(), "{bad}");
        }
        let secure = uri("https://db1:7000", None).unwrap_err();
        assert!(secure.message().contains("no authority"), "{secure}");
        let tls = Tls {
            ca: String::new(),
            identity: None,
        };
        let plain = uri("http://db1:7000", Some(&tls)).unwrap_err();
        assert!(plain.message().contains("no TLS"), "{plain}");
    }
}
