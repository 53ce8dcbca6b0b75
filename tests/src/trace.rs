//! Reads what `strace` wrote: which request was read, which sync ended, which answer was written, in that order.
//!
//! ```text
//!  712 recvfrom(19, "POST /federation/contrib", 24, …) = 24               Event::Request  { descriptor: 19 }
//!  705 fdatasync(11 <unfinished ...>                                       Event::SyncBegins { thread: 705 }
//!  705 <... fdatasync resumed>)            = 0                             Event::SyncEnds   { thread: 705, failed: false }
//!  712 sendto(19, "HTTP/1.1 200 OK\r\ncontent-type: "..., …) = 412         Event::Answer   { descriptor: 19, status: 200 }
//! ```
//!
//! The file's order is the order in which the tracer saw the calls stop. A call during which another thread stopped is
//! split in two lines: a read shows its bytes in the second, a write in the first.

use std::{collections::BTreeMap, ffi::OsString, path::Path};

/// What happened, as far as durability cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A contribution's head was read from a connection.
    Request {
        /// The connection.
        descriptor: u32,
    },
    /// A sync was asked for.
    SyncBegins {
        /// By which thread.
        thread: u32,
    },
    /// A sync came back.
    SyncEnds {
        /// By which thread.
        thread: u32,
        /// With an error, real or injected.
        failed: bool,
    },
    /// The write of an answer began.
    Answer {
        /// The connection.
        descriptor: u32,
        /// HTTP status.
        status: u16,
    },
}

/// The events of one traced process.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// In the order the tracer saw them.
    pub events: Vec<Event>,
}

