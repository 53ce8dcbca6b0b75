//! Standing, tiers and the gate: what balances mean.

use serde::{Deserialize, Serialize};

use super::{GRACE_REQUESTS, RATIO_MINIMUM, Refusal};
use crate::{clock::Timestamp, keyspace::ledger::Balances};

/// How a member stands, lowest first. A label for what the gate decides, and for what members see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Tier {
    /// Ratio below 0.1, grace used up.
    Blocked,
    /// Unknown, in grace, or ratio below 0.5.
    Basic,
    /// Ratio below 1.0.
    Intermediate,
    /// Ratio below 2.0.
    Advanced,
    /// Ratio 2.0 and above, or gave and never took.
    Contributor,
    /// Verified.
    Twilight,
}

impl Tier {
    /// The name members see.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Tier::Blocked => "blocked",
            Tier::Basic => "basic",
            Tier::Intermediate => "intermediate",
            Tier::Advanced => "advanced",
            Tier::Contributor => "contributor",
            Tier::Twilight => "twilight",
        }
    }
}

/// A member's standing, as `/federation/status` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// First registration; `None` for a member that never registered.
    pub registered_at: Option<Timestamp>,
    /// Whether the constant was shown.
    pub verified: bool,
    /// Lifetime total; 1.0 for each concept credited.
    pub contributed: f64,
    /// Lifetime total; 1.0 for each knowledge request charged.
    pub consumed: f64,
    /// contributed / consumed; 0 when nothing was consumed.
    pub ratio: f64,
    /// What the totals make of the member.
    pub tier: Tier,
    /// Whether the gate would let the next knowledge request pass.
    pub allowed: bool,
}

impl Standing {
    /// What balances mean.
    #[must_use]
    pub fn of(balances: &Balances) -> Standing {
        let Balances {
            registered_at,
            verified,
            contributed,
            consumed,
        } = *balances;
        let ratio = if consumed == 0 {
            0.0
        } else {
            score(contributed) / score(consumed)
        };
        Standing {
            registered_at,
            verified,
            contributed: score(contributed),
            consumed: score(consumed),
            ratio,
            tier: tier(balances),
            allowed: allowed(balances),
        }
    }
}

/// The gate.
///
/// # Errors
/// [`Refusal::Gate`] with what is missing.
pub(super) fn gate(balances: &Balances) -> Result<(), Refusal> {
    if allowed(balances) {
        return Ok(());
    }
    // In tenths, so that the only rounding is the last step: 0.1 · 11 − 1 in floats is not 0.1.
    let tenths = balances.consumed - balances.contributed.saturating_mul(10).min(balances.consumed);
    Err(Refusal::Gate {
        standing: Standing::of(balances),
        minimum: RATIO_MINIMUM,
        deficit: score(tenths) / 10.0,
    })
}

fn allowed(balances: &Balances) -> bool {
    balances.verified
        || balances.consumed < GRACE_REQUESTS
        || balances.contributed.saturating_mul(10) >= balances.consumed
}

fn tier(balances: &Balances) -> Tier {
    let Balances {
        verified,
        contributed,
        consumed,
        ..
    } = *balances;
    if verified {
        Tier::Twilight
    } else if consumed == 0 {
        if contributed == 0 {
            Tier::Basic
        } else {
            Tier::Contributor
        }
    } else if !allowed(balances) {
        Tier::Blocked
    } else if contributed.saturating_mul(2) < consumed {
        Tier::Basic
    } else if contributed < consumed {
        Tier::Intermediate
    } else if contributed < consumed.saturating_mul(2) {
        Tier::Advanced
    } else {
        Tier::Contributor
    }
}

/// Scores are shown as numbers; exact up to 2^53 concepts.
#[allow(clippy::cast_precision_loss)]
fn score(whole: u64) -> f64 {
    whole as f64
}
