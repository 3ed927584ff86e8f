//! Hands the rows of one partition to its task, cut at the places the task asks for.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;

use async_trait::async_trait;
use pipeline_stage::{Position, Reader, Result, SourceBatch, SourceRows, StageError};
use tokio::sync::mpsc;

/// How many batches wait for a reader. Two keep it busy while the driver looks after others; more would only be memory.
pub(crate) const FEED_SIZE: usize = 2;

/// Wakes the driver's thread: there is something to do.
#[derive(Debug, Default)]
pub(crate) struct Waker(OnceLock<Thread>);

impl Waker {
    /// Says which thread to wake: the current one. Called once, by it.
    pub(crate) fn wakes_me(&self) {
        // A second call would come from the same thread.
        let _ = self.0.set(std::thread::current());
    }

    pub(crate) fn wake(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

/// What the driver hands to a reader.
#[derive(Debug)]
pub(crate) struct Feed {
    /// Rows, if there are any.
    pub(crate) batch: Option<SourceBatch>,
    /// The offset behind them, and behind whatever is no row.
    pub(crate) next: u64,
    /// Why there will be no more.
    pub(crate) failure: Option<StageError>,
}

/// Reads one partition.
pub(crate) struct KafkaReader {
    feeds: mpsc::Receiver<Feed>,
    driver: Arc<Waker>,
    /// What was fed and is not returned yet; its batch starts with the first row that is not.
    pending: Option<Feed>,
    position: u64,
    /// With `--once`: where the partition ended when it was opened.
    end: Option<u64>,
    high_watermark: Arc<AtomicU64>,
    /// Part of each position: a topic of the same name with another id is another one.
    topic_id: Option<String>,
}

impl KafkaReader {
    /// A reader that starts at `position`.
    pub(crate) fn new(
        feeds: mpsc::Receiver<Feed>,
        driver: Arc<Waker>,
        high_watermark: Arc<AtomicU64>,
        (position, end): (u64, Option<u64>),
    ) -> Self {
        KafkaReader { feeds, driver, pending: None, position, end, high_watermark, topic_id: None }
    }

    /// Of a topic with this id.
    pub(crate) fn of_topic(self, topic_id: Option<String>) -> Self {
        KafkaReader { topic_id, ..self }
    }

    /// Takes from what is pending the rows below `limit`. None when there are none.
    fn take_pending(&mut self, limit: u64) -> Option<SourceBatch> {
        let pending = self.pending.as_mut()?;
        let Some(batch) = pending.batch.take() else {
            self.position = self.position.max(pending.next);
            return None;
        };
        let n_below = batch.offsets.partition_point(|offset| *offset < limit);
        if n_below == batch.len() {
            self.position = self.position.max(pending.next);
            return Some(batch);
        }
        // All up to the first row above the limit is read: where the limit is, or where that row is, comes to the same.
        self.position = self.position.max(limit);
        let rows = (0 < n_below).then(|| part_of(&batch, 0, n_below));
        pending.batch = Some(part_of(&batch, n_below, batch.len()));
        rows
    }
}

#[async_trait]
impl Reader for KafkaReader {
    async fn next(&mut self, until: Option<&Position>) -> Result<Option<SourceBatch>> {
        let limit = until.map_or(u64::MAX, |until| until.offset).min(self.end.unwrap_or(u64::MAX));
        loop {
            if limit <= self.position {
                return Ok(None);
            }
            if let Some(batch) = self.take_pending(limit) {
                return Ok(Some(batch));
            }
            if limit <= self.position {
                return Ok(None);
            }
            if let Some(failure) = self.pending.take().and_then(|pending| pending.failure) {
                return Err(failure);
            }
            match self.feeds.recv().await {
                Some(feed) => self.pending = Some(feed),
                None => return Err(StageError::taken_over("the partition is no longer assigned to this process")),
            }
            self.driver.wake();
        }
    }

    fn position(&self) -> Position {
        Position { offset: self.position, detail: self.topic_id.clone() }
    }

    fn lag(&self) -> Option<u64> {
        Some(self.high_watermark.load(Ordering::Relaxed).saturating_sub(self.position))
    }
}

/// Rows `from..to` of a batch, without copying payloads.
fn part_of(batch: &SourceBatch, from: usize, to: usize) -> SourceBatch {
    let rows = match &batch.rows {
        SourceRows::Raw(raw) => {
            let mut part = raw.clone();
            part.payloads = raw.payloads.slice(from, to - from);
            part.keys = raw.keys.as_ref().map(|keys| keys.slice(from, to - from));
            part.times = raw.times.as_ref().map(|times| times.slice(from, to - from));
            SourceRows::Raw(part)
        }
        SourceRows::Columns(columns) => SourceRows::Columns(columns.slice(from, to - from)),
    };
    SourceBatch { rows, offsets: batch.offsets[from..to].to_vec() }
}

#[cfg(test)]
mod tests {
    use arrow::array::BinaryArray;
    use pipeline_stage::RawRows;

    use super::*;

    fn batch(offsets: &[u64]) -> SourceBatch {
        let payloads: Vec<String> = offsets.iter().map(u64::to_string).collect();
        let rows = RawRows {
            payloads: BinaryArray::from_iter_values(&payloads),
            keys: None,
            times: None,
            header: None,
            topic: "t".into(),
            partition: 0,
        };
        SourceBatch { rows: SourceRows::Raw(rows), offsets: offsets.to_vec() }
    }

    fn reader(end: Option<u64>, feeds: Vec<Feed>) -> KafkaReader {
        let (sender, receiver) = mpsc::channel(8);
        for feed in feeds {
            sender.try_send(feed).expect("room");
        }
        KafkaReader::new(receiver, Arc::default(), Arc::new(AtomicU64::new(100)), (0, end))
    }

    fn feed(offsets: &[u64], next: u64) -> Feed {
        Feed { batch: (!offsets.is_empty()).then(|| batch(offsets)), next, failure: None }
    }

    async fn offsets(reader: &mut KafkaReader, until: u64) -> Option<Vec<u64>> {
        let batch = reader.next(Some(&Position::at(until))).await.expect("no failure")?;
        let SourceRows::Raw(raw) = &batch.rows else { panic!("raw rows") };
        for (row, offset) in batch.offsets.iter().enumerate() {
            assert_eq!(raw.payloads.value(row), offset.to_string().as_bytes());
        }
        Some(batch.offsets)
    }

    #[tokio::test]
    async fn cuts_where_it_is_asked_to() {
        let mut reader = reader(None, vec![feed(&[0, 1, 2, 5, 6], 7), feed(&[7], 9)]);
        assert_eq!(reader.lag(), Some(100));
        assert_eq!(offsets(&mut reader, 2).await, Some(vec![0, 1]));
        assert_eq!(reader.position(), Position::at(2));
        assert_eq!(offsets(&mut reader, 2).await, None);
        // 3 and 4 are not there: the place between 2 and 5 is reached with 2.
        assert_eq!(offsets(&mut reader, 4).await, Some(vec![2]));
        assert_eq!(offsets(&mut reader, 4).await, None);
        assert_eq!(reader.position(), Position::at(4));
        assert_eq!(offsets(&mut reader, 8).await, Some(vec![5, 6]));
        assert_eq!(offsets(&mut reader, 8).await, Some(vec![7]));
        assert_eq!(reader.position(), Position::at(9));
        assert_eq!(offsets(&mut reader, 8).await, None);
    }

    #[tokio::test]
    async fn passes_a_limit_that_only_markers_follow() {
        let mut reader = reader(None, vec![feed(&[0, 1], 2), feed(&[], 4)]);
        assert_eq!(offsets(&mut reader, 4).await, Some(vec![0, 1]));
        assert_eq!(offsets(&mut reader, 4).await, None);
        assert_eq!(reader.position(), Position::at(4));
    }

    #[tokio::test]
    async fn ends_where_the_partition_ended_when_it_was_opened() {
        let mut reader = reader(Some(2), vec![feed(&[0, 1, 2, 3], 4)]);
        assert_eq!(reader.next(None).await.unwrap().map(|batch| batch.offsets), Some(vec![0, 1]));
        assert!(reader.next(None).await.unwrap().is_none());
        assert_eq!(reader.position(), Position::at(2));
    }

    #[tokio::test]
    async fn returns_the_rows_before_a_failure_first() {
        let failing = Feed { failure: Some(StageError::fatal("gone")), ..feed(&[0], 1) };
        let mut reader = reader(None, vec![failing]);
        assert_eq!(offsets(&mut reader, 9).await, Some(vec![0]));
        assert_eq!(reader.next(None).await.unwrap_err().to_string(), "gone");
        assert!(reader.next(None).await.is_err());
    }
}
