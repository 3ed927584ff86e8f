//! The epoch log: what an epoch gave becomes durable in one step.

use pipeline_stage::{Mark, Result, StageError};
use sqlx::{Any, Transaction};

use super::connect::SqlStore;
use super::errors::store_error;
use super::values::{number, unreadable};
use super::{Append, evidence, letters, outbox, tasks};

/// Appends the epochs of several tasks in one transaction, each only if its writer still owns the task.
pub(super) async fn append(store: &SqlStore, appends: &[Append]) -> Result<Vec<bool>> {
    let mut transaction = store.log.begin().await.map_err(|error| store_error(&error))?;
    let mut answers = Vec::with_capacity(appends.len());
    for append in appends {
        let appended = append_entry(store, &mut transaction, append).await?;
        if appended == Appended::Now {
            put_marks(store, &mut transaction, &append.marks).await?;
            letters::remove(store, &mut transaction, &append.replayed).await?;
            letters::insert(store, &mut transaction, &append.dead_letters).await?;
            outbox::insert(store, &mut transaction, append).await?;
            evidence::insert(store, &mut transaction, append).await?;
        }
        answers.push(appended != Appended::NotOwner);
    }
    transaction.commit().await.map_err(|error| store_error(&error))?;
    Ok(answers)
}

#[derive(PartialEq, Eq)]
enum Appended {
    Now,
    /// All of it, but the answer was lost.
    Before,
    NotOwner,
}

async fn append_entry(store: &SqlStore, transaction: &mut Transaction<'_, Any>, append: &Append) -> Result<Appended> {
    let epoch = append.entry.epoch as i64;
    let updated = sqlx::query(
        "UPDATE pipeline_state_tasks SET epoch = $1 WHERE pipeline = $2 AND task = $3 AND generation = $4 AND epoch < $1",
    )
    .bind(epoch)
    .bind(&store.pipeline)
    .bind(&append.task)
    .bind(append.generation as i64)
    .execute(&mut **transaction)
    .await
    .map_err(|error| store_error(&error))?;
    if updated.rows_affected() == 0 {
        return was_appended(store, transaction, append).await;
    }
    let mut entry = Vec::new();
    pipeline_stage::encode(&append.entry, &mut entry)?;
    sqlx::query("INSERT INTO pipeline_state_epochs (pipeline, task, epoch, n_rows, entry) VALUES ($1, $2, $3, $4, $5)")
        .bind(&store.pipeline)
        .bind(&append.task)
        .bind(epoch)
        .bind((append.entry.rows + append.entry.stored.len() as u64) as i64)
        .bind(entry)
        .execute(&mut **transaction)
        .await
        .map_err(|error| store_error(&error))?;
    Ok(Appended::Now)
}

/// Tells a lost answer (our own append is there already) from a task that somebody else owns.
async fn was_appended(store: &SqlStore, transaction: &mut Transaction<'_, Any>, append: &Append) -> Result<Appended> {
    let row = sqlx::query(
        "SELECT t.generation, (SELECT COUNT(*) FROM pipeline_state_epochs e
                               WHERE e.pipeline = t.pipeline AND e.task = t.task AND e.epoch = $3)
         FROM pipeline_state_tasks t WHERE t.pipeline = $1 AND t.task = $2",
    )
    .bind(&store.pipeline)
    .bind(&append.task)
    .bind(append.entry.epoch as i64)
    .fetch_optional(&mut **transaction)
    .await
    .map_err(|error| store_error(&error))?;
    match row {
        Some(row) if number(&row, 0)? as u64 != append.generation => Ok(Appended::NotOwner),
        None => Ok(Appended::NotOwner),
        Some(row) if number(&row, 1)? == 1 => Ok(Appended::Before),
        Some(_) => Err(StageError::fatal(format!(
            "epoch {} of task `{}` cannot be logged: the log in {} is ahead of it",
            append.entry.epoch,
            append.task,
            store.place()
        ))),
    }
}

/// Stores marks of one task, if it is the writer's still.
pub(super) async fn set_marks(store: &SqlStore, marks: &[Mark]) -> Result<()> {
    let mut transaction = store.log.begin().await.map_err(|error| store_error(&error))?;
    if let Some(mark) = marks.first() {
        tasks::lock(store, &mut transaction, &mark.task, mark.generation).await?;
    }
    put_marks(store, &mut transaction, marks).await?;
    transaction.commit().await.map_err(|error| store_error(&error))
}

async fn put_marks(store: &SqlStore, transaction: &mut Transaction<'_, Any>, marks: &[Mark]) -> Result<()> {
    for mark in marks {
        sqlx::query(
            "INSERT INTO pipeline_state_marks (pipeline, task, sink, mark) VALUES ($1, $2, $3, $4)
             ON CONFLICT (pipeline, task, sink) DO UPDATE SET mark = excluded.mark",
        )
        .bind(&store.pipeline)
        .bind(&mark.task)
        .bind(&mark.sink)
        .bind(serde_json::to_string(mark).map_err(unreadable)?)
        .execute(&mut **transaction)
        .await
        .map_err(|error| store_error(&error))?;
    }
    Ok(())
}
