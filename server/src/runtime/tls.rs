//! TLS 1.3: what a node shows to its callers, and whose certificates it takes.
//!
//! ```text
//!  tls.cert, tls.key, tls.ca (PEM) ──► Credentials ──► Server: one for each face ──► listener
//!                    └─ looked at again every few seconds; files that do not fit change nothing
//! ```
//!
//! It refuses to know what a caller may do, and who the names in certificates are.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
    version::TLS13,
};

/// The files, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The node's certificate, and those between it and the authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authority whose certificates callers of gRPC must show; without it nobody needs one.
    pub ca: Option<PathBuf>,
}

/// Why credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{} holds no {what} in PEM form (`-----BEGIN …`); make one with `continuum-admin cert create`", path.display())]
    Nothing {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// Certificate and key do not belong together, or TLS cannot be spoken with them.
    #[error("{} and {} cannot be used together: {source}", cert.display(), key.display())]
    Unfit {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What the library said.
        source: rustls::Error,
    },
    /// The authority's certificate is none.
    #[error("{} is no authority that callers can be checked by: {reason}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What the library said.
        reason: String,
    },
}

/// How both faces speak.
struct Configured {
    /// The files' bytes, to see whether they have changed.
    read: Read,
    grpc: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
}

/// The content of the files.
#[derive(PartialEq, Eq)]
struct Read {
    cert: Vec<u8>,
    key: Vec<u8>,
    ca: Option<Vec<u8>>,
}

/// A node's credentials; they can be read anew while connections are served.
pub struct Credentials {
    files: Files,
    configured: RwLock<Configured>,
    /// What the last look saw, if it was something new: files are taken when two looks agree, for they may be half written.
    seen: Mutex<Option<Read>>,
}

/// One face's side of the credentials.
#[derive(Clone)]
pub struct Server {
    credentials: Arc<Credentials>,
    face: Face,
}

/// Who is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// Programs, operators and nodes: they show a certificate if there is an authority.
    Grpc,
    /// Members of the federation: they are known by what they send.
    Http,
}

impl Credentials {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`], with the file at fault.
    pub fn load(files: Files) -> Result<Credentials, TlsError> {
        let configured = configure(&files, read(&files)?)?;
        Ok(Credentials {
            files,
            configured: RwLock::new(configured),
            seen: Mutex::default(),
        })
    }

    /// Reads the files again; whether they have changed, and were the same at the call before. New connections are made with what was read, old ones stay.
    ///
    /// # Errors
    /// [`TlsError`]; then nothing changes.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let read = read(&self.files)?;
        let mut seen = self.seen.lock();
        if self.configured.read().read == read {
            *seen = None;
            return Ok(false);
        }
        if seen.as_ref() != Some(&read) {
            *seen = Some(read);
            return Ok(false);
        }
        let configured = configure(&self.files, read)?;
        *self.configured.write() = configured;
        Ok(true)
    }

    /// What a face speaks with.
    #[must_use]
    pub fn server(credentials: &Arc<Credentials>, face: Face) -> Server {
        Server {
            credentials: Arc::clone(credentials),
            face,
        }
    }
}

impl Server {
    /// For the next connection.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        let configured = self.credentials.configured.read();
        match self.face {
            Face::Grpc => Arc::clone(&configured.grpc),
            Face::Http => Arc::clone(&configured.http),
        }
    }
}

fn read(files: &Files) -> Result<Read, TlsError> {
    let bytes = |path: &Path| {
        fs::read(path).map_err(|source| TlsError::Unreadable {
            path: path.to_owned(),
            source,
        })
    };
    Ok(Read {
        cert: bytes(&files.cert)?,
        key: bytes(&files.key)?,
        ca: files.ca.as_deref().map(bytes).transpose()?,
    })
}

fn configure(files: &Files, read: Read) -> Result<Configured, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let chain = certificates(&files.cert, &read.cert)?;
    let key = PrivateKeyDer::from_pem_slice(&read.key).map_err(|_| TlsError::Nothing {
        path: files.key.clone(),
        what: "private key",
    })?;
    let verifier = match (&files.ca, &read.ca) {
        (Some(path), Some(bytes)) => Some(verifier(path, bytes, &provider)?),
        _ => None,
    };
    let speak = |verified: bool, protocols: &[&[u8]]| {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map(|builder| match &verifier {
                Some(verifier) if verified => builder.with_client_cert_verifier(Arc::clone(verifier)),
                _ => builder.with_no_client_auth(),
            });
        let config = builder.and_then(|builder| builder.with_single_cert(chain.clone(), key.clone_key()));
        let mut config = config.map_err(|source| TlsError::Unfit {
            cert: files.cert.clone(),
            key: files.key.clone(),
            source,
        })?;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    };
    Ok(Configured {
        grpc: speak(true, &[b"h2"])?,
        http: speak(false, &[b"h2", b"http/1.1"])?,
        read,
    })
}

fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match found {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(TlsError::Nothing {
            path: path.to_owned(),
            what: "certificate",
        }),
    }
}

fn verifier(
    path: &Path,
    bytes: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let authority = |reason: String| TlsError::Authority {
        path: path.to_owned(),
        reason,
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, bytes)? {
        roots.add(certificate).map_err(|error| authority(error.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| authority(error.to_string()))
}
