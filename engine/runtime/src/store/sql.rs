//! The store's trait over its parts.

use async_trait::async_trait;
use pipeline_stage::{Mark, Result, Timestamp};

use super::connect::SqlStore;
use super::{
    Append, Checkpoint, ClaimedTask, DeadLetter, Pending, StageChanges, StateStore, checkpoints, letters, log, outbox,
};

#[async_trait]
impl StateStore for SqlStore {
    fn place(&self) -> String {
        SqlStore::place(self)
    }

    async fn setting(&self, name: &str) -> Result<Option<String>> {
        log::setting(self, name).await
    }

    async fn set_setting(&self, name: &str, value: &str) -> Result<()> {
        log::set_setting(self, name, value).await
    }

    async fn claim(&self, task: &str) -> Result<ClaimedTask> {
        let checkpoint = checkpoints::newest(self, task).await?;
        let claimed = log::claim(self, task, checkpoint).await?;
        let epoch = claimed.checkpoint.as_ref().map(|checkpoint| checkpoint.epoch);
        checkpoints::drop_unpublished(self, task, epoch).await?;
        Ok(claimed)
    }

    async fn begin_anew(&self, task: &str, generation: u64) -> Result<String> {
        let state_id = log::begin_anew(self, task, generation).await?;
        checkpoints::drop_unpublished(self, task, None).await?;
        Ok(state_id)
    }

    async fn set_sinks(&self, task: &str, generation: u64, sinks: &[String], definition: &str) -> Result<()> {
        log::set_sinks(self, task, generation, sinks, definition).await
    }

    async fn pending_definitions(&self) -> Result<Vec<String>> {
        log::pending_definitions(self).await
    }

    async fn append(&self, appends: &[Append]) -> Result<Vec<bool>> {
        log::append(self, appends).await
    }

    async fn set_marks(&self, marks: &[Mark]) -> Result<()> {
        log::set_marks(self, marks).await
    }

    async fn write_changes(
        &self,
        task: &str,
        _generation: u64,
        epoch: u64,
        part: u64,
        changes: &StageChanges,
    ) -> Result<()> {
        checkpoints::write_changes(self, task, epoch, part, changes).await
    }

    async fn publish(&self, task: &str, generation: u64, checkpoint: &Checkpoint) -> Result<()> {
        checkpoints::publish(self, task, generation, checkpoint).await
    }

    async fn load(&self, task: &str, stage: &str) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        Ok(checkpoints::load(self, task, stage).await?.into_iter().collect())
    }

    async fn pending(&self, sink: &str, limit: u32) -> Result<Vec<Pending>> {
        outbox::pending(self, sink, limit).await
    }

    async fn count_pending(&self, sink: &str) -> Result<u64> {
        outbox::count_pending(self, sink).await
    }

    async fn delivered(&self, numbers: &[i64], at: Timestamp) -> Result<()> {
        outbox::delivered(self, numbers, at).await
    }

    async fn undeliverable(&self, number: i64, letter: &DeadLetter) -> Result<()> {
        outbox::undeliverable(self, number, letter).await
    }

    async fn lease(&self, name: &str, holder: &str, now: Timestamp, until: Timestamp) -> Result<bool> {
        outbox::lease(self, name, holder, now, until).await
    }

    async fn add_dead_letters(&self, letters: &[DeadLetter]) -> Result<()> {
        letters::add(self, letters).await
    }

    async fn dead_letters(&self, after: i64, limit: u32) -> Result<Vec<(i64, DeadLetter)>> {
        letters::list(self, after, limit).await
    }

    async fn request_replay(&self, numbers: &[i64]) -> Result<u64> {
        letters::request(self, numbers).await
    }

    async fn replay_requests(&self, task: &str, limit: u32) -> Result<Vec<(i64, DeadLetter)>> {
        letters::requested(self, task, limit).await
    }

    async fn tasks_to_replay(&self) -> Result<Vec<String>> {
        letters::tasks_to_replay(self).await
    }
}
