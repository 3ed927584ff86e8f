//! Rows cut into epochs, as the engine would cut them.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use pipeline_stage::{Times, Timestamp};

use crate::random::Random;

/// What a task reads between two commits.
pub struct Epoch {
    /// The number of its first row among all rows.
    pub first: usize,
    /// Its rows.
    pub rows: RecordBatch,
    /// Its recorded end.
    pub times: Times,
}

/// Cuts the same rows of a series of epochs: each goes on where the one before it ended.
#[derive(Default)]
pub struct Clock {
    first: usize,
    now: Option<Timestamp>,
    watermark: Option<Timestamp>,
}

impl Clock {
    /// The next epoch, of these rows.
    pub fn epoch(&mut self, rows: RecordBatch) -> Epoch {
        let first = self.first;
        self.first += rows.num_rows();
        self.watermark = self.watermark.max(latest_time(&rows));
        self.now = self.now.max(self.watermark).or(Some(Timestamp(0)));
        let times = Times { now: self.now.unwrap_or(Timestamp(0)), watermark: self.watermark };
        Epoch { first, rows, times }
    }
}

/// Epochs of random lengths, always the same for the same rows, with the times that the engine would record.
pub fn cut_into_epochs(rows: &RecordBatch) -> Vec<Epoch> {
    let mut random = Random::new(rows.num_rows() as u64);
    let longest = rows.num_rows() / 8 + 2;
    let (mut epochs, mut clock, mut first) = (Vec::new(), Clock::default(), 0);
    while first < rows.num_rows() {
        let count = random.below(longest).min(rows.num_rows() - first);
        epochs.push(clock.epoch(rows.slice(first, count)));
        first += count;
    }
    epochs
}

fn latest_time(batch: &RecordBatch) -> Option<Timestamp> {
    let column = batch.columns().iter().find(|column| matches!(column.data_type(), DataType::Timestamp(..)))?;
    column.as_primitive::<TimestampMicrosecondType>().iter().flatten().max().map(Timestamp)
}
