//! `heartbeat`: readings of a machine that is made up, a wave with a jump now and then.
//!
//! To read something real, replace `batch` and `due`. What must stay: rows have rising offsets, a reader that is opened
//! at a position goes on there, and the same rows come again when they are read again.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use pipeline_stage::{
    Assignment, MAX_BATCH_ROWS, Partition, Position, Reader, Result, Source, SourceBatch, SourceContext, SourceOptions,
    SourceOutput, SourceRows, StageError, StageOptions, StageType, timestamp_type,
};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

pipeline_abi::export_plugin!([StageType::source::<HeartbeatOptions>()]);

/// Gives readings of a machine that is made up.
///
/// Columns: `machine` (string), `value` (float, a wave around 20 that jumps once in 97 rows) and `timestamp`, from
/// 2025-01-01 on.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatOptions {
    /// How many rows come in a second.
    #[serde(default = "default_per_second")]
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1_000_000))]
    pub per_second: f64,
    /// After how many rows it ends. Default: never; a run with `--once` needs it.
    #[serde(default)]
    pub count: Option<u64>,
}

fn default_per_second() -> f64 {
    200.0
}

impl StageOptions for HeartbeatOptions {
    const NAME: &'static str = "heartbeat";
    const EXAMPLE: &'static str = "
readings:
  type: heartbeat
  per_second: 200
";
}

impl SourceOptions for HeartbeatOptions {
    fn build(self, context: SourceContext) -> Result<Box<dyn Source>> {
        let wrong = |option: &str, message: String| Err(StageError::config(message).at_option(option));
        if self.per_second.is_nan() || self.per_second <= 0.0 || 1e6 < self.per_second {
            let found = self.per_second;
            return wrong("per_second", format!("`per_second` is {found}, it must be above 0 and at most a million"));
        }
        if context.stage.once && self.count.is_none() {
            return wrong("count", "a run with `--once` needs `count`: without it there is no last row".into());
        }
        Ok(Box::new(Machine { options: self, is_assigned: false }))
    }
}

/// 2025-01-01T00:00:00Z
const START_MICROS: i64 = 1_735_689_600_000_000;

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("machine", DataType::Utf8, false),
        Field::new("value", DataType::Float64, false),
        Field::new("timestamp", timestamp_type(), false),
    ]))
}

impl HeartbeatOptions {
    /// The time of a row after the first one.
    fn time_of(&self, row: u64) -> Duration {
        Duration::from_secs_f64(row as f64 / self.per_second)
    }

    /// These rows; always the same.
    fn batch(&self, rows: &[u64]) -> Result<RecordBatch> {
        let machines: StringArray = rows.iter().map(|row| Some(if row % 2 == 0 { "press" } else { "lathe" })).collect();
        let wave = |row: u64| 20.0 + 2.0 * (row as f64 / 50.0).sin() + 0.1 * (row % 7) as f64;
        let values: Float64Array =
            rows.iter().map(|row| Some(wave(*row) + if row % 97 == 96 { 30.0 } else { 0.0 })).collect();
        let times = rows.iter().map(|row| START_MICROS + self.time_of(*row).as_micros() as i64);
        let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
        let arrays: Vec<ArrayRef> = vec![Arc::new(machines), Arc::new(values), Arc::new(times)];
        Ok(RecordBatch::try_new(columns(), arrays)?)
    }
}

struct Machine {
    options: HeartbeatOptions,
    is_assigned: bool,
}

#[async_trait]
impl Source for Machine {
    fn output(&self) -> SourceOutput {
        SourceOutput::Columns(columns())
    }

    /// One partition, for ever.
    async fn assignment(&mut self) -> Result<Assignment> {
        Ok(match std::mem::replace(&mut self.is_assigned, true) {
            false => Assignment::Gained(vec![Partition::numbered(0)]),
            true => Assignment::Final,
        })
    }

    async fn open(&mut self, _partition: &Partition, from: Option<&Position>) -> Result<Box<dyn Reader>> {
        let next = from.map_or(0, |position| position.offset);
        Ok(Box::new(MachineReader { options: self.options.clone(), next, first: next, since: Instant::now() }))
    }
}

struct MachineReader {
    options: HeartbeatOptions,
    next: u64,
    /// The row it was opened at, and when.
    first: u64,
    since: Instant,
}

#[async_trait]
impl Reader for MachineReader {
    async fn next(&mut self, until: Option<&Position>) -> Result<Option<SourceBatch>> {
        let last = self.options.count.unwrap_or(u64::MAX);
        let end = match until {
            // These rows were there before: nothing has to be waited for.
            Some(until) => until.offset.min(last),
            None if self.next < last => self.due().await.min(last),
            None => last,
        };
        let end = end.min(self.next + MAX_BATCH_ROWS as u64);
        if end <= self.next {
            return Ok(None);
        }
        let offsets: Vec<u64> = (self.next..end).collect();
        let rows = self.options.batch(&offsets)?;
        // Only now, behind the last `await`: a call that is given up must lose nothing.
        self.next = end;
        Ok(Some(SourceBatch { rows: SourceRows::Columns(rows), offsets }))
    }

    fn position(&self) -> Position {
        Position::at(self.next)
    }
}

impl MachineReader {
    /// Waits until a row is due, and says before which row they are.
    async fn due(&self) -> u64 {
        sleep_until(self.since + self.options.time_of(self.next - self.first + 1)).await;
        let due = self.since.elapsed().as_secs_f64() * self.options.per_second;
        (self.first + due as u64).max(self.next + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Machine {
        Machine { options: HeartbeatOptions { per_second: 1e5, count: Some(1_000) }, is_assigned: false }
    }

    /// Reads to the end, or to `until`; the offsets, and the rows of each batch.
    async fn read(from: u64, until: Option<u64>) -> (Vec<u64>, Vec<RecordBatch>) {
        let until = until.map(Position::at);
        let opened = source().open(&Partition::numbered(0), Some(&Position::at(from))).await;
        let mut reader = opened.expect("it opens");
        let (mut offsets, mut batches) = (Vec::new(), Vec::new());
        while let Some(batch) = reader.next(until.as_ref()).await.expect("it reads") {
            let SourceRows::Columns(rows) = batch.rows else { panic!("it gives columns") };
            offsets.extend(batch.offsets);
            batches.push(rows);
        }
        assert_eq!(reader.position(), Position::at(offsets.last().map_or(from, |last| last + 1)));
        (offsets, batches)
    }

    #[tokio::test]
    async fn gives_every_row_once() {
        let (offsets, _) = read(0, None).await;
        assert_eq!(offsets, (0..1_000).collect::<Vec<u64>>());
    }

    #[tokio::test]
    async fn goes_on_where_it_was_left_and_stops_where_it_must() {
        assert_eq!(read(990, None).await.0, (990..1_000).collect::<Vec<u64>>());
        assert_eq!(read(10, Some(20)).await.0, (10..20).collect::<Vec<u64>>());
    }

    #[tokio::test]
    async fn the_same_rows_are_the_same_again() {
        assert_eq!(read(100, Some(300)).await, read(100, Some(300)).await);
    }

    #[test]
    fn a_row_in_97_jumps() {
        let options = source().options;
        let rows = options.batch(&[95, 96]).expect("it is made up");
        let values = rows.column(1).as_any().downcast_ref::<Float64Array>().expect("floats");
        assert!(20.0 < values.value(1) - values.value(0));
    }
}
