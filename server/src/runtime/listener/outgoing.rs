//! Bytes to the caller: gathered while the connection is polled, and sent in one call at the end of it.
//!
//! ```text
//!  hyper ──head, body, trailers──► Outgoing ──one write for all──► socket
//!                                     ▲
//!                                   drive: polls the connection, then sends what it left here
//! ```
//!
//! h2 flushes after each frame that holds a body, so an answer would go out as several packets, and wake its caller for each.
//! That is why a flush only promises: whoever drives the connection keeps the promise before it waits.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{io::AsyncWrite, time::Instant};

use super::{alarm::Alarm, phase::Phase};

/// More than so many bytes are not gathered: copying them would cost what the call saves.
const GATHERED_BYTES_MAX: usize = 32 * 1024;
/// A buffer that grew beyond this is not kept: most connections are idle.
const KEPT_BYTES_MAX: usize = 4 * 1024;

/// Of a socket, or of the TLS over one.
pub(super) type Half = Box<dyn AsyncWrite + Send + Unpin>;

/// The writing half of a connection; shared by hyper, which writes, and [`drive`], which sends.
#[derive(Clone)]
pub(super) struct Outgoing(Arc<Mutex<Writer>>);

struct Writer {
    half: Half,
    gathered: Vec<u8>,
    /// Of them, so many are sent.
    sent: usize,
    phase: Arc<Phase>,
    /// A write that was too large to be gathered, or the end, waits for the socket.
    blocked: bool,
    stalled: Alarm,
    limit: Duration,
}

impl Outgoing {
    /// A caller that takes no byte for `limit` breaks the connection.
    pub(super) fn new(half: Half, phase: Arc<Phase>, limit: Duration) -> Outgoing {
        Outgoing(Arc::new(Mutex::new(Writer {
            half,
            gathered: Vec::new(),
            sent: 0,
            phase,
            blocked: false,
            stalled: Alarm::default(),
            limit,
        })))
    }

    /// Takes bytes to be sent by [`Outgoing::poll_send`], or sends them if they are many.
    pub(super) fn poll_write(&self, context: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut writer = self.0.lock();
        let bytes = parts.iter().map(|part| part.len()).sum::<usize>();
        if writer.gathered.len() + bytes > GATHERED_BYTES_MAX {
            ready!(writer.poll_send(context))?;
        }
        if bytes > GATHERED_BYTES_MAX {
            let written = Pin::new(&mut writer.half).poll_write_vectored(context, parts);
            if let Poll::Ready(Ok(1..)) = written {
                writer.phase.told();
            }
            writer.blocked = written.is_pending();
            return writer.watch(written, context);
        }
        parts.iter().for_each(|part| writer.gathered.extend_from_slice(part));
        Poll::Ready(Ok(bytes))
    }

    /// Sends all that is gathered.
    pub(super) fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().poll_send(context)
    }

    /// Sends all that is gathered, and says that no more will come.
    pub(super) fn poll_shutdown(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut writer = self.0.lock();
        ready!(writer.poll_send(context))?;
        let ended = Pin::new(&mut writer.half).poll_shutdown(context);
        writer.blocked = ended.is_pending();
        writer.watch(ended, context)
    }
}

impl Writer {
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.gathered.len() {
            let written = Pin::new(&mut self.half).poll_write(context, &self.gathered[self.sent..]);
            match ready!(self.watch(written, context))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                more => self.sent += more,
            }
            self.phase.told();
        }
        self.sent = 0;
        self.gathered.clear();
        self.gathered.shrink_to(KEPT_BYTES_MAX);
        // TLS may hold what the socket did not take.
        let flushed = Pin::new(&mut self.half).poll_flush(context);
        if self.blocked && flushed.is_ready() {
            // Nothing is left to flush, but something else still waits for the socket, and its time runs on.
            return flushed;
        }
        self.watch(flushed, context)
    }

    /// Passes progress on; an endless wait becomes an error.
    fn watch<T>(&mut self, progress: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.stalled.silence();
            return progress;
        }
        let at = self.stalled.set().unwrap_or_else(|| Instant::now() + self.limit);
        if self.stalled.rings(at, context) {
            let why = "the caller does not read its answer";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
        }
        Poll::Pending
    }
}

