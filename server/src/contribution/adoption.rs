//! Another system's pool, taken over.
//!
//! ```text
//!  members, concepts ─► parts of a bounded size ─► Sequencer::propose(Adopt), one after the other
//!  usage             ─► durable counters raised to what is given ─► index
//! ```
//!
//! Each part is decided whole or not at all; the call as a whole is not. Whatever stopped it, it is sent again: what is there
//! already stays as it is. Usage comes last, for a counter without its concept would be nobody's.

use std::collections::HashMap;

use engine::{
    clock::Timestamp,
    json::ContentHash,
    ledger::{self, AdoptedConcept, AdoptedMember, Command, NodeId, Outcome, PoolConcept},
};

use super::{Contribution, Error};
use crate::runtime::tasks;

/// Rows of members in one command: an account, its name, its contributions.
const PART_ROWS_MAX: usize = 2_000;
/// Bytes of concepts in one command, beyond the first.
const PART_BYTES_MAX: usize = 512 << 10;
/// Counters go no higher: from there on deliveries can still be added.
const USAGE_MAX: u64 = 1 << 62;

/// A concept of another system's pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenConcept {
    /// Anonymised by [`Contribution::anonymiser`], under the identity that it gets here.
    pub concept: PoolConcept,
    /// When it was first given there. A time that lies ahead counts as now.
    pub first_at: Timestamp,
    /// How often it was delivered there: the count becomes at least this.
    pub usage: u64,
}

/// What taking over came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Members that were not known.
    pub members_new: u64,
    /// Members that were.
    pub members_known: u64,
    /// Concepts that were not in the pool.
    pub concepts_new: u64,
    /// Concepts that were, or came twice.
    pub concepts_known: u64,
}

impl Contribution {
    /// Takes over `members` and `concepts` of another system: totals become at least what is given, concepts that the pool
    /// does not have enter it, attributed to `contributor` and credited to nobody. No limit counts it. At most 1,000 of
    /// each; doing it twice changes nothing.
    ///
    /// # Errors
    /// [`Error`]; part of it may have been taken over. Do it again as a whole.
    pub async fn adopt(
        &self,
        contributor: NodeId,
        members: Vec<AdoptedMember>,
        concepts: Vec<GivenConcept>,
    ) -> Result<Adopted, Error> {
        let mut sum = Adopted::default();
        let rows = |member: &AdoptedMember| 2 + member.contributions.len();
        for part in parts(members, PART_ROWS_MAX, rows) {
            self.propose_adoption(&contributor, part, Vec::new(), &mut sum).await?;
        }
        let mut usage: HashMap<ContentHash, u64> = HashMap::new();
        for given in &concepts {
            let count = usage.entry(given.concept.hash).or_default();
            *count = given.usage.min(USAGE_MAX).max(*count);
        }
        let concepts = concepts.into_iter().map(|given| AdoptedConcept {
            concept: given.concept,
            first_at: given.first_at,
        });
        let bytes = |adopted: &AdoptedConcept| adopted.concept.json.len();
        for part in parts(concepts.collect(), PART_BYTES_MAX, bytes) {
            self.propose_adoption(&contributor, Vec::new(), part, &mut sum).await?;
        }
        usage.retain(|_, count| *count > 0);
        self.raise_usage(usage.into_iter().collect()).await?;
        Ok(sum)
    }

    async fn propose_adoption(
        &self,
        contributor: &NodeId,
        members: Vec<AdoptedMember>,
        concepts: Vec<AdoptedConcept>,
        sum: &mut Adopted,
    ) -> Result<(), Error> {
        let command = Command::Adopt {
            contributor: contributor.clone(),
            members,
            concepts,
        };
        match self.0.sequencer.propose(command, None).await?.outcome {
            Outcome::Adopted {
                members_new,
                members_known,
                concepts_new,
                concepts_known,
            } => {
                sum.members_new += members_new;
                sum.members_known += members_known;
                sum.concepts_new += concepts_new;
                sum.concepts_known += concepts_known;
                Ok(())
            }
            other => Err(self.not_answered(other)),
        }
    }

    /// Makes counts at least what is given: durable first, then in the index, whether it has the concept already or not.
    async fn raise_usage(&self, usage: Vec<(ContentHash, u64)>) -> Result<(), Error> {
        self.0.usage.raise(usage.clone()).await?;
        let engine = self.0.engine.clone();
        let counters = tasks::blocking(move || {
            let counter = |(hash, count): (ContentHash, u64)| {
                let found = ledger::attribution(engine.view(), &hash)?;
                Ok(found.map(|found| (found.counter, count)))
            };
            usage
                .into_iter()
                .filter_map(|given| counter(given).transpose())
                .collect::<Result<Vec<_>, Error>>()
        });
        let counters = counters.await;
        let counters = counters.unwrap_or_else(|| Err(Error::Internal("the pool could not be read".to_owned())))?;
        self.0.search.raise(counters);
        Ok(())
    }
}

/// Cuts `all` into parts of at most `weight_max`, and of one at least.
fn parts<T>(all: Vec<T>, weight_max: usize, weight: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut parts: Vec<Vec<T>> = Vec::new();
    let mut used = 0;
    for item in all {
        used += weight(&item);
        match parts.last_mut() {
            Some(part) if used <= weight_max => part.push(item),
            _ => {
                used = weight(&item);
                parts.push(vec![item]);
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_keep_the_order_and_the_bound() {
        let whole: Vec<usize> = vec![3, 3, 3, 4, 10, 1, 12, 1, 1];
        let cut = parts(whole.clone(), 10, |weight| *weight);
        assert_eq!(cut, [vec![3, 3, 3], vec![4], vec![10], vec![1], vec![12], vec![1, 1]]);
        assert_eq!(cut.concat(), whole);
        assert!(parts(Vec::<usize>::new(), 10, |weight| *weight).is_empty());
    }
}
