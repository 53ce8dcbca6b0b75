//! A small HTTP/1.1 client: one connection, opened when needed, opened again when the node closed it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Method, Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, rustls};

/// No answer of a healthy node takes longer, on the slowest disk seen.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The body as text, for messages.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header as text; empty when absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The JSON of an answer that must be a 200.
    ///
    /// # Panics
    /// When it is another status.
    #[must_use]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }
}

/// One connection. An error means that no whole answer came: what became of the request is unknown.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    tls: Option<Arc<rustls::ClientConfig>>,
    open: Option<http1::SendRequest<Full<Bytes>>>,
}

impl Client {
    /// A client of `address`; nothing is opened yet.
    #[must_use]
    pub fn new(address: SocketAddr) -> Client {
        Client {
            address,
            tls: None,
            open: None,
        }
    }

    /// The same over TLS; the node's certificate must be good for its address.
    #[must_use]
    pub fn over_tls(mut self, tls: Arc<rustls::ClientConfig>) -> Client {
        self.tls = Some(tls);
        self
    }

    /// Another connection to the same address.
    #[must_use]
    pub fn another(&self) -> Client {
        Client {
            address: self.address,
            tls: self.tls.clone(),
            open: None,
        }
    }

    /// `GET path`.
    ///
    /// # Errors
    /// When no whole answer came.
    pub async fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.call(Method::GET, path, &[], Bytes::new()).await
    }

    /// `POST path` with a JSON body.
    ///
    /// # Errors
    /// When no whole answer came.
    pub async fn post(&mut self, path: &str, node: &str, body: &Value) -> io::Result<Answer> {
        let headers = [("content-type", "application/json"), ("x-node-id", node)];
        self.call(Method::POST, path, &headers, Bytes::from(body.to_string()))
            .await
    }

    /// Any request. Headers as given, with `host` added.
    ///
    /// # Errors
    /// When no whole answer came.
    pub async fn call(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> io::Result<Answer> {
        match tokio::time::timeout(ANSWER_WITHIN, self.exchange(method, path, headers, body)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                self.open = None;
                Err(error)
            }
            Err(_) => {
                self.open = None;
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no answer to {path} within {ANSWER_WITHIN:?}"),
                ))
            }
        }
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> io::Result<Answer> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).map_err(io::Error::other)?;
        let connection = self.connection().await?;
        let response = connection.send_request(request).await.map_err(io::Error::other)?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
        })
    }

    async fn connection(&mut self) -> io::Result<&mut http1::SendRequest<Full<Bytes>>> {
        let mut usable = self.open.take();
        if let Some(open) = &mut usable
            && open.ready().await.is_err()
        {
            usable = None;
        }
        let usable = match usable {
            Some(open) => open,
            None => self.opened().await?,
        };
        Ok(self.open.insert(usable))
    }

    async fn opened(&self) -> io::Result<http1::SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => started(stream).await,
            Some(tls) => {
                let name = rustls::pki_types::ServerName::from(self.address.ip());
                let secured = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?;
                started(secured).await
            }
        }
    }
}

async fn started(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> io::Result<http1::SendRequest<Full<Bytes>>> {
    let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(async move {
        // How the connection ended shows in the request that was using it.
        let _ = driver.await;
    });
    Ok(sender)
}
