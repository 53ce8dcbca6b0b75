//! The order of answers, and the best `limit` of many candidates in one pass.
//!
//! ```text
//!  quality ↓      usage / max(1, days since first contributed), days as a fraction
//!  in_name ↓      matches in the value of `name`
//!  total   ↓      matches in all values
//!  document ↑     first into this pool first
//! ```

use std::{cmp::Reverse, collections::BinaryHeap};

use engine::clock::Timestamp;

use super::postings::Posting;

const DAY_MICROS: f64 = 86_400.0 * 1e6;

/// usage / max(1, days since `first_contributed`); a clock set back counts as no time.
#[must_use]
pub fn quality(usage: u64, first_contributed: Timestamp, now: Timestamp) -> f64 {
    if usage == 0 {
        return 0.0;
    }
    let days = now.0.saturating_sub(first_contributed.0) as f64 / DAY_MICROS;
    usage as f64 / days.max(1.0)
}

/// Where a document stands; greater is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// Bits of the quality: for numbers from 0 up they compare as the numbers do.
    quality: u64,
    in_name: u32,
    total: u32,
    document: Reverse<u32>,
    /// Carried along: never compared, for no two ranks have the same document.
    usage: u64,
}

impl Rank {
    /// `quality` must be what `usage` gives.
    pub(super) fn new(quality: f64, usage: u64, posting: Posting) -> Rank {
        debug_assert!(quality >= 0.0 && quality.is_finite(), "a quality is a number from 0 up");
        let Posting {
            document,
            in_name,
            total,
        } = posting;
        Rank {
            quality: quality.to_bits(),
            in_name,
            total,
            document: Reverse(document),
            usage,
        }
    }

    /// The same document with other counts.
    pub(super) fn recounted(self, posting: Posting) -> Rank {
        Rank {
            in_name: posting.in_name,
            total: posting.total,
            ..self
        }
    }

    pub(super) fn document(self) -> u32 {
        self.document.0
    }

    pub(super) fn quality(self) -> f64 {
        f64::from_bits(self.quality)
    }

    pub(super) fn usage(self) -> u64 {
        self.usage
    }
}

/// Keeps the best `limit` of what it is offered.
pub(super) struct Best {
    limit: usize,
    worst_first: BinaryHeap<Reverse<Rank>>,
}

impl Best {
    pub(super) fn new(limit: usize) -> Best {
        Best {
            limit,
            worst_first: BinaryHeap::with_capacity(limit),
        }
    }

    /// Whether a document of this rank would be kept now. What is refused once stays refused.
    #[inline]
    pub(super) fn admits(&self, rank: Rank) -> bool {
        if self.worst_first.len() < self.limit {
            return true;
        }
        self.worst_first.peek().is_some_and(|worst| rank > worst.0)
    }

    #[inline]
    pub(super) fn offer(&mut self, rank: Rank) {
        if self.worst_first.len() < self.limit {
            self.worst_first.push(Reverse(rank));
        } else if let Some(mut worst) = self.worst_first.peek_mut()
            && rank > worst.0
        {
            *worst = Reverse(rank);
        }
    }

    /// Best first.
    pub(super) fn into_ranks(self) -> impl Iterator<Item = Rank> {
        self.worst_first.into_sorted_vec().into_iter().map(|Reverse(rank)| rank)
    }
}
