//! `Admin/ExportStates` and `Admin/ImportStates`: whole states, as one replica gives them to another.
//!
//! ```text
//!  one iterator ─► states in key order ─► pages of ≤ 256 KiB ─► Outlet
//!  chunk ─► checked beside the workers ─► Engine::commit (Join) ─► under way (≤ 4) ─► durable ─► acknowledgement
//! ```
//!
//! What comes in is checked as strictly as what clients write: whoever reads it later relies on that. Actors are spelled out
//! here, and interned by whoever stores them.

use std::{collections::VecDeque, time::Duration};

use engine::{
    Batch, CommitError, Durability, Mutation, Pending,
    clock::Stamp,
    crdt::{Content, Dot, Entry, Rejected, State},
    identity::Actor,
    json,
    ledger::Namespace,
};
use prost::Message;
use proto::v1::{
    self as wire, ExportStatesRequest, ExportStatesResponse, ImportStatesRequest, ImportStatesResponse, KeyState, Seen,
    Sums, entry, import_states_response::Outcome,
};
use tonic::Streaming;

use super::{
    super::{
        directory, fields,
        flow::{self, Flow, Outlet},
        status::{self, Refused},
    },
    EXPORTS_MAX, Service,
};
use crate::runtime::{tasks, time};

/// A page ends once it holds so many bytes; only one with a single larger state is larger.
const PAGE_BYTES_MAX: usize = 256 * 1024;
/// A page ends once it has so many states.
const PAGE_STATES_MAX: usize = 1_000;
/// The most states in one chunk.
const CHUNK_STATES_MAX: usize = 1_000;
/// Chunks of one stream under way at once: enough that the next is there when a sync ends.
const CHUNKS_MAX: usize = 4;
/// After a chunk that was refused because the node is busy, the next is taken after this long.
const PAUSE: Duration = Duration::from_millis(100);
/// The most writers that a context may name: each is kept by the node for ever.
const WRITERS_MAX: usize = 1_000;
/// What other namespaces do not have.
const STATES: &str = "an export or import of states";
/// What a chunk's faults are found in.
const FIELD: &str = "states";
/// The longest name of a writer, in bytes.
const NODE_BYTES_MAX: usize = engine::NODE_BYTES_MAX;

impl Service {
    /// Begins an export.
    pub(super) fn export_checked(&self, request: &ExportStatesRequest) -> Result<Flow<ExportStatesResponse>, Refused> {
        let namespace = directory::mesh(self.engine().view(), "namespace", &request.namespace, STATES)?;
        let prefix = fields::prefix(&request.prefix)?.to_vec();
        let start_after = fields::bound("start_after", &request.start_after)?;
        let with_deleted = !request.omit_deleted;
        let place = std::sync::Arc::clone(&self.shared.exports).try_acquire_owned();
        let place = place.map_err(|_| Refused::ScansFull { max: EXPORTS_MAX })?;
        let settings = &self.shared.components.settings;
        let (outlet, flow) = flow::open(settings.stall_max, self.shared.components.stop.clone());
        let engine = self.engine().clone();
        tasks::start_blocking(move || {
            let _place = place;
            // Read before the iterator is made: the export holds every change up to it.
            let lsn = engine.committed().borrow().0;
            let mut page = ExportStatesResponse {
                lsn,
                states: Vec::new(),
            };
            let (mut bytes, mut gone) = (0, false);
            let walked = engine.concepts(namespace.id, &prefix, start_after.as_deref(), &mut |key, state| {
                if state.is_empty() && !with_deleted {
                    return !outlet.is_gone();
                }
                let state = message(key, &state);
                let size = state.encoded_len();
                let full = page.states.len() == PAGE_STATES_MAX || bytes + size > PAGE_BYTES_MAX;
                if full && !page.states.is_empty() {
                    gone = outlet.send_blocking(std::mem::take(&mut page)).is_err();
                    bytes = 0;
                }
                bytes += size;
                page.states.push(state);
                !gone
            });
            match walked {
                Ok(()) if gone => {}
                Ok(()) => {
                    // The last one, or the only one: it tells the position even when there is no state.
                    if outlet.send_blocking(page).is_ok() {
                        outlet.finish();
                    }
                }
                Err(error) => outlet.fail(error.into()),
            }
        });
        Ok(flow)
    }

