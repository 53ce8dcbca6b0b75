//! The shared pool: "can't use it unless you add to it".
//!
//! ```text
//!  register, contribute ──────────────► Sequencer::propose ─► Outcome ─► plain values
//!  knowledge ─► propose(Consume) ─► wait for the index (≤ 1 s) ─► query ─► Delivered
//!                                                                   └► usage: index at once, engine in batches
//!  status, limited, stats ────────────► applied state
//! ```
//!
//! | module | does |
//! |---|---|
//! | [`search`] | which concepts hold a text, the best first |
//! | `usage` | deliveries, counted at once and made durable in batches |
//! | `adoption` | another system's members and concepts, taken over |
//! | `retries` | requests under way by idempotency key; knowledge paid for and not delivered |
//!
//! Invariants: a call that fails has charged and credited nothing, or its retry is free; what is delivered is byte for byte
//! what was stored; a contribution acknowledged is found by the next request.
//!
//! It builds commands and renders outcomes as plain values. It refuses to know of HTTP, and how the ledger decides.

mod adoption;
mod retries;
pub mod search;
mod usage;

use std::{sync::Arc, time::Duration};

use engine::{
    CommitError, Engine,
    clock::{Clock, Timestamp},
    json::Anonymiser,
    ledger::{self, Command, Decision, Idempotency, Limited, Limits, NodeId, Outcome, PoolConcept, Refusal, Standing},
    store,
};
use metrics::{Counter, Histogram};
use sha2::{Digest as _, Sha256};

use crate::{
    consensus::Sequencer,
    metrics::{self as counts, Metrics},
    runtime::{
        entropy,
        tasks::{self, Stop},
        time::{Stopwatch, sleep},
    },
};
pub use adoption::{Adopted, GivenConcept};
use retries::{Credit, InFlight, Paid, Repeats};
use search::{Hit, Query, Search};
use usage::Usage;

/// π·(1+√5)/2: who knows it is welcomed as twilight.
pub const TWILIGHT_CONSTANT: f64 = 5.083_203_692_315_26;
/// How far off it may be.
pub const TWILIGHT_TOLERANCE: f64 = 1e-9;

/// The service's numbers and rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Put into force at start when the ledger has others.
    pub limits: Limits,
    /// How long a knowledge request waits for the index to reach what it paid for.
    pub index_wait_max: Duration,
    /// How often usage counts are made durable.
    pub usage_flush_interval: Duration,
    /// What is dropped from contributed concepts.
    pub anonymiser: Anonymiser,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            limits: Limits::default(),
            index_wait_max: Duration::from_secs(1),
            usage_flush_interval: Duration::from_secs(1),
            anonymiser: Anonymiser::default(),
        }
    }
}

/// The service behind `/federation/*`; clones share it.
#[derive(Clone)]
pub struct Contribution(Arc<Shared>);

struct Shared {
    engine: Engine,
    sequencer: Sequencer,
    clock: Arc<dyn Clock>,
    search: Search,
    usage: Usage,
    in_flight: InFlight,
    paid: Paid,
    repeats: Repeats,
    settings: Settings,
    counts: Counts,
}

/// Why a call was not carried out; nothing was charged or credited unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ledger said no.
    #[error(transparent)]
    Refused(Refusal),
    /// The command was not committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The search index has not reached the pool the request paid for; the member's next request is not charged.
    #[error("the local pool is behind the ledger, retry")]
    Behind,
    /// An idempotency key of the same caller whose first request is still being worked on.
    #[error("a request with this idempotency key is still in flight")]
    InFlight,
    /// Reading the database failed.
    #[error("{0}")]
    Internal(String),
}

impl From<search::Error> for Error {
    fn from(error: search::Error) -> Error {
        Error::Internal(error.to_string())
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Error {
        Error::Internal(error.to_string())
    }
}

/// What registering came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Registered {
    /// Who: as asked, or the name that was made.
    pub node: NodeId,
    /// Whether it had been registered before.
    pub already: bool,
    /// When it first was.
    pub registered_at: Timestamp,
    /// How it stands now.
    pub standing: Standing,
}

/// What a contribution came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Contributed {
    /// Concepts credited.
    pub new: u64,
    /// Concepts the pool had.
    pub duplicates: u64,
    /// How the member stands now.
    pub standing: Standing,
}

/// A concept handed out.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivered {
    /// Anonymised JSON text, as stored.
    pub json: Arc<str>,
    /// Usage over days since first contributed, before this delivery.
    pub quality: f64,
    /// Deliveries before this one.
    pub usage: u64,
}