/// The words that start a process under strace, following threads, writing to `output`. The process stays our direct
/// child, so that a kill reaches it and not its tracer.
#[must_use]
pub fn strace(output: &Path, inject: Option<&str>) -> Vec<OsString> {
    let calls = "trace=fdatasync,fsync,recvfrom,recvmsg,read,readv,sendto,sendmsg,write,writev";
    let mut words: Vec<OsString> = ["strace", "-D", "-f", "-qq", "-s", "64", "-e", calls]
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

impl Trace {
    /// Reads a trace.
    ///
    /// # Panics
    /// When the file cannot be read.
    #[must_use]
    pub fn read(path: &Path) -> Trace {
        let bytes = std::fs::read(path).expect("the trace that strace wrote");
        Trace::parse(&String::from_utf8_lossy(&bytes))
    }

    /// Parses a trace; lines of no interest are passed over.
    #[must_use]
    pub fn parse(text: &str) -> Trace {
        let mut events = Vec::new();
        let mut interrupted = BTreeMap::new();
        for line in text.lines() {
            let Some((thread, call)) = line.split_once(' ') else {
                continue;
            };
            let Ok(thread) = thread.parse() else { continue };
            parse_call(thread, call.trim_start(), &mut interrupted, &mut events);
        }
        Trace { events }
    }

    /// Answers 200 to contributions that no sync covers: none both began after the request was read and ended well before
    /// the answer was written. Also how many answers were looked at.
    #[must_use]
    pub fn uncovered(&self) -> (Vec<usize>, usize) {
        let mut looked_at = 0;
        let mut uncovered = Vec::new();
        for at in 0..self.events.len() {
            let Some(asked) = self.asked(at) else { continue };
            looked_at += 1;
            if !completes_a_sync(&self.events[asked..at]) {
                uncovered.push(at);
            }
        }
        (uncovered, looked_at)
    }

    /// Where the contribution was read that the event at `at` answers with 200; `None` when it is anything else.
    fn asked(&self, at: usize) -> Option<usize> {
        let Event::Answer {
            descriptor,
            status: 200,
        } = &self.events[at]
        else {
            return None;
        };
        let before = &self.events[..at];
        let asked = before
            .iter()
            .rposition(|event| matches!(event, Event::Request { descriptor: of } if of == descriptor))?;
        // Of two answers on one connection the second belongs to a later request, of whatever kind.
        let answered = before[asked..]
            .iter()
            .any(|event| matches!(event, Event::Answer { descriptor: of, .. } if of == descriptor));
        (!answered).then_some(asked)
    }

    /// Answers 200 written after the first sync that failed, and not covered by a sync that had succeeded before; `None` when
    /// no sync failed. What was synced in time may be answered late; a sync after the failed one says nothing any more.
    #[must_use]
    pub fn acknowledged_after_failed_sync(&self) -> Option<usize> {
        let failed = self
            .events
            .iter()
            .position(|event| matches!(event, Event::SyncEnds { failed: true, .. }))?;
        let until = self.events.len();
        let late = (failed..until).filter_map(|at| Some((at, self.asked(at)?)));
        Some(
            late.filter(|&(_, asked)| asked > failed || !completes_a_sync(&self.events[asked..failed]))
                .count(),
        )
    }

    /// The most syncs that any one thread made before the first contribution was read.
    #[must_use]
    pub fn syncs_to_start(&self) -> usize {
        let mut counted: BTreeMap<u32, usize> = BTreeMap::new();
        for event in &self.events {
            match event {
                Event::SyncBegins { thread } => *counted.entry(*thread).or_default() += 1,
                Event::Request { .. } => break,
                Event::SyncEnds { .. } | Event::Answer { .. } => {}
            }
        }
        counted.into_values().max().unwrap_or(0)
    }

    /// The trace as if no sync had been made, to see that a check fails without.
    #[must_use]
    pub fn without_syncs(&self) -> Trace {
        let is_sync = |event: &&Event| matches!(event, Event::SyncBegins { .. } | Event::SyncEnds { .. });
        Trace {
            events: self.events.iter().filter(|event| !is_sync(event)).cloned().collect(),
        }
    }
}

/// Whether some sync begins and ends well within `events`.
fn completes_a_sync(events: &[Event]) -> bool {
    events.iter().enumerate().any(|(begin, event)| {
        let Event::SyncBegins { thread } = event else {
            return false;
        };
        let end = events[begin..].iter().find_map(|event| match event {
            Event::SyncEnds { thread: of, failed } if of == thread => Some(!failed),
            _ => None,
        });
        end == Some(true)
    })
}

/// `interrupted` remembers for each thread the descriptor of a call whose line was split.
fn parse_call(thread: u32, call: &str, interrupted: &mut BTreeMap<u32, u32>, events: &mut Vec<Event>) {
    let is_sync = call.starts_with("fdatasync(") || call.starts_with("fsync(");
    let ends_sync = call.starts_with("<... fdatasync resumed>") || call.starts_with("<... fsync resumed>");
    if is_sync {
        events.push(Event::SyncBegins { thread });
    }
    if ends_sync || (is_sync && !call.ends_with("<unfinished ...>")) {
        events.push(Event::SyncEnds {
            thread,
            failed: !call.contains("= 0"),
        });
    }
    let named = if call.starts_with("<...") {
        interrupted.remove(&thread)
    } else {
        descriptor(call)
    };
    let Some(descriptor) = named else { return };
    if call.ends_with("<unfinished ...>") {
        interrupted.insert(thread, descriptor);
    }
    // The node looks at the first 24 bytes of a connection by themselves, to tell HTTP/2.
    if call.contains("\"POST /federation/contrib") {
        events.push(Event::Request { descriptor });
    } else if let Some((_, rest)) = call.split_once("\"HTTP/1.1 ")
        && let Some(status) = rest.get(..3).and_then(|digits| digits.parse().ok())
    {
        events.push(Event::Answer { descriptor, status });
    }
}

/// The first argument of a call: `sendto(19, …` is about descriptor 19.
fn descriptor(call: &str) -> Option<u32> {
    let (_, arguments) = call.split_once('(')?;
    let end = arguments.find(|letter: char| !letter.is_ascii_digit())?;
    arguments[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COVERED: &str = r#"
712 recvfrom(19, "POST /federation/contribute HTTP/"..., 8192, 0, NULL, NULL) = 310
705 fdatasync(11 <unfinished ...>
712 recvfrom(19, 0x7f, 8192, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable)
705 <... fdatasync resumed>)            = 0
712 sendto(19, "HTTP/1.1 200 OK\r\ncontent-type: "..., 412, MSG_NOSIGNAL, NULL, 0) = 412
"#;

    #[test]
    fn a_sync_between_request_and_answer_covers() {
        assert_eq!(Trace::parse(COVERED).uncovered(), (vec![], 1));
        assert_eq!(Trace::parse(COVERED).without_syncs().uncovered().0.len(), 1);
    }

    #[test]
    fn a_sync_that_began_before_the_request_does_not_cover() {
        let mut lines: Vec<&str> = COVERED.trim().lines().collect();
        lines.swap(0, 1);
        assert_eq!(Trace::parse(&lines.join("\n")).uncovered().0.len(), 1);
    }

    #[test]
    fn a_sync_that_ends_after_the_answer_does_not_cover() {
        let mut lines: Vec<&str> = COVERED.trim().lines().collect();
        lines.swap(3, 4);
        assert_eq!(Trace::parse(&lines.join("\n")).uncovered().0.len(), 1);
    }

    #[test]
    fn a_read_split_in_two_lines_is_a_request() {
        let split = COVERED.replace(
            "712 recvfrom(19, \"POST",
            "712 recvfrom(19 <unfinished ...>\n705 fdatasync(11) = 0\n712 <... recvfrom resumed>\"POST",
        );
        assert_eq!(Trace::parse(&split).uncovered(), (vec![], 1));
        assert!(Trace::parse(&split).events.contains(&Event::Request { descriptor: 19 }));
    }

    #[test]
    fn answers_after_a_failed_sync_are_counted() {
        let trace = format!(
            "705 fdatasync(11) = -1 EIO (Input/output error) (INJECTED)\n{}",
            COVERED.trim()
        );
        assert_eq!(Trace::parse(&trace).acknowledged_after_failed_sync(), Some(1));
        assert_eq!(Trace::parse(COVERED).acknowledged_after_failed_sync(), None);
        // Synced in time, answered late.
        let failure = "705 fdatasync(11) = -1 EIO (Input/output error) (INJECTED)\n712 sendto";
        let late = COVERED.replace("712 sendto", failure);
        assert_eq!(Trace::parse(&late).acknowledged_after_failed_sync(), Some(0));
    }
}
