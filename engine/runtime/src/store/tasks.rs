//! Tasks: who owns them, and what there is of them.

use pipeline_stage::{ErrorKind, Mark, Result, StageError};
use sqlx::{Any, Row, Transaction};

use super::connect::SqlStore;
use super::errors::store_error;
use super::values::{bytes, number, text, unreadable};
use super::{Checkpoint, ClaimedTask, EpochEntry};

/// Raises the generation; whatever an older owner does from then on is refused.
pub(super) async fn raise(store: &SqlStore, task: &str) -> Result<Owned> {
    let row = sqlx::query(
        "INSERT INTO pipeline_state_tasks (pipeline, task, state_id, generation, epoch, begun_above, sinks, definition)
         VALUES ($1, $2, $3, 1, -1, -1, '[]', NULL)
         ON CONFLICT (pipeline, task) DO UPDATE SET generation = pipeline_state_tasks.generation + 1
         RETURNING state_id, generation, sinks, definition, epoch, begun_above",
    )
    .bind(&store.pipeline)
    .bind(task)
    .bind(new_state_id())
    .fetch_one(&store.log)
    .await
    .map_err(|error| store_error(&error))?;
    Ok(Owned {
        state_id: text(&row, 0)?,
        generation: number(&row, 1)? as u64,
        sinks: serde_json::from_str(&text(&row, 2)?).map_err(unreadable)?,
        definition: row.try_get(3).map_err(|error| store_error(&error))?,
        epoch: u64::try_from(number(&row, 4)?).ok(),
        begun_above: u64::try_from(number(&row, 5)?).ok(),
    })
}

/// What stands in the row of a task.
pub(super) struct Owned {
    pub state_id: String,
    generation: u64,
    sinks: Vec<String>,
    definition: Option<String>,
    epoch: Option<u64>,
    begun_above: Option<u64>,
}

/// Reads what there is of a task that was claimed.
pub(super) async fn read(
    store: &SqlStore,
    task: &str,
    owned: Owned,
    checkpoint: Option<Checkpoint>,
) -> Result<ClaimedTask> {
    let after = checkpoint.as_ref().map_or(-1, |checkpoint| checkpoint.epoch as i64);
    let log = read_log(store, task, after).await?;
    let has_nothing = checkpoint.is_none() && log.is_empty();
    Ok(ClaimedTask {
        is_lost: has_nothing && owned.begun_above < owned.epoch,
        state_id: owned.state_id,
        generation: owned.generation,
        begun_above: owned.begun_above,
        sinks: owned.sinks,
        definition: owned.definition,
        log,
        marks: read_marks(store, task).await?,
        checkpoint,
    })
}

pub(super) async fn tasks(store: &SqlStore) -> Result<Vec<String>> {
    let rows = sqlx::query("SELECT task FROM pipeline_state_tasks WHERE pipeline = $1 ORDER BY task")
        .bind(&store.pipeline)
        .fetch_all(&store.log)
        .await
        .map_err(|error| store_error(&error))?;
    rows.iter().map(|row| text(row, 0)).collect()
}

/// Locks the row of a task, if the writer owns it still. Whoever claims it waits for the transaction.
pub(super) async fn lock(
    store: &SqlStore,
    transaction: &mut Transaction<'_, Any>,
    task: &str,
    generation: u64,
) -> Result<()> {
    let locked = sqlx::query(
        "UPDATE pipeline_state_tasks SET generation = generation WHERE pipeline = $1 AND task = $2 AND generation = $3",
    )
    .bind(&store.pipeline)
    .bind(task)
    .bind(generation as i64)
    .execute(&mut **transaction)
    .await
    .map_err(|error| store_error(&error))?;
    if locked.rows_affected() == 0 { Err(taken_over(task)) } else { Ok(()) }
}

/// The state id of a task.
///
/// # Errors
/// `TakenOver` when somebody else owns it.
pub(super) async fn state_id(store: &SqlStore, task: &str, generation: u64) -> Result<String> {
    let row =
        sqlx::query("SELECT state_id FROM pipeline_state_tasks WHERE pipeline = $1 AND task = $2 AND generation = $3")
            .bind(&store.pipeline)
            .bind(task)
            .bind(generation as i64)
            .fetch_optional(&store.log)
            .await
            .map_err(|error| store_error(&error))?;
    row.map_or_else(|| Err(taken_over(task)), |row| text(&row, 0))
}

