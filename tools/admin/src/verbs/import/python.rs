//! A store of the Python system: read and checked as a whole, then members, concepts of the pool and replicated keys.
//!
//! Everything may be done twice: a score becomes at least what the store says, a concept that is known stays as it is, a
//! replicated key is joined as the state that it is.

use client::{
    Client,
    wire::{ImportPoolRequest, ImportPoolResponse, KeyState, PooledConcept},
};
use serde_json::{Value, json};

use super::{Import, chunks, ensure};
use crate::{
    error::{Code, Failure},
    python::{self, Error, Fault, Store},
    session::Session,
    show,
    verbs::namespaces::Policy,
};

/// Where replicated keys go when nothing else is said.
const NAMESPACE: &str = "replicated";
/// Members, or concepts, in one call.
const CALL_ITEMS_MAX: usize = 1_000;
/// Bytes of concepts in one call: a node takes 4 MiB.
const CALL_BYTES_MAX: usize = 2 << 20;
/// States in one chunk.
const CHUNK_STATES: usize = 500;

pub(super) async fn run(import: &Import, session: &Session) -> Result<(), Failure> {
    let namespace = import.namespace.clone().unwrap_or_else(|| NAMESPACE.to_owned());
    let store = python::read(&import.path, &namespace).map_err(|error| unreadable(&error))?;
    let stops = !store.faults.is_empty() && !import.skip_bad;
    let mut done = Done::default();
    if !stops && !import.dry_run {
        let client = session.client()?;
        done.pool = pool(&client, import, &store, session).await?;
        if !store.keys.is_empty() {
            let policy = import.strategy.unwrap_or(Policy::LastWriteWins);
            ensure(&client, &namespace, Some(policy), session).await?;
            done.states = states(&client, &namespace, &store, session).await?;
        }
    }
    tell(import, session, &namespace, &store, &done)?;
    if !stops {
        return Ok(());
    }
    let what = format!(
        "{} places of {} are not what was written",
        store.faults.len(),
        import.path.display()
    );
    let failure = Failure::new(Code::Data, what).changed(Some(client::Changed::No));
    Err(failure.next("put the files right, or leave out what is bad with --skip-bad"))
}

fn unreadable(error: &Error) -> Failure {
    match error {
        Error::NoStore(_) => Failure::new(Code::NoInput, error.to_string()).next("name the directory that holds them"),
        Error::Io { .. } => Failure::new(Code::NoInput, error.to_string()),
    }
}

/// What nodes said.
#[derive(Default)]
struct Done {
    pool: ImportPoolResponse,
    states: u64,
}

/// Members first: a concept may have been theirs.
async fn pool(
    client: &Client,
    import: &Import,
    store: &Store,
    session: &Session,
) -> Result<ImportPoolResponse, Failure> {
    let bar = session.output.count("importing the pool");
    let mut done = ImportPoolResponse::default();
    let mut calls: Vec<ImportPoolRequest> = store
        .members
        .chunks(CALL_ITEMS_MAX)
        .map(|members| ImportPoolRequest {
            members: members.to_vec(),
            ..ImportPoolRequest::default()
        })
        .collect();
    let mut bytes = 0;
    for pooled in &store.pool {
        let fits = bytes + pooled.json.len() <= CALL_BYTES_MAX;
        let room = calls
            .last()
            .is_some_and(|call| !call.concepts.is_empty() && call.concepts.len() < CALL_ITEMS_MAX);
        if !(fits && room) {
            calls.push(ImportPoolRequest::default());
            bytes = 0;
        }
        bytes += pooled.json.len();
        let concept = PooledConcept {
            json: pooled.json.clone(),
            first_contributed: pooled.first_contributed,
            usage_count: pooled.usage_count,
        };
        calls.last_mut().expect("one was pushed").concepts.push(concept);
    }
    let mut concepts = store.pool.iter();
    for mut call in calls {
        call.contributor.clone_from(&import.contributor);
        let items = call.members.len() + call.concepts.len();
        let places: Vec<&str> = concepts
            .by_ref()
            .take(call.concepts.len())
            .map(|pooled| pooled.place.as_str())
            .collect();
        let answer = client.admin().import_pool(call).await.map_err(|error| {
            let place = error
                .violations()
                .iter()
                .find_map(|violation| chunks::in_list(&violation.field, "concepts"));
            let place = place
                .and_then(|place| places.get(place))
                .map(|place| format!("{place}: "));
            let failure = Failure::new(Code::Data, format!("{}{error}", place.unwrap_or_default()));
            match error.kind() {
                client::Kind::Invalid => failure.next("what was imported before stays; put it right and run it again"),
                _ => Failure::from(error),
            }
        })?;
        done.members_new += answer.members_new;
        done.members_known += answer.members_known;
        done.concepts_new += answer.concepts_new;
        done.concepts_known += answer.concepts_known;
        bar.inc(items as u64);
    }
    bar.finish_and_clear();
    Ok(done)
}