    /// Takes chunks until the caller ends the stream.
    pub(super) fn import_checked(&self, chunks: Streaming<ImportStatesRequest>) -> Flow<ImportStatesResponse> {
        let settings = &self.shared.components.settings;
        let (outlet, flow) = flow::open(settings.stall_max, self.shared.components.stop.clone());
        let service = self.clone();
        tasks::spawn(async move { service.import(chunks, outlet).await });
        flow
    }

    async fn import(&self, mut chunks: Streaming<ImportStatesRequest>, outlet: Outlet<ImportStatesResponse>) {
        let stop = self.shared.components.stop.clone();
        let mut under_way = VecDeque::with_capacity(CHUNKS_MAX);
        let mut acknowledged = 0;
        loop {
            let chunk = tokio::select! {
                chunk = chunks.message(), if under_way.len() < CHUNKS_MAX => chunk,
                outcome = first(&mut under_way), if !under_way.is_empty() => {
                    under_way.pop_front();
                    if self.acknowledge(&outlet, &mut acknowledged, outcome).await.is_err() {
                        return;
                    }
                    continue;
                }
                () = stop.given() => return outlet.fail(Refused::Stopping),
                () = outlet.gone() => return,
            };
            match chunk {
                Ok(Some(chunk)) => under_way.push_back(self.send(chunk).await),
                Ok(None) => break,
                // The caller's connection, or a message that is none: it knows, or nobody listens.
                Err(_) => return,
            }
        }
        while !under_way.is_empty() {
            let outcome = first(&mut under_way).await;
            under_way.pop_front();
            if self.acknowledge(&outlet, &mut acknowledged, outcome).await.is_err() {
                return;
            }
        }
        outlet.finish();
    }

    /// Checks a chunk and sends it on its way.
    async fn send(&self, chunk: ImportStatesRequest) -> UnderWay {
        let service = self.clone();
        let sent = tasks::blocking(move || {
            let namespace = directory::mesh(service.engine().view(), "namespace", &chunk.namespace, STATES)?;
            let states = u32::try_from(chunk.states.len()).unwrap_or(u32::MAX);
            let batch = batch(&namespace, chunk.states)?;
            Ok((service.engine().commit(batch, Durability::Synced), states))
        });
        match sent.await.unwrap_or(Err(Refused::Confused)) {
            Ok((pending, states)) => UnderWay::Sent { pending, states },
            Err(refused) => UnderWay::Refused(Some(refused)),
        }
    }

    async fn acknowledge(
        &self,
        outlet: &Outlet<ImportStatesResponse>,
        acknowledged: &mut u64,
        outcome: Result<u32, Refused>,
    ) -> Result<(), flow::Gone> {
        let outcome = match outcome {
            Ok(states) => Outcome::States(states),
            Err(refused) => {
                if matches!(refused, Refused::Commit(CommitError::Busy)) {
                    time::sleep(PAUSE).await;
                }
                Outcome::Fault(status::embedded(&refused.into()))
            }
        };
        let chunk = *acknowledged;
        *acknowledged += 1;
        outlet
            .send(ImportStatesResponse {
                chunk,
                outcome: Some(outcome),
            })
            .await
    }
}

/// A chunk on its way to its acknowledgement.
enum UnderWay {
    Sent {
        pending: Pending,
        states: u32,
    },
    /// Empty once it was told.
    Refused(Option<Refused>),
}

/// What becomes of the first chunk under way. Dropped before it is ready, it may be asked again.
async fn first(under_way: &mut VecDeque<UnderWay>) -> Result<u32, Refused> {
    match under_way.front_mut() {
        Some(UnderWay::Sent { pending, states }) => match pending.await {
            Ok(_) => Ok(*states),
            Err(CommitError::Rejected {
                index,
                reason: Rejected::DotSeen { counter },
            }) => Err(Refused::StateAhead { counter }.at_place(FIELD, index)),
            Err(error) => Err(error.into()),
        },
        Some(UnderWay::Refused(refused)) => Err(refused.take().unwrap_or(Refused::Confused)),
        None => Err(Refused::Confused),
    }
}

