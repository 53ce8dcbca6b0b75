//! Asking those of the bootstrap list, until all of them form a cluster.
//!
//! ```text
//!  Meeting ─┬─ answer   what a caller of Peers.Meet is told
//!           └─ form     ask all ─► hear ─► step ─► keep what must be kept ─► born into the cluster
//! ```
//!
//! Who answers must show, on TLS, a certificate for the host it was called by, and then one for the name it gave itself.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use engine::Birth;
use parking_lot::Mutex;
use proto::v1::{MeetRequest, MeetResponse, meet_response::Stand, peers_client::PeersClient};
use tonic::{Request, Status};

use super::{
    Error, Newcomer,
    agreement::{Agreement, Heard, Report, Seat, Set, Step},
    pledge::Pledge,
};
use crate::{
    runtime::{
        tasks,
        time::{Stopwatch, sleep, within},
    },
    transport::{Claim, Transport, told},
};

/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(200);
/// One of them is waited for so long in each round.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// What is waited for is logged when it has changed, but no oftener than this,
const TOLD_AGAIN_MIN: Duration = Duration::from_secs(2);
/// and when it has not, so often.
const TOLD_AGAIN: Duration = Duration::from_secs(30);
/// Whoever forms belongs to no cluster.
pub const NO_CLUSTER: [u8; 16] = [0; 16];

/// A node that is forming a cluster with others, or is to; clones share it.
#[derive(Clone)]
pub struct Meeting(Arc<Shared>);

struct Shared {
    agreement: Mutex<Agreement>,
    directory: PathBuf,
}

impl Meeting {
    /// Of the node whose data directory is `directory`: goes on with what it is bound to, or begins.
    pub(super) fn open(
        directory: &Path,
        newcomer: &Newcomer<'_>,
        kept: Option<Pledge>,
        (expect, mut addresses): (u32, Vec<String>),
    ) -> Result<Meeting, Error> {
        let address = newcomer.address.clone().ok_or(Error::NoAddress)?;
        // Its own is known without being asked for.
        addresses.retain(|listed| *listed != address);
        let pledge = match kept {
            Some(pledge) => pledge,
            None => {
                let pledge = Pledge::drawn(newcomer.entropy);
                // Whoever is told of the number finds it again.
                pledge.keep(directory)?;
                pledge
            }
        };
        let seat = Seat {
            number: pledge.number,
            name: newcomer.name.to_owned(),
            address,
        };
        if let Some(set) = &pledge.bound
            && !set.seats().contains(&seat)
        {
            return Err(Error::BoundOtherwise(list(set)));
        }
        let agreement = Agreement::new(
            (seat, pledge.key),
            (expect, addresses),
            newcomer.authority,
            pledge.bound,
        );
        Ok(Meeting(Arc::new(Shared {
            agreement: Mutex::new(agreement),
            directory: directory.to_owned(),
        })))
    }

    /// What the caller, who was found to bear this name, is told.
    #[must_use]
    pub fn answer(&self, number: u64, name: &str) -> MeetResponse {
        let Report {
            seat,
            expect,
            agrees,
            bound,
            context_key,
        } = self.0.agreement.lock().report(number, name);
        let bytes = |sum: Option<[u8; 32]>| sum.map(|sum| sum.to_vec()).unwrap_or_default();
        let forming = proto::v1::Forming {
            seat: Some(proto::v1::FoundingSeat {
                number: seat.number,
                name: seat.name,
                address: seat.address,
            }),
            expect,
            agrees: bytes(agrees),
            bound: bytes(bound),
            context_key: bytes(context_key),
        };
        MeetResponse {
            stand: Some(Stand::Forming(forming)),
        }
    }

    /// With whom, once it is bound.
    pub(super) fn members(&self) -> Vec<(u64, String, String)> {
        self.0.agreement.lock().members()
    }

    /// Asks the others until all are bound to each other, telling through `waiting` for whom it waits; what the node is to be born as.
    pub(super) async fn form(&self, transport: &Transport, waiting: impl Fn(&str)) -> Result<Birth, Error> {
        let mut names: HashMap<usize, String> = HashMap::new();
        let mut log = Log::default();
        loop {
            self.ask_all(transport, &mut names).await;
            let step = self.0.agreement.lock().step();
            match step {
                Step::Wait(why) => {
                    waiting(&why);
                    log.tell(&why);
                    sleep(PAUSE).await;
                }
                Step::Never(why) => return Err(Error::Never(why)),
                Step::Bind(set) => {
                    tracing::info!(members = list(&set), "agreed to form a cluster");
                    self.keep(set.clone()).await?;
                    self.0.agreement.lock().bind(set);
                }
                Step::Form { cluster, context_key } => {
                    let incarnation = self.0.agreement.lock().seat().number;
                    tracing::info!(cluster = engine::backup::hex(&cluster), "forming the cluster");
                    return Ok(Birth {
                        cluster,
                        incarnation,
                        context_key,
                    });
                }
            }
        }
    }

