//! Three processes on loopback, come together by tokens.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{Admin, Launch, Node};

/// Whatever members do by themselves, and starts and ends of processes, are done by then.
pub const WITHIN: Duration = Duration::from_secs(30);

/// A node of this name.
#[must_use]
pub fn launch(name: &str) -> Launch {
    Launch::new().argument("--node-id").argument(name)
}

/// The same, on its way into the cluster of `token`.
#[must_use]
pub fn joining(launch: Launch, token: &str) -> Launch {
    launch.argument("--join").argument(token)
}

/// A join token made at `node`.
///
/// # Panics
/// When there is none to be had.
#[must_use]
pub fn token(node: &Node, words: &[&str]) -> String {
    let ran = Admin::of(node).ok(&[&["cluster", "token"], words].concat());
    assert!(ran.err.contains("secret") && ran.err.contains("--join"), "{}", ran.err);
    let token = ran.out.trim_end();
    assert!(
        token.starts_with("ctm1.") && !token.contains(char::is_whitespace),
        "the token alone: {token}"
    );
    token.to_owned()
}

/// What `cluster status` says, with quorum or without.
#[must_use]
pub fn status(node: &Node) -> Value {
    Admin::of(node).run(&["-o", "json", "cluster", "status"]).json()
}

/// Looks again and again until `is_so`.
///
/// # Panics
/// When it never is.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !is_so().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until so many members vote and one of them leads.
///
/// # Panics
/// When they never do.
pub async fn votes(node: &Node, count: usize) {
    until(&format!("{count} vote"), async || {
        let status = status(node);
        let is_voter = |member: &&Value| member["votes"] == true;
        let members = status["members"].as_array();
        status["trouble"] == "" && members.is_some_and(|members| members.iter().filter(is_voter).count() == count)
    })
    .await;
}

/// Nodes `one`, `two` and `three`, each started as `adjust` says, that all vote.
///
/// # Panics
/// When they do not come together.
pub async fn three(adjust: impl Fn(Launch) -> Launch) -> BTreeMap<String, Node> {
    let one = adjust(launch("one")).start().await;
    Admin::of(&one).ok(&["cluster", "init"]);
    let two = adjust(joining(launch("two"), &token(&one, &[]))).start().await;
    let three = adjust(joining(launch("three"), &token(&one, &[]))).start().await;
    let nodes = [("one", one), ("two", two), ("three", three)];
    let nodes: BTreeMap<String, Node> = nodes.map(|(name, node)| (name.to_owned(), node)).into();
    for node in nodes.values() {
        votes(node, 3).await;
    }
    nodes
}
