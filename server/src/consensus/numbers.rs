//! What is told of each other member at each scrape.

use std::collections::BTreeMap;

use openraft::async_runtime::watch::WatchReceiver as _;

use super::{Sequencer, member::Member, network::Link};
use crate::metrics::{self as counts, Metric, Row};

impl Sequencer {
    /// What is known of the other members now, by their names: those that raft knows at this moment, and nobody else.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        self.member().rows()
    }
}

impl Member {
    fn rows(&self) -> Vec<Row> {
        let metrics = self.raft.metrics();
        let now = metrics.borrow_watched();
        let config = now.membership_config.membership();
        let others = config.nodes().filter(|(id, _)| **id != self.id);
        // While one replaces another, both may bear the name; whoever is heard is meant.
        let mut by_name: BTreeMap<&str, u64> = BTreeMap::new();
        for (id, peer) in others {
            let silence = |id| {
                self.network
                    .contacts
                    .silence(id)
                    .map_or(f64::INFINITY, |silence| silence.as_secs_f64())
            };
            let known = by_name.get(&*peer.name);
            if known.is_none_or(|known| silence(*id) < silence(*known)) {
                by_name.insert(&peer.name, *id);
            }
        }
        let mut rows = Vec::new();
        for (name, id) in by_name {
            let mut tell = |metric: Metric, value: Option<f64>| {
                rows.extend(value.map(|value| Row {
                    metric,
                    label: ("member", name.to_owned()),
                    value,
                }));
            };
            let matched = now.replication.as_ref().and_then(|progress| progress.get(&id));
            let has = matched.map(|matched| matched.as_ref().map_or(0, |id| id.index + 1));
            let all = now.last_log_index.map_or(0, |last| last + 1);
            tell(counts::PEER_LAG, has.map(|has| all.saturating_sub(has) as f64));
            let silence = self.network.contacts.silence(id);
            tell(counts::PEER_HEARD, silence.map(|silence| silence.as_secs_f64()));
            tell(
                counts::PEER_CLOCK,
                self.clocks.ahead_us(id).map(|ahead| ahead as f64 / 1e6),
            );
            tell(counts::PEER_IMAGE_SENT, Some(self.network.images.sent(id) as f64));
            // Never made here: its tasks would run beside requests.
            let link = self.network.known_link(id);
            let traffic = link.as_ref().and_then(Link::traffic);
            tell(counts::PEER_CONNECTIONS, traffic.map(|traffic| traffic.open() as f64));
            tell(counts::PEER_SENT, traffic.map(|traffic| traffic.sent() as f64));
            tell(counts::PEER_RECEIVED, traffic.map(|traffic| traffic.received() as f64));
        }
        rows
    }
}
