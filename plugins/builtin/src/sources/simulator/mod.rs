//! `simulator`: sensor readings that nobody measured, for a first look and for measuring the engine.
//!
//! Row *i* is a function of the seed and *i*, so it can be read again from any position like rows of a log.

mod rows;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use pipeline_stage::{
    Assignment, MAX_BATCH_ROWS, Partition, Position, Rate, Reader, Result, Source, SourceBatch, SourceContext,
    SourceOptions, SourceOutput, SourceRows, StageError, StageOptions, Timestamp, Zone,
};
use schemars::{JsonSchema, Schema as OptionSchema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use tokio::time::{Instant, sleep_until};

use crate::formats::time::time_of_text;
use rows::RowMaker;

/// Makes up sensor readings: temperature, humidity and pressure of ten sensors, one in twenty of them an outlier.
///
/// Columns: `sensor_id` (string, `sensor-04`), `metric_type` (string), `value` (float, two decimals), `timestamp`.
/// Temperature is 15 to 30, humidity 30 to 60, pressure 1000 to 1020; outliers are 50 to 100, 80 to 100 and 950 to
/// 1050. The same seed gives the same rows.
///
/// A restart goes on with the next row. Rows are dated from the present then, unless `start` says otherwise. Rows
/// that the pipeline was too busy for are not lost: they follow as fast as it can take them.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SimulatorOptions {
    /// How many rows there are in a time, or `unlimited` for as many as the pipeline can take; those are dated as if
    /// they came at 200 per second.
    #[serde(default = "default_rate")]
    pub rate: SimulatorRate,
    /// After how many rows it ends. Default: never; a run with `--once` needs it.
    #[serde(default)]
    pub count: Option<u64>,
    /// Which random numbers are drawn.
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// How many sensors there are; each has all three metrics.
    #[serde(default = "default_sensors")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub sensors: u32,
    /// Which part of the rows are outliers: 0.05 is one in twenty.
    #[serde(default = "default_anomaly_share")]
    #[schemars(range(min = 0, max = 1))]
    pub anomaly_share: f64,
    /// When the first row is dated, as RFC 3339 (UTC if it names no zone); the others follow at `rate`. Default: when
    /// the pipeline starts.
    #[serde(default)]
    pub start: Option<String>,
}

fn default_rate() -> SimulatorRate {
    SimulatorRate::Paced(DEFAULT_RATE)
}

fn default_seed() -> u64 {
    1
}

fn default_sensors() -> u32 {
    10
}

fn default_anomaly_share() -> f64 {
    0.05
}

const DEFAULT_RATE: Rate = Rate { count: 200.0, per: Duration::from_secs(1) };

/// Thirty million series are beyond what one task is meant for, and ids stay short.
const MAX_SENSORS: u32 = 10_000_000;

/// A rate (`200 per second`), or `unlimited`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SimulatorRate {
    /// As fast as rows are taken.
    Unlimited,
    /// No faster than this.
    Paced(Rate),
}

impl<'de> Deserialize<'de> for SimulatorRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        match value.as_str() {
            Some("unlimited") => Ok(SimulatorRate::Unlimited),
            _ => Rate::deserialize(value).map(SimulatorRate::Paced).map_err(serde::de::Error::custom),
        }
    }
}

impl JsonSchema for SimulatorRate {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SimulatorRate".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> OptionSchema {
        json_schema!({ "anyOf": [Rate::json_schema(generator), { "const": "unlimited" }] })
    }
}

impl StageOptions for SimulatorOptions {
    const NAME: &'static str = "simulator";
    const EXAMPLE: &'static str = "
readings:
  type: simulator
  rate: 200 per second
  sensors: 10
  seed: 1
";
}

