//! Batches with a request id are carried out once, however often they are sent.
//!
//! ```text
//!  id ─► rows (pending, then the store) ─ none, or older than 24 h ─► carried out; its rows go into the same record
//!                                        ├ the same digest          ─► nothing: the caller is told what was done then
//!                                        └ another digest           ─► refused
//! ```
//!
//! It is asked before the disk is: whoever repeats what was carried out writes nothing, and may do so on a full one. A
//! refused batch leaves no row, so that it may be sent again under the same id.

use super::Merger;
use crate::{
    clock::Timestamp,
    commit::{CommitError, Effect, Request},
    keyspace::{
        codec::{self, Record},
        meta::requests::{self, Asked, Carried},
    },
};

/// Places that one [`crate::Mutation::Forget`] passes at most.
pub(super) const FORGOTTEN_MAX: u64 = 1_024;

impl Merger {
    /// What was carried out under this id; `None` when the batch is new.
    pub(super) fn recall(&self, request: &Request, now: Timestamp) -> Result<Option<Carried>, CommitError> {
        let id = &request.id;
        if id.is_empty() || id.len() > requests::ID_BYTES_MAX {
            let (length, maximum) = (id.len(), requests::ID_BYTES_MAX);
            return Err(CommitError::Invalid(format!(
                "a request id has 1 to {maximum} bytes, this one {length}"
            )));
        }
        let carried: Option<Carried> = self.meta_record(&requests::carried(id))?;
        match carried.filter(|carried| !carried.is_old(now)) {
            Some(carried) if carried.body != request.body => Err(CommitError::RequestReused),
            recalled => Ok(recalled),
        }
    }

    /// Writes down that the running batch is carried out.
    pub(super) fn remember(
        &mut self,
        request: &Request,
        effects: &[Effect],
        now: Timestamp,
    ) -> Result<(), CommitError> {
        while self.requests.next - self.requests.oldest >= self.requests_max {
            self.forget_oldest()?;
        }
        let place = self.requests.next;
        let carried = Carried {
            body: request.body,
            at: now,
            place,
            took_away: Carried::flags(effects.iter().map(Effect::took_away)),
        };
        let id = request.id.clone();
        self.put_meta(requests::carried(&id), Some(codec::encode(&carried)));
        self.put_meta(requests::asked(place), Some(codec::encode(&Asked { id, at: now })));
        self.requests.next += 1;
        Ok(())
    }

    /// Forgets the requests up to and including the one at place `through`.
    pub(super) fn forget(&mut self, through: u64) -> Result<(), CommitError> {
        let end = through.saturating_add(1).min(self.requests.next);
        if end.saturating_sub(self.requests.oldest) > FORGOTTEN_MAX {
            return Err(CommitError::Invalid(format!(
                "more than {FORGOTTEN_MAX} requests would be forgotten at once"
            )));
        }
        while self.requests.oldest < end {
            self.forget_oldest()?;
        }
        Ok(())
    }

    fn forget_oldest(&mut self) -> Result<(), CommitError> {
        let place = self.requests.oldest;
        let key = requests::asked(place);
        if let Some(Asked { id, .. }) = self.meta_record(&key)? {
            self.put_meta(key, None);
            let key = requests::carried(&id);
            // An old id may have been used again before it was forgotten; then the row is the newer request's.
            let carried: Option<Carried> = self.meta_record(&key)?;
            if carried.is_some_and(|carried| carried.place == place) {
                self.put_meta(key, None);
            }
        }
        self.requests.oldest += 1;
        Ok(())
    }

    /// A row of `meta`, with what is not applied yet.
    fn meta_record<T: Record>(&self, key: &[u8]) -> Result<Option<T>, CommitError> {
        let unreadable = |error: &dyn std::fmt::Display| {
            CommitError::Invalid(format!("what was carried out before cannot be read: {error}"))
        };
        let stored;
        let bytes = match self.pending.rows.get(key) {
            Some(row) => row.as_deref(),
            None => {
                stored = self
                    .store
                    .get(crate::store::Family::Meta, key)
                    .map_err(|error| unreadable(&error))?;
                stored.as_deref()
            }
        };
        bytes.map(codec::decode).transpose().map_err(|error| unreadable(&error))
    }
}

#[cfg(test)]
mod tests;
