//! Random appends, syncs, rotations and retention, cut at random moments, over many lives of one log.
//!
//! What must hold after every crash: each acknowledged record is there, what is there is a prefix of what was appended,
//! and the log goes on.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use wal::{Error, Log, Lsn, Record, storage::Faulty};

use crate::{open, read_all, segment};

const SEEDS: u64 = 1_000;

/// What was appended, by LSN, and what of it was acknowledged.
#[derive(Default)]
struct Model {
    /// Record `n` has LSN `n + 1`.
    appended: Vec<(u8, Vec<u8>)>,
    acknowledged: u64,
}

impl Model {
    /// Compares a freshly opened log, and forgets what did not survive.
    fn check(&mut self, log: &Log) -> Result<(), String> {
        let last = log.last().0;
        if last < self.acknowledged {
            return Err(format!(
                "{} was acknowledged, the log ends at {last}",
                self.acknowledged
            ));
        }
        if last > self.appended.len() as u64 {
            return Err(format!(
                "the log ends at {last}, only {} were appended",
                self.appended.len()
            ));
        }
        let entries = read_all(log).map_err(|error| error.to_string())?;
        let first = log.handle().first().0;
        if entries.len() as u64 != last + 1 - first {
            return Err(format!("{} records between {first} and {last}", entries.len()));
        }
        for (entry, lsn) in entries.iter().zip(first..) {
            let (header, body) = &self.appended[lsn as usize - 1];
            if entry.lsn != Lsn(lsn) || entry.header != *header || entry.body != *body {
                return Err(format!("record {lsn} is not what was appended"));
            }
        }
        self.appended.truncate(last as usize);
        self.acknowledged = last;
        Ok(())
    }
}

/// One log over several lives; each life ends in a power cut or a process that dies.
fn run(seed: u64, syncs_lie: bool) -> Result<(), String> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut storage = Faulty::new();
    let mut model = Model::default();
    for _ in 0..random.random_range(2..6) {
        if syncs_lie {
            storage.lie_about_syncs();
        } else if random.random_bool(0.3) {
            storage = crash_while_opening(storage, &mut random)?;
        }
        let mut log = match open(&storage) {
            Ok((log, _)) => log,
            Err(error) => return Err(format!("opening: {error}")),
        };
        model.check(&log)?;
        match random.random_range(0..4) {
            0 => storage.fail_syncs_after(random.random_range(0..12)),
            1 => storage.fail_writes_after(random.random_range(0..25)),
            _ => {}
        }
        live(&mut log, &mut model, &mut random)?;
        storage = crash(storage, &mut random);
    }
    let (log, _) = open(&storage).map_err(|error| format!("opening at the end: {error}"))?;
    model.check(&log)
}

fn crash(storage: Faulty, random: &mut StdRng) -> Faulty {
    if random.random_bool(0.8) {
        return storage.power_cut(random.random());
    }
    // Only the process dies: what it wrote is in the page cache, also what a failed sync did not bring to the disk.
    storage.heal();
    storage
}

fn crash_while_opening(storage: Faulty, random: &mut StdRng) -> Result<Faulty, String> {
    match random.random_range(0..3) {
        0 => storage.fail_syncs_after(random.random_range(0..4)),
        1 => storage.fail_writes_after(random.random_range(0..4)),
        _ => {}
    }
    match open(&storage) {
        Ok(_) | Err(Error::Failed(_)) => Ok(crash(storage, random)),
        Err(error) => Err(format!("opening the first time: {error}")),
    }
}

fn live(log: &mut Log, model: &mut Model, random: &mut StdRng) -> Result<(), String> {
    for _ in 0..random.random_range(0..60) {
        let outcome = match random.random_range(0..20) {
            0 => log.retire(Lsn(model.acknowledged)).map(|_| ()),
            1..=8 => log.sync().map(|lsn| model.acknowledged = lsn.0),
            _ => append(log, model, random),
        };
        match outcome {
            Ok(()) => {}
            Err(Error::Failed(_)) => return refuses_everything(log),
            Err(error) => return Err(format!("living: {error}")),
        }
    }
    Ok(())
}

fn append(log: &mut Log, model: &mut Model, random: &mut StdRng) -> Result<(), Error> {
    let bytes_max = if random.random_bool(0.1) { 1_200 } else { 200 };
    let records: Vec<(u8, Vec<u8>)> = (0..random.random_range(1..4))
        .map(|_| {
            let body = (0..random.random_range(0..bytes_max))
                .map(|_| random.random())
                .collect();
            (random.random(), body)
        })
        .collect();
    let framed: Vec<Record<'_>> = records
        .iter()
        .map(|(header, body)| Record { header: *header, body })
        .collect();
    // Written or not: a group whose write failed may still be found whole.
    let expected = model.appended.len() as u64 + 1;
    let outcome = log.append(&framed);
    model.appended.extend(records);
    outcome.map(|first| assert_eq!(first, Lsn(expected)))
}

fn refuses_everything(log: &mut Log) -> Result<(), String> {
    let refused = matches!(
        log.append(&[Record {
            header: 0,
            body: b"late"
        }]),
        Err(Error::Failed(_))
    ) && matches!(log.sync(), Err(Error::Failed(_)))
        && matches!(log.retire(Lsn(u64::MAX)), Err(Error::Failed(_)));
    if refused {
        Ok(())
    } else {
        Err("the log went on after a failure".to_owned())
    }
}

#[test]
fn no_acknowledged_record_is_lost_and_none_appears_out_of_order() {
    for seed in 0..SEEDS {
        if let Err(failure) = run(seed, false) {
            panic!("seed {seed}: {failure}");
        }
    }
}

#[test]
fn a_sealed_segment_stays_sealed() {
    for seed in 0..40 {
        let storage = Faulty::new();
        let (mut log, _) = open(&storage).unwrap();
        for _ in 0..20 {
            log.append(&[Record {
                header: 1,
                body: &[1; 900],
            }])
            .unwrap();
        }
        let survivor = storage.power_cut(seed);
        let footer = &survivor.read(&segment(1))[(16 << 10) - 64..];
        assert!(footer.starts_with(b"CNTMEND\n"), "seed {seed}");
        assert!(
            open(&survivor).unwrap().1.last > Lsn(10),
            "a rotation syncs what is before it"
        );
    }
}

#[test]
fn the_same_runs_fail_when_syncs_do_nothing() {
    let failures = (0..200).filter(|&seed| run(seed, true).is_err()).count();
    assert!(
        failures > 100,
        "only {failures} of 200 seeds noticed that nothing was synced"
    );
}
