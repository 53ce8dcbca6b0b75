//! Durable puts of 256 bytes through the engine's door, beside synced puts into raw RocksDB.
//!
//! ```text
//!  for each number of writers, several times over:   raw RocksDB for a while │ engine for a while
//!                                                    (its own WAL, sync)     │ (our log, one fdatasync per group)
//! ```
//!
//! Both keep one thread for each writer, each waiting for its put before the next, on keys never written before, in one
//! directory of the same file system. RocksDB brings its own group commit. The engine does more for a put: it joins over
//! the present state, and writes the key's index row and the row of its dot.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use engine::{
    Batch, Durability, Engine, Environment, Mutation, Supersede,
    clock::{Clock, Timestamp},
    crdt::{Kind, Operation},
    keyspace::NamespaceId,
};

/// Bytes of each value.
pub const VALUE_BYTES: usize = 256;

/// The writers of the figures asked for.
pub const WRITERS: [usize; 4] = [1, 16, 64, 256];

/// How long and how often to measure.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Numbers of concurrent writers.
    pub writers: Vec<usize>,
    /// Trials of each contestant, interleaved.
    pub rounds: usize,
    /// One trial.
    pub trial: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            writers: WRITERS.to_vec(),
            rounds: 5,
            trial: Duration::from_millis(1500),
        }
    }
}

/// Puts per second with one number of writers, one entry for each round.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Concurrent writers.
    pub writers: usize,
    /// The engine.
    pub engine: Vec<f64>,
    /// Raw RocksDB.
    pub rocksdb: Vec<f64>,
}

impl Figure {
    /// The median of the engine's over the median of RocksDB's.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        median(&self.engine) / median(&self.rocksdb)
    }
}

/// The middle one of `values`.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Runs both contestants in `directory`, which must be on the disk that is meant.
///
/// # Panics
/// When either cannot be opened or refuses a put: then there is no figure.
pub fn run(directory: &Path, settings: &Settings) -> Vec<Figure> {
    let raw = Raw::open(&directory.join("rocksdb"));
    let door = Door::open(&directory.join("engine"));
    let figures = settings
        .writers
        .iter()
        .map(|&writers| {
            let mut figure = Figure {
                writers,
                engine: Vec::new(),
                rocksdb: Vec::new(),
            };
            for _ in 0..settings.rounds {
                figure.rocksdb.push(trial(writers, settings.trial, |key| raw.put(key)));
                figure.engine.push(trial(writers, settings.trial, |key| door.put(key)));
            }
            figure
        })
        .collect();
    door.0.close().expect("the engine closes after the trials");
    figures
}

/// Puts per second of `writers` threads over `duration`.
pub fn trial(writers: usize, duration: Duration, put: impl Fn(u64) + Sync) -> f64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..writers {
            scope.spawn(|| {
                let mut puts = 0;
                while !stop.load(Ordering::Relaxed) {
                    put(NEXT.fetch_add(1, Ordering::Relaxed));
                    puts += 1;
                }
                done.fetch_add(puts, Ordering::Relaxed);
            });
        }
        std::thread::sleep(duration);
        stop.store(true, Ordering::Relaxed);
    });
    done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64()
}

/// Sixteen bytes in no order, the same for both contestants.
fn key(number: u64) -> [u8; 16] {
    let mixed = (u128::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    mixed.to_be_bytes()
}

/// Raw RocksDB, each put synced into its own WAL.
pub struct Raw {
    database: rocksdb::DB,
    synced: rocksdb::WriteOptions,
}

impl Raw {
    /// Opens or makes it.
    ///
    /// # Panics
    /// When it cannot be opened.
    #[must_use]
    pub fn open(directory: &Path) -> Raw {
        let database = rocksdb::DB::open_default(directory).expect("RocksDB opens");
        let mut synced = rocksdb::WriteOptions::default();
        synced.set_sync(true);
        Raw { database, synced }
    }

    /// One synced put.
    ///
    /// # Panics
    /// When it is refused.
    pub fn put(&self, number: u64) {
        self.database
            .put_opt(key(number), [b'x'; VALUE_BYTES], &self.synced)
            .expect("RocksDB puts");
    }
}

/// The engine, each put acknowledged after the sync that covers it.
pub struct Door(pub Engine);

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
    }
}

impl Door {
    /// Opens or makes it.
    ///
    /// # Panics
    /// When it cannot be opened.
    #[must_use]
    pub fn open(directory: &Path) -> Door {
        let settings = engine::Settings::default();
        let environment = Environment::in_directory(directory, &settings, "bench", Arc::new(SystemClock), rand::random)
            .expect("the directory can be used");
        Door(Engine::open(settings, environment).expect("the engine opens"))
    }

    /// One durable put.
    ///
    /// # Panics
    /// When it is refused.
    pub fn put(&self, number: u64) {
        let mut json = String::with_capacity(VALUE_BYTES);
        json.push('"');
        json.extend(std::iter::repeat_n('x', VALUE_BYTES - 2));
        json.push('"');
        let mutation = Mutation::Local {
            namespace: NamespaceId::FIRST_USER,
            key: key(number).to_vec(),
            operation: Operation::Put {
                kind: Kind::Register,
                json,
                expires: None,
            },
            supersede: Supersede::All,
        };
        self.0
            .commit(Batch::one(mutation), Durability::Synced)
            .wait()
            .expect("the engine puts");
    }
}
