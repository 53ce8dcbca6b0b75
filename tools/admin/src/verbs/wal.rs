//! `wal`: the log of a node that does not run, looked at and not touched.

use std::path::{Path, PathBuf};

use ::wal::{
    inspect::{Inspection, Placed, Segment, Visit, inspect},
    storage::Disk,
};
use clap::{Args, Subcommand};
use engine::verify::{self, Change};
use serde_json::{Value, json};

use super::Verb;
use crate::{
    error::{Code, Failure},
    offline,
    session::Session,
    show,
};

/// Where a data directory keeps its log.
const LOG: &str = "log";
/// Records shown when nothing else is said.
const LIMIT_DEFAULT: u64 = 100;

/// Look into the log of a node that does not run
///
/// Nothing is changed: what the next start would drop or refuse is only named.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  continuum-admin wal list --data-dir ./continuum-data
  continuum-admin wal dump --data-dir ./continuum-data --from 4700 --to 4711")]
pub(super) struct Wal {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// List the segments; every record is read and its sum checked
    #[command(after_help = "\
Examples:
  continuum-admin wal list --data-dir ./continuum-data
  continuum-admin wal list --data-dir ./continuum-data -o json | jq .damage

Exit codes: 65 when something is damaged.")]
    List {
        /// The data directory
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
    },
    /// Show what the records changed, oldest first
    #[command(after_help = "\
Examples:
  continuum-admin wal dump --data-dir ./continuum-data
  continuum-admin wal dump --data-dir ./continuum-data --from 4700 --to 4711
  continuum-admin wal dump --data-dir ./continuum-data --limit 0 -o json | jq -c '.changes[].key'

Exit codes: 65 when something is damaged.")]
    Dump {
        /// The data directory
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// The first record to show
        #[arg(long, value_name = "LSN", default_value_t = 0, hide_default_value = true)]
        from: u64,
        /// The last record to show
        #[arg(long, value_name = "LSN", default_value_t = u64::MAX, hide_default_value = true)]
        to: u64,
        /// The most records to show; 0 for all
        #[arg(long, value_name = "N", default_value_t = LIMIT_DEFAULT)]
        limit: u64,
    },
}

impl Verb for Wal {
    const NAME: &'static str = "wal";

    async fn run(self, session: Session) -> Result<(), Failure> {
        match self.what {
            What::List { data_dir } => list(&session, &data_dir),
            What::Dump {
                data_dir,
                from,
                to,
                limit,
            } => {
                let mut dump = Dump {
                    session: &session,
                    from,
                    to,
                    left: if limit == 0 { u64::MAX } else { limit },
                    next: None,
                    damaged: 0,
                };
                dump.run(&data_dir)
            }
        }
    }
}

/// Reads the log, holding the lock of the data directory meanwhile.
fn read(data_dir: &Path, visit: Visit<'_>) -> Result<Inspection, Failure> {
    let directory = offline::lock(data_dir)?;
    let log = directory.path().join(LOG);
    let storage = Disk::for_reading(&log).map_err(|error| Failure::no_input(&log, &error))?;
    inspect(&storage, visit)
        .map_err(|error| Failure::new(Code::Io, format!("cannot read the log in {}: {error}", log.display())))
}

fn list(session: &Session, data_dir: &Path) -> Result<(), Failure> {
    let inspection = read(data_dir, &mut |_| true)?;
    let segment = |segment: &Segment| {
        json!({
            "file": segment.file,
            "first_lsn": segment.first.0,
            "last_lsn": segment.last.0,
            "records": segment.records,
            "used_bytes": segment.used_bytes,
            "capacity_bytes": segment.capacity_bytes,
            "sealed": segment.is_sealed,
            "torn_bytes": segment.torn_bytes,
        })
    };
    let segments: Vec<Value> = inspection.segments.iter().map(segment).collect();
    let json = json!({ "segments": segments, "damage": damage(&inspection) });
    session.output.data(&json, || {
        let rows = inspection.segments.iter().map(row).collect();
        let headings = ["SEGMENT", "FIRST", "LAST", "RECORDS", "USED", "OF", ""];
        let segments = session.output.table(&headings, &[1, 2, 3, 4, 5], rows);
        if inspection.faults.is_empty() {
            return segments;
        }
        let rows = inspection.faults.iter();
        let rows = rows.map(|fault| {
            vec![
                format!("{}, byte {}", fault.file, fault.offset),
                lost(fault),
                fault.what.clone(),
            ]
        });
        let damaged = session.output.table(&["PLACE", "LOST", "DAMAGE"], &[], rows.collect());
        format!("{segments}\n{damaged}")
    })?;
    verdict(inspection.faults.len() as u64)
}

