//! A log of one.

use std::{io, sync::Arc, thread::JoinHandle, time::Duration};

use engine::{
    CommitError, Durability, Engine,
    clock::Clock,
    ledger::{self, AdoptedMember, Command, Decision, Idempotency, Overlay, PoolConcept, Proposal},
};
use metrics::{Counter, Gauge, Histogram};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::{
    metrics::{self as counts, Metrics},
    runtime::{
        tasks,
        time::{Stopwatch, within},
    },
};

/// Commands decided as one batch, so that one answer never waits for thousands of others to be decided.
const BATCH_COMMANDS_MAX: usize = 1_024;
/// A batch takes no further command beyond this weight; a single heavier command is a batch of its own.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// What a command weighs at least: itself, its answer and its account.
const COMMAND_BYTES_MIN: usize = 1 << 10;
/// What a concept weighs beside its text: its hash, pool entry and index rows.
const CONCEPT_BYTES_MIN: usize = 256;
/// What a contribution that is taken over weighs: its row.
const CONTRIBUTION_BYTES_MIN: usize = 128;
/// Room is given out in units of this size.
const ROOM_UNIT_BYTES: usize = 1 << 10;

/// The sequencer's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Weight of commands that wait; further callers wait for room.
    pub queue_bytes_max: usize,
    /// How long a caller waits for room before it is answered [`CommitError::Busy`].
    pub queue_wait_max: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            queue_bytes_max: 64 << 20,
            queue_wait_max: Duration::from_secs(30),
        }
    }
}

/// Puts commands in order and decides them; clones share it.
#[derive(Clone)]
pub struct Sequencer(Arc<Shared>);

struct Shared {
    clock: Arc<dyn Clock>,
    queue: mpsc::UnboundedSender<Message>,
    /// Bounds the queue by weight; first come, first served.
    room: Arc<Semaphore>,
    room_units: u32,
    queue_wait_max: Duration,
    stopped: watch::Receiver<Option<String>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    waiting: Gauge,
    seconds: Histogram,
}

/// What the thread is sent.
enum Message {
    Decide(Waiting),
    /// Decide what came before, then leave.
    Close,
}

/// One command in the queue.
struct Waiting {
    proposal: Proposal,
    weight: usize,
    answer: oneshot::Sender<Result<Decision, CommitError>>,
    /// Given back when the command is answered.
    _room: OwnedSemaphorePermit,
}

impl Sequencer {
    /// Starts the sequencer's thread over `engine`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        engine: Engine,
        clock: Arc<dyn Clock>,
        settings: Settings,
        metrics: &Metrics,
    ) -> io::Result<Sequencer> {
        let (queue, waiting) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(None);
        let cluster = engine.cluster().iter().map(|byte| format!("{byte:02x}")).collect();
        let decider = Decider {
            engine,
            cluster,
            queue: waiting,
            kept: None,
            stop,
            commands: metrics.counter(counts::COMMANDS, &[]),
            batch: metrics.histogram(counts::COMMAND_BATCH, &[]),
        };
        let thread = tasks::thread("sequencer", move || decider.run())?;
        let room_units = u32::try_from(settings.queue_bytes_max / ROOM_UNIT_BYTES)
            .unwrap_or(u32::MAX >> 4)
            .max(1);
        Ok(Sequencer(Arc::new(Shared {
            clock,
            queue,
            room: Arc::new(Semaphore::new(room_units as usize)),
            room_units,
            queue_wait_max: settings.queue_wait_max,
            stopped,
            thread: Mutex::new(Some(thread)),
            waiting: metrics.gauge(counts::COMMAND_QUEUE, &[]),
            seconds: metrics.histogram(counts::COMMAND_SECONDS, &[]),
        })))
    }

    /// Decides `command`; the answer is durable.
    ///
    /// # Errors
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
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting {
            proposal,
            weight,
            answer,
            _room: room,
        };
        // From here on the command is decided whether or not its caller still waits.
        if shared.queue.send(Message::Decide(waiting)).is_err() {
            return Err(self.unanswered());
        }
        let counted = Counted::add(&shared.waiting);
        let decision = answered.await.unwrap_or_else(|_| Err(self.unanswered()));
        drop(counted);
        shared.seconds.record(since.seconds());
        decision
    }

    /// Why the sequencer stopped by itself, once it has: the process must then exit and be started again.
    #[must_use]
    pub fn stopped(&self) -> watch::Receiver<Option<String>> {
        self.0.stopped.clone()
    }

    /// Takes no more commands, decides those queued, and joins the thread. Blocks. Again: does nothing.
    pub fn close(&self) {
        self.0.room.close();
        let _gone = self.0.queue.send(Message::Close);
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

/// Roughly the bytes that deciding `command` writes.
fn weight_of(command: &Command) -> usize {
    let of_concept = |concept: &PoolConcept| concept.json.len() + CONCEPT_BYTES_MIN;
    let of_member = |member: &AdoptedMember| COMMAND_BYTES_MIN + member.contributions.len() * CONTRIBUTION_BYTES_MIN;
    let contents = match command {
        Command::Contribute { concepts, .. } => concepts.iter().map(of_concept).sum(),
        Command::Adopt { members, concepts, .. } => {
            let concepts = concepts.iter().map(|adopted| of_concept(&adopted.concept));
            concepts.sum::<usize>() + members.iter().map(of_member).sum::<usize>()
        }
        _ => 0,
    };
    COMMAND_BYTES_MIN + contents
}

/// The thread's side.
struct Decider {
    engine: Engine,
    cluster: String,
    queue: mpsc::UnboundedReceiver<Message>,
    /// Taken from the queue, but too heavy for the batch under way.
    kept: Option<Waiting>,
    stop: watch::Sender<Option<String>>,
    commands: Counter,
    batch: Histogram,
}

/// Whether the thread goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Decide,
    Leave,
}

