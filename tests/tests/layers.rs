//! The house keeps its shape: crates depend downwards only, one crate names `RocksDB`, and every way to build shares one
//! compiled `RocksDB`.
//!
//! ```text
//!  tests, benches      may name everything below
//!  admin               client, and for a node's files engine and wal
//!  server   client     server: engine, wal, proto; client: proto
//!  engine              wal
//!  wal   proto         nobody of ours
//! ```
#![allow(
    clippy::unwrap_used,
    reason = "cargo's answers have the shape its documentation says"
)]

use std::{collections::BTreeSet, path::Path, process::Command};

use serde_json::Value;

/// Who may depend on whom, of ours.
const LAYERS: &[(&str, &[&str])] = &[
    ("continuum-wal", &[]),
    ("continuum-proto", &[]),
    ("continuum-engine", &["continuum-wal"]),
    (
        "continuum-server",
        &["continuum-engine", "continuum-wal", "continuum-proto"],
    ),
    (
        "continuum-tests",
        &[
            "continuum-engine",
            "continuum-wal",
            "continuum-proto",
            "continuum-client",
        ],
    ),
    ("continuum-client", &["continuum-proto"]),
    (
        "continuum-admin",
        // Of the server the lock of a data directory, and nothing that serves.
        &[
            "continuum-client",
            "continuum-engine",
            "continuum-wal",
            "continuum-server",
        ],
    ),
    (
        "continuum-benches",
        &[
            "continuum-engine",
            "continuum-wal",
            "continuum-proto",
            "continuum-server",
            "continuum-client",
            "continuum-tests",
        ],
    ),
];

/// Heavy or delicate crates, and the only ones of ours that may name them.
const WRAPPERS: &[(&str, &[&str])] = &[
    ("rocksdb", &["continuum-engine", "continuum-benches"]),
    ("librocksdb-sys", &[]),
    ("openraft", &["continuum-server"]),
    ("bincode", &["continuum-engine"]),
];

fn cargo(arguments: &[&str]) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the workspace");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Unit graphs are unstable; this asks for a plan and compiles nothing.
    let output = Command::new(cargo)
        .args(arguments)
        .current_dir(root)
        .env("RUSTC_BOOTSTRAP", "1")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "cargo {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

#[test]
fn crates_depend_downwards_only() {
    let metadata: Value = serde_json::from_slice(&cargo(&["metadata", "--no-deps", "--format-version", "1"])).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeSet<&str> = packages
        .iter()
        .map(|package| package["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        LAYERS.iter().map(|(name, _)| *name).collect(),
        "a new crate needs a row in LAYERS"
    );
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let allowed = LAYERS.iter().find(|(layer, _)| *layer == name).unwrap().1;
        for dependency in package["dependencies"].as_array().unwrap() {
            let dependency = dependency["name"].as_str().unwrap();
            assert!(
                !dependency.starts_with("continuum-") || allowed.contains(&dependency),
                "{name} must not depend on {dependency}: arrows only point down"
            );
            if let Some((_, wrappers)) = WRAPPERS.iter().find(|(wrapped, _)| *wrapped == dependency) {
                assert!(
                    wrappers.contains(&name),
                    "{name} must not name {dependency}: only {wrappers:?} may"
                );
            }
        }
    }
}

/// The build of `librocksdb-sys` with everything it is built with, features included. Two selections with the same print
/// share the twelve minutes that `RocksDB` takes.
fn rocksdb_print(selection: &[&str]) -> BTreeSet<String> {
    let mut arguments = selection.to_vec();
    arguments.extend(["--release", "--unit-graph", "-Zunstable-options"]);
    let graph: Value = serde_json::from_slice(&cargo(&arguments)).unwrap();
    let units = graph["units"].as_array().unwrap();
    let mut waiting: Vec<usize> = (0..units.len())
        .filter(|&unit| units[unit]["pkg_id"].as_str().unwrap().contains("librocksdb-sys@"))
        .collect();
    assert!(!waiting.is_empty(), "{selection:?} builds no RocksDB");
    let mut reached: BTreeSet<usize> = BTreeSet::new();
    while let Some(unit) = waiting.pop() {
        if reached.insert(unit) {
            let dependencies = units[unit]["dependencies"].as_array().unwrap();
            waiting.extend(
                dependencies
                    .iter()
                    .map(|dependency| dependency["index"].as_u64().unwrap() as usize),
            );
        }
    }
    let describe = |unit: &Value| {
        let profile = &unit["profile"];
        format!(
            "{} {} {} opt {}",
            unit["pkg_id"], unit["target"]["kind"], unit["features"], profile["opt_level"]
        )
    };
    reached.into_iter().map(|unit| describe(&units[unit])).collect()
}

#[test]
fn every_selection_shares_one_rocksdb() {
    let whole = rocksdb_print(&["test", "--workspace", "--no-run"]);
    let selections: [&[&str]; 6] = [
        &["build", "--bin", "continuumd"],
        &["build", "--bin", "measure"],
        &["build", "--workspace", "--bins"],
        &["test", "-p", "continuum-engine", "--no-run"],
        &["test", "-p", "continuum-server", "--no-run"],
        &["test", "-p", "continuum-tests", "--no-run"],
    ];
    for selection in selections {
        let print = rocksdb_print(selection);
        let differing: Vec<_> = whole.symmetric_difference(&print).collect();
        assert!(
            differing.is_empty(),
            "cargo {selection:?} would compile RocksDB once more; ask for the missing features under \
             [build-dependencies] in engine/Cargo.toml: {differing:#?}"
        );
    }
}
