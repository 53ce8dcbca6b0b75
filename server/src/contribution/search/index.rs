//! The index itself: documents in arrays, grams to find them, one pass to rank them.
//!
//! ```text
//!  document 0   1   2 …   (dense, in order of the pool counter)
//!  counters first_contributed hashes usage json     one array each
//!  text     hound▮dog▮4▮ | …                        one arena; start and name length of each document
//!  grams    "hou" → 0:1/1 17:0/2 …                  packed lists with the counts of each document
//! ```
//!
//! | query (folded)   | how it is answered |
//! |------------------|--------------------|
//! | empty            | every document, no relevance |
//! | 1–3 bytes        | its own list, counts included |
//! | longer           | the rarest of its three-byte lists; a candidate whose quality and upper bounds cannot reach the best `limit` is skipped, the others are counted in the arena |
//!
//! Pure: no clock (`now` is handed in), no lock, no I/O. Documents are only ever added.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use engine::{
    clock::Timestamp,
    json::{self, ContentHash},
};
use memchr::memmem::Finder;

use super::{
    Hit, Query, Totals,
    grams::Grams,
    postings::Posting,
    ranking::{Best, Rank, quality},
    text::Text,
};

/// A pool entry to be indexed.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its number in the pool, from 1 up.
    pub counter: u64,
    /// Its identity.
    pub hash: ContentHash,
    /// When it was first contributed.
    pub first_contributed: Timestamp,
    /// Deliveries so far.
    pub usage: u64,
    /// Its searchable text.
    pub text: Text,
    /// Itself, as stored.
    pub json: Arc<str>,
}

/// What an `Arc` keeps beside its content: two counts.
const ARC_BYTES: usize = 2 * size_of::<usize>();

/// The search index of the pool.
#[derive(Debug)]
pub struct Index {
    counters: Vec<u64>,
    hashes: Vec<ContentHash>,
    first_contributed: Vec<Timestamp>,
    /// Atomic, so that deliveries are counted beside running queries.
    usage: Vec<AtomicU64>,
    /// Deliveries at least, of documents still to come.
    raised: HashMap<u64, u64>,
    /// Start of each document's text in `arena`.
    starts: Vec<usize>,
    name_bytes: Vec<u32>,
    /// What is delivered, so that an answer reads nothing from the database.
    jsons: Vec<Arc<str>>,
    json_bytes: usize,
    arena: Vec<u8>,
    grams: Grams,
}

impl Default for Index {
    fn default() -> Index {
        Index::new()
    }
}

impl Index {
    /// An index of nothing; holds next to no memory.
    #[must_use]
    pub fn new() -> Index {
        Index {
            counters: Vec::new(),
            hashes: Vec::new(),
            first_contributed: Vec::new(),
            usage: Vec::new(),
            raised: HashMap::new(),
            starts: Vec::new(),
            name_bytes: Vec::new(),
            jsons: Vec::new(),
            json_bytes: 0,
            arena: Vec::new(),
            grams: Grams::new(),
        }
    }

    /// Adds a document. One whose counter is not above the last is known already and left alone: false.
    pub fn insert(&mut self, document: &Document) -> bool {
        if document.counter <= self.last_counter() {
            return false;
        }
        let number = u32::try_from(self.counters.len()).expect("a pool of 2^32 concepts outgrows memory first");
        let name_bytes = u32::try_from(document.text.name_bytes).expect("a concept is at most 64 KiB");
        self.counters.push(document.counter);
        self.hashes.push(document.hash);
        self.first_contributed.push(document.first_contributed);
        let raised = self.raised.remove(&document.counter).unwrap_or(0);
        self.usage.push(AtomicU64::new(document.usage.max(raised)));
        self.starts.push(self.arena.len());
        self.name_bytes.push(name_bytes);
        self.jsons.push(Arc::clone(&document.json));
        self.json_bytes += document.json.len() + ARC_BYTES;
        self.arena.extend_from_slice(&document.text.bytes);
        self.grams.insert(number, &document.text);
        true
    }

    /// Counter of the newest document; 0 when there is none.
    #[must_use]
    pub fn last_counter(&self) -> u64 {
        self.counters.last().copied().unwrap_or(0)
    }

    /// Adds `deliveries` to the usage of the document with this counter; false if there is none.
    pub fn deliver(&self, counter: u64, deliveries: u64) -> bool {
        let Ok(document) = self.counters.binary_search(&counter) else {
            return false;
        };
        self.usage[document].fetch_add(deliveries, Ordering::Relaxed);
        true
    }

