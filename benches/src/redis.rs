//! The gRPC face beside Redis: the same keys and values, the same 64 clients, one server after the other.
//!
//! ```text
//!  several times over:   SET │ Put      durable when answered: `appendonly yes`, `appendfsync always`
//!                        GET │ Get
//!               MGET of 100 │ GetMany of 100
//! ```
//!
//! Both servers run all the time, each with what it keeps in a folder of its own on one file system, and are loaded in turns.
//! Every client has a connection of its own and waits for each answer. Ours parses JSON, keeps causality, and tells a reader
//! context and clock; Redis keeps bytes.

use std::{
    net::{Ipv4Addr, TcpListener},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use ::redis::aio::MultiplexedConnection;
use continuum_tests::{Node, grpc, has_program};
use proto::v1::{
    BatchWrite, GetManyRequest, GetRequest, PutRequest, concepts_client::ConceptsClient, put_request::Write,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::{
    bulk,
    engine_puts::{VALUE_BYTES, median},
    report::{Better, Figure},
};

const PROGRAM: &str = "redis-server";
const NAMESPACE: &str = "beside";
const CLIENTS: usize = 64;
/// Keys that exist before the first trial; reads and writes choose among them.
const KEYS: u64 = 100_000;
/// Keys in one call for several.
const MANY: usize = 100;
/// One trial of one contestant.
const TRIAL: Duration = Duration::from_millis(1500);
const READY_WITHIN: Duration = Duration::from_secs(10);
const SEED: u64 = 64;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Write,
    Read,
    /// Of [`MANY`] keys; without contexts, where there are such.
    ReadMany,
    /// The same with contexts.
    ReadManyWhole,
}

/// One client of one server.
trait Client: Clone + Send + 'static {
    /// Makes one call and looks at its answer.
    fn call(&mut self, call: Call, keys: Vec<String>) -> impl Future<Output = ()> + Send;
}

fn key(number: u64) -> String {
    format!("key-{number:012}")
}

/// A JSON string of [`VALUE_BYTES`].
fn value(random: &mut StdRng) -> String {
    let letters = (0..VALUE_BYTES - 2).map(|_| char::from(random.random_range(b'a'..=b'z')));
    format!("\"{}\"", letters.collect::<String>())
}

/// A value that is the same for every write: making one would be the clients' work, not the servers'.
fn written() -> String {
    format!("\"{}\"", "w".repeat(VALUE_BYTES - 2))
}

/// Keys read or written per second by all of `clients` together.
async fn trial<C: Client>(clients: &[C], call: Call, seed: u64) -> f64 {
    let keys_each = match call {
        Call::Write | Call::Read => 1,
        Call::ReadMany | Call::ReadManyWhole => MANY,
    };
    let started = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for (number, client) in clients.iter().enumerate() {
        let mut client = client.clone();
        let mut random = StdRng::seed_from_u64(seed + number as u64);
        running.spawn(async move {
            let mut calls = 0;
            while started.elapsed() < TRIAL {
                let keys = (0..keys_each).map(|_| key(random.random_range(0..KEYS)));
                client.call(call, keys.collect()).await;
                calls += 1;
            }
            calls
        });
    }
    let mut calls = 0;
    while let Some(ended) = running.join_next().await {
        calls += ended.expect("a client whose calls were answered");
    }
    (calls * keys_each) as f64 / started.elapsed().as_secs_f64()
}

/// A `redis-server` of our own; dropped, it is killed and reaped.
struct Redis {
    process: Child,
    url: String,
    /// Removed after the process.
    _directory: TempDir,
}

impl Redis {
    fn start() -> Redis {
        let directory = TempDir::with_prefix("continuum-redis-").expect("a folder for temporary files");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on loopback");
        let port = free
            .local_addr()
            .expect("the address of a bound listener")
            .port()
            .to_string();
        drop(free);
        let process = Command::new(PROGRAM)
            .args([
                "--bind",
                "127.0.0.1",
                "--port",
                &port,
                "--save",
                "",
                "--daemonize",
                "no",
            ])
            .args(["--appendonly", "yes", "--appendfsync", "always"])
            // Rewriting its log would only slow it down.
            .args(["--auto-aof-rewrite-percentage", "0"])
            .arg("--dir")
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server was found before");
        Redis {
            process,
            url: format!("redis://127.0.0.1:{port}"),
            _directory: directory,
        }
    }

