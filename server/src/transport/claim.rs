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
