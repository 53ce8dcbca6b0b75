//! What is being streamed: it stays meanwhile, and its sums become known on the way.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use engine::backup::{Manifest, Outline};
use parking_lot::Mutex;

use super::Snapshots;

/// What there is to stream.
pub(super) struct Content {
    outline: Outline,
    /// Of each file, once it is known.
    sums: Mutex<Vec<Option<String>>>,
}

impl Content {
    pub(super) fn unsummed(outline: Outline) -> Content {
        Content {
            sums: Mutex::new(vec![None; outline.files.len()]),
            outline,
        }
    }

    pub(super) fn summed(manifest: &Manifest) -> Content {
        let sums = manifest.files.iter().map(|file| Some(file.sha256.clone()));
        Content {
            sums: Mutex::new(sums.collect()),
            outline: manifest.outline(),
        }
    }
}

/// A snapshot or cut that stays while it is read.
pub struct Lease {
    path: PathBuf,
    content: Arc<Content>,
    place: Place,
}

impl Lease {
    pub(super) fn new(path: PathBuf, content: Arc<Content>, place: Place) -> Lease {
        Lease { path, content, place }
    }

    /// Names it for [`Snapshots::resume`].
    #[must_use]
    pub fn id(&self) -> &str {
        &self.place.id
    }

    /// Where its files lie.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What files it has.
    #[must_use]
    pub fn outline(&self) -> &Outline {
        &self.content.outline
    }

    /// Whether the file at `index` was summed.
    #[must_use]
    pub fn is_summed(&self, index: usize) -> bool {
        self.content.sums.lock().get(index).is_some_and(Option::is_some)
    }

    /// Keeps the SHA-256 of the file at `index`, in small hexadecimal digits.
    pub fn keep_sum(&self, index: usize, sha256: String) {
        if let Some(sum) = self.content.sums.lock().get_mut(index) {
            *sum = Some(sha256);
        }
    }

    /// What it is made of, once every file was summed.
    #[must_use]
    pub fn manifest(&self) -> Option<Manifest> {
        let sums: Option<Vec<String>> = self.content.sums.lock().iter().cloned().collect();
        Some(self.content.outline.with_sums(sums?))
    }
}

/// One of the [`BACKUPS_MAX`](super::BACKUPS_MAX) that are streamed at once; dropped, it is free.
pub(super) struct Place {
    id: String,
    snapshots: Snapshots,
}

impl Place {
    pub(super) fn new(id: &str, snapshots: &Snapshots) -> Place {
        Place {
            id: id.to_owned(),
            snapshots: snapshots.clone(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.snapshots.release(&self.id);
    }
}