/// What a knowledge request wants to know.
struct Wanted {
    query: String,
    limit: usize,
    min_quality: f64,
    /// Of a repeat: the pool counter of the first time. It gives no more than that, and counts as no delivery.
    repeated_at: Option<u64>,
}

/// A knowledge request that may be answered.
struct Charge {
    /// What the index must have reached.
    pool_counter: u64,
    /// Paid for before, under its idempotency key.
    repeated: bool,
    /// Until something is delivered a request without a key stands to the member's credit, also when its connection ends.
    credit: Option<Credit>,
}

/// The pool in numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stats {
    /// Number of the newest concept; what a follower of the pool reaches.
    pub counter: u64,
    /// Concepts in the pool.
    pub concepts: u64,
    /// Members credited with at least one.
    pub contributors: u64,
    /// Of all concepts; 0 for an empty pool.
    pub average_quality: f64,
}

/// What the service counts.
struct Counts {
    new: Counter,
    duplicate: Counter,
    limited: Counter,
    gate: Counter,
    other: Counter,
    delivered: Counter,
    search_seconds: Histogram,
    wait_seconds: Histogram,
}

impl Counts {
    fn new(metrics: &Metrics) -> Counts {
        let refused = |reason| metrics.counter(counts::REFUSED, &[("reason", reason)]);
        Counts {
            new: metrics.counter(counts::CONTRIBUTED, &[("result", "new")]),
            duplicate: metrics.counter(counts::CONTRIBUTED, &[("result", "duplicate")]),
            limited: refused("rate_limit"),
            gate: refused("gate"),
            other: refused("other"),
            delivered: metrics.counter(counts::DELIVERED, &[]),
            search_seconds: metrics.histogram(counts::SEARCH_SECONDS, &[]),
            wait_seconds: metrics.histogram(counts::SEARCH_WAIT_SECONDS, &[]),
        }
    }

    fn refused(&self, refusal: &Refusal) {
        match refusal {
            Refusal::RateLimited { .. } => self.limited.increment(1),
            Refusal::Gate { .. } => self.gate.increment(1),
            _ => self.other.increment(1),
        }
    }
}

impl Contribution {
    /// The service over `engine` and `sequencer`, with an empty index; see [`Contribution::follow_pool`].
    #[must_use]
    pub fn new(
        engine: Engine,
        sequencer: Sequencer,
        clock: Arc<dyn Clock>,
        settings: Settings,
        metrics: &Metrics,
    ) -> Contribution {
        Contribution(Arc::new(Shared {
            usage: Usage::new(engine.clone()),
            engine,
            sequencer,
            clock,
            search: Search::new(),
            in_flight: InFlight::default(),
            paid: Paid::default(),
            repeats: Repeats::default(),
            settings,
            counts: Counts::new(metrics),
        }))
    }

    /// Puts the configured limits into force when the ledger has others.
    ///
    /// # Errors
    /// When the ledger cannot be read, or does not take them.
    pub async fn enforce_limits(&self) -> Result<(), Error> {
        let limits = self.0.settings.limits;
        let in_force = ledger::limits(self.0.engine.view())?;
        if in_force == limits {
            return Ok(());
        }
        if !ledger::members(self.0.engine.view())?.is_empty() {
            // What one member is configured to is not for it alone to put on all.
            tracing::info!(?in_force, configured = ?limits, "the cluster's limits are in force, not this node's");
            return Ok(());
        }
        match self
            .0
            .sequencer
            .propose(Command::SetLimits(limits), None)
            .await?
            .outcome
        {
            Outcome::Refused(refusal) => Err(Error::Refused(refusal)),
            _ => Ok(()),
        }
    }

    /// Fills the search index and follows the pool until `stop`. Reads the database without a pause: a thread of its own
    /// is the place for it.
    ///
    /// # Errors
    /// When the database fails; knowledge requests are answered [`Error::Behind`] from then on.
    pub async fn follow_pool(&self, stop: Stop) -> Result<(), search::Error> {
        let commits = self.0.engine.committed();
        tokio::select! {
            followed = self.0.search.run(self.0.engine.clone(), commits) => followed,
            () = stop.given() => Ok(()),
        }
    }

