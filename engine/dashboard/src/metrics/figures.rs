//! The figures of all metrics at a moment.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use pipeline_runtime::run::Counts;
use pipeline_runtime::run::health;
use pipeline_runtime::run::view::{Sample, TaskPhase, TaskView, Totals};
use pipeline_stage::{ColumnType, Kind};
use tokio::time::Instant;

use super::{Figure, Value};
use crate::watched::Watched;

/// The figures of all metrics now.
pub fn figures(watched: &Watched) -> Vec<Figure> {
    let snapshot = watched.progress.snapshot();
    let totals = watched.progress.view.totals();
    let mut all = Collected(Vec::new());
    all.run(watched, &totals);
    let sources = watched.plan.stages.iter().zip(&snapshot.stages).filter(|(stage, _)| stage.kind == Kind::Source);
    all.count("messages_processed_total", &[], sources.map(|(_, counts)| counts.rows_in).sum());
    for (stage, counts) in snapshot.stages.iter().enumerate() {
        all.books(watched, stage, (counts, snapshot.held[stage]));
        all.work(watched, stage, &totals);
    }
    all.count("pipeline_rows_recomputed_total", &[], snapshot.replayed_rows);
    all.anomalies(&totals);
    all.tasks(watched);
    all.outboxes(watched, &totals);
    all.health();
    all.0
}

struct Collected(Vec<Figure>);

type Labels<'a> = &'a [(&'a str, &'a str)];

impl Collected {
    fn add(&mut self, name: &'static str, labels: Labels<'_>, value: Value) {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.0.push(Figure { name, labels, value });
    }

    fn count(&mut self, name: &'static str, labels: Labels<'_>, count: u64) {
        self.add(name, labels, Value::Count(count));
    }

    fn level(&mut self, name: &'static str, labels: Labels<'_>, level: f64) {
        self.add(name, labels, Value::Level(level));
    }

    fn run(&mut self, watched: &Watched, totals: &Totals) {
        let info = [("name", watched.plan.settings.name.as_str()), ("version", watched.version)];
        self.level("pipeline_info", &info, 1.0);
        let began = watched.began_at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        self.level("pipeline_start_time_seconds", &[], began.as_secs_f64());
        self.add("processing_latency_seconds", &[], Value::Durations(Box::new(totals.latency)));
        self.count("pipeline_epochs_total", &[], totals.epochs);
        self.add("pipeline_epoch_commit_seconds", &[], Value::Durations(Box::new(totals.epoch_commits)));
        self.add("pipeline_backpressure_seconds_total", &[], Value::Sum(totals.waited.as_secs_f64()));
        self.count("pipeline_checkpoints_total", &[], totals.checkpoints);
        self.count("pipeline_checkpoint_bytes_total", &[], totals.checkpoint_bytes);
    }

    fn books(&mut self, watched: &Watched, number: usize, (counts, held): (&Counts, u64)) {
        let stage = &watched.plan.stages[number];
        let outcomes = [
            ("in", counts.rows_in),
            ("created", counts.created),
            ("out", counts.out),
            ("filtered", counts.filtered),
            ("dead", counts.dead),
            ("late", counts.late),
        ];
        for (outcome, rows) in outcomes {
            let labels = [("stage", stage.id.as_str()), ("kind", stage.kind.name()), ("outcome", outcome)];
            self.count("pipeline_stage_rows_total", &labels, rows);
        }
        let label = [("stage", stage.id.as_str())];
        self.level("pipeline_stage_held_rows", &label, held as f64);
        let came = counts.held_before + counts.rows_in + counts.created;
        let went = counts.out + counts.filtered + counts.dead + counts.late + counts.held;
        self.level("pipeline_stage_imbalance_rows", &label, came as f64 - went as f64);
    }

