//! How nodes without data come to be one cluster, or none: what each knows, what it answers, and what it does next.
//!
//! ```text
//!  gathering   every address of the list answers, and with this node that makes the number expected: these it *takes* for its cluster
//!     │  all of them take the same
//!     ▼
//!  bound       durably, before anybody is told, and for ever: this number forms a cluster with these or none
//!     │  all of them are bound to the same, or one of them has formed it already
//!     ▼
//!  formed      cluster = hash of the set and the authority; raft begins with the set
//! ```
//!
//! Invariants: a number is bound to one set at most. A set forms a cluster only when every number in it is bound to it, so two
//! clusters never have a number in common. What a wiped node is, is another number, which the others are not bound to.
//!
//! It refuses to know files, sockets and time: what was heard may be old, lost or in any order.

use sha2::{Digest as _, Sha256};

/// What the sum of a set begins with: another way of forming would be another word.
const DOMAIN: &[u8] = b"continuum formation 1";

/// A node that is to be one of the first members.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seat {
    /// Raft's number of it.
    pub(super) number: u64,
    /// Its name.
    pub(super) name: String,
    /// `HOST:PORT` at which members reach it.
    pub(super) address: String,
}

/// The first members of a cluster, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Set(Vec<Seat>);

impl Set {
    /// These, in whatever order.
    #[must_use]
    pub(super) fn of(mut seats: Vec<Seat>) -> Set {
        seats.sort();
        Set(seats)
    }

    /// By number.
    #[must_use]
    pub(super) fn seats(&self) -> &[Seat] {
        &self.0
    }

    /// SHA-256 over the set and the authority that its members share.
    #[must_use]
    pub(super) fn sum(&self, authority: Option<[u8; 32]>) -> [u8; 32] {
        let sum = Sha256::new_with_prefix(DOMAIN);
        let sum = match authority {
            Some(authority) => sum.chain_update([1]).chain_update(authority),
            None => sum.chain_update([0]),
        };
        let text = |sum: Sha256, text: &str| sum.chain_update((text.len() as u64).to_le_bytes()).chain_update(text);
        let seat = |sum: Sha256, seat: &Seat| {
            let sum = sum.chain_update(seat.number.to_le_bytes());
            text(text(sum, &seat.name), &seat.address)
        };
        self.0.iter().fold(sum, seat).finalize().into()
    }

    /// Number, name and address of each.
    #[must_use]
    pub(super) fn members(&self) -> Vec<(u64, String, String)> {
        let member = |seat: &Seat| (seat.number, seat.name.clone(), seat.address.clone());
        self.0.iter().map(member).collect()
    }

    fn has(&self, number: u64) -> bool {
        self.0.iter().any(|seat| seat.number == number)
    }

    /// Whose secret for context tokens the cluster takes: everybody's choice must be the same.
    fn first(&self) -> u64 {
        self.0.first().map_or(0, |seat| seat.number)
    }
}

/// The cluster of a set's sum.
#[must_use]
pub(super) fn cluster_of(sum: &[u8; 32]) -> [u8; 16] {
    let mut cluster = [0; 16];
    cluster.copy_from_slice(&sum[..16]);
    cluster
}

/// What a node that is forming says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// Who it is.
    pub(super) seat: Seat,
    /// How many it expects.
    pub(super) expect: u32,
    /// The sum of those whom it takes for its cluster now.
    pub(super) agrees: Option<[u8; 32]>,
    /// The sum of those to whom it is bound.
    pub(super) bound: Option<[u8; 32]>,
    /// The secret it would bring; only to whom it is bound.
    pub(super) context_key: Option<[u8; 32]>,
}

/// What came from an address of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A node that is forming.
    Forming(Report),
    /// A node that belongs to a cluster.
    Formed {
        /// Which.
        cluster: [u8; 16],
        /// Its name.
        name: String,
        /// The cluster's secret, if this node is a member of it.
        context_key: Option<[u8; 32]>,
    },
    /// Nothing, and why.
    Nothing(String),
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask again; for whom or what is waited.
    Wait(String),
    /// Keep this durably, and only then call [`Agreement::bind`].
    Bind(Set),
    /// Be born: nobody bound to this set will form another.
    Form {
        /// The cluster.
        cluster: [u8; 16],
        /// Its secret for context tokens.
        context_key: [u8; 32],
    },
    /// It cannot come to be as this node is configured, and why.
    Never(String),
}

