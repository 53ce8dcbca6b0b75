//! The search index of the pool: which concepts hold a text, the best of them first.
//!
//! ```text
//!  pool ∪ concepts[shared] ─rebuild at start─► follow ─insert─► Index ◄─query (many at once)─ contribution
//!  engine's commit watch  ───────wake────────────┘                └────◄─deliver (usage + 1)──┘
//! ```
//!
//! **What matches.** The query and the text of every value (strings, numbers as sent, `true`, `false`; no keys, no
//! punctuation) are folded by Unicode simple case folding, character by character; a concept matches when the folded
//! query stands inside one of its folded values. Nothing is normalised beyond that: `ß` is not `ss` (but `ẞ` is `ß`), `İ`
//! and `ı` are neither `i` nor each other, `ς` is `σ`, the Kelvin sign is `k`. An empty query matches everything.
//!
//! **The order.** Quality, then matches in the value of the top-level `name`, then matches in all values (`name`
//! included), all descending; then first into this pool first. A *match* is a position at which the query stands, so matches
//! may overlap: `aa` stands in `aaa` twice. An empty query has no matches to rank by.
//!
//! **Invariants.** The answers are those of a scan of the whole pool, order included ([`Index`] is tested against one).
//! Everything here is derived: it can be dropped and rebuilt from the database at any time. Readers do not wait for
//! each other, and for an insertion only as long as a small batch takes.
//!
//! It refuses to know who asks, what a query costs, what a concept's JSON looks like when delivered, and what time it is.

mod follow;
mod grams;
mod index;
mod pool;
mod postings;
mod ranking;
mod text;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use engine::{clock::Timestamp, json::ContentHash};
use parking_lot::RwLock;
use tokio::sync::watch;

pub use follow::{Entry, Error, Source};
pub use index::{Document, Index};
pub use pool::{usage_key, usage_of};
pub use ranking::quality;
pub use text::Text;

/// Results of one query at most.
pub const LIMIT_MAX: usize = 1000;

/// What to look for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Query<'a> {
    /// The text to find; empty finds everything.
    pub text: &'a str,
    /// Results at most, up to [`LIMIT_MAX`].
    pub limit: usize,
    /// Only concepts of this quality or more.
    pub quality_min: f64,
    /// Only concepts up to this counter; `u64::MAX` for all.
    pub counter_max: u64,
}

/// A concept found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// Its number in the pool.
    pub counter: u64,
    /// Its identity, under which the database holds it.
    pub hash: ContentHash,
    /// usage / max(1, days since first contributed) at the time of the query.
    pub quality: f64,
    /// Deliveries before this one.
    pub usage: u64,
    /// The concept as stored.
    pub json: Arc<str>,
}

/// What the statistics page shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Totals {
    /// Concepts in the index.
    pub concepts: u64,
    /// Their average quality; 0 when there are none.
    pub average_quality: f64,
}

/// The deadline passed before the index had reached the counter; nothing was read, ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the search index is at concept {indexed}, the answer needs {wanted}; retry in a moment")]
pub struct Behind {
    /// Counter of the newest concept indexed.
    pub indexed: u64,
    /// Counter asked for.
    pub wanted: u64,
}

/// The index as its users hold it; clones share it.
#[derive(Clone)]
pub struct Search {
    shared: Arc<Shared>,
}

struct Shared {
    index: RwLock<Index>,
    /// Counter up to which every pool entry is indexed.
    indexed: watch::Sender<u64>,
}

impl Default for Search {
    fn default() -> Search {
        Search::new()
    }
}

impl Search {
    /// An empty index; [`Search::run`] fills it.
    #[must_use]
    pub fn new() -> Search {
        Search {
            shared: Arc::new(Shared {
                index: RwLock::new(Index::new()),
                indexed: watch::Sender::new(0),
            }),
        }
    }

    /// Counter up to which every pool entry is indexed.
    #[must_use]
    pub fn indexed(&self) -> u64 {
        *self.shared.indexed.borrow()
    }

    /// Returns once every pool entry up to `counter` is indexed.
    ///
    /// # Errors
    /// [`Behind`] when `deadline` completes first.
    pub async fn wait_until(&self, counter: u64, deadline: impl Future<Output = ()>) -> Result<(), Behind> {
        let mut indexed = self.shared.indexed.subscribe();
        tokio::select! {
            biased;
            reached = indexed.wait_for(|&indexed| indexed >= counter) => {
                reached.expect("the sender lives as long as this handle");
                Ok(())
            }
            () = deadline => Err(Behind { indexed: self.indexed(), wanted: counter }),
        }
    }

    /// The best matches, best first, as of `now`. Runs for up to a few milliseconds without a pause.
    #[must_use]
    pub fn query(&self, query: &Query<'_>, now: Timestamp) -> Vec<Hit> {
        self.shared.index.read().query(query, now)
    }

    /// Adds one delivery to each concept; the next query sees it. Counters without a concept are passed over.
    pub fn deliver(&self, counters: impl IntoIterator<Item = u64>) {
        let index = self.shared.index.read();
        for counter in counters {
            index.deliver(counter, 1);
        }
    }

    /// Makes deliveries at least what is given, by counter; the next query sees it. Of a concept that is not indexed yet it is
    /// remembered until it is.
    pub fn raise(&self, deliveries: impl IntoIterator<Item = (u64, u64)>) {
        let mut index = self.shared.index.write();
        for (counter, at_least) in deliveries {
            index.raise(counter, at_least);
        }
    }

    /// Number and average quality of the concepts at `now`.
    #[must_use]
    pub fn totals(&self, now: Timestamp) -> Totals {
        self.shared.index.read().totals(now)
    }

    /// Heap bytes held by the index.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.shared.index.read().heap_bytes()
    }
}