    /// Makes the usage of the document with this counter at least so much, now or when it is inserted.
    pub fn raise(&mut self, counter: u64, at_least: u64) {
        if counter > self.last_counter() {
            let raised = self.raised.entry(counter).or_default();
            *raised = at_least.max(*raised);
        } else if let Ok(document) = self.counters.binary_search(&counter) {
            self.usage[document].fetch_max(at_least, Ordering::Relaxed);
        }
    }

    /// The best matches, best first (order: see the module's `ranking`), as of `now`.
    #[must_use]
    pub fn query(&self, query: &Query<'_>, now: Timestamp) -> Vec<Hit> {
        let folded = json::fold(query.text);
        let needle = folded.as_bytes();
        // Documents stand in the order of their counters, and so do the postings of every list.
        let end = self.counters.partition_point(|&counter| counter <= query.counter_max) as u32;
        let mut best = Best::new(query.limit.min(end as usize));
        if needle.is_empty() {
            let documents = 0..end;
            let postings = documents.map(|document| Posting {
                document,
                in_name: 0,
                total: 0,
            });
            self.rank(postings, end, query.quality_min, now, &mut best, |posting| posting);
        } else if let Some(list) = self.grams.exact(needle) {
            self.rank(list.iter(), end, query.quality_min, now, &mut best, |posting| posting);
        } else if let Some(list) = self.grams.rarest(needle) {
            let finder = Finder::new(needle);
            self.rank(list.iter(), end, query.quality_min, now, &mut best, |posting| {
                self.matches(&finder, posting.document)
            });
        }
        best.into_ranks().map(|rank| self.hit(rank)).collect()
    }

    /// Number of documents and their average quality at `now`.
    #[must_use]
    pub fn totals(&self, now: Timestamp) -> Totals {
        let usage = self.usage.iter().map(|usage| usage.load(Ordering::Relaxed));
        let sum: f64 = usage
            .zip(&self.first_contributed)
            .map(|(usage, &first)| quality(usage, first, now))
            .sum();
        let concepts = self.counters.len();
        Totals {
            concepts: concepts as u64,
            average_quality: if concepts == 0 { 0.0 } else { sum / concepts as f64 },
        }
    }

    /// Heap bytes held.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        (self.counters.capacity() + self.first_contributed.capacity() + self.usage.capacity()) * size_of::<u64>()
            + self.hashes.capacity() * size_of::<ContentHash>()
            + self.starts.capacity() * size_of::<usize>()
            + self.name_bytes.capacity() * size_of::<u32>()
            + self.jsons.capacity() * size_of::<Arc<str>>()
            + self.json_bytes
            + self.arena.capacity()
            + self.grams.heap_bytes()
            + self.raised.capacity() * 2 * size_of::<u64>()
    }

    /// Offers the documents of `postings` before `end`, whose counts are exact or upper bounds; `refine` makes them exact and is only
    /// called for documents that could still be kept. A document refined to no match is dropped.
    fn rank(
        &self,
        postings: impl Iterator<Item = Posting>,
        end: u32,
        quality_min: f64,
        now: Timestamp,
        best: &mut Best,
        refine: impl Fn(Posting) -> Posting,
    ) {
        for bound in postings {
            if bound.document >= end {
                break;
            }
            let index = bound.document as usize;
            let usage = self.usage[index].load(Ordering::Relaxed);
            let quality = quality(usage, self.first_contributed[index], now);
            let rank = Rank::new(quality, usage, bound);
            if quality < quality_min || !best.admits(rank) {
                continue;
            }
            let exact = refine(bound);
            if exact.total > 0 || bound.total == 0 {
                best.offer(rank.recounted(exact));
            }
        }
    }

    /// Counts the positions at which the needle stands in a document; matches may overlap.
    fn matches(&self, finder: &Finder<'_>, document: u32) -> Posting {
        let index = document as usize;
        let end = self.starts.get(index + 1).copied().unwrap_or(self.arena.len());
        let text = &self.arena[self.starts[index]..end];
        let name_bytes = self.name_bytes[index] as usize;
        let mut posting = Posting {
            document,
            in_name: 0,
            total: 0,
        };
        let mut from = 0;
        while let Some(found) = finder.find(&text[from..]) {
            posting.in_name += u32::from(from + found < name_bytes);
            posting.total += 1;
            from += found + 1;
        }
        posting
    }

    fn hit(&self, rank: Rank) -> Hit {
        let index = rank.document() as usize;
        Hit {
            counter: self.counters[index],
            hash: self.hashes[index],
            quality: rank.quality(),
            usage: rank.usage(),
            json: Arc::clone(&self.jsons[index]),
        }
    }
}
