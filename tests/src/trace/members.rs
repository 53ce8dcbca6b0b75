//! What one member of a cluster answers the others, and what must be synced before.
//!
//! ```text
//!  Vote     request (not a pre-vote) ─► sync ─► granted
//!  Append   entries, read             ─► sync ─► stored, up to an index: every entry up to there that was not answered before
//!  Install  an image, read            ─► sync ─► installed: it stands for every entry up to where it goes
//! ```
//!
//! Which call it is does not stand in the trace, for its path is compressed: request and answer together say it. No answer
//! of another call reads as a vote that was granted, or as entries stored.

use std::collections::{BTreeMap, BTreeSet};

use engine::image;
use prost::Message as _;
use proto::v1::{
    AppendRequest, AppendResponse, InstallRequest, InstallResponse, VoteRequest, VoteResponse, append_response::Outcome,
};

use super::{Event, Exchange, Synced, Trace, completes_a_sync};

/// What was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Promises {
    /// Votes given.
    pub votes: u64,
    /// Answers that say that something new is stored.
    pub appends: u64,
    /// Images installed.
    pub images: u64,
    /// Where in the events stand the answers that no sync covers.
    pub uncovered: Vec<usize>,
}

/// Its index and its record.
type Entry = (u64, Vec<u8>);

/// A message, and where in the events it stands.
type Heard = (usize, Vec<u8>);

impl Trace {
    /// Looks at every vote given and every entry said to be stored.
    #[must_use]
    pub fn promises(&self) -> Promises {
        let mut promises = Promises::default();
        let mut heard: BTreeMap<Exchange, Vec<Heard>> = BTreeMap::new();
        let mut answered: BTreeMap<Exchange, usize> = BTreeMap::new();
        // By index and record: where those were read first that were not promised yet. A leader sends some twice.
        let mut entries: BTreeMap<Entry, usize> = BTreeMap::new();
        let mut promised: BTreeSet<Entry> = BTreeSet::new();
        // Entries before this index are in an image.
        let mut first = 0;
        for (at, event) in self.events.iter().enumerate() {
            let Event::Message {
                on,
                by_caller,
                written,
                bytes,
            } = event
            else {
                continue;
            };
            if *by_caller && *written {
                // What it sent as a leader is its own: clients are told of it, not other members.
                let sent = append_request(&bytes.0).map(|request| request.entries);
                promised.extend(sent.into_iter().flatten().map(|entry| (entry.index, entry.record)));
            } else if *by_caller {
                for entry in append_request(&bytes.0)
                    .map(|request| request.entries)
                    .unwrap_or_default()
                {
                    let entry = (entry.index, entry.record);
                    if entry.0 >= first && !promised.contains(&entry) {
                        entries.entry(entry).or_insert(at);
                    }
                }
                heard.entry(*on).or_default().push((at, bytes.0.clone()));
            }
            if *by_caller {
                continue;
            }
            let answers = answered.entry(*on).or_default();
            let heard = heard.get(on).map(Vec::as_slice).unwrap_or_default();
            let Some((asked_at, request)) = heard.get(*answers) else {
                continue;
            };
            *answers += 1;
            if let Some(next) = behind_image(heard, &bytes.0) {
                first = next;
                entries = entries.split_off(&(next, Vec::new()));
                promises.images += 1;
                let whole = heard.last().map_or(*asked_at, |(at, _)| *at);
                self.cover(whole, at, &mut promises);
            } else if is_vote(request, &bytes.0) {
                promises.votes += 1;
                self.cover(*asked_at, at, &mut promises);
            } else if let Some(stored) = stored(request, &bytes.0) {
                let behind = entries.split_off(&(stored + 1, Vec::new()));
                let stored = std::mem::replace(&mut entries, behind);
                let newest = stored.values().max().copied();
                promised.extend(stored.into_keys());
                if let Some(newest) = newest {
                    promises.appends += 1;
                    self.cover(newest, at, &mut promises);
                }
            }
        }
        promises
    }

    fn cover(&self, from: usize, at: usize, promises: &mut Promises) {
        if !completes_a_sync(&self.events[from..at], Synced::Log) {
            promises.uncovered.push(at);
        }
    }
}

fn is_vote(request: &[u8], answer: &[u8]) -> bool {
    let given = VoteResponse::decode(answer).is_ok_and(|answer| answer.granted && answer.ballot.is_some());
    given && VoteRequest::decode(request).is_ok_and(|request| request.ballot.is_some() && !request.pre)
}

/// The index behind the image in these messages, if it is one that was installed.
fn behind_image(pieces: &[Heard], answer: &[u8]) -> Option<u64> {
    InstallResponse::decode(answer).ok()?.ballot?;
    let mut bytes = Vec::new();
    for (_, piece) in pieces {
        bytes.extend_from_slice(&InstallRequest::decode(&piece[..]).ok()?.data);
    }
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), bytes).expect("room for an image");
    let applied = image::check(file.path()).ok()?;
    Some(applied.last.map_or(0, |last| last.index + 1))
}

fn append_request(bytes: &[u8]) -> Option<AppendRequest> {
    let request = AppendRequest::decode(bytes).ok()?;
    request.ballot.is_some_and(|ballot| ballot.committed).then_some(request)
}

/// The index up to which entries are stored, if that is what is answered.
fn stored(request: &[u8], answer: &[u8]) -> Option<u64> {
    append_request(request)?;
    match AppendResponse::decode(answer).ok()?.outcome? {
        Outcome::Stored(stored) => Some(stored.last?.index),
        Outcome::Conflict(_) | Outcome::Higher(_) => None,
    }
}
