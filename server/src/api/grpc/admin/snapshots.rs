//! Snapshots by name, and `Admin/Backup`: a snapshot, or a cut made for it, sent file by file.
//!
//! ```text
//!  Lease ─► manifest ─► each file from where the caller has it, in pieces of 256 KiB, no faster than asked ─► Outlet ─► end
//! ```
//!
//! What is sent is not checked here: the caller has the manifest and sums what it receives, so that damage on this node's disk
//! is found as well as damage on the way.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    time::Duration,
};

use engine::backup::{MANIFEST, MANIFEST_SUM};
use proto::v1::{
    self as wire, BackupChunk, BackupEnd, BackupRequest, BackupResponse, BackupStart, CreateSnapshotRequest,
    CreateSnapshotResponse, DeleteSnapshotRequest, DeleteSnapshotResponse, ListSnapshotsResponse,
    backup_response::Part,
};

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

    /// Begins a backup, or goes on with one. The stream is open before a cut is made, which reads the whole database.
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
                sent_bytes: 0,
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

/// Sends one backup.
struct Sender {
    outlet: Outlet<BackupResponse>,
    stop: Stop,
    /// 0: as fast as it is taken.
    bytes_per_s: u64,
    sent_bytes: u64,
    since: Stopwatch,
}

impl Sender {
    /// Whether the caller was told where to come back to.
    fn send_all(mut self, lease: Lease, received: &HashMap<String, u64>) -> bool {
        let mut heard = false;
        let sent = self.start(&lease).and_then(|()| {
            heard = true;
            for (index, file) in lease.manifest().files.iter().enumerate() {
                let offset = received.get(&file.path).copied().unwrap_or(0);
                let path = lease.path().join(&file.path);
                self.file(count(index), &path, offset, file.bytes)?;
            }
            // Before the end is told: whoever hears it may release what was leased. Not removed here, for that the last message
            // was sent does not say that it has come.
            drop(lease);
            Ok(self.outlet.send_blocking(part(Part::End(BackupEnd {})))?)
        });
        match sent {
            Ok(()) => self.outlet.finish(),
            Err(End::Gone) => {}
            Err(End::Failed(refused)) => self.outlet.fail(refused),
        }
        heard
    }

    fn start(&self, lease: &Lease) -> Result<(), End> {
        let read = |name: &str| std::fs::read(lease.path().join(name)).map_err(|error| unreadable(name, &error));
        let start = BackupStart {
            id: lease.id().to_owned(),
            manifest: read(MANIFEST)?,
            manifest_sum: read(MANIFEST_SUM)?,
        };
        Ok(self.outlet.send_blocking(part(Part::Start(start)))?)
    }

    fn file(&mut self, index: u32, path: &std::path::Path, from: u64, bytes: u64) -> Result<(), End> {
        let name = path.display().to_string();
        let mut file = File::open(path).map_err(|error| unreadable(&name, &error))?;
        file.seek(SeekFrom::Start(from))
            .map_err(|error| unreadable(&name, &error))?;
        let mut offset = from;
        // A file that has grown is as damaged as one that has shrunk; the caller sees both.
        while offset < bytes {
            let mut data = Vec::with_capacity(CHUNK_BYTES);
            let wanted = (bytes - offset).min(CHUNK_BYTES as u64);
            let read = (&mut file).take(wanted).read_to_end(&mut data);
            if read.map_err(|error| unreadable(&name, &error))? == 0 {
                return Err(unreadable(&name, &io::Error::from(io::ErrorKind::UnexpectedEof)));
            }
            let length = data.len() as u64;
            let chunk = BackupChunk {
                file: index,
                offset,
                data,
            };
            self.outlet.send_blocking(part(Part::Chunk(chunk)))?;
            offset += length;
            self.rest(length);
        }
        Ok(())
    }

    /// Waits until so much more may have been sent.
    fn rest(&mut self, bytes: u64) {
        self.sent_bytes += bytes;
        if self.bytes_per_s == 0 {
            return;
        }
        let due = Duration::from_secs_f64(self.sent_bytes as f64 / self.bytes_per_s as f64);
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

fn part(part: Part) -> BackupResponse {
    BackupResponse { part: Some(part) }
}

fn unreadable(name: &str, error: &io::Error) -> End {
    End::Failed(Refused::Unreadable(format!("{name}: {error}")))
}
