//! `Concepts/Watch`: every change of some keys, in the order of the log.
//!
//! ```text
//!  token ─► position ─┬─ no longer, or never, in this log ──────────────────────► resync, end
//!                     ├─ older than the feed keeps ─► catch up from the log itself ─┐
//!                     └─ recent ─► feed ◄───────────────────────────────────────────┘
//!                                    │ records above the position, filtered
//!                                    ▼
//!                              changes │ progress when there is nothing ─► Outlet
//! ```
//!
//! The log is kept for a watch only while it catches up, and then no longer than it may take: a slow or dead caller costs a
//! bounded time of log, and is told to begin anew.

use std::{collections::HashMap, sync::Arc, time::Duration};

use engine::{
    FollowError, Followed, Follower,
    keyspace::{NamespaceId, concepts},
    ledger::{Namespace, Replication, rows},
    store::{self, Family},
};
use prost::Message;
use proto::v1::{
    Change, Changes, Progress, Resync, ResyncReason, WatchRequest, WatchResponse, change, watch_response::Event,
};
use tokio::sync::{Semaphore, watch};
use wal::Lsn;

use super::{
    concepts::Service,
    feed::{Recent, Taken, WATCHED},
    fields,
    flow::{self, Flow, Gone, Outlet},
    render::Reader,
    status::Refused,
    token::{self, Resume},
};
use crate::runtime::{
    tasks,
    time::{self, Stopwatch},
};

/// A message is sent once it holds so many bytes; only a single larger change makes a larger one.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// A message is sent once it holds so many changes.
const MESSAGE_CHANGES_MAX: usize = 1_000;
/// Records looked at before others get their turn.
const RECORDS_MAX: usize = 256;
/// Watches that read the log for themselves at once.
const CATCHING_UP_MAX: usize = 4;

/// Bounds how many watches read the log at once: after a restart all of them come back together.
static CATCHING_UP: Semaphore = Semaphore::const_new(CATCHING_UP_MAX);

impl Service {
    /// Begins a watch.
    pub(super) fn watch_checked(&self, request: WatchRequest) -> Result<Flow<WatchResponse>, Refused> {
        let namespace = self.namespace(&request.namespace)?;
        let prefix = fields::prefix(&request.prefix)?;
        // Attached before the position is taken: what comes from now on is kept for us.
        let recent = self.feed().attach()?;
        let now = *self.engine().committed().borrow();
        let begin = match request.resume_token.as_slice() {
            [] => Ok(now),
            sealed => {
                let opened = token::open_position(self.key(), namespace.id, prefix, sealed, &self.engine().cluster())?;
                self.place_of(opened, now)
            }
        };
        let place = self.watch_place()?;
        let (outlet, flow) = flow::open(self.settings().stall_max, self.stop());
        let mut watch = Watch {
            rows: concepts::key(namespace.id, prefix),
            family: match namespace.policy.replication {
                Replication::Mesh => Family::Concepts,
                Replication::Consensus => Family::Consensus,
            },
            prefix: prefix.to_vec(),
            name: request.namespace,
            namespace: namespace.id,
            with_contexts: !request.omit_contexts,
            at: begin.unwrap_or(now),
            service: self.clone(),
            outlet,
            reached: recent.reached(),
            recent,
            silence: Stopwatch::start(),
        };
        tasks::spawn(async move {
            let _place = place;
            let ended = match begin {
                Ok(_) => watch.run().await,
                Err(reason) => Err(End::Resync(reason)),
            };
            if let Err(end) = ended {
                watch.end(end).await;
            }
        });
        Ok(flow)
    }

    /// Where a token's bearer goes on, or why it cannot.
    fn place_of(&self, resume: Resume, now: Lsn) -> Result<Lsn, ResyncReason> {
        match resume {
            Resume::OtherCluster => Err(ResyncReason::OtherCluster),
            Resume::Position(position) if position.incarnation != self.engine().actor().incarnation => {
                Err(ResyncReason::OtherLog)
            }
            Resume::Position(position) if position.lsn > now.0 => Err(ResyncReason::LogBehind),
            Resume::Position(position) => Ok(Lsn(position.lsn)),
        }
    }
}