fn row(segment: &Segment) -> Vec<String> {
    let state = match (segment.faults, segment.torn_bytes, segment.is_sealed) {
        (0, 0, true) => "sealed".to_owned(),
        (0, 0, false) => "open".to_owned(),
        (0, torn, _) => format!(
            "{} at its end were never acknowledged; the next start drops them",
            show::bytes(torn)
        ),
        (faults, ..) => format!("damaged in {faults} places"),
    };
    // One with no record ends below where it begins.
    let last = if segment.records == 0 {
        "-".to_owned()
    } else {
        segment.last.0.to_string()
    };
    vec![
        segment.file.clone(),
        segment.first.0.to_string(),
        last,
        show::number(segment.records),
        show::bytes(segment.used_bytes),
        show::bytes(segment.capacity_bytes),
        state,
    ]
}

fn damage(inspection: &Inspection) -> Vec<Value> {
    let fault = |fault: &::wal::inspect::Fault| json!({ "file": fault.file, "offset": fault.offset, "lost": lost(fault), "what": fault.what });
    inspection.faults.iter().map(fault).collect()
}

/// The records that cannot be read, in words.
fn lost(fault: &::wal::inspect::Fault) -> String {
    match fault.lost.as_ref().map(|lost| (*lost.start(), *lost.end())) {
        None => String::new(),
        Some((first, u64::MAX)) => format!("records from {first} on"),
        Some((first, last)) if first == last => format!("record {first}"),
        Some((first, last)) => format!("records {first} to {last}"),
    }
}

fn verdict(places: u64) -> Result<(), Failure> {
    if places == 0 {
        return Ok(());
    }
    let failure = Failure::new(Code::Data, format!("the log is damaged in {places} places"));
    Err(failure.next("keep the data directory as it is, and restore a backup into another one"))
}

/// Records being shown.
struct Dump<'a> {
    session: &'a Session,
    from: u64,
    to: u64,
    /// How many more.
    left: u64,
    /// The first one that was not shown because there were too many.
    next: Option<u64>,
    /// Records that cannot be decoded.
    damaged: u64,
}

impl Dump<'_> {
    fn run(&mut self, data_dir: &Path) -> Result<(), Failure> {
        let mut outcome = Ok(true);
        let inspection = read(data_dir, &mut |placed| {
            outcome = self.record(placed);
            matches!(outcome, Ok(true))
        })?;
        outcome?;
        if let Some(next) = self.next {
            self.session
                .output
                .say(&format!("there is more: --from {next}, or --limit 0 for all"));
        }
        let shown = |fault: &&::wal::inspect::Fault| {
            let lost = fault.lost.as_ref();
            lost.is_none_or(|lost| *lost.end() >= self.from && *lost.start() <= self.to)
        };
        let faults: Vec<_> = inspection.faults.iter().filter(shown).collect();
        for fault in &faults {
            let (file, offset, what) = (&fault.file, fault.offset, &fault.what);
            self.session
                .output
                .say(&format!("{file}, byte {offset}: {what} {}", lost(fault)));
        }
        verdict(faults.len() as u64 + self.damaged)
    }

    /// Shows a record; whether to go on.
    fn record(&mut self, placed: Placed<'_>) -> Result<bool, Failure> {
        let lsn = placed.lsn.0;
        if lsn < self.from {
            return Ok(true);
        }
        if lsn > self.to {
            return Ok(false);
        }
        if self.left == 0 {
            self.next = Some(lsn);
            return Ok(false);
        }
        self.left -= 1;
        let changes = verify::changes(placed.header, placed.body);
        self.damaged += u64::from(changes.is_err());
        self.session
            .output
            .line(|| line(placed, &changes), || text(placed, &changes))?;
        Ok(true)
    }
}

fn line(placed: Placed<'_>, changes: &Result<Vec<Change>, String>) -> Value {
    let mut json = json!({
        "lsn": placed.lsn.0,
        "file": placed.file,
        "offset": placed.offset,
        "bytes": placed.body.len(),
    });
    match changes {
        Ok(changes) => {
            let change =
                |change: &Change| json!({ "family": change.family.name(), "key": change.key, "value": change.value });
            json["changes"] = changes.iter().map(change).collect();
        }
        Err(what) => json["damage"] = json!(what),
    }
    json
}

fn text(placed: Placed<'_>, changes: &Result<Vec<Change>, String>) -> String {
    let mut text = format!(
        "{}  {}, byte {}, {}",
        placed.lsn.0,
        placed.file,
        placed.offset,
        show::bytes(placed.body.len() as u64)
    );
    match changes {
        Ok(changes) => {
            for Change { family, key, value } in changes {
                let value = value.as_deref().unwrap_or("deleted");
                text.push_str(&format!("\n  {}  {key}  {value}", family.name()));
            }
        }
        Err(what) => text.push_str(&format!("\n  cannot be read: {what}")),
    }
    text
}