impl SourceOptions for SimulatorOptions {
    fn build(self, context: SourceContext) -> Result<Box<dyn Source>> {
        let wrong = |option: &str, message: String| Err(StageError::config(message).at_option(option));
        if self.sensors == 0 || MAX_SENSORS < self.sensors {
            return wrong("sensors", format!("`sensors` is {}, it must be 1 to {MAX_SENSORS}", self.sensors));
        }
        if !(0.0..=1.0).contains(&self.anomaly_share) {
            return wrong("anomaly_share", format!("`anomaly_share` is {}, it must be 0 to 1", self.anomaly_share));
        }
        if context.stage.once && self.count.is_none() {
            let message = "a run with `--once` ends when all rows are read, and without `count` there is no last one";
            return wrong("count", message.into());
        }
        let start = match &self.start {
            Some(text) => match time_of_text(text, Zone::Utc) {
                Ok(micros) => Some(Timestamp(micros)),
                Err(_) => {
                    return wrong("start", format!("`start` is `{text}`, it must be like `2025-07-20T08:19:16Z`"));
                }
            },
            None => None,
        };
        Ok(Box::new(Simulator { rows: RowMaker::new(&self), start, is_assigned: false }))
    }
}

struct Simulator {
    rows: RowMaker,
    start: Option<Timestamp>,
    is_assigned: bool,
}

#[async_trait]
impl Source for Simulator {
    fn output(&self) -> SourceOutput {
        SourceOutput::Columns(self.rows.schema.clone())
    }

    async fn assignment(&mut self) -> Result<Assignment> {
        Ok(Assignment::of_one_partition(&mut self.is_assigned))
    }

    async fn open(&mut self, _partition: &Partition, from: Option<&Position>) -> Result<Box<dyn Reader>> {
        let next = from.map_or(0, |position| position.offset);
        let before = from.map(start_of).transpose()?;
        let start = self.start.or(before).unwrap_or_else(wall_clock);
        // A start from the file stays; and rows without a pace have no present to return to.
        let returns_to_present = before.is_some() && self.start.is_none() && self.rows.is_paced;
        Ok(Box::new(SimulatorReader { rows: self.rows.clone(), start, returns_to_present, next, live: None }))
    }
}

/// Where the dates of a position start.
fn start_of(position: &Position) -> Result<Timestamp> {
    let text = position.detail.as_deref().unwrap_or_default();
    let micros = time_of_text(text, Zone::Utc).map_err(|_| {
        StageError::fatal(format!("the saved position says `{text}`, it must be the time of the first row"))
    })?;
    Ok(Timestamp(micros))
}

fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(since.as_micros() as i64)
}

struct SimulatorReader {
    rows: RowMaker,
    /// The time of row 0.
    start: Timestamp,
    /// The first row that was never read before is dated from the present, and so are those after it.
    returns_to_present: bool,
    next: u64,
    /// Since rows are new, not read again.
    live: Option<Live>,
}

/// When rows are due.
#[derive(Clone, Copy)]
struct Live {
    since: Instant,
    first: u64,
}

#[async_trait]
impl Reader for SimulatorReader {
    async fn next(&mut self, until: Option<&Position>) -> Result<Option<SourceBatch>> {
        let last_row = self.rows.count.unwrap_or(u64::MAX);
        let end = match until {
            Some(until) => {
                // Rows that are read again are dated as they were: the end of their epoch says from when.
                self.start = if until.detail.is_some() { start_of(until)? } else { self.start };
                until.offset.min(last_row)
            }
            None if self.next < last_row => self.due().await.min(last_row),
            None => last_row,
        };
        if end <= self.next {
            return Ok(None);
        }
        let rows = self.next..end.min(self.next + MAX_BATCH_ROWS as u64);
        let batch = self.rows.batch(rows.clone(), self.start)?;
        self.next = rows.end;
        Ok(Some(SourceBatch { rows: SourceRows::Columns(batch), offsets: rows.collect() }))
    }

    fn position(&self) -> Position {
        Position { offset: self.next, detail: Some(self.start.to_rfc3339()) }
    }

    fn lag(&self) -> Option<u64> {
        match (self.rows.count, self.live) {
            (Some(count), _) => Some(count.saturating_sub(self.next)),
            (None, Some(live)) if self.rows.is_paced => Some(self.rows.due_at(live).saturating_sub(self.next)),
            (None, _) => None,
        }
    }
}