/// One watch.
struct Watch {
    service: Service,
    /// The namespace's name: how it is read may change while it is watched.
    name: String,
    namespace: NamespaceId,
    prefix: Vec<u8>,
    /// What the rows of matching keys begin with.
    rows: Vec<u8>,
    /// Where they lie.
    family: Family,
    with_contexts: bool,
    /// Everything up to here has been sent.
    at: Lsn,
    recent: Arc<Recent>,
    reached: watch::Receiver<Lsn>,
    outlet: Outlet<WatchResponse>,
    /// Since the last message.
    silence: Stopwatch,
}

/// Key and value of a row that was written; without a value it was taken away.
type Row<'a> = (&'a [u8], Option<&'a [u8]>);

/// Why a watch ends.
enum End {
    /// The caller is gone, or the stream was ended.
    Gone,
    /// The caller must begin anew.
    Resync(ResyncReason),
    /// The caller is told what is wrong.
    Failed(Refused),
}

impl From<Gone> for End {
    fn from(_: Gone) -> End {
        End::Gone
    }
}

impl From<Refused> for End {
    fn from(refused: Refused) -> End {
        End::Failed(refused)
    }
}

impl From<FollowError> for End {
    fn from(error: FollowError) -> End {
        match error {
            FollowError::Log(wal::Error::Retired { .. }) => End::Resync(ResyncReason::LogRetired),
            error => End::Failed(Refused::Log(error.to_string())),
        }
    }
}

impl Watch {
    async fn run(&mut self) -> Result<(), End> {
        self.tell(Event::Progress(Progress {})).await?;
        loop {
            self.reached.mark_unchanged();
            match self.recent.above(self.at, RECORDS_MAX)? {
                Taken::Passed => {
                    self.catch_up().await?;
                    continue;
                }
                Taken::Records { records, reached } => {
                    self.deliver(&records).await?;
                    if reached > self.at || !records.is_empty() {
                        self.at = reached;
                        continue;
                    }
                }
            }
            let (stop, patience) = (self.service.stop(), self.patience());
            tokio::select! {
                _ = self.reached.changed() => {}
                () = time::sleep(patience) => {}
                () = self.outlet.gone() => return Err(End::Gone),
                () = stop.given() => return Err(End::Failed(Refused::Stopping)),
            }
            self.break_silence().await?;
        }
    }

    /// Reads the log itself, until what is left is recent. The log is kept meanwhile, so that has an end.
    async fn catch_up(&mut self) -> Result<(), End> {
        let limit = self.service.settings().catch_up_max;
        let caught_up = time::within(limit, self.read_log(limit)).await;
        caught_up.unwrap_or(Err(End::Resync(ResyncReason::TooSlow)))
    }

    async fn read_log(&mut self, limit: Duration) -> Result<(), End> {
        let clock = Stopwatch::start();
        let mut follower = self.service.engine().follow("watch catching up", self.at)?;
        while matches!(self.recent.above(self.at, 0)?, Taken::Passed) {
            // The time limit around this rings only while something waits.
            if clock.elapsed() >= limit {
                return Err(End::Resync(ResyncReason::TooSlow));
            }
            let turn = CATCHING_UP.acquire().await.map_err(|_| Refused::Confused)?;
            let work = tasks::blocking(move || (read(&mut follower), follower));
            let (records, back) = work.await.ok_or(Refused::Confused)?;
            drop(turn);
            follower = back;
            self.deliver(&records?).await?;
            self.at = follower.position();
            follower.done(self.at);
            self.break_silence().await?;
        }
        Ok(())
    }

    /// How long until something must be said.
    fn patience(&self) -> Duration {
        let interval = self.service.settings().progress_interval;
        interval.saturating_sub(self.silence.elapsed())
    }

    /// Says that there is nothing to say, when it is time to; notices that nobody listens.
    async fn break_silence(&mut self) -> Result<(), Gone> {
        if self.outlet.is_gone() {
            return Err(Gone);
        }
        if self.patience().is_zero() {
            self.tell(Event::Progress(Progress {})).await?;
        }
        Ok(())
    }

