//! The same over TLS.

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tempfile::TempDir;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    super::super::tls::{Credentials, Face, Files},
    *,
};

/// An authority and what it signed.
struct Signed {
    authority: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Signed {
    fn new() -> Signed {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = TempDir::new().unwrap();
        let signed = Signed { authority, folder };
        let (cert, key) = signed.leaf();
        fs::write(signed.folder.path().join("cert"), cert.pem()).unwrap();
        fs::write(signed.folder.path().join("key"), key.serialize_pem()).unwrap();
        fs::write(signed.folder.path().join("ca"), signed.authority.pem()).unwrap();
        signed
    }

    fn leaf(&self) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, &self.authority).unwrap(), key)
    }

    async fn served(&self, face: Face, settings: Settings) -> Served {
        let file = |name: &str| self.folder.path().join(name);
        let files = Files {
            cert: file("cert"),
            key: file("key"),
            ca: Some(file("ca")),
        };
        let credentials = Arc::new(Credentials::load(files).unwrap());
        let socket = Socket {
            tcp: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(),
            tls: Some(Credentials::server(&credentials, face)),
        };
        served_on(socket, settings)
    }

    /// Connects to who shows a certificate of ours, with one of `caller`'s, if any.
    async fn connect(&self, served: &Served, caller: Option<&Signed>) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = if let Some(caller) = caller {
            let (cert, key) = caller.leaf();
            let chain = vec![CertificateDer::from(cert.der().to_vec())];
            let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
            config.with_client_auth_cert(chain, key).unwrap()
        } else {
            config.with_no_client_auth()
        };
        let connector = TlsConnector::from(Arc::new(config));
        let connected = connector.connect("localhost".try_into().unwrap(), served.connect().await);
        connected.await.unwrap()
    }
}

async fn asked(stream: &mut TlsStream<TcpStream>, path: &str) -> Vec<u8> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // How it ends is not what is asked here.
    let _ended = stream.read_to_end(&mut answer).await;
    answer
}

#[tokio::test]
async fn members_need_no_certificate_and_get_small_and_large_answers_whole() {
    let signed = Signed::new();
    let served = signed.served(Face::Http, quick()).await;
    let mut stream = signed.connect(&served, None).await;
    let version = stream.get_ref().1.protocol_version();
    assert_eq!(version, Some(rustls::ProtocolVersion::TLSv1_3));
    assert!(asked(&mut stream, "/").await.ends_with(b"hello 127.0.0.1"));
    let mut stream = signed.connect(&served, None).await;
    let large = asked(&mut stream, "/mebibyte").await;
    let body = large.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(large.len() - body, 1024 * 1024);
    assert!(large[body..].iter().all(|byte| *byte == b'x'));
}

#[tokio::test]
async fn callers_of_grpc_show_a_certificate_or_are_not_answered() {
    let signed = Signed::new();
    let served = signed.served(Face::Grpc, quick()).await;
    let mut known = signed.connect(&served, Some(&signed)).await;
    assert!(asked(&mut known, "/").await.ends_with(b"hello 127.0.0.1"));
    // The handshake looks well to a caller until it reads.
    let mut nobody = signed.connect(&served, None).await;
    assert_eq!(asked(&mut nobody, "/").await, b"");
    // The authority of the other has the same name.
    let mut stranger = signed.connect(&served, Some(&Signed::new())).await;
    assert_eq!(asked(&mut stranger, "/").await, b"");
}

#[tokio::test]
async fn a_caller_that_does_not_shake_hands_is_let_go() {
    let signed = Signed::new();
    let served = signed.served(Face::Http, quick()).await;
    let mut silent = served.connect().await;
    assert_eq!(rest(&mut silent).await, "");
    let plain = served.exchange(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(!plain.contains("HTTP/1.1"), "{plain}");
}
