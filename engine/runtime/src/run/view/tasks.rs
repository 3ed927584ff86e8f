//! What can be seen of one task.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::samples::Sample;

/// What can be seen of one task.
#[derive(Debug, Clone)]
pub struct TaskView {
    /// What it does.
    pub phase: TaskPhase,
    /// Since when it is here.
    pub since: Instant,
    /// The last epoch that was committed by this owner; none yet.
    pub epoch: Option<u64>,
    /// When that was.
    pub committed_at: Option<Instant>,
    /// The last checkpoint that was published by this owner; none yet.
    pub checkpoint: Option<CheckpointView>,
    /// For each stage how many series it keeps; none for those that keep none.
    pub series: Vec<Option<u64>>,
    /// The latest values of some series.
    pub samples: Arc<[Sample]>,
}

/// What a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskPhase {
    /// It claims its sinks, restores its state, and computes again what no checkpoint has.
    Restoring,
    /// It reads new rows.
    Live,
}

/// A checkpoint that was published.
#[derive(Debug, Clone, Copy)]
pub struct CheckpointView {
    /// The epoch it is of.
    pub epoch: u64,
    /// When it was published.
    pub at: Instant,
    /// How long it took to write, beside the rows.
    pub took: Duration,
    /// What was written: keys and values that had changed, in bytes.
    pub bytes: u64,
}

impl TaskView {
    pub(super) fn new() -> Self {
        TaskView {
            phase: TaskPhase::Restoring,
            since: Instant::now(),
            epoch: None,
            committed_at: None,
            checkpoint: None,
            series: Vec::new(),
            samples: Arc::default(),
        }
    }

    pub(super) fn committed(&mut self, epoch: u64, series: Vec<Option<u64>>, samples: Vec<Sample>) {
        (self.epoch, self.committed_at, self.series) = (Some(epoch), Some(Instant::now()), series);
        if !samples.is_empty() {
            self.samples = samples.into();
        }
    }
}
