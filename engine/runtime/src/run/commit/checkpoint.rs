//! A checkpoint on its way into the store, beside the epochs that follow it.

use pipeline_stage::{Mark, Partition, Position, Result, StageError};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;

use super::Committer;
use crate::bugs::{Bug, is_there};
use crate::run::retry::until_store_works;
use crate::run::shared::Shared;
use crate::run::view::CheckpointView;
use crate::store::{Checkpoint, StageChanges};

/// A checkpoint whose parts come while the next epochs are computed.
pub struct NewCheckpoint {
    /// What it is of.
    pub checkpoint: Checkpoint,
    /// All that has changed since the last one.
    pub parts: mpsc::Receiver<Part>,
    /// Given back when it is published: then the next one may begin.
    pub _permit: OwnedSemaphorePermit,
}

/// A part of a checkpoint.
pub enum Part {
    /// What has changed in a stage, or some of it.
    Changes(StageChanges),
    /// There is no more: it may be published.
    Last,
}

impl Committer {
    /// Writes a checkpoint beside the epochs that follow; one at a time.
    pub(super) async fn write_checkpoint(
        &mut self,
        new: NewCheckpoint,
        positions: Vec<(usize, Position)>,
    ) -> Result<()> {
        self.written().await?;
        self.save_marks().await?;
        let (shared, task, partition, generation) =
            (self.shared.clone(), self.task.clone(), self.partition.clone(), self.generation);
        self.writing = Some(tokio::spawn(async move {
            let NewCheckpoint { checkpoint, mut parts, _permit } = new;
            let began = Instant::now();
            if is_there(Bug::ForgetBeforeCheckpoint) {
                forget(&shared, &partition, &positions).await;
            }
            let written = write_parts(&shared, (&task, generation), checkpoint.epoch, &mut parts).await?;
            if let Some(Written { bytes, whole }) = written {
                publish(&shared, (&task, generation), &checkpoint, &whole).await?;
                let (epoch, at, took) = (checkpoint.epoch, Instant::now(), began.elapsed());
                shared.progress.view.checkpointed(&task, CheckpointView { epoch, at, took, bytes });
                forget(&shared, &partition, &positions).await;
            }
            Ok(())
        }));
        Ok(())
    }

    /// A checkpoint is published only when the marks of all sinks have reached it, on disk.
    pub async fn save_marks(&mut self) -> Result<()> {
        if is_there(Bug::CheckpointBeforeMarks) {
            return Ok(());
        }
        let marks: Vec<Mark> = std::mem::take(&mut self.unsaved_marks).into_values().collect();
        if marks.is_empty() {
            return Ok(());
        }
        until_store_works(|| self.shared.store.set_marks(&marks)).await
    }

    /// Waits until no checkpoint is being written. Cancel-safe.
    pub(super) async fn written(&mut self) -> Result<()> {
        let Some(writing) = &mut self.writing else { return Ok(()) };
        let written = writing.await;
        self.writing = None;
        written.map_err(|error| StageError::fatal("writing a checkpoint failed").because(error))?
    }
}

/// The changes of a checkpoint that is to be published.
#[derive(Default)]
struct Written {
    bytes: u64,
    /// The stages of which it has all state.
    whole: Vec<String>,
}

/// Writes the parts of a checkpoint as they come. None: the task has ended before the last one.
async fn write_parts(
    shared: &Shared,
    (task, generation): (&str, u64),
    epoch: u64,
    parts: &mut mpsc::Receiver<Part>,
) -> Result<Option<Written>> {
    let (mut number, mut written) = (0, Written::default());
    while let Some(part) = parts.recv().await {
        let changes = match part {
            Part::Changes(changes) => changes,
            Part::Last => return Ok(Some(written)),
        };
        let StageChanges { stage, changes, is_whole } = changes;
        written.bytes += changes.bytes() as u64;
        if is_whole {
            written.whole.push(stage.clone());
        }
        for changes in changes.in_parts() {
            let changes = StageChanges { stage: stage.clone(), changes, ..StageChanges::default() };
            until_store_works(|| shared.store.write_changes(task, generation, epoch, number, &changes)).await?;
            number += 1;
        }
    }
    Ok(None)
}

async fn publish(
    shared: &Shared,
    (task, generation): (&str, u64),
    checkpoint: &Checkpoint,
    whole: &[String],
) -> Result<()> {
    let store = &shared.store;
    if is_there(Bug::DropLogBeforePublish) {
        until_store_works(|| store.drop_log(task, generation, checkpoint, whole)).await?;
    }
    until_store_works(|| store.publish(task, generation, checkpoint)).await?;
    until_store_works(|| store.drop_log(task, generation, checkpoint, whole)).await
}

async fn forget(shared: &Shared, partition: &Partition, positions: &[(usize, Position)]) {
    for (source, position) in positions {
        shared.sources[source].forget(partition, position.clone()).await;
    }
}
