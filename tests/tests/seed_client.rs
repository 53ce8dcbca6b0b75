//! The original Python client's three calls, bodies and headers unchanged, against a node started with no configuration.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{ffi::OsString, path::Path, process::Command};

use continuum_tests::{network, node::binary, skipped};

#[test]
fn the_seed_calls_answer_as_printed() {
    let name = "the_seed_calls_answer_as_printed";
    let python = std::env::var("CONTINUUM_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_requests = Command::new(&python).args(["-c", "import requests"]).output();
    if !has_requests.is_ok_and(|output| output.status.success()) {
        return skipped(name, "Python has no `requests`: run through tools/test");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/default_node.py");
    let directory = tempfile::tempdir().unwrap();
    let Some(mut words) = network::with_default_ports() else {
        return skipped(
            name,
            "ports 7000 and 8000 are taken and no network namespace can be made",
        );
    };
    words.extend([
        OsString::from(python),
        script.into(),
        binary().into(),
        directory.path().into(),
    ]);
    let output = Command::new(&words[0]).args(&words[1..]).output().unwrap();
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert!(stdout.contains("as printed"), "{stdout}");
}
