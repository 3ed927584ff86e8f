//! Sources and sinks whose calls block, as the engine sees them.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in the functions it calls")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::time::Duration;

use arrow_array::{Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use pipeline_blocking::{BlockingOutbox, BlockingReader, BlockingSource, Read, outbox, source};
use pipeline_stage::{
    Alert, Assignment, Pace, Partition, Position, Result, Source, SourceBatch, SourceOutput, SourceRows, StageError,
    WhenFull,
};
use tokio::time::timeout;

/// Rows come from a channel, one for each number sent; the stream is over when it is closed.
struct Numbers {
    numbers: Option<mpsc::Receiver<i64>>,
    n_open: Arc<AtomicUsize>,
}

struct NumberReader {
    numbers: mpsc::Receiver<i64>,
    next: u64,
    n_open: Arc<AtomicUsize>,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("number", DataType::Int64, false)]))
}

impl BlockingSource for Numbers {
    fn output(&self) -> SourceOutput {
        SourceOutput::Columns(schema())
    }

    fn assignment(&mut self, wait: Duration) -> Result<Option<Assignment>> {
        std::thread::sleep(wait);
        Ok(None)
    }

    fn open(&mut self, _: &Partition, from: Option<&Position>) -> Result<(Box<dyn BlockingReader>, Position)> {
        let next = from.map_or(0, |from| from.offset);
        let others = self.n_open.fetch_add(1, SeqCst);
        assert_eq!(others, 0, "the reader before was not closed");
        let numbers = self.numbers.take().ok_or_else(|| StageError::transient("there is nothing to read"))?;
        Ok((Box::new(NumberReader { numbers, next, n_open: self.n_open.clone() }), Position::at(next)))
    }
}

impl BlockingReader for NumberReader {
    fn read(&mut self, until: Option<&Position>, wait: Duration) -> Result<Read> {
        let is_there = until.is_some_and(|until| until.offset <= self.next);
        let found = if is_there { Err(mpsc::RecvTimeoutError::Timeout) } else { self.numbers.recv_timeout(wait) };
        let is_over = is_there || found == Err(mpsc::RecvTimeoutError::Disconnected);
        let rows = found.ok().map(|number| {
            let batch = RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(vec![number]))]).unwrap();
            self.next += 1;
            SourceBatch { rows: SourceRows::Columns(batch), offsets: vec![self.next - 1] }
        });
        Ok(Read { rows, position: Position::at(self.next), lag: None, is_over })
    }
}

impl Drop for NumberReader {
    fn drop(&mut self) {
        self.n_open.fetch_sub(1, SeqCst);
    }
}

fn numbers() -> (mpsc::Sender<i64>, Box<dyn Source>) {
    let (sender, numbers) = mpsc::channel();
    let blocking = Numbers { numbers: Some(numbers), n_open: Arc::default() };
    (sender, source("numbers", Box::new(blocking)))
}

fn number_of(batch: &SourceBatch) -> i64 {
    let SourceRows::Columns(rows) = &batch.rows else { panic!("columns were promised") };
    let numbers: &Int64Array = rows.column(0).as_any().downcast_ref().unwrap();
    numbers.value(0)
}

/// Long enough for a read to be under way, short enough for many.
const A_MOMENT: Duration = Duration::from_millis(5);

#[tokio::test]
async fn a_read_that_was_cancelled_loses_nothing() {
    let (sender, mut source) = numbers();
    let mut reader = source.open(&Partition::numbered(0), None).await.unwrap();
    let mut cancelled = 0;
    let mut found = Vec::new();
    for number in 0..20 {
        if timeout(A_MOMENT, reader.next(None)).await.is_err() {
            cancelled += 1;
        }
        assert_eq!(reader.position(), Position::at(number as u64), "a read that gave nothing moves nothing");
        sender.send(number).unwrap();
        found.push(number_of(&reader.next(None).await.unwrap().unwrap()));
    }
    assert_eq!((found, cancelled), ((0..20).collect(), 20));
    drop(sender);
    assert!(reader.next(None).await.unwrap().is_none());
}

#[tokio::test]
async fn a_reader_stops_at_its_limit_and_goes_on_without_one() {
    let (sender, mut source) = numbers();
    (0..5).for_each(|number| sender.send(number).unwrap());
    let mut reader = source.open(&Partition::numbered(0), None).await.unwrap();
    let until = Position::at(3);
    let mut found = Vec::new();
    while let Some(batch) = reader.next(Some(&until)).await.unwrap() {
        found.push(number_of(&batch));
    }
    assert_eq!((found, reader.position()), (vec![0, 1, 2], until));
    assert_eq!(number_of(&reader.next(None).await.unwrap().unwrap()), 3);
}

#[tokio::test]
async fn a_source_that_waits_for_changes_answers_other_calls() {
    let (_sender, mut source) = numbers();
    let mut answered = 0;
    for _ in 0..5 {
        assert!(timeout(A_MOMENT, source.assignment()).await.is_err(), "there is no change");
        source.forget(&Partition::numbered(0), &Position::at(1)).await.unwrap();
        answered += 1;
    }
    assert_eq!(answered, 5);
}

