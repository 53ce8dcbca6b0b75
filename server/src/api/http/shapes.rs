//! Requests and answers of `/federation/*`, as they are documented and as they are read and written.

use engine::{
    clock::Timestamp,
    ledger::{Standing, Tier},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::schema::{self, Faults};
use crate::contribution::Delivered;

/// Who wants to be a member.
#[derive(Debug, ToSchema)]
pub(crate) struct RegisterRequest {
    /// The name to be known by: up to 256 bytes of UTF-8 without control characters. Null, absent or empty: one is made.
    #[schema(example = "my-node-1", nullable)]
    pub(crate) node_id: Option<String>,
    /// π×φ within 1e-9 gives twilight access.
    #[schema(nullable)]
    pub(crate) verify_constant: Option<f64>,
}

impl RegisterRequest {
    pub(crate) fn read(body: Value, faults: &mut Faults) -> RegisterRequest {
        let mut fields = schema::object(body, faults).unwrap_or_default();
        RegisterRequest {
            node_id: schema::optional_string(&mut fields, "node_id", faults).filter(|id| !id.is_empty()),
            verify_constant: schema::optional_number(&mut fields, "verify_constant", faults),
        }
    }
}

/// Concepts for the shared pool.
#[derive(Debug, ToSchema)]
pub(crate) struct ContributeRequest {
    /// 1 to 1,000 objects of up to 64 KiB and 64 levels each; identifying fields are dropped at every depth.
    #[schema(value_type = Vec<Object>, min_items = 1, max_items = 1000,
        example = json!([{"name": "Test Concept", "description": "A test"}]))]
    pub(crate) concepts: Vec<Value>,
}

impl ContributeRequest {
    pub(crate) fn read(body: Value, faults: &mut Faults) -> ContributeRequest {
        let concepts = match schema::object(body, faults) {
            Some(mut fields) => schema::objects(&mut fields, "concepts", faults),
            None => Vec::new(),
        };
        ContributeRequest { concepts }
    }
}

/// What a member wants to know.
#[derive(Debug, ToSchema)]
pub(crate) struct KnowledgeRequest {
    /// Looked for in the text of the values, whatever its case; absent or empty: everything.
    #[schema(example = "test", nullable)]
    pub(crate) query: Option<String>,
    /// Concepts at most.
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    pub(crate) limit: u32,
    /// Quality at least.
    #[schema(minimum = 0, default = 0)]
    pub(crate) min_quality: f64,
}

impl KnowledgeRequest {
    pub(crate) fn read(body: Value, faults: &mut Faults) -> KnowledgeRequest {
        const LIMIT: (u32, u32) = (1, 1000);
        const LIMIT_DEFAULT: u32 = 100;
        let mut fields = schema::object(body, faults).unwrap_or_default();
        KnowledgeRequest {
            query: schema::optional_string(&mut fields, "query", faults),
            limit: schema::integer_within(&mut fields, "limit", LIMIT_DEFAULT, LIMIT, faults),
            min_quality: schema::number_at_least(&mut fields, "min_quality", 0.0, 0.0, faults),
        }
    }
}

/// Where a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AccessLevel {
    /// Ratio under 0.1, grace over.
    Blocked,
    /// Ratio from 0.1, or in grace.
    Basic,
    /// Ratio from 0.5.
    Intermediate,
    /// Ratio from 1.0.
    Advanced,
    /// Ratio from 2.0, or gave and never took.
    Contributor,
    /// Verified.
    Twilight,
}

impl AccessLevel {
    /// Twilight for verified nodes, else the tier.
    pub(crate) fn of(standing: &Standing) -> AccessLevel {
        if standing.verified {
            AccessLevel::Twilight
        } else {
            AccessLevel::from(standing.tier)
        }
    }
}

impl From<Tier> for AccessLevel {
    fn from(tier: Tier) -> AccessLevel {
        match tier {
            Tier::Blocked => AccessLevel::Blocked,
            Tier::Basic => AccessLevel::Basic,
            Tier::Intermediate => AccessLevel::Intermediate,
            Tier::Advanced => AccessLevel::Advanced,
            Tier::Contributor => AccessLevel::Contributor,
            Tier::Twilight => AccessLevel::Twilight,
        }
    }
}

/// Whether the registration is new.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Registration {
    /// The node is a member from now on.
    Registered,
    /// It was one before.
    AlreadyRegistered,
}