async fn states(client: &Client, namespace: &str, store: &Store, session: &Session) -> Result<u64, Failure> {
    let bar = session.output.count("importing keys");
    let mut sending = client.admin().import_states(namespace);
    let mut acknowledged = Vec::new();
    for chunk in store.keys.chunks(CHUNK_STATES) {
        acknowledged.extend(sending.send(chunk.to_vec()).await?);
        bar.inc(chunk.len() as u64);
    }
    acknowledged.extend(sending.settle().await?);
    bar.finish_and_clear();
    let mut states = 0;
    for one in acknowledged {
        states += u64::from(one.outcome?);
    }
    Ok(states)
}

fn distinct(keys: &[KeyState]) -> usize {
    let names: std::collections::BTreeSet<&str> = keys.iter().map(|state| state.key.as_str()).collect();
    names.len()
}

fn tell(import: &Import, session: &Session, namespace: &str, store: &Store, done: &Done) -> Result<(), Failure> {
    let pool = &done.pool;
    let keys = distinct(&store.keys);
    let fault = |fault: &Fault| json!({ "file": fault.file, "key": fault.key, "what": fault.what });
    let json = json!({
        "form": "python",
        "namespace": namespace,
        "found": { "files": store.files, "members": store.members.len(), "concepts": store.pool.len(), "keys": keys },
        "members": { "new": pool.members_new, "known": pool.members_known },
        "concepts": { "new": pool.concepts_new, "known": pool.concepts_known },
        "states": done.states,
        "bad": store.faults.iter().map(fault).collect::<Vec<Value>>(),
        "dry_run": import.dry_run,
    });
    let output = &session.output;
    output.data(&json, || {
        let of =
            |new: u32, known: u32| format!("{} new, {} known", show::number(new.into()), show::number(known.into()));
        let found = format!(
            "{} members, {} concepts, {keys} replicated keys",
            store.members.len(),
            store.pool.len()
        );
        let mut facts = vec![("found", found)];
        if import.dry_run {
            facts.push(("written", "nothing: this was a dry run".to_owned()));
        } else if store.faults.is_empty() || import.skip_bad {
            facts.push(("members", of(pool.members_new, pool.members_known)));
            facts.push(("concepts", of(pool.concepts_new, pool.concepts_known)));
            facts.push((
                "keys",
                format!("{keys} in {namespace}, from {} replicas' states", done.states),
            ));
        }
        let facts = output.facts(&facts);
        if store.faults.is_empty() {
            return facts;
        }
        let rows = store
            .faults
            .iter()
            .map(|fault| vec![fault.file.clone(), fault.key.clone(), fault.what.clone()]);
        format!(
            "{facts}\n{}",
            output.table(&["FILE", "KEY", "WRONG"], &[], rows.collect())
        )
    })
}
