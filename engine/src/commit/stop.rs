//! Why an engine no longer takes writes; said once, seen by all.

use tokio::sync::watch;

/// The reason, once there is one.
pub(crate) struct Stop {
    reason: watch::Sender<Option<String>>,
}

impl Stop {
    pub(crate) fn new() -> Stop {
        Stop {
            reason: watch::Sender::new(None),
        }
    }

    /// Records the first reason; later ones are consequences of it.
    pub(crate) fn stop(&self, reason: &str) {
        self.reason.send_if_modified(|known| {
            let first = known.is_none();
            known.get_or_insert_with(|| reason.to_owned());
            first
        });
    }

    pub(crate) fn reason(&self) -> Option<String> {
        self.reason.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Option<String>> {
        self.reason.subscribe()
    }
}
