//! The metrics there are: the one list that the encoder, the documentation and the checks of the boards read.

/// What a metric is to Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Only rises; begins at 0 with the process.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Durations by size.
    Histogram,
}

/// A metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name; of a histogram without `_bucket`, `_sum`, `_count`.
    pub name: &'static str,
    /// What it is to Prometheus.
    pub kind: Type,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, with its unit.
    pub help: &'static str,
    /// How many time series of it there can be.
    pub bound: &'static str,
}

const fn metric(
    name: &'static str,
    kind: Type,
    labels: &'static [&'static str],
    bound: &'static str,
    help: &'static str,
) -> Metric {
    Metric { name, kind, labels, help, bound }
}

use Type::{Counter, Gauge, Histogram};

/// All of them, in the order in which they are exposed.
pub const METRICS: &[Metric] = &[
    metric("messages_processed_total", Counter, &[], "1", "Rows that were read and committed"),
    metric(
        "anomalies_detected_total",
        Counter,
        &["metric_type"],
        "101: 100 values and `other`",
        "Anomalies by the last column of the series' key, empty when a key has one column",
    ),
    metric(
        "current_sensor_value",
        Gauge,
        &["(the key's columns)"],
        "1,000 for each task and detector",
        "The latest value of a series, looked at once a second; the labels are the columns of the series' key",
    ),
    metric(
        "processing_latency_seconds",
        Histogram,
        &[],
        "1",
        "How long each row took from being read to being committed in all sinks",
    ),
    metric("pipeline_info", Gauge, &["name", "version"], "1", "1; the labels say what runs"),
    metric("pipeline_start_time_seconds", Gauge, &[], "1", "When the run began, in seconds since 1970"),
    metric(
        "pipeline_stage_rows_total",
        Counter,
        &["stage", "kind", "outcome"],
        "6 for each stage",
        "The books: rows that came `in`, were `created`, went `out`, were `filtered`, `dead` (letters) or `late`",
    ),
    metric("pipeline_stage_held_rows", Gauge, &["stage"], "1 for each stage", "The books: rows a stage holds back"),
    metric(
        "pipeline_stage_imbalance_rows",
        Gauge,
        &["stage"],
        "1 for each stage",
        "What came in minus what went somewhere; other than 0 is a defect",
    ),
    metric(
        "pipeline_stage_busy_seconds_total",
        Counter,
        &["stage"],
        "1 for each transform and detector",
        "How long the code of a stage ran",
    ),
    metric(
        "pipeline_edge_rows_total",
        Counter,
        &["from", "to"],
        "1 for each edge",
        "Rows that came by an edge, before `when:`",
    ),
    metric("pipeline_edge_bytes_total", Counter, &["from", "to"], "1 for each edge", "Their size in memory in bytes"),
    metric("pipeline_source_bytes_total", Counter, &["stage"], "1 for each source", "Bytes that were read"),
    metric("pipeline_lag_rows", Gauge, &["task"], "1 for each partition owned", "Rows that are there and not read yet"),
    metric("pipeline_tasks", Gauge, &["phase"], "2", "Tasks of this process that are `restoring` or `live`"),
    metric("pipeline_epochs_total", Counter, &[], "1", "Epochs that were committed"),
    metric("pipeline_epoch", Gauge, &["task"], "1 for each partition owned", "The last epoch that was committed"),
    metric(
        "pipeline_epoch_commit_seconds",
        Histogram,
        &[],
        "1",
        "How long an epoch took from its end to its commit in all sinks",
    ),
    metric(
        "pipeline_last_commit_age_seconds",
        Gauge,
        &["task"],
        "1 for each partition owned",
        "How long ago an epoch was committed; tasks without new rows commit nothing",
    ),
    metric(
        "pipeline_sink_commit_seconds",
        Histogram,
        &["stage"],
        "1 for each sink that takes epochs",
        "How long a sink took to take an epoch, with the time it was out of reach",
    ),
    metric(
        "pipeline_backpressure_seconds_total",
        Counter,
        &[],
        "1",
        "How long tasks had an epoch to commit and had to wait for a sink or the state store",
    ),
    metric("pipeline_checkpoints_total", Counter, &[], "1", "Checkpoints that were published"),
    metric("pipeline_checkpoint_bytes_total", Counter, &[], "1", "What was written for checkpoints, in bytes"),
    metric(
        "pipeline_checkpoint_age_seconds",
        Gauge,
        &["task"],
        "1 for each partition owned",
        "How long ago a checkpoint was published, or the task began",
    ),
    metric(
        "pipeline_checkpoint_size_bytes",
        Gauge,
        &["task"],
        "1 for each partition owned",
        "The size of the last checkpoint: what had changed since the one before, or all state where most had",
    ),
    metric(
        "pipeline_checkpoint_seconds",
        Gauge,
        &["task"],
        "1 for each partition owned",
        "How long the last checkpoint took to write, beside the rows",
    ),
    metric("pipeline_series", Gauge, &["stage"], "1 for each detector", "Series that a detector keeps"),
    metric(
        "pipeline_state_bytes",
        Gauge,
        &["stage"],
        "1 for each detector",
        "About how much memory they take, in bytes",
    ),
    metric("pipeline_outbox_waiting", Gauge, &["stage"], "1 for each outbox", "Alerts that wait to be delivered"),
    metric("pipeline_outbox_limit", Gauge, &["stage"], "1 for each outbox", "How many may wait before it is full"),
    metric("pipeline_outbox_delivered_total", Counter, &["stage"], "1 for each outbox", "Alerts that were delivered"),
    metric(
        "pipeline_dead_letters_total",
        Counter,
        &["stage", "reason"],
        "21 for each stage: 20 reasons and `other`",
        "Dead letters by reason; values in reasons are left out",
    ),
    metric(
        "pipeline_failures_total",
        Counter,
        &["what"],
        "1 for each stage and for the state store",
        "How often something stopped working and was tried again",
    ),
    metric(
        "pipeline_failing",
        Gauge,
        &["what"],
        "1 for each stage and for the state store",
        "1 while something does not work and is tried again",
    ),
    metric("pipeline_rows_recomputed_total", Counter, &[], "1", "Rows that were read again to restore state"),
];

/// The page `docs/metrics.md`.
pub fn documentation() -> String {
    let mut page = String::from(HEAD);
    for Metric { name, kind, labels, help, bound } in METRICS {
        let kind = match kind {
            Counter => "counter",
            Gauge => "gauge",
            Histogram => "histogram",
        };
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        page.push_str(&format!("| `{name}` | {kind} | {} | {help}. | {bound} |\n", labels.join(", ")));
    }
    page
}

const HEAD: &str = "# Metrics

`pipeline run` answers on `/metrics` of its dashboard's address, in Prometheus' text format, or in OpenMetrics if asked for it.
The figures are those of the ledger: after a run they equal the books it prints, and what is in the tables.
They count what this process has committed since it began.

`messages_processed_total`, `anomalies_detected_total`, `current_sensor_value` and `processing_latency_seconds` are called as in hand-written consumers, so that boards for those keep working.
Everything else begins with `pipeline_`.

How many time series there can be is bounded; the last column says by what.
Histograms have the limits 1, 2.5, 5, 10, 25, 50, 100, 250, 500 ms and 1, 2.5, 5, 10, 30, 60 s.

This page is generated from `engine/dashboard/src/metrics/table.rs`.

| name | type | labels | what it says | time series |
|---|---|---|---|---|
";
