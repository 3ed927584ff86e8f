//! The latest values of some series: looked at once a second, so that it costs nothing.

use std::collections::HashMap;
use std::time::Duration;

use arrow::array::{Array, RecordBatch};
use pipeline_stage::Cell;
use tokio::time::Instant;

/// More series of a task and detector are left out: whoever needs all of them looks into the sinks.
pub const MAX_SERIES: usize = 1_000;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The latest value of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The detector's stage.
    pub stage: usize,
    /// The series' key, in the order of the key's columns; empty for a value that is null.
    pub key: Vec<String>,
    /// The value.
    pub value: f64,
}

/// Takes samples of the rows of one detector.
#[derive(Debug)]
pub struct Sampler {
    stage: usize,
    key: Vec<usize>,
    value: usize,
    next: Instant,
    /// It has looked since it was last asked.
    pub is_fresh: bool,
    latest: HashMap<Vec<String>, f64>,
}

impl Sampler {
    /// Of the key's columns and the column of values.
    pub fn new(stage: usize, key: Vec<usize>, value: usize) -> Self {
        Sampler { stage, key, value, next: Instant::now(), is_fresh: false, latest: HashMap::new() }
    }

    /// Looks at the last rows of a batch if it is time.
    pub fn look(&mut self, batch: &RecordBatch) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        (self.next, self.is_fresh) = (now + LOOK_EVERY, true);
        for row in batch.num_rows().saturating_sub(MAX_SERIES)..batch.num_rows() {
            let Some(value) = number(batch.column(self.value).as_ref(), row) else { continue };
            let key: Vec<String> = self.key.iter().map(|column| text(batch.column(*column).as_ref(), row)).collect();
            if self.latest.len() < MAX_SERIES || self.latest.contains_key(&key) {
                self.latest.insert(key, value);
            }
        }
    }

    /// All that is known, sorted by key.
    pub fn samples(&mut self) -> Vec<Sample> {
        self.is_fresh = false;
        let mut samples: Vec<Sample> = self
            .latest
            .iter()
            .map(|(key, value)| Sample { stage: self.stage, key: key.clone(), value: *value })
            .collect();
        samples.sort_by(|one, other| one.key.cmp(&other.key));
        samples
    }
}

/// A value of a key's column as text.
pub fn text(column: &dyn Array, row: usize) -> String {
    match Cell::of(column, row) {
        Cell::Text(text) => text.into(),
        Cell::Null => String::new(),
        cell => serde_json::Value::from(cell).to_string().trim_matches('"').into(),
    }
}

fn number(column: &dyn Array, row: usize) -> Option<f64> {
    match Cell::of(column, row) {
        Cell::Float(value) => Some(value),
        Cell::Integer(value) => Some(value as f64),
        _ => None,
    }
}
