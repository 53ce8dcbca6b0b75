//! Is a backup what was written?

use std::{collections::BTreeSet, fs, io, path::Path};

use super::{DATABASE, Error, Fault, FileSum, MANIFEST, MANIFEST_SUM, Manifest, Wrong, error::failed, sums};

/// Reads every byte of a backup. `progress` is told bytes read and bytes to read.
///
/// # Errors
/// [`Error::Damaged`] with everything that is wrong, [`Error::NotABackup`], [`Error::Io`]. Nothing is changed.
pub fn verify(directory: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Manifest, Error> {
    let manifest = manifest(directory)?;
    let mut faults = extra(directory, &manifest)?;
    let (mut done_bytes, total_bytes) = (0, manifest.bytes());
    for file in &manifest.files {
        let mut read = |bytes| {
            done_bytes += bytes;
            progress(done_bytes.min(total_bytes), total_bytes);
        };
        let wrong = check(&directory.join(&file.path), file, &mut read);
        faults.extend(wrong.map(|wrong| fault(&file.path, wrong)));
    }
    if faults.is_empty() {
        Ok(manifest)
    } else {
        Err(damaged(directory, faults))
    }
}

/// The manifest, once it fits its sum.
pub(super) fn manifest(directory: &Path) -> Result<Manifest, Error> {
    let not_one = |reason: String| Error::NotABackup {
        path: directory.to_owned(),
        reason,
    };
    let path = directory.join(MANIFEST);
    let json = match fs::read(&path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Err(not_one(format!("there is no {MANIFEST} in it")));
        }
        outcome => outcome.map_err(failed("read", &path))?,
    };
    let path = directory.join(MANIFEST_SUM);
    let line = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(damaged(directory, vec![fault(MANIFEST_SUM, Wrong::Missing)]));
        }
        outcome => outcome.map_err(failed("read", &path))?,
    };
    if line != Manifest::sum_line(&json).as_bytes() {
        let told = format!("it does not fit {MANIFEST}, one of the two was changed");
        return Err(damaged(directory, vec![fault(MANIFEST_SUM, Wrong::Unreadable(told))]));
    }
    Manifest::from_json(&json).map_err(not_one)
}

/// What lies in the backup and does not belong there.
fn extra(directory: &Path, manifest: &Manifest) -> Result<Vec<Fault>, Error> {
    let mut found = names(directory, "")?;
    found.extend(names(&directory.join(DATABASE), "db/")?);
    let known: BTreeSet<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    let is_known = |name: &str| matches!(name, MANIFEST | MANIFEST_SUM | DATABASE) || known.contains(name);
    let extra = found.into_iter().filter(|name| !is_known(name));
    Ok(extra.map(|name| fault(&name, Wrong::Extra)).collect())
}

fn names(directory: &Path, prefix: &str) -> Result<BTreeSet<String>, Error> {
    let entries = match fs::read_dir(directory) {
        // What should be in it is reported as missing.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        outcome => outcome.map_err(failed("read", directory))?,
    };
    let name = |entry: io::Result<fs::DirEntry>| Ok(format!("{prefix}{}", entry?.file_name().to_string_lossy()));
    entries
        .map(name)
        .collect::<io::Result<_>>()
        .map_err(failed("read", directory))
}

/// What is wrong with one file.
pub(super) fn check(path: &Path, file: &FileSum, read: &mut dyn FnMut(u64)) -> Option<Wrong> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(Wrong::Missing),
        Err(error) => return Some(Wrong::Unreadable(error.to_string())),
        Ok(found) => found,
    };
    if !found.is_file() {
        return Some(Wrong::Unreadable("it is not a plain file".to_owned()));
    }
    if found.len() != file.bytes {
        return Some(Wrong::Length {
            expected_bytes: file.bytes,
            found_bytes: found.len(),
        });
    }
    match sums::of_file(path, read) {
        Err(error) => Some(Wrong::Unreadable(error.to_string())),
        Ok((_, sum)) => (sum != file.sha256).then_some(Wrong::Sum),
    }
}

pub(super) fn fault(file: &str, wrong: Wrong) -> Fault {
    Fault {
        file: file.to_owned(),
        wrong,
    }
}

pub(super) fn damaged(directory: &Path, faults: Vec<Fault>) -> Error {
    Error::Damaged {
        path: directory.to_owned(),
        faults,
    }
}
