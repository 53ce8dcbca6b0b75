//! `snapshot`: the node's state kept under a name, on its own disk.

use std::time::SystemTime;

use clap::{Args, Subcommand};
use client::wire::Snapshot as Kept;
use serde_json::{Value, json};

use super::{Verb, restore::RestoreSnapshot};
use crate::{
    command::Caution,
    error::{Code, Failure},
    session::Session,
    show,
};

/// Keep the node's present state under a name, on its own disk
///
/// A snapshot links files instead of copying them: it costs little until they would have been dropped. It is no backup: it
/// goes with the disk.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  continuum-admin snapshot create before-upgrade
  continuum-admin snapshot list
  continuum-admin snapshot delete before-upgrade
  continuum-admin snapshot restore before-upgrade --from-data-dir ./continuum-data --data-dir ./restored")]
pub(super) struct Snapshot {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Keep the present state; it holds every write acknowledged before
    #[command(after_help = "\
Examples:
  continuum-admin snapshot create                   named after the time
  continuum-admin snapshot create before-upgrade")]
    Create {
        /// Its name: up to 63 of a-z, 0-9, ".", "_" and "-", a letter or digit first; the time when there is none
        #[arg(default_value = "", hide_default_value = true)]
        name: String,
    },
    /// List the snapshots
    #[command(after_help = "Examples:\n  continuum-admin snapshot list\n  continuum-admin snapshot list -o json")]
    List,
    /// Remove a snapshot
    #[command(
        after_help = "Examples:\n  continuum-admin snapshot delete before-upgrade\n  continuum-admin snapshot delete before-upgrade --dry-run"
    )]
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        caution: Caution,
    },
    /// Make another node's data directory from a snapshot, by the files alone
    #[command(
        after_help = "Examples:\n  continuum-admin snapshot restore before-upgrade --from-data-dir ./continuum-data --data-dir ./restored"
    )]
    Restore(RestoreSnapshot),
}

impl Verb for Snapshot {
    const NAME: &'static str = "snapshot";

    async fn run(self, session: Session) -> Result<(), Failure> {
        let admin = session.client()?.admin();
        let output = &session.output;
        match self.what {
            What::Create { name } => {
                let kept = admin.create_snapshot(&name).await?;
                output.say(&format!(
                    "the snapshot {} is made: everything up to {}, {} in {}",
                    kept.name,
                    show::number(kept.lsn),
                    show::bytes(kept.bytes),
                    kept.path
                ));
                output.data(&one(&kept), String::new)
            }
            What::List => {
                let all = admin.list_snapshots().await?;
                if all.is_empty() && !output.is_json() {
                    output.say("there are no snapshots: continuum-admin snapshot create NAME");
                }
                let json: Vec<Value> = all.iter().map(one).collect();
                output.data(&json!({ "snapshots": json }), || table(&session, &all))
            }
            What::Delete { name, caution } => {
                let all = admin.list_snapshots().await?;
                let found = all.iter().find(|kept| kept.name == name);
                let found = found.ok_or_else(|| {
                    Failure::new(Code::No, format!("there is no snapshot {name}"))
                        .next("see what there is: continuum-admin snapshot list")
                })?;
                let go = session.may(caution, &format!("delete the snapshot {name} of {}", age(found)))?;
                if go {
                    admin.delete_snapshot(&name).await?;
                    output.say(&format!("the snapshot {name} is deleted"));
                }
                output.data(&json!({ "name": name, "dry_run": !go, "deleted": go }), String::new)
            }
            What::Restore(restore) => restore.run(&session),
        }
    }
}

fn made_at(kept: &Kept) -> Option<SystemTime> {
    kept.made_at.and_then(|at| at.try_into().ok())
}

fn age(kept: &Kept) -> String {
    made_at(kept).map_or_else(|| "unknown age".to_owned(), show::time)
}

fn one(kept: &Kept) -> Value {
    json!({
        "name": kept.name,
        "made_at": made_at(kept).map(show::time),
        "lsn": kept.lsn,
        "bytes": kept.bytes,
        "files": kept.files,
        "path": kept.path,
        "damage": kept.damage,
    })
}

fn table(session: &Session, all: &[Kept]) -> String {
    let row = |kept: &Kept| {
        let mut row = vec![kept.name.clone(), age(kept)];
        row.extend([
            show::number(kept.lsn),
            show::number(kept.files.into()),
            show::bytes(kept.bytes),
        ]);
        row.push(if kept.damage.is_empty() {
            "ok".to_owned()
        } else {
            kept.damage.clone()
        });
        row
    };
    let headings = ["SNAPSHOT", "MADE", "LSN", "FILES", "SIZE", ""];
    session
        .output
        .table(&headings, &[2, 3, 4], all.iter().map(row).collect())
}
