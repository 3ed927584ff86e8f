//! A source with gaps and stalls and a transactional sink that fails, for tests of the engine.
//!
//! The sink keeps its rows and marks outside of itself, like a database: they survive the engine.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use pipeline_stage::{
    Assignment, BuiltSink, Claim, Commit, Delivery, EpochRows, Mark, Owner, Partition, Position, Reader, Result, Sink,
    SinkContext, SinkOptions, Source, SourceBatch, SourceContext, SourceOptions, SourceOutput, SourceRows, StageError,
    StageOptions, timestamp_type, write_json_row,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::random::Random;

/// Gives the same made-up readings at every run: several partitions, offsets with gaps, batches of random sizes, and
/// one partition that is much slower than the others.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NumbersOptions {
    /// How many partitions.
    pub partitions: u32,
    /// How many rows each has.
    pub rows: u64,
    /// Of the values.
    #[serde(default)]
    pub seed: u64,
}

impl StageOptions for NumbersOptions {
    const NAME: &'static str = "numbers";
    const EXAMPLE: &'static str = "readings:\n  type: numbers\n  partitions: 2\n  rows: 100\n";
}

impl SourceOptions for NumbersOptions {
    fn build(self, _: SourceContext) -> Result<Box<dyn Source>> {
        Ok(Box::new(Numbers { options: self, is_assigned: false }))
    }
}

struct Numbers {
    options: NumbersOptions,
    is_assigned: bool,
}

/// series (string), value (float), time (timestamp).
pub(crate) fn numbers_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("series", DataType::Utf8, false),
        Field::new("value", DataType::Float64, false),
        Field::new("time", timestamp_type(), false),
    ]))
}

#[async_trait]
impl Source for Numbers {
    fn output(&self) -> SourceOutput {
        SourceOutput::Columns(numbers_schema())
    }

    fn has_partitions(&self) -> bool {
        true
    }

    async fn partition_count(&mut self) -> Result<Option<u32>> {
        Ok(Some(self.options.partitions))
    }

    async fn assignment(&mut self) -> Result<Assignment> {
        if std::mem::replace(&mut self.is_assigned, true) {
            return Ok(Assignment::Final);
        }
        Ok(Assignment::Gained((0..self.options.partitions).map(Partition::numbered).collect()))
    }

    async fn open(&mut self, partition: &Partition, from: Option<&Position>) -> Result<Box<dyn Reader>> {
        let next = from.map_or(0, |from| from.offset.div_ceil(GAP));
        let random = Random::new(u64::from(partition.number) ^ next ^ 0x5eed);
        Ok(Box::new(NumbersReader { options: self.options.clone(), partition: partition.number, next, random }))
    }
}

/// Each row's offset is its number times this: the offsets between are gaps, as compaction leaves them.
const GAP: u64 = 3;

struct NumbersReader {
    options: NumbersOptions,
    partition: u32,
    next: u64,
    random: Random,
}

#[async_trait]
impl Reader for NumbersReader {
    async fn next(&mut self, until: Option<&Position>) -> Result<Option<SourceBatch>> {
        let end = until.map_or(self.options.rows, |until| until.offset.div_ceil(GAP)).min(self.options.rows);
        if end <= self.next {
            return Ok(None);
        }
        let pause = if self.partition == 0 { 3 } else { 1 };
        tokio::time::sleep(Duration::from_micros(pause * 300)).await;
        let count = (1 + self.random.below(40) as u64).min(end - self.next);
        let rows: Vec<u64> = (self.next..self.next + count).collect();
        self.next += count;
        let batch = self.batch(&rows)?;
        let offsets = rows.iter().map(|row| row * GAP).collect();
        Ok(Some(SourceBatch { rows: SourceRows::Columns(batch), offsets }))
    }

    fn position(&self) -> Position {
        Position::at(self.next * GAP)
    }

    fn lag(&self) -> Option<u64> {
        Some((self.options.rows - self.next) * GAP)
    }
}

impl NumbersReader {
    fn batch(&self, rows: &[u64]) -> Result<RecordBatch> {
        let made = rows.iter().map(|row| {
            let mut random = Random::new(self.options.seed ^ (u64::from(self.partition) << 40) ^ row);
            let series = format!("p{}-{}", self.partition, random.below(7));
            let value = 20.0 + random.fraction() * if random.once_in(20) { 50.0 } else { 2.0 };
            (series, value, *row as i64 * 1_000_000)
        });
        let (series, (values, times)): (Vec<_>, (Vec<_>, Vec<_>)) = made.map(|(s, v, t)| (s, (v, t))).unzip();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(series)),
            Arc::new(Float64Array::from(values)),
            Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
        ];
        Ok(RecordBatch::try_new(numbers_schema(), columns)?)
    }
}

