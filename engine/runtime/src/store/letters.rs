//! Dead letters: rows that could not be processed, kept until somebody replays them.

use std::collections::BTreeSet;

use pipeline_stage::{Result, StageError, Timestamp};
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use super::connect::SqlStore;
use super::errors::store_error;
use super::values::{number, text};
use super::{Beside, DeadLetter, StoredRow};

const COLUMNS: &str = "number, stage, edge, task, place, row_offset, branch, epoch, reason, bytes, beside, at";

/// Inserts letters; one that is there already stays as it is, so that a repeated epoch adds nothing.
pub(super) async fn insert(
    store: &SqlStore,
    transaction: &mut Transaction<'_, Any>,
    letters: &[DeadLetter],
) -> Result<()> {
    for letter in letters {
        let row = &letter.row;
        sqlx::query(
            "INSERT INTO pipeline_state_dead_letters
                 (pipeline, stage, edge, task, place, row_offset, branch, epoch, reason, bytes, beside, at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             ON CONFLICT (pipeline, stage, place, row_offset, branch) DO NOTHING",
        )
        .bind(&store.pipeline)
        .bind(&row.stage)
        .bind(i64::from(row.edge))
        .bind(&letter.task)
        .bind(&row.place)
        .bind(row.offset as i64)
        .bind(row.branch as i64)
        .bind(letter.epoch as i64)
        .bind(storable(&letter.reason))
        .bind(row.bytes.clone())
        .bind(row.beside.as_ref().map(encoded).transpose()?)
        .bind(letter.at.0)
        .execute(&mut **transaction)
        .await
        .map_err(|error| store_error(&error))?;
    }
    Ok(())
}

/// PostgreSQL's text has no NUL; the bytes keep it.
fn storable(reason: &str) -> String {
    reason.replace('\0', "\u{2400}")
}

fn encoded(beside: &Beside) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    pipeline_stage::encode(beside, &mut bytes)?;
    Ok(bytes)
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
    let query = format!(
        "SELECT {COLUMNS} FROM pipeline_state_dead_letters WHERE pipeline = $1 AND number > $2 ORDER BY number LIMIT $3"
    );
    let rows = sqlx::query(AssertSqlSafe(query))
        .bind(&store.pipeline)
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(&store.log)
        .await
        .map_err(|error| store_error(&error))?;
    rows.iter().map(read).collect()
}

pub(super) async fn requested(store: &SqlStore, task: &str, after: i64, limit: u32) -> Result<Vec<(i64, DeadLetter)>> {
    let query = format!(
        "SELECT {COLUMNS} FROM pipeline_state_dead_letters
         WHERE pipeline = $1 AND task = $2 AND replay_requested <> 0 AND number > $3 ORDER BY number LIMIT $4"
    );
    let rows = sqlx::query(AssertSqlSafe(query))
        .bind(&store.pipeline)
        .bind(task)
        .bind(after)
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

/// All of them or none.
pub(super) async fn request(store: &SqlStore, numbers: &[i64]) -> Result<u64> {
    if numbers.is_empty() {
        let update = sqlx::query("UPDATE pipeline_state_dead_letters SET replay_requested = 1 WHERE pipeline = $1")
            .bind(&store.pipeline)
            .execute(&store.log);
        return Ok(update.await.map_err(|error| store_error(&error))?.rows_affected());
    }
    let numbers: BTreeSet<i64> = numbers.iter().copied().collect();
    let mut missing = Vec::new();
    let mut transaction = store.log.begin().await.map_err(|error| store_error(&error))?;
    for number in &numbers {
        let update = sqlx::query(
            "UPDATE pipeline_state_dead_letters SET replay_requested = 1 WHERE pipeline = $1 AND number = $2",
        )
        .bind(&store.pipeline)
        .bind(number)
        .execute(&mut *transaction);
        if update.await.map_err(|error| store_error(&error))?.rows_affected() == 0 {
            missing.push(number.to_string());
        }
    }
    if !missing.is_empty() {
        let missing = missing.join(" and no ");
        return Err(StageError::config(format!("there is no dead letter {missing}; none is processed again")));
    }
    transaction.commit().await.map_err(|error| store_error(&error))?;
    Ok(numbers.len() as u64)
}

/// They stay, with another reason, until somebody asks again.
pub(super) async fn refuse(store: &SqlStore, refused: &[(i64, String)]) -> Result<()> {
    let mut transaction = store.log.begin().await.map_err(|error| store_error(&error))?;
    for (number, reason) in refused {
        sqlx::query(
            "UPDATE pipeline_state_dead_letters SET replay_requested = 0, reason = $1 WHERE pipeline = $2 AND number = $3",
        )
        .bind(storable(reason))
        .bind(&store.pipeline)
        .bind(number)
        .execute(&mut *transaction)
        .await
        .map_err(|error| store_error(&error))?;
    }
    transaction.commit().await.map_err(|error| store_error(&error))
}

fn read(row: &AnyRow) -> Result<(i64, DeadLetter)> {
    let beside: Option<Vec<u8>> = row.try_get(10).map_err(|error| store_error(&error))?;
    let stored = StoredRow {
        stage: text(row, 1)?,
        edge: number(row, 2)? as u32,
        place: text(row, 4)?,
        offset: number(row, 5)? as u64,
        branch: number(row, 6)? as u64,
        bytes: row.try_get(9).map_err(|error| store_error(&error))?,
        beside: beside.map(|bytes| pipeline_stage::decode(&bytes)).transpose()?,
    };
    let letter = DeadLetter {
        row: stored,
        task: text(row, 3)?,
        epoch: number(row, 7)? as u64,
        reason: text(row, 8)?,
        at: Timestamp(number(row, 11)?),
    };
    Ok((number(row, 0)?, letter))
}
