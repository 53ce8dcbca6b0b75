//! This node as a member of raft: started, watched, ended.
//!
//! ```text
//!  start   an install cut short is made up for ─► log, machine ─► raft
//!          no members yet, alone:  leads at once ─► a blank entry applied: everything before it is, too
//!                                  ─► a snapshot, and the log begins behind it: what was here before raft is in no log
//!          no members yet, joins:  waits until a leader says more
//!          no members yet, forms:  begins with the members that all of them begin with; one of them is elected
//!  watch   its core has died ─► `stopped` says why, within 100 ms
//!          nobody leads, or the leader hears nothing of a majority ─► `quorum` says why
//! ```

use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc, time::Duration};

use engine::{
    Batch, Durability, Engine, Mutation,
    clock::Clock,
    image,
    keyspace::raft_state::{self, Applied, Vote as StoredVote, Voter},
    ledger,
};
use metrics::{Counter, Gauge};
use openraft::{
    Config, Raft, ServerState, SnapshotPolicy,
    async_runtime::watch::WatchReceiver as _,
    errors::{ClientWriteError, RaftError},
};
use tokio::sync::watch;

use super::{
    acknowledged::Acknowledged,
    clocks::Clocks,
    entries::Entries,
    images::{self, Images},
    log::Log,
    machine::Machine,
    network::{Contacts, Network},
    quorum::Heard,
    reads::Rounds,
    types::{LogId, Peer, Types, fatal, log_id, rests_on},
};
use crate::{
    metrics::{self as counts, Metrics},
    runtime::{
        tasks,
        time::{sleep, within},
    },
    transport::Transport,
};

/// A member alone leads and has applied what it had within this time, or there is something wrong with it.
const READY_WITHIN: Duration = Duration::from_mins(5);
/// A proposal that raft did not take is offered again after this long.
pub(super) const RETRY: Duration = Duration::from_millis(5);
/// How often raft is looked at, at most; at least half as often.
const LOOK: Duration = Duration::from_millis(100);
/// A leader is taken for lost after so many of the longest election time-outs.
const SILENCES: u32 = 2;
/// How long a member that could not be reached is left alone, try by try: it should miss little when it is back.
const BACKOFF: &str = "50ms 100ms 200ms ..500ms";
/// Purge no fewer entries at once.
const PURGE_ENTRIES: u64 = 1_000;

/// Raft's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Shortest and longest wait before an election.
    pub election_timeout_ms: (u64, u64),
    /// Time between a leader's heartbeats.
    pub heartbeat_interval_ms: u64,
    /// A snapshot every so many entries.
    pub snapshot_entries: u64,
    /// Entries kept behind a snapshot for members that are a little late.
    pub keep_entries: u64,
    /// Where snapshots that come from other members are kept; `None`: none are taken.
    pub incoming: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            election_timeout_ms: (150, 300),
            heartbeat_interval_ms: 50,
            snapshot_entries: 5_000,
            keep_entries: 1_000,
            incoming: None,
        }
    }
}

impl Settings {
    fn config(&self, cluster: &str) -> io::Result<Arc<Config>> {
        let config = Config {
            cluster_name: cluster.to_owned(),
            election_timeout_min: self.election_timeout_ms.0,
            election_timeout_max: self.election_timeout_ms.1,
            heartbeat_interval: self.heartbeat_interval_ms,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_entries),
            max_in_snapshot_log_to_keep: self.keep_entries,
            purge_batch_size: PURGE_ENTRIES.min(self.keep_entries.max(1)),
            // Whoever is further behind than what is kept needs an image.
            replication_lag_threshold: self.snapshot_entries.saturating_add(self.keep_entries),
            enable_pre_vote: Some(true),
            // What a leader has sent it may lose in a power cut before it is synced here. Leading on in the same term it would give
            // other entries the same places, and nobody would see that they differ.
            enable_leader_restore: Some(false),
            // A leader without a majority heartbeats by turns only, so that the others can elect one. It goes on calling itself leader:
            // that it may not be asked is for `Member::leader` to say, by when a majority last answered it.
            quorum_loss_probe_interval: Some(3 * self.election_timeout_ms.1),
            backoff: BACKOFF.to_owned(),
            ..Config::default()
        };
        Ok(Arc::new(config.validate().map_err(fatal)?))
    }
}

