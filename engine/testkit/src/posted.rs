//! A source that cannot be read again, and those who send to it: what they were answered is known.
//!
//! Senders give a row once. One that gets no answer, because the engine is gone, gives up: so whatever is in the output
//! was answered or logged, and nothing else is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use async_trait::async_trait;
use pipeline_stage::{
    Assignment, Partition, Position, RawRows, Reader, Result, Source, SourceBatch, SourceContext, SourceOptions,
    SourceOutput, SourceRows, StageOptions,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::faulty::numbers_schema;
use crate::random::Random;

/// Gives rows that senders post to it, each once.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostedOptions {
    /// Names the [`Desk`]; see [`desk`].
    pub desk: String,
    /// How many partitions; 0: it has none of its own.
    pub partitions: u32,
    /// How many rows are sent to each.
    pub rows: u64,
    /// Whether it gives columns; otherwise JSON.
    #[serde(default)]
    pub columns: bool,
    /// How many bytes each has beside its columns, as JSON.
    #[serde(default)]
    pub ballast: usize,
}

impl StageOptions for PostedOptions {
    const NAME: &'static str = "posted";
    const EXAMPLE: &'static str =
        "readings:\n  type: posted\n  desk: readings\n  partitions: 1\n  rows: 100\n  columns: true\n";
}

impl SourceOptions for PostedOptions {
    fn build(self, _: SourceContext) -> Result<Box<dyn Source>> {
        Ok(Box::new(Posted { desk: desk(&self.desk), options: self, is_assigned: false }))
    }
}

/// What the senders know: it outlives the engine.
#[derive(Debug, Default)]
pub struct Desk {
    /// The numbers of rows that were answered, or found to be logged when the engine came back.
    pub answered: BTreeSet<(u32, u64)>,
    /// How many rows were given and lost with the engine that had them.
    pub given_up: u64,
    /// How many rows were logged by an engine that could not answer any more.
    pub unanswered: u64,
    /// By partition, how many rows were sent so far.
    sent: BTreeMap<u32, u64>,
    /// By partition, what waits for its answer: offset and number.
    waiting: BTreeMap<u32, BTreeMap<u64, u64>>,
}

impl Desk {
    /// Everything before an offset is logged.
    fn logged(&mut self, partition: u32, through: u64) -> u64 {
        let waiting = self.waiting.entry(partition).or_default();
        let rest = waiting.split_off(&through);
        let logged = std::mem::replace(waiting, rest);
        let count = logged.len() as u64;
        self.answered.extend(logged.into_values().map(|number| (partition, number)));
        count
    }
}

static DESKS: LazyLock<Mutex<HashMap<String, Arc<Mutex<Desk>>>>> = LazyLock::new(Mutex::default);

/// The desk of a name; new when nothing was sent yet.
pub fn desk(name: &str) -> Arc<Mutex<Desk>> {
    DESKS.lock().expect("no holder panics").entry(name.into()).or_default().clone()
}

struct Posted {
    options: PostedOptions,
    desk: Arc<Mutex<Desk>>,
    is_assigned: bool,
}

#[async_trait]
impl Source for Posted {
    fn output(&self) -> SourceOutput {
        if self.options.columns { SourceOutput::Columns(numbers_schema()) } else { SourceOutput::Raw }
    }

    fn is_replayable(&self) -> bool {
        false
    }

    fn has_partitions(&self) -> bool {
        0 < self.options.partitions
    }

    async fn partition_count(&mut self) -> Result<Option<u32>> {
        Ok(Some(self.options.partitions).filter(|count| 0 < *count))
    }

    async fn assignment(&mut self) -> Result<Assignment> {
        if std::mem::replace(&mut self.is_assigned, true) {
            return Ok(Assignment::Final);
        }
        Ok(Assignment::Gained((0..self.options.partitions.max(1)).map(Partition::numbered).collect()))
    }

    async fn open(&mut self, partition: &Partition, from: Option<&Position>) -> Result<Box<dyn Reader>> {
        let number = partition.number;
        let next = from.map_or(FIRST, |from| from.offset);
        let mut desk = self.desk.lock().expect("no holder panics");
        desk.unanswered += desk.logged(number, next);
        desk.given_up += desk.waiting.remove(&number).map_or(0, |waiting| waiting.len() as u64);
        let random = Random::new(u64::from(number) ^ next ^ 0x905f);
        let (desk, options) = (self.desk.clone(), self.options.clone());
        Ok(Box::new(PostedReader { desk, options, partition: number, next, random }))
    }

    async fn logged(&mut self, partition: &Partition, through: &Position) -> Result<()> {
        self.desk.lock().expect("no holder panics").logged(partition.number, through.offset);
        Ok(())
    }
}

/// A source may number its rows as it likes.
const FIRST: u64 = 1 << 40;

struct PostedReader {
    desk: Arc<Mutex<Desk>>,
    options: PostedOptions,
    partition: u32,
    next: u64,
    random: Random,
}

#[async_trait]
impl Reader for PostedReader {
    async fn next(&mut self, until: Option<&Position>) -> Result<Option<SourceBatch>> {
        assert!(until.is_none(), "it cannot read again");
        tokio::time::sleep(Duration::from_micros(300)).await;
        let mut desk = self.desk.lock().expect("no holder panics");
        let sent = desk.sent.entry(self.partition).or_default();
        let count = (1 + self.random.below(40) as u64).min(self.options.rows - *sent);
        if count == 0 {
            return Ok(None);
        }
        let numbers = *sent..*sent + count;
        *sent += count;
        let offsets: Vec<u64> = (self.next..self.next + count).collect();
        self.next += count;
        desk.waiting.entry(self.partition).or_default().extend(offsets.iter().copied().zip(numbers.clone()));
        let rows = numbers.map(|number| Row::of(self.partition, number)).collect::<Vec<_>>();
        let rows = if self.options.columns {
            SourceRows::Columns(columns(&rows)?)
        } else {
            payloads(&rows, self.options.ballast)
        };
        Ok(Some(SourceBatch { rows, offsets }))
    }

    fn position(&self) -> Position {
        Position::at(self.next)
    }
}

struct Row {
    series: String,
    value: f64,
    seconds: u64,
}

impl Row {
    /// A row is a function of its number, which is its time.
    fn of(partition: u32, number: u64) -> Self {
        let mut random = Random::new((u64::from(partition) << 40) ^ number);
        let value = 20.0 + random.fraction() * if random.once_in(20) { 50.0 } else { 2.0 };
        Row { series: format!("posted{partition}-{}", random.below(7)), value, seconds: number }
    }
}

fn columns(rows: &[Row]) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.series))),
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.value))),
        Arc::new(
            TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.seconds as i64 * 1_000_000))
                .with_timezone("UTC"),
        ),
    ];
    Ok(RecordBatch::try_new(numbers_schema(), columns)?)
}

fn payloads(rows: &[Row], ballast: usize) -> SourceRows {
    let ballast = "x".repeat(ballast);
    let payload = |row: &Row| {
        let Row { series, value, seconds } = row;
        format!(r#"{{"series":"{series}","value":{value},"time":{seconds},"ballast":"{ballast}"}}"#)
    };
    SourceRows::Raw(RawRows::of_payloads(rows.iter().map(payload).collect()))
}
