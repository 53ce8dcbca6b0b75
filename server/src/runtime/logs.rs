//! Structured log lines on standard error: text for a terminal, one JSON object per line otherwise.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::{Log, LogFormat};

/// Starts logging for the whole process; a second call changes nothing.
///
/// # Errors
/// When the level is not one; the text says what was expected.
pub fn start(settings: &Log) -> Result<(), String> {
    let filter = EnvFilter::builder().parse(&settings.level).map_err(|error| {
        format!(
            "log.level: expected error, warn, info, debug, trace or directives, got `{}`: {error}",
            settings.level
        )
    })?;
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
    let _already = if json {
        registry
            .with(lines.json().flatten_event(true).with_current_span(false))
            .try_init()
    } else {
        registry.with(lines.with_target(false)).try_init()
    };
    log_panics();
    Ok(())
}

/// A panic becomes a log line like any other, with its place.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panic: {payload}");
    }));
}