/// How a node that has no members yet comes to have some.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Founding {
    /// It is the only one.
    #[default]
    Alone,
    /// Some leader was told of it and will speak to it.
    Joins,
    /// It begins with these, itself among them, and they with it: number, name and address of each. All of them are bound to that.
    Together(Vec<(u64, String, String)>),
}

/// The other members, as far as this node knows before it has read its log.
#[derive(Clone)]
pub struct Company {
    /// The way to them.
    pub transport: Transport,
    /// How it begins.
    pub founding: Founding,
}

impl Company {
    /// Nobody.
    #[must_use]
    pub fn none() -> Company {
        Company {
            transport: Transport::new(None),
            founding: Founding::Alone,
        }
    }
}

/// A running member; clones share it.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) id: u64,
    pub(super) raft: Raft<Types, Machine>,
    pub(super) engine: Engine,
    pub(super) network: Network,
    /// Where commands become entries, when this node leads.
    pub(super) entries: Entries,
    /// What it asks of a majority before others read, when it leads.
    pub(super) rounds: Rounds,
    /// What time it is, here and at the others.
    pub(super) clocks: Clocks,
    /// What the leader let this node hear.
    pub(super) heard: Arc<Heard>,
    /// The longest time between two words of a leader that lives.
    pub(super) silence_max: Duration,
    numbers: Arc<Numbers>,
}

struct Numbers {
    term: Gauge,
    leads: Gauge,
    last: Gauge,
    committed: Gauge,
    applied: Gauge,
    snapshot: Gauge,
    entries: Gauge,
    leaders: Counter,
    clock_off: Gauge,
}

impl Numbers {
    fn new(metrics: &Metrics) -> Numbers {
        Numbers {
            term: metrics.gauge(counts::RAFT_TERM, &[]),
            leads: metrics.gauge(counts::RAFT_LEADS, &[]),
            last: metrics.gauge(counts::RAFT_LAST, &[]),
            committed: metrics.gauge(counts::RAFT_COMMITTED, &[]),
            applied: metrics.gauge(counts::RAFT_APPLIED, &[]),
            snapshot: metrics.gauge(counts::RAFT_SNAPSHOT, &[]),
            entries: metrics.gauge(counts::RAFT_LOG_ENTRIES, &[]),
            leaders: metrics.counter(counts::RAFT_LEADER_CHANGES, &[]),
            clock_off: metrics.gauge(counts::CLOCK_OFF, &[]),
        }
    }
}

