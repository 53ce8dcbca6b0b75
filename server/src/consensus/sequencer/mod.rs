//! Waiting commands become raft's entries.

use std::{io, panic, sync::Arc, thread::JoinHandle, time::Duration};

use engine::{
    CommitError, Engine,
    clock::{Clock, Timestamp},
    ledger::{self, AdoptedMember, Command, Decision, Idempotency, Overlay, PoolConcept, Proposal},
};
use metrics::{Gauge, Histogram};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use super::{
    gather::{Gathered, Gatherer, Limits, Next},
    log::record_bytes_max,
    member::{self, Company, Member},
    peers::Peers,
    propose::Undecided,
    types::Proposals,
    wire as messages,
};
use crate::{
    metrics::{self as counts, Metrics},
    runtime::{
        self, tasks,
        time::{Stopwatch, within},
    },
};

/// Batches on their way at once: while one is synced the next gathers.
const IN_FLIGHT_MAX: usize = 2;
/// A command heavier than this is tried out before raft gets it: what raft has taken must be written.
pub(super) const TRIED_BYTES: usize = 2 << 20;
/// Room for what a command writes besides what it wrote when it was tried out.
const TRIED_SLACK_BYTES: usize = 256 << 10;
/// Threads of raft's own runtime, so that a busy server does not lose elections.
const WORKER_THREADS: usize = 2;
/// Why raft died is told a moment after its callers see that it did.
const REASON_WAIT: Duration = Duration::from_secs(1);
/// What a command weighs at least: itself, its answer and its account.
const COMMAND_BYTES_MIN: usize = 1 << 10;
/// What a concept weighs beside its text: its hash, pool entry and index rows.
const CONCEPT_BYTES_MIN: usize = 256;
/// What a contribution that is taken over weighs: its row.
const CONTRIBUTION_BYTES_MIN: usize = 128;
/// What a further compare or action of a transaction weighs beside its key and value: its row.
const PART_BYTES_MIN: usize = 128;
/// Room is given out in units of this size.
const ROOM_UNIT_BYTES: usize = 1 << 10;

/// The sequencer's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Weight of commands that wait; further callers wait for room.
    pub queue_bytes_max: usize,
    /// How long a caller waits for room before it is answered [`CommitError::Busy`].
    pub queue_wait_max: Duration,
    /// Raft's own.
    pub raft: member::Settings,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            queue_bytes_max: 64 << 20,
            queue_wait_max: Duration::from_secs(30),
            raft: member::Settings::default(),
        }
    }
}

/// Puts commands in order and decides them; clones share it.
#[derive(Clone)]
pub struct Sequencer(Arc<Shared>);

struct Shared {
    engine: Engine,
    cluster: String,
    clock: Arc<dyn Clock>,
    member: Member,
    /// `None`: decide what came before, then leave.
    queue: mpsc::UnboundedSender<Option<Waiting>>,
    /// Bounds the queue by weight; first come, first served.
    room: Arc<Semaphore>,
    room_units: u32,
    queue_wait_max: Duration,
    stopped: watch::Receiver<Option<String>>,
    quorum: watch::Receiver<Option<String>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    waiting: Gauge,
    seconds: Histogram,
}

/// One command in the queue.
struct Waiting {
    proposal: Proposal,
    weight: usize,
    answer: oneshot::Sender<Result<Decision, CommitError>>,
    /// Given back when the command is answered.
    _room: OwnedSemaphorePermit,
}

impl Gathered for Waiting {
    fn weight(&self) -> usize {
        self.weight
    }

    fn commands(&self) -> usize {
        1
    }
}

impl Sequencer {
    /// Starts raft over `engine`, which knows no other node, and the sequencer's thread: see [`Sequencer::start_in`].
    ///
    /// # Errors
    /// The same.
    pub fn start(
        engine: Engine,
        clock: Arc<dyn Clock>,
        settings: Settings,
        metrics: &Metrics,
    ) -> io::Result<Sequencer> {
        Sequencer::start_in(engine, clock, Company::none(), settings, metrics)
    }