impl SimulatorReader {
    /// Waits until a row is due, and says before which row they are.
    async fn due(&mut self) -> u64 {
        let live = *self.live.get_or_insert_with(|| Live { since: Instant::now(), first: self.next });
        if std::mem::replace(&mut self.returns_to_present, false) {
            // Never before the row that was read last.
            let since_start = self.rows.time_of(self.next).as_micros() as i64;
            self.start = self.start.max(Timestamp(wall_clock().0.saturating_sub(since_start)));
        }
        if !self.rows.is_paced {
            return u64::MAX;
        }
        sleep_until(live.since + self.rows.time_of(self.next - live.first + 1)).await;
        // The timer and the division round differently.
        self.rows.due_at(live).max(self.next + 1)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, RecordBatch};
    use arrow::compute::concat_batches;
    use arrow::datatypes::{Float64Type, TimestampMicrosecondType};
    use pipeline_stage::{Framing, Role};
    use pipeline_testkit::stage_context;
    use serde_json::json;

    use super::rows::METRICS;
    use super::*;

    fn build(options: serde_json::Value, once: bool) -> Result<Box<dyn Source>> {
        let mut stage = stage_context();
        stage.once = once;
        let context = SourceContext { stage, framing: None::<Framing>, role: Role::Leader };
        pipeline_stage::parse::<SimulatorOptions>(options)?.build(context)
    }

    fn unlimited(more: serde_json::Value) -> Box<dyn Source> {
        let mut options = json!({"rate": "unlimited", "start": "2025-07-20T08:19:16Z"});
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        build(options, false).unwrap()
    }

    async fn read_all(reader: &mut dyn Reader, until: Option<&Position>) -> (RecordBatch, Vec<u64>) {
        let (mut batches, mut offsets) = (Vec::new(), Vec::new());
        while let Some(batch) = reader.next(until).await.unwrap() {
            let SourceRows::Columns(rows) = batch.rows else { panic!("it gives columns") };
            batches.push(rows);
            offsets.extend(batch.offsets);
        }
        (concat_batches(&batches[0].schema(), &batches).unwrap(), offsets)
    }

    async fn rows(source: &mut dyn Source, from: Option<&Position>) -> (RecordBatch, Vec<u64>) {
        read_all(&mut *source.open(&Partition::numbered(0), from).await.unwrap(), None).await
    }

    #[tokio::test]
    async fn the_same_seed_gives_the_same_rows() {
        let (first, offsets) = rows(&mut *unlimited(json!({"count": 20_000})), None).await;
        let (again, _) = rows(&mut *unlimited(json!({"count": 20_000})), None).await;
        let (other, _) = rows(&mut *unlimited(json!({"count": 20_000, "seed": 2})), None).await;
        assert_eq!(offsets, (0..20_000).collect::<Vec<u64>>());
        assert_eq!(first, again);
        assert_ne!(first, other);
    }

    #[tokio::test]
    async fn values_are_in_their_ranges_and_one_in_twenty_is_an_outlier() {
        let (batch, _) = rows(&mut *unlimited(json!({"count": 60_000})), None).await;
        let (metrics, values) = (batch.column(1).as_string::<i32>(), batch.column(2).as_primitive::<Float64Type>());
        for metric in &METRICS {
            let values: Vec<f64> = (0..batch.num_rows())
                .filter(|&row| metrics.value(row) == metric.name)
                .map(|row| values.value(row))
                .collect();
            let inside =
                |range: (f64, f64)| values.iter().filter(|&&value| range.0 <= value && value <= range.1).count();
            assert!((19_000..21_000).contains(&values.len()), "{} of {}", values.len(), metric.name);
            if metric.name != "pressure" {
                assert_eq!(inside(metric.usual) + inside(metric.outlier), values.len());
                assert!((850..1_150).contains(&inside(metric.outlier)), "{} outliers", inside(metric.outlier));
            }
            assert!(values.iter().all(|value| (value * 100.0).round() / 100.0 == *value), "two decimals");
        }
        let names: std::collections::BTreeSet<_> = batch.column(0).as_string::<i32>().iter().flatten().collect();
        assert_eq!((names.len(), names.first(), names.last()), (10, Some(&"sensor-01"), Some(&"sensor-10")));
    }

    #[tokio::test]
    async fn rows_follow_each_other_at_the_rate() {
        for (rate, micros) in
            [(json!("unlimited"), 5_000), (json!("3000000 per second"), 0), (json!("1e9 per second"), 0)]
        {
            let (batch, _) = rows(&mut *unlimited(json!({"rate": rate, "count": 100})), None).await;
            let times = batch.column(3).as_primitive::<TimestampMicrosecondType>();
            assert_eq!((times.value(0), times.value(1) - times.value(0)), (1_752_999_556_000_000, micros));
        }
    }

