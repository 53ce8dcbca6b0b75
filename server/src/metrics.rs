//! What the node counts, each metric with its help, in Prometheus' own conventions.
//!
//! A metric exists only through a row of [`ALL`], so none can lack its help. Each node has its own registry: nothing here
//! is global to the process. The HTTP face renders it at `/metrics`; nothing is pushed and no port is opened.
//!
//! The module refuses to know what the numbers mean to anyone: components hold the handles they count with.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// What kind of number it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution over these buckets.
    Histogram(&'static [f64]),
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, with the unit and `_total` as Prometheus wants them.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// What it tells an operator, in one sentence.
    pub help: &'static str,
}

/// Seconds, from a tenth of a millisecond to ten seconds.
const SECONDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Counts, in powers of two.
const COUNTS: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0,
];

/// Always 1; its label says which build runs.
pub const BUILD: Metric = gauge(
    "continuum_build_info",
    "Always 1; the label version says which build runs.",
);
/// Resident memory.
pub const RESIDENT: Metric = gauge(
    "process_resident_memory_bytes",
    "Memory of the process that is resident.",
);
/// Last committed LSN.
pub const COMMITTED: Metric = gauge(
    "continuum_engine_committed_lsn",
    "Sequence number of the last record that is durable and applied.",
);
/// Syncs.
pub const SYNCS: Metric = counter(
    "continuum_engine_syncs_total",
    "Calls of fdatasync on the log, one for each group of records; the rise of the committed LSN over this is the group's size.",
);
/// Bytes of log.
pub const LOG_BYTES: Metric = counter("continuum_engine_log_bytes_total", "Bytes written to the log.");
/// `fdatasync`.
pub const SYNC_SECONDS: Metric = histogram(
    "continuum_engine_sync_duration_seconds",
    SECONDS,
    "Time one fdatasync of the log took.",
);
/// Bytes waiting for the committer.
pub const ENGINE_QUEUE: Metric = gauge("continuum_engine_queue_bytes", "Bytes of writes waiting for the log.");
/// A clock that ran ahead once.
pub const LEDGER_AHEAD: Metric = gauge(
    "continuum_ledger_ahead_seconds",
    "How far ledger time, which never goes back, is ahead of this machine's clock; hourly limits stand still until the clock has caught up.",
);
/// Free space.
pub const DISK_FREE: Metric = gauge(
    "continuum_engine_disk_free_bytes",
    "Free space on the disk of the data directory, looked at every second.",
);
/// The mark for writes.
pub const DISK_NEEDED: Metric = gauge(
    "continuum_engine_disk_needed_bytes",
    "Free space that writes need: with no more than this they are refused, deletes still work.",
);
/// Compactions stopped.
pub const COMPACTIONS_OFF: Metric = gauge(
    "continuum_engine_compactions_off",
    "1 while the disk has too little room for a compaction of the database, otherwise 0.",
);
/// Commands decided.
pub const COMMANDS: Metric = counter("continuum_sequencer_commands_total", "Commands decided by the ledger.");
/// Commands decided together.
pub const COMMAND_BATCH: Metric = histogram(
    "continuum_sequencer_batch_commands",
    COUNTS,
    "Commands that were decided and committed as one batch.",
);
/// Commands waiting.
pub const COMMAND_QUEUE: Metric = gauge("continuum_sequencer_queue_commands", "Commands waiting for their turn.");
/// From proposal to durable answer.
pub const COMMAND_SECONDS: Metric = histogram(
    "continuum_sequencer_command_duration_seconds",
    SECONDS,
    "Time from the proposal of a command to its durable answer.",
);
/// Raft's term.
pub const RAFT_TERM: Metric = gauge(
    "continuum_raft_term",
    "Raft's present term; it rises with each election.",
);
/// Whether this node leads.
pub const RAFT_LEADS: Metric = gauge(
    "continuum_raft_leader",
    "1 while this node leads its cluster, otherwise 0.",
);
/// New leaders.
pub const RAFT_LEADER_CHANGES: Metric = counter(
    "continuum_raft_leader_changes_total",
    "Leaders this node has seen come, its own first one included.",
);
/// The last entry.
pub const RAFT_LAST: Metric = gauge("continuum_raft_last_index", "Index of the last entry in raft's log.");
/// The last committed entry.
pub const RAFT_COMMITTED: Metric = gauge(
    "continuum_raft_committed_index",
    "Index of the last entry that a majority has and this node knows of.",
);
/// The last applied entry.
pub const RAFT_APPLIED: Metric = gauge(
    "continuum_raft_applied_index",
    "Index of the last entry whose effects are in the ledger; behind the committed index while there is work.",
);
/// The last entry of the snapshot.
pub const RAFT_SNAPSHOT: Metric = gauge(
    "continuum_raft_snapshot_index",
    "Index of the last entry in the latest snapshot; the log may be purged up to there.",
);
/// Entries in the log.
pub const RAFT_LOG_ENTRIES: Metric = gauge(
    "continuum_raft_log_entries",
    "Entries in raft's log; more than the snapshot interval and what is kept behind it means that snapshots fail.",
);
/// Bytes appended.
pub const RAFT_APPENDED_BYTES: Metric = counter(
    "continuum_raft_appended_bytes_total",
    "Bytes of entries that were appended to raft's log.",
);
/// From append to sync.
pub const RAFT_APPEND_SECONDS: Metric = histogram(
    "continuum_raft_append_duration_seconds",
    SECONDS,
    "Time from an append to raft's log until it is synced.",
);
/// This node's clock against the voters'.
pub const CLOCK_OFF: Metric = gauge(
    "continuum_clock_off_seconds",
    "How far this machine's clock is ahead of the median of the voters' clocks, beyond what their distance leaves in doubt; negative behind it, 0 while that is not known.",
);
/// What a member lacks.
pub const PEER_LAG: Metric = gauge(
    "continuum_peer_lag_entries",
    "Entries of raft's log that the member is not known to have; told by the node that leads.",
);
/// When a member was heard last.
pub const PEER_HEARD: Metric = gauge(
    "continuum_peer_heard_seconds",
    "Time since the member last called this node or answered it.",
);
/// A member's clock against this node's.
pub const PEER_CLOCK: Metric = gauge(
    "continuum_peer_clock_ahead_seconds",
    "How far the member's clock is ahead of this machine's, negative behind it; as of the last second.",
);
/// Connections to a member.
pub const PEER_CONNECTIONS: Metric = gauge(
    "continuum_peer_connections",
    "Connections to the member that this node has made and that are open: 0 while it cannot be reached.",
);
/// Bytes to a member.
pub const PEER_SENT: Metric = counter(
    "continuum_peer_sent_bytes_total",
    "Bytes sent to the member over connections that this node has made, before encryption.",
);
/// Bytes from a member.
pub const PEER_RECEIVED: Metric = counter(
    "continuum_peer_received_bytes_total",
    "Bytes received from the member over connections that this node has made, after decryption.",
);
/// Images sent.
pub const PEER_IMAGE_SENT: Metric = counter(
    "continuum_peer_image_sent_bytes_total",
    "Bytes of the ledger's images sent to the member because it was too far behind for the log.",
);
/// Images received.
pub const IMAGE_RECEIVED: Metric = counter(
    "continuum_raft_image_received_bytes_total",
    "Bytes of the ledger's images received from other members.",
);
/// Images resumed.
pub const IMAGE_RESUMED: Metric = counter(
    "continuum_raft_image_resumed_bytes_total",
    "Bytes of images that were here already when the rest was sent: what a connection that broke did not cost.",
);
/// An image that comes.
pub const IMAGE_COMING: Metric = gauge(
    "continuum_raft_image_coming_bytes",
    "Bytes that are here of the image that is being received; 0 while none is.",
);
/// Its size.
pub const IMAGE_COMING_SIZE: Metric = gauge(
    "continuum_raft_image_coming_size_bytes",
    "Size of the image that is being received; 0 while none is.",
);
/// HTTP requests, by route, method and status.
pub const HTTP_REQUESTS: Metric = counter(
    "continuum_http_requests_total",
    "HTTP requests answered, by route, method and status.",
);
/// HTTP latency, by route.
pub const HTTP_SECONDS: Metric = histogram(
    "continuum_http_request_duration_seconds",
    SECONDS,
    "Time to answer an HTTP request, by route.",
);
/// gRPC calls, by method and code.
pub const GRPC_REQUESTS: Metric = counter(
    "continuum_grpc_requests_total",
    "gRPC calls answered, by method and status code.",
);
/// gRPC latency, by method.
pub const GRPC_SECONDS: Metric = histogram(
    "continuum_grpc_request_duration_seconds",
    SECONDS,
    "Time to answer a gRPC call, by method.",
);
/// Connections open, by face.
pub const CONNECTIONS: Metric = gauge("continuum_connections", "Connections open now, by face.");
/// Concepts, new to the pool or known.
pub const CONTRIBUTED: Metric = counter(
    "continuum_contribution_concepts_total",
    "Concepts contributed, by result: new ones earn credit, duplicates only attribution.",
);
/// Refusals, by reason.
pub const REFUSED: Metric = counter(
    "continuum_contribution_refusals_total",
    "Contribution and knowledge requests refused, by reason.",
);
/// Concepts handed out.
pub const DELIVERED: Metric = counter(
    "continuum_contribution_delivered_total",
    "Concepts handed out to knowledge requests.",
);
/// Searches.
pub const SEARCH_SECONDS: Metric = histogram(
    "continuum_search_duration_seconds",
    SECONDS,
    "Time a search of the pool took, without charging for it and without waiting for the index.",
);
/// Waits for the index.
pub const SEARCH_WAIT_SECONDS: Metric = histogram(
    "continuum_search_wait_seconds",
    SECONDS,
    "Time a knowledge request waited for the search index to reach what it paid for.",
);
/// Concepts in the index.
pub const SEARCH_CONCEPTS: Metric = gauge("continuum_search_concepts", "Concepts in the search index.");
/// Memory of the index.
pub const SEARCH_BYTES: Metric = gauge("continuum_search_memory_bytes", "Memory held by the search index.");

