//! How the pipeline is: what has happened between two looks.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pipeline_runtime::run::Snapshot;
use pipeline_runtime::run::health::{Failing, failing};
use pipeline_runtime::run::view::{OutboxView, TaskPhase, TaskView, Totals};
use pipeline_stage::Kind;
use serde::Serialize;
use tokio::time::Instant;

use crate::health::readiness;
use crate::watched::Watched;

/// All that can be seen at a moment.
pub struct Look {
    at: Instant,
    books: Snapshot,
    totals: Totals,
    tasks: BTreeMap<String, TaskView>,
    outboxes: Vec<OutboxView>,
    failing: Vec<Failing>,
}

/// How the pipeline is.
#[derive(Debug, Serialize)]
pub struct Pulse {
    /// Milliseconds since 1970.
    pub at: i64,
    /// Seconds since the run began.
    pub uptime: f64,
    /// `good`, `warning` (rows flow, but not as they should) or `bad` (something does not work).
    pub health: &'static str,
    /// In one sentence.
    pub sentence: String,
    /// All that is not as it should be.
    pub reasons: Vec<String>,
    /// Rows read a second.
    pub rate: f64,
    /// Rows read and committed.
    pub rows: u64,
    /// Anomalies.
    pub anomalies: u64,
    /// Anomalies a second.
    pub anomaly_rate: f64,
    /// By the last column of the series' key.
    pub anomalies_by_metric: Vec<(String, u64)>,
    /// Rows that are there and not read yet; none when no source can know.
    pub lag: Option<u64>,
    /// Dead letters of this run.
    pub dead: u64,
    /// From being read to being committed, of the rows since the last look, in seconds: half of them, and 95 of 100.
    pub latency: Option<(f64, f64)>,
    /// The share of the time that tasks had to wait for sinks or the state store.
    pub waiting: f64,
    /// Tasks that read, and tasks that restore their state.
    pub tasks: (usize, usize),
    /// How long ago the oldest checkpoint was made, in seconds.
    pub checkpoint_age: Option<f64>,
    /// Bytes of the last checkpoints of all tasks.
    pub checkpoint_bytes: u64,
    /// Whether nothing is missing and nothing too much.
    pub is_balanced: bool,
    /// Dead letters by stage and reason.
    pub reasons_of_death: Vec<(String, String, u64)>,
    /// For each stage of the file.
    pub stages: Vec<StagePulse>,
}

/// How a stage is.
#[derive(Debug, Serialize)]
pub struct StagePulse {
    id: String,
    health: &'static str,
    why: Option<String>,
    rows_in: u64,
    created: u64,
    out: u64,
    filtered: u64,
    dead: u64,
    late: u64,
    held: u64,
    is_balanced: bool,
    /// Rows a second that come by each of its edges; for a source, that it reads.
    rates: Vec<f64>,
    /// Bytes a second.
    byte_rates: Vec<f64>,
    /// The share of a core that its code took.
    busy: f64,
    /// How long a row took in its code, in microseconds; for a sink, how long 95 of 100 commits took at most, in seconds.
    row_micros: Option<f64>,
    commit_seconds: Option<f64>,
    series: Option<u64>,
    state_bytes: Option<u64>,
    outbox: Option<(u64, u64, u64)>,
}

impl Look {
    /// Looks.
    pub fn new(watched: &Watched) -> Self {
        let view = &watched.progress.view;
        Look {
            at: Instant::now(),
            books: watched.progress.snapshot(),
            totals: view.totals(),
            tasks: view.tasks(),
            outboxes: view.outboxes(),
            failing: failing(),
        }
    }
}

impl Pulse {
    /// What has happened between two looks.
    pub fn between(watched: &Watched, before: &Look, now: &Look) -> Self {
        let seconds = now.at.duration_since(before.at).as_secs_f64().max(0.001);
        let stages: Vec<StagePulse> =
            (0..watched.plan.stages.len()).map(|stage| StagePulse::between(watched, stage, before, now)).collect();
        let readiness = readiness(watched, &now.failing, &now.tasks);
        let is_balanced = stages.iter().all(|stage| stage.is_balanced);
        let tasks = count_tasks(&now.tasks);
        let waiting = share_of(now.totals.waited.saturating_sub(before.totals.waited), seconds, tasks.0);
        let (health, sentence) = judge(&readiness.reasons, is_balanced, now, waiting);
        let by_metric = now.totals.anomalies_by_metric();
        let latency = now.totals.latency.since(&before.totals.latency);
        let ids = |stage: usize| watched.plan.stages[stage].id.clone();
        let sources = watched.plan.stages.iter().zip(&now.books.stages).filter(|(stage, _)| stage.kind == Kind::Source);
        let made_at = |task: &TaskView| task.checkpoint.map_or(task.since, |checkpoint| checkpoint.at);
        let ages = now.tasks.values().map(|task| made_at(task).elapsed());
        Pulse {
            at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64),
            uptime: watched.began.elapsed().as_secs_f64(),
            health,
            sentence,
            reasons: readiness.reasons,
            rate: now.books.read.saturating_sub(before.books.read) as f64 / seconds,
            rows: sources.map(|(_, counts)| counts.rows_in).sum(),
            anomalies: now.books.anomalies,
            anomaly_rate: now.books.anomalies.saturating_sub(before.books.anomalies) as f64 / seconds,
            anomalies_by_metric: by_metric.into_iter().map(|(metric, count)| (metric.to_owned(), count)).collect(),
            lag: now.books.lag.map(|lag| lag.left),
            dead: now.books.stages.iter().map(|counts| counts.dead).sum(),
            latency: latency.quantile(0.5).zip(latency.quantile(0.95)),
            waiting,
            tasks,
            checkpoint_age: ages.max().map(|age| age.as_secs_f64()),
            checkpoint_bytes: now.tasks.values().filter_map(|task| Some(task.checkpoint?.bytes)).sum(),
            is_balanced,
            reasons_of_death: now.totals.reasons.iter().map(|(at, why, count)| (ids(at), why.into(), count)).collect(),
            stages,
        }
    }
}

