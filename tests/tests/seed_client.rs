//! The original Python client's three calls, bodies and headers unchanged, against a node started with no configuration.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{net::TcpListener, path::Path, process::Command};

use continuum_tests::{node::binary, skipped};

/// Ways to a network of our own, where the default ports are surely free. With root, or with a user namespace.
const NETWORKS: [&[&str]; 2] = [
    &["unshare", "--net"],
    &["unshare", "--user", "--map-root-user", "--net"],
];

fn network_of_its_own() -> Option<&'static [&'static str]> {
    let works = |words: &&&[&str]| {
        let probe = Command::new(words[0])
            .args(&words[1..])
            .args(["ip", "link", "set", "lo", "up"])
            .output();
        probe.is_ok_and(|output| output.status.success())
    };
    NETWORKS.iter().find(works).copied()
}

fn default_ports_are_free() -> bool {
    [7000, 8000]
        .iter()
        .all(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
}

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
    let mut command = match network_of_its_own() {
        Some(words) => {
            let mut command = Command::new(words[0]);
            command
                .args(&words[1..])
                .args(["sh", "-c", "ip link set lo up && exec \"$@\"", "sh", &python]);
            command
        }
        None if default_ports_are_free() => Command::new(&python),
        None => {
            return skipped(
                name,
                "ports 7000 and 8000 are taken and no network namespace can be made",
            );
        }
    };
    let output = command
        .arg(script)
        .arg(binary())
        .arg(directory.path())
        .output()
        .unwrap();
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert!(stdout.contains("as printed"), "{stdout}");
}