pub(super) async fn is_owner(store: &SqlStore, task: &str, generation: u64) -> Result<bool> {
    match state_id(store, task, generation).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::TakenOver => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) async fn read_log(store: &SqlStore, task: &str, after: i64) -> Result<Vec<EpochEntry>> {
    let rows = sqlx::query(
        "SELECT entry FROM pipeline_state_epochs WHERE pipeline = $1 AND task = $2 AND epoch > $3 ORDER BY epoch",
    )
    .bind(&store.pipeline)
    .bind(task)
    .bind(after)
    .fetch_all(&store.log)
    .await
    .map_err(|error| store_error(&error))?;
    rows.iter().map(|row| pipeline_stage::decode(&bytes(row, 0)?)).collect()
}

pub(super) async fn read_marks(store: &SqlStore, task: &str) -> Result<Vec<Mark>> {
    let rows = sqlx::query("SELECT mark FROM pipeline_state_marks WHERE pipeline = $1 AND task = $2 ORDER BY sink")
        .bind(&store.pipeline)
        .bind(task)
        .fetch_all(&store.log)
        .await
        .map_err(|error| store_error(&error))?;
    rows.iter().map(|row| serde_json::from_str(&text(row, 0)?).map_err(unreadable)).collect()
}

/// Drops the log and gives the task another state id. The checkpoint is left: it belongs to the former id.
pub(super) async fn begin_anew(store: &SqlStore, task: &str, generation: u64, above: Option<u64>) -> Result<String> {
    let state_id = new_state_id();
    let mut transaction = store.log.begin().await.map_err(|error| store_error(&error))?;
    for statement in [
        "DELETE FROM pipeline_state_epochs WHERE pipeline = $1 AND task = $2",
        "DELETE FROM pipeline_state_marks WHERE pipeline = $1 AND task = $2",
    ] {
        let delete = sqlx::query(statement).bind(&store.pipeline).bind(task);
        delete.execute(&mut *transaction).await.map_err(|error| store_error(&error))?;
    }
    let updated = sqlx::query(
        "UPDATE pipeline_state_tasks
         SET state_id = $1, epoch = $5, begun_above = $5, sinks = '[]', definition = NULL
         WHERE pipeline = $2 AND task = $3 AND generation = $4",
    )
    .bind(&state_id)
    .bind(&store.pipeline)
    .bind(task)
    .bind(generation as i64)
    .bind(above.map_or(-1, |epoch| epoch as i64))
    .execute(&mut *transaction)
    .await
    .map_err(|error| store_error(&error))?;
    if updated.rows_affected() == 0 {
        return Err(taken_over(task));
    }
    transaction.commit().await.map_err(|error| store_error(&error))?;
    Ok(state_id)
}

pub(super) async fn set_sinks(
    store: &SqlStore,
    task: &str,
    generation: u64,
    sinks: &[String],
    definition: &str,
) -> Result<()> {
    let updated = sqlx::query(
        "UPDATE pipeline_state_tasks SET sinks = $1, definition = $2 WHERE pipeline = $3 AND task = $4 AND generation = $5",
    )
    .bind(serde_json::to_string(sinks).map_err(unreadable)?)
    .bind(definition)
    .bind(&store.pipeline)
    .bind(task)
    .bind(generation as i64)
    .execute(&store.log)
    .await
    .map_err(|error| store_error(&error))?;
    if updated.rows_affected() == 0 { Err(taken_over(task)) } else { Ok(()) }
}

/// The definition of each task and the last epoch with rows that was logged under it.
pub(super) async fn logged_definitions(store: &SqlStore) -> Result<Vec<(String, String, u64)>> {
    let rows = sqlx::query(
        "SELECT t.task, t.definition, MAX(e.epoch) FROM pipeline_state_tasks t JOIN pipeline_state_epochs e
             ON e.pipeline = t.pipeline AND e.task = t.task
         WHERE t.pipeline = $1 AND t.definition IS NOT NULL AND e.n_rows > 0 GROUP BY t.task, t.definition ORDER BY t.task",
    )
    .bind(&store.pipeline)
    .fetch_all(&store.log)
    .await
    .map_err(|error| store_error(&error))?;
    rows.iter().map(|row| Ok((text(row, 0)?, text(row, 1)?, number(row, 2)? as u64))).collect()
}

/// Random, so that no two lives of a state have the same.
fn new_state_id() -> String {
    // The standard library's hasher is seeded by the system's randomness: two of them make 128 bits.
    use std::hash::{BuildHasher, RandomState};
    format!("{:016x}{:016x}", RandomState::new().hash_one(1u8), RandomState::new().hash_one(2u8))
}

pub(super) fn taken_over(task: &str) -> StageError {
    StageError::taken_over(format!("another process has taken over task `{task}`"))
}