    async fn connect(&self) -> MultiplexedConnection {
        let client = ::redis::Client::open(self.url.as_str()).expect("an address of ours");
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            match client.get_multiplexed_async_connection().await {
                Ok(connection) => return connection,
                Err(error) => assert!(Instant::now() < deadline, "redis-server does not answer: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Client for MultiplexedConnection {
    async fn call(&mut self, call: Call, keys: Vec<String>) {
        match call {
            Call::Write => {
                let mut set = ::redis::cmd("SET");
                let () = set.arg(&keys).arg(written()).query_async(self).await.expect("SET");
            }
            Call::Read => {
                let read: String = ::redis::cmd("GET").arg(&keys).query_async(self).await.expect("GET");
                assert_eq!(read.len(), VALUE_BYTES);
            }
            Call::ReadMany | Call::ReadManyWhole => {
                let read: Vec<String> = ::redis::cmd("MGET").arg(&keys).query_async(self).await.expect("MGET");
                assert!(read.len() == MANY && read.iter().all(|value| value.len() == VALUE_BYTES));
            }
        }
    }
}

fn holds_value(concept: Option<&proto::v1::Concept>) -> bool {
    let value = concept.and_then(|concept| concept.value.as_ref());
    matches!(value, Some(proto::v1::concept::Value::Register(value)) if value.json.len() == VALUE_BYTES)
}

impl Client for ConceptsClient<Channel> {
    async fn call(&mut self, call: Call, mut keys: Vec<String>) {
        let namespace = NAMESPACE.to_owned();
        match call {
            Call::Write => {
                let request = PutRequest {
                    namespace,
                    key: keys.remove(0),
                    write: Some(Write::Register(written())),
                    ..PutRequest::default()
                };
                self.put(request).await.expect("a put");
            }
            Call::Read => {
                let key = keys.remove(0);
                let request = GetRequest {
                    namespace,
                    key,
                    ..GetRequest::default()
                };
                let read = self.get(request).await.expect("a get").into_inner();
                assert!(holds_value(read.concept.as_ref()));
            }
            Call::ReadMany | Call::ReadManyWhole => {
                let request = GetManyRequest {
                    namespace,
                    keys,
                    omit_contexts: call == Call::ReadMany,
                    ..GetManyRequest::default()
                };
                let read = self
                    .get_many(request)
                    .await
                    .expect("a get of many")
                    .into_inner()
                    .results;
                assert!(read.len() == MANY && read.iter().all(|result| holds_value(result.concept.as_ref())));
            }
        }
    }
}

/// Gives both servers the same keys and values.
async fn load(redis: &Redis, ours: &Channel) {
    let mut random = StdRng::seed_from_u64(SEED);
    let all: Vec<(String, String)> = (0..KEYS).map(|number| (key(number), value(&mut random))).collect();
    let mut connection = redis.connect().await;
    for chunk in all.chunks(bulk::CHUNK) {
        let mut set = ::redis::cmd("MSET");
        for (key, value) in chunk {
            set.arg(key).arg(value);
        }
        let () = set.query_async(&mut connection).await.expect("MSET");
    }
    let register = |(key, value): &(String, String)| bulk::register(NAMESPACE, key.clone(), value.clone());
    let chunks: Vec<Vec<BatchWrite>> = all
        .chunks(bulk::CHUNK)
        .map(|chunk| chunk.iter().map(register).collect())
        .collect();
    bulk::write(ours, chunks.into_iter()).await;
}

/// A connection as our own client opens it.
fn connect(node: &Node) -> Channel {
    let address = node.grpc().to_string();
    client::channel(&client::Settings::default(), &address).expect("an address of ours")
}

/// Whether this part can run.
///
/// # Errors
/// With what to do about it.
pub fn check() -> Result<(), String> {
    if has_program(PROGRAM) {
        return Ok(());
    }
    Err(format!(
        "{PROGRAM}, which the part `redis` measures beside ours, is missing: install it with `tools/setup measure`, or leave \
         that part out with --only"
    ))
}

/// All figures of this part.
///
/// # Panics
/// When a server does not start, or does not answer what it was asked.
pub async fn figures(repetitions: usize) -> Vec<Figure> {
    let node = Node::start().await;
    let redis = Redis::start();
    let _created = grpc::Namespace::create(&node, NAMESPACE).await;
    load(&redis, &grpc::channel(&node).await).await;
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..CLIENTS {
        theirs.push(redis.connect().await);
        ours.push(ConceptsClient::new(connect(&node)));
    }
    let works = [
        ("durable writes of 256 B, 64 clients", Call::Write, Some(0.4)),
        ("reads, 64 clients", Call::Read, Some(0.25)),
        (
            "reads of 100 keys, 64 clients, without contexts",
            Call::ReadMany,
            Some(1.0),
        ),
        (
            "reads of 100 keys, 64 clients, with contexts",
            Call::ReadManyWhole,
            None,
        ),
    ];
    let mut rates = works.map(|_| (Vec::new(), Vec::new()));
    for repetition in 0..repetitions as u64 {
        for ((_, call, _), (their_rates, our_rates)) in works.iter().zip(&mut rates) {
            let seed = SEED + (repetition + 1) * CLIENTS as u64;
            their_rates.push(trial(&theirs, *call, seed).await);
            our_rates.push(trial(&ours, *call, seed).await);
        }
    }
    let single_reads = median(&rates[1].0);
    let mut figures = vec![
        Figure::new(
            "redis",
            "reads of 100 keys, beside single ones",
            "keys/s",
            Better::Higher,
            &rates[2].1,
        )
        .beside("Redis 7, GET", single_reads),
    ];
    for ((name, _, bar), (their_rates, our_rates)) in works.into_iter().zip(rates) {
        let peer = median(&their_rates);
        let figure = Figure::new("redis", name, "keys/s", Better::Higher, &our_rates).beside("Redis 7", peer);
        figures.push(match bar {
            Some(bar) => figure.bar_ratio(bar),
            None => figure,
        });
        let itself: Vec<f64> = their_rates.iter().map(|rate| rate / peer).collect();
        let name = format!("A/A: Redis over its own median, {name}");
        figures.push(Figure::new("redis", name, "×", Better::Higher, &itself));
    }
    figures
}
