//! What a network does between two nodes, where the kernel cannot be asked to do it: delay, a narrow line, a connection that breaks.
//!
//! ```text
//!  whoever connects ──► Proxy ──► the node behind it
//!                        each piece of bytes, in each direction of each connection, waits for a time of its own, by chance
//! ```
//!
//! A stream of TCP arrives in order, whatever happens to its packets, so nothing is reordered within a connection. What one
//! connection carries overtakes what others do, and the two directions of one overtake each other: that is as much of reordering as
//! nodes that speak over TCP can ever see. It costs a context switch for each piece, and so is no measure of speed.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rand::RngExt as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
};

/// The largest piece that is taken at once.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces of one direction on their way at once.
const PIECES_MAX: usize = 16;
/// No limit.
const ENDLESS: i64 = i64::MAX;

/// Stands before a node; dropped, it takes no further connection and breaks those there are.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    line: Arc<Line>,
    accepting: JoinHandle<()>,
}

/// What lies between.
#[derive(Debug)]
struct Line {
    to: SocketAddr,
    /// Least and most delay of a piece, in microseconds.
    delay_us: (AtomicU64, AtomicU64),
    /// Bytes in a second towards the node, 0 for no limit.
    bytes_per_s: AtomicU64,
    /// Bytes towards the node until every connection breaks.
    left: AtomicI64,
    /// Bytes that went towards the node.
    passed: AtomicU64,
    /// Counts the breaks.
    broken: watch::Sender<u64>,
}

impl Proxy {
    /// One that listens at `at`, on any port, for the node at `to`, and does nothing to what it carries yet.
    ///
    /// # Errors
    /// When it cannot listen there.
    pub async fn start(at: IpAddr, to: SocketAddr) -> io::Result<Proxy> {
        let listener = TcpListener::bind((at, 0)).await?;
        let address = listener.local_addr()?;
        let line = Arc::new(Line {
            to,
            delay_us: (AtomicU64::new(0), AtomicU64::new(0)),
            bytes_per_s: AtomicU64::new(0),
            left: AtomicI64::new(ENDLESS),
            passed: AtomicU64::new(0),
            broken: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&line)));
        Ok(Proxy {
            address,
            line,
            accepting,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on every piece waits for a time between these.
    pub fn delay(&self, between: RangeInclusive<Duration>) {
        let micros = |time: &Duration| u64::try_from(time.as_micros()).expect("a short time");
        self.line.delay_us.0.store(micros(between.start()), Ordering::Relaxed);
        self.line.delay_us.1.store(micros(between.end()), Ordering::Relaxed);
    }

    /// From now on no more than this goes towards the node in a second; `None`: as much as there is.
    pub fn narrow(&self, bytes_per_s: Option<u64>) {
        self.line.bytes_per_s.store(bytes_per_s.unwrap_or(0), Ordering::Relaxed);
    }

    /// Once so many more bytes have gone towards the node, every connection breaks; later ones are as before.
    pub fn break_after(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).expect("a few bytes");
        self.line.left.store(bytes, Ordering::Relaxed);
    }

    /// How often connections were broken.
    #[must_use]
    pub fn breaks(&self) -> u64 {
        *self.line.broken.borrow()
    }

    /// Bytes that went towards the node.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.line.passed.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.line.broken.send_modify(|breaks| *breaks += 1);
    }
}

async fn accept(listener: TcpListener, line: Arc<Line>) {
    loop {
        let Ok((from, _)) = listener.accept().await else {
            continue;
        };
        let line = Arc::clone(&line);
        tokio::spawn(async move {
            let mut broken = line.broken.subscribe();
            tokio::select! {
                // Whoever is not there refuses: the connection ends, as it would without a proxy.
                _ended = carry(from, &line) => {}
                _changed = broken.changed() => {}
            }
        });
    }
}

/// Carries a connection until either end closes it.
async fn carry(from: TcpStream, line: &Arc<Line>) -> io::Result<()> {
    let to = TcpStream::connect(line.to).await?;
    from.set_nodelay(true)?;
    to.set_nodelay(true)?;
    let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
    tokio::try_join!(
        direction(from_read, to_write, line, true),
        direction(to_read, from_write, line, false)
    )?;
    Ok(())
}

/// Carries one direction of a connection: pieces in order, each no earlier than its own delay says.
async fn direction(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    line: &Line,
    towards_node: bool,
) -> io::Result<()> {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_MAX);
    let reading = async move {
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let read = from.read(&mut piece).await?;
            if read == 0 {
                return Ok(());
            }
            piece.truncate(read);
            if sender.send((Instant::now() + line.one_delay(), piece)).await.is_err() {
                return Ok::<_, io::Error>(());
            }
        }
    };
    let writing = async move {
        while let Some((at, piece)) = pieces.recv().await {
            tokio::time::sleep_until(at.into()).await;
            if towards_node {
                line.pass(piece.len()).await;
            }
            to.write_all(&piece).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(reading, writing)?;
    Ok(())
}

impl Line {
    fn one_delay(&self) -> Duration {
        let least = self.delay_us.0.load(Ordering::Relaxed);
        let most = self.delay_us.1.load(Ordering::Relaxed).max(least);
        match most {
            0 => Duration::ZERO,
            _ => Duration::from_micros(rand::rng().random_range(least..=most)),
        }
    }

    /// Takes the time that so many bytes need, and breaks everything when it is time to.
    async fn pass(&self, bytes: usize) {
        let per_s = self.bytes_per_s.load(Ordering::Relaxed);
        if per_s > 0 {
            tokio::time::sleep(Duration::from_secs_f64(bytes as f64 / per_s as f64)).await;
        }
        self.passed.fetch_add(bytes as u64, Ordering::Relaxed);
        let bytes = i64::try_from(bytes).expect("a piece");
        if self.left.load(Ordering::Relaxed) == ENDLESS {
            return;
        }
        let before = self.left.fetch_sub(bytes, Ordering::Relaxed);
        if before > 0 && before <= bytes {
            self.left.store(ENDLESS, Ordering::Relaxed);
            self.broken.send_modify(|breaks| *breaks += 1);
        }
    }
}
