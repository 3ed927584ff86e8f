//! Reads a file for the engine: a thread that may block reads, the task waits.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pipeline_stage::{Position, RawRows, Reader, Result, SourceBatch, SourceRows, StageError};
use tokio::task::{JoinHandle, spawn_blocking};

use super::FileToRead;
use super::records::{Batch, Because, Records};

/// How often a followed file is looked at: soon enough for people, rare enough to cost nothing.
const POLL: Duration = Duration::from_millis(200);

pub(super) struct FileReader {
    /// None while the thread has them.
    records: Option<Records>,
    /// A read that was started; kept here so that a dropped call loses nothing.
    reading: Option<JoinHandle<(Records, Result<Batch>)>>,
    /// What was read and not given yet.
    batch: Option<Batch>,
    follows: bool,
    once: bool,
    /// Where the file ended when it was opened, in a run with `--once`.
    end: Option<u64>,
    /// How long the file was when it was read last.
    length: Option<u64>,
    position: Position,
    topic: Arc<str>,
    partition: u32,
}

impl FileReader {
    /// Opens a file and goes to a position.
    ///
    /// # Errors
    /// Of kind `Config` when there is no such file, `Fatal` when it is not the one that the position is of.
    pub async fn open(
        file: &FileToRead,
        partition: u32,
        from: Option<&Position>,
        follows: bool,
        once: bool,
    ) -> Result<Self> {
        let (file, position) = (file.clone(), from.cloned().unwrap_or(Position::at(0)));
        let topic = file.name.as_str().into();
        let (records, position) = spawn_blocking(move || (Records::open(&file, Some(&position)), position))
            .await
            .map_err(|error| StageError::fatal("the thread that opens the file died").because(error))?;
        let records = records?;
        let length = records.length();
        let end = length.filter(|_| once);
        Ok(FileReader {
            records: Some(records),
            reading: None,
            batch: None,
            follows,
            once,
            end,
            length,
            position,
            topic,
            partition,
        })
    }

    /// Reads the next records that start before `stop`. Cancel-safe.
    async fn read(&mut self, stop: u64) -> Result<Batch> {
        if let Some(batch) = self.batch.take() {
            return Ok(batch);
        }
        if let Some(mut records) = self.records.take() {
            let takes_unfinished = !self.follows;
            self.reading = Some(spawn_blocking(move || {
                let batch = records.read_batch(stop, takes_unfinished);
                (records, batch)
            }));
        }
        let Some(reading) = &mut self.reading else {
            return Err(StageError::fatal("the thread that reads the file died"));
        };
        let finished = reading.await;
        self.reading = None;
        let (records, batch) =
            finished.map_err(|error| StageError::fatal("the thread that reads the file died").because(error))?;
        self.records = Some(records);
        batch
    }

    /// Gives the rows of a batch that start before `stop`, and keeps the others: a call that was dropped may have
    /// started a read that goes further.
    fn give(&mut self, mut batch: Batch, stop: u64) -> SourceBatch {
        let count = batch.offsets.partition_point(|&offset| offset < stop);
        let payloads = batch.payloads.slice(0, count);
        let offsets: Vec<u64> = batch.offsets.drain(..count).collect();
        let header = batch.header.clone();
        let end = batch.offsets.first().copied().unwrap_or(batch.end);
        self.move_to(end);
        if !batch.offsets.is_empty() {
            batch.payloads = batch.payloads.slice(count, batch.offsets.len());
            self.batch = Some(batch);
        }
        let (topic, partition) = (self.topic.clone(), self.partition);
        let raw = RawRows { payloads, keys: None, times: None, header, topic, partition };
        SourceBatch { rows: SourceRows::Raw(raw), offsets }
    }

    fn move_to(&mut self, offset: u64) {
        let fingerprint = self.records.as_ref().and_then(|records| records.fingerprint(offset));
        self.position = Position { offset, detail: fingerprint };
    }

    /// Nothing is left to read now: an error if there should be, else whether to look again later.
    fn is_worth_waiting(&self, until: Option<&Position>) -> Result<bool> {
        if let Some(until) = until {
            return Err(StageError::fatal(format!(
                "`{}` ends after {} bytes, of which {} were read before: it was cut or replaced",
                self.topic, self.position.offset, until.offset
            )));
        }
        let waits = self.follows && !self.once;
        if let (true, Some(records)) = (waits, &self.records) {
            records.is_still_there()?;
        }
        Ok(waits)
    }
}

#[async_trait]
impl Reader for FileReader {
    async fn next(&mut self, until: Option<&Position>) -> Result<Option<SourceBatch>> {
        let stop = until.map(|until| until.offset).or(self.end).unwrap_or(u64::MAX);
        loop {
            if stop <= self.position.offset {
                return Ok(None);
            }
            let batch = self.read(stop).await?;
            self.length = batch.length;
            let (because, end) = (batch.because, batch.end);
            if !batch.offsets.is_empty() {
                if batch.offsets[0] < stop {
                    return Ok(Some(self.give(batch, stop)));
                }
                self.batch = Some(batch);
                return Ok(None);
            }
            self.move_to(end);
            // A read that stopped early was perhaps started by a call that wanted less: only the end is the end.
            if because == Because::End {
                match self.is_worth_waiting(until)? {
                    true => tokio::time::sleep(POLL).await,
                    false => return Ok(None),
                }
            }
        }
    }

    fn position(&self) -> Position {
        self.position.clone()
    }

    fn lag(&self) -> Option<u64> {
        let end = self.end.or(self.length)?;
        Some(end.saturating_sub(self.position.offset))
    }
}
