//! The inputs of one task: a reader and a decoder for each source.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{FieldRef, Schema, TimestampMicrosecondType};
use async_trait::async_trait;
use futures::future::{FutureExt, select_all};
use pipeline_stage::keyed::KeyColumns;
use pipeline_stage::{ColumnType, Partition, Position, Reader, Result, SourceBatch, StageError, Timestamp};

use super::decode::{Decode, DecodedRows, Share};
use super::retry::{Retry, until_works};
use super::shared::Shared;
use super::source_worker::From;
use crate::plan::Stage;
use crate::store::{Segment, StoredRow};

/// One source, as a task reads it.
pub struct Input {
    /// The source's stage.
    pub source: usize,
    /// Its id, for messages.
    id: String,
    reader: Box<dyn Reader>,
    decode: Decode,
    /// The first timestamp column: event time, for the watermark.
    time: Option<usize>,
    is_over: bool,
    retry: Retry,
    kept: Option<Kept>,
}

/// What is known of a source whose rows are kept in the log, because they cannot be read again.
struct Kept {
    /// Up to where the log has been computed again: the reader stands at its end already.
    replayed: Option<Position>,
}

impl Input {
    /// Opens a source's part of a task.
    pub async fn open(shared: &Shared, source: usize, partition: &Partition, from: Option<Position>) -> Result<Self> {
        Self::open_at(shared, source, partition, from.map_or(From::Start, From::Position)).await
    }

    /// Opens it at the oldest row there is.
    pub async fn open_first(shared: &Shared, source: usize, partition: &Partition) -> Result<Self> {
        Self::open_at(shared, source, partition, From::Oldest).await
    }

    /// Opens a source that cannot be read again where what is logged of it ends. The state begins at `from`: up to the end
    /// the rows come from the log.
    pub async fn open_kept(
        shared: &Shared,
        source: usize,
        partition: &Partition,
        (from, end): (Option<Position>, Option<Position>),
    ) -> Result<Self> {
        let mut input = match end {
            // Nothing new is read: what the former file names may not even be there any more.
            Some(end) if shared.run.catches_up => Self::new(shared, source, partition, Box::new(Nothing(end)))?,
            end => Self::open(shared, source, partition, end).await?,
        };
        input.kept = Some(Kept { replayed: from });
        Ok(input)
    }

    async fn open_at(shared: &Shared, source: usize, partition: &Partition, from: From) -> Result<Self> {
        let id = &shared.plan.stages[source].id;
        let open = || shared.sources[&source].open(partition, from.clone());
        let reader = until_works(retry_of(&shared.plan.stages[source]), open).await.map_err(|error| error.named(id))?;
        Self::new(shared, source, partition, reader)
    }

    fn new(shared: &Shared, source: usize, partition: &Partition, reader: Box<dyn Reader>) -> Result<Self> {
        let stage = &shared.plan.stages[source];
        let format = shared.plan.build_format(source)?;
        let tasks = stage.source.as_ref().map_or(1, |source| source.tasks);
        let share = match tasks {
            0 | 1 => None,
            _ => {
                let key = KeyColumns::new(&shared.plan.settings.key, &stage.schema, "key")?;
                Some(Share { task: partition.number, tasks, key })
            }
        };
        let time = time_column(&stage.schema);
        let place = format!("{}/{}", stage.id, partition.name).into();
        Ok(Input {
            source,
            id: stage.id.clone(),
            reader,
            decode: Decode::new(format, place, share),
            time,
            is_over: false,
            retry: retry_of(stage),
            kept: None,
        })
    }

    /// Where the next row begins.
    pub fn position(&self) -> Position {
        let replayed = self.kept.as_ref().and_then(|kept| kept.replayed.clone());
        replayed.unwrap_or_else(|| self.reader.position())
    }

    /// Whether its rows are kept in the log.
    pub fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Rows left to read.
    pub fn lag(&self) -> Option<u64> {
        self.reader.lag()
    }

    /// Decodes a batch this input has given.
    pub fn decode(&mut self, batch: SourceBatch) -> Result<DecodedRows> {
        self.decode.decode(batch)
    }

    /// Decodes a payload that was kept.
    pub fn decode_again(&mut self, row: &StoredRow) -> Result<DecodedRows> {
        self.decode.decode_again(row)
    }

    /// The latest event time of some rows.
    pub fn latest(&self, rows: &DecodedRows) -> Option<Timestamp> {
        latest(&rows.rows.batch, self.time?)
    }

