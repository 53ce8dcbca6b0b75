//! The three threads behind the door: started together, stopped together.
//!
//! A panic or an error in any of them stops the engine: what is queued is answered with the reason, and nothing is
//! acknowledged any more.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use wal::Log;

use super::{
    applier::Applier,
    committer::{Committer, Parts},
    flusher,
    queue::Queue,
    stop::Stop,
};
use crate::store::Store;

/// Groups that may wait between log and store. One is enough to keep both busy.
const GROUPS_WAITING_MAX: usize = 1;

/// The running threads.
pub(crate) struct Threads {
    committer: JoinHandle<Option<Log>>,
    applier: JoinHandle<()>,
    flusher: JoinHandle<()>,
}

impl Threads {
    /// Starts them.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(parts: Parts, store: &Arc<dyn Store>) -> io::Result<Threads> {
        let (group_sender, groups) = mpsc::sync_channel(GROUPS_WAITING_MAX);
        let (flush_sender, flushes) = mpsc::channel();
        let guard = Guard {
            queue: Arc::clone(&parts.queue),
            stop: Arc::clone(&parts.stop),
        };
        let applier = Applier {
            store: Arc::clone(store),
            progress: Arc::clone(&parts.progress),
            queue: Arc::clone(&parts.queue),
            stop: Arc::clone(&parts.stop),
            room: parts.space.room(parts.flush_log_bytes),
        };
        let committer = Committer::new(parts, applier.clone(), group_sender, flush_sender);
        let applier = {
            let guard = guard.clone();
            spawn("applier", move || {
                guard.run(|| applier.run(&groups));
            })?
        };
        let flusher = {
            let (store, guard) = (Arc::clone(store), guard.clone());
            spawn("flusher", move || {
                guard.run(|| {
                    flusher::run(&flushes, &*store, &guard.queue);
                    Ok(())
                });
            })?
        };
        let committer = spawn("committer", move || guard.run(|| committer.run()))?;
        Ok(Threads {
            committer,
            applier,
            flusher,
        })
    }

    /// Waits for all to end, once the queue is closed; the log, synced, or nothing when the engine was stopped.
    pub(crate) fn join(self) -> Option<Log> {
        // Each thread catches its panics, so there is none to pass on here.
        let log = self.committer.join().ok().flatten();
        let applied = self.applier.join().is_ok();
        let flushed = self.flusher.join().is_ok();
        log.filter(|_| applied && flushed)
    }
}

#[derive(Clone)]
struct Guard {
    queue: Arc<Queue>,
    stop: Arc<Stop>,
}

impl Guard {
    /// Runs a thread's body; an error or panic stops the engine.
    fn run<T>(&self, body: impl FnOnce() -> Result<T, String>) -> Option<T> {
        let reason = match catch_unwind(AssertUnwindSafe(body)) {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(reason)) => reason,
            Err(panic) => format!("a thread of the engine panicked: {}", message(&*panic)),
        };
        self.stop.stop(&reason);
        tracing::error!(%reason, "the engine has stopped; restart the process to recover");
        self.queue.abandon();
        None
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

fn spawn<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body)
}