/// One node's side.
#[derive(Clone, Debug)]
pub(super) struct Agreement {
    seat: Seat,
    key: [u8; 32],
    expect: u32,
    authority: Option<[u8; 32]>,
    addresses: Vec<String>,
    heard: Vec<Heard>,
    bound: Option<Set>,
}

impl Agreement {
    /// Of the node `seat`, whose number and `key` are durable, as is what it is `bound` to.
    #[must_use]
    pub(super) fn new(
        (seat, key): (Seat, [u8; 32]),
        (expect, addresses): (u32, Vec<String>),
        authority: Option<[u8; 32]>,
        bound: Option<Set>,
    ) -> Agreement {
        Agreement {
            heard: vec![Heard::Nothing("not asked yet".to_owned()); addresses.len()],
            seat,
            key,
            expect,
            authority,
            addresses,
            bound,
        }
    }

    /// The addresses to ask, in the order of [`Agreement::hear`].
    #[must_use]
    pub(super) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Who this node is.
    #[must_use]
    pub(super) fn seat(&self) -> &Seat {
        &self.seat
    }

    /// Whom it is bound to: number, name and address of each.
    #[must_use]
    pub(super) fn members(&self) -> Vec<(u64, String, String)> {
        self.bound.as_ref().map(Set::members).unwrap_or_default()
    }

    /// What this node answers to the one of this number and name.
    #[must_use]
    pub(super) fn report(&self, number: u64, name: &str) -> Report {
        let known = |set: &&Set| set.0.iter().any(|seat| seat.number == number && seat.name == name);
        Report {
            seat: self.seat.clone(),
            expect: self.expect,
            agrees: self.taken().ok().map(|set| set.sum(self.authority)),
            bound: self.bound.as_ref().map(|set| set.sum(self.authority)),
            context_key: self.bound.as_ref().filter(known).map(|_| self.key),
        }
    }

    /// Takes down what came from an address, in the place of what came before.
    pub(super) fn hear(&mut self, place: usize, heard: Heard) {
        self.heard[place] = heard;
    }

    /// Is bound from now on: what [`Step::Bind`] asked for is durable.
    pub(super) fn bind(&mut self, set: Set) {
        assert!(self.bound.is_none(), "a number is bound once");
        self.bound = Some(set);
    }

    /// What is to be done now.
    #[must_use]
    pub(super) fn step(&self) -> Step {
        match &self.bound {
            Some(set) => self.step_bound(set),
            None => self.step_gathering(),
        }
    }

    fn step_gathering(&self) -> Step {
        let set = match self.taken() {
            Ok(set) => set,
            Err(step) => return step,
        };
        let sum = set.sum(self.authority);
        let others = self
            .reports()
            .filter(|(_, report)| report.seat.number != self.seat.number);
        for (_, report) in others {
            if report.agrees != Some(sum) && report.bound != Some(sum) {
                let Seat { name, address, .. } = &report.seat;
                return Step::Wait(match report.bound {
                    Some(_) => format!(
                        "`{name}` ({address}), which has agreed to form a cluster with others than these: should they have lost their data, begin it anew as well"
                    ),
                    None => format!("`{name}` ({address}) to see the same {} nodes", self.expect),
                });
            }
        }
        Step::Bind(set)
    }

    /// Whom this node takes for its cluster: all that the list names, no more and no fewer than it expects.
    fn taken(&self) -> Result<Set, Step> {
        if let Some(set) = &self.bound {
            return Ok(set.clone());
        }
        if let Some((address, name)) = self.formed().next() {
            return Err(Step::Never(format!(
                "`{name}` at {address} belongs to a cluster already, and a second one is not formed beside it: this node is let in by a token of `continuum-admin cluster token`, or of `continuum-admin cluster replace {}` if it was a member and lost its data",
                self.seat.name
            )));
        }
        if let Some(missing) = self.missing() {
            return Err(Step::Wait(missing));
        }
        let mut seats = vec![self.seat.clone()];
        for (address, report) in self.reports() {
            let seat = &report.seat;
            if report.expect != self.expect {
                return Err(Step::Wait(format!(
                    "one number of nodes: `{}` ({address}) expects {}, this one {}, and bootstrap_expect must be the same on all",
                    seat.name, report.expect, self.expect
                )));
            }
            match seats.iter().find(|known| known.number == seat.number) {
                Some(known) if known == seat => continue,
                Some(known) => {
                    return Err(Step::Wait(format!(
                        "numbers of their own: `{}` and `{}` have the same; was a data directory copied? Begin with an empty one",
                        known.name, seat.name
                    )));
                }
                None => {}
            }
            if let Some(known) = seats
                .iter()
                .find(|known| known.name == seat.name || known.address == seat.address)
            {
                return Err(Step::Wait(format!(
                    "names and addresses of their own: `{}` ({}) and `{}` ({}) cannot both be members",
                    known.name, known.address, seat.name, seat.address
                )));
            }
            seats.push(seat.clone());
        }
        if seats.len() != self.expect as usize {
            return Err(Step::Never(format!(
                "bootstrap_nodes leads to {} nodes, this one included, and bootstrap_expect is {}: name exactly those that are to form the cluster. A further node is let in by a token of `continuum-admin cluster token` once there is one",
                seats.len(),
                self.expect
            )));
        }
        Ok(Set::of(seats))
    }