/// Every metric there is.
pub const ALL: &[Metric] = &[
    BUILD,
    RESIDENT,
    COMMITTED,
    SYNCS,
    LOG_BYTES,
    SYNC_SECONDS,
    ENGINE_QUEUE,
    LEDGER_AHEAD,
    DISK_FREE,
    DISK_NEEDED,
    COMPACTIONS_OFF,
    COMMANDS,
    COMMAND_BATCH,
    COMMAND_QUEUE,
    COMMAND_SECONDS,
    RAFT_TERM,
    RAFT_LEADS,
    RAFT_LEADER_CHANGES,
    RAFT_LAST,
    RAFT_COMMITTED,
    RAFT_APPLIED,
    RAFT_SNAPSHOT,
    RAFT_LOG_ENTRIES,
    RAFT_APPENDED_BYTES,
    RAFT_APPEND_SECONDS,
    CLOCK_OFF,
    PEER_LAG,
    PEER_HEARD,
    PEER_CLOCK,
    PEER_CONNECTIONS,
    PEER_SENT,
    PEER_RECEIVED,
    PEER_IMAGE_SENT,
    IMAGE_RECEIVED,
    IMAGE_RESUMED,
    IMAGE_COMING,
    IMAGE_COMING_SIZE,
    HTTP_REQUESTS,
    HTTP_SECONDS,
    GRPC_REQUESTS,
    GRPC_SECONDS,
    CONNECTIONS,
    CONTRIBUTED,
    REFUSED,
    DELIVERED,
    SEARCH_SECONDS,
    SEARCH_WAIT_SECONDS,
    SEARCH_CONCEPTS,
    SEARCH_BYTES,
];

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Counter,
        help,
    }
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Gauge,
        help,
    }
}