    /// Starts raft over `engine`, in the company of other nodes, and the sequencer's thread. Of a node that decides alone, returns when
    /// everything that raft has committed is applied; of others [`Sequencer::quorum`] tells. Blocks.
    ///
    /// # Errors
    /// When the system gives no thread, or raft's log or state is not what it should be.
    pub fn start_in(
        engine: Engine,
        clock: Arc<dyn Clock>,
        company: Company,
        settings: Settings,
        metrics: &Metrics,
    ) -> io::Result<Sequencer> {
        let (queue, waiting) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(None);
        let (tell_quorum, quorum) = watch::channel(Some("starting".to_owned()));
        let runtime = runtime::separate("raft", WORKER_THREADS)?;
        let (sender, started) = std::sync::mpsc::sync_channel(1);
        let thread = {
            let (engine, raft, metrics) = (engine.clone(), settings.raft, metrics.clone());
            let clock = Arc::clone(&clock);
            let stopped = stopped.clone();
            tasks::thread("sequencer", move || {
                let mourner = Mourner(stop.clone());
                runtime.block_on(async {
                    let member = match Member::start(&engine, clock, company, &raft, &metrics).await {
                        Ok(member) => member,
                        Err(error) => return drop(sender.send(Err(error))),
                    };
                    tell_quorum.send_replace(member.leader().err());
                    let _starter_left = sender.send(Ok(member.clone()));
                    let decider = Decider {
                        cluster: engine::backup::hex(&engine.cluster()),
                        engine,
                        member,
                        stop,
                        stopped,
                        quorum: tell_quorum,
                    };
                    // On raft's own workers: no other thread must be woken for each batch.
                    let ran = tasks::spawn(run(decider, waiting)).await;
                    if let Err(error) = ran {
                        panic::resume_unwind(error.into_panic());
                    }
                });
                drop(mourner);
            })?
        };
        let member = started
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("raft panicked at its start; its log line says where")))?;
        let room_units = u32::try_from(settings.queue_bytes_max / ROOM_UNIT_BYTES)
            .unwrap_or(u32::MAX >> 4)
            .max(1);
        Ok(Sequencer(Arc::new(Shared {
            cluster: engine::backup::hex(&engine.cluster()),
            engine,
            clock,
            member,
            queue,
            room: Arc::new(Semaphore::new(room_units as usize)),
            room_units,
            queue_wait_max: settings.queue_wait_max,
            stopped,
            quorum,
            thread: Mutex::new(Some(thread)),
            waiting: metrics.gauge(counts::COMMAND_QUEUE, &[]),
            seconds: metrics.histogram(counts::COMMAND_SECONDS, &[]),
        })))
    }

    /// Decides `command`; the answer is durable.
    ///
    /// # Errors
    /// [`CommitError::Unknown`]: it may have been decided, or may still be; under an idempotency key sending it again tells.
    /// [`CommitError::Stopped`]: the outcome is unknown until restart. Any other: nothing was charged or credited.
    pub async fn propose(&self, command: Command, idempotency: Option<Idempotency>) -> Result<Decision, CommitError> {
        let shared = &*self.0;
        let since = Stopwatch::start();
        let weight = weight_of(&command);
        let units = u32::try_from(weight.div_ceil(ROOM_UNIT_BYTES))
            .unwrap_or(u32::MAX)
            .min(shared.room_units);
        let room = within(
            shared.queue_wait_max,
            Arc::clone(&shared.room).acquire_many_owned(units),
        )
        .await;
        // No room in time, or the node is closing: either way nothing happened.
        let Some(Ok(room)) = room else {
            return Err(CommitError::Busy);
        };
        let proposal = Proposal {
            at: shared.clock.now(),
            idempotency,
            command,
        };
        // Raft writes what it has taken, so what could not be written is refused before.
        if let Err(full) = shared.engine.admits() {
            return unwritten(
                &shared.engine,
                &shared.cluster,
                shared.member.is_alone(),
                proposal,
                full,
            );
        }
        self.check_size(&proposal, weight)?;
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting {
            proposal,
            weight,
            answer,
            _room: room,
        };
        // From here on the command is decided whether or not its caller still waits.
        if shared.queue.send(Some(waiting)).is_err() {
            return Err(self.unanswered());
        }
        let counted = Counted::add(&shared.waiting);
        let decision = answered.await.unwrap_or_else(|_| Err(self.unanswered()));
        drop(counted);
        shared.seconds.record(since.seconds());
        decision
    }

    /// Whether `proposal`, and what it writes, fit into one batch each.
    fn check_size(&self, proposal: &Proposal, weight: usize) -> Result<(), CommitError> {
        let Shared { engine, cluster, .. } = &*self.0;
        let bytes_max = record_bytes_max(engine);
        // Whoever leads may give it another time, which may take more bytes.
        let timed = || Proposal {
            at: Timestamp(u64::MAX),
            ..proposal.clone()
        };
        // A command weighs more than its record has bytes.
        if weight > bytes_max && messages::proposals(&Proposals([timed()].into())).len() > bytes_max {
            return Err(CommitError::TooLarge { bytes_max });
        }
        if weight <= TRIED_BYTES {
            return Ok(());
        }
        let mut overlay = Overlay::new(engine.view(), cluster);
        // A failure here is one of the store's, and will be told by whoever decides.
        let _tried = ledger::apply(&mut overlay, proposal.clone());
        let (bytes, bytes_max) = (overlay.bytes(), engine.batch_bytes_max() - TRIED_SLACK_BYTES);
        if bytes <= bytes_max {
            return Ok(());
        }
        Err(CommitError::TooLarge { bytes_max })
    }

    /// This node as a member of raft.
    pub(super) fn member(&self) -> &Member {
        &self.0.member
    }

    /// Brings the gauges of raft up to date.
    pub fn sample(&self) {
        self.0.member.sample();
    }

    /// Why the sequencer stopped by itself, once it has: the process must then exit and be started again.
    #[must_use]
    pub fn stopped(&self) -> watch::Receiver<Option<String>> {
        self.0.stopped.clone()
    }

    /// Why nothing can be decided now; `None` while it can. Told within a second.
    #[must_use]
    pub fn quorum(&self) -> watch::Receiver<Option<String>> {
        self.0.quorum.clone()
    }

    /// What is wrong with this node's clock, by those of the other members; `None` while it is right, or nobody can say.
    #[must_use]
    pub fn clock_trouble(&self) -> Option<String> {
        self.0.member.clock_trouble()
    }

    /// What answers the other members.
    #[must_use]
    pub fn peers(&self) -> Peers {
        Peers::new(self.0.member.clone())
    }

    /// Takes no more commands, decides those queued, ends raft, and joins its threads. Blocks. Again: does nothing.
    pub fn close(&self) {
        self.0.room.close();
        let _gone = self.0.queue.send(None);
        if let Some(thread) = self.0.thread.lock().take() {
            let _panic_was_told_through_stopped = thread.join();
        }
    }

    /// A command that got no answer: undecided when the node closes, unknown when the thread died over it.
    fn unanswered(&self) -> CommitError {
        match &*self.0.stopped.borrow() {
            Some(reason) => CommitError::Stopped(reason.clone()),
            None => CommitError::Busy,
        }
    }
}

