//! Time, chance, threads, sockets and signals: the only place that asks the system for them.
//!
//! | module | gives |
//! |---|---|
//! | [`time`] | the system clock, stopwatches, waiting |
//! | [`entropy`] | random bits and names |
//! | [`tasks`] | tasks and threads, and the word to stop that reaches all of them |
//! | [`health`] | what `/livez` and `/readyz` answer |
//! | [`listener`] | accepted connections, HTTP on them, and their time-outs |
//! | [`signals`] | SIGTERM and SIGINT |
//! | [`logs`] | structured log lines on standard error |
//! | [`directory`] | the data directory: made, locked, named |
//! | [`process`] | resident memory |
//!
//! Everything else in this crate gets time, chance and the word to stop handed in, so that tests and the simulation can
//! hand in their own. The module refuses to know what a node does.

pub mod directory;
pub mod entropy;
pub mod health;
pub mod listener;
pub mod logs;
pub mod process;
pub mod signals;
pub mod tasks;
pub mod time;
pub mod tls;

use std::io;

/// Threads that do blocking work (file reads of the database) beside the workers; enough to keep a disk busy.
const BLOCKING_THREADS_MAX: usize = 32;
/// A worker for each processor, but no more: beyond that they only cost memory.
const WORKER_THREADS_AUTO_MAX: usize = 8;

/// The asynchronous runtime: `worker_threads` workers, 0 for one per processor.
///
/// # Errors
/// When the system gives no threads.
pub fn build(worker_threads: u32) -> io::Result<tokio::runtime::Runtime> {
    let available = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(WORKER_THREADS_AUTO_MAX);
    let workers = if worker_threads == 0 {
        available
    } else {
        worker_threads as usize
    };
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("worker")
        .enable_all()
        .build()
}

/// A runtime beside it, for tasks that must not wait behind requests.
///
/// # Errors
/// When the system gives no threads.
pub fn separate(name: &str, worker_threads: usize) -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads)
        .max_blocking_threads(SEPARATE_BLOCKING_THREADS_MAX)
        .thread_name(name)
        .enable_all()
        .build()
}

/// Blocking work of a runtime beside the main one: an install now and then.
const SEPARATE_BLOCKING_THREADS_MAX: usize = 2;
