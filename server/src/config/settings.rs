//! The settings themselves: one struct per component, units in the names, sensible without any configuration.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

/// One mebibyte.
const MIB: u64 = 1024 * 1024;

/// Everything a node can be told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Who the node is and where it listens.
    pub node: Node,
    /// The data directory and the engine over it.
    pub storage: Storage,
    /// The shared pool: limits, queue, index.
    pub contribution: Contribution,
    /// The HTTP and gRPC faces' bounds.
    pub http: Http,
    /// What is logged and how.
    pub log: Log,
    /// Threads and the graceful stop.
    pub runtime: Runtime,
    /// Certificates; not yet in effect.
    pub tls: Tls,
    /// Finding other nodes; in effect only as far as nodes form a cluster together.
    pub discovery: Discovery,
    /// Consensus: timing, and how long its log grows.
    pub raft: Raft,
    /// Gossip timing; not yet in effect.
    pub gossip: Gossip,
}

/// Who the node is and where it listens.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The node's name; `None` takes the one kept in the data directory, generated at first start.
    pub id: Option<String>,
    /// Where gRPC is served.
    pub bind_address: SocketAddr,
    /// Where HTTP is served.
    pub http_address: SocketAddr,
    /// At which other nodes reach this one, `HOST:PORT`.
    pub advertise_address: Option<String>,
    /// Makes a node without data a member of the cluster that it is of.
    pub join: Option<String>,
    /// Allows an address beyond loopback without TLS: everyone who reaches the port may write.
    pub insecure_open: bool,
}

impl Default for Node {
    fn default() -> Node {
        Node {
            id: None,
            bind_address: SocketAddr::from((Ipv4Addr::LOCALHOST, 7000)),
            http_address: SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)),
            advertise_address: None,
            join: None,
            insecure_open: false,
        }
    }
}

/// The data directory and the engine over it.
#[derive(Clone, Debug, PartialEq)]
pub struct Storage {
    /// The data directory.
    pub path: PathBuf,
    /// Memory for blocks of the database read again.
    pub block_cache_bytes: u64,
    /// The database is flushed every so many bytes of log, which also bounds replay.
    pub flush_log_bytes: u64,
    /// Size of one log segment, allocated before use.
    pub segment_bytes: u64,
    /// Writes waiting for the log before callers are made to wait.
    pub queue_bytes_max: u64,
    /// Free space below which a warning is logged, besides what the database needs to flush and compact.
    pub free_soft_bytes: u64,
    /// Free space below which client writes are refused, besides what the database needs; deletes still work.
    pub free_hard_bytes: u64,
    /// Flushed log kept for watchers and peers that come back late, at most; 0 keeps none.
    pub log_keep_bytes: u64,
    /// … and no older than this.
    pub log_keep_s: u64,
    /// What compactions and flushes may write in a second; 0 sets no bound.
    pub compaction_bytes_per_s: u64,
    /// What a backup that is sent away may take in a second; 0 sets no bound.
    pub backup_bytes_per_s: u64,
}

impl Default for Storage {
    fn default() -> Storage {
        let engine::Settings {
            block_cache_bytes,
            flush_log_bytes,
            queue_bytes_max,
            segment_bytes,
            free_soft_bytes,
            free_hard_bytes,
            compaction_bytes_per_s,
            log_keep_bytes,
            log_keep_s,
        } = engine::Settings::default();
        Storage {
            path: PathBuf::from("continuum-data"),
            block_cache_bytes: block_cache_bytes as u64,
            flush_log_bytes,
            segment_bytes,
            queue_bytes_max: queue_bytes_max as u64,
            free_soft_bytes,
            free_hard_bytes,
            log_keep_bytes,
            log_keep_s,
            compaction_bytes_per_s,
            backup_bytes_per_s: 0,
        }
    }
}

impl Storage {
    /// The smallest segment: it must hold the largest batch.
    pub(super) const SEGMENT_BYTES_MIN: u64 = 16 * MIB;

    /// The same for a file system of `disk_bytes`: what was left at its default takes no more than a part of it, or a small
    /// disk would be full from the start.
    #[must_use]
    pub fn fitted(mut self, disk_bytes: u64) -> Storage {
        let default = Storage::default();
        let fit = |value: &mut u64, default: u64, most: u64| {
            if *value == default {
                *value = default.min(most);
            }
        };
        let segment_bytes = (disk_bytes / 16).max(Storage::SEGMENT_BYTES_MIN);
        fit(&mut self.segment_bytes, default.segment_bytes, segment_bytes);
        // The database's write buffers are eight times as large, and a full disk is left only with one of them free.
        fit(&mut self.flush_log_bytes, default.flush_log_bytes, disk_bytes / 32);
        fit(&mut self.free_hard_bytes, default.free_hard_bytes, disk_bytes / 8);
        fit(&mut self.free_soft_bytes, default.free_soft_bytes, disk_bytes / 4);
        fit(&mut self.log_keep_bytes, default.log_keep_bytes, disk_bytes / 16);
        // Where only one of the two was set.
        self.free_soft_bytes = self.free_soft_bytes.max(self.free_hard_bytes);
        self
    }
}