    fn work(&mut self, watched: &Watched, number: usize, totals: &Totals) {
        let (stage, work) = (&watched.plan.stages[number], &totals.work[number]);
        let label = [("stage", stage.id.as_str())];
        match stage.kind {
            Kind::Source => {
                let bytes = work.edges.iter().map(|edge| edge.bytes).sum();
                self.count("pipeline_source_bytes_total", &label, bytes);
            }
            Kind::Sink if 0 < totals.commits[number].count => {
                let commits = Value::Durations(Box::new(totals.commits[number]));
                self.add("pipeline_sink_commit_seconds", &label, commits);
            }
            Kind::Transform | Kind::Detector => {
                self.add("pipeline_stage_busy_seconds_total", &label, Value::Sum(work.busy.as_secs_f64()));
            }
            _ => {}
        }
        for (edge, input) in stage.inputs.iter().enumerate() {
            let came = work.edges.get(edge).copied().unwrap_or_default();
            let labels = [("from", watched.plan.stages[*input].id.as_str()), ("to", stage.id.as_str())];
            self.count("pipeline_edge_rows_total", &labels, came.rows);
            self.count("pipeline_edge_bytes_total", &labels, came.bytes);
        }
    }

    fn anomalies(&mut self, totals: &Totals) {
        for (metric, count) in totals.anomalies_by_metric() {
            self.count("anomalies_detected_total", &[("metric_type", metric)], count);
        }
    }

    fn tasks(&mut self, watched: &Watched) {
        let tasks = watched.progress.view.tasks();
        for (phase, name) in [(TaskPhase::Restoring, "restoring"), (TaskPhase::Live, "live")] {
            let count = tasks.values().filter(|task| task.phase == phase).count();
            self.level("pipeline_tasks", &[("phase", name)], count as f64);
        }
        for (name, task) in &tasks {
            self.task(name, task);
        }
        for (name, lag) in watched.progress.lags() {
            self.level("pipeline_lag_rows", &[("task", &name)], lag.left as f64);
        }
        for (number, stage) in watched.plan.stages.iter().enumerate() {
            let series = tasks.values().filter_map(|task| task.series.get(number).copied().flatten());
            let Some(series) = series.reduce(|sum, series| sum + series) else { continue };
            let label = [("stage", stage.id.as_str())];
            self.level("pipeline_series", &label, series as f64);
            if let Some(bytes) = stage.bytes_per_series {
                self.level("pipeline_state_bytes", &label, series as f64 * bytes as f64);
            }
        }
        self.values(watched, tasks.values());
    }

    fn task(&mut self, name: &str, task: &TaskView) {
        let label = [("task", name)];
        if let (Some(epoch), Some(at)) = (task.epoch, task.committed_at) {
            self.level("pipeline_epoch", &label, epoch as f64);
            self.level("pipeline_last_commit_age_seconds", &label, seconds_since(at));
        }
        let age = seconds_since(task.checkpoint.map_or(task.since, |checkpoint| checkpoint.at));
        self.level("pipeline_checkpoint_age_seconds", &label, age);
        if let Some(checkpoint) = task.checkpoint {
            self.level("pipeline_checkpoint_size_bytes", &label, checkpoint.bytes as f64);
            self.level("pipeline_checkpoint_seconds", &label, checkpoint.took.as_secs_f64());
        }
    }

