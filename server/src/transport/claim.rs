//! Who calls whom, in the metadata of every call between nodes.

use prost::Message as _;
use proto::v1 as wire;
use rustls::pki_types::ServerName;
use tonic::metadata::{BinaryMetadataKey, BinaryMetadataValue, MetadataMap, MetadataValue};
use webpki::EndEntityCert;

use crate::runtime::listener::Peer;

/// The metadata's key.
pub const CLAIM: &str = "continuum-claim-bin";

/// Who calls whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The cluster of both.
    pub cluster: [u8; 16],
    /// Raft's number of the caller.
    pub from: u64,
    /// The caller's name.
    pub name: String,
    /// Raft's number of the one that is meant.
    pub to: u64,
}

/// Why a caller is not taken for who it says it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotHim {
    /// There is no claim.
    #[error("this service is for members of the cluster: the call says nothing of who makes it")]
    Silent,
    /// Another cluster.
    #[error("the call comes from a member of another cluster")]
    Foreign,
    /// No certificate, or another name in it.
    #[error("the caller says that it is `{0}`, but its certificate does not bear that name")]
    Name(String),
}

impl Claim {
    /// What to send with each call.
    #[must_use]
    pub fn metadata(&self) -> (BinaryMetadataKey, BinaryMetadataValue) {
        let claim = wire::Claim {
            cluster: self.cluster.to_vec(),
            from: self.from,
            name: self.name.clone(),
            to: self.to,
        };
        (
            BinaryMetadataKey::from_static(CLAIM),
            MetadataValue::from_bytes(&claim.encode_to_vec()),
        )
    }

    /// What a call says, once the connection it came over bears it out. On a plain connection, which only loopback or an operator's
    /// word allows, the caller is believed.
    ///
    /// # Errors
    /// [`NotHim`].
    pub fn verify(
        metadata: &MetadataMap,
        peer: Option<&Peer>,
        cluster: [u8; 16],
        secure: bool,
    ) -> Result<Claim, NotHim> {
        let bytes = metadata.get_bin(CLAIM).and_then(|value| value.to_bytes().ok());
        let claim = bytes
            .and_then(|bytes| wire::Claim::decode(bytes).ok())
            .ok_or(NotHim::Silent)?;
        if claim.cluster != cluster {
            return Err(NotHim::Foreign);
        }
        if secure {
            let certificate = peer.and_then(|peer| peer.certificate.as_deref());
            let shown = certificate.and_then(|certificate| EndEntityCert::try_from(certificate).ok());
            let name = ServerName::try_from(claim.name.as_str()).ok();
            let borne = shown
                .zip(name)
                .is_some_and(|(shown, name)| shown.verify_is_valid_for_subject_name(&name).is_ok());
            if !borne {
                return Err(NotHim::Name(claim.name));
            }
        }
        Ok(Claim {
            cluster,
            from: claim.from,
            name: claim.name,
            to: claim.to,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// A connection on which a certificate of this name was shown, or none.
    fn peer(name: Option<&str>) -> Peer {
        let certificate = name.map(|name| {
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            let signed = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            Arc::new(signed.der().clone())
        });
        Peer {
            address: ([127, 0, 0, 1], 7000).into(),
            certificate,
        }
    }

    #[test]
    fn a_caller_is_who_its_certificate_says() {
        let claim = Claim {
            cluster: [7; 16],
            from: 3,
            name: "db1".to_owned(),
            to: 4,
        };
        let mut metadata = MetadataMap::new();
        let verify = |metadata: &MetadataMap, certificate, cluster, secure| {
            Claim::verify(metadata, Some(&peer(certificate)), cluster, secure)
        };
        assert_eq!(verify(&metadata, Some("db1"), [7; 16], true), Err(NotHim::Silent));
        let (key, value) = claim.metadata();
        metadata.insert_bin(key, value);
        assert_eq!(verify(&metadata, Some("db1"), [7; 16], true), Ok(claim.clone()));
        assert_eq!(verify(&metadata, Some("db1"), [8; 16], true), Err(NotHim::Foreign));
        // Signed by the same authority, for somebody who is no node.
        for certificate in [Some("me"), Some("db2"), None] {
            let refused = verify(&metadata, certificate, [7; 16], true);
            assert_eq!(refused, Err(NotHim::Name("db1".to_owned())), "{certificate:?}");
        }
        assert_eq!(
            verify(&metadata, None, [7; 16], false),
            Ok(claim),
            "plain, as the operator wants it"
        );
    }
}
