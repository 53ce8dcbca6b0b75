//! The same promises on RocksDB and a real directory.

use std::{path::Path, sync::Arc};

use continuum_engine::{Engine, Environment, OpenError, Settings};

use crate::node::*;

fn try_open(directory: &Path) -> Result<Engine, OpenError> {
    let settings = Settings {
        segment_bytes: 1 << 20,
        flush_log_bytes: 256 << 10,
        free_soft_bytes: 0,
        free_hard_bytes: 0,
        ..Settings::default()
    };
    let environment = Environment::in_directory(directory, &settings, "a", hand(), entropy)?;
    Engine::open(settings, environment)
}

#[test]
fn it_reopens_with_everything_after_a_close_and_after_none() {
    let directory = tempfile::tempdir().unwrap();
    let json = |life: u32, key: u32| format!("\"{life} {key} {}\"", "x".repeat(500));
    for life in 0..4 {
        let engine = try_open(directory.path()).unwrap();
        if life > 0 {
            for key in 0..400 {
                assert_eq!(read(&engine, &format!("k{key}")), [json(life - 1, key)]);
            }
            assert_eq!(sum(&engine, "sum"), i128::from(life) * 64);
        }
        let engine = Arc::new(engine);
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let engine = Arc::clone(&engine);
                scope.spawn(move || {
                    for key in (writer..400).step_by(8) {
                        write(&engine, put(&format!("k{key}"), &json(life, key)));
                        assert_eq!(read(&engine, &format!("k{key}")), [json(life, key)]);
                    }
                    for _ in 0..8 {
                        write(&engine, add("sum", 1));
                    }
                });
            }
        });
        if life % 2 == 0 {
            engine.close().unwrap();
        }
    }
}

#[test]
fn a_second_opening_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let engine = try_open(directory.path()).unwrap();
    let refusal = try_open(directory.path()).err().expect("refused").to_string();
    assert!(refusal.contains("in use by another process"), "{refusal}");
    engine.close().unwrap();
    drop(engine);
    try_open(directory.path()).unwrap();
}
