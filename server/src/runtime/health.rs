//! What `/livez` and `/readyz` answer.
//!
//! A *live* check that fails means the process is of no further use and should be restarted; a *ready* check that fails
//! means only that it should get no requests now. Every live check counts for readiness too. A *limited* check that fails
//! means that some requests are refused or slow: it is told, and decides nothing.

use std::sync::Arc;

use tokio::sync::watch;

/// What a failing check means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bearing {
    /// Restart the process.
    Live,
    /// Send no requests now.
    Ready,
    /// Some requests are refused or slow; the others are served.
    Limited,
}

/// The state of a node's checks; clones share it.
#[derive(Clone, Debug)]
pub struct Health(Arc<watch::Sender<Vec<Check>>>);

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name, as `?verbose` shows it.
    pub name: &'static str,
    /// What its failing means.
    pub bearing: Bearing,
    /// Why it fails; `None` while it passes.
    pub failure: Option<String>,
}

/// An answer: passing when every check in it passes that decides anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The checks that were asked for.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether every check passes.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.failing().next().is_none()
    }

    /// The checks for which it does not pass.
    pub fn failing(&self) -> impl Iterator<Item = &Check> {
        self.checks
            .iter()
            .filter(|check| check.bearing != Bearing::Limited && check.failure.is_some())
    }
}

impl Health {
    /// Checks that all fail with "starting" until someone says otherwise.
    #[must_use]
    pub fn starting(checks: &[(&'static str, Bearing)]) -> Health {
        let check = |(name, bearing): &(&'static str, Bearing)| Check {
            name,
            bearing: *bearing,
            // A node that starts is alive.
            failure: (*bearing != Bearing::Live).then(|| "starting".to_owned()),
        };
        Health(Arc::new(watch::Sender::new(checks.iter().map(check).collect())))
    }

    /// The named check passes.
    pub fn pass(&self, name: &'static str) {
        self.set(name, None);
    }

    /// The named check fails, and why.
    pub fn fail(&self, name: &'static str, reason: impl Into<String>) {
        self.set(name, Some(reason.into()));
    }

    fn set(&self, name: &'static str, failure: Option<String>) {
        self.0.send_if_modified(|checks| {
            let check = checks.iter_mut().find(|check| check.name == name);
            debug_assert!(check.is_some(), "{name} is a check of this node");
            check.is_some_and(|check| std::mem::replace(&mut check.failure, failure.clone()) != failure)
        });
    }

    /// Wakes at each change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Vec<Check>> {
        self.0.subscribe()
    }

    /// What `/livez` answers.
    #[must_use]
    pub fn live(&self) -> Report {
        Report {
            checks: self
                .0
                .borrow()
                .iter()
                .filter(|check| check.bearing == Bearing::Live)
                .cloned()
                .collect(),
        }
    }

    /// What `/readyz` answers.
    #[must_use]
    pub fn ready(&self) -> Report {
        Report {
            checks: self.0.borrow().clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> Health {
        Health::starting(&[("engine", Bearing::Live), ("search", Bearing::Ready)])
    }

    #[test]
    fn a_limited_check_is_told_and_decides_nothing() {
        let health = Health::starting(&[("index", Bearing::Limited)]);
        assert!(health.ready().passes());
        assert_eq!(health.ready().checks[0].failure.as_deref(), Some("starting"));
        assert!(health.live().checks.is_empty());
    }

    #[test]
    fn a_node_that_starts_is_alive_and_not_ready() {
        let health = health();
        assert!(health.live().passes() && !health.ready().passes());
        assert_eq!(health.live().checks.len(), 1);
        health.pass("search");
        assert!(health.ready().passes());
    }

    #[test]
    fn a_live_check_that_fails_fails_readiness_too() {
        let health = health();
        health.pass("search");
        let changes = health.changes();
        health.fail("engine", "the disk is gone");
        assert!(!health.live().passes() && !health.ready().passes());
        assert_eq!(health.ready().checks[0].failure.as_deref(), Some("the disk is gone"));
        assert!(changes.has_changed().unwrap());
    }
}
