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
    python::{self, Error, Fault, Pooled, Store},
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

/// One call, and where its concepts stand in the store.
#[derive(Default)]
struct Call {
    request: ImportPoolRequest,
    places: Vec<String>,
    bytes: usize,
}

/// Members first: a concept may have been theirs. One call has concepts of one contributor.
fn calls(import: &Import, store: &Store) -> Vec<Call> {
    let members = store.members.chunks(CALL_ITEMS_MAX).map(|members| Call {
        request: ImportPoolRequest {
            members: members.to_vec(),
            contributor: import.contributor.clone(),
            ..ImportPoolRequest::default()
        },
        ..Call::default()
    });
    let mut calls: Vec<Call> = members.collect();
    let contributor = |pooled: &Pooled| pooled.contributors.first().unwrap_or(&import.contributor).clone();
    let mut pool: Vec<&Pooled> = store.pool.iter().collect();
    pool.sort_by_cached_key(|pooled| contributor(pooled));
    for pooled in pool {
        let given_by = contributor(pooled);
        let has_room = calls.last().is_some_and(|call| {
            (1..CALL_ITEMS_MAX).contains(&call.request.concepts.len())
                && call.request.contributor == given_by
                && call.bytes + pooled.json.len() <= CALL_BYTES_MAX
        });
        if !has_room {
            let mut call = Call::default();
            call.request.contributor = given_by;
            calls.push(call);
        }
        let call = calls.last_mut().expect("one has room, or was pushed");
        call.bytes += pooled.json.len();
        call.places.push(pooled.place.clone());
        call.request.concepts.push(PooledConcept {
            json: pooled.json.clone(),
            first_contributed: pooled.first_contributed,
            usage_count: pooled.usage_count,
        });
    }
    calls
}

async fn pool(
    client: &Client,
    import: &Import,
    store: &Store,
    session: &Session,
) -> Result<ImportPoolResponse, Failure> {
    let bar = session.output.count("importing the pool");
    let mut done = ImportPoolResponse::default();
    for Call { request, places, .. } in calls(import, store) {
        let items = request.members.len() + request.concepts.len();
        let answer = client.admin().import_pool(request).await;
        let answer = answer.map_err(|error| refused(error, &places))?;
        done.members_new += answer.members_new;
        done.members_known += answer.members_known;
        done.concepts_new += answer.concepts_new;
        done.concepts_known += answer.concepts_known;
        bar.inc(items as u64);
    }
    bar.finish_and_clear();
    Ok(done)
}

/// Why a call failed, with the place of the concept that is to blame.
fn refused(error: client::Error, places: &[String]) -> Failure {
    let mut fields = error.violations().iter().map(|violation| violation.field.as_str());
    let index = fields.find_map(|field| chunks::in_list(field, "concepts"));
    let Some(place) = index.and_then(|index| places.get(index)) else {
        return error.into();
    };
    let failure = Failure::new(Code::Data, format!("{place}: {error}"));
    failure.next("what was imported before stays; put it right and run it again")
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

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};
    use client::wire::PoolMember;

    use super::*;

    fn pooled(number: usize, contributor: &str, bytes: usize) -> Pooled {
        Pooled {
            json: "x".repeat(bytes),
            first_contributed: None,
            usage_count: 0,
            contributors: (!contributor.is_empty())
                .then(|| contributor.to_owned())
                .into_iter()
                .collect(),
            place: format!("place {number}"),
        }
    }

    #[test]
    fn calls_are_bounded_and_keep_who_gave() {
        let words = ["import", "--from", "python", "DIR"];
        let matches = Import::augment_args(clap::Command::new("import"))
            .try_get_matches_from(words)
            .unwrap();
        let import = Import::from_arg_matches(&matches).unwrap();
        let mut pool: Vec<Pooled> = (0..2_500)
            .map(|number| pooled(number, ["berlin", "lagos"][number % 2], 10))
            .collect();
        pool.push(pooled(2_500, "", 10));
        pool.extend((2_501..2_504).map(|number| pooled(number, "big", CALL_BYTES_MAX / 2)));
        let store = Store {
            members: vec![PoolMember::default(); 1_001],
            pool,
            ..Store::default()
        };
        let calls = calls(&import, &store);
        let shapes: Vec<(&str, usize, usize)> = calls
            .iter()
            .map(|call| {
                (
                    call.request.contributor.as_str(),
                    call.request.members.len(),
                    call.request.concepts.len(),
                )
            })
            .collect();
        assert_eq!(
            shapes,
            [
                ("python-import", 1_000, 0),
                ("python-import", 1, 0),
                ("berlin", 0, 1_000),
                ("berlin", 0, 250),
                ("big", 0, 2),
                ("big", 0, 1),
                ("lagos", 0, 1_000),
                ("lagos", 0, 250),
                ("python-import", 0, 1),
            ]
        );
        assert_eq!(calls[3].places[0], "place 2000");
    }
}
