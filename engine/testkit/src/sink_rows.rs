//! The rows that sinks are given: readings with scores, and what some systems cannot take.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray};
use pipeline_stage::Refused;

use crate::readings::{readings, scored_schema};

/// The rows of a batch that were not refused; it is the second one of its epoch.
pub fn without(batch: &RecordBatch, refused: &[Refused]) -> RecordBatch {
    let keeps = |row: &usize| !refused.iter().any(|refused| refused.batch == 1 && refused.row == *row);
    let kept: Vec<RecordBatch> = (0..batch.num_rows()).filter(keeps).map(|row| batch.slice(row, 1)).collect();
    arrow::compute::concat_batches(&batch.schema(), &kept).expect("all have the same columns")
}

/// Readings with scores.
pub fn scored(rows: usize, seed: u64) -> RecordBatch {
    let readings = readings(seed, rows);
    let numbers = |of: fn(usize) -> Option<f64>| -> ArrayRef { Arc::new((0..rows).map(of).collect::<Float64Array>()) };
    let score = numbers(|row| (2 < row).then_some(0.5));
    let is_anomaly: ArrayRef = Arc::new((0..rows).map(|row| Some(row % 10 == 9)).collect::<BooleanArray>());
    let more = [score.clone(), is_anomaly, score.clone(), score.clone(), score.clone(), score];
    let columns = readings.columns().iter().cloned().chain(more).collect();
    RecordBatch::try_new(scored_schema(), columns).expect("the columns are those of the schema")
}

/// Rows that some systems cannot take: no text with a NUL in PostgreSQL, no NaN in JSON.
pub fn hostile_rows() -> Vec<RecordBatch> {
    let plain = scored(4, 7);
    let with = |column: usize, array: ArrayRef| {
        let mut columns = plain.columns().to_vec();
        columns[column] = array;
        RecordBatch::try_new(plain.schema(), columns).expect("the column has the type of the one before it")
    };
    let huge = "x".repeat(1 << 20);
    vec![
        with(0, Arc::new(StringArray::from(vec!["a\0b", "", "\u{202e}'\"\\", &huge]))),
        with(2, Arc::new(Float64Array::from(vec![f64::NAN, f64::INFINITY, f64::MAX, 5e-324]))),
        plain.slice(0, 0),
    ]
}
