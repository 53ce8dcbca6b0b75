//! Snapshots by name, and `Admin/Backup`: a snapshot, or a cut made for it, sent file by file.
//!
//! ```text
//!  Lease ─► outline ─► each file, in pieces of 256 KiB: read, no faster than asked ─► summed ─► Outlet ─► manifest with the sums
//!                      what the caller has is not sent again; it is read again when it was not summed before
//! ```
//!
//! Every byte is read once. What is sent is not checked here: the caller sums what it receives and compares, so that damage on
//! the way is found; of a snapshot, which was summed when it was made, damage on this node's disk since then as well.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    time::Duration,
};

use engine::backup::{FileLength, Manifest, hex};
use proto::v1::{
    self as wire, BackupChunk, BackupEnd, BackupRequest, BackupResponse, BackupStart, CreateSnapshotRequest,
    CreateSnapshotResponse, DeleteSnapshotRequest, DeleteSnapshotResponse, ListSnapshotsResponse,
    backup_response::Part,
};
use sha2::{Digest as _, Sha256};

use super::{
    super::{
        flow::{self, Flow, Outlet},
        status::Refused,
    },
    Service,
    describe::count,
    time_of,
};
use crate::{
    runtime::{
        tasks::{self, Stop},
        time::{self, Stopwatch},
    },
    snapshots::{Lease, Snapshot},
};

/// Bytes of one message: small enough that a limited stream is even, large enough that messages cost nothing.
const CHUNK_BYTES: usize = 256 * 1024;

impl Service {
    pub(super) fn create_snapshot_checked(
        &self,
        request: &CreateSnapshotRequest,
    ) -> Result<CreateSnapshotResponse, Refused> {
        let snapshot = self.operations().snapshots.create(&request.name)?;
        tracing::info!(name = snapshot.name, "a snapshot was made");
        let snapshot = Some(message(snapshot));
        Ok(CreateSnapshotResponse { snapshot })
    }

    pub(super) fn list_snapshots_checked(&self) -> Result<ListSnapshotsResponse, Refused> {
        let snapshots = self.operations().snapshots.list()?;
        Ok(ListSnapshotsResponse {
            snapshots: snapshots.into_iter().map(message).collect(),
        })
    }

    pub(super) fn delete_snapshot_checked(
        &self,
        request: &DeleteSnapshotRequest,
    ) -> Result<DeleteSnapshotResponse, Refused> {
        self.operations().snapshots.delete(&request.name)?;
        tracing::info!(name = request.name, "a snapshot was deleted");
        Ok(DeleteSnapshotResponse {})
    }

    /// Begins a backup, or goes on with one. The stream is open before a cut is made, which flushes the database.
    pub(super) fn backup_checked(&self, request: BackupRequest) -> Result<Flow<BackupResponse>, Refused> {
        let snapshots = self.operations().snapshots.clone();
        let lease = match (request.resume_id.as_str(), request.snapshot.as_str()) {
            ("", "") => None,
            ("", name) => Some(snapshots.lease(name)?),
            (id, _) => Some(snapshots.resume(id)?),
        };
        let settings = &self.shared.components.settings;
        let stop = self.shared.components.stop.clone();
        let (outlet, flow) = flow::open(settings.stall_max, stop.clone());
        let bytes_per_s = match (request.bytes_per_s_max, settings.backup_bytes_per_s) {
            (0, most) | (most, 0) => most,
            (asked, most) => asked.min(most),
        };
        let received = request
            .received
            .into_iter()
            .map(|file| (file.path, file.bytes))
            .collect();
        tasks::start_blocking(move || {
            let is_new = lease.is_none();
            let lease = match lease.map_or_else(|| snapshots.cut(), Ok) {
                Ok(lease) => lease,
                Err(error) => return outlet.fail(error.into()),
            };
            let id = lease.id().to_owned();
            let sender = Sender {
                outlet,
                stop,
                bytes_per_s,
                read_bytes: 0,
                since: Stopwatch::start(),
            };
            let heard = sender.send_all(lease, &received);
            if is_new && !heard {
                // Nobody knows of it, so nobody can come back for it.
                if let Err(error) = snapshots.delete(&id) {
                    tracing::warn!(%error, "what a backup was to be made of cannot be removed");
                }
            }
        });
        Ok(flow)
    }
}

fn message(snapshot: Snapshot) -> wire::Snapshot {
    let Snapshot { name, path, manifest } = snapshot;
    let path = path.display().to_string();
    match manifest {
        Ok(manifest) => wire::Snapshot {
            made_at: Some(time_of(manifest.made_at)),
            lsn: manifest.lsn.0,
            bytes: manifest.bytes(),
            files: count(manifest.files.len()),
            name,
            path,
            damage: String::new(),
        },
        Err(error) => wire::Snapshot {
            damage: error.to_string(),
            name,
            path,
            ..wire::Snapshot::default()
        },
    }
}

