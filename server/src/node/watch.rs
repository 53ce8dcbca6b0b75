//! What watches a running node: its numbers, its index, and whether it can go on.

use std::{sync::Arc, time::Duration};

use engine::{Engine, clock::Clock, ledger};
use tokio::sync::watch::Receiver;
use tonic_health::server::HealthReporter;

use super::{CHECK_CLOCK, CHECK_DISK, CHECK_ENGINE, CHECK_QUORUM, CHECK_SEQUENCER};
use crate::{
    api::grpc,
    consensus::Sequencer,
    contribution::{Contribution, search::Search},
    metrics::{self as counts, Metrics},
    runtime::{
        health::Health,
        process,
        tasks::{self, Stop},
        time::sleep,
        tls::Credentials,
    },
    snapshots::Snapshots,
};

/// How often samples are folded: a busy node collects some ten thousand in this time.
const FOLD_INTERVAL: Duration = Duration::from_secs(5);

/// Waits for a reason to be given; for ever when none can come any more.
pub(super) async fn reason(stopped: &mut Receiver<Option<String>>) -> String {
    let given = stopped
        .wait_for(Option::is_some)
        .await
        .ok()
        .and_then(|reason| reason.clone());
    match given {
        Some(reason) => reason,
        None => std::future::pending().await,
    }
}

/// Reports an engine or sequencer that stopped by itself, until `stop`.
pub(super) async fn over_life(engine: Engine, sequencer: Sequencer, health: Health, stop: Stop) {
    let (mut engine, mut sequencer) = (engine.stopped(), sequencer.stopped());
    tokio::select! {
        () = stop.given() => {}
        reason = reason(&mut engine) => health.fail(CHECK_ENGINE, reason),
        reason = reason(&mut sequencer) => health.fail(CHECK_SEQUENCER, reason),
    }
}

/// Tells while nothing can be decided, until `stop`, and puts the configured limits into force once it can, unless they are `enforced`.
pub(super) async fn over_quorum(
    sequencer: Sequencer,
    health: Health,
    (contribution, mut enforced): (Contribution, bool),
    stop: Stop,
) {
    let mut quorum = sequencer.quorum();
    while !stop.is_given() {
        let lost = quorum.borrow_and_update().clone();
        match &lost {
            None => health.pass(CHECK_QUORUM),
            Some(reason) => health.fail(CHECK_QUORUM, reason.clone()),
        }
        if lost.is_none() && !enforced {
            enforced = contribution.enforce_limits().await.is_ok();
        }
        tokio::select! {
            changed = quorum.changed() => if changed.is_err() { return },
            () = sleep(LIMITS_RETRY), if !enforced => {}
            () = stop.given() => {}
        }
    }
}

/// Between two tries to put limits into force.
const LIMITS_RETRY: Duration = Duration::from_secs(1);

/// Shows the node's readiness in gRPC's own health service, until `stop`.
pub(super) async fn over_grpc(health: Health, reporter: HealthReporter, stop: Stop) {
    let mut changes = health.changes();
    loop {
        grpc::set_ready(&reporter, health.ready().passes()).await;
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = stop.given() => return,
        }
    }
}

/// How often the room on the disk is looked at.
const DISK_INTERVAL: Duration = Duration::from_secs(1);

/// Tells while the disk is too full for writes, until `stop`.
pub(super) async fn over_disk(engine: Engine, health: Health, stop: Stop) {
    while !stop.is_given() {
        let disk = engine.disk();
        if disk.free_bytes > disk.needed_bytes {
            health.pass(CHECK_DISK);
        } else {
            let (free, needed) = (disk.free_bytes / MEBIBYTE, disk.needed_bytes / MEBIBYTE);
            health.fail(
                CHECK_DISK,
                format!("{free} MiB are free and writes need {needed} MiB: they are refused, reads and deletes are served; free some room, no command is needed"),
            );
        }
        tokio::select! {
            () = sleep(DISK_INTERVAL) => {}
            () = stop.given() => {}
        }
    }
}

const MEBIBYTE: u64 = 1 << 20;

/// How often the clock is compared with ledger time and those of other members.
const CLOCK_INTERVAL: Duration = Duration::from_secs(1);
/// A step of this size is no correction of a running clock any more.
const AHEAD_MAX: Duration = Duration::from_mins(1);

