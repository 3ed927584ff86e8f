//! Readings of made-up sensors, as columns and field by field.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use pipeline_stage::{Column, ColumnFrom, ColumnType, MAX_BATCH_ROWS, Timestamp, schema_of};
use pipeline_testkit::Random;

/// As many rows as the engine gives at once.
pub const ROWS: usize = MAX_BATCH_ROWS;

/// Built without optimisation, as `cargo test` does it: whether it works is all that is of interest.
pub const IS_QUICK: bool = cfg!(debug_assertions);

/// 2025-06-01T12:00:00Z
const START_MICROS: i64 = 1_748_779_200_000_000;

/// Coprime to every number of series here: so many rows later another series has its turn, far away from the last one.
const STRIDE: usize = 611_953;

/// A column that takes the field of its name.
pub fn column(name: &str, column_type: ColumnType) -> Column {
    Column { name: name.into(), column_type, nullable: false, from: ColumnFrom::Field(vec![name.into()]) }
}

/// The columns of a reading.
pub fn columns() -> Vec<Column> {
    vec![
        column("sensor_id", ColumnType::String),
        column("metric_type", ColumnType::String),
        column("value", ColumnType::Float),
        column("timestamp", ColumnType::Timestamp),
    ]
}

/// Batches in which each of so many series has at least one reading.
pub fn of_each_series(series: usize) -> Vec<RecordBatch> {
    let mut random = Random::new(1);
    let of_batch = |first: usize| (first..first + ROWS).map(|row| row * STRIDE % series).collect();
    (0..series.div_ceil(ROWS)).map(|number| batch(of_batch(number * ROWS), &mut random)).collect()
}

/// Batches with readings of so many series, whose order nobody could foresee.
pub fn of_any_series(series: usize) -> Vec<RecordBatch> {
    let mut random = Random::new(2);
    let n_batches = series.div_ceil(ROWS).max(16);
    let of_batch = |random: &mut Random| (0..ROWS).map(|_| random.below(series)).collect();
    (0..n_batches).map(|_| batch(of_batch(&mut random), &mut random)).collect()
}

fn batch(series: Vec<usize>, random: &mut Random) -> RecordBatch {
    let n_rows = series.len();
    let names: StringArray = series.iter().map(|number| Some(sensor(*number))).collect();
    let metrics: StringArray = (0..n_rows).map(|_| Some("temperature")).collect();
    let values: Float64Array = (0..n_rows).map(|_| Some(value(random))).collect();
    let times = TimestampMicrosecondArray::from_iter_values((0..n_rows).map(time_micros)).with_timezone("UTC");
    let arrays: Vec<ArrayRef> = vec![Arc::new(names), Arc::new(metrics), Arc::new(values), Arc::new(times)];
    RecordBatch::try_new(schema_of(&columns()), arrays).expect("the columns are those of the schema")
}

/// The fields of one reading with their values as JSON: text is in quotes.
pub fn reading(row: usize, random: &mut Random) -> Vec<(String, String)> {
    let time = Timestamp(time_micros(row)).to_rfc3339();
    vec![
        ("sensor_id".into(), format!("\"{}\"", sensor(random.below(10_000)))),
        ("metric_type".into(), "\"temperature\"".into()),
        ("value".into(), format!("{:.2}", value(random))),
        ("timestamp".into(), format!("\"{time}\"")),
    ]
}

fn sensor(number: usize) -> String {
    format!("sensor_{number:07}")
}

/// One in a thousand is an anomaly.
fn value(random: &mut Random) -> f64 {
    20.0 + random.fraction() + if random.once_in(1_000) { 50.0 } else { 0.0 }
}

fn time_micros(row: usize) -> i64 {
    START_MICROS + 1_001 * row as i64
}
