//! A snapshot: a position, whose bytes are made when somebody needs them.
//!
//! ```text
//!  build     what is applied now ─► Snapshot row, synced                           the log may be purged up to there
//!  send      Image::Present ─► engine::image: one moment into a file, at least as far as the snapshot      (the transport)
//!  receive   Image::File ─► engine::image::install: Installing row ─► families replaced ─► Applied row
//! ```
//!
//! The state machine lies in the database, so a snapshot for the log's sake costs one row, however large the ledger is.

use std::{io, path::PathBuf};

use engine::{
    Batch, Durability, Engine, Mutation,
    image::{self, Applied},
    keyspace::raft_state::{self, Snapshot},
};
use openraft::{RaftSnapshotBuilder, alias::SnapshotOf};

use super::types::{Types, fatal, meta_of};
use crate::runtime::tasks;

/// Where the bytes of a snapshot are.
#[derive(Clone)]
pub(super) enum Image {
    /// In this database, which may have come further: whoever sends it says how far, by what the exported file says.
    Present(Engine),
    /// In a file that came from another member, in the directory of incoming ones.
    File(PathBuf),
}

/// Takes down how far the log may be purged.
pub(super) struct Builder {
    pub(super) engine: Engine,
    pub(super) applied: Applied,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Image;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Types, Image>, io::Error> {
        let row = raft_state::put(&Snapshot(self.applied.clone()));
        let frame = Batch::one(Mutation::Raft(vec![row]));
        self.engine.commit(frame, Durability::Synced).await.map_err(fatal)?;
        Ok(SnapshotOf::<Types, Image> {
            meta: meta_of(&self.applied)?,
            snapshot: Image::Present(self.engine.clone()),
        })
    }
}

/// The last snapshot built or installed.
pub(super) fn current(engine: &Engine) -> io::Result<Option<SnapshotOf<Types, Image>>> {
    let row: Option<Snapshot> = raft_state::read(engine.view()).map_err(fatal)?;
    row.map(|Snapshot(applied)| {
        Ok(SnapshotOf::<Types, Image> {
            meta: meta_of(&applied)?,
            snapshot: Image::Present(engine.clone()),
        })
    })
    .transpose()
}

/// Puts `image`, which came as far as `expected`, in the place of what raft owns in `engine`.
pub(super) async fn install(
    engine: Engine,
    image: Image,
    directory: Option<PathBuf>,
    expected: Applied,
) -> io::Result<Applied> {
    let work = move || {
        let path = match image {
            Image::File(path) => path,
            Image::Present(other) => {
                let directory = directory.ok_or_else(|| fatal("there is no directory for incoming snapshots"))?;
                std::fs::create_dir_all(&directory)?;
                let path = directory.join("image");
                other.export_image(&path).map_err(fatal)?;
                path
            }
        };
        let found = image::check(&path).map_err(fatal)?;
        if (found.last, &found.members) != (expected.last, &expected.members) {
            return Err(fatal("the snapshot's bytes are not those that its description is of"));
        }
        let applied = image::install(&engine, &path).map_err(fatal)?;
        // It is in the database, synced.
        std::fs::remove_file(&path)?;
        Ok(applied)
    };
    tasks::blocking(work)
        .await
        .unwrap_or_else(|| Err(fatal("installing a snapshot panicked")))
}
