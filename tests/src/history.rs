//! What clients asked of keys, when, and what they were told: the evidence that [`crate::linearizable`] judges.
//!
//! ```text
//!  client 0   ├─ put 7 ──────┤ done
//!  client 1        ├─ get ─┤ read 7                 ├─ get … no answer: dropped, it says nothing
//!  client 2   ├─ put 8 ─────────────── … no answer: it may happen at any later time, or never
//!             └────────────────────────────────────────────────► time of the test's own clock
//! ```
//!
//! A call that the node refused, saying that nothing has happened, is kept as failed: should its value ever be read, nobody
//! wrote it. Every value is written by one call only, so that a read tells whose write it saw.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// What is asked of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Writes a value.
    Put(u64),
    /// Reads, seeing everything acknowledged before.
    Get,
    /// Deletes.
    Delete,
    /// Writes `value` if the key holds `expected`; `None`: nothing.
    CompareAndSet {
        /// What the key must hold.
        expected: Option<u64>,
        /// What is written then.
        value: u64,
    },
}

/// What the caller was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The node's answer.
    Done(Answer),
    /// Nothing has happened, and nothing will.
    Failed(String),
    /// It may have happened, or may still.
    Unknown(String),
}

/// What the node answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A put was carried out.
    Written,
    /// A read saw this.
    Read(Option<u64>),
    /// A deletion was carried out; whether there was something.
    Deleted(bool),
    /// The key held what was expected, and holds the new value now.
    Swapped,
    /// It held this instead.
    Differed(Option<u64>),
    /// It held something else, of which nothing is told.
    Refused,
}

/// One call of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Which client; each makes one call at a time.
    pub client: usize,
    /// The node that was asked.
    pub node: String,
    /// The key, with its namespace.
    pub key: String,
    /// What was asked.
    pub action: Action,
    /// When it was sent, since the history began.
    pub begin: Duration,
    /// When the caller knew.
    pub end: Duration,
    /// What the caller knew.
    pub outcome: Outcome,
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (begin, end) = (self.begin.as_secs_f64(), self.end.as_secs_f64());
        write!(
            formatter,
            "{begin:10.6} – {end:10.6}  client {:<2} at {:<4} {:<14} {:?} → {:?}",
            self.client, self.node, self.key, self.action, self.outcome
        )
    }
}

/// Calls as they end, of many clients at once.
#[derive(Debug)]
pub struct Recorder {
    origin: Instant,
    operations: Mutex<Vec<Operation>>,
    values: AtomicU64,
}

impl Default for Recorder {
    fn default() -> Recorder {
        Recorder {
            origin: Instant::now(),
            operations: Mutex::default(),
            values: AtomicU64::new(1),
        }
    }
}

impl Recorder {
    /// The time since the history began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// A value that nobody has written.
    pub fn value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::Relaxed)
    }

    /// Keeps one more.
    pub fn add(&self, operation: Operation) {
        let mut operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        operations.push(operation);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was recorded until now.
    #[must_use]
    pub fn history(&self) -> History {
        let operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        History {
            operations: operations.clone(),
        }
    }
}

/// All calls of one run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In the order in which they ended.
    pub operations: Vec<Operation>,
}

impl History {
    /// The calls of each key.
    #[must_use]
    pub fn by_key(&self) -> BTreeMap<&str, Vec<&Operation>> {
        let mut keys: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
        for operation in &self.operations {
            keys.entry(&operation.key).or_default().push(operation);
        }
        keys
    }

    /// How many were carried out, failed, and are unknown.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        let mut counts = (0, 0, 0);
        for operation in &self.operations {
            match operation.outcome {
                Outcome::Done(_) => counts.0 += 1,
                Outcome::Failed(_) => counts.1 += 1,
                Outcome::Unknown(_) => counts.2 += 1,
            }
        }
        counts
    }

    /// Writes it to a file for people, ordered by begin.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, name: &str) -> io::Result<PathBuf> {
        let path = std::env::temp_dir().join(format!("continuum-history-{name}-{}.txt", std::process::id()));
        let mut operations: Vec<&Operation> = self.operations.iter().collect();
        operations.sort_by_key(|operation| operation.begin);
        let lines: Vec<String> = operations.iter().map(ToString::to_string).collect();
        std::fs::write(&path, lines.join("\n"))?;
        Ok(path)
    }
}