    /// Makes usage counts durable at the configured interval until `stop`, and once more then.
    pub async fn flush_usage(&self, stop: Stop) {
        loop {
            tokio::select! {
                () = sleep(self.0.settings.usage_flush_interval) => {}
                () = stop.given() => {}
            }
            // What is counted while this flush runs is for the next, and after the word to stop there is none.
            let last = stop.is_given();
            if let Err(error) = self.0.usage.flush(&stop).await {
                tracing::warn!(%error, "usage counts are not durable yet, the next flush tries again");
            }
            if last {
                break;
            }
        }
    }

    /// What is dropped from contributed concepts.
    #[must_use]
    pub fn anonymiser(&self) -> &Anonymiser {
        &self.0.settings.anonymiser
    }

    /// The index, for reading its state.
    #[must_use]
    pub fn search(&self) -> &Search {
        &self.0.search
    }

    /// Makes `node` known. Absent: a UUID is made. `constant` is compared with π×φ.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn register(
        &self,
        node: Option<NodeId>,
        constant: Option<f64>,
        idempotency: Option<Idempotency>,
    ) -> Result<Registered, Error> {
        let _in_flight = self.0.in_flight.enter(idempotency.as_ref())?;
        let node = node.unwrap_or_else(|| made_name(idempotency.as_ref()));
        let verified = constant.is_some_and(|constant| (constant - TWILIGHT_CONSTANT).abs() <= TWILIGHT_TOLERANCE);
        let command = Command::Register {
            node: node.clone(),
            verified,
        };
        match self.0.sequencer.propose(command, idempotency).await?.outcome {
            Outcome::Registered {
                already,
                registered_at,
                standing,
            } => Ok(Registered {
                node,
                already,
                registered_at,
                standing,
            }),
            other => Err(self.not_answered(other)),
        }
    }

    /// Gives `concepts` to the pool.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn contribute(
        &self,
        node: NodeId,
        concepts: Vec<PoolConcept>,
        idempotency: Option<Idempotency>,
    ) -> Result<Contributed, Error> {
        let _in_flight = self.0.in_flight.enter(idempotency.as_ref())?;
        let command = Command::Contribute { node, concepts };
        let Decision { outcome, repeated } = self.0.sequencer.propose(command, idempotency).await?;
        match outcome {
            Outcome::Contributed {
                new,
                duplicates,
                standing,
            } => {
                if !repeated {
                    self.0.counts.new.increment(new);
                    self.0.counts.duplicate.increment(duplicates);
                }
                Ok(Contributed {
                    new,
                    duplicates,
                    standing,
                })
            }
            other => Err(self.not_answered(other)),
        }
    }

    /// The best `limit` concepts that hold `query`, for the price of 1.
    ///
    /// # Errors
    /// [`Error`]; after [`Error::Behind`] the retry is free.
    pub async fn knowledge(
        &self,
        node: NodeId,
        query: &str,
        limit: usize,
        min_quality: f64,
        idempotency: Option<Idempotency>,
    ) -> Result<Vec<Delivered>, Error> {
        let in_flight = self.0.in_flight.enter(idempotency.as_ref())?;
        let charge = self.charge(node, idempotency).await?;
        self.reach(charge.pool_counter).await?;
        let wanted = Wanted {
            query: query.to_owned(),
            limit,
            min_quality,
            repeated_at: charge.repeated.then_some(charge.pool_counter),
        };
        let this = self.clone();
        let delivered = tasks::blocking(move || this.deliver(&wanted)).await;
        let delivered = delivered.ok_or_else(|| Error::Internal("the search did not finish".to_owned()))?;
        if let Some(credit) = charge.credit {
            credit.spend();
        }
        drop(in_flight);
        Ok(delivered)
    }

    /// Charges `node` for a knowledge request, unless it has paid for one already.
    async fn charge(&self, node: NodeId, idempotency: Option<Idempotency>) -> Result<Charge, Error> {
        // A keyed retry is known to the ledger, which does not charge it again.
        let keyed = idempotency.is_some();
        if !keyed && let Some(pool_counter) = self.0.paid.take(&node) {
            return Ok(Charge {
                pool_counter,
                repeated: false,
                credit: Some(self.0.paid.hold(node, pool_counter)),
            });
        }
        let this = self.clone();
        // A task of its own: when the caller leaves now, the charge is still made, and must become a credit.
        let charging = tasks::spawn(async move {
            let command = Command::Consume { node: node.clone() };
            let Decision { outcome, repeated } = this.0.sequencer.propose(command, idempotency).await?;
            let Outcome::Charged { pool_counter, .. } = outcome else {
                return Err(this.not_answered(outcome));
            };
            if repeated {
                this.admit_repeat(&node)?;
            }
            Ok(Charge {
                pool_counter,
                repeated,
                credit: (!keyed).then(|| this.0.paid.hold(node, pool_counter)),
            })
        });
        charging
            .await
            .unwrap_or_else(|_| Err(Error::Internal("the charge did not finish".to_owned())))
    }

    /// Repeats cost nothing and count for nothing, so they have a limit of their own: as many an hour as a member may
    /// pay for.
    fn admit_repeat(&self, node: &NodeId) -> Result<(), Error> {
        let now = self.0.clock.now();
        let limit = ledger::limits(self.0.engine.view())?.knowledge_per_hour;
        self.0.repeats.admit(node, limit, now).map_err(|retry_at| {
            let refusal = Refusal::RateLimited {
                kind: Limited::Knowledge,
                limit,
                retry_at,
                now,
            };
            self.not_answered(Outcome::Refused(refusal))
        })
    }

    /// Waits for the index to reach what was paid for.
    async fn reach(&self, pool_counter: u64) -> Result<(), Error> {
        let since = Stopwatch::start();
        let deadline = sleep(self.0.settings.index_wait_max);
        let reached = self.0.search.wait_until(pool_counter, deadline).await;
        self.0.counts.wait_seconds.record(since.seconds());
        reached.map_err(|behind| {
            tracing::warn!(%behind, "a knowledge request was sent away");
            Error::Behind
        })
    }

    fn deliver(&self, wanted: &Wanted) -> Vec<Delivered> {
        let since = Stopwatch::start();
        let query = Query {
            text: &wanted.query,
            limit: wanted.limit,
            quality_min: wanted.min_quality,
            // What came after the first answer was never paid for.
            counter_max: wanted.repeated_at.unwrap_or(u64::MAX),
        };
        let hits = self.0.search.query(&query, self.0.clock.now());
        if wanted.repeated_at.is_none() {
            self.0.search.deliver(hits.iter().map(|hit| hit.counter));
            self.0.usage.add(hits.iter().map(|hit| hit.hash));
            self.0.counts.delivered.increment(hits.len() as u64);
        }
        self.0.counts.search_seconds.record(since.seconds());
        let delivered = |hit: Hit| Delivered {
            json: hit.json,
            quality: hit.quality,
            usage: hit.usage,
        };
        hits.into_iter().map(delivered).collect()
    }

    /// An early 429 from applied state; `None` when the call may go on. The ledger has the last word.
    ///
    /// # Errors
    /// When the database fails.
    pub fn limited(&self, node: &NodeId, kind: Limited) -> Result<Option<Refusal>, Error> {
        if kind == Limited::Knowledge && self.0.paid.has(node) {
            return Ok(None);
        }
        let refusal = ledger::limited(self.0.engine.view(), node, kind, self.0.clock.now())?;
        if let Some(refusal) = &refusal {
            self.0.counts.refused(refusal);
        }
        Ok(refusal)
    }

    /// How `node` stands; one never seen stands as a new one.
    ///
    /// # Errors
    /// When the database fails.
    pub fn status(&self, node: &NodeId) -> Result<Standing, Error> {
        Ok(ledger::standing(self.0.engine.view(), node)?)
    }

    /// The pool in numbers.
    ///
    /// # Errors
    /// When the database fails.
    pub fn stats(&self) -> Result<Stats, Error> {
        let pool = ledger::pool_stats(self.0.engine.view())?;
        let average_quality = self.0.search.totals(self.0.clock.now()).average_quality;
        Ok(Stats {
            counter: pool.counter,
            concepts: pool.concepts,
            contributors: pool.contributors,
            average_quality,
        })
    }

    fn not_answered(&self, outcome: Outcome) -> Error {
        match outcome {
            Outcome::Refused(refusal) => {
                self.0.counts.refused(&refusal);
                Error::Refused(refusal)
            }
            other => Error::Internal(format!("the ledger answered another command: {other:?}")),
        }
    }
}

/// A name for a member that gave none. A retry under the same key must name the same member, so its name follows from
/// the key; without a key it is drawn.
fn made_name(idempotency: Option<&Idempotency>) -> NodeId {
    let name = match idempotency {
        None => entropy::uuid(),
        Some(Idempotency { caller, key, body }) => {
            let digest = Sha256::new()
                .chain_update(caller)
                .chain_update([0])
                .chain_update(key)
                .chain_update(body)
                .finalize();
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&digest[..16]);
            uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
        }
    };
    NodeId::new(name).expect("a UUID is a member's name")
}

#[cfg(test)]
mod tests;
