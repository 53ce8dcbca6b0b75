//! Decisions on their way between nodes: whoever proposed to another node is told what that one's machine decided.

use serde::{Deserialize, Serialize};

use super::Decision;
use crate::keyspace::codec::{self, First, Undecodable};

#[derive(Serialize, Deserialize)]
struct Decisions(Vec<Decision>);
impl First for Decisions {}

/// A borrowed [`Decisions`].
#[derive(Serialize)]
struct Borrowed<'a>(&'a [Decision]);

/// The bytes of `decisions`; never kept on disk.
#[must_use]
pub fn encode_decisions(decisions: &[Decision]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    codec::encode_twin_into::<Decisions>(&Borrowed(decisions), &mut bytes);
    bytes
}

/// The decisions in `bytes`.
///
/// # Errors
/// When they are damaged, or of a newer build that decides what this one does not know.
pub fn decode_decisions(bytes: &[u8]) -> Result<Vec<Decision>, Undecodable> {
    codec::decode::<Decisions>(bytes).map(|Decisions(decisions)| decisions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Timestamp,
        ledger::{Limited, Outcome, Refusal},
    };

    #[test]
    fn decisions_travel_as_they_are() {
        let decided = |outcome, repeated| Decision { outcome, repeated };
        let refused = Refusal::RateLimited {
            kind: Limited::Knowledge,
            limit: 50,
            retry_at: Timestamp(9),
            now: Timestamp(7),
        };
        let decisions = vec![
            decided(Outcome::Done, false),
            decided(Outcome::Refused(refused), false),
            decided(Outcome::Refused(Refusal::KeyReused), true),
        ];
        let bytes = encode_decisions(&decisions);
        // version, count, then: Done; Refused(RateLimited(knowledge, 50, 9, 7)); Refused(KeyReused), repeated
        assert_eq!(bytes, [1, 3, 4, 0, 6, 0, 1, 50, 9, 7, 0, 6, 2, 1]);
        assert_eq!(decode_decisions(&bytes).unwrap(), decisions);
        decode_decisions(&bytes[..bytes.len() - 1]).unwrap_err();
    }
}
