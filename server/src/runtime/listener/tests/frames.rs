//! An h2 caller that does exactly what a test says: frames by hand (RFC 9113), heads without compression (RFC 7541).

use super::*;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
const WINDOW: u8 = 8;

pub(super) const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const INITIAL_WINDOW_SIZE: u8 = 4;

/// The first byte of an answer's head that says 200.
pub(super) const OK: u8 = 0x88;
/// A stream's end that its owner did not wait for.
pub(super) const CANCEL: [u8; 4] = [0, 0, 0, 8];

#[derive(Debug)]
pub(super) struct Seen {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

pub(super) struct Caller {
    socket: TcpStream,
}

impl Caller {
    /// Streams begin with a window of `window` bytes; the connection's own is as large as can be.
    pub(super) async fn connect(served: &Served, window: u32) -> Caller {
        let mut caller = Caller {
            socket: served.connect().await,
        };
        let mut settings = vec![0, INITIAL_WINDOW_SIZE];
        settings.extend_from_slice(&window.to_be_bytes());
        caller
            .socket
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        caller.send(SETTINGS, 0, 0, &settings).await;
        caller.grant(0, 0x7fff_ffff - 65_535).await;
        caller
    }

    /// A closed connection is seen by reading.
    pub(super) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend_from_slice(&[kind, flags]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        let _closed = self.socket.write_all(&frame).await;
    }

    pub(super) async fn get(&mut self, stream: u32, path: &str) {
        let head = head(0x82, path);
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &head).await;
    }

    /// Opens a gRPC stream on which messages may follow.
    pub(super) async fn open(&mut self, stream: u32, path: &str) {
        let mut head = head(0x83, path);
        literal(&mut head, 0x5f, "application/grpc+test");
        self.send(HEADERS, END_HEADERS, stream, &head).await;
    }

    /// Enlarges a stream's window; the connection's for stream 0.
    pub(super) async fn grant(&mut self, stream: u32, bytes: u32) {
        self.send(WINDOW, 0, stream, &bytes.to_be_bytes()).await;
    }

    /// The next frame that is no housekeeping; `None` once the connection is closed.
    pub(super) async fn frame(&mut self) -> Option<Seen> {
        time::timeout(LONG, self.next()).await.expect("a frame, or the end")
    }

    /// As [`Self::frame`], without a limit of its own.
    pub(super) async fn next(&mut self) -> Option<Seen> {
        loop {
            let mut head = [0; 9];
            self.socket.read_exact(&mut head).await.ok()?;
            let [a, b, c, kind, flags, stream @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.socket.read_exact(&mut payload).await.ok()?;
            match kind {
                PING if flags & ACK == 0 => self.send(PING, ACK, 0, &payload).await,
                SETTINGS | PING | WINDOW => {}
                _ => {
                    let stream = u32::from_be_bytes(stream);
                    return Some(Seen {
                        kind,
                        flags,
                        stream,
                        payload,
                    });
                }
            }
        }
    }

    /// The next frame, which must be a head that says 200.
    pub(super) async fn accepted(&mut self, stream: u32) {
        let seen = self.frame().await.expect("a head");
        assert_eq!(
            (seen.kind, seen.stream, seen.payload[0]),
            (HEADERS, stream, OK),
            "{seen:?}"
        );
    }

    /// Exactly `count` bytes of one stream's answer.
    pub(super) async fn data(&mut self, stream: u32, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            let seen = self.frame().await.expect("data");
            assert_eq!((seen.kind, seen.stream), (DATA, stream), "{seen:?}");
            bytes.extend_from_slice(&seen.payload);
        }
        assert_eq!(bytes.len(), count);
        bytes
    }
}

/// Method (by its place in the static table), scheme, authority and path.
fn head(method: u8, path: &str) -> Vec<u8> {
    let mut head = vec![method, 0x86, 0x41, 1, b'a'];
    literal(&mut head, 0x44, path);
    head
}

/// A header with a name of the static table.
fn literal(head: &mut Vec<u8>, name: u8, value: &str) {
    head.extend_from_slice(&[name, u8::try_from(value.len()).unwrap()]);
    head.extend_from_slice(value.as_bytes());
}
