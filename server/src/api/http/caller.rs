//! Who calls, by the headers of `open` mode, and which retry this is.

use axum::http::{HeaderMap, HeaderValue};
use engine::ledger::{Idempotency, NodeId};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    problem::{Code, Problem, Step},
    schema::Faults,
};

/// The header that names the caller.
pub(crate) const NODE_ID: &str = "x-node-id";
/// The header that makes a retry safe.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Characters of an idempotency key.
const KEY_CHARACTERS_MAX: usize = 255;

/// The caller's own words; not yet known to be a name.
pub(crate) struct Credentials<'a>(&'a HeaderValue);

impl<'a> Credentials<'a> {
    /// # Errors
    /// 401 when the header is missing or empty.
    pub(crate) fn of(headers: &'a HeaderMap) -> Result<Credentials<'a>, Problem> {
        match headers.get(NODE_ID) {
            Some(value) if !value.is_empty() => Ok(Credentials(value)),
            _ => Err(Problem::new(
                Code::MissingCredentials,
                "name yourself in the X-Node-ID header, with the node_id you registered under",
            )),
        }
    }

    /// The caller's name; a fault when it cannot be one.
    pub(crate) fn node(&self, faults: &mut Faults) -> Option<NodeId> {
        let loc = || vec![Step::Name("header"), Step::Name(NODE_ID)];
        let Ok(text) = std::str::from_utf8(self.0.as_bytes()) else {
            let sent = Value::String(String::from_utf8_lossy(self.0.as_bytes()).into_owned());
            let msg =
                "Value error, a node id is UTF-8; encode the header's value as UTF-8 bytes (many clients send Latin-1)";
            faults.add("value_error", loc(), msg, &sent);
            return None;
        };
        node_id(text, loc(), faults)
    }
}

/// `text` as a node id; a fault at `loc` when it cannot be one.
pub(crate) fn node_id(text: &str, loc: Vec<Step>, faults: &mut Faults) -> Option<NodeId> {
    match NodeId::new(text) {
        Ok(node) => Some(node),
        Err(error) => {
            faults.add(
                "value_error",
                loc,
                format!("Value error, {error}"),
                &Value::String(text.to_owned()),
            );
            None
        }
    }
}

/// The key of a retry; a fault when it cannot be one.
pub(crate) fn idempotency_key(headers: &HeaderMap, faults: &mut Faults) -> Option<String> {
    let value = headers.get(IDEMPOTENCY_KEY)?;
    let bytes = value.as_bytes();
    if (1..=KEY_CHARACTERS_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic) {
        return Some(String::from_utf8_lossy(bytes).into_owned());
    }
    let loc = vec![Step::Name("header"), Step::Name(IDEMPOTENCY_KEY)];
    let sent = Value::String(String::from_utf8_lossy(bytes).into_owned());
    faults.add(
        "value_error",
        loc,
        format!("Value error, an idempotency key is 1 to {KEY_CHARACTERS_MAX} visible ASCII characters"),
        &sent,
    );
    None
}

/// The retry as the ledger knows it. The route is part of the digest: one key is one request.
pub(crate) fn idempotency(key: Option<String>, caller: &str, route: &str, body: &[u8]) -> Option<Idempotency> {
    let key = key?;
    let mut digest = Sha256::new();
    digest.update(route.as_bytes());
    digest.update([0]);
    digest.update(body);
    Some(Idempotency {
        caller: caller.to_owned(),
        key,
        body: digest.finalize().into(),
    })
}