impl Member {
    /// Starts it, on a runtime that is raft's own. Alone, returns when it has applied all that was committed; with others that must
    /// be heard first, at once.
    ///
    /// # Errors
    /// What keeps it from starting; nothing was changed that a later start would miss.
    pub(super) async fn start(
        engine: &Engine,
        clock: Arc<dyn Clock>,
        company: Company,
        settings: &Settings,
        metrics: &Metrics,
    ) -> io::Result<Member> {
        if let Some(incoming) = settings.incoming.clone() {
            let engine = engine.clone();
            let resumed = tasks::blocking(move || {
                let resumed = image::install_unfinished(&engine, &incoming)?;
                if let Err(error) = images::begin(&incoming) {
                    tracing::warn!(%error, directory = %incoming.display(), "images that nobody needs are left behind");
                }
                Ok::<_, image::Error>(resumed)
            })
            .await;
            resumed
                .ok_or_else(|| fatal("installing a snapshot panicked"))?
                .map_err(fatal)?;
        }
        let applied = last_applied(engine)?;
        let id = voter(engine).await?;
        let mut log = Log::open(engine.clone(), metrics)?;
        log.begin_behind(applied).await?;
        let images = Images::new(settings.incoming.clone(), metrics);
        let machine = Machine::open(engine.clone(), images.clone(), metrics)?;
        let config = settings.config(&format!("{id:016x}"))?;
        let network = Network {
            transport: company.transport,
            engine: engine.clone(),
            id,
            acknowledged: Acknowledged::new(),
            images,
            contacts: Contacts::default(),
            links: Arc::default(),
        };
        let raft = Raft::new(id, config, network.clone(), log, machine)
            .await
            .map_err(fatal)?;
        let member = Member {
            id,
            entries: Entries::start(raft.clone(), engine),
            rounds: Rounds::default(),
            raft,
            engine: engine.clone(),
            network,
            clocks: Clocks::new(clock),
            heard: Arc::default(),
            silence_max: SILENCES * Duration::from_millis(settings.election_timeout_ms.1),
            numbers: Arc::new(Numbers::new(metrics)),
        };
        if !member.raft.is_initialized().await.map_err(fatal)? {
            member.found(company.founding).await?;
        }
        // Asked of the core itself: what the metrics show may be a moment old.
        let voters = member.raft.with_raft_state(|state| {
            let config = state.membership_state.effective().membership();
            config.voter_ids().collect::<Vec<_>>()
        });
        if voters.await.map_err(fatal)? == [id] {
            // Nobody else could lead, so there is nothing to wait for.
            member.raft.trigger().elect(false).await.map_err(fatal)?;
            let leads = within(READY_WITHIN, member.catch_up()).await;
            leads.unwrap_or_else(|| Err(fatal("raft did not come to lead, although it is alone")))?;
        }
        Ok(member)
    }

    /// Makes the first entry of a log that has none.
    async fn found(&self, founding: Founding) -> io::Result<()> {
        let name = self.engine.actor().node.to_string();
        let members = match founding {
            Founding::Alone => {
                let roster = ledger::members(self.engine.view()).map_err(fatal)?;
                if !roster.is_empty() && roster.iter().all(|member| member.voter != self.id) {
                    return Err(fatal(
                        "these data are of a member of a cluster that may live on without it: begin with an empty data directory and a token of `continuum-admin cluster replace`",
                    ));
                }
                vec![(self.id, name, String::new())]
            }
            Founding::Joins => return Ok(()),
            Founding::Together(members) => members,
        };
        let peer = |(id, name, address)| (id, Peer { name, address });
        let members: BTreeMap<u64, Peer> = members.into_iter().map(peer).collect();
        self.raft.initialize(members).await.map_err(fatal)
    }

    /// Whether no other node votes.
    pub(super) fn is_alone(&self) -> bool {
        let mut voters = self.raft.voter_ids();
        voters.next() == Some(self.id) && voters.next().is_none()
    }

    /// Waits until an entry of its own is applied, and so everything before it.
    async fn catch_up(&self) -> io::Result<()> {
        loop {
            match self.raft.write_blank().await {
                Ok(_) => return Ok(()),
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => sleep(RETRY).await,
                Err(error) => return Err(fatal(error)),
            }
        }
    }

    /// Sees to it that no member will ever be sent the log from its first entry: what was here before raft, or came by a
    /// restore, is in no entry. Once done it is done for ever.
    pub(super) async fn begin_log_behind_a_snapshot(&self) -> io::Result<()> {
        if self.raft.metrics().borrow_watched().purged.is_some() {
            return Ok(());
        }
        self.raft.trigger().snapshot().await.map_err(fatal)?;
        let built = self
            .raft
            .wait(None)
            .metrics(|metrics| metrics.snapshot.is_some(), "built")
            .await;
        let upto = built.map_err(fatal)?.snapshot.map_or(0, |snapshot| snapshot.index);
        self.raft.trigger().purge_log(upto).await.map_err(fatal)
    }

