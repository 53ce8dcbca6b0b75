//! How a node comes into a cluster, before it opens its data.
//!
//! ```text
//!  data?   token?
//!   no      no     founds a cluster of its own, alone until somebody is invited
//!   no      yes    JOINING (its number to be) ─► Peers.Join at one of the token's seeds ─► born into that cluster, waits for its leader
//!   yes     …      is what it was; a token of the same cluster has done its work, one of another is refused
//! ```
//!
//! Invariants: the number under which a node asks to join is durable before it asks, so that whoever asks again is known again; and as
//! long as `JOINING` lies in the data directory the node never decides alone.
//!
//! It refuses to know raft, and who may join.

mod join;
mod marker;
mod token;

use std::{path::Path, sync::Arc};

use engine::{Environment, OpenError};

pub use join::Error;
pub use marker::Marker;
pub use token::{Token, Unreadable};

use crate::{consensus::Founding, transport::Transport};

/// Who comes, and how it is reached.
pub struct Newcomer<'a> {
    /// Its name.
    pub name: &'a str,
    /// `HOST:PORT` at which others reach it, if it can be told.
    pub address: Option<String>,
    /// SHA-256 over the certificates of its authority.
    pub authority: Option<[u8; 32]>,
    /// The way to others.
    pub transport: &'a Transport,
    /// Fresh random bits.
    pub entropy: fn() -> u64,
}

/// Sees to it that the data in `environment`, of the data directory `directory`, are of a node of some cluster, and says how raft begins there.
///
/// # Errors
/// [`Error`], with what to do. When it is cut short, the next call goes on.
pub async fn settle(
    directory: &Path,
    environment: &Arc<Environment>,
    token: Option<&Token>,
    newcomer: Newcomer<'_>,
) -> Result<Founding, Error> {
    let marker = Marker::in_directory(directory);
    let kept = marker.read()?;
    match (environment.identity().map_err(Error::Engine)?, token) {
        (Some((cluster, _)), Some(token)) if cluster != token.cluster => Err(Error::OfAnother),
        (Some(_), _) => Ok(if kept.is_some() {
            Founding::Joins
        } else {
            Founding::Alone
        }),
        (None, None) if kept.is_some() => Err(Error::HalfJoined),
        (None, None) => Ok(Founding::Alone),
        (None, Some(token)) => {
            let incarnation = match kept {
                Some(incarnation) => incarnation,
                None => {
                    let drawn = (newcomer.entropy)().max(1);
                    marker.keep(drawn)?;
                    drawn
                }
            };
            let birth = join::join(token, incarnation, &newcomer).await?;
            let environment = Arc::clone(environment);
            let born = crate::runtime::tasks::blocking(move || environment.be_born(birth)).await;
            let panicked = || Err(OpenError::Refused("the first start panicked".to_owned()));
            born.unwrap_or_else(panicked).map_err(Error::Engine)?;
            Ok(Founding::Joins)
        }
    }
}
