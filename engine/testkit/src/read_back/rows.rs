//! Rows with all that makes reading back hard: nulls, equal times, infinities, and words that are SQL.

use std::sync::Arc;

use arrow::array::{BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use pipeline_stage::timestamp_type;
use serde_json::Value;

use crate::Random;

pub const SECOND: i64 = 1_000_000;

/// A column of whole numbers whose name is an attack.
pub const HOSTILE_COLUMN: &str = r#"n"; DROP TABLE t; --"#;

pub const SENSORS: [&str; 9] =
    ["sensor-1", "sensor-2", "Sensor-1", "", "o'clock", r#"a"; DROP TABLE t; --"#, "100%", r"_\$1", "Ж-1"];

const METRICS: [Option<&str>; 4] = [Some("temperature"), Some("pressure"), None, Some("?1")];

/// The columns of [`rows_to_read_back`].
pub fn schema_to_read_back() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("number", DataType::Int64, false),
        Field::new("sensor_id", DataType::Utf8, false),
        Field::new("metric_type", DataType::Utf8, true),
        Field::new("value", DataType::Float64, true),
        Field::new("is_anomaly", DataType::Boolean, true),
        Field::new(HOSTILE_COLUMN, DataType::Int64, true),
        Field::new("timestamp", timestamp_type(), false),
    ]))
}

/// Some hundred rows, in batches; `number` tells them apart.
pub fn rows_to_read_back() -> Vec<RecordBatch> {
    let mut random = Random::new(7);
    (0..3).map(|batch| rows_from(batch * 90, 90, &mut random)).collect()
}

fn rows_from(first: i64, n_rows: i64, random: &mut Random) -> RecordBatch {
    let mut below = |end: usize| random.below(end);
    let rows: Vec<[usize; 6]> =
        (0..n_rows).map(|_| [below(9), below(4), below(12), below(3), below(5), below(40)]).collect();
    let values = |row: &[usize; 6]| match row[2] {
        0 | 1 => None,
        2 => Some(f64::INFINITY),
        3 => Some(0.1),
        4 | 5 => Some(1.5),
        other => Some(other as f64 * -7.25),
    };
    // One sensor has a single metric, the first in the alphabet: what comes after it begins with that one again.
    let metric = |row: &[usize; 6]| METRICS[if row[0] == 4 { 3 } else { row[1] }];
    let numbers = [None, Some(i64::MIN), Some(i64::MAX), Some(0), Some(-7)];
    // Forty rows or so in every four of these: there are many of the same time, some of them before 1970.
    let times = |row: &[usize; 6]| (row[5] as i64 - 8) / 3 * SECOND + i64::from(row[5] == 39);
    let times: TimestampMicrosecondArray = rows.iter().map(|row| Some(times(row))).collect();
    RecordBatch::try_new(
        schema_to_read_back(),
        vec![
            Arc::new(Int64Array::from_iter_values(first..first + n_rows)),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| SENSORS[row[0]]))),
            Arc::new(StringArray::from_iter(rows.iter().map(metric))),
            Arc::new(Float64Array::from_iter(rows.iter().map(values))),
            Arc::new(BooleanArray::from_iter(rows.iter().map(|row| [None, Some(true), Some(false)][row[3]]))),
            Arc::new(Int64Array::from_iter(rows.iter().map(|row| numbers[row[4]]))),
            Arc::new(times.with_timezone("UTC")),
        ],
    )
    .expect("the arrays are as the schema says")
}

/// The microseconds of a time as rows show it; the times here are whole seconds, but for one microsecond.
pub fn time(shown: &Value) -> Option<i64> {
    let text = shown.as_str()?;
    let (day, time) = text.strip_suffix('Z')?.split_once('T')?;
    let days = match day {
        "1969-12-31" => -1,
        "1970-01-01" => 0,
        _ => return None,
    };
    let mut parts = time.split([':', '.']).map(|part| part.parse::<i64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let micros = parts.next().flatten().unwrap_or(0);
    Some((((days * 24 + hours) * 60 + minutes) * 60 + seconds) * SECOND + micros)
}