    #[tokio::test]
    async fn can_be_read_again_from_any_position() {
        let mut source = unlimited(json!({"count": 30_000}));
        let (all, _) = rows(&mut *source, None).await;
        for (from, until) in [(0, 1), (17, 8_191), (8_192, 8_193), (100, 30_000), (29_999, 50_000)] {
            let detail = Some("2025-07-20T08:19:16Z".to_string());
            let (from, until) = (Position { offset: from, detail: detail.clone() }, Position { offset: until, detail });
            let mut reader = source.open(&Partition::numbered(3), Some(&from)).await.unwrap();
            let (part, offsets) = read_all(&mut *reader, Some(&until)).await;
            let end = until.offset.min(30_000);
            assert_eq!(offsets, (from.offset..end).collect::<Vec<u64>>());
            assert_eq!(part, all.slice(from.offset as usize, (end - from.offset) as usize));
            assert_eq!(reader.position().offset, end);
        }
    }

    #[tokio::test]
    async fn after_a_restart_old_rows_keep_their_dates_and_new_ones_are_of_now() {
        let mut source = build(json!({"rate": "1000000 per second"}), false).unwrap();
        let old = |offset| Position { offset, detail: Some("2020-01-01T00:00:00Z".into()) };
        let mut reader = source.open(&Partition::numbered(0), Some(&old(10))).await.unwrap();
        assert_eq!(reader.position(), old(10));
        let (again, _) = read_all(&mut *reader, Some(&old(20))).await;
        let times = again.column(3).as_primitive::<TimestampMicrosecondType>();
        assert_eq!(times.value(0), 1_577_836_800_000_010);
        let before = wall_clock().0;
        let batch = reader.next(None).await.unwrap().unwrap();
        let SourceRows::Columns(rows) = batch.rows else { panic!("it gives columns") };
        assert_eq!(batch.offsets[0], 20);
        assert!(before <= rows.column(3).as_primitive::<TimestampMicrosecondType>().value(0));
        let through = reader.position();
        let mut reader = source.open(&Partition::numbered(0), Some(&old(20))).await.unwrap();
        let (again, _) = read_all(&mut *reader, Some(&through)).await;
        assert_eq!(again, rows, "and they are read again as of then");
    }

    #[tokio::test]
    async fn a_call_that_is_dropped_loses_no_row() {
        let mut source = build(json!({"rate": "100 per second"}), false).unwrap();
        let mut reader = source.open(&Partition::numbered(0), None).await.unwrap();
        for _ in 0..10 {
            tokio::select! { biased;
                _ = reader.next(None) => panic!("the first row is due after 10 ms"),
                _ = std::future::ready(()) => {}
            }
        }
        assert_eq!(reader.next(None).await.unwrap().unwrap().offsets[0], 0);
    }

    #[tokio::test]
    async fn has_one_partition_and_never_another() {
        let mut source = unlimited(json!({}));
        assert_eq!(source.assignment().await.unwrap(), Assignment::Gained(vec![Partition::numbered(0)]));
        assert_eq!(source.assignment().await.unwrap(), Assignment::Final);
        assert_eq!(source.assignment().await.unwrap(), Assignment::Final);
    }

    #[test]
    fn refuses_bad_options() {
        for (bad, once, option, message) in [
            (json!({"sensors": 0}), false, "sensors", "`sensors` is 0, it must be 1 to 10000000"),
            (json!({"anomaly_share": 1.5}), false, "anomaly_share", "`anomaly_share` is 1.5, it must be 0 to 1"),
            (json!({"start": "today"}), false, "start", "`start` is `today`, it must be like `2025-07-20T08:19:16Z`"),
            (
                json!({"rate": "fast"}),
                false,
                "rate",
                "`fast` is not a rate, it would be like `200 per second` or `6 per minute`",
            ),
            (
                json!({}),
                true,
                "count",
                "a run with `--once` ends when all rows are read, and without `count` there is no last one",
            ),
        ] {
            let error = build(bad, once).err().expect("bad options");
            assert_eq!((error.option(), error.to_string().as_str()), (Some(option), message));
        }
    }
}
