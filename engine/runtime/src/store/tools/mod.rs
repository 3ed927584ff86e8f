//! The state store for people: looked at without being claimed, moved to another place, and reset in part.

mod deliveries;
mod rows;
mod transfer;

use std::collections::BTreeMap;

use pipeline_stage::{Mark, Result, SavedState, StageError};

use super::connect::{SqlStore, open_beside_sql, open_sql};
use super::errors::store_error;
use super::values::{number, text, unreadable};
use super::{Checkpoint, EpochEntry, Evidence, EvidenceLine, StageOf, checkpoints, evidence, tasks};
use crate::changes::States;
pub use deliveries::{OutboxEntry, Refusal};
pub use transfer::Moved;

/// A state store as tools use it.
pub struct StateTools {
    store: SqlStore,
}

/// All there is of a task.
#[derive(Debug, Clone)]
pub struct TaskState {
    /// Its name.
    pub task: String,
    /// Made with the state.
    pub state_id: String,
    /// Of the last owner.
    pub generation: u64,
    /// The newest checkpoint, if it is of this life of the state.
    pub checkpoint: Option<Checkpoint>,
    /// The epochs after it, in order.
    pub log: Vec<EpochEntry>,
    /// Marks of sinks that cannot keep their own.
    pub marks: Vec<Mark>,
    /// The definition that wrote the log.
    pub definition: Option<String>,
}

impl TaskState {
    /// How many epochs with rows no checkpoint includes yet.
    pub fn pending_epochs(&self) -> usize {
        self.log.iter().filter(|entry| !entry.is_start() && (0 < entry.rows || !entry.stored.is_empty())).count()
    }

    /// Where each source goes on: source and offset.
    pub fn positions(&self) -> Vec<(String, u64)> {
        let mut positions: BTreeMap<String, u64> = BTreeMap::new();
        for (source, position) in self.checkpoint.iter().flat_map(|checkpoint| &checkpoint.positions) {
            positions.insert(source.clone(), position.offset);
        }
        for segment in self.log.iter().flat_map(|entry| &entry.segments) {
            positions.insert(segment.source.clone(), segment.until.offset);
        }
        positions.into_iter().collect()
    }

    /// The last epoch that was logged; none before the first.
    pub fn last_epoch(&self) -> Option<u64> {
        let logged = self.log.last().map(|entry| entry.epoch);
        logged.or(self.checkpoint.as_ref().map(|checkpoint| checkpoint.epoch))
    }
}

