//! Clients that read and write a few keys at every node at once, while something goes wrong; what they were told is judged.
//!
//! ```text
//!  clients ── get, put, delete, compare-and-set ──► any node          faults: what the test does to the cluster meanwhile
//!     │ each call with its begin, end and outcome                     │
//!     ▼                                                               ▼
//!  Recorder ◄── after all is well again: every key is read at every node
//!     ▼
//!  linearizable::check
//! ```
//!
//! The keys lie in two namespaces that replicate by consensus, and are new in each history. One of them is a pair, for what is
//! done to several keys at once.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use client::{
    Action as Step, ActionResult, Changed, Compare, Concept, Delete, Error, Kind, Namespace, Put, Transacted,
    Transaction,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::task::JoinSet;

use crate::{
    cluster::{self, Adjust, Cluster, SETTLED_WITHIN},
    history::{Action, Answer, History, Operation, Outcome, Recorder},
    linearizable, skipped,
};

mod pair;

const NAMESPACES: [&str; 2] = ["left", "right"];
/// A node that refuses is left alone for so long.
const REFUSED_PAUSE: Duration = Duration::from_millis(30);
/// What is read in the middle of a fault is answered by then, or not at all.
const AT_ONCE: Duration = Duration::from_millis(400);
/// How much longer the longer mode is.
const LONGER: usize = 20;
/// Clients beside those of the workload have numbers from here.
const OTHERS: usize = 100;

/// How much is asked.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Clients, each of which makes one call at a time.
    pub clients: usize,
    /// Keys in all namespaces, beside the pair.
    pub keys: usize,
    /// Calls that are carried out, at least.
    pub operations_min: usize,
    /// A client waits up to so long between two calls.
    pub pause_max: Duration,
    /// Nodes that are asked.
    pub nodes: Vec<u8>,
}

impl Default for Workload {
    fn default() -> Workload {
        Workload {
            clients: 16,
            keys: 8,
            operations_min: 1_000,
            pause_max: Duration::from_millis(6),
            nodes: vec![1, 2, 3],
        }
    }
}

/// A key, and whom to ask for it.
#[derive(Clone)]
struct Key {
    name: String,
    /// By node; the second is for clients that do not try a call again, and whose writes have no names.
    at: HashMap<u8, [Namespace; 2]>,
    key: String,
    /// The other key of a pair.
    twin: Option<String>,
}

/// Clients at work.
pub struct Load {
    recorder: Arc<Recorder>,
    keys: Arc<[Key]>,
    stop: Arc<AtomicBool>,
    running: JoinSet<()>,
}

/// A cluster with the namespaces; `None`, and it is told, where this machine does not allow it.
///
/// # Panics
/// When the nodes do not come together.
pub async fn cluster(test: &str, size: u8) -> Option<Cluster> {
    adjusted(test, size, Box::new(|_, launch| launch)).await
}

/// The same, each node started as `adjust` says.
///
/// # Panics
/// When the nodes do not come together.
pub async fn adjusted(test: &str, size: u8, adjust: Adjust) -> Option<Cluster> {
    with_namespaces(test, Cluster::adjusted(size, adjust).await).await
}

/// The same, but members reach each other through proxies.
///
/// # Panics
/// When the nodes do not come together.
pub async fn proxied(test: &str, size: u8, adjust: Adjust) -> Option<Cluster> {
    with_namespaces(test, Cluster::proxied(size, adjust).await).await
}

