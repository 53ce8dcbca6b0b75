//! `Admin/ImportPool`: the members and concepts of another system's pool.
//!
//! Concepts are held to the rules of contributions: strict JSON, an object, anonymised here whatever was done there, and not
//! empty afterwards. What is taken over is decided by the ledger.

use engine::{
    clock::Timestamp,
    json::Anonymiser,
    keyspace::ledger::EVENTS_MAX,
    ledger::{AdoptedContribution, AdoptedMember, NodeId, PoolConcept},
};
use proto::v1::{ImportPoolRequest, ImportPoolResponse, PoolMember, PooledConcept};

use super::{
    super::{fields, status::Refused},
    Service,
};
use crate::{
    contribution::{Adopted, GivenConcept},
    runtime::tasks,
};

/// The most members, and the most concepts, of one call.
const ROWS_MAX: usize = 1_000;

impl Service {
    pub(super) async fn import_pool_checked(&self, request: ImportPoolRequest) -> Result<ImportPoolResponse, Refused> {
        let contribution = self.operations().contribution.clone();
        let rules = contribution.anonymiser().clone();
        // Up to 4 MiB of JSON are parsed: beside the workers that answer everybody else.
        let checked = tasks::blocking(move || check(request, &rules)).await;
        let (contributor, members, concepts) = checked.ok_or(Refused::Confused)??;
        let adopted = contribution.adopt(contributor, members, concepts).await;
        let Adopted {
            members_new,
            members_known,
            concepts_new,
            concepts_known,
        } = adopted.map_err(Refused::Contribution)?;
        let count = |rows: u64| u32::try_from(rows).unwrap_or(u32::MAX);
        Ok(ImportPoolResponse {
            members_new: count(members_new),
            members_known: count(members_known),
            concepts_new: count(concepts_new),
            concepts_known: count(concepts_known),
        })
    }
}

type Checked = (NodeId, Vec<AdoptedMember>, Vec<GivenConcept>);

fn check(request: ImportPoolRequest, rules: &Anonymiser) -> Result<Checked, Refused> {
    let ImportPoolRequest {
        members,
        concepts,
        contributor,
    } = request;
    for (field, rows) in [("members", members.len()), ("concepts", concepts.len())] {
        if rows > ROWS_MAX {
            let rule = format!("must be at most {ROWS_MAX}, were {rows}: use several calls");
            return Err(Refused::field(field, "ROWS_COUNT", rule));
        }
    }
    let contributor = node_id("contributor", contributor)?;
    let member =
        |(index, given): (usize, PoolMember)| member(given).map_err(|refused| refused.at_place("members", index));
    let members: Vec<AdoptedMember> = members.into_iter().enumerate().map(member).collect::<Result<_, _>>()?;
    let concept = |(index, given): (usize, PooledConcept)| {
        concept(given, rules).map_err(|refused| refused.at_place("concepts", index))
    };
    let concepts = concepts
        .into_iter()
        .enumerate()
        .map(concept)
        .collect::<Result<_, _>>()?;
    Ok((contributor, members, concepts))
}

fn member(given: PoolMember) -> Result<AdoptedMember, Refused> {
    let most = usize::from(EVENTS_MAX);
    if given.contributions.len() > most {
        let rule = format!("must be at most {most}, the latest");
        return Err(Refused::field("contributions", "ROWS_COUNT", rule));
    }
    let contribution = |given: &proto::v1::PoolContribution| {
        Ok(AdoptedContribution {
            at: time("contributions.at", given.at.as_ref())?.unwrap_or_default(),
            new: given.value,
        })
    };
    Ok(AdoptedMember {
        node: node_id("node_id", given.node_id)?,
        registered_at: time("registered_at", given.registered_at.as_ref())?,
        verified: given.verified,
        contributed: given.contributed,
        consumed: given.consumed,
        contributions: given
            .contributions
            .iter()
            .map(contribution)
            .collect::<Result<_, Refused>>()?,
    })
}

fn concept(given: PooledConcept, rules: &Anonymiser) -> Result<GivenConcept, Refused> {
    let value = fields::concept("json", &given.json)?;
    if !value.is_object() {
        return Err(Refused::field(
            "json",
            "CONCEPT_OBJECT",
            "a concept of the pool is a JSON object",
        ));
    }
    let Some(concept) = PoolConcept::new(value, rules) else {
        let rule = "nothing is left of it once what identifies is dropped";
        return Err(Refused::field("json", "CONCEPT_EMPTY", rule));
    };
    Ok(GivenConcept {
        concept,
        first_at: time("first_contributed", given.first_contributed.as_ref())?.unwrap_or_default(),
        usage: given.usage_count,
    })
}

fn node_id(field: &'static str, name: String) -> Result<NodeId, Refused> {
    NodeId::new(name).map_err(|error| Refused::field(field, "NODE_ID", error.to_string()))
}

/// A time from 1970 on; `None` when none is given.
fn time(field: &'static str, given: Option<&prost_types::Timestamp>) -> Result<Option<Timestamp>, Refused> {
    let Some(given) = given else { return Ok(None) };
    let micros = u64::try_from(given.seconds)
        .ok()
        .and_then(|seconds| seconds.checked_mul(1_000_000))
        .zip(u64::try_from(given.nanos).ok().filter(|nanos| *nanos < 1_000_000_000))
        .and_then(|(seconds, nanos)| seconds.checked_add(nanos / 1_000));
    match micros {
        Some(micros) => Ok(Some(Timestamp(micros))),
        None => Err(Refused::field(field, "TIME_RANGE", "must be a time from 1970 on")),
    }
}
