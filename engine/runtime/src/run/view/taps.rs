//! Rows as they pass: whoever looks gets what a stage gives, or a sink takes.

use std::sync::Arc;

use pipeline_stage::Rows;
use tokio::sync::broadcast;

/// Batches that wait for somebody who is slow; older ones are dropped, for that one alone.
const WAITING: usize = 32;

/// Where each stage's rows can be looked at.
#[derive(Debug)]
pub struct Taps(Vec<broadcast::Sender<Tapped>>);

/// A batch that a stage has given, or that a sink is to write. It may be seen before it is committed.
#[derive(Clone)]
pub struct Tapped {
    /// The rows.
    pub rows: Rows,
    /// The task that gave them.
    pub task: Arc<str>,
}

impl std::fmt::Debug for Tapped {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} rows of task `{}`", self.rows.batch.num_rows(), self.task)
    }
}

/// Somebody who looks.
#[derive(Debug)]
pub struct Tap(broadcast::Receiver<Tapped>);

impl Taps {
    /// For so many stages.
    pub fn new(n_stages: usize) -> Self {
        Taps((0..n_stages).map(|_| broadcast::channel(WAITING).0).collect())
    }

    /// Begins to look at a stage.
    pub fn look(&self, stage: usize) -> Tap {
        Tap(self.0[stage].subscribe())
    }

    /// Shows rows to whoever looks; costs next to nothing when nobody does.
    pub fn show(&self, stage: usize, rows: &Rows, task: &Arc<str>) {
        let tap = &self.0[stage];
        if 0 < tap.receiver_count() && 0 < rows.batch.num_rows() {
            // Whoever has left meanwhile misses nothing.
            let _ = tap.send(Tapped { rows: rows.clone(), task: task.clone() });
        }
    }
}

impl Tap {
    /// The next batch, and how many were missed before it because they came too fast; none when the run has ended.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<(Tapped, u64)> {
        let mut missed = 0;
        loop {
            match self.0.recv().await {
                Ok(tapped) => return Some((tapped, missed)),
                Err(broadcast::error::RecvError::Lagged(batches)) => missed += batches,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