    async fn keep(&self, set: Set) -> Result<(), Error> {
        let directory = self.0.directory.clone();
        let kept = tasks::blocking(move || {
            let pledge = Pledge::read(&directory)?;
            let pledge = pledge.filter(|pledge| pledge.bound.is_none());
            // Whoever took the file away, or put another there, shares the directory with us.
            let mut pledge = pledge.ok_or(Error::HalfFormed)?;
            pledge.bound = Some(set);
            pledge.keep(&directory)
        });
        kept.await.unwrap_or(Err(Error::HalfFormed))
    }

    async fn ask_all(&self, transport: &Transport, names: &mut HashMap<usize, String>) {
        let (addresses, seat) = {
            let agreement = self.0.agreement.lock();
            (agreement.addresses().to_vec(), agreement.seat().clone())
        };
        // All at once: one that does not answer holds nobody up.
        let ask = |(place, address): (usize, String)| {
            let (transport, seat, known) = (transport.clone(), seat.clone(), names.get(&place).cloned());
            tasks::spawn(async move { meet(&transport, &seat, &address, known).await })
        };
        let asked: Vec<_> = addresses.into_iter().enumerate().map(ask).collect();
        for (place, answered) in asked.into_iter().enumerate() {
            let (heard, name) = answered
                .await
                .unwrap_or_else(|error| (Heard::Nothing(error.to_string()), None));
            match name {
                Some(name) => names.insert(place, name),
                None => names.remove(&place),
            };
            self.0.agreement.lock().hear(place, heard);
        }
    }
}

/// What `address` says, and by what name it said so. It must show that it is called as it says, so whoever is not known yet is asked twice.
async fn meet(transport: &Transport, seat: &Seat, address: &str, known: Option<String>) -> (Heard, Option<String>) {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut called = known.unwrap_or_else(|| host.to_owned());
    for _ in 0..2 {
        let heard = match ask(transport, seat, address, &called).await {
            Ok(answer) => heard(answer),
            Err(error) => Heard::Nothing(told(&error)),
        };
        let name = match &heard {
            Heard::Forming(report) => report.seat.name.clone(),
            Heard::Formed { name, .. } => name.clone(),
            Heard::Nothing(_) => return (heard, None),
        };
        if name == called {
            return (heard, Some(name));
        }
        called = name;
    }
    (Heard::Nothing("it changes its name".to_owned()), None)
}

async fn ask(transport: &Transport, seat: &Seat, address: &str, called: &str) -> Result<MeetResponse, Status> {
    let channel = transport.channel(address, called);
    let channel = channel.map_err(|error| Status::invalid_argument(error.to_string()))?;
    let claim = Claim {
        cluster: NO_CLUSTER,
        from: seat.number,
        name: seat.name.clone(),
        to: 0,
    };
    let mut request = Request::new(MeetRequest {});
    let (key, value) = claim.metadata();
    request.metadata_mut().insert_bin(key, value);
    request.set_timeout(ANSWER_WITHIN);
    let answer = within(ANSWER_WITHIN, PeersClient::new(channel).meet(request)).await;
    let answer = answer.unwrap_or_else(|| Err(Status::deadline_exceeded("no answer in time")))?;
    Ok(answer.into_inner())
}

fn heard(answer: MeetResponse) -> Heard {
    let sum = |bytes: Vec<u8>| <[u8; 32]>::try_from(bytes).ok();
    match answer.stand {
        Some(Stand::Forming(forming)) => {
            let Some(seat) = forming.seat else {
                return Heard::Nothing("it does not say who it is".to_owned());
            };
            Heard::Forming(Report {
                seat: Seat {
                    number: seat.number,
                    name: seat.name,
                    address: seat.address,
                },
                expect: forming.expect,
                agrees: sum(forming.agrees),
                bound: sum(forming.bound),
                context_key: sum(forming.context_key),
            })
        }
        Some(Stand::Formed(formed)) => Heard::Formed {
            cluster: formed.cluster.try_into().unwrap_or_default(),
            name: formed.name,
            context_key: sum(formed.context_key),
        },
        None => Heard::Nothing("it answers something that this build does not know".to_owned()),
    }
}

fn list(set: &Set) -> String {
    let seats = set
        .seats()
        .iter()
        .map(|seat| format!("`{}` ({})", seat.name, seat.address));
    seats.collect::<Vec<_>>().join(", ")
}

/// Says for whom is waited, at a sane rate.
#[derive(Default)]
struct Log {
    last: Option<(String, Stopwatch)>,
}

impl Log {
    fn tell(&mut self, why: &str) {
        let due = match &self.last {
            None => true,
            Some((last, since)) if last == why => since.elapsed() >= TOLD_AGAIN,
            Some((_, since)) => since.elapsed() >= TOLD_AGAIN_MIN,
        };
        if due {
            tracing::info!("forming a cluster, waiting for {why}");
            self.last = Some((why.to_owned(), Stopwatch::start()));
        }
    }
}
