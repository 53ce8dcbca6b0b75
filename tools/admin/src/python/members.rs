//! Members: `NODE.json` and `contributions/contributions.json`, brought together by their ids.

use std::collections::BTreeMap;

use client::wire::{PoolContribution, PoolMember};
use serde_json::Value;

use super::{Error, Reading, count, member_id, name, text, time, value};

/// Totals and events of all members.
const CONTRIBUTIONS: &str = "contributions/contributions.json";
/// Events of one member that are taken over, the latest ones: a ledger keeps no more.
const EVENTS_MAX: usize = 100;

pub(super) fn read(reading: &mut Reading<'_>) -> Result<(), Error> {
    let mut members = BTreeMap::new();
    for file in reading.names("")? {
        let Some(found) = reading.text(&file)? else { continue };
        if reading.fields(&file, &found).is_none() {
            continue;
        }
        match value(&found).and_then(|node| registered(&node)) {
            Ok(member) => drop(members.insert(member.node_id.clone(), member)),
            Err(what) => reading.fault(&file, "", what),
        }
    }
    if let Some(found) = reading.text(CONTRIBUTIONS)? {
        for field in reading.fields(CONTRIBUTIONS, &found).unwrap_or_default() {
            let read = name(field.name).and_then(|id| {
                let id = member_id(&id)?;
                let given = value(field.value)?;
                let member = members.entry(id.clone()).or_insert_with(|| PoolMember {
                    node_id: id,
                    ..PoolMember::default()
                });
                credited(member, &given)
            });
            if let Err(what) = read {
                reading.fault(CONTRIBUTIONS, field.name, what);
            }
        }
    }
    reading.store.members = members.into_values().collect();
    Ok(())
}

/// A member by its own file.
fn registered(node: &Value) -> Result<PoolMember, String> {
    let id = text(node, "node_id")?.ok_or("it is no file of a member: there is no `node_id` in it")?;
    let is = |field: &str| node.get(field).and_then(Value::as_bool).unwrap_or(false);
    Ok(PoolMember {
        node_id: member_id(id)?,
        registered_at: if is("registered") {
            time(node, "registration_time")?
        } else {
            None
        },
        verified: is("_verified"),
        // Scores in this file are those of its start, always 0: the true ones are with the contributions.
        ..PoolMember::default()
    })
}

/// What a member gave and took.
fn credited(member: &mut PoolMember, given: &Value) -> Result<(), String> {
    let contributed = count(given, "contributed")?;
    let consumed = count(given, "consumed")?;
    let none = Vec::new();
    let events = given.get("contributions").and_then(Value::as_array).unwrap_or(&none);
    let latest = &events[events.len().saturating_sub(EVENTS_MAX)..];
    let event = |event: &Value| {
        Ok(PoolContribution {
            at: time(event, "timestamp")?,
            value: count(event, "value")?,
        })
    };
    member.contributions = latest.iter().map(event).collect::<Result<_, String>>()?;
    member.contributed = contributed;
    member.consumed = consumed;
    Ok(())
}
