//! `/federation/*`: each handler is its order of checks, top to bottom.
//!
//! ```text
//!  Door::receive      415 413        (async: bytes arrive)
//!  read               400 422 401 422 429 400/413    (off the async workers when the body is large)
//!  Contribution       429 403 409 …  (decided by the ledger)
//! ```

use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, Response, header},
    response::IntoResponse,
};
use engine::{
    json::{self, Anonymiser, ContentHash},
    ledger::{Idempotency, Limited, NodeId, PoolConcept},
};
use serde_json::Value;

use super::{
    Face,
    caller::{self, Credentials},
    door::{self, Received},
    openapi::{ContributeRefusals, KnowledgeRefusals, RegisterRefusals, StatsRefusals, StatusRefusals},
    problem::{Code, Problem, Step},
    refusals::internal,
    schema::Faults,
    shapes::{
        AccessLevel, ContributeAnswer, ContributeRequest, FederationStats, KnowledgeAnswer, KnowledgeRequest,
        RegisterAnswer, RegisterRequest, Registration, StatsAnswer, StatusAnswer, Success, rfc3339,
    },
};
use crate::{
    contribution::Contribution,
    runtime::{listener::Peer, tasks},
};

/// Concepts of one contribution.
const CONCEPTS_MAX: usize = 1_000;
/// Bytes of one concept, written without white space.
const CONCEPT_BYTES_MAX: usize = 64 * 1024;
/// Levels of one concept; a flat object has one.
const CONCEPT_LEVELS_MAX: usize = 64;
/// Bodies up to this size are read where they arrive; larger ones would hold up the other connections of the worker.
const INLINE_BYTES_MAX: usize = 16 * 1024;

const REGISTER: &str = "/federation/register";
const CONTRIBUTE: &str = "/federation/contribute";
const KNOWLEDGE: &str = "/federation/knowledge";

/// Runs the reading of `body` where it does no harm.
async fn reading<T: Send + 'static>(
    bytes: usize,
    read: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    if bytes <= INLINE_BYTES_MAX {
        return read();
    }
    tasks::blocking(read)
        .await
        .unwrap_or_else(|| Err(internal("reading a request body panicked, or the node is stopping")))
}

/// Become a member, or verify yourself later.
///
/// Without a `node_id` one is made. Registering again changes nothing, but with the constant it upgrades the node.
#[utoipa::path(post, path = REGISTER, tag = "federation", request_body = RegisterRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe: 1 to 255 visible characters")),
    responses((status = 200, description = "A member, now or before", body = RegisterAnswer), RegisterRefusals))]
pub(crate) async fn register(
    State(face): State<Face>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RegisterAnswer>, Problem> {
    let received = face.door.receive(&headers, body).await?;
    let body = door::parse(&received.bytes)?;
    let mut faults = Faults::default();
    let key = caller::idempotency_key(&headers, &mut faults);
    let request = RegisterRequest::read(body, &mut faults);
    let loc = || vec![Step::Name("body"), Step::Name("node_id")];
    let node = request
        .node_id
        .as_deref()
        .and_then(|id| caller::node_id(id, loc(), &mut faults));
    faults.none()?;
    // A name cannot hold control characters, so no member can be taken for the nameless of an address.
    let nameless = || {
        format!(
            "\u{1}{}",
            peer.map_or_else(String::new, |Extension(peer)| peer.address.ip().to_string())
        )
    };
    let caller = request.node_id.unwrap_or_else(nameless);
    let retry = caller::idempotency(key, &caller, REGISTER, &received.bytes);
    let registered = face.contribution.register(node, request.verify_constant, retry).await?;
    let (status, message) = if registered.already {
        (Registration::AlreadyRegistered, "This node is a member already.")
    } else {
        (
            Registration::Registered,
            "Welcome. Name this node_id in X-Node-ID, and contribute before you draw.",
        )
    };
    Ok(Json(RegisterAnswer {
        status,
        node_id: registered.node.as_str().to_owned(),
        access_level: AccessLevel::of(&registered.standing),
        registered_at: rfc3339(registered.registered_at),
        verified: registered.standing.verified,
        message,
    }))
}

/// Give concepts to the shared pool.
///
/// All or nothing: one bad concept refuses the request and is named by its index.
#[utoipa::path(post, path = CONTRIBUTE, tag = "federation", request_body = ContributeRequest, security(("node_id" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe: 1 to 255 visible characters")),
    responses((status = 200, description = "What it earned", body = ContributeAnswer), ContributeRefusals))]