#[tokio::test]
async fn a_partition_is_opened_again_once_its_reader_is_closed() {
    let (_sender, mut source) = numbers();
    let partition = Partition::numbered(0);
    let mut reader = source.open(&partition, None).await.unwrap();
    assert!(timeout(A_MOMENT, reader.next(None)).await.is_err());
    drop(reader);
    // The assertion in `open` sees the reader that is closing.
    let Err(error) = source.open(&partition, None).await else { panic!("there is nothing to read") };
    assert_eq!(error.to_string(), "there is nothing to read");
}

#[tokio::test]
async fn a_call_that_panics_is_an_error() {
    struct Panics;
    impl BlockingSource for Panics {
        fn output(&self) -> SourceOutput {
            SourceOutput::Raw
        }
        fn assignment(&mut self, _: Duration) -> Result<Option<Assignment>> {
            panic!("on purpose")
        }
        fn open(&mut self, _: &Partition, _: Option<&Position>) -> Result<(Box<dyn BlockingReader>, Position)> {
            Err(StageError::transient("closed"))
        }
    }
    let mut source = source("panics", Box::new(Panics));
    assert_eq!(source.assignment().await.unwrap_err().to_string(), "a call has panicked, and its thread is gone");
    let Err(error) = source.open(&Partition::numbered(0), None).await else { panic!("its thread is gone") };
    assert_eq!(error.to_string(), "a call has panicked, and its thread is gone");
}

#[tokio::test]
async fn an_open_that_was_cancelled_does_not_keep_the_next_one_from_waiting() {
    let (_sender, mut source) = numbers();
    let partition = Partition::numbered(0);
    let mut reader = source.open(&partition, None).await.unwrap();
    for _ in 0..3 {
        assert!(timeout(A_MOMENT, source.open(&partition, None)).await.is_err(), "its reader is not closed");
    }
    assert!(timeout(A_MOMENT, reader.next(None)).await.is_err());
    drop(reader);
    // The assertion in `open` sees the reader that is closing.
    let Err(error) = source.open(&partition, None).await else { panic!("there is nothing to read") };
    assert_eq!(error.to_string(), "there is nothing to read");
}

/// A source and a reader that give nothing and do not wait, as they should.
struct Hasty {
    calls: Arc<AtomicUsize>,
}

impl BlockingSource for Hasty {
    fn output(&self) -> SourceOutput {
        SourceOutput::Raw
    }

    fn assignment(&mut self, _: Duration) -> Result<Option<Assignment>> {
        self.calls.fetch_add(1, SeqCst);
        Ok(None)
    }

    fn open(&mut self, _: &Partition, _: Option<&Position>) -> Result<(Box<dyn BlockingReader>, Position)> {
        Ok((Box::new(Hasty { calls: self.calls.clone() }), Position::at(0)))
    }
}

impl BlockingReader for Hasty {
    fn read(&mut self, _: Option<&Position>, _: Duration) -> Result<Read> {
        self.calls.fetch_add(1, SeqCst);
        Ok(Read { rows: None, position: Position::at(0), lag: None, is_over: false })
    }
}

#[tokio::test]
async fn what_gives_nothing_without_waiting_is_not_asked_without_a_pause() {
    let calls = Arc::<AtomicUsize>::default();
    let mut source = source("hasty", Box::new(Hasty { calls: calls.clone() }));
    let mut reader = source.open(&Partition::numbered(0), None).await.unwrap();
    let begun = std::time::Instant::now();
    let idle = A_MOMENT * 20;
    let waits = async { tokio::join!(timeout(idle, source.assignment()), timeout(idle, reader.next(None))) };
    let (change, rows) = waits.await;
    assert!(change.is_err() && rows.is_err());
    // Two threads, 5 ms for each call; a spinning one makes thousands.
    let (asked, may) = (calls.load(SeqCst), 4 + 2 * begun.elapsed().as_millis() as usize / 5);
    assert!(0 < asked && asked <= may, "asked {asked} times, {may} are allowed");
}

#[tokio::test]
async fn deliveries_that_were_given_up_do_not_pile_up_behind_one_that_hangs() {
    struct Hangs {
        until: mpsc::Receiver<()>,
        delivered: Arc<AtomicUsize>,
    }
    impl BlockingOutbox for Hangs {
        fn pace(&self) -> Pace {
            let (at_most_every, timeout) = (Duration::ZERO, A_MOMENT);
            Pace { at_most_every, timeout, max_pending: 1, when_full: WhenFull::Digest }
        }
        fn deliver(&mut self, _: &Alert) -> Result<()> {
            // Ends at once when nobody holds the other side any more.
            let _ = self.until.recv();
            self.delivered.fetch_add(1, SeqCst);
            Ok(())
        }
    }
    let (hold, until) = mpsc::channel();
    let delivered = Arc::<AtomicUsize>::default();
    let mut sink = outbox("hangs", Box::new(Hangs { until, delivered: delivered.clone() }));
    let alert = Alert { id: "1".into(), row: serde_json::Map::new(), digest_of: None };
    for _ in 0..5 {
        assert!(timeout(A_MOMENT, sink.deliver(&alert)).await.is_err(), "it hangs");
    }
    drop(hold);
    sink.deliver(&alert).await.unwrap();
    assert_eq!(delivered.load(SeqCst), 2, "the one that hung, and the one that was waited for");
}
