//! `restore`, and `snapshot restore`: a data directory from a backup, by the files alone.

use std::{fs, path::PathBuf};

use clap::Args;
use engine::backup::{self, MARKER, Manifest, PARTIAL, Restore as How, Restored};
use serde_json::json;
use server::runtime::entropy;

use super::Verb;
use crate::{
    error::{Code, Failure},
    offline,
    session::Session,
    show,
};

/// Where a data directory keeps its snapshots.
const SNAPSHOTS: &str = "snapshots";
/// What a directory may hold that counts as empty: see the engine's restore.
const IGNORED: [&str; 3] = ["LOCK", "lost+found", "RESTORING.new"];

/// Make a node's data directory from a backup; no node may run on it
///
/// Every byte of the backup is read and compared before anything is written. The restored node is another one than the node
/// that was backed up: it has a new incarnation, so that it never gives two writes one name, and is a cluster of its own,
/// unless --rejoin is given. Whatever stands in the target is never written over: it must be empty, or absent, or hold an
/// interrupted restore of the same backup, which goes on.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  continuum-admin restore backups/2026-11-23T18-07-04Z-replica-1 --data-dir ./continuum-data
  continuum-admin restore BACKUP --data-dir /srv/continuum --dry-run
  continuum-admin restore BACKUP --data-dir /srv/continuum --rejoin

--rejoin keeps the cluster's id and secrets: for the one node of a cluster that lost its disk, while its peers live on. Without
it the restored node founds a cluster, and tokens that clients hold from before are refused.")]
pub(super) struct Restore {
    /// The backup: a directory that `backup create` made
    backup: PathBuf,

    #[command(flatten)]
    to: To,
}

/// `snapshot restore`.
#[derive(Args, Debug)]
pub(super) struct RestoreSnapshot {
    /// The snapshot's name
    name: String,

    /// The data directory that keeps the snapshot; its node may run
    #[arg(long, value_name = "DIR")]
    from_data_dir: PathBuf,

    #[command(flatten)]
    to: To,
}

#[derive(Args, Debug)]
struct To {
    /// The data directory to be
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,

    /// Another name for the node
    #[arg(long, value_name = "NAME")]
    node_id: Option<String>,

    /// Stay a member of the cluster that was backed up, instead of founding one
    #[arg(long)]
    rejoin: bool,

    /// Check the backup and the target, and write nothing
    #[arg(long)]
    dry_run: bool,
}

impl Verb for Restore {
    const NAME: &'static str = "restore";

    async fn run(self, session: Session) -> Result<(), Failure> {
        restore(&session, &self.backup, &self.to)
    }
}

impl RestoreSnapshot {
    /// Does it.
    pub(super) fn run(&self, session: &Session) -> Result<(), Failure> {
        let snapshots = self.from_data_dir.join(SNAPSHOTS);
        let snapshot = snapshots.join(&self.name);
        if !snapshot.is_dir() {
            let what = format!("there is no snapshot {} in {}", self.name, snapshots.display());
            return Err(Failure::new(Code::No, what).next("see `continuum-admin snapshot list`"));
        }
        restore(session, &snapshot, &self.to)
    }
}

fn restore(session: &Session, source: &std::path::Path, to: &To) -> Result<(), Failure> {
    if source.to_string_lossy().trim_end_matches('/').ends_with(PARTIAL) {
        let what = format!("{} is a backup that was interrupted", source.display());
        return Err(
            Failure::new(Code::Data, what).next("run `backup create` again, which goes on with it, or take another")
        );
    }
    if to.dry_run {
        return rehearse(session, source, to);
    }
    let claim = offline::claim(&to.data_dir)?;
    let how = How {
        node: to.node_id.clone(),
        rejoin: to.rejoin,
        entropy: entropy::bits,
    };
    let bar = session.output.bar("restoring");
    let mut progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let target = claim.directory.path().to_owned();
    let restored = backup::restore(source, &target, &how, &engine::Settings::default(), &mut progress);
    bar.finish_and_clear();
    match restored {
        Ok(restored) => tell(session, &target, &restored, to),
        Err(error) => {
            claim.give_back();
            Err(offline::failure(&error))
        }
    }
}