const fn histogram(name: &'static str, buckets: &'static [f64], help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Histogram(buckets),
        help,
    }
}

const METADATA: Metadata<'static> = Metadata::new("continuum", Level::INFO, None);

/// Labels of one series: names from the code, values that stay few (routes, never paths or node ids).
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// A node's registry; clones share it.
#[derive(Clone)]
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    /// Reads what has no event of its own, at each scrape.
    sample: Arc<OnceLock<Sample>>,
    /// Series that come and go.
    rows: Arc<OnceLock<Rows>>,
}

type Sample = Box<dyn Fn() + Send + Sync>;
type Rows = Box<dyn Fn() -> Vec<Row> + Send + Sync>;

/// A number of something that comes and goes, as members do: its series is there while it is.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which metric, no histogram.
    pub metric: Metric,
    /// Of what: a label and its value.
    pub label: (&'static str, String),
    /// What it is now.
    pub value: f64,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    /// A registry in which every metric of [`ALL`] is described and nothing is counted yet.
    ///
    /// # Panics
    /// When a row of [`ALL`] has a histogram without buckets.
    #[must_use]
    pub fn new() -> Metrics {
        let mut builder = PrometheusBuilder::new();
        for metric in ALL {
            if let Kind::Histogram(buckets) = metric.kind {
                let matcher = Matcher::Full(metric.name.to_owned());
                builder = builder
                    .set_buckets_for_metric(matcher, buckets)
                    .expect("every histogram names its buckets");
            }
        }
        let recorder = builder.build_recorder();
        for metric in ALL {
            let name = KeyName::from_const_str(metric.name);
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, None, metric.help.into()),
                Kind::Gauge => recorder.describe_gauge(name, None, metric.help.into()),
                Kind::Histogram(_) => recorder.describe_histogram(name, None, metric.help.into()),
            }
        }
        let handle = recorder.handle();
        let metrics = Metrics {
            recorder: Arc::new(recorder),
            handle,
            sample: Arc::default(),
            rows: Arc::default(),
        };
        metrics.gauge(BUILD, &[("version", env!("CARGO_PKG_VERSION"))]).set(1.0);
        metrics
    }

    /// The handle of one counter; keep it where it is used often.
    pub fn counter(&self, metric: Metric, labels: Labels<'_>) -> Counter {
        debug_assert_eq!(metric.kind, Kind::Counter, "{}", metric.name);
        self.recorder.register_counter(&key(metric, labels), &METADATA)
    }

    /// The handle of one gauge.
    pub fn gauge(&self, metric: Metric, labels: Labels<'_>) -> Gauge {
        debug_assert_eq!(metric.kind, Kind::Gauge, "{}", metric.name);
        self.recorder.register_gauge(&key(metric, labels), &METADATA)
    }

    /// The handle of one histogram.
    pub fn histogram(&self, metric: Metric, labels: Labels<'_>) -> Histogram {
        debug_assert!(matches!(metric.kind, Kind::Histogram(_)), "{}", metric.name);
        self.recorder.register_histogram(&key(metric, labels), &METADATA)
    }

    /// Has `sample` called before each rendering, to set gauges of what has no event of its own. The first one stays.
    pub fn sample_with(&self, sample: impl Fn() + Send + Sync + 'static) {
        let _first_stays = self.sample.set(Box::new(sample));
    }

    /// Has what `rows` says added to each rendering, and nothing of what it said before. The first one stays.
    pub fn rows_with(&self, rows: impl Fn() -> Vec<Row> + Send + Sync + 'static) {
        let _first_stays = self.rows.set(Box::new(rows));
    }

    /// The text Prometheus scrapes (`text/plain; version=0.0.4`).
    #[must_use]
    pub fn render(&self) -> String {
        if let Some(sample) = self.sample.get() {
            sample();
        }
        let mut text = self.handle.render();
        if let Some(rows) = self.rows.get() {
            write_rows(&rows(), &mut text);
        }
        text
    }

    /// Folds samples into their buckets; without a scrape or this, every few seconds, they would pile up.
    pub fn fold(&self) {
        self.handle.run_upkeep();
    }
}

