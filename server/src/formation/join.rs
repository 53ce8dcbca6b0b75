//! Asking to be let in.

use std::{io, path::PathBuf, time::Duration};

use engine::{Birth, OpenError};
use proto::v1::{JoinRequest, peers_client::PeersClient};
use tonic::{Code, Request, Status};

use super::{Newcomer, Token};
use crate::{
    runtime::time::{Stopwatch, sleep, within},
    transport::{Claim, told},
};

/// Seeds are asked for so long, round and round.
const JOINED_WITHIN: Duration = Duration::from_mins(1);
/// One of them is waited for so long.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(500);

/// Why a node does not come into a cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data are another cluster's.
    #[error(
        "these data belong to another cluster than the join token: start without the token, or with another data directory"
    )]
    OfAnother,
    /// It had begun to join.
    #[error(
        "this node has begun to join a cluster and needs the join token to go on: give it again, or remove the data directory to begin anew"
    )]
    HalfJoined,
    /// It had agreed to form one.
    #[error(
        "this node has agreed to form a cluster with others and may belong to it: start it with bootstrap_expect and bootstrap_nodes as before, or remove the data directory to begin anew"
    )]
    HalfFormed,
    /// It had agreed to form one by another name or address.
    #[error(
        "this node has agreed to form a cluster of {0}: start it by the name and at the address that it had then, or remove the data directories of all of them to begin anew"
    )]
    BoundOtherwise(String),
    /// It cannot form one so.
    #[error("no cluster is formed with this node: {0}")]
    Never(String),
    /// Nobody could find it.
    #[error("other members must be able to reach this node: say where with --advertise-address HOST:PORT")]
    NoAddress,
    /// Another authority, or none.
    #[error("the cluster of the join token {}", if *.wanted { "speaks TLS with another authority than this node: give tls.ca, tls.cert and tls.key of that cluster" } else { "speaks without TLS, and this node with it: take tls.ca away, or have a token made by the right cluster" })]
    Authority {
        /// Whether the cluster has one.
        wanted: bool,
    },
    /// The cluster said no.
    #[error("the cluster does not let this node in: {0}")]
    Refused(String),
    /// Nobody answered.
    #[error("no member of the cluster could be asked: {0}")]
    Unreachable(String),
    /// The file that says that it is joining.
    #[error("{}: {source}", path.display())]
    Marker {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The data.
    #[error(transparent)]
    Engine(OpenError),
}

/// Asks the token's seeds to let the node `incarnation` in, until one of them has an answer.
pub(super) async fn join(token: &Token, incarnation: u64, newcomer: &Newcomer<'_>) -> Result<Birth, Error> {
    let address = newcomer.address.clone().ok_or(Error::NoAddress)?;
    if token.authority != newcomer.authority {
        return Err(Error::Authority {
            wanted: token.authority.is_some(),
        });
    }
    let claim = Claim {
        cluster: token.cluster,
        from: incarnation,
        name: newcomer.name.to_owned(),
        to: 0,
    };
    let since = Stopwatch::start();
    let mut last = String::new();
    tracing::info!(seeds = ?token.seeds, "joining a cluster");
    while since.elapsed() < JOINED_WITHIN {
        for (name, at) in &token.seeds {
            let error = match ask(newcomer, &claim, token, &address, (name, at)).await {
                Ok(context_key) => {
                    return Ok(Birth {
                        cluster: token.cluster,
                        incarnation,
                        context_key,
                    });
                }
                Err(error) => error,
            };
            let told = told(&error);
            match error.code() {
                Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => {
                    if told != last {
                        tracing::warn!(
                            seed = name,
                            at,
                            reason = told,
                            "a seed of the join token did not answer; trying on"
                        );
                    }
                    last = format!("{name} ({at}): {told}");
                }
                _ => return Err(Error::Refused(told)),
            }
        }
        sleep(PAUSE).await;
    }
    Err(Error::Unreachable(last))
}

async fn ask(
    newcomer: &Newcomer<'_>,
    claim: &Claim,
    token: &Token,
    address: &str,
    (name, at): (&str, &str),
) -> Result<[u8; 32], Status> {
    let channel = newcomer.transport.channel(at, name);
    let channel = channel.map_err(|error| Status::invalid_argument(format!("in the join token: {error}")))?;
    let mut request = Request::new(JoinRequest {
        secret: token.secret.to_vec(),
        address: address.to_owned(),
    });
    let (key, value) = claim.metadata();
    request.metadata_mut().insert_bin(key, value);
    request.set_timeout(ANSWER_WITHIN);
    let answer = within(ANSWER_WITHIN, PeersClient::new(channel).join(request)).await;
    let answer = answer.unwrap_or_else(|| Err(Status::deadline_exceeded("no answer in time")))?;
    let key = answer.into_inner().context_key;
    key.try_into().map_err(|_| Status::internal("the answer holds no key"))
}