/// Tells when this machine's clock is not that of the other members, or ledger time is ahead of it, until `stop`: a clock that once
/// ran far ahead left its time in the ledger, which never goes back, and limits stand still until the clock has caught up.
pub(super) async fn over_clock(
    (engine, sequencer): (Engine, Sequencer),
    clock: Arc<dyn Clock>,
    health: Health,
    metrics: Metrics,
    stop: Stop,
) {
    let gauge = metrics.gauge(counts::LEDGER_AHEAD, &[]);
    let mut told = false;
    while !stop.is_given() {
        let ahead = ledger::time(engine.view()).map(|time| Duration::from_micros(time.0.saturating_sub(clock.now().0)));
        // A store that fails is told by the engine's own check.
        let ahead = ahead.unwrap_or_default();
        gauge.set(ahead.as_secs_f64());
        let is_ahead = (ahead > AHEAD_MAX).then(|| {
            let seconds = ahead.as_secs();
            format!(
                "ledger time is {seconds} s ahead of this machine's clock; hourly limits stand still until it has caught up: see that the clock is right"
            )
        });
        if let Some(reason) = is_ahead.as_ref().filter(|_| !told) {
            tracing::error!("{reason}");
        }
        told = is_ahead.is_some();
        // That the clock is off was logged where it was found, and may be why ledger time is ahead of it.
        match sequencer.clock_trouble().or(is_ahead) {
            None => health.pass(CHECK_CLOCK),
            Some(reason) => health.fail(CHECK_CLOCK, reason),
        }
        tokio::select! {
            () = sleep(CLOCK_INTERVAL) => {}
            () = stop.given() => {}
        }
    }
}

/// Reads what has no event of its own; called at each scrape.
pub(super) fn numbers(
    engine: Engine,
    sequencer: Sequencer,
    search: Search,
    metrics: &Metrics,
) -> impl Fn() + Send + Sync + 'static {
    let committed = metrics.gauge(counts::COMMITTED, &[]);
    let queued = metrics.gauge(counts::ENGINE_QUEUE, &[]);
    let free = metrics.gauge(counts::DISK_FREE, &[]);
    let needed = metrics.gauge(counts::DISK_NEEDED, &[]);
    let compactions_off = metrics.gauge(counts::COMPACTIONS_OFF, &[]);
    let resident = metrics.gauge(counts::RESIDENT, &[]);
    let indexed = metrics.gauge(counts::SEARCH_CONCEPTS, &[]);
    let index_bytes = metrics.gauge(counts::SEARCH_BYTES, &[]);
    let lsns = engine.committed();
    move || {
        sequencer.sample();
        committed.set(lsns.borrow().0 as f64);
        queued.set(engine.queued_bytes() as f64);
        let disk = engine.disk();
        free.set(disk.free_bytes as f64);
        needed.set(disk.needed_bytes as f64);
        compactions_off.set(if disk.compacts { 0.0 } else { 1.0 });
        indexed.set(search.indexed() as f64);
        index_bytes.set(search.heap_bytes() as f64);
        if let Some(bytes) = process::resident_bytes() {
            resident.set(bytes as f64);
        }
    }
}

/// Folds samples into their buckets where nobody scrapes, until `stop`.
pub(super) async fn over_samples(metrics: Metrics, stop: Stop) {
    while !stop.is_given() {
        metrics.fold();
        tokio::select! {
            () = sleep(FOLD_INTERVAL) => {}
            () = stop.given() => {}
        }
    }
}

/// How often cuts that backups broke off from are looked at.
const CUTS_INTERVAL: Duration = Duration::from_mins(5);

/// Removes what backups that broke off long ago were made of, until `stop`.
pub(super) async fn over_cuts(snapshots: Snapshots, stop: Stop) {
    while !stop.is_given() {
        tokio::select! {
            () = sleep(CUTS_INTERVAL) => {}
            () = stop.given() => return,
        }
        let snapshots = snapshots.clone();
        if let Some(Err(error)) = tasks::blocking(move || snapshots.sweep()).await {
            tracing::warn!(%error, "the leftovers of a backup cannot be removed");
        }
    }
}

/// How often certificate, key and authority are looked at.
const CREDENTIALS_INTERVAL: Duration = Duration::from_secs(5);

/// Takes renewed certificates into use without a restart, until `stop`. Files that do not fit are told once, and change nothing.
pub(super) async fn over_credentials(credentials: Arc<Credentials>, stop: Stop) {
    let mut told = String::new();
    while !stop.is_given() {
        tokio::select! {
            () = sleep(CREDENTIALS_INTERVAL) => {}
            () = stop.given() => return,
        }
        let credentials = Arc::clone(&credentials);
        match tasks::blocking(move || credentials.reload()).await {
            Some(Ok(false)) => told.clear(),
            Some(Ok(true)) => {
                tracing::info!("new connections are made with the renewed certificate");
                told.clear();
            }
            Some(Err(error)) => {
                let now = error.to_string();
                if now != told {
                    tracing::error!(%error, "the renewed certificate is not used; connections are made with the one before");
                    told = now;
                }
            }
            None => {}
        }
    }
}
