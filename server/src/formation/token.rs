//! A join token: where the cluster is, how to tell it from an impostor, and the secret that lets one node in.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use engine::clock::Timestamp;
use prost::Message as _;
use proto::v1 as wire;
use sha2::{Digest as _, Sha256};

/// What every token begins with.
const PREFIX: &str = "ctm1.";
/// Bytes of a secret.
const SECRET_BYTES: usize = 32;

/// What lets one node into a cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Which cluster.
    pub cluster: [u8; 16],
    /// SHA-256 over its authority's certificates; `None`: it speaks without TLS.
    pub authority: Option<[u8; 32]>,
    /// What only who was invited knows.
    pub secret: [u8; SECRET_BYTES],
    /// Members to ask: name and `HOST:PORT`.
    pub seeds: Vec<(String, String)>,
    /// Until when.
    pub expires: Timestamp,
}

/// A text that is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no join token, or not all of it: it begins with `{PREFIX}` and is one word")]
pub struct Unreadable;

impl Token {
    /// What the cluster keeps of the secret.
    #[must_use]
    pub fn sum(&self) -> [u8; 32] {
        Token::sum_of(&self.secret)
    }

    /// What a cluster keeps of `secret`.
    #[must_use]
    pub fn sum_of(secret: &[u8]) -> [u8; 32] {
        Sha256::digest(secret).into()
    }
}

impl fmt::Display for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seed = |(name, address): &(String, String)| wire::Seed {
            name: name.clone(),
            address: address.clone(),
        };
        let message = wire::JoinToken {
            cluster: self.cluster.to_vec(),
            authority: self.authority.map(|sum| sum.to_vec()).unwrap_or_default(),
            secret: self.secret.to_vec(),
            seeds: self.seeds.iter().map(seed).collect(),
            expires_us: self.expires.0,
        };
        write!(formatter, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(message.encode_to_vec()))
    }
}

impl fmt::Debug for Token {
    /// Never the secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Token")
            .field("seeds", &self.seeds)
            .finish_non_exhaustive()
    }
}

impl FromStr for Token {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Token, Unreadable> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(Unreadable)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| Unreadable)?;
        let message = wire::JoinToken::decode(&*bytes).map_err(|_| Unreadable)?;
        let authority = match message.authority.as_slice() {
            [] => None,
            sum => Some(sum.try_into().map_err(|_| Unreadable)?),
        };
        if message.seeds.is_empty() {
            return Err(Unreadable);
        }
        Ok(Token {
            cluster: message.cluster.try_into().map_err(|_| Unreadable)?,
            authority,
            secret: message.secret.try_into().map_err(|_| Unreadable)?,
            seeds: message
                .seeds
                .into_iter()
                .map(|seed| (seed.name, seed.address))
                .collect(),
            expires: Timestamp(message.expires_us),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_word_and_comes_back_whole() {
        let token = Token {
            cluster: [1; 16],
            authority: Some([2; 32]),
            secret: [3; 32],
            seeds: vec![("n1".to_owned(), "db1:7000".to_owned())],
            expires: Timestamp(1_800_000_000_000_000),
        };
        let text = token.to_string();
        assert!(
            text.starts_with("ctm1.") && !text.contains(char::is_whitespace),
            "{text}"
        );
        assert_eq!(text.parse(), Ok(token.clone()));
        assert_eq!(
            format!(" {text}\n").parse(),
            Ok(token.clone()),
            "as it comes out of a file"
        );
        assert!(!format!("{token:?}").contains('3'), "{token:?}");
        for bad in ["", "ctm1.", "x", &text[..text.len() - 4], &text.replace("ctm1", "ctm2")] {
            assert_eq!(bad.parse::<Token>(), Err(Unreadable), "{bad}");
        }
    }
}
