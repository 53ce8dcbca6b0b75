//! Opaque tokens: what was read, and where a watch goes on.

use std::{fmt, str::FromStr};

/// What a read has seen of a key. A write that carries it replaces exactly that. Sealed by the cluster, good for one key, at
/// any node.
///
/// As text it is hexadecimal, for command lines and files.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Context(Vec<u8>);

/// Where a watch goes on: from a scan or a watch with the same namespace and prefix, at the same node.
///
/// As text it is hexadecimal, for command lines and files.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct ResumeToken(Vec<u8>);

/// A text is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token is an even number of hexadecimal digits, as it was printed")]
pub struct TokenMalformed;

macro_rules! token {
    ($token:ident) => {
        impl $token {
            /// Whether nothing was read, or nothing is to be gone on from.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }

            /// As it travels.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }
        }

        impl From<Vec<u8>> for $token {
            fn from(bytes: Vec<u8>) -> $token {
                $token(bytes)
            }
        }

        impl fmt::Display for $token {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $token {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}({self})", stringify!($token))
            }
        }

        impl FromStr for $token {
            type Err = TokenMalformed;

            fn from_str(text: &str) -> Result<$token, TokenMalformed> {
                hexadecimal(text).map($token).ok_or(TokenMalformed)
            }
        }
    };
}

token!(Context);
token!(ResumeToken);

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let (pairs, odd) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |pair: &[u8; 2]| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok();
    if odd.is_empty() {
        pairs.iter().map(byte).collect()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_being_text() {
        let token = Context::from((0..=255).collect::<Vec<u8>>());
        assert_eq!(token.to_string().parse(), Ok(token));
        assert_eq!("".parse(), Ok(ResumeToken::default()));
    }

    #[test]
    fn other_texts_are_no_tokens() {
        for text in ["0", "0g", "+1", "é0"] {
            assert_eq!(text.parse::<Context>(), Err(TokenMalformed), "{text}");
        }
    }
}
