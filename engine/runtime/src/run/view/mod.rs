//! What can be seen of a run while it goes on, beside its books: for metrics, the dashboard and the terminal.
//!
//! All of it is counted as epochs are committed, so it agrees with the books; only [`Taps`] show rows as they pass, and
//! [`Waits`] count while they last.
//! Nothing here may hold up a task: each lock is held for the time of some additions.

mod histogram;
mod reasons;
mod samples;
mod taps;
mod tasks;
mod waits;
mod work;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

pub use super::outbox::Ends;
pub use histogram::{BUCKETS, Histogram};
pub use reasons::{Families, OTHER, Reasons};
pub use samples::{MAX_SERIES, Sample, Sampler, text};
pub use taps::{Tap, Tapped, Taps};
pub use tasks::{CheckpointView, TaskPhase, TaskView};
pub use waits::{Wait, Waits};
pub use work::{EdgeWork, MAX_METRICS, Work};

use super::commit::EndedEpoch;
use super::outbox::Outbox;
use super::shared::SinkEnd;

/// What can be seen of a run.
#[derive(Debug)]
pub struct RunView {
    /// Rows as they pass.
    pub taps: Taps,
    /// How long tasks had rows to hand over and had to wait for sinks or the state store.
    pub waits: Arc<Waits>,
    totals: Mutex<Totals>,
    tasks: Mutex<BTreeMap<String, TaskView>>,
    outboxes: OnceLock<Vec<(usize, Arc<Outbox>)>>,
    is_assigned: AtomicBool,
}

/// What can be seen of an outbox.
#[derive(Debug, Clone)]
pub struct OutboxView {
    /// The sink's stage.
    pub stage: usize,
    /// Alerts that wait, as far as this process knows.
    pub waiting: u64,
    /// How many may wait before it is full.
    pub max_waiting: u64,
    /// What became of others.
    pub ends: Ends,
}

/// What has happened since the run began, in all tasks of this process.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// For each stage what it did.
    pub work: Vec<Work>,
    /// For each stage, if it is a sink: how long its commits took.
    pub commits: Vec<Histogram>,
    /// How long each row took from being read to being committed everywhere.
    pub latency: Histogram,
    /// Epochs that were committed.
    pub epochs: u64,
    /// How long each epoch took from its end to its commit.
    pub epoch_commits: Histogram,
    /// How long tasks had rows to hand over and had to wait for sinks or the state store.
    pub waited: Duration,
    /// Dead letters by stage and reason.
    pub reasons: Reasons,
    /// Checkpoints that were published.
    pub checkpoints: u64,
    /// What was written for them, in bytes.
    pub checkpoint_bytes: u64,
}

impl Totals {
    /// Anomalies of all detectors by metric, sorted by it.
    pub fn anomalies_by_metric(&self) -> BTreeMap<&str, u64> {
        let mut counts = BTreeMap::new();
        for (metric, count) in self.work.iter().flat_map(|work| &work.anomalies) {
            *counts.entry(metric.as_str()).or_insert(0) += count;
        }
        counts
    }
}

impl RunView {
    /// Of a pipeline with so many stages.
    pub fn new(n_stages: usize) -> Self {
        let totals = Totals {
            work: vec![Work::default(); n_stages],
            commits: vec![Histogram::default(); n_stages],
            ..Totals::default()
        };
        RunView {
            taps: Taps::new(n_stages),
            waits: Arc::default(),
            totals: Mutex::new(totals),
            tasks: Mutex::default(),
            outboxes: OnceLock::new(),
            is_assigned: AtomicBool::new(false),
        }
    }

    /// As it is now.
    pub fn totals(&self) -> Totals {
        let totals = self.totals.lock().expect("no holder of this lock panics").clone();
        Totals { waited: self.waits.sum(), ..totals }
    }

    /// The tasks of this process, by name.
    pub fn tasks(&self) -> BTreeMap<String, TaskView> {
        self.tasks.lock().expect("no holder of this lock panics").clone()
    }

