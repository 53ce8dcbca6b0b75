//! Reads what `strace` wrote: which request was read, which sync of the log ended, which answer was written, in that order.
//!
//! ```text
//!  712 recvfrom(19<socket:[7]>, "POST /federation/contribute…", …) = 310      Event::Request   { on: (7, 0), asked: Contribute }
//!  705 fdatasync(11</data/log/0…1.log> <unfinished ...>                       Event::SyncBegins { thread: 705, of: Log }
//!  705 <... fdatasync resumed>)            = 0                                Event::SyncEnds   { thread: 705, of: Log, failed: false }
//!  712 sendto(19<socket:[7]>, "HTTP/1.1 200 OK…", …) = 412                    Event::Answer    { to: (7, 0), granted: true }
//!
//!  calls         strace's lines ──► whole calls, with the bytes they moved
//!  conversation  bytes of a connection ──► what was asked and answered on it: HTTP/1.1, or HTTP/2 frames (gRPC)
//!  members       messages of other members ──► votes and entries, and whether they were synced before they were promised
//! ```
//!
//! The file's order is the order in which the tracer saw the calls stop. A read counts when it ended (then the node had the
//! bytes), a write when it began (then they were on their way): whatever is said here about an answer is said of its
//! earliest moment.

mod calls;
mod conversation;
mod members;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use conversation::Conversation;
pub use members::Promises;

/// What was asked for; each of these changes what the node keeps, so each is granted after a sync only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// `POST /federation/register`.
    Register,
    /// `POST /federation/contribute`.
    Contribute,
    /// `POST /federation/knowledge`: it is charged.
    Knowledge,
    /// A gRPC call. Which one is compressed beyond recognition: whoever reads the trace makes only calls that write.
    Rpc,
}

/// One request and its answer: the connection, and the stream in it (0 in HTTP/1.1).
pub type Exchange = (usize, u32);

/// What a sync is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synced {
    /// A file of the log.
    Log,
    /// The directory of the log: the names of its files.
    LogDirectory,
    /// The database, and everything else.
    Other,
}

/// What happened, as far as durability cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The last byte of a request was read.
    Request {
        /// Where.
        on: Exchange,
        /// What for.
        asked: Asked,
    },
    /// A sync was asked for.
    SyncBegins {
        /// By which thread.
        thread: u32,
        /// Of what.
        of: Synced,
    },
    /// A sync came back.
    SyncEnds {
        /// By which thread.
        thread: u32,
        /// As when it began.
        of: Synced,
        /// With an error, real or injected.
        failed: bool,
    },
    /// A segment was made: its name stands in the directory of the log.
    Created,
    /// The write of an answer began.
    Answer {
        /// Where.
        to: Exchange,
        /// Status 200, or the message of a gRPC answer.
        granted: bool,
    },
    /// The last byte of a gRPC message was read, or the first of its last piece was on its way.
    Message {
        /// Where.
        on: Exchange,
        /// Whether it was asked and not answered.
        by_caller: bool,
        /// Whether the node wrote it; of what is answered to itself nothing is told.
        written: bool,
        /// What it says.
        bytes: Bytes,
    },
}

/// Bytes that are counted when they are shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} bytes", self.0.len())
    }
}

/// The events of one traced process.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// In the order the tracer saw them.
    pub events: Vec<Event>,
}

/// What a look at every granted request found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Requests granted, by what they asked for.
    pub granted: BTreeMap<Asked, u64>,
    /// Where in the events stand the answers that no sync covers.
    pub uncovered: Vec<usize>,
}

/// The words that start a process under strace, following threads, writing to `output`. The process stays our direct
/// child, so that a kill reaches it and not its tracer.
#[must_use]
pub fn strace(output: &Path, inject: Option<&str>) -> Vec<OsString> {
    let calls = "trace=openat,fdatasync,fsync,recvfrom,recvmsg,readv,sendto,sendmsg,writev";
    // Descriptors with what they stand for, and every byte of every string, in hexadecimal: HTTP/2 is no text.
    let mut words: Vec<OsString> = ["strace", "-D", "-f", "-qq", "-y", "-xx", "-s", "1048576", "-e", calls]
        .map(Into::into)
        .into();
    // Without signals of the runtime's own threads, which only make the trace longer.
    words.extend(["-e", "signal=none"].map(OsString::from));
    if let Some(inject) = inject {
        words.extend(["-e".into(), format!("inject={inject}").into()]);
    }
    words.extend(["-o".into(), output.into()]);
    words
}