    /// The next batch; what may pass is waited for. Cancel-safe: a pause that was cut short is only a sooner try.
    pub async fn next(&mut self, until: Option<&Position>) -> Result<Option<SourceBatch>> {
        if let Some(kept) = &mut self.kept {
            kept.replayed = None;
        }
        loop {
            match self.reader.next(until).await {
                Ok(batch) => {
                    self.retry.worked();
                    // One without rows says no more than that the source works again.
                    if batch.as_ref().is_none_or(|batch| !batch.is_empty()) {
                        return Ok(batch);
                    }
                }
                Err(error) => self.retry.wait(error).await.map_err(|error| error.named(&self.id))?,
            }
        }
    }

    /// Reads a part of an epoch again, exactly as it was.
    pub async fn read_again(
        &mut self,
        segment: &Segment,
        mut each: impl FnMut(&mut Self, SourceBatch) -> Result<()>,
    ) -> Result<()> {
        if let Some(kept) = &mut self.kept {
            kept.replayed = Some(segment.until.clone());
            return self.read_kept(segment, each);
        }
        let mut rows = 0;
        while let Some(batch) = self.next(Some(&segment.until)).await? {
            rows += batch.len() as u64;
            each(self, batch)?;
        }
        if rows != segment.rows {
            return Err(StageError::fatal(format!(
                "`{}` gave {rows} rows up to offset {} where it gave {} before the restart: the input has changed, \
                 so the output cannot be continued; `--cold-start` begins anew",
                segment.source, segment.until.offset, segment.rows
            )));
        }
        Ok(())
    }

    fn read_kept(
        &mut self,
        segment: &Segment,
        mut each: impl FnMut(&mut Self, SourceBatch) -> Result<()>,
    ) -> Result<()> {
        let mut rows = 0;
        for kept in &segment.kept {
            let batch = kept.batch()?;
            rows += batch.len() as u64;
            each(self, batch)?;
        }
        match rows == segment.rows {
            true => Ok(()),
            false => Err(StageError::fatal(format!(
                "the epoch log holds {rows} rows of `{}` up to offset {} where it should hold {}, and they cannot be read \
                 again; `--cold-start` begins anew",
                segment.source, segment.until.offset, segment.rows
            ))),
        }
    }
}

/// Reads nothing, where a source ended.
struct Nothing(Position);

#[async_trait]
impl Reader for Nothing {
    async fn next(&mut self, _until: Option<&Position>) -> Result<Option<SourceBatch>> {
        Ok(None)
    }

    fn position(&self) -> Position {
        self.0.clone()
    }
}

/// The next batch of any input that is not over; none when all are. Cancel-safe, because each reader is.
///
/// `turn` rises with each look. Which input comes first does not change what is computed: the log has the order.
pub async fn next_of(inputs: &mut [Input], turn: &mut usize) -> Result<Option<(usize, SourceBatch)>> {
    loop {
        let mut waiting: Vec<_> = inputs
            .iter_mut()
            .enumerate()
            .filter(|(_, input)| !input.is_over)
            .map(|(number, input)| async move { (number, input.next(None).await) }.boxed())
            .collect();
        if waiting.is_empty() {
            return Ok(None);
        }
        // `select_all` looks at the first one first: without turning, a busy input would starve the others.
        let first = *turn % waiting.len();
        waiting.rotate_left(first);
        *turn = turn.wrapping_add(1);
        let ((number, batch), _, rest) = select_all(waiting).await;
        drop(rest);
        match batch? {
            Some(batch) => return Ok(Some((number, batch))),
            None => inputs[number].is_over = true,
        }
    }
}

fn retry_of(stage: &Stage) -> Retry {
    Retry::of_source(&stage.id, stage.source.as_ref().is_none_or(|source| source.is_replayable))
}

/// The column of event times among these, if there is one: the first with times.
pub fn time_column(schema: &Schema) -> Option<usize> {
    let is_time = |field: &FieldRef| ColumnType::of(field.data_type()) == Some(ColumnType::Timestamp);
    schema.fields().iter().position(is_time)
}

/// The latest time in a column.
pub fn latest(rows: &RecordBatch, time: usize) -> Option<Timestamp> {
    let column = rows.column(time);
    if column.null_count() == column.len() {
        return None;
    }
    arrow::compute::max(column.as_primitive::<TimestampMicrosecondType>()).map(Timestamp)
}
