//! An authority of one's own, and the certificates that it signs: for trying out and for small clusters.
//!
//! ```text
//!  FOLDER/ca.pem, ca-key.pem        the authority; made when there is none
//!  FOLDER/NAME.pem, NAME-key.pem    a node (server and client) or a caller (client)
//! ```

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use engine::clock::Timestamp;
use jiff::{Span, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// Years until the authority's own certificate ends.
const AUTHORITY_YEARS: i32 = 10;
/// Days until the certificate of a node or caller ends.
const LEAF_DAYS: i32 = 365;
/// A clock that is behind must not find a certificate too young.
const BACK_DAYS: i32 = 1;
/// By these names every node may be called on its own machine.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// A certificate to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Of the node or caller: a label of DNS.
    pub name: String,
    /// By what else it is called.
    pub hosts: Vec<String>,
    /// Whether it is a node.
    pub serves: bool,
}

/// A certificate that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The certificate's file.
    pub cert: PathBuf,
    /// Its key's file.
    pub key: PathBuf,
    /// What it is for.
    pub names: Vec<String>,
    /// When it ends, `2027-01-31T00:00:00Z`.
    pub expires_at: String,
}

/// Why a certificate is not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The authority's key is none.
    #[error("{} holds no private key: {reason}", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// What the library said.
        reason: String,
    },
    /// Half of an authority.
    #[error("{} is there without {}; nothing was made", there.display(), missing.display())]
    Half {
        /// What is there.
        there: PathBuf,
        /// What is not.
        missing: PathBuf,
    },
    /// The file system.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The time leads nowhere.
    #[error("this machine's clock cannot be right: {0}")]
    Clock(String),
    /// The library.
    #[error("cannot make a certificate: {0}")]
    Library(String),
}

/// Who signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
    now: Timestamp,
    /// Whether it was made just now.
    pub new: bool,
}

/// Where the certificate of `name` lies.
#[must_use]
pub fn cert_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.pem"))
}

/// Where the key of `name` lies.
#[must_use]
pub fn key_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}-key.pem"))
}

impl Authority {
    /// The authority in `folder`, which is there; made if there is none.
    ///
    /// # Errors
    /// [`Error`].
    pub fn in_folder(folder: &Path, now: Timestamp) -> Result<Authority, Error> {
        let (cert, key) = (cert_path(folder, "ca"), key_path(folder, "ca"));
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "Continuum development authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after, _) = validity(now, Span::new().years(AUTHORITY_YEARS))?;
        let (pair, new) = match (cert.exists(), key.exists()) {
            (true, true) => {
                let text = fs::read_to_string(&key).map_err(cannot("read", &key))?;
                let pair = KeyPair::from_pem(&text).map_err(|error| Error::NoKey {
                    path: key,
                    reason: error.to_string(),
                })?;
                // Names and key identifier are those of ca.pem, which was made by these very lines.
                (pair, false)
            }
            (false, false) => {
                let pair = KeyPair::generate().map_err(library)?;
                let certificate = params.self_signed(&pair).map_err(library)?;
                write(&key, &pair.serialize_pem(), 0o600)?;
                write(&cert, &certificate.pem(), 0o644)?;
                (pair, true)
            }
            (true, false) => {
                return Err(Error::Half {
                    there: cert,
                    missing: key,
                });
            }
            (false, true) => {
                return Err(Error::Half {
                    there: key,
                    missing: cert,
                });
            }
        };
        Ok(Authority {
            issuer: Issuer::new(params, pair),
            folder: folder.to_owned(),
            now,
            new,
        })
    }

    /// Makes a key and signs its certificate.
    ///
    /// # Errors
    /// [`Error`]; files that are there are not written over.
    pub fn sign(&self, leaf: &Leaf) -> Result<Signed, Error> {
        let (cert, key) = (cert_path(&self.folder, &leaf.name), key_path(&self.folder, &leaf.name));
        let loopback = LOOPBACK.map(str::to_owned);
        let mut names = vec![leaf.name.clone()];
        let others = leaf
            .hosts
            .iter()
            .cloned()
            .chain(loopback.into_iter().filter(|_| leaf.serves));
        for other in others {
            if !names.contains(&other) {
                names.push(other);
            }
        }
        let mut params = CertificateParams::new(names.clone()).map_err(library)?;
        params.distinguished_name.push(DnType::CommonName, leaf.name.as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if leaf.serves {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        let expires_at;
        (params.not_before, params.not_after, expires_at) = validity(self.now, Span::new().days(LEAF_DAYS))?;
        let pair = KeyPair::generate().map_err(library)?;
        let certificate = params.signed_by(&pair, &self.issuer).map_err(library)?;
        write(&key, &pair.serialize_pem(), 0o600)?;
        write(&cert, &certificate.pem(), 0o644)?;
        Ok(Signed {
            cert,
            key,
            names,
            expires_at,
        })
    }
}

/// From a day before `now` to `after` it, as certificates have it and as people do.
fn validity<T>(now: Timestamp, after: Span) -> Result<(T, T, String), Error>
where
    T: From<SystemTime>,
{
    let wrong = |error: jiff::Error| Error::Clock(error.to_string());
    let now = jiff::Timestamp::from_microsecond(i64::try_from(now.0).unwrap_or(i64::MAX)).map_err(wrong)?;
    let now = now.to_zoned(TimeZone::UTC);
    let from = now.checked_sub(Span::new().days(BACK_DAYS)).map_err(wrong)?;
    let until = now.checked_add(after).map_err(wrong)?;
    let date = until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    Ok((
        SystemTime::from(from.timestamp()).into(),
        SystemTime::from(until.timestamp()).into(),
        date,
    ))
}

/// Writes a file that was not there.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let opened = File::options().write(true).create_new(true).mode(mode).open(path);
    opened
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(cannot("create", path))
}

fn cannot(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

fn library(error: rcgen::Error) -> Error {
    Error::Library(error.to_string())
}