    /// Whether the source has said which partitions are this process', were it none.
    pub fn is_assigned(&self) -> bool {
        self.is_assigned.load(Ordering::Relaxed)
    }

    /// The source has said it.
    pub(super) fn assigned(&self) {
        self.is_assigned.store(true, Ordering::Relaxed);
    }

    /// The outboxes, by stage.
    pub fn outboxes(&self) -> Vec<OutboxView> {
        let outboxes = self.outboxes.get().into_iter().flatten();
        let view = |(stage, outbox): &(usize, Arc<Outbox>)| OutboxView {
            stage: *stage,
            waiting: outbox.waiting(),
            max_waiting: outbox.pace.max_pending,
            ends: outbox.ends(),
        };
        outboxes.map(view).collect()
    }

    /// The run's sinks, of which some are outboxes.
    pub(super) fn outboxes_are(&self, sinks: &BTreeMap<usize, SinkEnd>) {
        let outboxes = sinks.iter().filter_map(|(stage, sink)| match sink {
            SinkEnd::Outbox(outbox) => Some((*stage, outbox.clone())),
            SinkEnd::Epochs(..) => None,
        });
        // A run has its sinks once.
        let _ = self.outboxes.set(outboxes.collect());
    }

    /// A task was claimed, and restores its state.
    pub fn restoring(&self, task: &str) {
        let mut tasks = self.tasks.lock().expect("no holder of this lock panics");
        tasks.insert(task.into(), TaskView::new());
    }

    /// A task reads new rows from here on.
    pub fn live(&self, task: &str) {
        self.task(task, |view| view.phase = TaskPhase::Live);
    }

    /// How many tasks there are now.
    pub fn n_tasks(&self) -> usize {
        self.tasks.lock().expect("no holder of this lock panics").len()
    }

    /// A task has ended: what it knew is somebody else's.
    pub fn ended(&self, task: &str) {
        self.tasks.lock().expect("no holder of this lock panics").remove(task);
    }

    /// A sink has taken an epoch.
    pub fn sink_committed(&self, stage: usize, took: Duration) {
        self.totals.lock().expect("no holder of this lock panics").commits[stage].observe(took, 1);
    }

    /// Rows that were taken for written have become dead letters.
    pub fn refused(&self, stage: usize, reasons: impl Iterator<Item = String>) {
        let mut totals = self.totals.lock().expect("no holder of this lock panics");
        reasons.for_each(|reason| totals.reasons.add(stage, &reason));
    }

    /// A checkpoint of a task was published.
    pub fn checkpointed(&self, task: &str, checkpoint: CheckpointView) {
        let mut totals = self.totals.lock().expect("no holder of this lock panics");
        totals.checkpoints += 1;
        totals.checkpoint_bytes += checkpoint.bytes;
        drop(totals);
        self.task(task, |view| view.checkpoint = Some(checkpoint));
    }

    /// An epoch is committed everywhere. `dead` are the stages and reasons of its dead letters.
    pub fn committed(&self, task: &str, ended: &mut EndedEpoch, dead: &[(usize, String)]) {
        let took = ended.ended.elapsed();
        let mut totals = self.totals.lock().expect("no holder of this lock panics");
        totals.work.iter_mut().zip(&ended.output.work).for_each(|(total, work)| total.add(work));
        ended.reads.iter().for_each(|(at, rows)| totals.latency.observe(at.elapsed(), *rows));
        totals.epochs += 1;
        totals.epoch_commits.observe(took, 1);
        dead.iter().for_each(|(stage, reason)| totals.reasons.add(*stage, reason));
        drop(totals);
        let series: Vec<_> = ended.output.work.iter().map(|work| work.series).collect();
        let samples = std::mem::take(&mut ended.output.samples);
        self.task(task, |view| view.committed(ended.entry.epoch, series, samples));
    }

    fn task(&self, task: &str, change: impl FnOnce(&mut TaskView)) {
        if let Some(view) = self.tasks.lock().expect("no holder of this lock panics").get_mut(task) {
            change(view);
        }
    }
}
