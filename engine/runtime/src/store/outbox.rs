//! Outboxes: alerts that wait for a slow or failing other side.

use std::time::Duration;

use async_trait::async_trait;
use pipeline_stage::{Alert, Result, Timestamp};
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use super::connect::SqlStore;
use super::errors::store_error;
use super::values::{number, text, unreadable};
use super::{Append, DeadLetter, letters};

/// An alert that waits in an outbox.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    /// Orders the alerts of a store.
    pub number: i64,
    /// What to deliver.
    pub alert: Alert,
    /// It goes into a digest with its neighbours.
    pub is_excess: bool,
    /// The digest it is in, if one was made; see [`OutboxStore::digest`].
    pub digest: Option<i64>,
    /// The task it came from.
    pub task: String,
    /// Where its row was read: `source/partition`.
    pub place: String,
    /// The row's offset there.
    pub offset: u64,
    /// By which stages the row came.
    pub branch: u64,
    /// The epoch it was read in.
    pub epoch: u64,
}

/// Alerts in excess that are delivered as one.
#[derive(Debug, Clone, PartialEq)]
pub struct Digest {
    /// Names it.
    pub number: i64,
    /// How many alerts it stands for.
    pub count: u64,
    /// The newest of them.
    pub last: Alert,
}

/// Keeps the outboxes of a pipeline and says who empties them. Errors are those of [`StateStore`](super::StateStore).
#[async_trait]
pub trait OutboxStore: Send + Sync {
    /// The next alerts of an outbox, the oldest first.
    async fn pending(&self, sink: &str, limit: u32) -> Result<Vec<Pending>>;
    /// How many alerts wait.
    async fn count_pending(&self, sink: &str) -> Result<u64>;
    /// The digest that an alert in excess is in. If it is in none, one is made of it and of all that follow up to the
    /// next alert that is not in excess; from then on it stays as it is, so that a repeat after a crash is the same.
    ///
    /// None when all of it was delivered.
    async fn digest(&self, sink: &str, first: i64) -> Result<Option<Digest>>;
    /// This alert was delivered.
    async fn delivered(&self, number: i64, at: Timestamp) -> Result<()>;
    /// All alerts of this digest were delivered.
    async fn digest_delivered(&self, sink: &str, digest: i64, at: Timestamp) -> Result<()>;
    /// These alerts can never be delivered: they become dead letters.
    async fn undeliverable(&self, letters: &[(i64, DeadLetter)]) -> Result<()>;
    /// Deletes alerts that were delivered before a time, so many at most; returns how many.
    async fn drop_delivered(&self, sink: &str, before: Timestamp, limit: u32) -> Result<u64>;
    /// Takes or renews a lease for so long, by the store's own clock: those of its users may differ. False when somebody
    /// else holds it.
    async fn lease(&self, name: &str, holder: &str, lasts: Duration) -> Result<bool>;
    /// Gives a lease back, if it is this holder's.
    async fn release(&self, name: &str, holder: &str) -> Result<()>;
}

/// Microseconds since 1970, by the clock of the one database that all share.
const POSTGRES_NOW: &str = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";

#[async_trait]
impl OutboxStore for SqlStore {
    async fn pending(&self, sink: &str, limit: u32) -> Result<Vec<Pending>> {
        let rows = sqlx::query(
            "SELECT number, alert, is_excess, digest, task, place, row_offset, branch, epoch FROM pipeline_state_outbox
             WHERE pipeline = $1 AND sink = $2 AND delivered_at IS NULL ORDER BY number LIMIT $3",
        )
        .bind(&self.pipeline)
        .bind(sink)
        .bind(i64::from(limit))
        .fetch_all(&self.log)
        .await
        .map_err(|error| store_error(&error))?;
        rows.iter().map(read).collect()
    }

    async fn count_pending(&self, sink: &str) -> Result<u64> {
        let row = sqlx::query(
            "SELECT COUNT(*) FROM pipeline_state_outbox WHERE pipeline = $1 AND sink = $2 AND delivered_at IS NULL",
        )
        .bind(&self.pipeline)
        .bind(sink)
        .fetch_one(&self.log)
        .await
        .map_err(|error| store_error(&error))?;
        Ok(number(&row, 0)? as u64)
    }

