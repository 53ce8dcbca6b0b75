//! A connection's socket, on which a request goes out in one call.
//!
//! hyper sends a request's head as soon as the connection takes it, and the body after that: two packets, for each of which the
//! node is woken. So the first flush after a write lets other tasks of this thread go first, and the body with them.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper::{
    Uri,
    rt::{Read, ReadBufCursor, Write},
};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower::Service;

/// More than so many bytes are not gathered: copying them would cost what the call saves.
const GATHERED_BYTES_MAX: usize = 32 * 1024;

/// Opens connections that gather what they send.
#[derive(Clone, Debug)]
pub(crate) struct Connector(HttpConnector);

impl Connector {
    pub(crate) fn new() -> Connector {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        // TLS is spoken above it.
        tcp.enforce_http(false);
        Connector(tcp)
    }
}

impl Service<Uri> for Connector {
    type Response = Gathering<TokioIo<TcpStream>>;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = Connecting;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Connecting {
        Connecting(self.0.call(uri))
    }
}

/// A connection on its way.
pub(crate) struct Connecting(<HttpConnector as Service<Uri>>::Future);

impl Future for Connecting {
    type Output = Result<Gathering<TokioIo<TcpStream>>, <HttpConnector as Service<Uri>>::Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_ok(Gathering::new)
    }
}

/// A socket that sends what was written between two flushes in one call.
#[derive(Debug)]
pub(crate) struct Gathering<S> {
    socket: S,
    gathered: Vec<u8>,
    /// Of them, so many are sent.
    sent: usize,
    /// Others have had their turn since the first byte was gathered.
    yielded: bool,
}

impl<S> Gathering<S> {
    fn new(socket: S) -> Gathering<S> {
        Gathering {
            socket,
            gathered: Vec::new(),
            sent: 0,
            yielded: false,
        }
    }
}

impl<S: Write + Unpin> Gathering<S> {
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.gathered.len() {
            let rest = &self.gathered[self.sent..];
            match ready!(Pin::new(&mut self.socket).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                more => self.sent += more,
            }
        }
        self.sent = 0;
        self.yielded = false;
        self.gathered.clear();
        Poll::Ready(Ok(()))
    }
}

impl<S: Read + Unpin> Read for Gathering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl<S: Write + Unpin> Write for Gathering<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = parts.iter().map(|part| part.len()).sum::<usize>();
        if self.gathered.len() + bytes > GATHERED_BYTES_MAX {
            ready!(self.poll_send(context))?;
        }
        if bytes > GATHERED_BYTES_MAX {
            return Pin::new(&mut self.socket).poll_write_vectored(context, parts);
        }
        parts.iter().for_each(|part| self.gathered.extend_from_slice(part));
        Poll::Ready(Ok(bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.gathered.is_empty() && !self.yielded {
            self.yielded = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

impl<S: Connection> Connection for Gathering<S> {
    fn connected(&self) -> Connected {
        self.socket.connected()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use hyper_util::rt::TokioExecutor;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tonic::body::Body;

    use super::*;

    /// Tells which bytes went out together.
    struct Recorded {
        socket: TokioIo<DuplexStream>,
        writes: Arc<Mutex<Vec<Vec<u8>>>>,
    }

    impl Read for Recorded {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.socket).poll_read(context, buffer)
        }
    }

    impl Write for Recorded {
        fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let written = ready!(Pin::new(&mut self.socket).poll_write(context, bytes))?;
            self.writes.lock().expect("whole").push(bytes[..written].to_vec());
            Poll::Ready(Ok(written))
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.socket).poll_flush(context)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.socket).poll_shutdown(context)
        }
    }

    /// Types of the h2 frames in `bytes` (RFC 9113 section 4.1).
    fn frames(mut bytes: &[u8]) -> Vec<u8> {
        let mut types = Vec::new();
        bytes = bytes.strip_prefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap_or(bytes);
        while let [a, b, c, kind, rest @ ..] = bytes {
            types.push(*kind);
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            bytes = rest.get(5 + length..).unwrap_or_default();
        }
        types
    }

    #[tokio::test]
    async fn head_and_body_of_a_request_go_out_together() {
        const DATA: u8 = 0;
        const HEADERS: u8 = 1;
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let writes = Arc::new(Mutex::new(Vec::new()));
        let recorded = Recorded {
            socket: TokioIo::new(ours),
            writes: Arc::clone(&writes),
        };
        // The node greets with empty settings, and says no more.
        theirs.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("room");
        let opened = hyper::client::conn::http2::handshake(TokioExecutor::new(), Gathering::new(recorded)).await;
        let (mut sender, connection) = opened.expect("a connection");
        let running = tokio::spawn(connection);
        for _ in 0..2 {
            let request = hyper::Request::post("http://node/service/method");
            let body = Body::new(String::from("a message"));
            let answer = sender.send_request(request.body(body).expect("a request"));
            let _none = tokio::time::timeout(Duration::from_millis(100), answer).await;
        }
        let writes = writes.lock().expect("whole").clone();
        // The first one's head goes out with the connection's own.
        let with_head = writes
            .iter()
            .map(|bytes| frames(bytes))
            .rfind(|frames| frames.contains(&HEADERS));
        assert!(with_head.is_some_and(|frames| frames.contains(&DATA)), "{writes:?}");
        running.abort();
    }

    #[tokio::test]
    async fn many_bytes_keep_their_place_behind_few() {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let mut gathering = Gathering::new(TokioIo::new(ours));
        let large = vec![b'l'; 3 * GATHERED_BYTES_MAX];
        let sent = async {
            let mut write = async |bytes: &[u8]| {
                std::future::poll_fn(|context| Pin::new(&mut gathering).poll_write(context, bytes)).await
            };
            assert_eq!(write(b"small").await.expect("room"), 5);
            let mut rest = &large[..];
            while !rest.is_empty() {
                rest = &rest[write(rest).await.expect("it is read")..];
            }
            write(b"last").await.expect("room");
            std::future::poll_fn(|context| Pin::new(&mut gathering).poll_flush(context))
                .await
                .expect("flushed");
            std::future::poll_fn(|context| Pin::new(&mut gathering).poll_shutdown(context)).await
        };
        let mut heard = Vec::new();
        let (sent, read) = tokio::join!(sent, theirs.read_to_end(&mut heard));
        sent.expect("all sent");
        assert_eq!(read.expect("all read"), 5 + large.len() + 4);
        assert!(heard.starts_with(b"smalll") && heard.ends_with(b"llast"));
    }
}
