//! Outboxes: alerts that wait for a slow or failing other side.

use pipeline_stage::{Result, Timestamp};
use sqlx::{Any, Transaction};

use super::connect::{SqlStore, store_error};
use super::log::{number, text, unreadable};
use super::{Append, DeadLetter, Pending, letters};

pub(super) async fn insert(store: &SqlStore, transaction: &mut Transaction<'_, Any>, append: &Append) -> Result<()> {
    for new in &append.alerts {
        sqlx::query(
            "INSERT INTO pipeline_state_outbox (pipeline, sink, task, epoch, place, row_offset, alert, is_excess)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(&store.pipeline)
        .bind(&new.sink)
        .bind(&append.task)
        .bind(append.entry.epoch as i64)
        .bind(&new.place)
        .bind(new.offset as i64)
        // A NUL can stand in JSON only as an escape, so PostgreSQL's text takes it.
        .bind(serde_json::to_string(&new.alert).map_err(unreadable)?)
        .bind(i64::from(new.is_excess))
        .execute(&mut **transaction)
        .await
        .map_err(|error| store_error(&error))?;
    }
    Ok(())
}

pub(super) async fn pending(store: &SqlStore, sink: &str, limit: u32) -> Result<Vec<Pending>> {
    let rows = sqlx::query(
        "SELECT number, alert, is_excess, task, place, row_offset, epoch FROM pipeline_state_outbox
         WHERE pipeline = $1 AND sink = $2 AND delivered_at IS NULL ORDER BY number LIMIT $3",
    )
    .bind(&store.pipeline)
    .bind(sink)
    .bind(i64::from(limit))
    .fetch_all(&store.log)
    .await
    .map_err(|error| store_error(&error))?;
    rows.iter()
        .map(|row| {
            Ok(Pending {
                number: number(row, 0)?,
                alert: serde_json::from_str(&text(row, 1)?).map_err(unreadable)?,
                is_excess: number(row, 2)? != 0,
                task: text(row, 3)?,
                place: text(row, 4)?,
                offset: number(row, 5)? as u64,
                epoch: number(row, 6)? as u64,
            })
        })
        .collect()
}

pub(super) async fn count_pending(store: &SqlStore, sink: &str) -> Result<u64> {
    let row = sqlx::query(
        "SELECT COUNT(*) FROM pipeline_state_outbox WHERE pipeline = $1 AND sink = $2 AND delivered_at IS NULL",
    )
    .bind(&store.pipeline)
    .bind(sink)
    .fetch_one(&store.log)
    .await
    .map_err(|error| store_error(&error))?;
    Ok(number(&row, 0)? as u64)
}

pub(super) async fn delivered(store: &SqlStore, numbers: &[i64], at: Timestamp) -> Result<()> {
    let mut transaction = store.log.begin().await.map_err(|error| store_error(&error))?;
    for number in numbers {
        mark_delivered(&mut transaction, *number, at).await?;
    }
    transaction.commit().await.map_err(|error| store_error(&error))
}

async fn mark_delivered(transaction: &mut Transaction<'_, Any>, number: i64, at: Timestamp) -> Result<()> {
    sqlx::query("UPDATE pipeline_state_outbox SET delivered_at = $1 WHERE number = $2")
        .bind(at.0)
        .bind(number)
        .execute(&mut **transaction)
        .await
        .map_err(|error| store_error(&error))?;
    Ok(())
}

pub(super) async fn undeliverable(store: &SqlStore, number: i64, letter: &DeadLetter) -> Result<()> {
    let mut transaction = store.log.begin().await.map_err(|error| store_error(&error))?;
    letters::insert(store, &mut transaction, std::slice::from_ref(letter)).await?;
    mark_delivered(&mut transaction, number, letter.at).await?;
    transaction.commit().await.map_err(|error| store_error(&error))
}

pub(super) async fn lease(
    store: &SqlStore,
    name: &str,
    holder: &str,
    now: Timestamp,
    until: Timestamp,
) -> Result<bool> {
    let changed = sqlx::query(
        "INSERT INTO pipeline_state_leases (pipeline, name, holder, until) VALUES ($1, $2, $3, $4)
         ON CONFLICT (pipeline, name) DO UPDATE SET holder = excluded.holder, until = excluded.until
         WHERE pipeline_state_leases.holder = excluded.holder OR pipeline_state_leases.until < $5",
    )
    .bind(&store.pipeline)
    .bind(name)
    .bind(holder)
    .bind(until.0)
    .bind(now.0)
    .execute(&store.log)
    .await
    .map_err(|error| store_error(&error))?;
    Ok(changed.rows_affected() == 1)
}
