//! Made-up sensor readings that are as nasty as real ones, and the columns that examples may count on.

use std::sync::Arc;

use arrow::array::{
    Float64Array, Float64Builder, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use pipeline_stage::keyed::SCORE_COLUMNS;
use pipeline_stage::{NoConsole, StageContext, timestamp_type};

use crate::random::Random;

/// 2025-07-20T08:19:16Z
const START_MICROS: i64 = 1_752_999_556_000_000;

/// Values that have broken detectors before.
const EXTREMES: [f64; 8] = [0.0, -0.0, f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, 1e300, -1e16];

/// The columns of [`readings`]: `sensor_id` and `metric_type` (string), `value` (float), `timestamp`; the last two
/// may be null. Examples of transforms, detectors and formats count on these, or those
/// of transforms on a text column `document` alone.
pub fn reading_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("sensor_id", DataType::Utf8, false),
        Field::new("metric_type", DataType::Utf8, false),
        Field::new("value", DataType::Float64, true),
        Field::new("timestamp", timestamp_type(), true),
    ]))
}

/// The columns of [`readings`] with those that `zscore` adds. Examples of sinks count on these.
pub fn scored_schema() -> SchemaRef {
    let mut fields: Vec<Field> = reading_schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    for name in SCORE_COLUMNS.into_iter().chain(["z_score"]) {
        fields.push(match name {
            "is_anomaly" => Field::new(name, DataType::Boolean, false),
            _ => Field::new(name, DataType::Float64, true),
        });
    }
    Arc::new(Schema::new(fields))
}

/// What a stage is told in tests: pipeline `iot`, stage `stage`, key `[sensor_id, metric_type]`, the current folder,
/// no `--once`, no console.
pub fn stage_context() -> StageContext {
    StageContext {
        pipeline: "iot".into(),
        id: "stage".into(),
        directory: ".".into(),
        key: vec!["sensor_id".into(), "metric_type".into()],
        once: false,
        cold_start: false,
        console: Arc::new(NoConsole),
    }
}

/// Readings of some hundred series, a few of them with most rows: nulls, extreme values, constant stretches, spikes,
/// sensors without a name, times that are missing, out of order or years ahead. Same seed, same rows.
pub fn readings(seed: u64, rows: usize) -> RecordBatch {
    let mut random = Random::new(seed);
    let (mut sensors, mut metrics) = (StringBuilder::new(), StringBuilder::new());
    let (mut values, mut times) = (Float64Builder::new(), TimestampMicrosecondBuilder::new());
    for row in 0..rows {
        // Half of the rows are of four sensors: their windows fill up. The others have few rows each.
        let sensor = if random.once_in(2) { random.below(4) } else { random.below(200) };
        match sensor {
            0 => sensors.append_value(""),
            1 => sensors.append_value("Fühler \"1\", 🌡\n"),
            _ => sensors.append_value(format!("sensor-{sensor:02}")),
        }
        let metric = ["temperature", "humidity", "pressure"][random.below(3)];
        metrics.append_value(metric);
        values.append_option(reading_of(&mut random, sensor));
        times.append_option(time_of(&mut random, row));
    }
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(sensors.finish()),
        Arc::new(metrics.finish()),
        Arc::new(values.finish()),
        Arc::new(times.finish().with_timezone("UTC")),
    ];
    RecordBatch::try_new(reading_schema(), columns).expect("the columns are those of the schema")
}

/// Readings as a healthy plant sends them: so many series in turn, values that wander, one in a thousand a spike.
/// `first` numbers the first row; the rows of two calls go on after each other.
pub fn steady_readings(series: usize, first: usize, rows: usize) -> RecordBatch {
    let mut random = Random::new(first as u64);
    let names: StringArray = (first..first + rows).map(|row| Some(format!("sensor-{:05}", row % series))).collect();
    let metrics: StringArray = (0..rows).map(|_| Some("temperature")).collect();
    let values: Float64Array =
        (0..rows).map(|_| Some(20.0 + random.fraction() + if random.once_in(1_000) { 50.0 } else { 0.0 })).collect();
    let times = (first..first + rows).map(|row| START_MICROS + 1_000 * row as i64);
    let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
    let columns: Vec<arrow::array::ArrayRef> =
        vec![Arc::new(names), Arc::new(metrics), Arc::new(values), Arc::new(times)];
    RecordBatch::try_new(reading_schema(), columns).expect("the columns are those of the schema")
}

fn reading_of(random: &mut Random, sensor: usize) -> Option<f64> {
    match random.below(100) {
        0..3 => None,
        3 => Some(EXTREMES[random.below(EXTREMES.len())]),
        4..9 => Some(1e4 * random.fraction()),
        // Every third sensor stands still most of the time; some measure small changes of a large value.
        _ if sensor.is_multiple_of(3) => Some(0.1 + 0.2),
        _ if sensor % 3 == 1 => Some(1e6 + 1e-4 * random.fraction()),
        _ => Some(20.0 + sensor as f64 + random.fraction()),
    }
}

fn time_of(random: &mut Random, row: usize) -> Option<i64> {
    let on_time = START_MICROS + 1_000_000 * row as i64;
    match random.below(100) {
        0..3 => None,
        3..20 => Some(on_time - 1_000 * random.below(600_000) as i64),
        20 => Some(on_time + 100_000_000_000_000),
        _ => Some(on_time),
    }
}
