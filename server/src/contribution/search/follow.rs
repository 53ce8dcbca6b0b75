//! Filling the index: rebuilt from the database at start, then following the pool.
//!
//! ```text
//!  run ─► rebuild: concepts of the pool in pages, in key order ─► texts by hash ┐
//!      │           usage counters ───────────────────────────────► usage by hash┴► entries by counter ─► insert
//!      └► follow:  woken by a commit ─► entries above the last counter ─► their concepts, one by one ─► insert
//! ```
//!
//! A rebuild reads the concepts in the order in which the database holds them; by counter they would be as many reads at
//! random places. Entries are inserted in small groups, and the task yields after each, so that neither queries nor other
//! tasks wait for long. Nothing is lost when [`Search::run`] is dropped at any await.

use std::{collections::HashMap, sync::Arc};

use engine::{clock::Timestamp, json::ContentHash};
use tokio::sync::watch;

use super::{Document, Search, Text};

/// Documents inserted under one lock at most.
const INSERT_DOCUMENTS_MAX: usize = 64;
/// Bytes of text inserted under one lock, beyond the first document.
const INSERT_TEXT_BYTES_MAX: usize = 32 << 10;
/// Rows read from the database without a pause.
const PAGE_ROWS_MAX: usize = 512;

/// One row of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 1 up without gaps.
    pub counter: u64,
    /// The concept's identity.
    pub hash: ContentHash,
    /// When it was first contributed.
    pub first_contributed: Timestamp,
}

/// Where the index learns what the pool holds. Pages end early only where the data does.
pub trait Source: Send + Sync {
    /// Up to `rows_max` pool entries above `after`, ascending.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    fn entry_page(&self, after: u64, rows_max: usize) -> Result<Vec<Entry>, Error>;

    /// Up to `rows_max` concepts with a hash above `after`, ascending, as stored.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    fn concept_page(&self, after: Option<&ContentHash>, rows_max: usize) -> Result<Vec<(ContentHash, String)>, Error>;

    /// One concept as stored; the pool has none without.
    ///
    /// # Errors
    /// When the database fails, is damaged or has no such concept.
    fn concept_json(&self, hash: &ContentHash) -> Result<String, Error>;

    /// Up to `rows_max` usage counts of concepts with a hash above `after`, ascending; a concept never delivered may be
    /// left out.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    fn usage_page(&self, after: Option<&ContentHash>, rows_max: usize) -> Result<Vec<(ContentHash, u64)>, Error>;
}

/// The index cannot go on: the database failed or is damaged. Queries answer from what was indexed before; the node
/// should report itself unready and be restarted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the search index stopped: {0}")]
pub struct Error(pub String);

impl Search {
    /// Fills the index from `source` and follows it: every change of `commits` makes it look for new pool entries.
    /// Returns when the sender of `commits` is gone.
    ///
    /// # Errors
    /// When `source` fails; call again to go on from where it stopped.
    pub async fn run<T>(&self, source: impl Source, mut commits: watch::Receiver<T>) -> Result<(), Error> {
        commits.mark_unchanged();
        if self.indexed() == 0 {
            self.rebuild(&source).await?;
        }
        loop {
            let entries = source.entry_page(self.indexed(), PAGE_ROWS_MAX)?;
            if entries.is_empty() {
                if commits.changed().await.is_err() {
                    return Ok(());
                }
                continue;
            }
            for group in entries.chunks(INSERT_DOCUMENTS_MAX) {
                let documents = group.iter().map(|entry| {
                    Ok(document(
                        entry,
                        concept_of(source.concept_json(&entry.hash)?, &entry.hash)?,
                        0,
                    ))
                });
                self.insert(&documents.collect::<Result<Vec<_>, Error>>()?);
                tokio::task::yield_now().await;
            }
        }
    }

    async fn rebuild(&self, source: &impl Source) -> Result<(), Error> {
        let mut usage = HashMap::new();
        let mut last = None;
        loop {
            let page = source.usage_page(last.as_ref(), PAGE_ROWS_MAX)?;
            let Some(&(hash, _)) = page.last() else { break };
            last = Some(hash);
            usage.extend(page);
            tokio::task::yield_now().await;
        }
        let mut concepts = HashMap::new();
        let mut last = None;
        loop {
            let page = source.concept_page(last.as_ref(), PAGE_ROWS_MAX)?;
            let Some(&(hash, _)) = page.last() else { break };
            last = Some(hash);
            for (hash, json) in page {
                concepts.insert(hash, concept_of(json, &hash)?);
            }
            tokio::task::yield_now().await;
        }
        loop {
            let page = source.entry_page(self.indexed(), PAGE_ROWS_MAX)?;
            if page.is_empty() {
                return Ok(());
            }
            for group in page.chunks(INSERT_DOCUMENTS_MAX) {
                let documents = group.iter().map(|entry| {
                    let concept = match concepts.remove(&entry.hash) {
                        Some(concept) => concept,
                        // Contributed since the concepts were read.
                        None => concept_of(source.concept_json(&entry.hash)?, &entry.hash)?,
                    };
                    Ok(document(entry, concept, usage.get(&entry.hash).copied().unwrap_or(0)))
                });
                self.insert(&documents.collect::<Result<Vec<_>, Error>>()?);
                tokio::task::yield_now().await;
            }
        }
    }

    /// Adds documents, ascending by counter and all entries up to the last among them, in groups that hold the lock
    /// for about a millisecond; then lets those waiting go on.
    pub fn insert(&self, documents: &[Document]) {
        let mut rest = documents;
        while !rest.is_empty() {
            let mut index = self.shared.index.write();
            let mut bytes = 0;
            while let Some((document, after)) = rest.split_first()
                && bytes <= INSERT_TEXT_BYTES_MAX
            {
                bytes += document.text.bytes.len();
                index.insert(document);
                rest = after;
            }
            let last = index.last_counter();
            drop(index);
            self.shared
                .indexed
                .send_if_modified(|indexed| std::mem::replace(indexed, last) != last);
        }
    }
}

/// A concept as stored, and what of it is searched.
type Concept = (Arc<str>, Text);

fn document(entry: &Entry, (json, text): Concept, usage: u64) -> Document {
    Document {
        counter: entry.counter,
        hash: entry.hash,
        first_contributed: entry.first_contributed,
        usage,
        text,
        json,
    }
}

fn concept_of(json: String, hash: &ContentHash) -> Result<Concept, Error> {
    let value = engine::json::parse(json.as_bytes()).map_err(|error| {
        Error(format!(
            "concept {hash} in the database is not what was stored: {error}"
        ))
    })?;
    Ok((json.into(), Text::of(&value)))
}
