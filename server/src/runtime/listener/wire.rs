//! The socket as hyper sees it: time-outs on both directions, a body for hyper's own refusals, and a polite end.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{Instant, timeout},
};

use super::{
    Settings, Unreadable,
    alarm::Alarm,
    phase::{Phase, Verdict},
};

/// What an h2 conversation begins with (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The reading half, which outlives hyper's hold on the connection.
pub(super) struct Remains {
    reader: Arc<Mutex<Reader>>,
}

struct Reader {
    half: OwnedReadHalf,
    /// The caller has nothing more to say, or the socket broke.
    ended: bool,
}

/// A socket between hyper and the network.
pub(super) struct Wire {
    reader: Arc<Mutex<Reader>>,
    writer: OwnedWriteHalf,
    phase: Arc<Phase>,
    /// Bytes of the preface matched so far; `None` once the protocol is known.
    preface: Option<usize>,
    reading: Alarm,
    writing: Alarm,
    write_limit: Duration,
    unreadable: Unreadable,
    /// What replaces an empty refusal of hyper's, and how much of it is sent.
    refusal: Option<(Vec<u8>, usize)>,
}

impl Wire {
    pub(super) fn new(
        stream: TcpStream,
        phase: Arc<Phase>,
        settings: &Settings,
        unreadable: Unreadable,
    ) -> (Wire, Remains) {
        let (half, writer) = stream.into_split();
        let reader = Arc::new(Mutex::new(Reader { half, ended: false }));
        let wire = Wire {
            reader: Arc::clone(&reader),
            writer,
            phase,
            preface: Some(0),
            reading: Alarm::default(),
            writing: Alarm::default(),
            write_limit: Duration::from_millis(settings.write_ms_max),
            unreadable,
            refusal: None,
        };
        (wire, Remains { reader })
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

    fn poll_refusal(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((bytes, sent)) = &mut self.refusal {
            let more = ready!(Pin::new(&mut self.writer).poll_write(context, &bytes[*sent..]))?;
            *sent += more;
            if *sent >= bytes.len() || more == 0 {
                self.refusal = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Passes a write's progress on; an endless wait becomes an error.
    fn watch<T>(&mut self, progress: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.writing.silence();
            return progress;
        }
        let at = self.writing.set().unwrap_or_else(|| Instant::now() + self.write_limit);
        if self.writing.rings(at, context) {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the caller does not read its answer",
            )));
        }
        Poll::Pending
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
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if let Some(status) = this.is_bare_refusal(bytes) {
            this.refusal = Some((refusal(bytes, &(this.unreadable)(status)), 0));
            return Poll::Ready(Ok(bytes.len()));
        }
        let progress = match this.poll_refusal(context) {
            Poll::Ready(Ok(())) => Pin::new(&mut this.writer).poll_write(context, bytes),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        };
        if let Poll::Ready(Ok(1..)) = progress {
            this.phase.told();
        }
        this.watch(progress, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if let [only] = parts
            && this.is_bare_refusal(only).is_some()
        {
            return self.poll_write(context, only);
        }
        let progress = match this.poll_refusal(context) {
            Poll::Ready(Ok(())) => Pin::new(&mut this.writer).poll_write_vectored(context, parts),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        };
        if let Poll::Ready(Ok(1..)) = progress {
            this.phase.told();
        }
        this.watch(progress, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.writer.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let progress = match this.poll_refusal(context) {
            Poll::Ready(Ok(())) => Pin::new(&mut this.writer).poll_flush(context),
            other => other,
        };
        this.watch(progress, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let progress = match this.poll_refusal(context) {
            Poll::Ready(Ok(())) => Pin::new(&mut this.writer).poll_shutdown(context),
            other => other,
        };
        this.watch(progress, context)
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
    const TIME: Duration = Duration::from_secs(5);
    let Some(reader) = Arc::into_inner(remains.reader) else {
        return;
    };
    let Reader { mut half, ended } = reader.into_inner();
    if ended {
        return;
    }
    let mut bin = vec![0; 16 * 1024];
    let drained = async { while half.read(&mut bin).await.is_ok_and(|read| read > 0) {} };
    let _in_time = timeout(TIME, drained).await;
}
