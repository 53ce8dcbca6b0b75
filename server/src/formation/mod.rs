//! How a node comes into a cluster, before it opens its data.
//!
//! ```text
//!  data?   told?
//!   no      nothing           founds a cluster of its own, alone until somebody is invited
//!   no      token             JOINING (its number to be) ─► Peers.Join at one of the token's seeds ─► born into that cluster, waits for its leader
//!   no      bootstrap_expect  FORMING (its number to be) ─► Peers.Meet at the others ─► all agree ─► FORMING (bound to them) ─► all are bound ─► born
//!   yes     …                 is what it was; a token of the same cluster has done its work, one of another is refused
//! ```
//!
//! Invariants: the number under which a node asks is durable before it asks, so that whoever asks again is known again; as long as
//! `JOINING` lies in the data directory the node never decides alone; and a number that is bound to others forms a cluster with them or
//! none (`agreement`).
//!
//! It refuses to know raft, and who may join.

mod agreement;
mod join;
mod marker;
mod meet;
mod pledge;
mod token;

use std::{path::Path, sync::Arc};

use engine::{Birth, Environment, OpenError};

pub use join::Error;
pub use marker::Marker;
pub use meet::{Meeting, NO_CLUSTER};
use pledge::Pledge;
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

/// With whom a node without data is to form a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founders {
    /// How many they are, this node included.
    pub expect: u32,
    /// `HOST:PORT` of each of the others; its own among them is left out.
    pub addresses: Vec<String>,
}

/// What is to be done before the data in a directory are of a node of some cluster.
pub enum Begin {
    /// Nothing: so raft begins there.
    Settled(Founding),
    /// It asks to be let in: [`join()`].
    Join,
    /// It meets the others, who must be able to ask it meanwhile: [`meet()`].
    Meet(Meeting),
}

/// Sees whose data there are in `environment`, of the data directory `directory`.
///
/// # Errors
/// [`Error`], with what to do.
pub fn begin(
    directory: &Path,
    environment: &Environment,
    (token, founders): (Option<&Token>, Option<Founders>),
    newcomer: &Newcomer<'_>,
) -> Result<Begin, Error> {
    let joining = Marker::in_directory(directory).read()?;
    let pledge = Pledge::read(directory)?;
    match (environment.identity().map_err(Error::Engine)?, token) {
        (Some((cluster, _)), Some(token)) if cluster != token.cluster => Err(Error::OfAnother),
        (Some(_), _) if joining.is_some() => Ok(Begin::Settled(Founding::Joins)),
        (Some((_, number)), _) => {
            // A restored node has another number.
            let formed = pledge.filter(|pledge| pledge.number == number);
            let members = formed.and_then(|pledge| pledge.bound).map(|set| set.members());
            Ok(Begin::Settled(members.map_or(Founding::Alone, Founding::Together)))
        }
        (None, Some(_)) => Ok(Begin::Join),
        (None, None) if joining.is_some() => Err(Error::HalfJoined),
        (None, None) => match founders {
            Some(Founders { expect, addresses }) => {
                Meeting::open(directory, newcomer, pledge, (expect, addresses)).map(Begin::Meet)
            }
            None if pledge.is_some_and(|pledge| pledge.bound.is_some()) => Err(Error::HalfFormed),
            None => Ok(Begin::Settled(Founding::Alone)),
        },
    }
}

/// Asks to be let in with `token`.
///
/// # Errors
/// [`Error`], with what to do. When it is cut short, the next call goes on.
pub async fn join(
    directory: &Path,
    environment: &Arc<Environment>,
    token: &Token,
    newcomer: &Newcomer<'_>,
) -> Result<Founding, Error> {
    let marker = Marker::in_directory(directory);
    let incarnation = match marker.read()? {
        Some(incarnation) => incarnation,
        None => {
            let drawn = (newcomer.entropy)().max(1);
            marker.keep(drawn)?;
            drawn
        }
    };
    let birth = join::join(token, incarnation, newcomer).await?;
    be_born(environment, birth).await?;
    Ok(Founding::Joins)
}

/// Meets the others until all of them form a cluster; `waiting` is told for whom it waits.
///
/// # Errors
/// [`Error`], with what to do. When it is cut short, the next start goes on.
pub async fn meet(
    meeting: &Meeting,
    environment: &Arc<Environment>,
    transport: &Transport,
    waiting: impl Fn(&str),
) -> Result<Founding, Error> {
    let birth = meeting.form(transport, waiting).await?;
    be_born(environment, birth).await?;
    Ok(Founding::Together(meeting.members()))
}

async fn be_born(environment: &Arc<Environment>, birth: Birth) -> Result<(), Error> {
    let environment = Arc::clone(environment);
    let born = crate::runtime::tasks::blocking(move || environment.be_born(birth)).await;
    let panicked = || Err(OpenError::Refused("the first start panicked".to_owned()));
    born.unwrap_or_else(panicked).map_err(Error::Engine)
}
