//! The socket as hyper sees it: time-outs on both directions, a body for hyper's own refusals, and a polite end.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::server::TlsStream;

use super::{
    Settings, Unreadable,
    alarm::Alarm,
    outgoing::{Half, Outgoing},
    phase::{Phase, Verdict},
};

/// What an h2 conversation begins with (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection is made of.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// The certificate of who is at the other end, if it showed one.
    pub(super) fn certificate(&self) -> Option<Arc<CertificateDer<'static>>> {
        let Stream::Tls(stream) = self else { return None };
        let (_, connection) = stream.get_ref();
        let shown = connection.peer_certificates()?.first()?;
        Some(Arc::new(shown.clone()))
    }

    fn into_split(self) -> (Box<dyn AsyncRead + Send + Unpin>, Half) {
        match self {
            Stream::Plain(stream) => {
                let (reader, writer) = stream.into_split();
                (Box::new(reader), Box::new(writer))
            }
            Stream::Tls(stream) => {
                let (reader, writer) = tokio::io::split(stream);
                (Box::new(reader), Box::new(writer))
            }
        }
    }
}

/// The reading half, which outlives hyper's hold on the connection.
pub(super) struct Remains {
    reader: Arc<Mutex<Reader>>,
}

struct Reader {
    half: Box<dyn AsyncRead + Send + Unpin>,
    /// The caller has nothing more to say, or the socket broke.
    ended: bool,
}

/// A socket between hyper and the network.
pub(super) struct Wire {
    reader: Arc<Mutex<Reader>>,
    outgoing: Outgoing,
    phase: Arc<Phase>,
    /// Bytes of the preface matched so far; `None` once the protocol is known.
    preface: Option<usize>,
    reading: Alarm,
    unreadable: Unreadable,
}

impl Wire {
    pub(super) fn new(
        stream: Stream,
        phase: Arc<Phase>,
        settings: &Settings,
        unreadable: Unreadable,
    ) -> (Wire, Outgoing, Remains) {
        let (half, writer) = stream.into_split();
        let reader = Arc::new(Mutex::new(Reader { half, ended: false }));
        let write_limit = Duration::from_millis(settings.write_ms_max);
        let outgoing = Outgoing::new(writer, Arc::clone(&phase), write_limit);
        let wire = Wire {
            reader: Arc::clone(&reader),
            outgoing: outgoing.clone(),
            phase,
            preface: Some(0),
            reading: Alarm::default(),
            unreadable,
        };
        (wire, outgoing, Remains { reader })
    }

    fn heard(&mut self, bytes: &[u8]) {
        if let Some(matched) = self.preface {
            let expected = &PREFACE[matched..];
            let compared = expected.len().min(bytes.len());
            if expected[..compared] != bytes[..compared] {
                self.preface = None;
            } else if matched + compared == PREFACE.len() {
                self.preface = None;
                self.phase.speaks_h2();
            } else {
                self.preface = Some(matched + compared);
            }
        }
        self.phase.heard();
    }

    /// hyper answers a head that it cannot read by itself, with an empty body, and closes. Such an answer is the only one
    /// written with no request in flight that is a whole HTTP/1 head without content type.
    fn is_bare_refusal(&self, bytes: &[u8]) -> Option<u16> {
        let head = bytes
            .strip_prefix(b"HTTP/1.1 ")
            .or_else(|| bytes.strip_prefix(b"HTTP/1.0 "))?;
        if self.phase.busy() || !head.starts_with(b"4") || !head.ends_with(b"\r\n\r\n") {
            return None;
        }
        let head = std::str::from_utf8(head).ok()?;
        if head
            .lines()
            .any(|line| line.len() >= 13 && line.as_bytes()[..13].eq_ignore_ascii_case(b"content-type:"))
        {
            return None;
        }
        head.get(..3)?.parse().ok()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = {
            let mut reader = this.reader.lock();
            let read = Pin::new(&mut reader.half).poll_read(context, buffer);
            reader.ended |= match &read {
                Poll::Ready(Ok(())) => buffer.filled().len() == before && buffer.remaining() > 0,
                Poll::Ready(Err(_)) => true,
                Poll::Pending => false,
            };
            read
        };
        if read.is_ready() {
            if buffer.filled().len() > before {
                this.heard(&buffer.filled()[before..]);
            }
            // A dribbled byte is no progress: the head's time runs on, and is looked at whenever we wait again.
            return read;
        }
        match this.phase.deadline(context.waker()) {
            None => this.reading.silence(),
            Some((at, verdict)) => {
                if this.reading.rings(at, context) {
                    match verdict {
                        // Whoever drives the connection ends it, and reads on meanwhile: look again when that time is over.
                        Verdict::Tire => {
                            this.phase.tire();
                            context.waker().wake_by_ref();
                        }
                        Verdict::Cut => {
                            this.reader.lock().ended = true;
                            let why = "the caller took too long";
                            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
                        }
                    }
                }
            }
        }
        Poll::Pending
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = parts
            && let Some(status) = self.is_bare_refusal(only)
        {
            let whole = refusal(only, &(self.unreadable)(status));
            return self
                .outgoing
                .poll_write(context, &[IoSlice::new(&whole)])
                .map_ok(|_| only.len());
        }
        self.outgoing.poll_write(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Kept by whoever drives the connection, see [`Outgoing`].
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.poll_shutdown(context)
    }
}

/// hyper's refusal with a body: its head with the length and type of `body`.
fn refusal(bare: &[u8], body: &str) -> Vec<u8> {
    let bare = String::from_utf8_lossy(bare);
    let mut whole = String::with_capacity(bare.len() + body.len() + 64);
    for line in bare
        .trim_end()
        .lines()
        .filter(|line| !line.to_ascii_lowercase().starts_with("content-length"))
    {
        whole.push_str(line);
        whole.push_str("\r\n");
    }
    whole.push_str(&format!(
        "content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ));
    whole.into_bytes()
}

/// Reads on, and forgets, what a caller still sends after we are done with it: closing a socket with unread bytes resets
/// it, and the caller would lose the answer that tells it why (a 413, say). At most five seconds.
pub(super) async fn linger(remains: Remains) {
    let Some(reader) = Arc::into_inner(remains.reader) else {
        return;
    };
    let Reader { half, ended } = reader.into_inner();
    if !ended {
        forget(half).await;
    }
}

/// The same for a caller with whom no TLS could be agreed on: what tells it why has been written.
pub(super) async fn hang_up(mut stream: TcpStream) {
    // A caller that has left needs no word.
    let _gone = stream.shutdown().await;
    forget(stream).await;
}

async fn forget(mut reader: impl AsyncRead + Unpin) {
    const TIME: Duration = Duration::from_secs(5);
    let mut bin = vec![0; 16 * 1024];
    let drained = async { while reader.read(&mut bin).await.is_ok_and(|read| read > 0) {} };
    let _in_time = timeout(TIME, drained).await;
}
