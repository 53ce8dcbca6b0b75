//! `backup`: a node's state in a directory of its own, here.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
use client::{
    Admin, Kind,
    wire::{BackupRequest, StatusResponse, backup_response::Part},
};
use engine::backup::{self, Error, Fault, MANIFEST, MANIFEST_SUM, Manifest, Outline, PARTIAL};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::{Verb, restore::made_at};
use crate::{
    command,
    error::{Code, Failure},
    offline,
    receive::{Ended, Receiver},
    session::Session,
    show,
};

/// Times in a row that a stream may break without having brought anything.
const FRUITLESS_MAX: u32 = 16;
/// Times that a backup is begun anew, because the node had lost what it began with.
const BEGUN_MAX: u32 = 8;
/// The first wait after a break; each further one is twice as long.
const WAIT_MIN: Duration = Duration::from_millis(50);
/// The longest of these waits.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Make, list and check backups
///
/// A backup is a directory with the node's database at one moment, and the SHA-256 of every file in it. It holds every write
/// acknowledged before it began; the node goes on serving meanwhile. `restore` makes a data directory of it.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  continuum-admin backup create backups/
  continuum-admin backup list backups/
  continuum-admin backup verify backups/2026-11-23T18-07-04Z-replica-1
  continuum-admin restore backups/2026-11-23T18-07-04Z-replica-1 --data-dir ./continuum-data")]
pub(super) struct Backup {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Copy the node's state to here, as DIR/TIME-NODE
    ///
    /// A connection that breaks is gone on with. A backup that was interrupted lies in DIR as TIME-NODE.partial; the next
    /// `backup create DIR` goes on with it while the node still has the cut (an hour, and not over its restart), and else
    /// begins anew.
    #[command(after_help = "\
Examples:
  continuum-admin backup create backups/
  continuum-admin backup create backups/ --snapshot before-upgrade
  continuum-admin backup create backups/ --bytes-per-s 10MiB")]
    Create {
        /// The folder of backups; made when absent
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// A snapshot to copy, instead of the present state
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        snapshot: String,
        /// The most to receive in a second: 10MiB, 500KB
        #[arg(long, value_name = "BYTES", value_parser = command::bytes, default_value = "0", hide_default_value = true)]
        bytes_per_s: u64,
    },
    /// List the backups in a folder; their files are not read
    #[command(
        after_help = "Examples:\n  continuum-admin backup list backups/\n  continuum-admin backup list backups/ -o json"
    )]
    List {
        /// The folder of backups
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Read every byte of a backup and compare it with what was written
    #[command(after_help = "\
Examples:
  continuum-admin backup verify backups/2026-11-23T18-07-04Z-replica-1

Exit codes: 65 when something in it is not what was written.")]
    Verify {
        /// The backup
        #[arg(value_name = "BACKUP")]
        path: PathBuf,
    },
}

impl Verb for Backup {
    const NAME: &'static str = "backup";

    async fn run(self, session: Session) -> Result<(), Failure> {
        match self.what {
            What::Create {
                folder,
                snapshot,
                bytes_per_s,
            } => {
                let create = Create {
                    status: StatusResponse::default(),
                    admin: session.client()?.admin(),
                    bar: session.output.bar("backing up"),
                    session,
                    folder,
                    snapshot,
                    bytes_per_s,
                };
                create.run().await
            }
            What::List { folder } => list(&session, &folder),
            What::Verify { path } => verify(&session, &path),
        }
    }
}

/// A backup that is being made.
struct Create {
    session: Session,
    admin: Admin,
    /// Of the node, as it was when this began.
    status: StatusResponse,
    folder: PathBuf,
    snapshot: String,
    bytes_per_s: u64,
    bar: ProgressBar,
}

/// What became of one stream.
enum Stream {
    Whole,
    /// It broke; whether it had brought anything.
    Broke {
        error: client::Error,
        fruitful: bool,
    },
    /// Everything came, and some of it has to come again.
    Incomplete,
}

