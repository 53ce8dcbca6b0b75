//! `Admin/Compact` and `Admin/Verify`: long work beside the workers, whose messages tell how far it is.
//!
//! ```text
//!  work ─► how far ─► a message at most every 200 ms ─► Outlet ─► the result, in the last message
//!                     the caller has gone: a compaction ends after the piece under way, a verification within a second
//! ```
//!
//! The engine does one such work at a time, and refuses another.

use std::time::Duration;

use engine::{Compacted, Range, verify};
use proto::v1::{self as wire, CompactRequest, CompactResponse, FamilyStatus, VerifyReport, VerifyResponse};

use super::{
    super::{
        directory, fields,
        flow::{self, Flow},
        status::Refused,
    },
    Service,
    describe::count,
};
use crate::runtime::{tasks, time::Stopwatch};

/// Progress is told no more often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// Damage told in one report; the rest is counted.
const DAMAGE_MAX: usize = 1_000;

impl Service {
    /// Begins a compaction.
    pub(super) fn compact_checked(&self, request: &CompactRequest) -> Result<Flow<CompactResponse>, Refused> {
        let range = self.range(request)?;
        let settings = &self.shared.components.settings;
        let (outlet, flow) = flow::open(settings.stall_max, self.shared.components.stop.clone());
        let (service, stop) = (self.clone(), self.shared.components.stop.clone());
        tasks::start_blocking(move || {
            let engine = service.engine();
            let mut told = Paced::default();
            let done = engine.compact(range.as_ref(), &mut |progress| {
                if told.is_due() {
                    let message = CompactResponse {
                        done_bytes: progress.done_bytes,
                        total_bytes: progress.total_bytes,
                        ..CompactResponse::default()
                    };
                    return outlet.send_blocking(message).is_ok();
                }
                !outlet.is_gone() && !stop.is_given()
            });
            match done {
                Err(error) => outlet.fail(Refused::Snapshots(error.into())),
                Ok(Compacted { finished: false, .. }) if stop.is_given() => outlet.fail(Refused::Stopping),
                Ok(done) => {
                    let last = CompactResponse {
                        done_bytes: done.progress.done_bytes,
                        total_bytes: done.progress.total_bytes,
                        before_bytes: done.before_bytes,
                        after_bytes: done.after_bytes,
                        done: true,
                    };
                    if outlet.send_blocking(last).is_ok() {
                        outlet.finish();
                    }
                }
            }
        });
        Ok(flow)
    }

    fn range(&self, request: &CompactRequest) -> Result<Option<Range>, Refused> {
        let from = fields::bound("from", &request.from)?;
        let to = fields::bound("to", &request.to)?;
        if request.namespace.is_empty() {
            if from.is_some() || to.is_some() {
                let rule = "a range of keys is one of a namespace: name it";
                return Err(Refused::field("namespace", "NAMESPACE_MISSING", rule));
            }
            return Ok(None);
        }
        let namespace = directory::find(self.engine().view(), "namespace", &request.namespace)?;
        Ok(Some((namespace.id, from.unwrap_or_default(), to)))
    }

    /// Begins to verify.
    pub(super) fn verify_checked(&self) -> Result<Flow<VerifyResponse>, Refused> {
        let settings = &self.shared.components.settings;
        let (outlet, flow) = flow::open(settings.stall_max, self.shared.components.stop.clone());
        let (engine, stop) = (self.engine().clone(), self.shared.components.stop.clone());
        tasks::start_blocking(move || {
            let mut told = Paced::default();
            let mut last = (0, 0);
            let found = engine.verify(&mut |done_bytes, total_bytes| {
                last = (done_bytes, total_bytes);
                if told.is_due() {
                    let message = VerifyResponse {
                        done_bytes,
                        total_bytes,
                        report: None,
                    };
                    return outlet.send_blocking(message).is_ok();
                }
                !outlet.is_gone() && !stop.is_given()
            });
            match found {
                Err(verify::Error::Stopped) if stop.is_given() => outlet.fail(Refused::Stopping),
                Err(error) => outlet.fail(error.into()),
                Ok(report) => {
                    if !report.damage.is_empty() {
                        tracing::error!(
                            places = report.damage.len(),
                            "the data are damaged: see continuum-admin verify"
                        );
                    }
                    let last = VerifyResponse {
                        done_bytes: last.0,
                        total_bytes: last.1,
                        report: Some(message(report)),
                    };
                    if outlet.send_blocking(last).is_ok() {
                        outlet.finish();
                    }
                }
            }
        });
        Ok(flow)
    }
}

/// Lets something be told now and then.
#[derive(Default)]
struct Paced(Option<Stopwatch>);

impl Paced {
    fn is_due(&mut self) -> bool {
        let due = self.0.is_none_or(|since| since.elapsed() >= PROGRESS_INTERVAL);
        if due {
            self.0 = Some(Stopwatch::start());
        }
        due
    }
}

fn message(report: verify::Report) -> VerifyReport {
    let family = |report: &verify::FamilyReport| FamilyStatus {
        name: report.family.name().to_owned(),
        keys: report.keys,
        bytes: report.bytes,
    };
    let damage = |damage: verify::Damage| wire::Damage {
        place: damage.place,
        key: damage.key.unwrap_or_default(),
        what: damage.what,
    };
    VerifyReport {
        segments: u32::try_from(report.log.segments).unwrap_or(u32::MAX),
        records: report.log.records,
        last_lsn: report.log.last.0,
        families: report.families.iter().map(family).collect(),
        damage_count: count(report.damage.len()),
        damage: report.damage.into_iter().take(DAMAGE_MAX).map(damage).collect(),
    }
}