/// The same, each line with its time: the traces of several processes can be put together. Which files are made is left out.
#[must_use]
pub fn strace_with_times(output: &Path) -> Vec<OsString> {
    let mut words = strace(output, None);
    words.insert(1, "-ttt".into());
    for word in &mut words {
        if word.to_str().is_some_and(|word| word.starts_with("trace=")) {
            *word = "trace=fdatasync,fsync,recvfrom,recvmsg,readv,sendto,sendmsg,writev".into();
        }
    }
    words
}

impl Trace {
    /// The traces of several nodes as one, seen by each of them: the events are the same in all, but for what is synced. Each
    /// is a trace with times, and the data of its node. The tracer holds a thread until it has written its line, so what made
    /// something else happen stands before it.
    ///
    /// # Panics
    /// As [`Trace::read`].
    #[must_use]
    pub fn together(nodes: &[(&Path, &Path)]) -> Vec<Trace> {
        let mut lines: Vec<(String, String)> = Vec::new();
        for (path, _) in nodes {
            let bytes = std::fs::read(path).expect("the trace that strace wrote");
            for line in String::from_utf8_lossy(&bytes).lines() {
                if let Some((_, time, _)) = calls::timed(line) {
                    lines.push((time.to_owned(), line.to_owned()));
                }
            }
        }
        // Of one length, so their order is that of their digits; lines of one moment stay as they were.
        lines.sort_by(|(one, _), (other, _)| one.cmp(other));
        let lines: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
        let text = lines.join("\n");
        let of = |data: &Path| Trace::parse(&text, &log_of(data));
        nodes.iter().map(|(_, data)| of(data)).collect()
    }

    /// Reads the trace of a node that keeps its data in `data`.
    ///
    /// # Panics
    /// When the file cannot be read, or is not what a node leaves behind.
    #[must_use]
    pub fn read(path: &Path, data: &Path) -> Trace {
        let bytes = std::fs::read(path).expect("the trace that strace wrote");
        Trace::parse(&String::from_utf8_lossy(&bytes), &log_of(data))
    }

    /// Parses a trace; calls of no interest are passed over. Files inside `log` are the log.
    ///
    /// # Panics
    /// When strace cut a string short, or a connection speaks neither HTTP/1.1 nor HTTP/2.
    #[must_use]
    pub fn parse(text: &str, log: &Path) -> Trace {
        let mut events: Vec<(usize, Event)> = Vec::new();
        let mut conversations: BTreeMap<String, Conversation> = BTreeMap::new();
        for call in calls::parse(text) {
            if call.is_sync() {
                let path = Path::new(&call.descriptor);
                let of = match path.strip_prefix(log) {
                    Ok(inside) if inside == Path::new("") => Synced::LogDirectory,
                    Ok(_) => Synced::Log,
                    Err(_) => Synced::Other,
                };
                let thread = call.thread;
                events.push((call.began, Event::SyncBegins { thread, of }));
                if let Some(ended) = call.ended {
                    let failed = call.result != Some(0);
                    events.push((ended, Event::SyncEnds { thread, of, failed }));
                }
            } else if call
                .created()
                .is_some_and(|path| path.parent() == Some(log) && path.extension() == Some("log".as_ref()))
            {
                events.push((call.began, Event::Created));
            } else if call.descriptor.starts_with("socket:") {
                let number = conversations.len();
                let conversation = conversations
                    .entry(call.descriptor.clone())
                    .or_insert_with(|| Conversation::new(number));
                conversation.follow(&call, &mut events);
            }
        }
        events.sort_by_key(|(at, _)| *at);
        Trace {
            events: events.into_iter().map(|(_, event)| event).collect(),
        }
    }

