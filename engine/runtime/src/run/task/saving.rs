//! A task hands over a checkpoint, part by part, between the batches that follow it.

use tokio::sync::mpsc::OwnedPermit;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;

use pipeline_stage::Result;

use super::Task;
use crate::bugs::{Bug, is_there};
use crate::run::commit::{NewCheckpoint, Part};
use crate::store::{Changes, Checkpoint, StageChanges};

/// Parts of a checkpoint that wait to be written: one is being written while the next one waits.
const PARTS_WAITING: usize = 1;

impl Task {
    pub(super) fn begin_checkpoint(&mut self, permit: OwnedSemaphorePermit) -> NewCheckpoint {
        self.compute.begin_save();
        self.next_checkpoint = Instant::now() + self.shared.plan.settings.checkpoint_every;
        self.has_uncheckpointed = false;
        self.kept_bytes = 0;
        let (saving, parts) = mpsc::channel(PARTS_WAITING);
        self.saving = Some(saving);
        NewCheckpoint { checkpoint: self.checkpoint(), parts, _permit: permit }
    }

    /// Where the next part of a checkpoint goes, if one is under way.
    pub fn saving(&self) -> Option<mpsc::Sender<Part>> {
        self.saving.clone()
    }

    /// Writes a part of the checkpoint that is under way. No permit: nobody wants it any more, the committer says why.
    pub fn save_part(&mut self, permit: Option<OwnedPermit<Part>>) -> Result<()> {
        let Some(permit) = permit else {
            // What was not written would be missing in any checkpoint after it.
            self.checkpoint_permit.close();
            self.saving = None;
            return Ok(());
        };
        let is_lost = is_there(Bug::ChangesLost) && self.epoch.is_multiple_of(2);
        match self.compute.save_part()? {
            Some(changes) if is_lost => {
                permit.send(Part::Changes(StageChanges { changes: Changes::default(), ..changes }))
            }
            Some(changes) => permit.send(Part::Changes(changes)),
            None => {
                self.saving = None;
                permit.send(Part::Last)
            }
        };
        Ok(())
    }

    fn checkpoint(&self) -> Checkpoint {
        let shared = &self.shared;
        Checkpoint {
            epoch: self.epoch,
            ended_at: Some(self.ended_at),
            watermark: self.watermark,
            positions: self.positions().into_iter().map(|(source, at)| (shared.id(source).into(), at)).collect(),
            stages: shared.plan.stages_with_state(),
        }
    }
}
