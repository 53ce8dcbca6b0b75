//! A network of one's own, where the default ports are surely free.

use std::{ffi::OsString, net::TcpListener, process::Command};

/// Ways there: with root, or with a user namespace.
const NETWORKS: [&[&str]; 2] = [
    &["unshare", "--net"],
    &["unshare", "--user", "--map-root-user", "--net"],
];

/// What `continuumd` binds when nothing is said.
const DEFAULT_PORTS: [u16; 2] = [7000, 8000];

/// The words that start a program, as our direct child, where the default ports are free; `None` where they are taken and
/// no network namespace can be made.
#[must_use]
pub fn with_default_ports() -> Option<Vec<OsString>> {
    let works = |words: &&&[&str]| {
        let probe = Command::new(words[0])
            .args(&words[1..])
            .args(["ip", "link", "set", "lo", "up"])
            .output();
        probe.is_ok_and(|output| output.status.success())
    };
    if let Some(words) = NETWORKS.iter().find(works) {
        let inside = ["sh", "-c", "ip link set lo up && exec \"$@\"", "sh"];
        return Some(words.iter().chain(&inside).map(OsString::from).collect());
    }
    let free = DEFAULT_PORTS
        .iter()
        .all(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    free.then(Vec::new)
}
