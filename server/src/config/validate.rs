//! What settings must satisfy, each and together; a problem says what to do.

use std::net::SocketAddr;

use engine::ledger::{Limits, VOTERS_MAX};

use super::settings::{Contribution, Discovery, Gossip, Http, Node, Raft, Runtime, Settings, Storage, Tls};

const MIB: u64 = 1024 * 1024;
const NODE_ID_BYTES_MAX: usize = 256;
const WORKER_THREADS_MAX: u32 = 256;

/// Everything wrong with `settings`; empty when they may be used.
pub(super) fn problems(settings: &Settings) -> Vec<String> {
    let mut problems = Vec::new();
    settings.node.validate(&settings.tls, &mut problems);
    settings.storage.validate(&mut problems);
    settings.contribution.validate(&mut problems);
    settings.http.validate(&mut problems);
    settings.runtime.validate(&mut problems);
    settings.tls.validate(&mut problems);
    settings.raft.validate(&mut problems);
    settings.gossip.validate(&mut problems);
    settings.discovery.validate(&settings.tls, &mut problems);
    problems
}

fn require(holds: bool, problems: &mut Vec<String>, problem: impl FnOnce() -> String) {
    if !holds {
        problems.push(problem());
    }
}

fn at_least(key: &str, value: u64, minimum: u64, problems: &mut Vec<String>) {
    require(value >= minimum, problems, || {
        format!("{key} is {value}, at least {minimum} is needed")
    });
}

fn check_host_port(key: &str, text: &str, problems: &mut Vec<String>) {
    let sound = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
    require(sound, problems, || format!("{key}: expected HOST:PORT, got `{text}`"));
}

/// A name other nodes, logs and file systems can bear.
fn is_node_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= NODE_ID_BYTES_MAX && !id.chars().any(char::is_control)
}

impl Node {
    fn validate(&self, tls: &Tls, problems: &mut Vec<String>) {
        if let Some(id) = &self.id {
            require(is_node_id(id), problems, || {
                format!("node_id must be 1 to {NODE_ID_BYTES_MAX} bytes without control characters")
            });
        }
        if let Some(address) = &self.advertise_address {
            check_host_port("advertise_address", address, problems);
        }
        let clash = self.bind_address == self.http_address && self.bind_address.port() != 0;
        require(!clash, problems, || {
            format!(
                "bind_address and http_address are both {}: gRPC and HTTP need a port each",
                self.bind_address
            )
        });
        if !self.insecure_open {
            let (grpc, http) = (("bind_address", self.bind_address), ("http_address", self.http_address));
            // A certificate alone would hide from others what everybody may do.
            let guarded = [
                (grpc, tls.cert.is_some() && tls.ca.is_some()),
                (http, tls.cert.is_some()),
            ];
            for ((key, address), guarded) in guarded {
                if !guarded && !address.ip().is_loopback() {
                    problems.push(open_refusal(key, address));
                }
            }
        }
    }
}

/// Why an address beyond loopback is refused, with both ways out.
fn open_refusal(key: &str, address: SocketAddr) -> String {
    format!(
        "{key} = {address} would let everyone who reaches it read and write. Either\n    \
         - give the node a certificate, and an authority whose certificates callers of gRPC must show (tls.cert, tls.key, \
         tls.ca; `continuum-admin cert create` makes them), or\n    \
         - bind to loopback ({key} = 127.0.0.1:{port}), or\n    \
         - accept it on a network you trust: CONTINUUM_INSECURE_OPEN=true (flag --insecure-open=true)",
        port = address.port()
    )
}

impl Storage {
    fn validate(&self, problems: &mut Vec<String>) {
        at_least("storage.block_cache_bytes", self.block_cache_bytes, MIB, problems);
        at_least(
            "storage.segment_bytes",
            self.segment_bytes,
            Storage::SEGMENT_BYTES_MIN,
            problems,
        );
        at_least("storage.flush_log_bytes", self.flush_log_bytes, MIB, problems);
        at_least("storage.queue_bytes_max", self.queue_bytes_max, MIB, problems);
        for (key, rate) in [
            ("storage.compaction_bytes_per_s", self.compaction_bytes_per_s),
            ("storage.backup_bytes_per_s", self.backup_bytes_per_s),
        ] {
            require(rate == 0 || (MIB..=i64::MAX as u64).contains(&rate), problems, || {
                format!("{key} is {rate}: at least {MIB}, or 0 for no bound")
            });
        }
        require(self.free_soft_bytes >= self.free_hard_bytes, problems, || {
            let (soft, hard) = (self.free_soft_bytes, self.free_hard_bytes);
            format!(
                "storage.free_soft_bytes ({soft}) must not be below storage.free_hard_bytes ({hard}): the warning comes first"
            )
        });
    }
}