    /// Two detectors of the same series have the same values: the first one's are given.
    fn values<'a>(&mut self, watched: &Watched, tasks: impl Iterator<Item = &'a TaskView>) {
        let stages = 0..watched.plan.stages.len();
        let names: Vec<_> = stages.map(|stage| watched.plan.series_key(stage).map(label_names)).collect();
        let samples: Vec<_> = tasks.flat_map(|task| task.samples.iter()).collect();
        self.0.extend(values_of(&names, &samples));
    }

    fn outboxes(&mut self, watched: &Watched, totals: &Totals) {
        let id = |stage: usize| watched.plan.stages[stage].id.as_str();
        for (stage, reason, count) in totals.reasons.iter() {
            self.count("pipeline_dead_letters_total", &[("stage", id(stage)), ("reason", reason)], count);
        }
        for outbox in watched.progress.view.outboxes() {
            let label = [("stage", id(outbox.stage))];
            self.level("pipeline_outbox_waiting", &label, outbox.waiting as f64);
            self.level("pipeline_outbox_limit", &label, outbox.max_waiting as f64);
            self.count("pipeline_outbox_delivered_total", &label, outbox.ends.delivered);
            for (reason, count) in outbox.ends.reasons.iter() {
                let labels = [("stage", id(outbox.stage)), ("reason", reason)];
                self.count("pipeline_dead_letters_total", &labels, count);
            }
        }
    }

    fn health(&mut self) {
        let failing: BTreeSet<String> = health::failing().into_iter().map(|failing| failing.what).collect();
        for (what, count) in health::failures() {
            self.count("pipeline_failures_total", &[("what", &what)], count);
            self.level("pipeline_failing", &[("what", &what)], f64::from(u8::from(failing.contains(&what))));
        }
    }
}

/// A figure for each series of the samples, once, by the labels that each stage's series have.
fn values_of(names: &[Option<Vec<String>>], samples: &[&Sample]) -> Vec<Figure> {
    let first_named = |own: &Option<Vec<String>>| names.iter().position(|others| others == own);
    let firsts: Vec<_> = names.iter().map(first_named).collect();
    let mut given = HashSet::with_capacity(samples.len());
    let mut figures = Vec::with_capacity(samples.len());
    for sample in samples {
        if let Some(names) = &names[sample.stage]
            && given.insert((firsts[sample.stage], &sample.key))
        {
            let labels = names.iter().cloned().zip(sample.key.iter().cloned()).collect();
            figures.push(Figure { name: "current_sensor_value", labels, value: Value::Level(sample.value) });
        }
    }
    figures
}

/// The labels of a series' key, each of another name.
fn label_names(key: Vec<(String, ColumnType)>) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(key.len());
    for (column, _) in key {
        let mut name = label_name(&column);
        while names.contains(&name) {
            name.push('_');
        }
        names.push(name);
    }
    names
}

fn seconds_since(at: Instant) -> f64 {
    at.elapsed().max(Duration::ZERO).as_secs_f64()
}

/// Prometheus' labels are letters, digits and `_`, and do not begin with a digit or `__`; columns are called as they like.
fn label_name(column: &str) -> String {
    let letters = column.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' });
    let name: String = letters.collect();
    let is_reserved = name.starts_with("__") || name.starts_with(|first: char| first.is_ascii_digit());
    if is_reserved || name.is_empty() { format!("key_{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_given_once_whoever_has_it() {
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let names = [None, names(&["sensor"]), names(&["sensor"]), names(&["room"])];
        let sample = |stage, key: &str, value| Sample { stage, key: vec![key.to_owned()], value };
        // Two tasks and two detectors with the same series, one with others that are called alike, one without any.
        let samples = [(1, "a", 1.0), (1, "b", 2.0), (1, "a", 3.0), (2, "a", 4.0), (3, "a", 5.0), (0, "a", 6.0)];
        let samples = samples.map(|(stage, key, value)| sample(stage, key, value));
        let given = values_of(&names, &samples.each_ref()).into_iter().map(|figure| (figure.labels, figure.value));
        let right = [("sensor", "a", 1.0), ("sensor", "b", 2.0), ("room", "a", 5.0)];
        let right = right.map(|(name, key, value)| (vec![(name.to_owned(), key.to_owned())], Value::Level(value)));
        assert_eq!(given.collect::<Vec<_>>(), right);
    }

    #[test]
    fn columns_become_labels_that_prometheus_takes() {
        for (column, label) in
            [("sensor_id", "sensor_id"), ("Größe (m)", "Gr__e__m_"), ("2nd", "key_2nd"), ("__a", "key___a")]
        {
            assert_eq!(label_name(column), label);
        }
    }
}