async fn with_namespaces(test: &str, formed: Result<Cluster, String>) -> Option<Cluster> {
    let mut cluster = formed.map_err(|reason| skipped(test, &reason)).ok()?;
    let leader = cluster.leader().await;
    for name in NAMESPACES {
        let made = cluster.client(leader).namespaces().create_consensus(name).await;
        made.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    Some(cluster)
}

/// So many rounds; many times as many where the longer modes are asked for.
#[must_use]
pub fn rounds(few: usize) -> std::ops::Range<usize> {
    0..if crate::long() { few * LONGER } else { few }
}

impl Workload {
    /// Runs it while `faults` is carried out, and a little longer: until enough calls were answered, and then every key was read at
    /// every node of the cluster. Judges the history; `label` names it, and its keys.
    ///
    /// # Panics
    /// When there is no order of the calls that explains the answers; the history is written to a file. When the cluster does not
    /// answer again after the faults.
    pub async fn run(
        &self,
        cluster: &mut Cluster,
        label: &str,
        faults: impl AsyncFnOnce(&mut Cluster, &Load),
    ) -> History {
        let since = Instant::now();
        let mut load = self.start(cluster, label);
        faults(cluster, &load).await;
        let healed = load.recorder.now();
        let answered = || load.recorder.history().counts().0;
        let deadline = Instant::now() + SETTLED_WITHIN;
        while answered() < self.operations_min && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        load.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = load.running.join_next().await {
            ended.expect("a client does not panic");
        }
        load.read_everything(cluster).await;
        let history = load.recorder.history();
        if let Err(violation) = linearizable::check(&history) {
            let path = history.write(label).expect("a file for the history");
            panic!(
                "{label} is not linearizable; the whole history is in {}\n{violation}",
                path.display()
            );
        }
        let (done, failed, unknown) = history.counts();
        println!(
            "{label}: {done} calls done, {failed} refused, {unknown} unknown; {:.1} s, of which {:.1} s until the faults were over",
            since.elapsed().as_secs_f64(),
            healed.as_secs_f64()
        );
        assert!(
            done >= self.operations_min,
            "{label}: only {done} calls were carried out"
        );
        history
    }

    fn start(&self, cluster: &Cluster, label: &str) -> Load {
        let all = 1..=cluster::NODES_MAX;
        let at = |node, namespace: &str| {
            let clients = [cluster.client(node), cluster.client_without_retries(node)];
            clients.map(|client| client.namespace(namespace))
        };
        let key = |number: usize, twin| {
            let (namespace, key) = (NAMESPACES[number % NAMESPACES.len()], format!("{label} {number}"));
            Key {
                name: format!("{namespace}/{key}"),
                at: all.clone().map(|node| (node, at(node, namespace))).collect(),
                key,
                twin,
            }
        };
        let pair = key(self.keys, Some(format!("{label} twin")));
        let mut load = Load {
            recorder: Arc::default(),
            keys: (0..self.keys).map(|number| key(number, None)).chain([pair]).collect(),
            stop: Arc::default(),
            running: JoinSet::new(),
        };
        for number in 0..self.clients {
            let caller = Caller {
                number,
                random: StdRng::seed_from_u64(rand::random()),
                recorder: Arc::clone(&load.recorder),
                keys: Arc::clone(&load.keys),
                read: HashMap::new(),
            };
            load.running.spawn(caller.work(self.clone(), Arc::clone(&load.stop)));
        }
        load
    }
}

impl Load {
    /// Reads every key at one node, all at once; how many were answered within a moment.
    pub async fn read_at_once(&self, node: u8) -> usize {
        let mut running = JoinSet::new();
        for (place, key) in self.keys.iter().cloned().enumerate() {
            let recorder = Arc::clone(&self.recorder);
            running.spawn(async move {
                let read = recorded(&recorder, OTHERS + place, node, &key, Action::Get, None);
                let read = tokio::time::timeout(AT_ONCE, read).await;
                read.is_ok_and(|(outcome, _)| matches!(outcome, Outcome::Done(_)))
            });
        }
        let answers = running.join_all().await;
        answers.iter().filter(|answered| **answered).count()
    }

    /// Writes at all of these nodes until one acknowledges it; how long that took.
    ///
    /// # Panics
    /// When none does within [`SETTLED_WITHIN`].
    pub async fn decides(&self, nodes: &[u8]) -> Duration {
        let since = Instant::now();
        let mut running = JoinSet::new();
        for (place, node) in nodes.iter().copied().enumerate() {
            let (recorder, key) = (Arc::clone(&self.recorder), self.keys[place % self.keys.len()].clone());
            running.spawn(async move {
                loop {
                    let put = Action::Put(recorder.value());
                    let (outcome, _) = recorded(&recorder, OTHERS + place, node, &key, put, None).await;
                    if let Outcome::Done(_) = outcome {
                        return node;
                    }
                    assert!(since.elapsed() < SETTLED_WITHIN, "n{node} decides nothing: {outcome:?}");
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
            });
        }
        let first = running.join_next().await.expect("somebody is asked");
        let node = first.expect("something is decided");
        let took = since.elapsed();
        // Those that are still asked are waited for, or their calls would be recorded too late.
        running.shutdown().await;
        println!("n{node} decides after {:.2} s", took.as_secs_f64());
        took
    }

    /// Reads every key at every node; each must answer in time.
    async fn read_everything(&self, cluster: &Cluster) {
        let deadline = Instant::now() + SETTLED_WITHIN;
        for node in cluster.members() {
            for key in &*self.keys {
                loop {
                    let (outcome, _) = recorded(&self.recorder, OTHERS, node, key, Action::Get, None).await;
                    match outcome {
                        Outcome::Done(_) => break,
                        refused => assert!(
                            Instant::now() < deadline,
                            "n{node} does not read {}: {refused:?}",
                            key.name
                        ),
                    }
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
            }
        }
    }

    /// Calls answered until now.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.recorder.history().counts().0
    }
}

/// One client.
struct Caller {
    number: usize,
    random: StdRng,
    recorder: Arc<Recorder>,
    keys: Arc<[Key]>,
    /// What it last read, by key.
    read: HashMap<usize, Option<Concept>>,
}

impl Caller {
    async fn work(mut self, workload: Workload, stop: Arc<AtomicBool>) {
        let mut node = workload.nodes[self.number % workload.nodes.len()];
        while !stop.load(Ordering::Relaxed) {
            if self.random.random_range(0..4) == 0 {
                node = workload.nodes[self.random.random_range(0..workload.nodes.len())];
            }
            let place = self.random.random_range(0..self.keys.len());
            let (action, context) = self.next(place);
            let key = &self.keys[place];
            let (outcome, concept) = recorded(&self.recorder, self.number, node, key, action, context).await;
            let pause = match outcome {
                Outcome::Done(Answer::Read(_)) => {
                    self.read.insert(place, concept);
                    workload.pause_max
                }
                Outcome::Done(_) => workload.pause_max,
                Outcome::Failed(_) | Outcome::Unknown(_) => workload.pause_max + REFUSED_PAUSE,
            };
            tokio::time::sleep(pause.mul_f64(self.random.random())).await;
        }
    }

    /// What to do with a key; a compare-and-set is of what was last read, by its text or by its context.
    fn next(&mut self, place: usize) -> (Action, Option<Concept>) {
        let value = self.recorder.value();
        match (self.random.random_range(0..100), self.read.get(&place)) {
            (0..45, _) => (Action::Get, None),
            (45..53, _) => (Action::Delete, None),
            (53..75, Some(read)) => {
                let expected = read.as_ref().and_then(held);
                let by_context = self.random.random_range(0..2) == 0;
                let context = read.clone().filter(|_| by_context);
                (Action::CompareAndSet { expected, value }, context)
            }
            _ => (Action::Put(value), None),
        }
    }
}

/// A call under way. Dropped in the middle it is recorded too: it may happen, though nobody waits for the answer.
struct UnderWay<'a> {
    recorder: &'a Recorder,
    /// `None` once it is recorded.
    operation: Option<Operation>,
}

impl UnderWay<'_> {
    fn ended(&mut self, outcome: Outcome) {
        if let Some(mut operation) = self.operation.take() {
            operation.end = self.recorder.now();
            operation.outcome = outcome;
            self.recorder.add(operation);
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.ended(Outcome::Unknown("nobody waited for the answer".to_owned()));
    }
}

/// Makes one call and records it; a read also returns what it read.
async fn recorded(
    recorder: &Recorder,
    client: usize,
    node: u8,
    key: &Key,
    action: Action,
    context: Option<Concept>,
) -> (Outcome, Option<Concept>) {
    let begin = recorder.now();
    let operation = Operation {
        client,
        node: cluster::name(node),
        key: key.name.clone(),
        action,
        begin,
        end: begin,
        outcome: Outcome::Unknown(String::new()),
    };
    let mut call = UnderWay {
        recorder,
        operation: Some(operation),
    };
    let namespace = &key.at[&node][client % 2];
    let performed = match &key.twin {
        Some(twin) => pair::perform(namespace, [&key.key, twin], action).await,
        None => perform(namespace, &key.key, action, context).await,
    };
    let (outcome, concept) = match performed {
        Ok((answer, concept)) => (Outcome::Done(answer), concept),
        Err(error) if error.changed() == Some(Changed::Perhaps) => (Outcome::Unknown(error.to_string()), None),
        Err(error) => (Outcome::Failed(error.to_string()), None),
    };
    call.ended(outcome.clone());
    (outcome, concept)
}

async fn perform(
    namespace: &Namespace,
    key: &str,
    action: Action,
    context: Option<Concept>,
) -> Result<(Answer, Option<Concept>), Error> {
    let answer = match action {
        Action::Get => {
            let concept = namespace.get(key).await?;
            let read = Answer::Read(concept.as_ref().and_then(held));
            return Ok((read, concept));
        }
        Action::Put(value) => {
            namespace.put(key, Put::register(value.to_string())).await?;
            Answer::Written
        }
        Action::Delete => Answer::Deleted(namespace.delete(key, Delete::new()).await?.deleted),
        Action::CompareAndSet { value, .. } if let Some(read) = context => {
            let put = Put::register(value.to_string()).if_context(&read.context);
            match namespace.put(key, put).await {
                Ok(_) => Answer::Swapped,
                Err(error) if matches!(error.kind(), Kind::ConditionFailed { .. }) => Answer::Refused,
                Err(error) => return Err(error),
            }
        }
        Action::CompareAndSet { expected, value } => {
            let compare = match expected {
                Some(expected) => Compare::json(key, expected.to_string()),
                None => Compare::absent(key),
            };
            let transaction = Transaction::new()
                .compare(compare)
                .then(Step::put(key, value.to_string()))
                .otherwise(Step::get(key));
            swapped(namespace.transact(transaction).await?)
        }
    };
    Ok((answer, None))
}

fn swapped(done: Transacted) -> Answer {
    match done.results.first() {
        _ if done.succeeded() => Answer::Swapped,
        Some(ActionResult::Got { concept, .. }) => Answer::Differed(concept.as_ref().and_then(held)),
        other => panic!("a read should have been carried out: {other:?}"),
    }
}

/// The number that a key holds.
fn held(concept: &Concept) -> Option<u64> {
    let json = concept.register().unwrap_or_else(|| panic!("a register: {concept:?}"));
    Some(json.parse().unwrap_or_else(|error| panic!("{json}: {error}")))
}
