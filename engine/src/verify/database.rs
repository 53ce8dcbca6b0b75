//! The database's part: every row of every family is read and decoded.

use std::{collections::BTreeSet, path::Path};

use super::{Damage, FamilyReport, Meter, Metered, Report, open};
use crate::{
    backup::DATABASE,
    keyspace::{
        actors::Actors,
        codec, concept_index, concepts, dots,
        meta::{self, Identity},
        raft_state::{self, Installing},
        row,
    },
    ledger::audit,
    store::{
        Family, View,
        rocks::{Hidden, Reader},
    },
};

/// Damaged rows of one family that are named one by one; the others are counted.
const ROWS_NAMED_MAX: u64 = 1_000;

/// Is handed rows until it returns false.
type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> bool;

/// Hands out rows, and what hides others.
type Walker<'a> = &'a dyn Fn(Family, Visit<'_>, &mut dyn FnMut(Hidden));

/// Walks a database that nobody writes to.
pub(super) fn walk_files(report: &mut Report, meter: &Meter<'_>, folder: &Path) {
    let reader = match open(folder) {
        Ok(reader) => reader,
        Err(what) => {
            return report.damage.push(Damage {
                place: DATABASE.to_owned(),
                key: None,
                what: format!("the database cannot be opened: {what}"),
            });
        }
    };
    let sizes = Family::ALL.map(|family| check_tables(report, &reader, family));
    let walk = |family: Family, visit: Visit<'_>, hidden: &mut dyn FnMut(Hidden)| {
        meter.part(sizes[family.index()]);
        let mut counted = |key: &[u8], value: &[u8]| meter.row(key.len() + value.len()) && visit(key, value);
        if let Err(error) = reader.walk(family, &mut counted, hidden) {
            hidden(Hidden {
                after: None,
                before: None,
                errors: vec![error.to_string()],
            });
        }
    };
    let view = Metered { view: &reader, meter };
    walk_all(report, meter, &view, &walk);
}

/// Walks a store without files.
pub(super) fn walk_view(report: &mut Report, meter: &Meter<'_>, view: &dyn View) {
    let view = Metered { view, meter };
    let walk = |family: Family, visit: Visit<'_>, hidden: &mut dyn FnMut(Hidden)| {
        if let Err(error) = view.scan(family, &[], None, visit) {
            hidden(Hidden {
                after: None,
                before: None,
                errors: vec![error.to_string()],
            });
        }
    };
    walk_all(report, meter, &view, &walk);
}

/// Whether every table is there, with its length; returns the bytes of all.
fn check_tables(report: &mut Report, reader: &Reader, family: Family) -> u64 {
    let tables = reader.tables(family).unwrap_or_default();
    for table in &tables {
        let what = match std::fs::metadata(reader.directory().join(&table.file)) {
            Ok(found) if found.len() == table.bytes => continue,
            Ok(found) => format!("it has {} bytes and not {}", found.len(), table.bytes),
            Err(error) => format!("it cannot be read: {error}"),
        };
        let (first, last) = (row::name(family, &table.first), row::name(family, &table.last));
        report.damage.push(Damage {
            place: format!("{DATABASE}/{}", table.file),
            key: Some(format!("family {}, from {first} to {last}", family.name())),
            what,
        });
    }
    tables.iter().map(|table| table.bytes).sum()
}

fn walk_all(report: &mut Report, meter: &Meter<'_>, view: &dyn View, walk: Walker<'_>) {
    let actors = meta::actors(view).inspect_err(|error| {
        report.damage.push(Damage {
            place: "family meta".to_owned(),
            key: Some("actors".to_owned()),
            what: format!("{error}; concepts are checked without them"),
        });
    });
    for family in Family::ALL {
        if meter.is_stopped() {
            return;
        }
        let mut walked = Walked::of(family);
        let mut hidden = Vec::new();
        walk(
            family,
            &mut |key, value| {
                walked.row(view, actors.as_ref().ok(), key, value);
                true
            },
            &mut |found| hidden.push(found),
        );
        if family == Family::Concepts && !hidden.is_empty() {
            walked.read_hidden(view, actors.as_ref().ok(), &hidden);
        }
        report
            .damage
            .extend(hidden.into_iter().map(|hidden| name_hidden(family, &hidden)));
        walked.report(report);
    }
    match raft_state::read::<Installing>(view) {
        Ok(None) => check_audit(report, view),
        // The ledger is half of one state and half of another, and its chain no chain.
        Ok(Some(Installing { file, .. })) => report.damage.push(Damage {
            place: format!("family {}", Family::RaftState.name()),
            key: None,
            what: format!("the snapshot {file} was being put in place when the node ended: the next start ends it"),
        }),
        // Named where its row was walked.
        Err(_) => {}
    }
    check_identity(report, view);
}

fn check_audit(report: &mut Report, view: &dyn View) {
    match audit::verify(view) {
        Err(audit::Fault::Broken { sequence, reason }) => report.damage.push(Damage {
            place: "family audit".to_owned(),
            key: Some(format!("record {sequence}")),
            what: format!("the chain is broken: {reason}"),
        }),
        // What cannot be read was named by the walk.
        Err(audit::Fault::Store(_)) | Ok(_) => {}
    }
}