/// More of the time than this spent waiting for sinks means that they set the pace.
const MUCH_WAITING: f64 = 0.5;

/// Whether it is well, in one sentence.
fn judge(reasons: &[String], is_balanced: bool, now: &Look, waiting: f64) -> (&'static str, String) {
    if !is_balanced {
        return ("bad", "The books do not balance: rows were lost or invented.".into());
    }
    if let Some(failing) = now.failing.first() {
        let others = match now.failing.len() {
            1 => String::new(),
            count => format!(", and {} more", count - 1),
        };
        return ("bad", format!("{} does not work{others}; it is tried again, and nothing is lost.", failing.what));
    }
    if let Some(first) = reasons.first() {
        return ("warning", format!("Not all of it runs yet: {first}."));
    }
    if MUCH_WAITING < waiting {
        return ("warning", "Sinks are slower than the sources: reading waits for them.".into());
    }
    ("good", "All is well: rows flow and the books balance.".into())
}

/// The share of some seconds that a task has waited, when all tasks together have waited so long.
fn share_of(waited: Duration, seconds: f64, live_tasks: usize) -> f64 {
    (waited.as_secs_f64() / seconds / live_tasks.max(1) as f64).min(1.0)
}

fn count_tasks(tasks: &BTreeMap<String, TaskView>) -> (usize, usize) {
    let live = tasks.values().filter(|task| task.phase == TaskPhase::Live).count();
    (live, tasks.len() - live)
}

impl StagePulse {
    fn between(watched: &Watched, number: usize, before: &Look, now: &Look) -> Self {
        let (stage, counts) = (&watched.plan.stages[number], &now.books.stages[number]);
        let seconds = now.at.duration_since(before.at).as_secs_f64().max(0.001);
        let (work, earlier) = (&now.totals.work[number], &before.totals.work[number]);
        let edges = 1.max(stage.inputs.len());
        let of =
            |work: &pipeline_runtime::run::view::Work, edge: usize| work.edges.get(edge).copied().unwrap_or_default();
        let rows = |edge| of(work, edge).rows.saturating_sub(of(earlier, edge).rows) as f64;
        let bytes = |edge| of(work, edge).bytes.saturating_sub(of(earlier, edge).bytes) as f64;
        let busy = work.busy.saturating_sub(earlier.busy).as_secs_f64();
        let came: f64 = (0..edges).map(rows).sum();
        let commits = now.totals.commits[number].since(&before.totals.commits[number]);
        let series =
            now.tasks.values().filter_map(|task| task.series.get(number).copied().flatten()).reduce(|a, b| a + b);
        let outbox = now.outboxes.iter().find(|outbox| outbox.stage == number);
        let trouble = now.failing.iter().find(|failing| failing.what == stage.id);
        let is_full = outbox.is_some_and(|outbox| outbox.max_waiting <= outbox.waiting);
        let health = match (trouble.is_some() || !counts.is_balanced(), is_full || 0 < counts.dead) {
            (true, _) => "bad",
            (false, true) => "warning",
            (false, false) => "good",
        };
        StagePulse {
            id: stage.id.clone(),
            health,
            why: trouble.map(crate::health::in_words),
            rows_in: counts.rows_in,
            created: counts.created,
            out: counts.out,
            filtered: counts.filtered,
            dead: counts.dead,
            late: counts.late,
            held: counts.held,
            is_balanced: counts.is_balanced(),
            rates: (0..edges).map(|edge| rows(edge) / seconds).collect(),
            byte_rates: (0..edges).map(|edge| bytes(edge) / seconds).collect(),
            busy: busy / seconds,
            row_micros: (0.0 < came && 0.0 < busy).then_some(busy * 1e6 / came),
            commit_seconds: commits.quantile(0.95),
            series,
            state_bytes: series.zip(stage.bytes_per_series).map(|(series, bytes)| series * bytes as u64),
            outbox: outbox.map(|outbox| (outbox.waiting, outbox.max_waiting, outbox.ends.delivered)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_that_wait_a_little_each_are_not_waiting_much() {
        let quarter = Duration::from_millis(250);
        for (waited, seconds, live_tasks, share) in [
            (quarter, 1.0, 1, 0.25),
            (quarter * 8, 1.0, 8, 0.25),
            (quarter * 8, 2.0, 1, 1.0),
            // Those that have ended since may have waited.
            (quarter, 1.0, 0, 0.25),
            (quarter * 9, 1.0, 1, 1.0),
        ] {
            assert_eq!(share_of(waited, seconds, live_tasks), share);
        }
    }
}