/// The shared pool: limits, queue, index.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// Contributions accepted per node and sliding hour.
    pub contribute_per_hour: u32,
    /// Knowledge requests accepted per node and sliding hour.
    pub knowledge_per_hour: u32,
    /// Bytes of commands waiting for their turn before callers are made to wait.
    pub queue_bytes_max: u64,
    /// How long a command waits for a place in that queue before its caller is told to retry.
    pub queue_wait_ms_max: u64,
    /// How long a knowledge request waits for the search index to reach what it paid for.
    pub index_wait_ms_max: u64,
    /// Usage counts are made durable this often.
    pub usage_flush_interval_ms: u64,
    /// Field names dropped from contributed concepts besides the built-in ones.
    pub anonymise_names: Vec<String>,
    /// Prefixes of such names.
    pub anonymise_prefixes: Vec<String>,
    /// Suffixes of such names.
    pub anonymise_suffixes: Vec<String>,
}

impl Default for Contribution {
    fn default() -> Contribution {
        Contribution {
            contribute_per_hour: 100,
            knowledge_per_hour: 50,
            queue_bytes_max: 64 * MIB,
            queue_wait_ms_max: 30_000,
            index_wait_ms_max: 1_000,
            usage_flush_interval_ms: 1_000,
            anonymise_names: Vec::new(),
            anonymise_prefixes: Vec::new(),
            anonymise_suffixes: Vec::new(),
        }
    }
}

/// What both faces, HTTP and gRPC, allow a connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// Connections served at once by each face; further ones are closed.
    pub connections_max: u32,
    /// Connections served at once from one address; loopback has no such limit.
    pub connections_per_address_max: u32,
    /// Request line and headers must have arrived after this long.
    pub header_timeout_ms: u64,
    /// The body, or each message of a gRPC stream, must have arrived after this long.
    pub body_timeout_ms: u64,
    /// A connection without a request is closed after this long.
    pub idle_timeout_ms: u64,
    /// A client that takes less than 64 KiB of what waits for it in this time is let go.
    pub write_timeout_ms: u64,
}

impl Default for Http {
    fn default() -> Http {
        Http {
            connections_max: 16_384,
            connections_per_address_max: 256,
            header_timeout_ms: 10_000,
            body_timeout_ms: 30_000,
            idle_timeout_ms: 75_000,
            write_timeout_ms: 30_000,
        }
    }
}

/// What is logged and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A level, or directives such as `info,continuum_server=debug`.
    pub level: String,
    /// The form of a log line.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Log {
        Log {
            // openraft tells each of its steps as news; what becomes of it we tell ourselves.
            level: "info,openraft=error".to_owned(),
            format: LogFormat::Auto,
        }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text when standard error is a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Threads and the graceful stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Threads that serve requests; 0 takes one per processor, at most 8.
    pub worker_threads: u32,
    /// How long requests under way may take to finish once the node was asked to stop.
    pub shutdown_timeout_ms: u64,
}

impl Default for Runtime {
    fn default() -> Runtime {
        Runtime {
            worker_threads: 0,
            shutdown_timeout_ms: 10_000,
        }
    }
}

/// Certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The node's certificate chain, PEM.
    pub cert: Option<PathBuf>,
    /// Its private key, PEM.
    pub key: Option<PathBuf>,
    /// The authority that signs the nodes of the cluster, PEM.
    pub ca: Option<PathBuf>,
}

/// A way of finding other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscoveryMethod {
    /// SRV records.
    Dns,
    /// Multicast on the local network.
    Mdns,
    /// The bootstrap list.
    Bootstrap,
    /// What other nodes tell.
    Gossip,
    /// A fixed list.
    Static,
}

/// Finding other nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// Which ways are used.
    pub methods: Vec<DiscoveryMethod>,
    /// The name whose SRV records list the nodes.
    pub dns_domain: Option<String>,
    /// `HOST:PORT` of nodes to try first.
    pub bootstrap_nodes: Vec<String>,
    /// So many nodes without data, this one and those of the bootstrap list, form a cluster; 0: none do.
    pub bootstrap_expect: u32,
}

impl Default for Discovery {
    fn default() -> Discovery {
        let methods = vec![DiscoveryMethod::Dns, DiscoveryMethod::Mdns, DiscoveryMethod::Bootstrap];
        Discovery {
            methods,
            dns_domain: None,
            bootstrap_nodes: Vec::new(),
            bootstrap_expect: 0,
        }
    }
}

/// Consensus: timing, and how long its log grows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raft {
    /// Shortest and longest wait before an election, milliseconds.
    pub election_timeout_ms: (u64, u64),
    /// Time between heartbeats of a leader.
    pub heartbeat_interval_ms: u64,
    /// Entries between two snapshots.
    pub snapshot_entries: u64,
    /// Entries kept behind a snapshot.
    pub keep_entries: u64,
}

impl Default for Raft {
    fn default() -> Raft {
        Raft {
            election_timeout_ms: (150, 300),
            heartbeat_interval_ms: 50,
            snapshot_entries: 5_000,
            keep_entries: 1_000,
        }
    }
}

/// Gossip timing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gossip {
    /// Peers told in each round.
    pub fanout: u32,
    /// Time between rounds.
    pub interval_ms: u64,
}

impl Default for Gossip {
    fn default() -> Gossip {
        Gossip {
            fanout: 3,
            interval_ms: 100,
        }
    }
}