    async fn digest(&self, sink: &str, first: i64) -> Result<Option<Digest>> {
        let mut transaction = self.log.begin().await.map_err(|error| store_error(&error))?;
        let found = sqlx::query("SELECT digest FROM pipeline_state_outbox WHERE number = $1")
            .bind(first)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(|error| store_error(&error))?;
        let Some(found) = found else { return Ok(None) };
        let made: Option<i64> = found.try_get(0).map_err(|error| store_error(&error))?;
        if made.is_none() {
            make_digest(self, &mut transaction, sink, first).await?;
        }
        let digest = read_digest(self, &mut transaction, sink, made.unwrap_or(first)).await?;
        transaction.commit().await.map_err(|error| store_error(&error))?;
        Ok(digest)
    }

    async fn delivered(&self, number: i64, at: Timestamp) -> Result<()> {
        let mut transaction = self.log.begin().await.map_err(|error| store_error(&error))?;
        mark_delivered(&mut transaction, number, at).await?;
        transaction.commit().await.map_err(|error| store_error(&error))
    }

    async fn digest_delivered(&self, sink: &str, digest: i64, at: Timestamp) -> Result<()> {
        sqlx::query(
            "UPDATE pipeline_state_outbox SET delivered_at = $1
             WHERE pipeline = $2 AND sink = $3 AND delivered_at IS NULL AND number >= $4 AND digest = $4",
        )
        .bind(at.0)
        .bind(&self.pipeline)
        .bind(sink)
        .bind(digest)
        .execute(&self.log)
        .await
        .map_err(|error| store_error(&error))?;
        Ok(())
    }

    async fn undeliverable(&self, letters: &[(i64, DeadLetter)]) -> Result<()> {
        let mut transaction = self.log.begin().await.map_err(|error| store_error(&error))?;
        for (number, letter) in letters {
            letters::insert(self, &mut transaction, std::slice::from_ref(letter)).await?;
            mark_delivered(&mut transaction, *number, letter.at).await?;
        }
        transaction.commit().await.map_err(|error| store_error(&error))
    }

    async fn drop_delivered(&self, sink: &str, before: Timestamp, limit: u32) -> Result<u64> {
        let deleted = sqlx::query(
            "DELETE FROM pipeline_state_outbox WHERE number IN
                 (SELECT number FROM pipeline_state_outbox
                  WHERE pipeline = $1 AND sink = $2 AND delivered_at < $3 ORDER BY delivered_at LIMIT $4)",
        )
        .bind(&self.pipeline)
        .bind(sink)
        .bind(before.0)
        .bind(i64::from(limit))
        .execute(&self.log)
        .await
        .map_err(|error| store_error(&error))?;
        Ok(deleted.rows_affected())
    }

    async fn lease(&self, name: &str, holder: &str, lasts: Duration) -> Result<bool> {
        let (now, has_run_out) = match self.is_one_database {
            true => (POSTGRES_NOW, format!("pipeline_state_leases.until < {POSTGRES_NOW}")),
            // A folder has one user: whoever has held a lease in it before is dead.
            false => ("0", "TRUE".to_owned()),
        };
        let changed = sqlx::query(AssertSqlSafe(format!(
            "INSERT INTO pipeline_state_leases (pipeline, name, holder, until) VALUES ($1, $2, $3, {now} + $4)
             ON CONFLICT (pipeline, name) DO UPDATE SET holder = excluded.holder, until = excluded.until
             WHERE pipeline_state_leases.holder = excluded.holder OR {has_run_out}",
        )))
        .bind(&self.pipeline)
        .bind(name)
        .bind(holder)
        .bind(i64::try_from(lasts.as_micros()).unwrap_or(i64::MAX / 2))
        .execute(&self.log)
        .await
        .map_err(|error| store_error(&error))?;
        Ok(changed.rows_affected() == 1)
    }