/// What a [`MemoryOptions`] sink has written: it outlives the engine, as a database does.
#[derive(Debug, Default)]
pub struct Table {
    /// Each row as JSON with the id made from its source position.
    pub rows: Vec<String>,
    /// By sink and task.
    pub marks: HashMap<(String, String), Mark>,
    /// Commits that failed before they were made, and after.
    pub failures: (u64, u64),
    commits: u64,
}

static TABLES: LazyLock<Mutex<HashMap<String, Arc<Mutex<Table>>>>> = LazyLock::new(Mutex::default);

/// The table of a name; empty when nothing was written yet.
pub fn table(name: &str) -> Arc<Mutex<Table>> {
    TABLES.lock().expect("no holder panics").entry(name.into()).or_default().clone()
}

/// Keeps rows and marks in the process, in one step, and fails now and then: before the commit or, as if the
/// answer had been lost, after it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemoryOptions {
    /// Names the table; see [`table`].
    pub table: String,
    /// One commit in this many fails; 0: none.
    #[serde(default)]
    pub fail_one_in: u64,
    /// Rows whose `series` is this are refused.
    #[serde(default)]
    pub refuse: Option<String>,
}

impl StageOptions for MemoryOptions {
    const NAME: &'static str = "memory";
    const EXAMPLE: &'static str = "history:\n  type: memory\n  inputs: [readings]\n  table: history\n";
}

impl SinkOptions for MemoryOptions {
    fn build(self, _: SinkContext) -> Result<BuiltSink> {
        Ok(BuiltSink::Epochs(Box::new(Memory { table: table(&self.table), options: self })))
    }
}

struct Memory {
    options: MemoryOptions,
    table: Arc<Mutex<Table>>,
}

#[async_trait]
impl Sink for Memory {
    fn delivery(&self) -> Delivery {
        Delivery::Transactional
    }

    async fn claim(&mut self, owner: &Owner) -> Result<Claim> {
        let mut table = self.table.lock().expect("no holder panics");
        let Some(mark) = table.marks.get_mut(&(owner.sink.clone(), owner.task.clone())) else { return Ok(Claim::New) };
        let before = mark.clone();
        if before.state_id == owner.state_id && owner.generation < before.generation {
            return Err(StageError::lost("somebody else owns the task"));
        }
        if before.state_id == owner.state_id || owner.takes_over {
            mark.state_id.clone_from(&owner.state_id);
            mark.generation = owner.generation;
        }
        Ok(Claim::At(before))
    }

    async fn commit(&mut self, epochs: &[EpochRows]) -> Result<Commit> {
        tokio::time::sleep(Duration::from_micros(500)).await;
        let mut table = self.table.lock().expect("no holder panics");
        let refused = self.refused(epochs);
        if !refused.is_empty() {
            return Ok(Commit::Refused(refused));
        }
        table.commits += 1;
        let one_in = self.options.fail_one_in;
        let fails = 0 < one_in && Random::new(table.commits).bits().is_multiple_of(one_in);
        if fails && table.commits.is_multiple_of(2) {
            table.failures.0 += 1;
            return Err(StageError::transient("the sink is down"));
        }
        for epoch in epochs {
            write(&mut table, epoch)?;
        }
        if fails {
            table.failures.1 += 1;
            return Err(StageError::transient("the answer was lost"));
        }
        Ok(Commit::Done(Vec::new()))
    }
}

impl Memory {
    fn refused(&self, epochs: &[EpochRows]) -> Vec<pipeline_stage::Refused> {
        let mut refused = Vec::new();
        let Some(series) = &self.options.refuse else { return refused };
        for (epoch, rows) in epochs.iter().enumerate() {
            for (batch, (rows, _)) in rows.batches().enumerate() {
                let names = arrow::array::cast::as_string_array(rows.column(0));
                let bad = (0..rows.num_rows()).filter(|row| names.value(*row) == series);
                refused.extend(bad.map(|row| pipeline_stage::Refused {
                    epoch,
                    batch,
                    row,
                    why: format!("`{series}` is not wanted"),
                }));
            }
        }
        refused
    }
}

fn write(table: &mut Table, epoch: &EpochRows) -> Result<()> {
    let place = (epoch.mark.sink.clone(), epoch.mark.task.clone());
    let mark = table.marks.get(&place);
    let is_mine = mark.is_none_or(|mark| mark.generation <= epoch.mark.generation && mark.epoch < epoch.mark.epoch);
    if !is_mine {
        return Err(StageError::lost("somebody else owns the task"));
    }
    for (batch, origins) in epoch.batches() {
        for row in 0..batch.num_rows() {
            let mut line = origins.row_id(&epoch.mark.pipeline, row).into_bytes();
            write_json_row(batch, row, &mut line);
            table.rows.push(String::from_utf8_lossy(&line).into_owned());
        }
    }
    table.marks.insert(place, epoch.mark.clone());
    Ok(())
}