fn batch(namespace: &Namespace, states: Vec<KeyState>) -> Result<Batch, Refused> {
    if !(1..=CHUNK_STATES_MAX).contains(&states.len()) {
        let rule = format!("must be 1 to {CHUNK_STATES_MAX}, were {}", states.len());
        return Err(Refused::field(FIELD, "STATES_COUNT", rule));
    }
    let mut mutations = Vec::with_capacity(states.len());
    for (index, state) in states.into_iter().enumerate() {
        let key = fields::key(&state.key).map_err(|refused| refused.at_place(FIELD, index))?;
        let state = read(state).map_err(|refused| refused.at_place(FIELD, index))?;
        mutations.push(Mutation::Join {
            namespace: namespace.id,
            key,
            state,
        });
    }
    Ok(Batch::of(mutations))
}

fn message(key: &[u8], state: &State) -> KeyState {
    let seen = state.context.0.iter().map(|(actor, counter)| Seen {
        node: actor.node.to_string(),
        incarnation: actor.incarnation,
        counter: *counter,
    });
    let entries = state.entries.iter().map(|(dot, entry)| wire::Entry {
        node: dot.actor.node.to_string(),
        incarnation: dot.actor.incarnation,
        counter: dot.counter,
        stamp: entry.stamp.0,
        expires: entry.expires.map(|stamp| stamp.0),
        content: Some(match &entry.content {
            Content::Register(json) => entry::Content::Register(json.clone()),
            Content::Sibling(json) => entry::Content::Sibling(json.clone()),
            Content::Element(json) => entry::Content::Element(json.clone()),
            Content::Sums { increments, decrements } => entry::Content::Sums(Sums {
                increments: *increments,
                decrements: *decrements,
            }),
        }),
    });
    KeyState {
        key: String::from_utf8_lossy(key).into_owned(),
        context: seen.collect(),
        entries: entries.collect(),
    }
}

/// The state in a message.
fn read(message: KeyState) -> Result<State, Refused> {
    let writers = message.context.len();
    if writers > WRITERS_MAX {
        return Err(unsound(format!(
            "its context names {writers} writers, at most {WRITERS_MAX} are taken"
        )));
    }
    let mut state = State::default();
    for seen in message.context {
        let actor = actor(&seen.node, seen.incarnation)?;
        if state.context.0.insert(actor, seen.counter).is_some() {
            return Err(unsound("its context names a writer twice"));
        }
    }
    for entry in message.entries {
        let dot = Dot {
            actor: actor(&entry.node, entry.incarnation)?,
            counter: entry.counter,
        };
        let content = entry.content.ok_or_else(|| unsound("an entry has no content"))?;
        let entry = Entry {
            stamp: Stamp(entry.stamp),
            expires: entry.expires.map(Stamp),
            content: read_content(content)?,
        };
        if state.entries.insert(dot, entry).is_some() {
            return Err(unsound("two entries are of one write"));
        }
    }
    if state.context.0.is_empty() {
        return Err(unsound("its context is empty: nobody has written it"));
    }
    if !state.is_sound() {
        return Err(unsound("an entry is outside of its context"));
    }
    Ok(state)
}

fn actor(node: &str, incarnation: u64) -> Result<Actor, Refused> {
    if (1..=NODE_BYTES_MAX).contains(&node.len()) {
        return Ok(Actor::new(node, incarnation));
    }
    let bytes = node.len();
    Err(unsound(format!(
        "a writer's name must be 1 to {NODE_BYTES_MAX} bytes, was {bytes}"
    )))
}

fn unsound(rule: impl Into<String>) -> Refused {
    Refused::field(FIELD, "STATE_UNSOUND", rule)
}

fn read_content(content: entry::Content) -> Result<Content, Refused> {
    Ok(match content {
        entry::Content::Register(json) => {
            fields::concept(FIELD, &json)?;
            Content::Register(json)
        }
        entry::Content::Sibling(json) => {
            fields::concept(FIELD, &json)?;
            Content::Sibling(json)
        }
        entry::Content::Element(json) => {
            if json::canonical(&fields::concept(FIELD, &json)?) != json {
                return Err(unsound("an element of a set must be canonical JSON (RFC 8785)"));
            }
            Content::Element(json)
        }
        entry::Content::Sums(Sums { increments, decrements }) => Content::Sums { increments, decrements },
    })
}
