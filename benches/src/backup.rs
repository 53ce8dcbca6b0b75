//! Backups by `continuum-admin`: how fast alone, what one that is held back costs the callers beside it, and how long the way
//! back takes.
//!
//! ```text
//!  alone        backup create ─► files, summed, synced   beside: as many bytes written and synced, without a node
//!  held back    callers at a fixed rate:  quiet │ while a backup runs │ quiet        p99 of the second over the first
//!  restored     verify, copy, another life, start, ready; then everything is counted
//! ```
//!
//! Callers send at their times whatever became of the call before, and wait counts from then: a node that stands still for a
//! moment is seen by every call that should have been answered meanwhile.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use continuum_tests::{Admin, Launch, Node, grpc};
use engine::backup::{Restore, restore};
use proto::v1::{BatchWrite, GetRequest, PutRequest, concepts_client::ConceptsClient, put_request::Write};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::{
    bulk,
    engine_puts::median,
    report::{Better, Figure, quantile},
    scan,
};

const NAMESPACE: &str = "kept";
const DOCUMENTS: usize = 200_000;
const DOCUMENT_BYTES: usize = 1024;
/// Random letters that documents are cut from.
const LETTERS: usize = 1 << 20;
const SEED: u64 = 200_000;
/// Callers beside a backup, half of their calls durable puts, half gets.
const CALLERS: u32 = 8;
const CALLS_PER_S: u32 = 800;
/// The limit of the backup beside them.
const HELD_BACK_BYTES_PER_S: u64 = 32 << 20;
/// Pieces in which the same bytes are written without a node.
const PIECE_BYTES: usize = 256 << 10;
const MIB: f64 = 1024.0 * 1024.0;

fn key(number: usize) -> String {
    format!("document-{number:09}")
}

fn chunks() -> impl Iterator<Item = Vec<BatchWrite>> + Send + 'static {
    let mut random = StdRng::seed_from_u64(SEED);
    let letters: String = (0..LETTERS)
        .map(|_| char::from(random.random_range(b'a'..=b'z')))
        .collect();
    let text_bytes = DOCUMENT_BYTES - 2;
    (0..DOCUMENTS / bulk::CHUNK).map(move |chunk| {
        let first = chunk * bulk::CHUNK;
        let mut write = |number| {
            let start = random.random_range(0..LETTERS - text_bytes);
            let json = format!("\"{}\"", &letters[start..start + text_bytes]);
            bulk::register(NAMESPACE, key(number), json)
        };
        (first..first + bulk::CHUNK).map(&mut write).collect()
    })
}

/// Makes a backup within `folder`, from the command to its end. Returns where it is and its bytes.
async fn back_up(node: &Node, folder: PathBuf, bytes_per_s_max: u64) -> (PathBuf, u64) {
    let admin = Admin::of(node);
    let made = tokio::task::spawn_blocking(move || {
        let folder = folder.to_str().expect("temporary folders have plain names");
        let rate = bytes_per_s_max.to_string();
        let words = ["backup", "create", folder, "--bytes-per-s", &rate, "-o", "json"];
        admin.ok(&words).json()
    });
    let made = made.await.expect("a backup");
    let path = made["path"].as_str().expect("it says where it is").into();
    (path, made["bytes"].as_u64().expect("it says how large it is"))
}

/// Bytes per second of writing and syncing `bytes` without a node.
fn disk_rate(directory: &Path, bytes: u64) -> f64 {
    let path = directory.join("plain");
    let mut piece = vec![0; PIECE_BYTES];
    StdRng::seed_from_u64(SEED).fill(&mut piece[..]);
    let started = Instant::now();
    let mut file = File::create(&path).expect("a file");
    for _ in 0..bytes.div_ceil(PIECE_BYTES as u64) {
        file.write_all(&piece).expect("room");
    }
    file.sync_all().expect("a synced file");
    let rate = bytes as f64 / started.elapsed().as_secs_f64();
    fs::remove_file(path).expect("our own file");
    rate
}

/// p99 in milliseconds of calls made at a fixed rate until `over`.
async fn callers_p99(channel: &Channel, over: tokio::sync::watch::Receiver<bool>) -> f64 {
    let mut running = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        let (client, over) = (ConceptsClient::new(channel.clone()), over.clone());
        running.spawn(async move {
            let mut random = StdRng::seed_from_u64(SEED + u64::from(caller));
            let every = Duration::from_secs(1) * CALLERS / CALLS_PER_S;
            let mut due = tokio::time::Instant::now() + every * caller / CALLERS;
            let mut calls = tokio::task::JoinSet::new();
            while !*over.borrow() {
                tokio::time::sleep_until(due).await;
                let (client, key) = (client.clone(), key(random.random_range(0..DOCUMENTS)));
                calls.spawn(call(client, key, random.random(), due));
                due += every;
            }
            calls.join_all().await
        });
    }
    let mut samples = running.join_all().await.concat();
    samples.sort_by(f64::total_cmp);
    quantile(&samples, 0.99)
}