    /// Tells through `stop` when raft has died and through `quorum` why nothing can be decided, and counts leaders; ends when it was
    /// ended in order.
    pub(super) async fn watch(self, stop: watch::Sender<Option<String>>, quorum: watch::Sender<Option<String>>) {
        let mut metrics = self.raft.metrics();
        let mut leader = None;
        loop {
            let lost = self.leader().err();
            quorum.send_if_modified(|told| {
                let changed = *told != lost;
                *told = lost;
                changed
            });
            let died = {
                let now = metrics.borrow_and_update();
                if now.current_leader.is_some() && now.current_leader != leader {
                    leader = now.current_leader;
                    self.numbers.leaders.increment(1);
                }
                now.running_state.clone().err()
            };
            match died {
                Some(openraft::errors::Fatal::Stopped) => return,
                Some(error) => {
                    let reason = format!("raft has stopped: {error}");
                    tracing::error!(%reason, "the node cannot go on; restart the process to recover");
                    stop.send_replace(Some(reason));
                    return;
                }
                None => {}
            }
            sleep(LOOK).await;
            // Silence changes no metric.
            let changed = within(LOOK, metrics.changed()).await;
            if changed.is_some_and(|changed| changed.is_err()) {
                stop.send_if_modified(|reason| {
                    reason.get_or_insert_with(|| "raft panicked; its log line says where".to_owned());
                    true
                });
                return;
            }
        }
    }

    /// Sets the gauges to what is now.
    pub(super) fn sample(&self) {
        let metrics = self.raft.metrics();
        let now = metrics.borrow_watched();
        let numbers = &self.numbers;
        let set = |gauge: &Gauge, index: Option<u64>| gauge.set(index.unwrap_or_default() as f64);
        numbers.term.set(now.current_term as f64);
        numbers.leads.set(f64::from(u8::from(now.state == ServerState::Leader)));
        set(&numbers.last, now.last_log_index);
        set(&numbers.committed, now.local_committed.map(|id| id.index));
        set(&numbers.applied, now.last_applied.map(|id| id.index));
        set(&numbers.snapshot, now.snapshot.map(|id| id.index));
        let first = now.purged.map_or(0, |purged| purged.index + 1);
        let next = now.last_log_index.map_or(first, |last| last + 1);
        numbers.entries.set(next.saturating_sub(first) as f64);
        numbers.clock_off.set(self.clocks.off_us() as f64 / 1e6);
    }

    /// Ends it: what was proposed and not applied is left for the next start.
    pub(super) async fn stop(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::debug!(%error, "raft had ended");
        }
    }
}

/// The last entry that is applied. Raft saves its vote before anything that rests on it: whoever led under an older one would lead in a
/// term that is over, and give out places that come before what is applied.
fn last_applied(engine: &Engine) -> io::Result<Option<LogId>> {
    let vote = raft_state::read::<StoredVote>(engine.view()).map_err(fatal)?;
    let applied = raft_state::read::<Applied>(engine.view()).map_err(fatal)?;
    let last = applied.and_then(|applied| applied.last);
    if rests_on(last, vote) {
        return Ok(last.map(log_id));
    }
    Err(fatal(format!(
        "what is applied ({last:?}) is of a later leader than this node's vote ({vote:?}): these data are not of one life; restore a backup, or begin with an empty data directory"
    )))
}

/// The number by which raft knows this node: drawn with the node's present life, so a restored node is another.
async fn voter(engine: &Engine) -> io::Result<u64> {
    if let Some(Voter(id)) = raft_state::read(engine.view()).map_err(fatal)? {
        return Ok(id);
    }
    let id = engine.actor().incarnation.max(1);
    let frame = Batch::one(Mutation::Raft(vec![raft_state::put(&Voter(id))]));
    engine.commit(frame, Durability::Synced).await.map_err(fatal)?;
    Ok(id)
}