impl StateTools {
    /// Opens a state that a run may be using, to look at it.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub async fn beside(location: &str, pipeline: &str) -> Result<Self> {
        Ok(StateTools { store: open_beside_sql(location, pipeline).await? })
    }

    /// Opens a state to change it. A folder must not be in use; that nobody runs a state in PostgreSQL cannot be seen.
    ///
    /// # Errors
    /// When another process uses the folder, or it cannot be written.
    pub async fn alone(location: &str, pipeline: &str) -> Result<Self> {
        Ok(StateTools { store: open_sql(location, pipeline).await? })
    }

    /// The newest evidence, at most `MAX_EVIDENCE`, the newest first; and what is wrong with damaged rows, whose evidence is
    /// left out.
    pub async fn evidence_lines(&self) -> Result<(Vec<EvidenceLine>, Vec<StageError>)> {
        evidence::lines(&self.store).await
    }

    /// The evidence of this number; none when it is not there any more.
    pub async fn evidence(&self, number: i64) -> Result<Option<Evidence>> {
        evidence::get(&self.store, number).await
    }

    /// Where it is, for people; no secret.
    pub fn place(&self) -> String {
        self.store.place()
    }

    /// All tasks, by name.
    pub async fn tasks(&self) -> Result<Vec<TaskState>> {
        let mut all = Vec::new();
        for task in tasks::tasks(&self.store).await? {
            all.push(self.task(&task).await?);
        }
        Ok(all)
    }

    async fn task(&self, task: &str) -> Result<TaskState> {
        let row = sqlx::query(
            "SELECT state_id, generation, definition FROM pipeline_state_tasks WHERE pipeline = $1 AND task = $2",
        )
        .bind(&self.store.pipeline)
        .bind(task)
        .fetch_one(&self.store.log)
        .await
        .map_err(|error| store_error(&error))?;
        let state_id = text(&row, 0)?;
        let newest = checkpoints::newest(&self.store, task).await?;
        let checkpoint = newest.filter(|(of, _)| *of == state_id).map(|(_, checkpoint)| checkpoint);
        let after = checkpoint.as_ref().map_or(-1, |checkpoint| checkpoint.epoch as i64);
        Ok(TaskState {
            task: task.into(),
            generation: number(&row, 1)? as u64,
            definition: sqlx::Row::try_get(&row, 2).map_err(|error| store_error(&error))?,
            log: tasks::read_log(&self.store, task, after).await?,
            marks: tasks::read_marks(&self.store, task).await?,
            state_id,
            checkpoint,
        })
    }

    /// The state of a stage by key, as of a task's checkpoint, or of one that was published since.
    pub async fn stage(&self, task: &TaskState, stage: &str) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        match &task.checkpoint {
            None => Ok(Vec::new()),
            Some(_) => checkpoints::load(&self.store, &task.task, stage).await,
        }
    }

    /// The state of all stages that have some.
    pub async fn states(&self, tasks: &[TaskState]) -> Result<States> {
        let mut states = States::new();
        for task in tasks {
            for StageOf { id: stage, .. } in task.checkpoint.iter().flat_map(|checkpoint| &checkpoint.stages) {
                let entries = self.stage(task, stage).await?;
                if !entries.is_empty() {
                    states.entry(stage.clone()).or_default().push(SavedState { entries });
                }
            }
        }
        Ok(states)
    }

    /// How many alerts wait, by sink.
    pub async fn outboxes(&self) -> Result<Vec<(String, u64)>> {
        self.count(
            "SELECT sink, COUNT(*) FROM pipeline_state_outbox WHERE pipeline = $1 AND delivered_at IS NULL
             GROUP BY sink ORDER BY sink",
        )
        .await
    }

    /// How many dead letters there are, by stage.
    pub async fn dead_letters(&self) -> Result<Vec<(String, u64)>> {
        self.count(
            "SELECT stage, COUNT(*) FROM pipeline_state_dead_letters WHERE pipeline = $1 GROUP BY stage ORDER BY stage",
        )
        .await
    }

    async fn count(&self, statement: &'static str) -> Result<Vec<(String, u64)>> {
        let rows = sqlx::query(statement).bind(&self.store.pipeline).fetch_all(&self.store.log).await;
        let rows = rows.map_err(|error| store_error(&error))?;
        rows.iter().map(|row| Ok((text(row, 0)?, number(row, 1)? as u64))).collect()
    }

    /// Forgets what a stage remembers, in all tasks: it begins anew with the next row.
    ///
    /// # Errors
    /// `Config` when epochs are pending: computed again without this state they would differ from what was written.
    pub async fn reset(&self, stage: &str) -> Result<usize> {
        let tasks = self.tasks().await?;
        self.refuse_pending(&tasks, "reset")?;
        let mut forgotten = 0;
        for task in &tasks {
            forgotten += self.stage(task, stage).await?.len();
            let delete =
                sqlx::query("DELETE FROM pipeline_state_changes WHERE pipeline = $1 AND task = $2 AND stage = $3");
            let delete = delete.bind(&self.store.pipeline).bind(&task.task).bind(stage);
            delete.execute(&self.store.checkpoints).await.map_err(|error| store_error(&error))?;
        }
        Ok(forgotten)
    }

    /// Gives what a stage remembers to a stage of another id, which must have nothing: the file calls it so now.
    ///
    /// # Errors
    /// `Config` when epochs are pending, or there is state under the new id.
    pub async fn rename(&self, from: &str, to: &str) -> Result<usize> {
        let tasks = self.tasks().await?;
        self.refuse_pending(&tasks, "renamed")?;
        let mut renamed = 0;
        for task in &tasks {
            if !self.stage(task, to).await?.is_empty() {
                return Err(StageError::config(format!("`{to}` has state of its own in task `{}`", task.task)));
            }
            renamed += self.stage(task, from).await?.len();
        }
        for task in tasks {
            self.rename_in(task, from, to).await?;
        }
        Ok(renamed)
    }

    async fn rename_in(&self, task: TaskState, from: &str, to: &str) -> Result<()> {
        let Some(mut checkpoint) = task.checkpoint else { return Ok(()) };
        checkpoint.stages.iter_mut().filter(|stage| stage.id == from).for_each(|stage| stage.id = to.to_owned());
        let written = serde_json::to_string(&checkpoint).map_err(unreadable)?;
        let mut transaction = self.store.checkpoints.begin().await.map_err(|error| store_error(&error))?;
        let update = sqlx::query(
            "UPDATE pipeline_state_changes SET stage = $1 WHERE pipeline = $2 AND task = $3 AND stage = $4",
        );
        let update = update.bind(to).bind(&self.store.pipeline).bind(&task.task).bind(from);
        update.execute(&mut *transaction).await.map_err(|error| store_error(&error))?;
        let update =
            sqlx::query("UPDATE pipeline_state_checkpoints SET checkpoint = $1 WHERE pipeline = $2 AND task = $3");
        let update = update.bind(written).bind(&self.store.pipeline).bind(&task.task);
        update.execute(&mut *transaction).await.map_err(|error| store_error(&error))?;
        transaction.commit().await.map_err(|error| store_error(&error))
    }

    fn refuse_pending(&self, tasks: &[TaskState], what: &str) -> Result<()> {
        let pending: usize = tasks.iter().map(TaskState::pending_epochs).sum();
        match pending {
            0 => Ok(()),
            _ => Err(StageError::config(format!(
                "{pending} epochs in {} are logged but in no checkpoint: state can be {what} only after a stop in good \
                 order; `pipeline run FILE --once`, or Ctrl-C, ends with a checkpoint",
                self.place()
            ))),
        }
    }
}