fn tell(session: &Session, target: &std::path::Path, restored: &Restored, to: &To) -> Result<(), Failure> {
    let Restored {
        manifest,
        node,
        cluster,
        incarnation,
        lsn,
        resumed,
    } = restored;
    let json = json!({
        "data_directory": target,
        "node": node,
        "cluster": backup::hex(cluster),
        "incarnation": format!("{incarnation:016x}"),
        "lsn": lsn.0,
        "bytes": manifest.bytes(),
        "from": { "node": manifest.node, "cluster": backup::hex(&manifest.cluster), "made_at": made_at(manifest) },
        "rejoined": to.rejoin,
        "resumed": resumed,
    });
    session.output.data(&json, || {
        session.output.facts(&[
            ("restored", target.display().to_string()),
            ("node", format!("{node}, incarnation {incarnation:016x}")),
            (
                "cluster",
                format!(
                    "{}{}",
                    backup::hex(cluster),
                    if to.rejoin { ", as before" } else { ", new" }
                ),
            ),
            (
                "holds",
                format!(
                    "what {} had at {}, up to {}",
                    manifest.node,
                    made_at(manifest),
                    show::number(lsn.0)
                ),
            ),
            ("size", show::bytes(manifest.bytes())),
        ])
    })?;
    let start = format!("start it: continuumd --data-dir {}", shell(target));
    session.output.say(&start);
    Ok(())
}

/// Checks all that a restore checks before it writes.
fn rehearse(session: &Session, source: &std::path::Path, to: &To) -> Result<(), Failure> {
    let resumes = to.data_dir.join(MARKER).exists();
    let held = fs::read_dir(&to.data_dir).into_iter().flatten().flatten();
    let mut held = held.filter(|entry| !IGNORED.iter().any(|ignored| entry.file_name() == *ignored));
    if let (false, Some(entry)) = (resumes, held.next()) {
        let (shown, name) = (to.data_dir.display(), entry.file_name());
        let what = format!("{shown} is not empty, {} is in it", name.to_string_lossy());
        return Err(
            Failure::new(Code::CannotCreate, what).next("restore into a directory that is empty or not there yet")
        );
    }
    let bar = session.output.bar("checking");
    let mut progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let manifest = backup::verify(source, &mut progress);
    bar.finish_and_clear();
    let manifest = manifest.map_err(|error| offline::failure(&error))?;
    let node = to.node_id.as_ref().unwrap_or(&manifest.node);
    let json = json!({
        "dry_run": true,
        "data_directory": to.data_dir,
        "node": node,
        "lsn": manifest.lsn.0,
        "bytes": manifest.bytes(),
        "from": { "node": manifest.node, "cluster": backup::hex(&manifest.cluster), "made_at": made_at(&manifest) },
        "rejoined": to.rejoin,
        "resumed": resumes,
    });
    session.output.data(&json, || {
        let (size, shown) = (show::bytes(manifest.bytes()), to.data_dir.display());
        format!("the backup is sound; would restore {size} into {shown} as {node}; nothing was changed\n")
    })
}

/// When a backup was made, for people and programs.
pub(super) fn made_at(manifest: &Manifest) -> String {
    let microseconds = i64::try_from(manifest.made_at.0).unwrap_or(i64::MAX);
    let at = jiff::Timestamp::from_microsecond(microseconds).and_then(|at| at.round(jiff::Unit::Millisecond));
    at.map_or_else(|_| "unknown".to_owned(), |at| at.to_string())
}

/// A path as a shell takes it.
fn shell(path: &std::path::Path) -> String {
    let text = path.display().to_string();
    let plain = |character: char| character.is_ascii_alphanumeric() || "/._-+:@".contains(character);
    if text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}