/// Rows as Prometheus reads them, those of one metric together.
fn write_rows(rows: &[Row], text: &mut String) {
    for metric in ALL {
        let mut head = Some(match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => continue,
        });
        for row in rows.iter().filter(|row| row.metric.name == metric.name) {
            let (name, help) = (metric.name, metric.help);
            if let Some(kind) = head.take() {
                text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
            }
            let (label, value) = &row.label;
            // Of all characters only these mean something there.
            let value = value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
            text.push_str(&format!("{name}{{{label}=\"{value}\"}} {}\n", row.value));
        }
    }
}

fn key(metric: Metric, labels: Labels<'_>) -> Key {
    if labels.is_empty() {
        return Key::from_static_name(metric.name);
    }
    let labels: Vec<Label> = labels
        .iter()
        .map(|(name, value)| Label::new(*name, (*value).to_owned()))
        .collect();
    Key::from_parts(metric.name, labels)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn touch_all(metrics: &Metrics) {
        for metric in ALL {
            match metric.kind {
                Kind::Counter => metrics.counter(*metric, &[]).increment(1),
                Kind::Gauge => metrics.gauge(*metric, &[]).set(1.0),
                Kind::Histogram(_) => metrics.histogram(*metric, &[]).record(0.5),
            }
        }
    }

    #[test]
    fn every_metric_has_help_and_a_prometheus_name() {
        let metrics = Metrics::new();
        touch_all(&metrics);
        let text = metrics.render();
        let names = |prefix: &str| -> BTreeSet<&str> {
            let lines = text.lines().filter_map(|line| line.strip_prefix(prefix));
            lines.filter_map(|line| line.split(' ').next()).collect()
        };
        assert_eq!(names("# TYPE "), names("# HELP "), "{text}");
        assert_eq!(names("# TYPE ").len(), ALL.len(), "each name once");
        for metric in ALL {
            assert!(metric.help.ends_with('.') && metric.help.len() > 20, "{}", metric.name);
            assert_eq!(
                metric.kind == Kind::Counter,
                metric.name.ends_with("_total"),
                "{}",
                metric.name
            );
        }
    }

    #[test]
    fn labels_make_series_and_histograms_have_their_own_buckets() {
        let metrics = Metrics::new();
        metrics
            .counter(HTTP_REQUESTS, &[("route", "/health"), ("status", "200")])
            .increment(2);
        metrics.histogram(SYNC_SECONDS, &[]).record(0.000_2);
        metrics.fold();
        let text = metrics.render();
        assert!(
            text.contains(r#"continuum_http_requests_total{route="/health",status="200"} 2"#),
            "{text}"
        );
        assert!(
            text.contains(r#"continuum_engine_sync_duration_seconds_bucket{le="0.0001"} 0"#),
            "{text}"
        );
        assert!(
            text.contains(r#"continuum_engine_sync_duration_seconds_bucket{le="0.00025"} 1"#),
            "{text}"
        );
        assert!(text.contains("continuum_build_info{version="), "{text}");
    }

    #[test]
    fn what_comes_and_goes_leaves_nothing_behind() {
        let metrics = Metrics::new();
        let members = Arc::new(parking_lot::Mutex::new(vec!["n1".to_owned(), "n\"2".to_owned()]));
        let told = Arc::clone(&members);
        metrics.rows_with(move || {
            let row = |metric, name: &String| Row {
                metric,
                label: ("member", name.clone()),
                value: 1.5,
            };
            let members = told.lock();
            let each = members
                .iter()
                .flat_map(|name| [row(PEER_LAG, name), row(PEER_SENT, name)]);
            each.collect()
        });
        let text = metrics.render();
        for line in [
            "# TYPE continuum_peer_lag_entries gauge",
            "# TYPE continuum_peer_sent_bytes_total counter",
            r#"continuum_peer_lag_entries{member="n1"} 1.5"#,
            r#"continuum_peer_sent_bytes_total{member="n\"2"} 1.5"#,
        ] {
            assert_eq!(text.lines().filter(|found| *found == line).count(), 1, "{line}: {text}");
        }
        assert_eq!(text.matches("# HELP continuum_peer_").count(), 2, "{text}");
        members.lock().remove(1);
        assert!(!metrics.render().contains("n\\\"2") && metrics.render().contains("n1"));
        members.lock().clear();
        assert!(!metrics.render().contains("continuum_peer_"));
    }

    #[test]
    fn two_nodes_of_one_process_count_apart() {
        let (one, other) = (Metrics::new(), Metrics::new());
        one.counter(COMMANDS, &[]).increment(7);
        assert!(one.render().contains("continuum_sequencer_commands_total 7"));
        assert!(!other.render().contains("continuum_sequencer_commands_total 7"));
    }
}