/// Milliseconds from when the call was due to its answer.
async fn call(mut client: ConceptsClient<Channel>, key: String, writes: bool, due: tokio::time::Instant) -> f64 {
    let namespace = NAMESPACE.to_owned();
    if writes {
        let put = PutRequest {
            namespace,
            key,
            write: Some(Write::Register(format!("\"{}\"", "w".repeat(DOCUMENT_BYTES - 2)))),
            ..PutRequest::default()
        };
        client.put(put).await.expect("a put");
    } else {
        let get = GetRequest {
            namespace,
            key,
            ..GetRequest::default()
        };
        client.get(get).await.expect("a get");
    }
    due.elapsed().as_secs_f64() * 1e3
}

/// One run: rates in MiB/s, times as they are named.
struct Run {
    alone: f64,
    disk: [f64; 2],
    quiet_p99_ms: [f64; 2],
    beside_p99_ms: f64,
    restored_s: f64,
}

/// p99 of callers while nothing else happens, for as long as `time`.
async fn quiet(channel: &Channel, time: Duration) -> f64 {
    let (done, over) = tokio::sync::watch::channel(false);
    let (p99, ()) = tokio::join!(callers_p99(channel, over), async move {
        tokio::time::sleep(time).await;
        done.send_replace(true);
    });
    p99
}

/// Restores `backup` and starts a node on it; seconds until it is ready.
async fn restored_s(backup: &Path) -> f64 {
    let launch = Launch::new();
    let started = Instant::now();
    let options = Restore {
        node: None,
        rejoin: false,
        entropy: rand::random,
    };
    let settings = engine::Settings::default();
    restore(backup, launch.data_directory(), &options, &settings, &mut |_, _| {}).expect("a restore");
    let node = launch.start().await;
    let took = started.elapsed().as_secs_f64();
    let found = scan::count(&grpc::channel(&node).await, NAMESPACE).await;
    assert_eq!(found, DOCUMENTS, "everything came back");
    took
}

async fn run(node: &Node) -> Run {
    let channel = grpc::channel(node).await;
    let folder = TempDir::with_prefix("continuum-backup-").expect("a folder for temporary files");

    let started = Instant::now();
    let (backup, bytes) = back_up(node, folder.path().to_owned(), 0).await;
    let alone = bytes as f64 / MIB / started.elapsed().as_secs_f64();
    let disk = [(); 2].map(|()| disk_rate(folder.path(), bytes) / MIB);

    let time = Duration::from_secs_f64(bytes as f64 / HELD_BACK_BYTES_PER_S as f64);
    let before = quiet(&channel, time).await;
    let (done, over) = tokio::sync::watch::channel(false);
    let (beside_p99_ms, ()) = tokio::join!(callers_p99(&channel, over), async {
        back_up(node, folder.path().to_owned(), HELD_BACK_BYTES_PER_S).await;
        done.send_replace(true);
    });
    let after = quiet(&channel, time).await;
    Run {
        alone,
        disk,
        quiet_p99_ms: [before, after],
        beside_p99_ms,
        restored_s: restored_s(&backup).await,
    }
}

/// All figures of this part.
///
/// # Panics
/// When a backup or a restore fails, or does not bring everything back.
pub async fn figures(repetitions: usize) -> Vec<Figure> {
    let node = Node::start().await;
    let _created = grpc::Namespace::create(&node, NAMESPACE).await;
    bulk::write(&grpc::channel(&node).await, chunks()).await;
    let mut runs = Vec::new();
    for _ in 0..repetitions {
        runs.push(run(&node).await);
    }
    let of = |what: fn(&Run) -> f64| -> Vec<f64> { runs.iter().map(what).collect() };
    let disk: Vec<f64> = runs.iter().flat_map(|run| run.disk).collect();
    let quiet: Vec<f64> = runs.iter().flat_map(|run| run.quiet_p99_ms).collect();
    // How far two quiet stretches of one run differ: what cannot be told from noise.
    let itself = of(|run| {
        let [one, other] = run.quiet_p99_ms;
        one.max(other) / one.min(other)
    });
    let disk_itself = of(|run| run.disk[1] / run.disk[0]);
    let growth = of(|run| run.beside_p99_ms / (run.quiet_p99_ms[0] + run.quiet_p99_ms[1]) * 2.0);
    // The median: one disturbed repetition must not excuse all the others.
    let allowed = median(&itself).max(1.1);
    let figure = |name: &str, unit, better, samples: &[f64]| Figure::new("backup", name, unit, better, samples);
    vec![
        figure(
            "200,000 documents of 1 KiB, alone",
            "MiB/s",
            Better::Higher,
            &of(|run| run.alone),
        )
        .beside("as many bytes written and synced", median(&disk)),
        figure("A/A: the disk over itself", "×", Better::Higher, &disk_itself),
        figure(
            "800 calls/s beside one of 32 MiB/s, p99",
            "ms",
            Better::Lower,
            &of(|run| run.beside_p99_ms),
        )
        .beside("without", median(&quiet)),
        figure("… over without, in the same repetition", "×", Better::Lower, &growth).bar(allowed),
        figure("A/A: without, the slower over the faster", "×", Better::Lower, &itself),
        figure(
            "restore of 200,000 documents, to ready",
            "s",
            Better::Lower,
            &of(|run| run.restored_s),
        )
        .bar(60.0),
    ]
}