pub(crate) async fn contribute(
    State(face): State<Face>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ContributeAnswer>, Problem> {
    let received = face.door.receive(&headers, body).await?;
    let contribution = face.contribution.clone();
    let offering = reading(received.bytes.len(), move || {
        Offering::read(&contribution, &headers, &received)
    })
    .await?;
    let Offering { node, concepts, retry } = offering;
    let total_submitted = concepts.len() as u64;
    let contributed = face.contribution.contribute(node, concepts, retry).await?;
    #[allow(clippy::cast_precision_loss, reason = "at most 1,000")]
    let contribution_value = contributed.new as f64;
    Ok(Json(ContributeAnswer {
        status: Success::Success,
        new_concepts: contributed.new,
        duplicate_concepts: contributed.duplicates,
        total_submitted,
        contribution_value,
        contribution_score: contributed.standing.contributed,
        access_level: AccessLevel::of(&contributed.standing),
    }))
}

/// Whether a call may go on, by applied state; the ledger has the last word.
///
/// The retry of a request that counted must not be refused for the room it used up itself, so with a key the 429 waits
/// until the payload was looked at: a good one goes to the ledger, which knows the key.
fn limited(contribution: &Contribution, node: &NodeId, kind: Limited) -> Result<(), Problem> {
    match contribution.limited(node, kind)? {
        Some(refusal) => Err(refusal.into()),
        None => Ok(()),
    }
}

/// A contribution that has passed every check but the ledger's.
struct Offering {
    node: NodeId,
    concepts: Vec<PoolConcept>,
    retry: Option<Idempotency>,
}

impl Offering {
    fn read(contribution: &Contribution, headers: &HeaderMap, received: &Received) -> Result<Offering, Problem> {
        let body = door::parse(&received.bytes)?;
        let credentials = Credentials::of(headers)?;
        let mut faults = Faults::default();
        let node = credentials.node(&mut faults);
        let key = caller::idempotency_key(headers, &mut faults);
        let request = ContributeRequest::read(body, &mut faults);
        faults.none()?;
        let node = node.expect("a name that is none was reported as a fault");
        let room = limited(contribution, &node, Limited::Contribute);
        if key.is_none() {
            room.clone()?;
        }
        let concepts = pool_concepts(contribution.anonymiser(), request.concepts, received.bytes.len())
            .map_err(|problem| room.err().unwrap_or(problem))?;
        let retry = caller::idempotency(key, node.as_str(), CONTRIBUTE, &received.bytes);
        Ok(Offering { node, concepts, retry })
    }
}

/// Payload rules, anonymisation and identity. `body_bytes` bounds every concept's size.
fn pool_concepts(
    anonymiser: &Anonymiser,
    concepts: Vec<Value>,
    body_bytes: usize,
) -> Result<Vec<PoolConcept>, Problem> {
    if concepts.is_empty() {
        return Err(Problem::new(
            Code::EmptyConcepts,
            "concepts is empty; send at least one",
        ));
    }
    if concepts.len() > CONCEPTS_MAX {
        let sent = concepts.len();
        return Err(Problem::new(
            Code::TooManyConcepts,
            format!("{sent} concepts in one request; send at most {CONCEPTS_MAX} at a time"),
        ));
    }
    concepts
        .into_iter()
        .enumerate()
        .map(|(index, concept)| pool_concept(anonymiser, index, concept, body_bytes))
        .collect()
}

fn pool_concept(
    anonymiser: &Anonymiser,
    index: usize,
    mut concept: Value,
    body_bytes: usize,
) -> Result<PoolConcept, Problem> {
    // Written without white space, a concept is never longer than it was sent.
    if body_bytes > CONCEPT_BYTES_MAX && written_bytes(&concept) > CONCEPT_BYTES_MAX {
        let kibibytes = CONCEPT_BYTES_MAX / 1024;
        return Err(Problem::new(
            Code::ConceptTooLarge,
            format!("concepts[{index}] is over {kibibytes} KiB; split it. Nothing of this request was taken"),
        ));
    }
    if json::depth(&concept) > CONCEPT_LEVELS_MAX {
        return Err(Problem::new(
            Code::ConceptTooDeep,
            format!(
                "concepts[{index}] is nested over {CONCEPT_LEVELS_MAX} levels; flatten it. Nothing of this request was taken"
            ),
        ));
    }
    anonymiser.anonymise(&mut concept);
    if concept.as_object().is_none_or(serde_json::Map::is_empty) {
        return Err(Problem::new(
            Code::EmptyConcept,
            format!(
                "concepts[{index}] has nothing left after anonymisation; name what it is about. Nothing of this request was taken"
            ),
        ));
    }
    Ok(PoolConcept {
        hash: ContentHash::of(&concept),
        json: json::to_text(&concept),
    })
}

/// Bytes of a value written without white space.
fn written_bytes(value: &Value) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, value).expect("counting does not fail");
    count.0
}

