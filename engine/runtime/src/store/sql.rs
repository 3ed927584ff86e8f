//! The store's trait over its parts.

use async_trait::async_trait;
use pipeline_stage::{Mark, Result};

use super::connect::SqlStore;
use super::{
    Append, Checkpoint, ClaimedTask, DeadLetter, Evidence, EvidenceLine, StageChanges, StateStore, checkpoints,
    evidence, letters, log, settings, tasks,
};

#[async_trait]
impl StateStore for SqlStore {
    fn place(&self) -> String {
        SqlStore::place(self)
    }

    async fn setting(&self, name: &str) -> Result<Option<String>> {
        settings::setting(self, name).await
    }

    async fn set_setting(&self, name: &str, value: &str) -> Result<()> {
        settings::set_setting(self, name, value).await
    }

    async fn claim(&self, task: &str) -> Result<ClaimedTask> {
        let owned = tasks::raise(self, task).await?;
        let checkpoint = checkpoints::newest(self, task).await?;
        // A checkpoint of an earlier life of the state: `begin_anew` was interrupted before it could drop it.
        let checkpoint = checkpoint.filter(|(of, _)| *of == owned.state_id).map(|(_, checkpoint)| checkpoint);
        let claimed = tasks::read(self, task, owned, checkpoint).await?;
        let epoch = claimed.checkpoint.as_ref().map(|checkpoint| checkpoint.epoch);
        checkpoints::drop_unpublished(self, (task, claimed.generation), epoch).await?;
        Ok(claimed)
    }

    async fn is_owner(&self, task: &str, generation: u64) -> Result<bool> {
        tasks::is_owner(self, task, generation).await
    }

    async fn begin_anew(&self, task: &str, generation: u64, above: Option<u64>) -> Result<String> {
        let state_id = tasks::begin_anew(self, task, generation, above).await?;
        checkpoints::drop_unpublished(self, (task, generation), None).await?;
        Ok(state_id)
    }

    async fn tasks(&self) -> Result<Vec<String>> {
        tasks::tasks(self).await
    }

    async fn set_sinks(&self, task: &str, generation: u64, sinks: &[String], definition: &str) -> Result<()> {
        tasks::set_sinks(self, task, generation, sinks, definition).await
    }

    async fn pending_definitions(&self) -> Result<Vec<String>> {
        let mut pending = Vec::new();
        for (task, definition, logged) in tasks::logged_definitions(self).await? {
            let checkpoint = checkpoints::newest(self, &task).await?;
            let is_pending = checkpoint.is_none_or(|(_, checkpoint)| checkpoint.epoch < logged);
            if is_pending && !pending.contains(&definition) {
                pending.push(definition);
            }
        }
        Ok(pending)
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
        generation: u64,
        epoch: u64,
        part: u64,
        changes: &StageChanges,
    ) -> Result<()> {
        checkpoints::write_changes(self, (task, generation), epoch, part, changes).await
    }

    async fn publish(&self, task: &str, generation: u64, checkpoint: &Checkpoint) -> Result<()> {
        checkpoints::publish(self, task, generation, checkpoint).await
    }

    async fn drop_log(&self, task: &str, generation: u64, checkpoint: &Checkpoint, whole: &[String]) -> Result<()> {
        checkpoints::drop_log(self, (task, generation), checkpoint, whole).await
    }

    async fn replace_state(
        &self,
        task: &str,
        generation: u64,
        checkpoint: &Checkpoint,
        states: &[StageChanges],
    ) -> Result<()> {
        checkpoints::replace_state(self, (task, generation), checkpoint, states).await
    }

    async fn load(&self, task: &str, stage: &str) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        checkpoints::load(self, task, stage).await
    }

    async fn evidence_lines(&self) -> Result<Vec<EvidenceLine>> {
        let (lines, damaged) = evidence::lines(self).await?;
        damaged.into_iter().next().map_or(Ok(lines), Err)
    }

    async fn evidence(&self, number: i64) -> Result<Option<Evidence>> {
        evidence::get(self, number).await
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

    async fn replay_requests(&self, task: &str, after: i64, limit: u32) -> Result<Vec<(i64, DeadLetter)>> {
        letters::requested(self, task, after, limit).await
    }

    async fn refuse_replay(&self, refused: &[(i64, String)]) -> Result<()> {
        letters::refuse(self, refused).await
    }

    async fn tasks_to_replay(&self) -> Result<Vec<String>> {
        letters::tasks_to_replay(self).await
    }
}
