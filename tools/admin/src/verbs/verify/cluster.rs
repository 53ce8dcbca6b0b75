//! `verify --cluster`: whether all members hold the same ledger, byte for byte.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use client::wire::DigestResponse;
use serde_json::{Value, json};

use crate::{
    error::{Code, Failure},
    session::Session,
    show,
};

/// Members that are not equally far are asked again for so long.
const SAME_MOMENT_WITHIN: Duration = Duration::from_secs(30);
/// Between two times.
const PAUSE: Duration = Duration::from_millis(200);
/// Digits of a sum that people are shown.
const DIGITS: usize = 16;

/// A member and what its ledger came to when it was last asked.
struct Member {
    name: String,
    address: String,
    client: client::Client,
    digest: DigestResponse,
}

/// How far a member was: entries wholly applied, and commands of the next.
type Place = (u64, u32);

impl Member {
    fn place(&self) -> Place {
        (self.digest.applied, self.digest.part)
    }

    fn sum(&self) -> String {
        self.digest.sum.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    async fn ask(&mut self) -> Result<(), Failure> {
        self.digest = self.client.cluster().digest().await?;
        Ok(())
    }
}

/// Asks all members until they are equally far, and compares.
pub(super) async fn run(session: &Session) -> Result<(), Failure> {
    let status = session.client()?.cluster().status().await?;
    let mut members = Vec::new();
    for member in status.members {
        // One that stands alone knows no address of its own.
        let client = match member.address.is_empty() {
            true => session.client()?,
            false => session.client_at(&member.address)?,
        };
        members.push(Member {
            name: member.name,
            address: member.address,
            client,
            digest: DigestResponse::default(),
        });
    }
    for member in &mut members {
        member.ask().await?;
    }
    let since = Instant::now();
    while !same_moment(&members) && since.elapsed() < SAME_MOMENT_WITHIN {
        tokio::time::sleep(PAUSE).await;
        // Who is furthest stays where it is if nothing more is decided.
        let furthest = members.iter().map(Member::place).max();
        for member in &mut members {
            if Some(member.place()) < furthest {
                member.ask().await?;
            }
        }
    }
    let verdict = verdict(&members);
    session.output.data(&json(&members), || page(session, &members))?;
    verdict
}

fn same_moment(members: &[Member]) -> bool {
    members.windows(2).all(|two| two[0].place() == two[1].place())
}

/// Whether all that are equally far hold the same.
fn same(members: &[Member]) -> bool {
    let mut sums: BTreeMap<Place, &[u8]> = BTreeMap::new();
    members
        .iter()
        .all(|member| *sums.entry(member.place()).or_insert(&member.digest.sum) == member.digest.sum)
}

fn verdict(members: &[Member]) -> Result<(), Failure> {
    if !same(members) {
        return Err(Failure::new(Code::Data, "members that are equally far hold different ledgers").next(
            "find out which is right: `continuum-admin verify --endpoint` each; then begin the wrong ones anew with `continuum-admin cluster replace`",
        ));
    }
    if !same_moment(members) {
        let told = "no moment was found at which all members were equally far";
        return Err(Failure::new(Code::Temporary, told)
            .next("run it again when less is written; `continuum-admin cluster status` says who is behind"));
    }
    Ok(())
}

fn json(members: &[Member]) -> Value {
    let member = |member: &Member| {
        json!({
            "node": member.name,
            "address": member.address,
            "applied": member.digest.applied,
            "part": member.digest.part,
            "rows": member.digest.rows,
            "concepts": member.digest.concepts,
            "sha256": member.sum(),
        })
    };
    json!({
        "same": same(members),
        "same_moment": same_moment(members),
        "members": members.iter().map(member).collect::<Vec<_>>(),
    })
}

fn page(session: &Session, members: &[Member]) -> String {
    let output = &session.output;
    let verdict = match (same(members), same_moment(members)) {
        (true, true) => output.paint.good("all members hold the same ledger, byte for byte"),
        (true, false) => output
            .paint
            .bad("members are not equally far, so they cannot be compared"),
        (false, _) => output.paint.bad("members that are equally far hold different ledgers"),
    };
    let row = |member: &Member| {
        vec![
            member.name.clone(),
            show::number(member.digest.applied),
            show::number(member.digest.rows),
            show::number(member.digest.concepts),
            member.sum().chars().take(DIGITS).collect(),
        ]
    };
    let rows = members.iter().map(row).collect();
    let table = output.table(&["NODE", "APPLIED", "ROWS", "CONCEPTS", "SHA-256"], &[1, 2, 3], rows);
    format!("{}\n{table}", output.facts(&[("verdict", verdict)]))
}
