//! One operation at a time: whoever comes second is told at once which one runs, and what is stopped leaves nothing.

use std::{
    path::Path,
    sync::mpsc::{Receiver, Sender, channel},
    time::{Duration, Instant},
};

use continuum_engine::{
    Engine, Environment, Occupied, Operation, Settings, backup,
    clock::Timestamp,
    verify::{self, Error},
};

use crate::node::*;

/// What a refusal may take: it waits half a second for an operation that is about to end.
const AT_ONCE: Duration = Duration::from_secs(5);
const KEYS: u64 = 3_000;

fn open(directory: &Path) -> Engine {
    let settings = Settings {
        segment_bytes: 1 << 20,
        flush_log_bytes: 256 << 10,
        free_soft_bytes: 0,
        free_hard_bytes: 0,
        ..Settings::default()
    };
    let environment = Environment::in_directory(directory, &settings, "a", hand(), entropy).unwrap();
    let engine = Engine::open(settings, environment).unwrap();
    for number in 0..KEYS {
        write(&engine, put(&format!("k{number:05}"), "\"some text\""));
    }
    engine
}

/// A verification that stands still when it has begun, until it is told whether to go on.
fn verification(engine: &Engine) -> (std::thread::JoinHandle<Result<verify::Report, Error>>, Sender<bool>) {
    let (engine, (told, begun), (word, given)) = (engine.clone(), channel(), channel());
    let running = std::thread::spawn(move || engine.verify(&mut stands_still(told, given)));
    begun.recv().unwrap();
    (running, word)
}

fn stands_still(told: Sender<()>, given: Receiver<bool>) -> impl FnMut(u64, u64) -> bool {
    let mut goes_on = None;
    move |_, _| {
        *goes_on.get_or_insert_with(|| {
            told.send(()).unwrap();
            given.recv().unwrap()
        })
    }
}

#[test]
fn the_second_is_told_at_once_what_runs() {
    let place = tempfile::tempdir().unwrap();
    let engine = open(place.path());
    let (running, word) = verification(&engine);
    let expected = Occupied {
        by: Operation::Verification,
    };
    let started = Instant::now();
    match engine.checkpoint(&place.path().join("backup"), Timestamp(1)) {
        Err(backup::Error::Occupied(occupied)) => assert_eq!(occupied, expected),
        other => panic!("{other:?}"),
    }
    match engine.compact(None, &mut |_| true) {
        Err(backup::Error::Occupied(occupied)) => assert_eq!(occupied, expected),
        other => panic!("{other:?}"),
    }
    match engine.verify(&mut |_, _| true) {
        Err(Error::Occupied(occupied)) => assert_eq!(occupied, expected),
        other => panic!("{other:?}"),
    }
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    assert!(!place.path().join("backup.partial").exists(), "nothing was begun");
    word.send(true).unwrap();
    assert_eq!(running.join().unwrap().unwrap().damage, []);
    engine.checkpoint(&place.path().join("backup"), Timestamp(1)).unwrap();
    engine.close().unwrap();
}

#[test]
fn one_that_ends_soon_is_waited_for() {
    let place = tempfile::tempdir().unwrap();
    let engine = open(place.path());
    let (running, word) = verification(&engine);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| engine.checkpoint(&place.path().join("backup"), Timestamp(1)));
        word.send(false).unwrap();
        second.join().unwrap().unwrap();
    });
    assert!(matches!(running.join().unwrap(), Err(Error::Stopped)));
    engine.close().unwrap();
}

#[test]
fn a_verification_can_be_stopped_anywhere_and_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let engine = open(place.path());
    let mut asked = 0_u64;
    let whole = engine.verify(&mut |_, _| {
        asked += 1;
        true
    });
    assert_eq!(whole.unwrap().damage, []);
    assert!(
        asked >= KEYS / 1_000 * 4,
        "asked {asked} times: of the log, and of three families"
    );
    for stop in 1..=asked {
        let mut left = stop;
        let stopped = engine.verify(&mut |_, _| {
            assert!(left > 0, "asked again after it was told to stop");
            left -= 1;
            left > 0
        });
        assert!(matches!(stopped, Err(Error::Stopped)), "{stop} of {asked}: {stopped:?}");
        assert!(!place.path().join("verifying").exists(), "{stop} of {asked}");
    }
    engine.close().unwrap();
    let stopped = verify::directory(place.path(), &mut |_, _| false);
    assert!(matches!(stopped, Err(Error::Stopped)));
}
