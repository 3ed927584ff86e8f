//! Row *i* of a simulated stream, as a function of the seed and *i*.

use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use pipeline_stage::{Result, Timestamp, timestamp_type};

use super::{DEFAULT_RATE, Live, SimulatorOptions, SimulatorRate};

/// A metric with its usual range and that of outliers.
pub(super) struct Metric {
    pub name: &'static str,
    pub usual: (f64, f64),
    pub outlier: (f64, f64),
}

pub(super) const METRICS: [Metric; 3] = [
    Metric { name: "temperature", usual: (15.0, 30.0), outlier: (50.0, 100.0) },
    Metric { name: "humidity", usual: (30.0, 60.0), outlier: (80.0, 100.0) },
    Metric { name: "pressure", usual: (1000.0, 1020.0), outlier: (950.0, 1050.0) },
];

/// Makes row *i* of *i*.
#[derive(Clone)]
pub(super) struct RowMaker {
    pub schema: SchemaRef,
    seed: u64,
    sensors: u32,
    /// Of the number in a sensor's id.
    digits: usize,
    anomaly_share: f64,
    pub count: Option<u64>,
    pub is_paced: bool,
    rows_per_second: f64,
}

impl RowMaker {
    pub fn new(options: &SimulatorOptions) -> Self {
        let (is_paced, rate) = match options.rate {
            SimulatorRate::Paced(rate) => (true, rate),
            SimulatorRate::Unlimited => (false, DEFAULT_RATE),
        };
        RowMaker {
            schema: Arc::new(Schema::new(vec![
                Field::new("sensor_id", DataType::Utf8, false),
                Field::new("metric_type", DataType::Utf8, false),
                Field::new("value", DataType::Float64, false),
                Field::new("timestamp", timestamp_type(), false),
            ])),
            seed: options.seed,
            sensors: options.sensors,
            digits: options.sensors.to_string().len().max(2),
            anomaly_share: options.anomaly_share,
            count: options.count,
            is_paced,
            rows_per_second: rate.count / rate.per.as_secs_f64(),
        }
    }

    /// How long after the first row a row is dated, and due. Ends somewhere in the future instead of overflowing.
    pub fn time_of(&self, row: u64) -> Duration {
        Duration::try_from_secs_f64(row as f64 / self.rows_per_second).unwrap_or(FOREVER).min(FOREVER)
    }

    /// Before which row they are due by now.
    pub fn due_at(&self, live: Live) -> u64 {
        live.first.saturating_add((live.since.elapsed().as_secs_f64() * self.rows_per_second) as u64)
    }

    pub fn batch(&self, rows: Range<u64>, start: Timestamp) -> Result<RecordBatch> {
        let count = (rows.end - rows.start) as usize;
        let mut sensors = StringBuilder::with_capacity(count, 10 * count);
        let mut metrics = StringBuilder::with_capacity(count, 10 * count);
        let mut values = Float64Builder::with_capacity(count);
        let mut times = TimestampMicrosecondBuilder::with_capacity(count);
        for row in rows {
            let mut draw = Draws::of_row(self.seed, row);
            let metric = &METRICS[draw.below(METRICS.len())];
            let (sensor, digits) = (draw.below(self.sensors as usize) + 1, self.digits);
            write!(sensors, "sensor-{sensor:0digits$}").expect("memory takes it");
            sensors.append_value("");
            metrics.append_value(metric.name);
            let (low, high) = if draw.fraction() < self.anomaly_share { metric.outlier } else { metric.usual };
            values.append_value(((low + (high - low) * draw.fraction()) * 100.0).round() / 100.0);
            times.append_value(start.0.saturating_add(self.time_of(row).as_micros() as i64));
        }
        let times = times.finish().with_timezone("UTC");
        let columns: Vec<ArrayRef> =
            vec![Arc::new(sensors.finish()), Arc::new(metrics.finish()), Arc::new(values.finish()), Arc::new(times)];
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

/// A hundred years: what is due then is never due, and no clock overflows.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// The random numbers of one row: SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
/// OOPSLA 2014), started at a hash of seed and row so that no row needs those before it.
struct Draws(u64);

impl Draws {
    fn of_row(seed: u64, row: u64) -> Self {
        let mut draws = Draws(seed);
        draws.0 = draws.bits() ^ row;
        draws.0 = draws.bits();
        draws
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// From 0 to below 1.
    fn fraction(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
}