impl Decider {
    fn run(mut self) {
        let _mourner = Mourner(self.stop.clone());
        loop {
            let (batch, next) = self.gather();
            if !batch.is_empty()
                && let Err(reason) = self.decide(batch)
            {
                self.stop.send_replace(Some(reason));
                break;
            }
            if next == Next::Leave {
                break;
            }
        }
        // Commands still waiting are dropped with the queue, which tells their callers.
    }

    /// Waits for a command, then takes all that wait, up to the batch's limits.
    fn gather(&mut self) -> (Vec<Waiting>, Next) {
        let first = match self.kept.take() {
            Some(kept) => kept,
            None => match self.queue.blocking_recv() {
                Some(Message::Decide(waiting)) => waiting,
                Some(Message::Close) | None => return (Vec::new(), Next::Leave),
            },
        };
        let mut weight = first.weight;
        let mut batch = vec![first];
        while batch.len() < BATCH_COMMANDS_MAX {
            match self.queue.try_recv() {
                Ok(Message::Decide(waiting)) if weight + waiting.weight > BATCH_BYTES_MAX => {
                    self.kept = Some(waiting);
                    break;
                }
                Ok(Message::Decide(waiting)) => {
                    weight += waiting.weight;
                    batch.push(waiting);
                }
                Ok(Message::Close) => return (batch, Next::Leave),
                Err(_) => break,
            }
        }
        (batch, Next::Decide)
    }

    /// Decides a batch in order, commits it, and answers. An error is the reason to stop.
    fn decide(&self, batch: Vec<Waiting>) -> Result<(), String> {
        let mut overlay = Overlay::new(self.engine.view(), &self.cluster);
        let mut decided = Vec::with_capacity(batch.len());
        let mut waiting = batch.into_iter();
        for Waiting {
            proposal,
            answer,
            _room,
            ..
        } in waiting.by_ref()
        {
            match ledger::apply(&mut overlay, proposal) {
                Ok(decision) => decided.push((answer, decision, _room)),
                Err(error) => {
                    let reason = format!("the ledger cannot decide: {error}");
                    let unanswered = decided.into_iter().map(|(answer, ..)| answer).chain([answer]);
                    for answer in unanswered.chain(waiting.map(|waiting| waiting.answer)) {
                        let _caller_left = answer.send(Err(CommitError::Stopped(reason.clone())));
                    }
                    return Err(reason);
                }
            }
        }
        self.batch.record(decided.len() as f64);
        self.commands.increment(decided.len() as u64);
        let committed = if overlay.is_empty() {
            Ok(())
        } else {
            self.engine
                .commit(overlay.into_batch(), Durability::Synced)
                .wait()
                .map(drop)
        };
        for (answer, decision, _room) in decided {
            let _caller_left = answer.send(committed.clone().map(|()| decision));
        }
        match committed {
            Err(CommitError::Stopped(reason)) => Err(reason),
            Ok(()) | Err(_) => Ok(()),
        }
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
