//! Tasks and threads, and the word to stop that reaches all of them.
#![allow(clippy::disallowed_methods)] // this module is the replacement the ban names

use std::{future::Future, io, thread};

use tokio::{sync::watch, task::JoinHandle};

/// Starts a task.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}

/// Runs blocking work beside the workers; `None` when it panicked or the runtime is going down.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// Starts blocking work beside the workers and does not wait for it: the work must see for itself when to end.
pub fn start_blocking(work: impl FnOnce() + Send + 'static) {
    drop(tokio::task::spawn_blocking(work));
}

/// Waits for `future` within blocking work started here; other threads may block by themselves.
pub fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Handle::current().block_on(future)
}

/// Starts a thread of its own, for work that waits for the disk.
///
/// # Errors
/// When the system gives no thread.
pub fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// The hand that gives the word to stop; dropping it gives the word too.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

/// The ear that hears it; clones hear the same word.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

/// A hand and its ear.
#[must_use]
pub fn stop() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(false);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// Gives the word; saying it again changes nothing.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Whether the word was given.
    #[must_use]
    pub fn is_given(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Waits for the word.
    pub async fn given(&self) {
        let mut receiver = self.0.clone();
        // An error means that the hand is gone, which is the word as well.
        let _gone = receiver.wait_for(|given| *given).await;
    }
}
