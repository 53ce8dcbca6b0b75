//! The engine's pool as a [`Source`].
//!
//! ```text
//!  entries    family pool, index by counter          engine::ledger::pool_entries
//!  concepts   concepts[shared, content hash]         a register of the pool's own actor
//!  usage      concepts[system, "usage/" ‖ hash]      a counter, added to by whoever delivers
//! ```

use engine::{
    Engine,
    clock::Stamp,
    crdt::{Reading, State, Strategy},
    image,
    json::ContentHash,
    keyspace::NamespaceId,
    ledger,
};

use super::{Entry, Error, Source};

/// Where the usage counters stand in the namespace `system`.
const USAGE_PREFIX: &[u8] = b"usage/";

/// Key of a concept's usage counter in the namespace `system`.
#[must_use]
pub fn usage_key(hash: &ContentHash) -> Vec<u8> {
    [USAGE_PREFIX, &hash.0].concat()
}

/// How often a concept was delivered, as far as that is durable.
///
/// # Errors
/// When the database fails or is damaged.
pub fn usage_of(engine: &Engine, hash: &ContentHash) -> Result<u64, Error> {
    let state = engine.concept(NamespaceId::SYSTEM, &usage_key(hash));
    let state = state.map_err(|error| Error(error.to_string()))?;
    Ok(state.as_ref().and_then(count).unwrap_or(0))
}

impl Source for Engine {
    /// None while an image of the ledger is put in place: entries come before their texts then. Its end is a commit, too.
    fn entry_page(&self, after: u64, rows_max: usize) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        ledger::pool_entries(self.view(), after, &mut |entry| {
            entries.push(Entry {
                counter: entry.counter,
                hash: entry.hash,
                first_contributed: entry.first_at,
            });
            entries.len() < rows_max
        })
        .map_err(|error| Error(error.to_string()))?;
        // Looked at after they were read: what began and ended meanwhile has brought all texts.
        if image::is_under_way(self.view()).map_err(|error| Error(error.to_string()))? {
            entries.clear();
        }
        Ok(entries)
    }

    fn concept_page(&self, after: Option<&ContentHash>, rows_max: usize) -> Result<Vec<(ContentHash, String)>, Error> {
        let after = after.map(|hash| hash.0.as_slice());
        page(self, NamespaceId::SHARED, b"", after, rows_max, json)
    }

    fn concept_json(&self, hash: &ContentHash) -> Result<String, Error> {
        let state = self
            .concept(NamespaceId::SHARED, &hash.0)
            .map_err(|error| Error(error.to_string()))?;
        state
            .as_ref()
            .and_then(json)
            .ok_or_else(|| Error(format!("the pool lists concept {hash} and has no text for it")))
    }

    fn usage_page(&self, after: Option<&ContentHash>, rows_max: usize) -> Result<Vec<(ContentHash, u64)>, Error> {
        let after = after.map(usage_key);
        page(
            self,
            NamespaceId::SYSTEM,
            USAGE_PREFIX,
            after.as_deref(),
            rows_max,
            count,
        )
    }
}

/// Up to `rows_max` readable states whose key is `prefix` and a hash. Deleted ones do not count.
fn page<T>(
    engine: &Engine,
    namespace: NamespaceId,
    prefix: &[u8],
    after: Option<&[u8]>,
    rows_max: usize,
    read: fn(&State) -> Option<T>,
) -> Result<Vec<(ContentHash, T)>, Error> {
    let mut rows = Vec::new();
    let mut damage = None;
    engine
        .concepts(namespace, prefix, after, &mut |key, state| {
            let Some(Ok(hash)) = key.strip_prefix(prefix).map(<[u8; 32]>::try_from) else {
                damage = Some(Error(format!(
                    "a key of {} bytes in namespace {} holds no hash",
                    key.len(),
                    namespace.0
                )));
                return false;
            };
            rows.extend(read(&state).map(|row| (ContentHash(hash), row)));
            rows.len() < rows_max
        })
        .map_err(|error| Error(error.to_string()))?;
    damage.map_or(Ok(rows), Err)
}

/// The pool's concepts do not expire, so any time will do.
const TIMELESS: Stamp = Stamp(0);

fn json(state: &State) -> Option<String> {
    match state.read(Strategy::LastWriteWins, TIMELESS)? {
        Reading::Value(value) => Some(value.json),
        Reading::Siblings(_) | Reading::Set(_) | Reading::Counter(_) => None,
    }
}

fn count(state: &State) -> Option<u64> {
    match state.read(Strategy::LastWriteWins, TIMELESS)? {
        Reading::Counter(count) => Some(u64::try_from(count).unwrap_or(0)),
        Reading::Value(_) | Reading::Siblings(_) | Reading::Set(_) => None,
    }
}
