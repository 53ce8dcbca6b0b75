//! `status`: how a node stands.

use std::time::SystemTime;

use clap::Args;
use client::wire::{Check, StatusResponse};
use serde_json::{Value, json};

use super::Verb;
use crate::{
    error::{Code, Failure},
    output::Output,
    session::Session,
    show,
};

/// Show how a node stands
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  continuum-admin status
  continuum-admin status --endpoint db2:7000
  continuum-admin status -o json | jq .disk.free_bytes

Exit codes: 0 when the node is ready, 75 when it answers and is not, 69 when it cannot be reached.")]
pub(super) struct Status {}

impl Verb for Status {
    const NAME: &'static str = "status";

    async fn run(self, session: Session) -> Result<(), Failure> {
        let status = session.client()?.admin().status().await?;
        session.output.data(&json(&status), || page(&session.output, &status))?;
        if status.ready {
            return Ok(());
        }
        let failing = status
            .checks
            .iter()
            .filter(|check| check.decides && !check.failure.is_empty());
        let failing: Vec<String> = failing
            .map(|check| format!("{}: {}", check.name, check.failure))
            .collect();
        let what = format!("{} is not ready: {}", status.node, failing.join("; "));
        Err(Failure::new(Code::Temporary, what).next("wait, or look into the node's log"))
    }
}

fn json(status: &StatusResponse) -> Value {
    let log = status.log.clone().unwrap_or_default();
    let disk = status.disk.unwrap_or_default();
    let pool = status.pool.unwrap_or_default();
    let checks = status.checks.iter().map(|check| {
        json!({ "name": check.name, "ok": check.failure.is_empty(), "failure": check.failure, "decides": check.decides })
    });
    let families = status
        .families
        .iter()
        .map(|family| json!({ "name": family.name, "keys": family.keys, "bytes": family.bytes }));
    let consumers = log
        .consumers
        .iter()
        .map(|consumer| json!({ "name": consumer.name, "lsn": consumer.lsn }));
    json!({
        "node": status.node,
        "version": status.version,
        "cluster": engine::backup::hex(&status.cluster),
        "incarnation": format!("{:016x}", status.incarnation),
        "started_at": started(status).map(show::time),
        "grpc_address": status.grpc_address,
        "http_address": status.http_address,
        "data_directory": status.data_directory,
        "ready": status.ready,
        "checks": checks.collect::<Vec<_>>(),
        "lsn": status.lsn,
        "log": {
            "segments": log.segments,
            "bytes": log.bytes,
            "first_lsn": log.first_lsn,
            "consumers": consumers.collect::<Vec<_>>(),
        },
        "families": families.collect::<Vec<_>>(),
        "disk": { "free_bytes": disk.free_bytes, "needed_bytes": disk.needed_bytes, "compacts": disk.compacts },
        "namespaces": status.namespaces,
        "pool": { "concepts": pool.concepts, "contributors": pool.contributors },
        "resident_bytes": status.resident_bytes,
        "snapshots": status.snapshots,
    })
}

fn started(status: &StatusResponse) -> Option<SystemTime> {
    status.started_at.and_then(|at| at.try_into().ok())
}

fn page(output: &Output, status: &StatusResponse) -> String {
    let paint = output.paint;
    let log = status.log.clone().unwrap_or_default();
    let disk = status.disk.unwrap_or_default();
    let pool = status.pool.unwrap_or_default();
    let ready = if status.ready {
        paint.good("ready")
    } else {
        paint.bad("not ready")
    };
    let since = started(status).map_or_else(
        || "unknown".to_owned(),
        |at| format!("{} ({})", show::time(at), show::ago(at)),
    );
    let compacts = if disk.compacts { "" } else { ", too little to compact" };
    let mut facts = vec![
        ("node", format!("{} {ready}", paint.bold(&status.node))),
        ("version", status.version.clone()),
        ("cluster", engine::backup::hex(&status.cluster)),
        ("life", format!("{:016x}", status.incarnation)),
        ("started", since),
        ("gRPC", status.grpc_address.clone()),
        ("HTTP", status.http_address.clone()),
        ("data", status.data_directory.clone()),
        ("memory", show::bytes(status.resident_bytes)),
        (
            "disk",
            format!(
                "{} free, writes need more than {}{compacts}",
                show::bytes(disk.free_bytes),
                show::bytes(disk.needed_bytes)
            ),
        ),
        (
            "log",
            format!(
                "up to {}, kept from {}: {} in {}",
                show::number(status.lsn),
                show::number(log.first_lsn),
                show::bytes(log.bytes),
                show::count(log.segments.into(), "segment")
            ),
        ),
    ];
    for consumer in &log.consumers {
        let behind = status.lsn.saturating_sub(consumer.lsn);
        let text = format!("kept for {}, {} behind", consumer.name, show::number(behind));
        facts.push(("", text));
    }
    facts.push(("namespaces", status.namespaces.to_string()));
    let gave = format!(
        "{} of {}",
        show::count(pool.concepts, "concept"),
        show::count(pool.contributors, "member")
    );
    facts.push(("pool", gave));
    facts.push(("snapshots", status.snapshots.to_string()));
    format!(
        "{}\n{}\n{}",
        output.facts(&facts),
        checks(output, status),
        families(output, status)
    )
}

fn checks(output: &Output, status: &StatusResponse) -> String {
    let paint = output.paint;
    let row = |check: &Check| {
        let verdict = match (check.failure.is_empty(), check.decides) {
            (true, _) => paint.good("ok"),
            (false, true) => paint.bad(&format!("fails: {}", check.failure)),
            (false, false) => format!("warns: {}", check.failure),
        };
        vec![check.name.clone(), verdict]
    };
    output.table(&["CHECK", ""], &[], status.checks.iter().map(row).collect())
}

fn families(output: &Output, status: &StatusResponse) -> String {
    let rows = status
        .families
        .iter()
        .filter(|family| family.keys > 0 || family.bytes > 0);
    let rows = rows.map(|family| {
        vec![
            family.name.clone(),
            show::number(family.keys),
            show::bytes(family.bytes),
        ]
    });
    output.table(&["FAMILY", "KEYS (ABOUT)", "SIZE"], &[1, 2], rows.collect())
}