/// Draw from the shared pool.
///
/// Costs 1.0 whatever it finds, and passes the gate only while the ratio allows it.
#[utoipa::path(post, path = KNOWLEDGE, tag = "federation", request_body = KnowledgeRequest, security(("node_id" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe: 1 to 255 visible characters")),
    responses((status = 200, description = "Concepts, the best first", body = KnowledgeAnswer), KnowledgeRefusals))]
pub(crate) async fn knowledge(
    State(face): State<Face>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response<Body>, Problem> {
    let received = face.door.receive(&headers, body).await?;
    let contribution = face.contribution.clone();
    let question = reading(received.bytes.len(), move || {
        Question::read(&contribution, &headers, &received)
    })
    .await?;
    let Question { node, request, retry } = question;
    let limit = request.limit as usize;
    let query = request.query.unwrap_or_default();
    let delivered = face
        .contribution
        .knowledge(node, &query, limit, request.min_quality, retry)
        .await?;
    let text = KnowledgeAnswer::text(&delivered);
    Ok((
        [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))],
        text,
    )
        .into_response())
}

/// A question that has passed every check but the ledger's.
struct Question {
    node: NodeId,
    request: KnowledgeRequest,
    retry: Option<Idempotency>,
}

impl Question {
    fn read(contribution: &Contribution, headers: &HeaderMap, received: &Received) -> Result<Question, Problem> {
        let body = door::parse(&received.bytes)?;
        let credentials = Credentials::of(headers)?;
        let mut faults = Faults::default();
        let node = credentials.node(&mut faults);
        let key = caller::idempotency_key(headers, &mut faults);
        let request = KnowledgeRequest::read(body, &mut faults);
        faults.none()?;
        let node = node.expect("a name that is none was reported as a fault");
        if key.is_none() {
            limited(contribution, &node, Limited::Knowledge)?;
        }
        let retry = caller::idempotency(key, node.as_str(), KNOWLEDGE, &received.bytes);
        Ok(Question { node, request, retry })
    }
}

/// Your account.
#[utoipa::path(get, path = "/federation/status", tag = "federation", security(("node_id" = [])),
    responses((status = 200, description = "The account", body = StatusAnswer), StatusRefusals))]
pub(crate) async fn status(State(face): State<Face>, headers: HeaderMap) -> Result<Json<StatusAnswer>, Problem> {
    let mut faults = Faults::default();
    let node = Credentials::of(&headers)?.node(&mut faults);
    faults.none()?;
    let node = node.expect("a name that is none was reported as a fault");
    let standing = face.contribution.status(&node)?;
    Ok(Json(StatusAnswer::new(node.as_str().to_owned(), &standing)))
}

/// The pool in numbers; nobody need say who they are.
#[utoipa::path(get, path = "/federation/stats", tag = "federation",
    responses((status = 200, description = "The numbers", body = StatsAnswer), StatsRefusals))]
pub(crate) async fn stats(State(face): State<Face>) -> Result<Json<StatsAnswer>, Problem> {
    let stats = face.contribution.stats()?;
    Ok(Json(StatsAnswer {
        status: "ok",
        federation: FederationStats {
            total_concepts: stats.concepts,
            total_contributors: stats.contributors,
            average_quality: stats.average_quality,
        },
        timestamp: rfc3339(face.clock.now()),
    }))
}
