//! The file in which a node that forms a cluster keeps what it must never forget: its number, its secret, and whom it is bound to.
//!
//! ```text
//!  continuum forming 1
//!  number 00000000000000a1
//!  key 0101…                                     only this user may read the file
//!  member 00000000000000a1 10.0.0.1:7000 db1     once it is bound: all of them
//! ```

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{
    Error,
    agreement::{Seat, Set},
};

/// In the data directory.
const NAME: &str = "FORMING";
/// The first line; another layout would be another line.
const HEAD: &str = "continuum forming 1";

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pledge {
    /// The number under which raft will know the node.
    pub(super) number: u64,
    /// The secret for context tokens that it would bring.
    pub(super) key: [u8; 32],
    /// Whom it forms a cluster with, or with nobody.
    pub(super) bound: Option<Set>,
}

impl Pledge {
    /// Of a node that has none yet.
    pub(super) fn drawn(entropy: fn() -> u64) -> Pledge {
        let mut key = [0; 32];
        for chunk in key.chunks_mut(8) {
            chunk.copy_from_slice(&entropy().to_le_bytes());
        }
        Pledge {
            number: entropy().max(1),
            key,
            bound: None,
        }
    }

    /// What is kept in `directory`, if anything is.
    pub(super) fn read(directory: &Path) -> Result<Option<Pledge>, Error> {
        let path = directory.join(NAME);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Marker { path, source }),
        };
        let unreadable = || {
            let source = io::Error::new(
                io::ErrorKind::InvalidData,
                "it holds something else than this build writes there",
            );
            Error::Marker { path, source }
        };
        parse(&text).map(Some).ok_or_else(unreadable)
    }

    /// Keeps it in `directory`, durably.
    pub(super) fn keep(&self, directory: &Path) -> Result<(), Error> {
        let (path, aside) = (directory.join(NAME), directory.join("FORMING.new"));
        let kept = || {
            let mut file = File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&aside)?;
            file.write_all(self.text().as_bytes())?;
            file.sync_all()?;
            fs::rename(&aside, &path)?;
            File::open(directory)?.sync_all()
        };
        let path: PathBuf = path.clone();
        kept().map_err(|source| Error::Marker { path, source })
    }

    fn text(&self) -> String {
        let head = format!(
            "{HEAD}\nnumber {:016x}\nkey {}\n",
            self.number,
            engine::backup::hex(&self.key)
        );
        let seats = self.bound.iter().flat_map(Set::seats);
        seats.fold(head, |text, Seat { number, name, address }| {
            format!("{text}member {number:016x} {address} {name}\n")
        })
    }
}

fn parse(text: &str) -> Option<Pledge> {
    let mut lines = text.strip_suffix('\n')?.split('\n');
    (lines.next()? == HEAD).then_some(())?;
    let number = u64::from_str_radix(lines.next()?.strip_prefix("number ")?, 16).ok()?;
    let key = key(lines.next()?.strip_prefix("key ")?)?;
    let seat = |line: &str| {
        let (number, rest) = line.strip_prefix("member ")?.split_once(' ')?;
        let (address, name) = rest.split_once(' ')?;
        Some(Seat {
            number: u64::from_str_radix(number, 16).ok()?,
            name: name.to_owned(),
            address: address.to_owned(),
        })
    };
    let seats: Option<Vec<Seat>> = lines.map(seat).collect();
    let bound = Some(seats?).filter(|seats| !seats.is_empty()).map(Set::of);
    Some(Pledge { number, key, bound })
}

fn key(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let mut key = [0; 32];
    for (index, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_kept_is_read_again_and_by_nobody_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert_eq!(Pledge::read(path).unwrap(), None);
        let mut pledge = Pledge::drawn(|| 0xa1);
        pledge.keep(path).unwrap();
        assert_eq!(Pledge::read(path).unwrap(), Some(pledge.clone()));
        let seat = |number, name: &str| Seat {
            number,
            name: name.to_owned(),
            address: format!("[::{number}]:7000"),
        };
        pledge.bound = Some(Set::of(vec![seat(0xb2, "name with spaces"), seat(0xa1, "db1")]));
        pledge.keep(path).unwrap();
        assert_eq!(Pledge::read(path).unwrap(), Some(pledge));
        let mode = fs::metadata(path.join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // For ever: a newer build goes on where an older one stopped.
        let key = "a100000000000000".repeat(4);
        let text = format!(
            "continuum forming 1\nnumber 00000000000000a1\nkey {key}\nmember 00000000000000a1 [::161]:7000 db1\nmember 00000000000000b2 [::178]:7000 name with spaces\n"
        );
        assert_eq!(fs::read_to_string(path.join(NAME)).unwrap(), text);
        for torn in [
            &text[..text.len() - 1],
            &text[..40],
            "",
            &text.replace("forming 1", "forming 2"),
        ] {
            fs::write(path.join(NAME), torn).unwrap();
            assert!(matches!(Pledge::read(path), Err(Error::Marker { .. })), "{torn}");
        }
    }
}
