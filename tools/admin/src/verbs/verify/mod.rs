//! `verify`: reads everything and checks every sum, on a node that runs or on the files of one that does not; or compares the members
//! of a cluster.

mod cluster;

use std::path::{Path, PathBuf};

use clap::Args;
use client::wire::{Damage, FamilyStatus, VerifyReport};
use engine::verify;
use serde_json::{Value, json};

use super::Verb;
use crate::{
    error::{Code, Failure},
    offline,
    session::Session,
    show,
};

/// Read a node's whole log and database and check every sum and record
///
/// Nothing is changed. A node that runs goes on serving meanwhile, more slowly; with --data-dir the files of one that does not
/// run are read as they lie there, and no node is asked. With --cluster the ledgers of all members are compared instead: accounts,
/// pool, registry, audit and linearizable namespaces, byte for byte.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  continuum-admin verify
  continuum-admin verify -o json | jq .damage
  continuum-admin verify --data-dir ./continuum-data             its node is stopped, or does not start
  continuum-admin verify --cluster                               whether all members hold the same

Exit codes: 65 when something is damaged, or members hold different ledgers; 75 when members were never equally far.")]
pub(super) struct Verify {
    /// The data directory of a node that does not run
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Compare the ledgers of all members
    #[arg(long, conflicts_with = "data_dir")]
    cluster: bool,
}

impl Verb for Verify {
    const NAME: &'static str = "verify";

    async fn run(self, session: Session) -> Result<(), Failure> {
        if let Some(path) = &self.data_dir {
            return offline(&session, path);
        }
        if self.cluster {
            return cluster::run(&session).await;
        }
        let output = &session.output;
        let mut messages = session.client()?.admin().verify().await?;
        let bar = output.bar("verifying");
        while let Some(message) = messages.next().await? {
            bar.set_length(message.total_bytes);
            bar.set_position(message.done_bytes);
            if let Some(report) = message.report {
                bar.finish_and_clear();
                output.data(&json(&report), || page(&session, &report))?;
                return verdict(&report);
            }
        }
        Err(Failure::new(Code::Software, "the node ended the check without a report").next("run it again"))
    }
}

/// By the files alone.
fn offline(session: &Session, path: &Path) -> Result<(), Failure> {
    let directory = offline::lock(path)?;
    let bar = session.output.bar("verifying");
    let mut progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
        true
    };
    let report = verify::directory(directory.path(), &mut progress);
    bar.finish_and_clear();
    let report =
        report.map_err(|error| Failure::new(Code::Io, format!("cannot verify {}: {error}", path.display())))?;
    let report = message(report);
    session.output.data(&json(&report), || page(session, &report))?;
    verdict(&report)
}

/// A report of the engine's as a node would send it.
fn message(report: verify::Report) -> VerifyReport {
    let family = |family: verify::FamilyReport| FamilyStatus {
        name: family.family.name().to_owned(),
        keys: family.keys,
        bytes: family.bytes,
    };
    let damage = |damage: verify::Damage| Damage {
        place: damage.place,
        key: damage.key.unwrap_or_default(),
        what: damage.what,
    };
    VerifyReport {
        damage_count: u32::try_from(report.damage.len()).unwrap_or(u32::MAX),
        segments: u32::try_from(report.log.segments).unwrap_or(u32::MAX),
        records: report.log.records,
        last_lsn: report.log.last.0,
        families: report.families.into_iter().map(family).collect(),
        damage: report.damage.into_iter().map(damage).collect(),
    }
}

fn verdict(report: &VerifyReport) -> Result<(), Failure> {
    match report.damage.len() {
        0 => Ok(()),
        _ => Err(Failure::new(Code::Data, damaged(report))
            .next("keep the data directory as it is, and restore a backup into another one")),
    }
}

fn damaged(report: &VerifyReport) -> String {
    let places = show::count(u64::from(report.damage_count), "place");
    format!("{places} found damaged")
}

fn json(report: &VerifyReport) -> Value {
    let family = |family: &FamilyStatus| json!({ "name": family.name, "keys": family.keys, "bytes": family.bytes });
    let damage = |damage: &Damage| json!({ "place": damage.place, "key": damage.key, "what": damage.what });
    json!({
        "sound": report.damage.is_empty(),
        "log": { "segments": report.segments, "records": report.records, "last_lsn": report.last_lsn },
        "families": report.families.iter().map(family).collect::<Vec<_>>(),
        "damage": report.damage.iter().map(damage).collect::<Vec<_>>(),
    })
}

fn page(session: &Session, report: &VerifyReport) -> String {
    let output = &session.output;
    let sound = if report.damage.is_empty() {
        output.paint.good("everything is as it was written")
    } else {
        output.paint.bad(&damaged(report))
    };
    let log = format!(
        "{} in {}, up to {}",
        show::count(report.records, "record"),
        show::count(report.segments.into(), "segment"),
        show::number(report.last_lsn)
    );
    let facts = output.facts(&[("verdict", sound), ("log", log)]);
    let family = |family: &FamilyStatus| {
        vec![
            family.name.clone(),
            show::number(family.keys),
            show::bytes(family.bytes),
        ]
    };
    let rows = report.families.iter().map(family).collect();
    let families = output.table(&["FAMILY", "KEYS", "SIZE"], &[1, 2], rows);
    let damage = |damage: &Damage| vec![damage.place.clone(), damage.key.clone(), damage.what.clone()];
    let rows: Vec<Vec<String>> = report.damage.iter().map(damage).collect();
    if rows.is_empty() {
        return format!("{facts}\n{families}");
    }
    let damaged = output.table(&["PLACE", "KEY", "DAMAGE"], &[], rows);
    format!("{facts}\n{damaged}\n{families}")
}