impl Create {
    async fn run(mut self) -> Result<(), Failure> {
        self.choose().await?;
        let mut receiver = Receiver::take_up(&self.folder, &self.snapshot, |outline| is_of(outline, &self.status))?;
        let mut resumed = receiver.is_some();
        if let Some(receiver) = &receiver {
            let (shown, had) = (receiver.partial().display(), show::bytes(receiver.received_bytes()));
            self.session
                .output
                .say(&format!("going on with {shown}, which has {had}"));
        }
        let (mut fruitless, mut begun) = (0_u32, 0_u32);
        loop {
            let outcome = self.stream(&mut receiver).await;
            let stream = outcome.inspect_err(|_| self.bar.finish_and_clear())?;
            let error = match stream {
                Stream::Whole => break,
                Stream::Incomplete => continue,
                Stream::Broke { error, fruitful } => {
                    fruitless = if fruitful { 0 } else { fruitless + 1 };
                    error
                }
            };
            match (error.kind(), receiver.take()) {
                // The cut is gone: an hour has passed, or the node was started again.
                (Kind::NotFound, Some(lost)) if begun < BEGUN_MAX => {
                    self.session
                        .output
                        .say("the node no longer has what this backup began with: beginning anew");
                    lost.discard()?;
                    begun += 1;
                    resumed = false;
                }
                (Kind::Broken | Kind::Busy | Kind::Unreachable | Kind::OutOfTime, kept)
                    if fruitless <= FRUITLESS_MAX =>
                {
                    receiver = kept;
                    let wait = WAIT_MIN.saturating_mul(2_u32.saturating_pow(fruitless)).min(WAIT_MAX);
                    tokio::time::sleep(wait.max(error.retry_after().unwrap_or_default())).await;
                }
                (_, kept) => {
                    self.bar.finish_and_clear();
                    let failure = Failure::from(error);
                    return Err(match kept {
                        Some(_) => failure.next("run the same command again: it goes on where this one was"),
                        None => failure,
                    });
                }
            }
        }
        self.bar.finish_and_clear();
        let receiver = receiver.expect("a stream that ended has begun");
        let id = receiver.id().to_owned();
        let (path, manifest) = receiver.finish()?;
        if self.snapshot.is_empty() {
            // The node need not keep it any longer. Not heard, it does so for an hour.
            let _unheard = self.admin.delete_snapshot(&id).await;
        }
        self.tell(&path, &manifest, resumed)
    }

