//! The log's part: every record is read and decoded.

use wal::inspect::{Inspection, Placed, Visit};

use super::{Damage, LogReport, Meter, Report};
use crate::{commit::record, keyspace::row, open::LOG, store::Family};

/// One change of a record of the log, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The family.
    pub family: Family,
    /// Which row.
    pub key: String,
    /// Its whole new value; `None` when it was deleted.
    pub value: Option<String>,
}

/// What a record of the log changes, in words; `header` is the record's own.
///
/// # Errors
/// When the record is damaged or a newer build's.
pub fn changes(header: u8, body: &[u8]) -> Result<Vec<Change>, String> {
    let mut changes = Vec::new();
    read(header, body, &mut changes)?;
    let show = |change: &crate::store::Change<'_>| Change {
        family: change.family,
        key: row::name(change.family, change.key),
        value: change.value.map(|value| row::show(change.family, change.key, value)),
    };
    Ok(changes.iter().map(show).collect())
}

fn read<'a>(header: u8, body: &'a [u8], changes: &mut Vec<crate::store::Change<'a>>) -> Result<(), String> {
    if header != record::KIND_WRITES {
        return Err(format!("it is of kind {header}, which this build does not know"));
    }
    record::read(body, changes).map_err(|error| error.to_string())
}

/// Reads the log by `inspect` and adds what it finds to `report`.
pub(super) fn walk(
    report: &mut Report,
    meter: &Meter<'_>,
    inspect: &mut dyn FnMut(Visit<'_>) -> Result<Inspection, wal::Error>,
) -> Result<(), wal::Error> {
    let mut undecodable = Vec::new();
    let inspection = inspect(&mut |placed: Placed<'_>| {
        undecodable.extend(check(placed));
        meter.row(placed.body.len())
    })?;
    let Inspection { segments, faults } = inspection;
    report.log = LogReport {
        segments: segments.len() as u64,
        records: segments.iter().map(|segment| segment.records).sum(),
        bytes: segments.iter().map(|segment| segment.used_bytes).sum(),
        last: segments.iter().map(|segment| segment.last).max().unwrap_or_default(),
        torn_bytes: segments.iter().map(|segment| segment.torn_bytes).sum(),
    };
    report.damage.extend(faults.into_iter().map(|fault| Damage {
        place: format!("{LOG}/{}, byte {}", fault.file, fault.offset),
        key: fault.lost.map(|lost| match (*lost.start(), *lost.end()) {
            (first, u64::MAX) => format!("records from {first} on"),
            (first, last) if first == last => format!("record {first}"),
            (first, last) => format!("records {first} to {last}"),
        }),
        what: fault.what,
    }));
    report.damage.append(&mut undecodable);
    Ok(())
}

/// A record whose sums are right and that cannot be decoded, or holds a row that cannot.
fn check(placed: Placed<'_>) -> Option<Damage> {
    let mut changes = Vec::new();
    let outcome = read(placed.header, placed.body, &mut changes).and_then(|()| {
        changes.iter().try_for_each(|change| {
            let value = change
                .value
                .map_or(Ok(()), |value| row::check(change.family, change.key, value));
            value.map_err(|error| {
                format!(
                    "{}, {}: {error}",
                    change.family.name(),
                    row::name(change.family, change.key)
                )
            })
        })
    });
    outcome.err().map(|what| Damage {
        place: format!("{LOG}/{}, byte {}", placed.file, placed.offset),
        key: Some(format!("record {}", placed.lsn)),
        what,
    })
}