    async fn release(&self, name: &str, holder: &str) -> Result<()> {
        sqlx::query("DELETE FROM pipeline_state_leases WHERE pipeline = $1 AND name = $2 AND holder = $3")
            .bind(&self.pipeline)
            .bind(name)
            .bind(holder)
            .execute(&self.log)
            .await
            .map_err(|error| store_error(&error))?;
        Ok(())
    }
}

fn read(row: &AnyRow) -> Result<Pending> {
    Ok(Pending {
        number: number(row, 0)?,
        alert: serde_json::from_str(&text(row, 1)?).map_err(unreadable)?,
        is_excess: number(row, 2)? != 0,
        digest: row.try_get(3).map_err(|error| store_error(&error))?,
        task: text(row, 4)?,
        place: text(row, 5)?,
        offset: number(row, 6)? as u64,
        branch: number(row, 7)? as u64,
        epoch: number(row, 8)? as u64,
    })
}

/// Its members are written down, not only where it ends: in PostgreSQL an alert with a lower number may come later.
async fn make_digest(store: &SqlStore, transaction: &mut Transaction<'_, Any>, sink: &str, first: i64) -> Result<()> {
    sqlx::query(
        "UPDATE pipeline_state_outbox SET digest = $1
         WHERE pipeline = $2 AND sink = $3 AND delivered_at IS NULL AND number >= $1 AND number < COALESCE(
             (SELECT MIN(number) FROM pipeline_state_outbox
              WHERE pipeline = $2 AND sink = $3 AND delivered_at IS NULL AND number > $1
                  AND (is_excess = 0 OR digest IS NOT NULL)),
             9223372036854775807)",
    )
    .bind(first)
    .bind(&store.pipeline)
    .bind(sink)
    .execute(&mut **transaction)
    .await
    .map_err(|error| store_error(&error))?;
    Ok(())
}

async fn read_digest(
    store: &SqlStore,
    transaction: &mut Transaction<'_, Any>,
    sink: &str,
    digest: i64,
) -> Result<Option<Digest>> {
    let members = "FROM pipeline_state_outbox
         WHERE pipeline = $1 AND sink = $2 AND delivered_at IS NULL AND number >= $3 AND digest = $3";
    let count = sqlx::query(AssertSqlSafe(format!("SELECT COUNT(*) {members}")))
        .bind(&store.pipeline)
        .bind(sink)
        .bind(digest)
        .fetch_one(&mut **transaction)
        .await
        .map_err(|error| store_error(&error))?;
    let last = sqlx::query(AssertSqlSafe(format!("SELECT alert {members} ORDER BY number DESC LIMIT 1")))
        .bind(&store.pipeline)
        .bind(sink)
        .bind(digest)
        .fetch_optional(&mut **transaction)
        .await
        .map_err(|error| store_error(&error))?;
    let Some(last) = last else { return Ok(None) };
    let last = serde_json::from_str(&text(&last, 0)?).map_err(unreadable)?;
    Ok(Some(Digest { number: digest, count: number(&count, 0)? as u64, last }))
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

/// Puts alerts in, with the epoch they come from.
pub(super) async fn insert(store: &SqlStore, transaction: &mut Transaction<'_, Any>, append: &Append) -> Result<()> {
    for new in &append.alerts {
        sqlx::query(
            "INSERT INTO pipeline_state_outbox (pipeline, sink, task, epoch, place, row_offset, branch, alert, is_excess)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(&store.pipeline)
        .bind(&new.sink)
        .bind(&append.task)
        .bind(append.entry.epoch as i64)
        .bind(&new.place)
        .bind(new.offset as i64)
        .bind(new.branch as i64)
        // A NUL can stand in JSON only as an escape, so PostgreSQL's text takes it.
        .bind(serde_json::to_string(&new.alert).map_err(unreadable)?)
        .bind(i64::from(new.is_excess))
        .execute(&mut **transaction)
        .await
        .map_err(|error| store_error(&error))?;
    }
    Ok(())
}