    /// Sends the changes of `records` that match.
    async fn deliver(&mut self, records: &[Arc<Followed>]) -> Result<(), End> {
        let mut namespace = None;
        let mut message = Changes::default();
        let mut bytes = 0;
        for record in records {
            for row in self.matching(record) {
                let namespace = match &namespace {
                    Some(known) => known,
                    None => namespace.insert(self.service.namespace(&self.name)?),
                };
                let Some(change) = self.change(namespace, record.lsn, row)? else {
                    continue;
                };
                let more = change.encoded_len();
                let full = bytes + more > MESSAGE_BYTES_MAX || message.changes.len() == MESSAGE_CHANGES_MAX;
                if full && !message.changes.is_empty() {
                    self.tell(Event::Changes(std::mem::take(&mut message))).await?;
                    bytes = 0;
                }
                bytes += more;
                message.changes.push(change);
            }
            // Only now is all of the record sent, or in a message that will say so.
            self.at = record.lsn;
        }
        if !message.changes.is_empty() {
            self.tell(Event::Changes(message)).await?;
        }
        Ok(())
    }

    /// The rows of matching keys that a record wrote: of several of one key the last, which is what the batch made of it.
    fn matching<'a>(&self, record: &'a Followed) -> Vec<Row<'a>> {
        let mut rows: Vec<Row<'_>> = record
            .writes
            .iter()
            .filter(|write| write.family == self.family && write.key.starts_with(&self.rows))
            .map(|write| (write.key.as_slice(), write.value.as_deref()))
            .collect();
        if rows.len() > 1 {
            let last: HashMap<&[u8], usize> = rows.iter().enumerate().map(|(index, (key, _))| (*key, index)).collect();
            let mut index = 0;
            rows.retain(|(key, _)| {
                index += 1;
                last[key] == index - 1
            });
        }
        rows
    }

    /// A row as callers see it; `None` for one that is no concept.
    fn change(&self, namespace: &Namespace, lsn: Lsn, (row, value): Row<'_>) -> Result<Option<Change>, Refused> {
        let Some((_, key)) = concepts::split(row) else {
            return Ok(None);
        };
        let text = || String::from_utf8_lossy(key).into_owned();
        let concept = match (self.family, value) {
            (Family::Consensus, value) => {
                let row = value.map(rows::decode).transpose().map_err(store::Error::from)?;
                let reader = self.service.row_reader(namespace.id, self.with_contexts);
                row.map(|row| reader.concept(text(), row))
            }
            // States are never taken away: what is left of a deletion is one.
            (_, None) => return Ok(None),
            (_, Some(value)) => {
                let state = self.service.engine().decode_concept(value)?;
                let reader = Reader {
                    with_contexts: self.with_contexts,
                    ..self.service.reader(namespace)
                };
                reader.concept(key, &state)
            }
        };
        let change = concept.map_or_else(|| change::Change::Deleted(text()), change::Change::Put);
        Ok(Some(Change {
            lsn: lsn.0,
            change: Some(change),
        }))
    }

    async fn tell(&mut self, event: Event) -> Result<(), Gone> {
        let message = WatchResponse {
            event: Some(event),
            lsn: self.at.0,
            resume_token: self.service.position_token(self.namespace, &self.prefix, self.at),
        };
        self.outlet.send(message).await?;
        self.silence = Stopwatch::start();
        Ok(())
    }

    async fn end(self, end: End) {
        match end {
            End::Gone => {}
            End::Failed(refused) => self.outlet.fail(refused),
            End::Resync(reason) => {
                let resync = WatchResponse {
                    event: Some(Event::Resync(Resync { reason: reason.into() })),
                    ..WatchResponse::default()
                };
                // Whether it was taken makes no difference any more.
                let _last = self.outlet.send(resync).await;
                self.outlet.finish();
            }
        }
    }
}

/// A watch that catches up holds no more of the log at once, but for the record that reaches this.
const READ_BYTES_MAX: usize = 1 << 20;

/// Some of the records that `follower` has not handed out yet.
fn read(follower: &mut Follower) -> Result<Vec<Arc<Followed>>, FollowError> {
    let mut records = Vec::new();
    let mut bytes = 0;
    while records.len() < RECORDS_MAX && bytes < READ_BYTES_MAX {
        let Some(record) = follower.next_in(&WATCHED)? else {
            break;
        };
        let sizes = record
            .writes
            .iter()
            .map(|write| write.key.len() + write.value.as_ref().map_or(0, Vec::len));
        bytes += sizes.sum::<usize>();
        records.push(Arc::new(record));
    }
    Ok(records)
}
