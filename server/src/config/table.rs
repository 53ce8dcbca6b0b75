//! Every setting in one table; flags, variables, file keys, help and documentation are read off it.
//!
//! One rule names them all: the file key `storage.segment_bytes` is the variable `CONTINUUM_STORAGE_SEGMENT_BYTES` and
//! the flag `--storage-segment-bytes`. A few flags are shorter because they are typed often.

use super::{settings::Settings, value::Value};

/// One setting.
pub struct Row {
    /// Its key in the file, `section.name` or a bare name at the top.
    pub key: &'static str,
    /// Its environment variable.
    pub variable: &'static str,
    /// A variable without our prefix, heeded only when the prefixed one is absent.
    pub alias: Option<&'static str>,
    /// Its flag, without the two dashes.
    pub flag: &'static str,
    /// What it does, in one line.
    pub help: &'static str,
    /// The part of the system that will heed it, when this version does not yet.
    pub awaits: Option<&'static str>,
    /// What stands for a value in the help.
    pub placeholder: &'static str,
    /// Reads a value into the settings; the error says what was expected.
    pub read: fn(&mut Settings, &str) -> Result<(), String>,
    /// The value as text that `read` takes.
    pub show: fn(&Settings) -> String,
}

impl Row {
    /// The heading the help and the file group it under.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.key.split_once('.').map_or("", |(section, _)| section)
    }

    /// Whether units of bytes make sense for it.
    #[must_use]
    pub fn counts_bytes(&self) -> bool {
        self.key.contains("_bytes")
    }
}

fn read_into<V: Value>(field: &mut V, text: &str) -> Result<(), String> {
    *field = V::read(text)?;
    Ok(())
}

const fn placeholder<V: Value>(_: fn(&Settings) -> &V) -> &'static str {
    V::PLACEHOLDER
}

macro_rules! row {
    ($key:literal, $variable:literal, $flag:literal, $component:ident.$field:ident, $help:literal
     $(, alias $alias:literal)? $(, awaits $awaits:literal)?) => {
        Row {
            key: $key,
            variable: $variable,
            alias: row!(@option $($alias)?),
            flag: $flag,
            help: $help,
            awaits: row!(@option $($awaits)?),
            placeholder: placeholder(|settings| &settings.$component.$field),
            read: |settings, text| read_into(&mut settings.$component.$field, text),
            show: |settings| settings.$component.$field.show(),
        }
    };
    (@option) => { None };
    (@option $value:literal) => { Some($value) };
}

