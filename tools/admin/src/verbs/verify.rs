//! `verify`: reads everything and checks every sum, on a node that runs.

use clap::Args;
use client::wire::{Damage, FamilyStatus, VerifyReport};
use serde_json::{Value, json};

use super::Verb;
use crate::{
    error::{Code, Failure},
    session::Session,
    show,
};

/// Read a node's whole log and database and check every sum and record
///
/// Nothing is changed, and the node goes on serving meanwhile, more slowly.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  continuum-admin verify
  continuum-admin verify -o json | jq .damage

Exit codes: 65 when something is damaged.")]
pub(super) struct Verify {}

impl Verb for Verify {
    const NAME: &'static str = "verify";

    async fn run(self, session: Session) -> Result<(), Failure> {
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

fn verdict(report: &VerifyReport) -> Result<(), Failure> {
    match report.damage.len() {
        0 => Ok(()),
        _ => Err(Failure::new(Code::Data, damaged(report))
            .next("keep the data directory as it is, and restore a backup into another one")),
    }
}

fn damaged(report: &VerifyReport) -> String {
    let places = show::count(report.damage.len() as u64, "place");
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
