//! Rows as they pass: whoever looks gets what a stage gives, or a sink takes.

use std::sync::{Arc, Mutex};

use pipeline_stage::Rows;
use tokio::sync::broadcast;

/// Batches that wait for somebody who is slow; older ones are dropped, for that one alone.
const WAITING: usize = 32;

/// Where each stage's rows can be looked at.
#[derive(Debug)]
pub struct Taps(Vec<Stage>);

#[derive(Debug)]
struct Stage {
    looking: broadcast::Sender<Tapped>,
    /// How many rows were shown. Held while a batch is shown, so that batches come in the order of their numbers.
    shown: Mutex<u64>,
}

/// A batch that a stage has given, or that a sink is to write. It may be seen before it is committed.
#[derive(Clone)]
pub struct Tapped {
    /// The rows.
    pub rows: Rows,
    /// The task that gave them.
    pub task: Arc<str>,
    /// How many rows were shown before them.
    before: u64,
}

impl std::fmt::Debug for Tapped {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} rows of task `{}`", self.rows.batch.num_rows(), self.task)
    }
}

/// Somebody who looks.
#[derive(Debug)]
pub struct Tap {
    batches: broadcast::Receiver<Tapped>,
    /// How many rows were shown when the next batch is, if none is missed.
    seen: u64,
}

impl Taps {
    /// For so many stages.
    pub fn new(n_stages: usize) -> Self {
        let stages = (0..n_stages).map(|_| Stage { looking: broadcast::channel(WAITING).0, shown: Mutex::new(0) });
        Taps(stages.collect())
    }

    /// Begins to look at a stage.
    pub fn look(&self, stage: usize) -> Tap {
        let stage = &self.0[stage];
        let shown = stage.shown.lock().expect("no holder of this lock panics");
        Tap { batches: stage.looking.subscribe(), seen: *shown }
    }

    /// How many look at a stage.
    pub fn lookers(&self, stage: usize) -> usize {
        self.0[stage].looking.receiver_count()
    }

    /// Shows rows to whoever looks; costs next to nothing when nobody does.
    pub fn show(&self, stage: usize, rows: &Rows, task: &Arc<str>) {
        let (stage, n_rows) = (&self.0[stage], rows.batch.num_rows() as u64);
        if 0 < stage.looking.receiver_count() && 0 < n_rows {
            let mut shown = stage.shown.lock().expect("no holder of this lock panics");
            // Whoever has left meanwhile misses nothing.
            let _ = stage.looking.send(Tapped { rows: rows.clone(), task: task.clone(), before: *shown });
            *shown += n_rows;
        }
    }
}

impl Tap {
    /// The next batch, and how many rows were missed before it because they came too fast; none when the run has ended.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<(Tapped, u64)> {
        loop {
            match self.batches.recv().await {
                Ok(tapped) => {
                    let missed = tapped.before - self.seen;
                    self.seen = tapped.before + tapped.rows.batch.num_rows() as u64;
                    return Some((tapped, missed));
                }
                // The numbers of the next one tell how many rows that was.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, RecordBatch};
    use pipeline_stage::Origins;

    use super::*;

    fn rows(count: i64) -> Rows {
        let numbers: Int64Array = (0..count).collect();
        let batch = RecordBatch::try_from_iter([("n", Arc::new(numbers) as _)]).expect("one column");
        let offsets = (0..count as u64).collect();
        Rows { batch, origins: Origins::new("source/0".into(), offsets) }
    }

    #[tokio::test]
    async fn whoever_is_slow_is_told_exactly_how_many_rows_were_missed() {
        let (taps, task) = (Taps::new(1), Arc::from("0"));
        taps.show(0, &rows(5), &task);
        let mut tap = taps.look(0);
        let mut shown = 0;
        for count in 1..=WAITING as i64 + 10 {
            taps.show(0, &rows(count), &task);
            shown += count as u64;
        }
        let (first, missed) = tap.next().await.expect("a batch");
        assert_eq!(missed, (1..=10).sum::<u64>(), "the ten oldest batches");
        let mut seen = missed + first.rows.batch.num_rows() as u64;
        while seen < shown {
            let (next, missed) = tap.next().await.expect("a batch");
            assert_eq!(missed, 0);
            seen += next.rows.batch.num_rows() as u64;
        }
        assert_eq!(seen, shown);
    }
}