    fn step_bound(&self, set: &Set) -> Step {
        let sum = set.sum(self.authority);
        let cluster = cluster_of(&sum);
        for heard in &self.heard {
            if let Heard::Formed {
                cluster: formed,
                context_key: Some(context_key),
                ..
            } = heard
                && *formed == cluster
            {
                // It saw that all were bound.
                let context_key = *context_key;
                return Step::Form { cluster, context_key };
            }
        }
        let bound = |number: u64| {
            let said = self.reports().find(|(_, report)| report.seat.number == number);
            said.is_some_and(|(_, report)| report.bound == Some(sum))
        };
        let late = set
            .0
            .iter()
            .filter(|seat| seat.number != self.seat.number && !bound(seat.number));
        let late: Vec<String> = late.map(|seat| format!("`{}` ({})", seat.name, seat.address)).collect();
        if !late.is_empty() {
            let strangers = self.strangers(set, cluster);
            let why = strangers.or_else(|| self.missing());
            let why = why.map(|why| format!("; {why}")).unwrap_or_default();
            return Step::Wait(format!("{} to agree to it{why}", late.join(", ")));
        }
        match self.key_of(set) {
            Some(context_key) => Step::Form { cluster, context_key },
            None => Step::Wait("the secret that the cluster is to have".to_owned()),
        }
    }

    /// The secret for context tokens, once it is known.
    fn key_of(&self, set: &Set) -> Option<[u8; 32]> {
        let first = set.first();
        if first == self.seat.number {
            return Some(self.key);
        }
        let mut said = self.reports().filter(|(_, report)| report.seat.number == first);
        said.find_map(|(_, report)| report.context_key)
    }

    /// Who cannot be waited for any more.
    fn strangers(&self, set: &Set, own: [u8; 16]) -> Option<String> {
        let stranger = |report: &&Report| report.seat.number != self.seat.number && !set.has(report.seat.number);
        let begun_anew = self.reports().map(|(_, report)| report).find(stranger).map(|report| {
            format!(
                "`{}` ({}) lost its data after it had agreed: if no other node has formed the cluster, begin all of them anew with empty data directories",
                report.seat.name, report.seat.address
            )
        });
        let elsewhere = self.heard.iter().zip(&self.addresses).find_map(|(heard, address)| match heard {
            Heard::Formed { cluster, name, .. } if *cluster != own => Some(format!(
                "`{name}` at {address} belongs to another cluster: begin this node anew with an empty data directory and a token of that one"
            )),
            _ => None,
        });
        begun_anew.or(elsewhere)
    }

    fn reports(&self) -> impl Iterator<Item = (&str, &Report)> {
        let both = self.addresses.iter().zip(&self.heard);
        both.filter_map(|(address, heard)| match heard {
            Heard::Forming(report) => Some((address.as_str(), report)),
            _ => None,
        })
    }

    fn formed(&self) -> impl Iterator<Item = (&str, &str)> {
        let both = self.addresses.iter().zip(&self.heard);
        both.filter_map(|(address, heard)| match heard {
            Heard::Formed { name, .. } => Some((address.as_str(), name.as_str())),
            _ => None,
        })
    }

    /// Who does not answer.
    fn missing(&self) -> Option<String> {
        let both = self.addresses.iter().zip(&self.heard);
        let silent: Vec<String> = both
            .filter_map(|(address, heard)| match heard {
                Heard::Nothing(why) => Some(format!("{address} ({why})")),
                _ => None,
            })
            .collect();
        (!silent.is_empty()).then(|| format!("an answer from {}", silent.join(", ")))
    }
}

#[cfg(test)]
mod tests;