/// Why a backup stops being sent.
enum End {
    /// Nobody takes it any more.
    Gone,
    Failed(Refused),
}

impl From<flow::Gone> for End {
    fn from(_: flow::Gone) -> End {
        End::Gone
    }
}

/// Reads and sends one backup.
struct Sender {
    outlet: Outlet<BackupResponse>,
    stop: Stop,
    /// 0: as fast as it is taken.
    bytes_per_s: u64,
    read_bytes: u64,
    since: Stopwatch,
}

impl Sender {
    /// Whether the caller was told where to come back to.
    fn send_all(mut self, lease: Lease, received: &HashMap<String, u64>) -> bool {
        let mut heard = false;
        let sent = self.start(&lease).and_then(|()| {
            heard = true;
            for (index, file) in lease.outline().files.iter().enumerate() {
                let offset = received.get(&file.path).copied().unwrap_or(0);
                self.file(&lease, index, file, offset)?;
            }
            let end = end(&lease)?;
            // Before the end is told: whoever hears it may release what was leased. Not removed here, for that the last message
            // was sent does not say that it has come.
            drop(lease);
            Ok(self.outlet.send_blocking(end)?)
        });
        match sent {
            Ok(()) => self.outlet.finish(),
            Err(End::Gone) => {}
            Err(End::Failed(refused)) => self.outlet.fail(refused),
        }
        heard
    }

    fn start(&self, lease: &Lease) -> Result<(), End> {
        let start = BackupStart {
            id: lease.id().to_owned(),
            outline: lease.outline().to_json().into_bytes(),
        };
        Ok(self.outlet.send_blocking(part(Part::Start(start)))?)
    }

    /// Sends a file from byte `from` on, and sums it when nobody has.
    fn file(&mut self, lease: &Lease, index: usize, file: &FileLength, from: u64) -> Result<(), End> {
        let path = lease.path().join(&file.path);
        let failed = |error: &io::Error| unreadable(&path.display().to_string(), error);
        let mut sum = (!lease.is_summed(index)).then(Sha256::new);
        let mut offset = if sum.is_some() { 0 } else { from };
        let mut opened = File::open(&path).map_err(|error| failed(&error))?;
        opened.seek(SeekFrom::Start(offset)).map_err(|error| failed(&error))?;
        // A file that has grown is as damaged as one that has shrunk; `verify` names both.
        while offset < file.bytes {
            // Up to where the caller is, then what it lacks.
            let end = if offset < from {
                from.min(file.bytes)
            } else {
                file.bytes
            };
            let mut data = Vec::with_capacity(CHUNK_BYTES);
            let wanted = (end - offset).min(CHUNK_BYTES as u64);
            let read = (&mut opened).take(wanted).read_to_end(&mut data);
            if read.map_err(|error| failed(&error))? == 0 {
                return Err(failed(&io::Error::from(io::ErrorKind::UnexpectedEof)));
            }
            let (at, length) = (offset, data.len() as u64);
            offset += length;
            if let Some(sum) = &mut sum {
                sum.update(&data);
            }
            if at >= from {
                let chunk = BackupChunk {
                    file: count(index),
                    offset: at,
                    data: data.into(),
                };
                self.outlet.send_blocking(part(Part::Chunk(chunk)))?;
            }
            self.rest(length);
            // What is only summed is not noticed by the outlet.
            if self.outlet.is_gone() {
                return Err(End::Gone);
            }
            if self.stop.is_given() {
                return Err(End::Failed(Refused::Stopping));
            }
        }
        if let Some(sum) = sum {
            lease.keep_sum(index, hex(&sum.finalize()));
        }
        Ok(())
    }

    /// Waits until so much more may have been read.
    fn rest(&mut self, bytes: u64) {
        self.read_bytes += bytes;
        if self.bytes_per_s == 0 {
            return;
        }
        let due = Duration::from_secs_f64(self.read_bytes as f64 / self.bytes_per_s as f64);
        let early = due.saturating_sub(self.since.elapsed());
        if !early.is_zero() {
            let stop = self.stop.clone();
            tasks::wait(async {
                tokio::select! {
                    () = time::sleep(early) => {}
                    () = stop.given() => {}
                    () = self.outlet.gone() => {}
                }
            });
        }
    }
}

/// The last message: with what is to be compared.
fn end(lease: &Lease) -> Result<BackupResponse, End> {
    let manifest = lease.manifest().ok_or(End::Failed(Refused::Confused))?.to_json();
    Ok(part(Part::End(BackupEnd {
        manifest_sum: Manifest::sum_line(manifest.as_bytes()).into_bytes(),
        manifest: manifest.into_bytes(),
    })))
}

fn part(part: Part) -> BackupResponse {
    BackupResponse { part: Some(part) }
}

fn unreadable(name: &str, error: &io::Error) -> End {
    End::Failed(Refused::Unreadable(format!("{name}: {error}")))
}