/// Polls `connection` to its end, and sends what it has written each time before waiting.
///
/// # Errors
/// The connection's own, or the socket's.
pub(super) async fn drive<C, E>(mut connection: Pin<&mut C>, outgoing: &Outgoing) -> Result<(), E>
where
    C: Future<Output = Result<(), E>>,
    E: From<io::Error>,
{
    std::future::poll_fn(|context| {
        let ended = connection.as_mut().poll(context);
        match outgoing.poll_send(context) {
            // Of the two errors the connection's says why.
            Poll::Ready(Err(error)) if ended.is_pending() => Poll::Ready(Err(error.into())),
            _ => ended,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpStream},
    };

    use super::{super::Settings, *};

    /// A connection's writing half, and its caller.
    async fn connected(limit: Duration) -> (Outgoing, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let caller = TcpStream::connect(listener.local_addr().expect("bound")).await;
        let (stream, _) = listener.accept().await.expect("a caller");
        let phase = Arc::new(Phase::new(&Settings::default()));
        let half = Box::new(stream.into_split().1);
        (Outgoing::new(half, phase, limit), caller.expect("accepted"))
    }

    async fn write(outgoing: &Outgoing, bytes: &[u8]) -> io::Result<usize> {
        std::future::poll_fn(|context| outgoing.poll_write(context, &[IoSlice::new(bytes)])).await
    }

    /// Notes what goes out together; takes no more than the first `takes` writes.
    struct Noted {
        writes: Arc<Mutex<Vec<Vec<u8>>>>,
        takes: usize,
    }

    impl Noted {
        fn outgoing(takes: usize, limit: Duration) -> (Outgoing, Arc<Mutex<Vec<Vec<u8>>>>) {
            let writes = Arc::new(Mutex::new(Vec::new()));
            let phase = Arc::new(Phase::new(&Settings::default()));
            let noted = Noted {
                writes: Arc::clone(&writes),
                takes,
            };
            (Outgoing::new(Box::new(noted), phase, limit), writes)
        }
    }

    impl AsyncWrite for Noted {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let mut writes = self.writes.lock();
            if writes.len() == self.takes {
                return Poll::Pending;
            }
            writes.push(bytes.to_vec());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn what_is_written_in_one_poll_goes_out_at_its_end_in_one_write() {
        let (outgoing, writes) = Noted::outgoing(usize::MAX, Duration::from_secs(10));
        let mut polls = 0;
        let connection = std::future::poll_fn(|context| {
            polls += 1;
            if polls == 3 {
                return Poll::Ready(Ok::<(), io::Error>(()));
            }
            for frame in [b"head ", b"body ", b"end. "] {
                assert!(outgoing.poll_write(context, &[IoSlice::new(frame)]).is_ready());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        });
        let mut connection = pin!(connection);
        drive(connection.as_mut(), &outgoing).await.expect("driven");
        assert_eq!(*writes.lock(), [b"head body end. ", b"head body end. "]);
    }

    #[tokio::test]
    async fn a_large_write_that_nobody_takes_is_given_up_in_time() {
        let (outgoing, _) = Noted::outgoing(0, Duration::from_millis(50));
        let large = vec![0; GATHERED_BYTES_MAX + 1];
        let connection = std::future::poll_fn(|context| {
            let written = ready!(outgoing.poll_write(context, &[IoSlice::new(&large)]));
            Poll::Ready(written.map(drop))
        });
        let mut connection = pin!(connection);
        let driven = tokio::time::timeout(Duration::from_secs(10), drive(connection.as_mut(), &outgoing)).await;
        let error = driven.expect("it ends by itself").expect_err("nothing was taken");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn an_end_that_nobody_takes_is_given_up_in_time() {
        let (outgoing, _) = Noted::outgoing(0, Duration::from_millis(50));
        let ended = std::future::poll_fn(|context| outgoing.poll_shutdown(context));
        let ended = tokio::time::timeout(Duration::from_secs(10), ended).await;
        let error = ended.expect("it ends by itself").expect_err("nothing was taken");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn many_bytes_keep_their_place_behind_few() {
        let (outgoing, mut caller) = connected(Duration::from_secs(10)).await;
        let sent = async {
            let large = vec![b'l'; 3 * GATHERED_BYTES_MAX];
            assert_eq!(write(&outgoing, b"small").await.expect("room"), 5);
            let mut rest = &large[..];
            while !rest.is_empty() {
                rest = &rest[write(&outgoing, rest).await.expect("the caller reads")..];
            }
            write(&outgoing, b"last").await.expect("room");
            std::future::poll_fn(|context| outgoing.poll_shutdown(context)).await
        };
        let mut heard = Vec::new();
        let (sent, read) = tokio::join!(sent, caller.read_to_end(&mut heard));
        sent.expect("all sent");
        assert_eq!(read.expect("all read"), 5 + 3 * GATHERED_BYTES_MAX + 4);
        assert!(heard.starts_with(b"smalll") && heard.ends_with(b"llast"));
    }

    #[tokio::test]
    async fn a_caller_that_takes_nothing_breaks_the_connection() {
        let (outgoing, _caller) = connected(Duration::from_millis(50)).await;
        let piece = vec![0; GATHERED_BYTES_MAX];
        let error = loop {
            if let Err(error) = write(&outgoing, &piece).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
