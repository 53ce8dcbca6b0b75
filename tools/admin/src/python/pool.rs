//! The pool: `shared/knowledge.json`.

use std::collections::HashMap;

use engine::json::Anonymiser;
use serde_json::Value;

use super::{Error, Pooled, Reading, count, dumps, member_id, name, time, value};
use crate::rules;

const KNOWLEDGE: &str = "shared/knowledge.json";

pub(super) fn read(reading: &mut Reading<'_>) -> Result<(), Error> {
    let Some(found) = reading.text(KNOWLEDGE)? else {
        return Ok(());
    };
    let Some(whole) = reading.fields(KNOWLEDGE, &found) else {
        return Ok(());
    };
    let part = |wanted: &str| whole.iter().find(|field| field.name == wanted).map(|field| field.value);
    let mut contributors = HashMap::new();
    for field in part("\"attributions\"").map_or(Vec::new(), |text| reading.inner(KNOWLEDGE, "attributions", text)) {
        match value(field.value).and_then(|names| names_of(&names)) {
            Ok(names) => drop(contributors.insert(field.name, names)),
            Err(what) => reading.fault(KNOWLEDGE, field.name, what),
        }
    }
    let Some(concepts) = part("\"concepts\"") else {
        reading.fault(
            KNOWLEDGE,
            "",
            "there are no `concepts` in it: it is no pool of the Python system",
        );
        return Ok(());
    };
    for field in reading.inner(KNOWLEDGE, "concepts", concepts) {
        match pooled(field.name, field.value) {
            Ok(mut pooled) => {
                pooled.contributors = contributors.remove(field.name).unwrap_or_default();
                reading.store.pool.push(pooled);
            }
            Err(what) => reading.fault(KNOWLEDGE, field.name.trim_matches('"'), what),
        }
    }
    Ok(())
}

fn names_of(names: &Value) -> Result<Vec<String>, String> {
    let wrong = || format!("attributions must be a list of names, were {names}");
    let items = names.as_array().ok_or_else(wrong)?;
    let name = |item: &Value| member_id(item.as_str().ok_or_else(wrong)?);
    items.iter().map(name).collect()
}

fn pooled(sum: &str, text: &str) -> Result<Pooled, String> {
    let sum = name(sum)?;
    let entry = value(text)?;
    let concept = entry
        .get("concept")
        .filter(|concept| concept.is_object())
        .ok_or("there is no `concept` in it that is an object")?;
    let found = dumps::sum(concept);
    if found != sum {
        return Err(format!(
            "the concept has the SHA-256 {found}: it is not what was written"
        ));
    }
    if let Some(stated) = entry.get("hash").and_then(Value::as_str)
        && stated != sum
    {
        return Err(format!("its `hash` is {stated}"));
    }
    let mut anonymised = concept.clone();
    Anonymiser::default().anonymise(&mut anonymised);
    if anonymised.as_object().is_some_and(serde_json::Map::is_empty) {
        return Err("nothing is left of the concept once it is anonymised".to_owned());
    }
    Ok(Pooled {
        json: rules::value(concept)?,
        first_contributed: time(&entry, "first_contributed")?,
        usage_count: count(&entry, "usage_count")?,
        contributors: Vec::new(),
        place: format!("{KNOWLEDGE}: {sum}"),
    })
}