/// A membership.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RegisterAnswer {
    pub(crate) status: Registration,
    /// The name to send as `X-Node-ID`.
    pub(crate) node_id: String,
    pub(crate) access_level: AccessLevel,
    /// RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) registered_at: String,
    /// Whether the constant was given, now or before.
    pub(crate) verified: bool,
    /// For people.
    pub(crate) message: &'static str,
}

/// A literal `success`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Success {
    /// It was done.
    Success,
}

/// What a contribution earned.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ContributeAnswer {
    pub(crate) status: Success,
    /// Concepts nobody had contributed before.
    pub(crate) new_concepts: u64,
    /// Concepts the pool already had, or had twice in this request.
    pub(crate) duplicate_concepts: u64,
    /// Their sum.
    pub(crate) total_submitted: u64,
    /// Earned by this call.
    pub(crate) contribution_value: f64,
    /// Earned in all.
    pub(crate) contribution_score: f64,
    pub(crate) access_level: AccessLevel,
}

/// A concept of the pool. Documentation only: answers carry the stored text itself.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "describes what `knowledge` splices together from stored text")]
pub(crate) struct KnownConcept {
    /// As contributed, without identifying fields; number text and key order are kept.
    #[schema(value_type = Object)]
    concept: Value,
    /// usage_count / max(1, days since first contributed).
    quality_score: f64,
    /// Deliveries so far.
    usage_count: u64,
}

/// Concepts of the pool. Documentation only.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "describes what `knowledge` splices together from stored text")]
pub(crate) struct KnowledgeAnswer {
    status: Success,
    /// Best quality first, then relevance, then first contributed.
    concepts: Vec<KnownConcept>,
    /// How many.
    count: usize,
    /// Always true: the request cost 1.0.
    consumption_recorded: bool,
}

impl KnowledgeAnswer {
    /// The answer's text. Concepts are spliced in as they are stored: parsing and writing them again could only change them.
    pub(crate) fn text(delivered: &[Delivered]) -> String {
        /// Bytes around each concept, roughly.
        const FRAME: usize = 80;
        let concepts: usize = delivered.iter().map(|concept| concept.json.len() + FRAME).sum();
        let mut text = String::with_capacity(concepts + 2 * FRAME);
        text.push_str(r#"{"status":"success","concepts":["#);
        for (index, concept) in delivered.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            text.push_str(r#"{"concept":"#);
            text.push_str(&concept.json);
            text.push_str(r#","quality_score":"#);
            text.push_str(&float(concept.quality));
            text.push_str(r#","usage_count":"#);
            text.push_str(&concept.usage.to_string());
            text.push('}');
        }
        text.push_str(r#"],"count":"#);
        text.push_str(&delivered.len().to_string());
        text.push_str(r#","consumption_recorded":true}"#);
        text
    }
}

/// A double as Python prints it: `2.0`, not `2`.
fn float(value: f64) -> String {
    serde_json::to_string(&value).expect("a double always serialises")
}

/// A member's account.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatusAnswer {
    pub(crate) node_id: String,
    pub(crate) registered: bool,
    /// Earned in all.
    pub(crate) contribution_score: f64,
    /// Spent in all.
    pub(crate) consumption_score: f64,
    /// Earned / spent; 0 when nothing was spent.
    pub(crate) contribution_ratio: f64,
    pub(crate) access_level: AccessLevel,
    pub(crate) tier: AccessLevel,
    /// Whether the gate is open.
    pub(crate) allowed: bool,
}

impl StatusAnswer {
    pub(crate) fn new(node_id: String, standing: &Standing) -> StatusAnswer {
        StatusAnswer {
            node_id,
            registered: standing.registered_at.is_some(),
            contribution_score: standing.contributed,
            consumption_score: standing.consumed,
            contribution_ratio: standing.ratio,
            access_level: AccessLevel::of(standing),
            tier: standing.tier.into(),
            allowed: standing.allowed,
        }
    }
}

/// The pool in numbers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatsAnswer {
    #[schema(example = "ok")]
    pub(crate) status: &'static str,
    pub(crate) federation: FederationStats,
    /// RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) timestamp: String,
}

/// The pool in numbers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FederationStats {
    pub(crate) total_concepts: u64,
    pub(crate) total_contributors: u64,
    pub(crate) average_quality: f64,
}

/// RFC 3339 in UTC, always with six digits and `+00:00`, which Python's `fromisoformat` reads in every version.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    let microseconds = i64::try_from(time.0).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_microsecond(microseconds).unwrap_or(jiff::Timestamp::MAX);
    time.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string()
}