    /// Takes the first node that answers, and no other one from then on: each has its own state.
    async fn choose(&mut self) -> Result<(), Failure> {
        let mut last = None;
        for client in self.session.clients()? {
            match client.admin().status().await {
                Ok(status) => {
                    self.admin = client.admin();
                    self.status = status;
                    return Ok(());
                }
                Err(error) if *error.kind() == Kind::Unreachable => last = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        Err(last.map_or_else(|| Failure::usage("no node is named"), Failure::from))
    }

    /// Receives from one stream as much as it brings.
    async fn stream(&self, receiver: &mut Option<Receiver>) -> Result<Stream, Failure> {
        let request = BackupRequest {
            snapshot: if receiver.is_some() {
                String::new()
            } else {
                self.snapshot.clone()
            },
            resume_id: receiver
                .as_ref()
                .map_or(String::new(), |receiver| receiver.id().to_owned()),
            received: receiver.as_ref().map_or(Vec::new(), Receiver::received),
            bytes_per_s_max: self.bytes_per_s,
        };
        let mut fruitful = false;
        let broke = |error, fruitful| Ok(Stream::Broke { error, fruitful });
        let mut messages = match self.admin.backup(request).await {
            Ok(messages) => messages,
            Err(error) => return broke(error, fruitful),
        };
        loop {
            let part = match messages.next().await {
                Ok(message) => message.and_then(|message| message.part),
                Err(error) => return broke(error, fruitful),
            };
            match (part, receiver.as_mut()) {
                (Some(Part::Start(start)), None) => {
                    let begun = Receiver::begin(&self.folder, &self.snapshot, start)?;
                    self.bar.set_length(begun.outline().bytes());
                    *receiver = Some(begun);
                }
                (Some(Part::Start(start)), Some(receiver)) => {
                    receiver.go_on(&start)?;
                    self.bar.set_length(receiver.outline().bytes());
                }
                (Some(Part::Chunk(chunk)), Some(receiver)) => {
                    receiver.chunk(chunk)?;
                    fruitful = true;
                    self.bar.set_position(receiver.received_bytes());
                }
                (Some(Part::End(end)), Some(receiver)) => {
                    return Ok(match receiver.end(end)? {
                        Ended::Whole => Stream::Whole,
                        Ended::Incomplete => Stream::Incomplete,
                    });
                }
                (None, _) | (Some(_), None) => {
                    let what = "the node's backup makes no sense: it ended too early, or did not begin";
                    return Err(Failure::new(Code::Software, what).next("run the same command again"));
                }
            }
        }
    }

    fn tell(&self, path: &Path, manifest: &Manifest, resumed: bool) -> Result<(), Failure> {
        let mut json = described(manifest);
        json["path"] = json!(path);
        json["resumed"] = json!(resumed);
        self.session.output.data(&json, || {
            self.session.output.facts(&[
                ("backup", path.display().to_string()),
                ("node", manifest.node.clone()),
                (
                    "holds",
                    format!(
                        "everything up to {}, at {}",
                        show::number(manifest.lsn.0),
                        made_at(manifest)
                    ),
                ),
                (
                    "size",
                    format!("{} in {} files", show::bytes(manifest.bytes()), manifest.files.len()),
                ),
            ])
        })
    }
}

/// Whether a backup is of the node that answers, in its present life.
fn is_of(outline: &Outline, status: &StatusResponse) -> bool {
    outline.node == status.node
        && outline.cluster.as_slice() == status.cluster
        && outline.incarnation == status.incarnation
}

fn described(manifest: &Manifest) -> Value {
    json!({
        "node": manifest.node,
        "cluster": backup::hex(&manifest.cluster),
        "incarnation": format!("{:016x}", manifest.incarnation),
        "made_at": made_at(manifest),
        "lsn": manifest.lsn.0,
        "bytes": manifest.bytes(),
        "files": manifest.files.len(),
    })
}

/// A backup in a folder.
enum Found {
    Made(Manifest),
    Damaged(String),
    Interrupted,
}

fn list(session: &Session, folder: &Path) -> Result<(), Failure> {
    let entries = fs::read_dir(folder).map_err(|error| Failure::no_input(folder, &error))?;
    let mut found = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(|error| Failure::no_input(folder, &error))?;
        let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
        if !path.is_dir() {
            continue;
        }
        if name.ends_with(PARTIAL) {
            found.insert(name, Found::Interrupted);
        } else if path.join(MANIFEST).exists() || path.join(MANIFEST_SUM).exists() {
            found.insert(
                name,
                Manifest::read(&path).map_or_else(|error| Found::Damaged(damage(&error)), Found::Made),
            );
        }
    }
    if found.is_empty() && !session.output.is_json() {
        let shown = folder.display();
        session.output.say(&format!(
            "there are no backups in {shown}: continuum-admin backup create {shown}"
        ));
    }
    let json = |(name, found): (&String, &Found)| {
        let mut json = match found {
            Found::Made(manifest) => described(manifest),
            Found::Damaged(_) | Found::Interrupted => json!({}),
        };
        json["name"] = json!(name);
        json["state"] = json!(match found {
            Found::Made(_) => "whole",
            Found::Damaged(_) => "damaged",
            Found::Interrupted => "interrupted",
        });
        if let Found::Damaged(what) = found {
            json["damage"] = json!(what);
        }
        json
    };
    let all: Vec<Value> = found.iter().map(json).collect();
    session.output.data(&json!({ "folder": folder, "backups": all }), || {
        let rows = found.iter().map(|(name, found)| match found {
            Found::Made(manifest) => vec![
                name.clone(),
                manifest.node.clone(),
                made_at(manifest),
                show::number(manifest.lsn.0),
                show::bytes(manifest.bytes()),
                "whole".to_owned(),
            ],
            Found::Damaged(what) => row_of(name, what),
            Found::Interrupted => row_of(name, "interrupted: `backup create` goes on with it, or begins anew"),
        });
        let headings = ["BACKUP", "NODE", "MADE", "LSN", "SIZE", ""];
        session.output.table(&headings, &[3, 4], rows.collect())
    })
}

/// What is wrong with a backup, as a list has room for it.
fn damage(error: &Error) -> String {
    match error {
        Error::NotABackup { reason, .. } => reason.clone(),
        Error::Damaged { faults, .. } => faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; "),
        error => error.to_string(),
    }
}

fn row_of(name: &str, state: &str) -> Vec<String> {
    let mut row = vec![name.to_owned()];
    row.extend([""; 4].map(str::to_owned));
    row.push(state.to_owned());
    row
}

fn verify(session: &Session, path: &Path) -> Result<(), Failure> {
    let bar = session.output.bar("reading");
    let mut progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let verified = backup::verify(path, &mut progress);
    bar.finish_and_clear();
    let output = &session.output;
    match verified {
        Ok(manifest) => {
            let mut json = described(&manifest);
            json["path"] = json!(path);
            json["sound"] = json!(true);
            json["damage"] = json!([]);
            output.data(&json, || {
                let size = format!("{} in {} files", show::bytes(manifest.bytes()), manifest.files.len());
                let sound = output.paint.good("every byte is as it was written");
                output.facts(&[("verdict", sound), ("node", manifest.node.clone()), ("size", size)])
            })
        }
        Err(Error::Damaged { faults, .. }) => {
            let row = |fault: &Fault| vec![fault.file.clone(), fault.to_string()];
            let damage = |fault: &Fault| json!({ "file": fault.file, "what": fault.to_string() });
            let json = json!({
                "path": path,
                "sound": false,
                "damage": faults.iter().map(damage).collect::<Vec<_>>(),
            });
            output.data(&json, || {
                output.table(&["FILE", "DAMAGE"], &[], faults.iter().map(row).collect())
            })?;
            let what = format!("{} files of {} are not what was written", faults.len(), path.display());
            Err(Failure::new(Code::Data, what).next("take another backup; make a new one if the node still stands"))
        }
        Err(error) => Err(offline::failure(&error)),
    }
}
