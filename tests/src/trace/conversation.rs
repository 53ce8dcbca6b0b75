//! What is asked and answered on one connection, by the bytes that went over it.
//!
//! ```text
//!  HTTP/1.1   read  "POST /federation/…"      asked, at the last read before the answer
//!             write "HTTP/1.1 200 …"          answered
//!  HTTP/2     read  a frame that ends stream n  asked on n          frame: length u24 │ kind u8 │ flags u8 │ stream u32 │ payload
//!             write the first DATA on n         granted             (a gRPC refusal is HEADERS alone)
//!             DATA on n, put together           messages            flag u8 │ length u32 │ message
//! ```

use std::collections::BTreeMap;

use super::{Asked, Bytes, Event, calls::Call};

/// What an HTTP/2 conversation begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD_BYTES: usize = 9;
const MESSAGE_HEAD_BYTES: usize = 5;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;

/// One connection.
pub(super) struct Conversation {
    number: usize,
    speaks_h2: bool,
    /// Whether it is the node that asks.
    asks: bool,
    /// Bytes that are no whole HTTP/2 frame yet.
    read: Vec<u8>,
    written: Vec<u8>,
    /// Of each stream, and by whom: bytes that are no whole message yet.
    messages: BTreeMap<(u32, bool), Vec<u8>>,
    /// Where in the events stands the HTTP/1.1 request that is not answered yet.
    unanswered: Option<usize>,
}

struct Frame {
    kind: u8,
    ends_stream: bool,
    stream: u32,
    payload: Vec<u8>,
}

impl Conversation {
    pub(super) fn new(number: usize) -> Conversation {
        Conversation {
            number,
            speaks_h2: false,
            asks: false,
            read: Vec::new(),
            written: Vec::new(),
            messages: BTreeMap::new(),
            unanswered: None,
        }
    }

    /// Takes in one call on this connection.
    pub(super) fn follow(&mut self, call: &Call, events: &mut Vec<(usize, Event)>) {
        if call.bytes.is_empty() {
            return;
        }
        let at = call.effective();
        // The node looks at the first 24 bytes of a connection by themselves, to tell HTTP/2.
        self.asks |= !call.is_read() && call.bytes.starts_with(PREFACE);
        if self.asks {
            return self.ask(call, events);
        }
        self.speaks_h2 |= call.is_read() && call.bytes.starts_with(PREFACE);
        match (self.speaks_h2, call.is_read()) {
            (false, true) => self.heard(&call.bytes, at, events),
            (false, false) => self.said(&call.bytes, at, events),
            (true, true) => {
                self.read
                    .extend_from_slice(call.bytes.strip_prefix(PREFACE).unwrap_or(&call.bytes));
                for frame in frames(&mut self.read) {
                    self.said_in(&frame, (true, false), at, events);
                    if frame.ends_stream && matches!(frame.kind, DATA | HEADERS) {
                        let (on, asked) = ((self.number, frame.stream), Asked::Rpc);
                        events.push((at, Event::Request { on, asked }));
                    }
                }
            }
            (true, false) => {
                self.written.extend_from_slice(&call.bytes);
                for frame in frames(&mut self.written) {
                    self.said_in(&frame, (false, true), at, events);
                    let granted = frame.kind == DATA;
                    if granted || (frame.kind == HEADERS && frame.ends_stream) {
                        let to = (self.number, frame.stream);
                        events.push((at, Event::Answer { to, granted }));
                    }
                }
            }
        }
    }

    /// What the node asks another.
    fn ask(&mut self, call: &Call, events: &mut Vec<(usize, Event)>) {
        if call.is_read() {
            return;
        }
        self.written
            .extend_from_slice(call.bytes.strip_prefix(PREFACE).unwrap_or(&call.bytes));
        for frame in frames(&mut self.written) {
            self.said_in(&frame, (true, true), call.effective(), events);
        }
    }

    /// The messages that end in this frame.
    fn said_in(
        &mut self,
        frame: &Frame,
        (by_caller, written): (bool, bool),
        at: usize,
        events: &mut Vec<(usize, Event)>,
    ) {
        if frame.kind != DATA {
            return;
        }
        let on = (self.number, frame.stream);
        let bytes = self.messages.entry((frame.stream, by_caller)).or_default();
        bytes.extend_from_slice(&frame.payload);
        while let Some((&[_, l0, l1, l2, l3], rest)) = bytes.split_first_chunk::<MESSAGE_HEAD_BYTES>() {
            let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
            let Some((message, rest)) = rest.split_at_checked(length) else {
                break;
            };
            let message = Event::Message {
                on,
                by_caller,
                written,
                bytes: Bytes(message.to_vec()),
            };
            *bytes = rest.to_vec();
            events.push((at, message));
        }
    }

    /// Bytes of an HTTP/1.1 request.
    fn heard(&mut self, bytes: &[u8], at: usize, events: &mut Vec<(usize, Event)>) {
        if let Some(asked) = asked(bytes) {
            self.unanswered = Some(events.len());
            let on = (self.number, 0);
            events.push((at, Event::Request { on, asked }));
        } else if let Some(unanswered) = self.unanswered {
            // More of the same request: it was not whole before.
            events[unanswered].0 = at;
        }
    }

    /// Bytes of an HTTP/1.1 answer.
    fn said(&mut self, bytes: &[u8], at: usize, events: &mut Vec<(usize, Event)>) {
        if let Some(status) = bytes.strip_prefix(b"HTTP/1.1 ") {
            self.unanswered = None;
            let (to, granted) = ((self.number, 0), status.starts_with(b"200"));
            events.push((at, Event::Answer { to, granted }));
        }
    }
}

/// What the head of an HTTP/1.1 request asks for, from its first 24 bytes; `None` when it changes nothing.
fn asked(bytes: &[u8]) -> Option<Asked> {
    let heads = [
        (&b"POST /federation/registe"[..], Asked::Register),
        (b"POST /federation/contrib", Asked::Contribute),
        (b"POST /federation/knowled", Asked::Knowledge),
    ];
    let asked = heads.iter().find(|(head, _)| bytes.starts_with(head));
    asked.map(|(_, asked)| *asked)
}

/// Takes the whole frames off the front of `bytes`.
fn frames(bytes: &mut Vec<u8>) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut rest = &bytes[..];
    while let Some((&[l0, l1, l2, kind, flags, s0, s1, s2, s3], _)) = rest.split_first_chunk::<FRAME_HEAD_BYTES>() {
        assert!(
            kind <= 9,
            "a frame of kind {kind}: this is not HTTP/2, or bytes are missing"
        );
        let length = FRAME_HEAD_BYTES + u32::from_be_bytes([0, l0, l1, l2]) as usize;
        let Some((frame, after)) = rest.split_at_checked(length) else {
            break;
        };
        let payload = frame[FRAME_HEAD_BYTES..].to_vec();
        rest = after;
        frames.push(Frame {
            payload,
            kind,
            ends_stream: flags & END_STREAM != 0,
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
        });
    }
    *bytes = rest.to_vec();
    frames
}