/// The table.
#[rustfmt::skip] // one setting reads as one entry
pub static ROWS: [Row; 49] = [
    row!("node_id", "CONTINUUM_NODE_ID", "node-id", node.id,
        "Name of this node; without it one is generated at first start and kept in the data directory",
        alias "NODE_ID"),
    row!("bind_address", "CONTINUUM_BIND_ADDRESS", "bind", node.bind_address,
        "Where gRPC is served; port 0 takes a free one",
        alias "BIND_ADDRESS"),
    row!("http_address", "CONTINUUM_HTTP_ADDRESS", "http", node.http_address,
        "Where HTTP is served; port 0 takes a free one"),
    row!("advertise_address", "CONTINUUM_ADVERTISE_ADDRESS", "advertise-address", node.advertise_address,
        "HOST:PORT at which other nodes reach this one; without it the address of gRPC, if it names one machine"),
    row!("join", "CONTINUUM_JOIN", "join", node.join,
        "Join token: a node without data becomes a member of the cluster that it is of"),
    row!("insecure_open", "CONTINUUM_INSECURE_OPEN", "insecure-open", node.insecure_open,
        "Allow addresses beyond loopback without TLS: whoever reaches the port may read and write"),
    row!("storage.path", "CONTINUUM_STORAGE_PATH", "data-dir", storage.path,
        "Data directory; created when absent"),
    row!("storage.block_cache_bytes", "CONTINUUM_STORAGE_BLOCK_CACHE_BYTES", "storage-block-cache-bytes", storage.block_cache_bytes,
        "Memory for database blocks that are read again"),
    row!("storage.flush_log_bytes", "CONTINUUM_STORAGE_FLUSH_LOG_BYTES", "storage-flush-log-bytes", storage.flush_log_bytes,
        "Flush the database after this much log; bounds replay at start and memory for fresh writes; by default at most 1/32 of the disk"),
    row!("storage.segment_bytes", "CONTINUUM_STORAGE_SEGMENT_BYTES", "storage-segment-bytes", storage.segment_bytes,
        "Size of one log file, allocated before use; by default at most a sixteenth of the disk"),
    row!("storage.queue_bytes_max", "CONTINUUM_STORAGE_QUEUE_BYTES_MAX", "storage-queue-bytes-max", storage.queue_bytes_max,
        "Writes waiting for the log before further ones are told to retry"),
    row!("storage.free_soft_bytes", "CONTINUUM_STORAGE_FREE_SOFT_BYTES", "storage-free-soft-bytes", storage.free_soft_bytes,
        "Warn when the disk has less free space than this besides what the database needs to flush and compact; by default at most a quarter of the disk"),
    row!("storage.free_hard_bytes", "CONTINUUM_STORAGE_FREE_HARD_BYTES", "storage-free-hard-bytes", storage.free_hard_bytes,
        "Refuse client writes below this much free space besides what the database needs; deletes still work; by default at most an eighth of the disk"),
    row!("storage.log_keep_bytes", "CONTINUUM_STORAGE_LOG_KEEP_BYTES", "storage-log-keep-bytes", storage.log_keep_bytes,
        "Log kept for watchers that come back late although nobody needs it; 0 keeps none; by default at most a sixteenth of the disk, and none on a disk that fills up"),
    row!("storage.log_keep_s", "CONTINUUM_STORAGE_LOG_KEEP_S", "storage-log-keep-s", storage.log_keep_s,
        "Such log is kept no longer than this many seconds"),
    row!("storage.compaction_bytes_per_s", "CONTINUUM_STORAGE_COMPACTION_BYTES_PER_S", "storage-compaction-bytes-per-s", storage.compaction_bytes_per_s,
        "What compactions and flushes of the database may write in a second, flushes first; 0 sets no bound"),
    row!("storage.backup_bytes_per_s", "CONTINUUM_STORAGE_BACKUP_BYTES_PER_S", "storage-backup-bytes-per-s", storage.backup_bytes_per_s,
        "What a backup that is sent over gRPC may take in a second; 0 sets no bound"),
    row!("contribution.contribute_per_hour", "CONTINUUM_CONTRIBUTION_CONTRIBUTE_PER_HOUR", "contribution-contribute-per-hour", contribution.contribute_per_hour,
        "Contributions accepted per node and sliding hour"),
    row!("contribution.knowledge_per_hour", "CONTINUUM_CONTRIBUTION_KNOWLEDGE_PER_HOUR", "contribution-knowledge-per-hour", contribution.knowledge_per_hour,
        "Knowledge requests accepted per node and sliding hour"),
    row!("contribution.queue_bytes_max", "CONTINUUM_CONTRIBUTION_QUEUE_BYTES_MAX", "contribution-queue-bytes-max", contribution.queue_bytes_max,
        "Commands waiting for their turn before callers are made to wait"),
    row!("contribution.queue_wait_ms_max", "CONTINUUM_CONTRIBUTION_QUEUE_WAIT_MS_MAX", "contribution-queue-wait-ms-max", contribution.queue_wait_ms_max,
        "How long a caller waits for a place in that queue before it is told to retry"),
    row!("contribution.index_wait_ms_max", "CONTINUUM_CONTRIBUTION_INDEX_WAIT_MS_MAX", "contribution-index-wait-ms-max", contribution.index_wait_ms_max,
        "How long a knowledge request waits for the search index before it is told to retry"),
    row!("contribution.usage_flush_interval_ms", "CONTINUUM_CONTRIBUTION_USAGE_FLUSH_INTERVAL_MS", "contribution-usage-flush-interval-ms", contribution.usage_flush_interval_ms,
        "How often usage counts are made durable"),
    row!("contribution.anonymise_names", "CONTINUUM_CONTRIBUTION_ANONYMISE_NAMES", "contribution-anonymise-names", contribution.anonymise_names,
        "Fields dropped from contributed concepts besides the built-in ones; the same on every node, for what is left decides whether two concepts are one"),
    row!("contribution.anonymise_prefixes", "CONTINUUM_CONTRIBUTION_ANONYMISE_PREFIXES", "contribution-anonymise-prefixes", contribution.anonymise_prefixes,
        "Also drop fields whose names begin so"),
    row!("contribution.anonymise_suffixes", "CONTINUUM_CONTRIBUTION_ANONYMISE_SUFFIXES", "contribution-anonymise-suffixes", contribution.anonymise_suffixes,
        "Also drop fields whose names end so"),
    row!("http.connections_max", "CONTINUUM_HTTP_CONNECTIONS_MAX", "http-connections-max", http.connections_max,
        "Connections served at once by each face, HTTP and gRPC"),
    row!("http.connections_per_address_max", "CONTINUUM_HTTP_CONNECTIONS_PER_ADDRESS_MAX", "http-connections-per-address-max", http.connections_per_address_max,
        "Connections served at once from one address; loopback has no such limit"),
    row!("http.header_timeout_ms", "CONTINUUM_HTTP_HEADER_TIMEOUT_MS", "http-header-timeout-ms", http.header_timeout_ms,
        "Time a client has to send request line and headers"),
    row!("http.body_timeout_ms", "CONTINUUM_HTTP_BODY_TIMEOUT_MS", "http-body-timeout-ms", http.body_timeout_ms,
        "Time a client has to send the body, on a gRPC stream each message"),
    row!("http.idle_timeout_ms", "CONTINUUM_HTTP_IDLE_TIMEOUT_MS", "http-idle-timeout-ms", http.idle_timeout_ms,
        "A connection without a request is closed after this long"),
    row!("http.write_timeout_ms", "CONTINUUM_HTTP_WRITE_TIMEOUT_MS", "http-write-timeout-ms", http.write_timeout_ms,
        "A client that takes less than 64 KiB of what waits for it in this time is let go"),
    row!("log.level", "CONTINUUM_LOG_LEVEL", "log-level", log.level,
        "error, warn, info, debug, trace, or directives such as info,continuum_server=debug"),
    row!("log.format", "CONTINUUM_LOG_FORMAT", "log-format", log.format,
        "Form of log lines; auto is text on a terminal and JSON otherwise"),
    row!("runtime.worker_threads", "CONTINUUM_RUNTIME_WORKER_THREADS", "runtime-worker-threads", runtime.worker_threads,
        "Threads that serve requests; 0 is one per processor, at most 8"),
    row!("runtime.shutdown_timeout_ms", "CONTINUUM_RUNTIME_SHUTDOWN_TIMEOUT_MS", "runtime-shutdown-timeout-ms", runtime.shutdown_timeout_ms,
        "Time for requests under way to finish after SIGTERM"),
    row!("tls.cert", "CONTINUUM_TLS_CERT", "tls-cert", tls.cert,
        "Certificate chain of this node, PEM: gRPC is served over TLS 1.3, and HTTP too beyond loopback"),
    row!("tls.key", "CONTINUUM_TLS_KEY", "tls-key", tls.key,
        "Private key of this node, PEM"),
    row!("tls.ca", "CONTINUUM_TLS_CA", "tls-ca", tls.ca,
        "Authority of the cluster, PEM: callers of gRPC must show a certificate that it signed"),
    row!("discovery.methods", "CONTINUUM_DISCOVERY_METHODS", "discovery-methods", discovery.methods,
        "How other nodes are found: dns, mdns, bootstrap, gossip, static",
        awaits "discovery"),
    row!("dns_domain", "CONTINUUM_DNS_DOMAIN", "dns-domain", discovery.dns_domain,
        "Name whose SRV records list the nodes",
        awaits "discovery"),
    row!("bootstrap_nodes", "CONTINUUM_BOOTSTRAP_NODES", "bootstrap", discovery.bootstrap_nodes,
        "HOST:PORT of nodes to try first; with bootstrap_expect, of the nodes to form a cluster with",
        alias "BOOTSTRAP_NODES"),
    row!("bootstrap_expect", "CONTINUUM_BOOTSTRAP_EXPECT", "bootstrap-expect", discovery.bootstrap_expect,
        "So many nodes without data, this one and those of bootstrap_nodes, form a cluster once all of them agree; 0: none do"),
    row!("raft.election_timeout", "CONTINUUM_RAFT_ELECTION_TIMEOUT", "raft-election-timeout", raft.election_timeout_ms,
        "Shortest and longest wait before an election, milliseconds"),
    row!("raft.heartbeat_interval", "CONTINUUM_RAFT_HEARTBEAT_INTERVAL", "raft-heartbeat-interval", raft.heartbeat_interval_ms,
        "Time between heartbeats of a leader, milliseconds"),
    row!("raft.snapshot_entries", "CONTINUUM_RAFT_SNAPSHOT_ENTRIES", "raft-snapshot-entries", raft.snapshot_entries,
        "A snapshot every so many entries of the log; bounds the log and how much of it is applied again at start"),
    row!("raft.keep_entries", "CONTINUUM_RAFT_KEEP_ENTRIES", "raft-keep-entries", raft.keep_entries,
        "Entries of the log kept behind a snapshot, so that a member that is a little late needs no snapshot"),
    row!("gossip.fanout", "CONTINUUM_GOSSIP_FANOUT", "gossip-fanout", gossip.fanout,
        "Peers told in each round",
        awaits "gossip"),
    row!("gossip.interval", "CONTINUUM_GOSSIP_INTERVAL", "gossip-interval", gossip.interval_ms,
        "Time between rounds, milliseconds",
        awaits "gossip"),
];

/// What to say of a name nobody knows: the nearest one, when one is near.
pub(super) fn unknown<'a>(what: &str, name: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    let nearest = candidates.map(|known| (distance(name, known), known)).min();
    match nearest {
        Some((distance, known)) if distance <= SUGGESTION_DISTANCE_MAX.min(name.len() / 3 + 1) => {
            format!("unknown {what} `{name}`, did you mean `{known}`?")
        }
        _ => format!("unknown {what} `{name}`; `continuumd config print` lists all that are known"),
    }
}

/// Further off than this a suggestion would only confuse.
const SUGGESTION_DISTANCE_MAX: usize = 8;

/// Levenshtein's distance: single-character insertions, deletions and replacements between two names.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for (row, left) in left.chars().enumerate() {
        let mut diagonal = previous[0];
        previous[0] = row + 1;
        for (column, right) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = previous[column + 1];
            previous[column + 1] = replaced.min(diagonal + 1).min(previous[column] + 1);
        }
    }
    previous[right.len()]
}
