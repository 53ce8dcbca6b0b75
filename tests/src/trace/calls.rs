//! strace's lines as whole calls.
//!
//! ```text
//!  705 fdatasync(11</data/log/0…1.log> <unfinished ...>      a call during which another thread stopped is split in two
//!  705 <... fdatasync resumed>)            = 0               lines: a write shows its bytes in the first, a read in the second
//! ```

use std::{collections::BTreeMap, ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path};

/// One call of the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) thread: u32,
    pub(super) name: String,
    /// What the descriptor stands for: a path, or `socket:[…]`, unlike its number never used again.
    pub(super) descriptor: String,
    /// What was read or written; of an open, the path.
    pub(super) bytes: Vec<u8>,
    /// Whether an open may make the file.
    creates: bool,
    /// `None` when the process ended before the call did.
    pub(super) result: Option<i64>,
    /// The line in which it began.
    pub(super) began: usize,
    /// The line in which it ended.
    pub(super) ended: Option<usize>,
}

impl Call {
    pub(super) fn is_sync(&self) -> bool {
        matches!(&*self.name, "fdatasync" | "fsync")
    }

    pub(super) fn is_read(&self) -> bool {
        matches!(&*self.name, "recvfrom" | "recvmsg" | "readv")
    }

    /// The path of a file that was made, or might have been there and was opened.
    pub(super) fn created(&self) -> Option<&Path> {
        let made = self.name == "openat" && self.creates && self.result.is_some_and(|result| result >= 0);
        made.then(|| Path::new(OsStr::from_bytes(&self.bytes)))
    }

    /// The line that says when it took effect at the earliest: a read has its bytes at its end, a write sends them from its
    /// beginning on.
    pub(super) fn effective(&self) -> usize {
        match self.ended {
            Some(ended) if self.is_read() => ended,
            _ => self.began,
        }
    }
}

/// All calls in `text`, in the order in which they took effect.
pub(super) fn parse(text: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut unfinished: BTreeMap<u32, (usize, String)> = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        let Some((thread, _, rest)) = timed(line).or_else(|| untimed(line)) else {
            continue;
        };
        let Ok(thread) = thread.parse() else { continue };
        if let Some(beginning) = rest.strip_suffix("<unfinished ...>") {
            unfinished.insert(thread, (at, beginning.to_owned()));
        } else if let Some((_, end)) = rest.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            if let Some((began, beginning)) = unfinished.remove(&thread) {
                calls.extend(call(thread, &(beginning + end), began, Some(at)));
            }
        } else {
            calls.extend(call(thread, rest, at, Some(at)));
        }
    }
    for (thread, (began, beginning)) in unfinished {
        calls.extend(call(thread, &beginning, began, None));
    }
    calls.sort_by_key(Call::effective);
    calls
}

/// Thread, time and call of a line: `705 1732417445.302911 fdatasync(…`.
pub(super) fn timed(line: &str) -> Option<(&str, &str, &str)> {
    let (thread, _, rest) = untimed(line)?;
    let (time, rest) = rest.split_once(' ')?;
    let is_time = time.contains('.') && time.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    is_time.then(|| (thread, time, rest.trim()))
}

fn untimed(line: &str) -> Option<(&str, &str, &str)> {
    let (thread, rest) = line.split_once(' ')?;
    Some((thread, "", rest.trim()))
}

/// One call in one piece; `None` for what is no call (`+++ exited with 0 +++`).
fn call(thread: u32, text: &str, began: usize, ended: Option<usize>) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    let (arguments, result) = match rest.rsplit_once(" = ") {
        // A descriptor, like any other, comes with what it stands for: `11</data/log/1.log>`.
        Some((arguments, result)) => (arguments, result.split([' ', '<']).next()?.parse().ok()),
        None => (rest, None),
    };
    let descriptor = arguments
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'))
        .map(|(descriptor, _)| String::from_utf8_lossy(&unescaped(descriptor)).into_owned())?;
    let mut bytes: Vec<u8> = arguments.split('"').skip(1).step_by(2).flat_map(unescaped).collect();
    if let Some(moved) = result
        && descriptor.starts_with("socket:")
    {
        let moved = usize::try_from(moved).unwrap_or(0);
        assert!(moved <= bytes.len(), "strace cut a string short: {text}");
        bytes.truncate(moved);
    }
    Some(Call {
        thread,
        name: name.to_owned(),
        descriptor,
        bytes,
        creates: arguments.contains("O_CREAT"),
        result,
        began,
        ended,
    })
}

/// `\x50\x4f` is `PO`; anything else stands for itself.
fn unescaped(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut bytes = Vec::with_capacity(rest.len() / 4);
    while let Some((&first, after)) = rest.split_first() {
        let byte = rest
            .strip_prefix(b"\\x")
            .and_then(|rest| std::str::from_utf8(rest.get(..2)?).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        rest = if byte.is_some() { &rest[4..] } else { after };
        bytes.push(byte.unwrap_or(first));
    }
    bytes
}
