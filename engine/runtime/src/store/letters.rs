//! Dead letters: rows that could not be processed, kept until somebody replays them.

use pipeline_stage::{Result, Timestamp};
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use super::DeadLetter;
use super::connect::{SqlStore, store_error};
use super::log::{number, text};

/// Inserts letters; one that is there already stays as it is, so that a repeated epoch adds nothing.
pub(super) async fn insert(
    store: &SqlStore,
    transaction: &mut Transaction<'_, Any>,
    letters: &[DeadLetter],
) -> Result<()> {
    for letter in letters {
        sqlx::query(
            "INSERT INTO pipeline_state_dead_letters
                 (pipeline, stage, task, place, row_offset, epoch, reason, bytes, at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (pipeline, stage, place, row_offset) DO NOTHING",
        )
        .bind(&store.pipeline)
        .bind(&letter.stage)
        .bind(&letter.task)
        .bind(&letter.place)
        .bind(letter.offset as i64)
        .bind(letter.epoch as i64)
        // PostgreSQL's text has no NUL; the bytes keep it.
        .bind(letter.reason.replace('\0', "\u{2400}"))
        .bind(letter.bytes.clone())
        .bind(letter.at.0)
        .execute(&mut **transaction)
        .await
        .map_err(|error| store_error(&error))?;
    }
    Ok(())
}

/// Takes letters out because they are processed again.
pub(super) async fn remove(store: &SqlStore, transaction: &mut Transaction<'_, Any>, numbers: &[i64]) -> Result<()> {
    for number in numbers {
        sqlx::query("DELETE FROM pipeline_state_dead_letters WHERE pipeline = $1 AND number = $2")
            .bind(&store.pipeline)
            .bind(number)
            .execute(&mut **transaction)
            .await
            .map_err(|error| store_error(&error))?;
    }
    Ok(())
}

pub(super) async fn add(store: &SqlStore, letters: &[DeadLetter]) -> Result<()> {
    let mut transaction = store.log.begin().await.map_err(|error| store_error(&error))?;
    insert(store, &mut transaction, letters).await?;
    transaction.commit().await.map_err(|error| store_error(&error))
}

pub(super) async fn list(store: &SqlStore, after: i64, limit: u32) -> Result<Vec<(i64, DeadLetter)>> {
    let rows = sqlx::query(
        "SELECT number, stage, task, place, row_offset, epoch, reason, bytes, at FROM pipeline_state_dead_letters
         WHERE pipeline = $1 AND number > $2 ORDER BY number LIMIT $3",
    )
    .bind(&store.pipeline)
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(&store.log)
    .await
    .map_err(|error| store_error(&error))?;
    rows.iter().map(read).collect()
}

pub(super) async fn requested(store: &SqlStore, task: &str, limit: u32) -> Result<Vec<(i64, DeadLetter)>> {
    let rows = sqlx::query(
        "SELECT number, stage, task, place, row_offset, epoch, reason, bytes, at FROM pipeline_state_dead_letters
         WHERE pipeline = $1 AND task = $2 AND replay_requested <> 0 ORDER BY number LIMIT $3",
    )
    .bind(&store.pipeline)
    .bind(task)
    .bind(i64::from(limit))
    .fetch_all(&store.log)
    .await
    .map_err(|error| store_error(&error))?;
    rows.iter().map(read).collect()
}

pub(super) async fn tasks_to_replay(store: &SqlStore) -> Result<Vec<String>> {
    let rows = sqlx::query(
        "SELECT DISTINCT task FROM pipeline_state_dead_letters WHERE pipeline = $1 AND replay_requested <> 0 ORDER BY task",
    )
    .bind(&store.pipeline)
    .fetch_all(&store.log)
    .await
    .map_err(|error| store_error(&error))?;
    rows.iter().map(|row| text(row, 0)).collect()
}

pub(super) async fn request(store: &SqlStore, numbers: &[i64]) -> Result<u64> {
    let mut requested = 0;
    if numbers.is_empty() {
        let update = sqlx::query("UPDATE pipeline_state_dead_letters SET replay_requested = 1 WHERE pipeline = $1")
            .bind(&store.pipeline)
            .execute(&store.log);
        return Ok(update.await.map_err(|error| store_error(&error))?.rows_affected());
    }
    for number in numbers {
        let update = sqlx::query(
            "UPDATE pipeline_state_dead_letters SET replay_requested = 1 WHERE pipeline = $1 AND number = $2",
        )
        .bind(&store.pipeline)
        .bind(number)
        .execute(&store.log);
        requested += update.await.map_err(|error| store_error(&error))?.rows_affected();
    }
    Ok(requested)
}

fn read(row: &AnyRow) -> Result<(i64, DeadLetter)> {
    let letter = DeadLetter {
        stage: text(row, 1)?,
        task: text(row, 2)?,
        place: text(row, 3)?,
        offset: number(row, 4)? as u64,
        epoch: number(row, 5)? as u64,
        reason: text(row, 6)?,
        bytes: row.try_get(7).map_err(|error| store_error(&error))?,
        at: Timestamp(number(row, 8)?),
    };
    Ok((number(row, 0)?, letter))
}