impl Contribution {
    fn validate(&self, problems: &mut Vec<String>) {
        let limits = [
            ("contribution.contribute_per_hour", self.contribute_per_hour),
            ("contribution.knowledge_per_hour", self.knowledge_per_hour),
        ];
        for (key, limit) in limits {
            require((1..=Limits::PER_HOUR_MAX).contains(&limit), problems, || {
                format!(
                    "{key} is {limit}, it must lie in 1..{}; no setting turns the limit off",
                    Limits::PER_HOUR_MAX
                )
            });
        }
        at_least("contribution.queue_bytes_max", self.queue_bytes_max, 8 * MIB, problems);
        at_least("contribution.queue_wait_ms_max", self.queue_wait_ms_max, 1, problems);
        at_least("contribution.index_wait_ms_max", self.index_wait_ms_max, 1, problems);
        at_least(
            "contribution.usage_flush_interval_ms",
            self.usage_flush_interval_ms,
            10,
            problems,
        );
    }
}

impl Http {
    fn validate(&self, problems: &mut Vec<String>) {
        at_least("http.connections_max", u64::from(self.connections_max), 1, problems);
        at_least(
            "http.connections_per_address_max",
            u64::from(self.connections_per_address_max),
            1,
            problems,
        );
        at_least("http.write_timeout_ms", self.write_timeout_ms, 1, problems);
        at_least("http.header_timeout_ms", self.header_timeout_ms, 1, problems);
        at_least("http.body_timeout_ms", self.body_timeout_ms, 1, problems);
        at_least("http.idle_timeout_ms", self.idle_timeout_ms, 1, problems);
    }
}

impl Runtime {
    fn validate(&self, problems: &mut Vec<String>) {
        require(self.worker_threads <= WORKER_THREADS_MAX, problems, || {
            format!(
                "runtime.worker_threads is {}, at most {WORKER_THREADS_MAX}",
                self.worker_threads
            )
        });
    }
}

impl Tls {
    fn validate(&self, problems: &mut Vec<String>) {
        require(self.cert.is_some() == self.key.is_some(), problems, || {
            "tls.cert and tls.key belong together: give both or neither".to_owned()
        });
        require(self.ca.is_none() || self.cert.is_some(), problems, || {
            "tls.ca says whose certificates callers must show, so the node needs its own: give tls.cert and tls.key too"
                .to_owned()
        });
    }
}

impl Discovery {
    fn validate(&self, tls: &Tls, problems: &mut Vec<String>) {
        for node in &self.bootstrap_nodes {
            check_host_port("bootstrap_nodes", node, problems);
        }
        if self.bootstrap_expect == 0 {
            return;
        }
        let (expect, listed) = (self.bootstrap_expect as usize, self.bootstrap_nodes.len());
        require((2..=VOTERS_MAX).contains(&expect), problems, || {
            format!(
                "bootstrap_expect is {expect}: 2 to {VOTERS_MAX} nodes form a cluster together, best three or five; one that is to stand alone needs no such setting"
            )
        });
        // Whom to form a cluster with is never guessed: which nodes happen to answer first must not decide it.
        require(listed == expect || listed + 1 == expect, problems, || {
            format!(
                "bootstrap_expect is {expect} and bootstrap_nodes names {listed}: name exactly the nodes that are to form the cluster, this one may be among them"
            )
        });
        require(tls.cert.is_none() || tls.ca.is_some(), problems, || {
            "nodes that form a cluster over TLS must know each other by an authority: give tls.ca".to_owned()
        });
    }
}

impl Raft {
    fn validate(&self, problems: &mut Vec<String>) {
        let (low, high) = self.election_timeout_ms;
        require(low < high, problems, || {
            format!("raft.election_timeout is {low},{high}: the first must be the smaller")
        });
        let heartbeat = self.heartbeat_interval_ms;
        at_least("raft.heartbeat_interval", heartbeat, 1, problems);
        at_least("raft.snapshot_entries", self.snapshot_entries, 100, problems);
        require(heartbeat.saturating_mul(2) < low, problems, || {
            format!(
                "raft.heartbeat_interval ({heartbeat} ms) must be less than half the shortest election timeout ({low} ms)"
            )
        });
    }
}

impl Gossip {
    fn validate(&self, problems: &mut Vec<String>) {
        at_least("gossip.fanout", u64::from(self.fanout), 1, problems);
        at_least("gossip.interval", self.interval_ms, 1, problems);
    }
}
