//! Where the nodes are, and the numbers that bound every call.

use std::{fmt, time::Duration};

use crate::error::Error;

/// The longest time that a setting may name: a year. Longer ones are mistakes of unit.
pub(crate) const DURATION_MAX: Duration = Duration::from_secs(366 * 86_400);
/// The most chunks of a bulk write that may wait for their acknowledgement.
const UNACKNOWLEDGED_MAX: usize = 1_024;

/// Where the nodes are, and the numbers that bound every call.
///
/// ```
/// use std::time::Duration;
///
/// let settings = continuum_client::Settings {
///     endpoints: vec!["db1:7000".to_owned(), "db2:7000".to_owned()],
///     call_timeout: Duration::from_secs(3),
///     ..continuum_client::Settings::default()
/// };
/// assert!(settings.validate().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The nodes' gRPC addresses, `HOST:PORT`; also `http://HOST:PORT` without TLS and `https://HOST:PORT` with it. The first is asked until it cannot be reached, then the
    /// next, round and round.
    pub endpoints: Vec<String>,
    /// How TLS is spoken with them; without, connections are plain.
    pub tls: Option<Tls>,
    /// Time for one call as a whole, every retry and wait included. The node is told what is left of it. Of a stream: the time
    /// until it has begun.
    pub call_timeout: Duration,
    /// Time for opening a connection.
    pub connect_timeout: Duration,
    /// A connection that was silent for so long is asked whether it still lives.
    pub keepalive_interval: Duration,
    /// A connection that does not answer that within so long is closed.
    pub keepalive_timeout: Duration,
    /// The first wait before a retry; each further one is twice as long, less a random part of up to a half.
    pub backoff_min: Duration,
    /// The longest of these waits.
    pub backoff_max: Duration,
    /// Tries of one call at most, the first included.
    pub attempts_max: u32,
    /// Whether each write gets a name of its own, under which it is carried out once; chunks of bulk writes always do. A write without one
    /// whose outcome is unknown is sent again by nobody: not by the client, and not by a node that passes it on to a leader.
    pub named_writes: bool,
    /// A call gives up once every endpoint was found unreachable so many times in a row, though time is left.
    pub unreachable_rounds_max: u32,
    /// A stream that broke is tried to be resumed for so long.
    pub resume_timeout: Duration,
    /// For so long a watch that broke is resumed only at its own node: at another it would have to begin with a resync.
    pub same_node_timeout: Duration,
    /// Chunks of a bulk write that wait for their acknowledgement at most.
    pub unacknowledged_chunks_max: usize,
    /// A stream on which nothing comes for so long, though something is due, counts as broken. Nodes send progress every 5 s.
    pub silence_max: Duration,
}

/// Whom to believe, and what to show.
#[derive(Clone, PartialEq, Eq)]
pub struct Tls {
    /// The authority that signed the nodes' certificates, PEM.
    pub ca: String,
    /// What is shown to nodes that ask for a certificate.
    pub identity: Option<Identity>,
}

/// A certificate and its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate chain, PEM.
    pub cert: String,
    /// The private key, PEM.
    pub key: String,
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identity = self.identity.as_ref().map(|_| "…");
        formatter
            .debug_struct("Tls")
            .field("identity", &identity)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Identity {
    /// Never the key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            endpoints: vec!["127.0.0.1:7000".to_owned()],
            tls: None,
            call_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(3),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
            attempts_max: 64,
            named_writes: true,
            unreachable_rounds_max: 64,
            resume_timeout: Duration::from_secs(300),
            same_node_timeout: Duration::from_secs(30),
            unacknowledged_chunks_max: 8,
            silence_max: Duration::from_secs(30),
        }
    }
}

impl Settings {
    /// The defaults, with these endpoints.
    #[must_use]
    pub fn of<S: Into<String>>(endpoints: impl IntoIterator<Item = S>) -> Settings {
        Settings {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            ..Settings::default()
        }
    }

    /// Checks that the numbers fit together.
    ///
    /// # Errors
    /// Names the first setting that breaks its rule.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |rule: String| Err(Error::settings(rule));
        if self.endpoints.is_empty() {
            return refuse("endpoints: name at least one, HOST:PORT".to_owned());
        }
        let durations = [
            ("call_timeout", self.call_timeout),
            ("connect_timeout", self.connect_timeout),
            ("keepalive_interval", self.keepalive_interval),
            ("keepalive_timeout", self.keepalive_timeout),
            ("backoff_min", self.backoff_min),
            ("backoff_max", self.backoff_max),
            ("resume_timeout", self.resume_timeout),
            ("silence_max", self.silence_max),
        ];
        for (name, duration) in durations {
            if duration.is_zero() || duration > DURATION_MAX {
                return refuse(format!(
                    "{name}: must be above zero and at most a year, was {duration:?}"
                ));
            }
        }
        if self.backoff_min > self.backoff_max {
            return refuse(format!(
                "backoff_min: must be at most backoff_max ({:?}), was {:?}",
                self.backoff_max, self.backoff_min
            ));
        }
        if self.attempts_max == 0 || self.unreachable_rounds_max == 0 {
            return refuse("attempts_max and unreachable_rounds_max: must be at least 1".to_owned());
        }
        if !(1..=UNACKNOWLEDGED_MAX).contains(&self.unacknowledged_chunks_max) {
            return refuse(format!(
                "unacknowledged_chunks_max: must be 1 to {UNACKNOWLEDGED_MAX}, was {}",
                self.unacknowledged_chunks_max
            ));
        }
        self.endpoints.iter().try_for_each(|endpoint| {
            crate::connection::uri(endpoint, self.tls.as_ref())?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit_together() {
        assert!(Settings::default().validate().is_ok());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        type Spoil = fn(&mut Settings);
        let wrong: [(&str, Spoil); 6] = [
            ("endpoints", |settings| settings.endpoints.clear()),
            ("endpoint `db1`", |settings| settings.endpoints.push("db1".to_owned())),
            ("call_timeout", |settings| settings.call_timeout = Duration::ZERO),
            ("resume_timeout", |settings| settings.resume_timeout = Duration::MAX),
            ("backoff_min", |settings| {
                settings.backoff_max = Duration::from_millis(1)
            }),
            ("unacknowledged_chunks_max", |settings| {
                settings.unacknowledged_chunks_max = 0;
            }),
        ];
        for (name, change) in wrong {
            let mut settings = Settings::default();
            change(&mut settings);
            let error = settings.validate().unwrap_err();
            assert!(error.message().contains(name), "{error}");
        }
    }
}
