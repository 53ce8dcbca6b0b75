//! Structured log lines on standard error: text for a terminal, one JSON object per line otherwise.
//!
//! Logging is the process's, as standard error is: the level can be changed while it runs, for all nodes in it.

use std::{
    io::{self, IsTerminal as _},
    sync::OnceLock,
};

use tracing_subscriber::{EnvFilter, Registry, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _};

use crate::config::{Log, LogFormat};

/// Starts logging for the whole process; a second call changes nothing.
///
/// # Errors
/// When the level is not one; the text says what was expected.
pub fn start(settings: &Log) -> Result<(), String> {
    let (filter, level) =
        reload::Layer::new(filter(&settings.level).map_err(|problem| format!("log.level: {problem}"))?);
    let json = match settings.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    // An error means that somebody (a test) has started logging already.
    let started = if json {
        registry
            .with(lines.json().flatten_event(true).with_current_span(false))
            .try_init()
    } else {
        registry.with(lines.with_target(false)).try_init()
    };
    if started.is_ok() {
        LEVEL.get_or_init(|| level);
    }
    log_panics();
    Ok(())
}

/// The hand on the level, once logging was started.
static LEVEL: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// The level as directives; `None` when logging was not started here.
#[must_use]
pub fn level() -> Option<String> {
    LEVEL.get()?.with_current(ToString::to_string).ok()
}

/// Logs at another level from now on; returns the one before, `None` when logging was not started here.
///
/// # Errors
/// When it is no level; the text says what was expected.
pub fn set_level(directives: &str) -> Result<Option<String>, String> {
    let filter = filter(directives)?;
    let before = level();
    if let Some(level) = LEVEL.get() {
        level.reload(filter).map_err(|error| error.to_string())?;
    }
    Ok(before)
}

fn filter(directives: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder()
        .parse(directives)
        .map_err(|error| format!("expected error, warn, info, debug, trace or directives, got `{directives}`: {error}"))
}

/// A panic becomes a log line like any other, with its place.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panic: {payload}");
    }));
}
