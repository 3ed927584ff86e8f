//! Sources whose calls block.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pipeline_stage::{Assignment, Partition, Position, Reader, Result, Source, SourceOutput, StageError};
use tokio::sync::oneshot;

use crate::reader::{BlockingReader, ThreadedReader};
use crate::worker::{Worker, gone};

/// How long a call may wait for something to happen. In between, other calls have their turn: this is how late one
/// may be; shorter, an idle source would be asked more often for nothing.
pub const WAIT: Duration = Duration::from_millis(50);

/// How long a call takes at least that has nothing to say: a mistake must not cost a processor, and rows that come
/// meanwhile are not late.
pub const PAUSE: Duration = Duration::from_millis(5);

/// A [`Source`] whose calls block. One thread makes them, one after the other.
pub trait BlockingSource: Send + 'static {
    /// See [`Source::output`].
    fn output(&self) -> SourceOutput;

    /// See [`Source::is_replayable`].
    fn is_replayable(&self) -> bool {
        true
    }

    /// See [`Source::has_partitions`].
    fn has_partitions(&self) -> bool {
        false
    }

    /// See [`Source::partition_count`].
    fn partition_count(&mut self) -> Result<Option<u32>> {
        Ok(None)
    }

    /// See [`Source::check`].
    fn check(&mut self) -> Vec<StageError> {
        Vec::new()
    }

    /// The next change of what this process owns; `None` when there was none for `wait`.
    fn assignment(&mut self, wait: Duration) -> Result<Option<Assignment>>;

    /// See [`Source::open`]. The second value is where the reader begins.
    fn open(&mut self, partition: &Partition, from: Option<&Position>) -> Result<(Box<dyn BlockingReader>, Position)>;

    /// See [`Source::logged`].
    fn logged(&mut self, _partition: &Partition, _through: &Position) -> Result<()> {
        Ok(())
    }

    /// See [`Source::forget`].
    fn forget(&mut self, _partition: &Partition, _through: &Position) -> Result<()> {
        Ok(())
    }

    /// See [`Source::release`].
    fn release(&mut self, _partition: &Partition) -> Result<()> {
        Ok(())
    }
}

/// Makes a stage of a source whose calls block. `name` is that of its thread.
pub fn source(name: &str, source: Box<dyn BlockingSource>) -> Box<dyn Source> {
    Box::new(ThreadedSource {
        name: name.into(),
        output: source.output(),
        is_replayable: source.is_replayable(),
        has_partitions: source.has_partitions(),
        worker: Worker::new(name, source),
        waiting: None,
        open: HashMap::new(),
    })
}

/// A change that the thread waits for; the wait for it may be cut short and gone on with.
type Waiting = oneshot::Receiver<Result<Option<Assignment>>>;

struct ThreadedSource {
    name: String,
    output: SourceOutput,
    is_replayable: bool,
    has_partitions: bool,
    worker: Worker<Box<dyn BlockingSource>>,
    waiting: Option<Waiting>,
    /// Resolves once the last reader of a partition is closed.
    open: HashMap<Partition, oneshot::Receiver<()>>,
}

impl ThreadedSource {
    /// Waits until the last reader of a partition, which may be on its way still, is closed.
    async fn last_reader_closed(&mut self, partition: &Partition) {
        if let Some(closed) = self.open.get_mut(partition) {
            // A reader whose thread has panicked is closed, too.
            let _ = closed.await;
        }
        // Only now: this wait may be cut short, and the next one must wait, too.
        self.open.remove(partition);
    }
}

#[async_trait]
impl Source for ThreadedSource {
    fn output(&self) -> SourceOutput {
        self.output.clone()
    }

    fn is_replayable(&self) -> bool {
        self.is_replayable
    }

    fn has_partitions(&self) -> bool {
        self.has_partitions
    }

    async fn partition_count(&mut self) -> Result<Option<u32>> {
        self.worker.ask(|source| source.partition_count()).await?
    }

    async fn check(&mut self) -> Vec<StageError> {
        self.worker.ask(|source| source.check()).await.unwrap_or_else(|error| vec![error])
    }

    async fn assignment(&mut self) -> Result<Assignment> {
        loop {
            if self.waiting.is_none() {
                let (reply, answer) = oneshot::channel();
                self.worker.tell(move |source| {
                    let asked = Instant::now();
                    let change = source.assignment(WAIT);
                    if let Ok(None) = change {
                        // A source that does not wait, though it has nothing to say, must not be asked without a pause.
                        thread::sleep(PAUSE.saturating_sub(asked.elapsed()));
                    }
                    // A change that nobody waits for any more is not lost: the receiver is kept.
                    let _ = reply.send(change);
                })?;
                self.waiting = Some(answer);
            }
            let answer = self.waiting.as_mut().expect("just set").await;
            self.waiting = None;
            match answer {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(change))) => return Ok(change),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(gone()),
            }
        }
    }

    async fn open(&mut self, partition: &Partition, from: Option<&Position>) -> Result<Box<dyn Reader>> {
        // Two of one partition would disturb each other.
        self.last_reader_closed(partition).await;
        let (asked, from) = (partition.clone(), from.cloned());
        let (reader, start) = self.worker.ask(move |source| source.open(&asked, from.as_ref())).await??;
        let name = format!("{} {}", self.name, partition.name);
        let (reader, closed) = ThreadedReader::start(name, reader, start)?;
        self.open.insert(partition.clone(), closed);
        Ok(Box::new(reader))
    }

    async fn logged(&mut self, partition: &Partition, through: &Position) -> Result<()> {
        let (partition, through) = (partition.clone(), through.clone());
        self.worker.ask(move |source| source.logged(&partition, &through)).await?
    }

    async fn forget(&mut self, partition: &Partition, through: &Position) -> Result<()> {
        let (partition, through) = (partition.clone(), through.clone());
        self.worker.ask(move |source| source.forget(&partition, &through)).await?
    }

    async fn release(&mut self, partition: &Partition) -> Result<()> {
        self.last_reader_closed(partition).await;
        let partition = partition.clone();
        self.worker.ask(move |source| source.release(&partition)).await?
    }
}