    /// Looks at every request that was granted: whether some sync of the log both began after the request was read and ended
    /// well before the answer was written.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        let mut coverage = Coverage::default();
        for (at, asked, is_covered) in self.grants() {
            *coverage.granted.entry(asked).or_default() += 1;
            if !is_covered {
                coverage.uncovered.push(at);
            }
        }
        coverage
    }

    /// Every answer that grants something: where it stands, what was asked for, and whether a sync of the log lies well between.
    pub fn grants(&self) -> impl Iterator<Item = (usize, Asked, bool)> {
        (0..self.events.len()).filter_map(|at| {
            let (read, asked) = self.granted(at)?;
            Some((at, asked, completes_a_sync(&self.events[read..at], Synced::Log)))
        })
    }

    /// Where the request was read that the event at `at` grants, and what it asked for; `None` when it is anything else.
    fn granted(&self, at: usize) -> Option<(usize, Asked)> {
        let Event::Answer { to, granted: true } = &self.events[at] else {
            return None;
        };
        let before = self.events[..at].iter().enumerate().rev();
        // Of two answers on one connection the second belongs to a later request, of whatever kind.
        let latest = before
            .filter_map(|(at, event)| match event {
                Event::Request { on, asked } if on == to => Some(Some((at, *asked))),
                Event::Answer { to: other, .. } if other == to => Some(None),
                _ => None,
            })
            .next();
        latest.flatten()
    }

    /// Requests granted after the first sync of the log that failed, and not covered by one that had succeeded before;
    /// `None` when none failed. What was synced in time may be answered late; a sync after the failed one says nothing any
    /// more.
    #[must_use]
    pub fn granted_after_failed_sync(&self) -> Option<usize> {
        let is_failure = |event: &Event| {
            matches!(
                event,
                Event::SyncEnds {
                    of: Synced::Log,
                    failed: true,
                    ..
                }
            )
        };
        let failed = self.events.iter().position(is_failure)?;
        let late = (failed..self.events.len()).filter_map(|at| self.granted(at));
        Some(
            late.filter(|&(read, _)| read > failed || !completes_a_sync(&self.events[read..failed], Synced::Log))
                .count(),
        )
    }

    /// The most syncs, of whatever file, that any one thread made before the first request was read.
    #[must_use]
    pub fn syncs_to_start(&self) -> usize {
        let mut counted: BTreeMap<u32, usize> = BTreeMap::new();
        for event in &self.events {
            match event {
                Event::SyncBegins { thread, .. } => *counted.entry(*thread).or_default() += 1,
                Event::Request { .. } => break,
                Event::SyncEnds { .. } | Event::Created | Event::Answer { .. } | Event::Message { .. } => {}
            }
        }
        counted.into_values().max().unwrap_or(0)
    }

    /// How many segments were made, and of how many a power cut could have taken the name away when the next request was
    /// granted: no sync of the directory lies between.
    #[must_use]
    pub fn segments_made(&self) -> (usize, usize) {
        let made = self
            .events
            .iter()
            .enumerate()
            .filter(|(_, event)| **event == Event::Created);
        let made: Vec<usize> = made.map(|(at, _)| at).collect();
        let is_unsafe = |&&at: &&usize| {
            let granted = (at..self.events.len()).find(|&at| self.granted(at).is_some());
            granted.is_some_and(|granted| !completes_a_sync(&self.events[at..granted], Synced::LogDirectory))
        };
        (made.len(), made.iter().filter(is_unsafe).count())
    }

    /// The trace as if nothing of this kind had ever been synced, to see that a check fails without.
    #[must_use]
    pub fn without_syncs(&self, kind: Synced) -> Trace {
        let is_sync =
            |event: &&Event| matches!(event, Event::SyncBegins { of, .. } | Event::SyncEnds { of, .. } if *of == kind);
        Trace {
            events: self.events.iter().filter(|event| !is_sync(event)).cloned().collect(),
        }
    }
}

fn log_of(data: &Path) -> PathBuf {
    data.join("log").canonicalize().expect("the log of a node that ran")
}

/// Whether some sync of this kind begins and ends well within `events`.
fn completes_a_sync(events: &[Event], kind: Synced) -> bool {
    events.iter().enumerate().any(|(begin, event)| {
        let thread = match event {
            Event::SyncBegins { thread, of } if *of == kind => thread,
            _ => return false,
        };
        let end = events[begin..].iter().find_map(|event| match event {
            Event::SyncEnds { thread: of, failed, .. } if of == thread => Some(!failed),
            _ => None,
        });
        end == Some(true)
    })
}

#[cfg(test)]
mod tests;
