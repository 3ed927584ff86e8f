//! Where rows come from.

use arrow_schema::SchemaRef;
use async_trait::async_trait;

use crate::error::Result;
use crate::position::{Partition, Position};
use crate::rows::SourceBatch;

/// What a source's rows are.
#[derive(Debug, Clone)]
pub enum SourceOutput {
    /// Payloads that a format decodes into the declared columns.
    Raw,
    /// Columns already.
    Columns(SchemaRef),
}

/// What a source reads from: the engine opens a reader for each partition it is assigned.
///
/// Built without I/O. One thread of control calls it; its readers are owned by the tasks.
#[async_trait]
pub trait Source: Send {
    /// What its rows are; known without I/O.
    fn output(&self) -> SourceOutput;

    /// True when the same rows can be read again from any position (Kafka, files), which is what recovery needs.
    ///
    /// Of a source that says no (a server that is posted to, a queue) the engine keeps the rows in its log until a
    /// checkpoint includes them. Its positions are numbers that it gives its rows itself: `open` says where they go on,
    /// and that everything before is on disk. It is never asked to read up to an `until`.
    fn is_replayable(&self) -> bool {
        true
    }

    /// Whether its input is parted already (a topic), so that there is a task for each partition. The rows of other
    /// sources are spread over `tasks:` by the engine, which opens the one stream once for each task.
    fn has_partitions(&self) -> bool {
        false
    }

    /// How many partitions there are; none for a source without. Asked when a pipeline has several sources.
    async fn partition_count(&mut self) -> Result<Option<u32>> {
        Ok(None)
    }

    /// Looks, for `validate --connect`, whether what the options name is there. Each problem is one error.
    async fn check(&mut self) -> Vec<crate::StageError> {
        Vec::new()
    }

    /// Waits for the next change of what this process owns. Cancel-safe. Called in a loop; not called for a
    /// source that follows another one.
    async fn assignment(&mut self) -> Result<Assignment>;

    /// Opens a partition; `from` is where the task's state stands, none at its first start. May be called again for a
    /// partition whose reader was dropped without a `release`: what that had read and `logged` was not told of is to be
    /// read again, if it can be.
    async fn open(&mut self, partition: &Partition, from: Option<&Position>) -> Result<Box<dyn Reader>>;

    /// Opens a partition at the oldest row there is, to compute state that was lost again. Default: as at a first start.
    async fn open_oldest(&mut self, partition: &Partition) -> Result<Box<dyn Reader>> {
        self.open(partition, None).await
    }

    /// What was read before `through` is in the epoch log on disk: it may be acknowledged.
    async fn logged(&mut self, _partition: &Partition, _through: &Position) -> Result<()> {
        Ok(())
    }

    /// What was read before `through` is in a checkpoint: it is never read again. Kafka commits the offset.
    async fn forget(&mut self, _partition: &Partition, _through: &Position) -> Result<()> {
        Ok(())
    }

    /// The task of a revoked partition has stopped: another process may have it.
    async fn release(&mut self, _partition: &Partition) -> Result<()> {
        Ok(())
    }
}

/// A change of the partitions that this process owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assignment {
    /// Start a task for each.
    Gained(Vec<Partition>),
    /// Stop their tasks: end the epoch, commit, checkpoint, release.
    Revoked(Vec<Partition>),
    /// Drop their tasks at once: somebody else has them already.
    Lost(Vec<Partition>),
    /// There will be no further change: the pipeline ends when its tasks have.
    Final,
}

impl Assignment {
    /// Of a source whose only partition never moves: gained by the first call, and nothing changes after that.
    pub fn of_one_partition(is_assigned: &mut bool) -> Self {
        match std::mem::replace(is_assigned, true) {
            false => Assignment::Gained(vec![Partition::numbered(0)]),
            true => Assignment::Final,
        }
    }
}

/// Reads one partition, in order.
#[async_trait]
pub trait Reader: Send {
    /// Waits for the next rows, never beyond `until`; `None` means that the stream is over, or `until` is reached.
    ///
    /// Cancel-safe: rows that were not returned are returned by the next call. While it gives nothing, it must
    /// wait, not spin; a batch without rows says that what had failed works again, where no row can say it. In a run
    /// with `--once` the stream is over where its end was when it was opened.
    async fn next(&mut self, until: Option<&Position>) -> Result<Option<SourceBatch>>;

    /// After the rows that `next` has returned; before the first call the resolved start.
    fn position(&self) -> Position;

    /// How many rows (of the unit of offsets) are there to be read still, if that can be known.
    fn lag(&self) -> Option<u64> {
        None
    }
}