/// The decision about `proposal` if it needs no writing, as that of a request that comes again; else `full`.
///
/// Among others only what comes again: a refusal may rest on what this node has not heard of yet.
fn unwritten(
    engine: &Engine,
    cluster: &str,
    alone: bool,
    proposal: Proposal,
    full: CommitError,
) -> Result<Decision, CommitError> {
    let mut overlay = Overlay::new(engine.view(), cluster);
    match ledger::apply(&mut overlay, proposal) {
        Ok(decision) if overlay.is_empty() && (alone || decision.repeated) => Ok(decision),
        Ok(_) | Err(_) => Err(full),
    }
}

/// One more in a gauge, until dropped.
struct Counted<'a>(&'a Gauge);

impl<'a> Counted<'a> {
    fn add(gauge: &'a Gauge) -> Counted<'a> {
        gauge.increment(1.0);
        Counted(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Roughly the bytes that deciding `command` writes, and no fewer than it has in the log.
pub(super) fn weight_of(command: &Command) -> usize {
    let of_concept = |concept: &PoolConcept| concept.json.len() + CONCEPT_BYTES_MIN;
    let of_member = |member: &AdoptedMember| COMMAND_BYTES_MIN + member.contributions.len() * CONTRIBUTION_BYTES_MIN;
    let contents = match command {
        Command::Contribute { concepts, .. } => concepts.iter().map(of_concept).sum(),
        Command::Adopt { members, concepts, .. } => {
            let concepts = concepts.iter().map(|adopted| of_concept(&adopted.concept));
            concepts.sum::<usize>() + members.iter().map(of_member).sum::<usize>()
        }
        Command::Transact(transaction) => transaction.bytes() + transaction.parts().saturating_sub(1) * PART_BYTES_MIN,
        Command::CreateNamespace { name, .. } | Command::SetNamespacePolicy { name, .. } => name.len(),
        Command::Members(change) => change.bytes(),
        Command::Register { .. } | Command::Consume { .. } | Command::SetLimits(_) => 0,
    };
    COMMAND_BYTES_MIN + contents
}

/// The thread's side; clones work beside each other, each on a batch of its own.
#[derive(Clone)]
struct Decider {
    engine: Engine,
    cluster: String,
    member: Member,
    stop: watch::Sender<Option<String>>,
    stopped: watch::Receiver<Option<String>>,
    quorum: watch::Sender<Option<String>>,
}

/// Proposes until it is told to leave.
async fn run(decider: Decider, queue: mpsc::UnboundedReceiver<Option<Waiting>>) {
    let member = decider.member.clone();
    let watcher = tasks::spawn(member.clone().watch(decider.stop.clone(), decider.quorum.clone()));
    let begun = {
        let member = member.clone();
        tasks::spawn(async move {
            // Of several, whoever was sent the log's beginning had it whole.
            if !member.is_alone() {
                return;
            }
            if let Err(error) = member.begin_log_behind_a_snapshot().await {
                tracing::warn!(%error, "raft's log still begins with its first entry; the next start sees to it");
            }
        })
    };
    let following = tasks::spawn(member.clone().follow_roster());
    let clocks = tasks::spawn(member.clone().watch_clocks());
    let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut gatherer = Gatherer::new(queue, Limits::of_an_entry(&decider.engine));
    loop {
        // Whatever comes while there is no permit goes with the next batch.
        let Ok(permit) = Arc::clone(&in_flight).acquire_owned().await else {
            break;
        };
        let (batch, next) = gatherer.gather().await;
        if !batch.is_empty() {
            drop(tasks::spawn(decider.clone().decide(batch, permit)));
        }
        if next == Next::Nothing || decider.stopped.borrow().is_some() {
            break;
        }
    }
    // Commands still waiting are dropped with the queue, which tells their callers.
    drop(gatherer);
    let all = u32::try_from(IN_FLIGHT_MAX).expect("a handful");
    let _answered = in_flight.acquire_many(all).await;
    begun.abort();
    following.abort();
    clocks.abort();
    member.stop().await;
    watcher.abort();
}

impl Decider {
    /// Has a batch decided and answers its callers.
    async fn decide(self, batch: Vec<Waiting>, _permit: OwnedSemaphorePermit) {
        // The disk may have filled up while they waited.
        if let Err(full) = self.engine.admits() {
            for Waiting { proposal, answer, .. } in batch {
                let _caller_left = answer.send(unwritten(
                    &self.engine,
                    &self.cluster,
                    self.member.is_alone(),
                    proposal,
                    full.clone(),
                ));
            }
            return;
        }
        let (mut proposals, mut callers) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for Waiting {
            proposal,
            answer,
            _room,
            ..
        } in batch
        {
            proposals.push(proposal);
            callers.push((answer, _room));
        }
        // Dropped before the callers are: a panic is told before they ask why nobody answered.
        let mourner = Mourner(self.stop.clone());
        let decided = self.member.propose(Proposals(proposals.into())).await;
        drop(mourner);
        match decided {
            Ok(decisions) => {
                debug_assert_eq!(decisions.len(), callers.len(), "each proposal is decided");
                for ((answer, _room), decision) in callers.into_iter().zip(decisions) {
                    let _caller_left = answer.send(Ok(decision));
                }
            }
            Err(undecided) => {
                let error = match undecided {
                    Undecided::Nothing(why) => CommitError::Unavailable(why),
                    Undecided::Never(why) => CommitError::Invalid(why),
                    Undecided::Unknown(why) => CommitError::Unknown(why),
                    Undecided::Died(why) => CommitError::Stopped(self.reason(&why).await),
                };
                for (answer, _room) in callers {
                    let _caller_left = answer.send(Err(error.clone()));
                }
            }
        }
    }

    /// Why raft does not answer: what its core says, if it still says something within a moment, else `error`. Then the node
    /// cannot go on: openraft does not notice when the machine under it has panicked.
    async fn reason(&self, error: &str) -> String {
        let mut stopped = self.stopped.clone();
        // What is waited for would keep others from telling.
        drop(within(REASON_WAIT, stopped.wait_for(Option::is_some)).await);
        self.stop.send_if_modified(|told| {
            let silent = told.is_none();
            told.get_or_insert_with(|| format!("raft does not answer: {error}"));
            silent
        });
        self.stop.borrow().clone().unwrap_or_default()
    }
}

/// Tells of a panic in the thread, before the queue is dropped.
struct Mourner(watch::Sender<Option<String>>);

impl Drop for Mourner {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0
                .send_replace(Some("the sequencer panicked; its log line says where".to_owned()));
        }
    }
}

#[cfg(test)]
mod tests;