fn name_hidden(family: Family, hidden: &Hidden) -> Damage {
    let key = match (&hidden.after, &hidden.before) {
        (None, None) => "all keys".to_owned(),
        (Some(after), None) => format!("keys after {}", row::name(family, after)),
        (None, Some(before)) => format!("keys before {}", row::name(family, before)),
        (Some(after), Some(before)) => {
            let (after, before) = (row::name(family, after), row::name(family, before));
            format!("keys after {after} and before {before}")
        }
    };
    Damage {
        place: format!("family {}", family.name()),
        key: Some(key),
        what: hidden.errors.join("; "),
    }
}

/// Whose the data are, and whether the log reaches as far as they do.
fn check_identity(report: &mut Report, view: &dyn View) {
    let mut wrong = |key: &[u8], what: String| {
        report.damage.push(Damage {
            place: "family meta".to_owned(),
            key: Some(row::name(Family::Meta, key)),
            what,
        });
    };
    match view.get(Family::Meta, meta::IDENTITY) {
        Ok(Some(identity)) if codec::decode::<Identity>(&identity).is_ok() => {}
        Ok(None) => wrong(meta::IDENTITY, "the identity of the node is missing".to_owned()),
        // Named where its row was walked.
        Ok(Some(_)) | Err(_) => {}
    }
    let (applied, last) = (meta::applied(view).unwrap_or_default(), report.log.last);
    if applied > last {
        let what = format!("the database holds records up to {applied}, and the log ends at {last}");
        wrong(meta::APPLIED_LSN, what);
    }
}

/// A family on the way through its rows.
struct Walked {
    numbers: FamilyReport,
    damaged: u64,
    damage: Vec<Damage>,
}

impl Walked {
    fn of(family: Family) -> Walked {
        let numbers = FamilyReport {
            family,
            keys: 0,
            bytes: 0,
        };
        Walked {
            numbers,
            damaged: 0,
            damage: Vec::new(),
        }
    }

    fn row(&mut self, view: &dyn View, actors: Option<&Actors>, key: &[u8], value: &[u8]) {
        let family = self.numbers.family;
        self.numbers.keys += 1;
        self.numbers.bytes += (key.len() + value.len()) as u64;
        let outcome = match (family, actors) {
            (Family::Concepts, Some(actors)) => check_concept(view, actors, key, value),
            _ => row::check(family, key, value),
        };
        if let Err(what) = outcome {
            self.damaged(key, what);
        }
    }

    /// Reads hidden concepts one by one, by the keys that the index has: a walk that meets a damaged block of a table in
    /// level zero stops before it has come to the keys of other tables.
    fn read_hidden(&mut self, view: &dyn View, actors: Option<&Actors>, hidden: &[Hidden]) {
        let is_hidden = |key: &[u8]| {
            hidden.iter().any(|range| {
                let is_behind = range.after.as_deref().is_none_or(|after| key > after);
                is_behind && range.before.as_deref().is_none_or(|before| key < before)
            })
        };
        let mut visit = |key: &[u8], _: &[u8]| {
            let Some((_, concept)) = concept_index::split(key).filter(|(_, concept)| is_hidden(concept)) else {
                return true;
            };
            match view.get(Family::Concepts, concept) {
                Ok(Some(value)) => self.row(view, actors, concept, &value),
                Ok(None) => self.damaged(concept, "the index knows it, and it is not there".to_owned()),
                Err(error) => self.damaged(concept, error.to_string()),
            }
            true
        };
        // What cannot be read of the index is named in its own walk.
        let _ = view.scan(Family::ConceptIndex, &[], None, &mut visit);
    }

    fn damaged(&mut self, key: &[u8], what: String) {
        let family = self.numbers.family;
        self.damaged += 1;
        if self.damaged <= ROWS_NAMED_MAX {
            self.damage.push(Damage {
                place: format!("family {}", family.name()),
                key: Some(row::name(family, key)),
                what,
            });
        }
    }

    fn report(self, report: &mut Report) {
        let more = self.damaged.saturating_sub(ROWS_NAMED_MAX);
        report.damage.extend(self.damage);
        if more > 0 {
            report.damage.push(Damage {
                place: format!("family {}", self.numbers.family.name()),
                key: None,
                what: format!("{more} more rows are damaged"),
            });
        }
        report.families.push(self.numbers);
    }
}

/// A concept must decode, and the index and each of its dots must know it. Rows that cannot be read are named in the walk of
/// their own family.
fn check_concept(view: &dyn View, actors: &Actors, key: &[u8], value: &[u8]) -> Result<(), String> {
    row::check(Family::Concepts, key, value)?;
    let state = concepts::decode(value, actors).map_err(|error| error.to_string())?;
    if let Ok(None) = view.get(Family::ConceptIndex, &concept_index::key(key)) {
        return Err("its row in family concept_index is missing".to_owned());
    }
    let mut missing = BTreeSet::new();
    for dot in state.entries.keys() {
        let Some(actor) = actors.number(&dot.actor) else {
            continue;
        };
        match view.get(Family::Dots, &dots::key(actor, dot.counter)) {
            Ok(Some(row)) if dots::decode(&row) != Some(key) => {
                return Err(format!("the dot {actor}:{} belongs to another key", dot.counter));
            }
            Ok(None) => {
                missing.insert(format!("{actor}:{}", dot.counter));
            }
            Ok(Some(_)) | Err(_) => {}
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let missing: Vec<String> = missing.into_iter().collect();
    Err(format!("its rows in family dots are missing: {}", missing.join(", ")))
}
