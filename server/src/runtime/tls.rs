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
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
    version::TLS13,
};
use sha2::{Digest as _, Sha256};

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
    /// Towards other nodes, if there is an authority that says who they are.
    nodes: Option<Arc<ClientConfig>>,
    /// SHA-256 over the authority's certificates.
    authority: Option<[u8; 32]>,
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

    /// How the next connection to another node is made; `None` without an authority.
    #[must_use]
    pub fn towards_nodes(&self) -> Option<Arc<ClientConfig>> {
        self.configured.read().nodes.clone()
    }

    /// SHA-256 over the certificates of the authority, by which a join token tells it from others.
    #[must_use]
    pub fn authority(&self) -> Option<[u8; 32]> {
        self.configured.read().authority
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
    let roots = match (&files.ca, &read.ca) {
        (Some(path), Some(bytes)) => Some((path, roots(path, bytes)?)),
        _ => None,
    };
    let authority = match (&files.ca, &read.ca) {
        (Some(path), Some(bytes)) => {
            let certificates = certificates(path, bytes)?;
            let sum = certificates
                .iter()
                .fold(Sha256::new(), |sum, certificate| sum.chain_update(certificate));
            Some(sum.finalize().into())
        }
        _ => None,
    };
    let verifier = match &roots {
        Some((path, roots)) => Some(verifier(path, roots, &provider)?),
        None => None,
    };
    let unfit = |source| TlsError::Unfit {
        cert: files.cert.clone(),
        key: files.key.clone(),
        source,
    };
    let towards_nodes = |roots: &Arc<RootCertStore>| {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[&TLS13]);
        let config = builder.and_then(|builder| {
            let builder = builder.with_root_certificates(Arc::clone(roots));
            builder.with_client_auth_cert(chain.clone(), key.clone_key())
        });
        let mut config = config.map_err(unfit)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    };
    let nodes = roots.as_ref().map(|(_, roots)| towards_nodes(roots)).transpose()?;
    let speak = |verified: bool, protocols: &[&[u8]]| {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map(|builder| match &verifier {
                Some(verifier) if verified => builder.with_client_cert_verifier(Arc::clone(verifier)),
                _ => builder.with_no_client_auth(),
            });
        let config = builder.and_then(|builder| builder.with_single_cert(chain.clone(), key.clone_key()));
        let mut config = config.map_err(unfit)?;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    };
    Ok(Configured {
        grpc: speak(true, &[b"h2"])?,
        http: speak(false, &[b"h2", b"http/1.1"])?,
        nodes,
        authority,
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

fn roots(path: &Path, bytes: &[u8]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, bytes)? {
        roots.add(certificate).map_err(|error| authority(path, &error))?;
    }
    Ok(Arc::new(roots))
}

fn verifier(
    path: &Path,
    roots: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
        .build()
        .map_err(|error| authority(path, &error))
}

fn authority(path: &Path, error: &dyn std::error::Error) -> TlsError {
    TlsError::Authority {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}
