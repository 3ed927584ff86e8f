//! Checkpoints: the changes of each, and which one counts.

use std::collections::HashMap;
use std::ops::Range;

use futures::TryStreamExt;
use pipeline_stage::Result;
use serde_bytes::{ByteBuf, Bytes};
use sqlx::{Any, AssertSqlSafe, Transaction};

use super::connect::SqlStore;
use super::errors::store_error;
use super::values::{bytes, number, text, unreadable};
use super::{Changes, Checkpoint, StageChanges, StageOf, evidence, merge, tasks};
use crate::fixed_hash::fixed_hash;

/// The newest checkpoint of a task, with the state id it belongs to.
pub(super) async fn newest(store: &SqlStore, task: &str) -> Result<Option<(String, Checkpoint)>> {
    let row =
        sqlx::query("SELECT state_id, checkpoint FROM pipeline_state_checkpoints WHERE pipeline = $1 AND task = $2")
            .bind(&store.pipeline)
            .bind(task)
            .fetch_optional(&store.checkpoints)
            .await
            .map_err(|error| store_error(&error))?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some((text(&row, 0)?, serde_json::from_str(&text(&row, 1)?).map_err(unreadable)?)))
}

/// Drops what an interrupted checkpoint has left, and all of a former life of the state, if the task is the claimer's
/// still: its successor may have published a checkpoint meanwhile, which would lose its changes.
pub(super) async fn drop_unpublished(
    store: &SqlStore,
    (task, generation): (&str, u64),
    epoch: Option<u64>,
) -> Result<()> {
    let mut transaction = begin_as_owner(store, task, generation).await?;
    sqlx::query("DELETE FROM pipeline_state_changes WHERE pipeline = $1 AND task = $2 AND epoch > $3")
        .bind(&store.pipeline)
        .bind(task)
        .bind(epoch.map_or(-1, |epoch| epoch as i64))
        .execute(&mut *transaction)
        .await
        .map_err(|error| store_error(&error))?;
    transaction.commit().await.map_err(|error| store_error(&error))
}

/// Writes a part of a checkpoint, if the task is the writer's still: a former owner's parts must not mix with those of
/// its successor.
pub(super) async fn write_changes(
    store: &SqlStore,
    (task, generation): (&str, u64),
    epoch: u64,
    part: u64,
    changes: &StageChanges,
) -> Result<()> {
    let mut transaction = begin_as_owner(store, task, generation).await?;
    insert(store, &mut transaction, (task, &changes.stage), (epoch, part), &changes.changes).await?;
    transaction.commit().await.map_err(|error| store_error(&error))
}

/// Writes changes of a stage, a row for each bucket.
pub(super) async fn insert(
    store: &SqlStore,
    transaction: &mut Transaction<'_, Any>,
    (task, stage): (&str, &str),
    (epoch, part): (u64, u64),
    changes: &Changes,
) -> Result<()> {
    let mut buckets: Vec<Vec<(&Bytes, Option<&Bytes>)>> = vec![Vec::new(); BUCKETS as usize];
    for (key, value) in changes.iter() {
        buckets[bucket_of(key)].push((Bytes::new(key), value.map(Bytes::new)));
    }
    let mut rows = Vec::new();
    for (bucket, changes) in buckets.iter().enumerate().filter(|(_, changes)| !changes.is_empty()) {
        // At most five bytes before each, and one before both.
        let room =
            changes.iter().map(|(key, value)| 11 + key.len() + value.map_or(0, |value| value.len())).sum::<usize>();
        let mut encoded = Vec::with_capacity(5 + room);
        pipeline_stage::encode(changes, &mut encoded)?;
        rows.push((bucket as i64, encoded));
    }
    if rows.is_empty() {
        return Ok(());
    }
    // One statement: the row of the task is locked meanwhile, and a database may be far away.
    let values = (0..rows.len()).map(|row| format!("($1, $2, $3, ${}, $4, $5, ${})", 6 + 2 * row, 7 + 2 * row));
    let statement = format!(
        "INSERT INTO pipeline_state_changes (pipeline, task, stage, bucket, epoch, part, changes) VALUES {}
         ON CONFLICT (pipeline, task, stage, bucket, epoch, part) DO UPDATE SET changes = excluded.changes",
        values.collect::<Vec<_>>().join(", ")
    );
    let mut query = sqlx::query(AssertSqlSafe(statement)).bind(&store.pipeline).bind(task).bind(stage);
    query = query.bind(epoch as i64).bind(part as i64);
    for (bucket, encoded) in rows {
        query = query.bind(bucket).bind(encoded);
    }
    query.execute(&mut **transaction).await.map_err(|error| store_error(&error))?;
    Ok(())
}

/// Into how many buckets the keys of a stage fall. Each is merged by itself: a merge holds one of them in memory, and
/// makes the store larger by one of them.
pub(super) const BUCKETS: i64 = 64;

fn bucket_of(key: &[u8]) -> usize {
    (fixed_hash(key) % BUCKETS as u64) as usize
}

/// A transaction on the checkpoints in which no other process can claim the task. The files of a folder have one user,
/// whose appends must not wait for a checkpoint: there it is enough to look who owns the task.
pub(super) async fn begin_as_owner(store: &SqlStore, task: &str, generation: u64) -> Result<Transaction<'static, Any>> {
    let mut transaction = store.checkpoints.begin().await.map_err(|error| store_error(&error))?;
    match store.is_one_database {
        true => tasks::lock(store, &mut transaction, task, generation).await?,
        false => drop(tasks::state_id(store, task, generation).await?),
    }
    Ok(transaction)
}

/// The checkpoint counts from here on.
pub(super) async fn publish(store: &SqlStore, task: &str, generation: u64, checkpoint: &Checkpoint) -> Result<()> {
    let state_id = tasks::state_id(store, task, generation).await?;
    let mut transaction = begin_as_owner(store, task, generation).await?;
    put_newest(store, &mut transaction, task, &state_id, checkpoint).await?;
    transaction.commit().await.map_err(|error| store_error(&error))
}

async fn put_newest(
    store: &SqlStore,
    transaction: &mut Transaction<'_, Any>,
    task: &str,
    state_id: &str,
    checkpoint: &Checkpoint,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO pipeline_state_checkpoints (pipeline, task, state_id, epoch, checkpoint) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (pipeline, task) DO UPDATE
         SET state_id = excluded.state_id, epoch = excluded.epoch, checkpoint = excluded.checkpoint",
    )
    .bind(&store.pipeline)
    .bind(task)
    .bind(state_id)
    .bind(checkpoint.epoch as i64)
    .bind(serde_json::to_string(checkpoint).map_err(unreadable)?)
    .execute(&mut **transaction)
    .await
    .map_err(|error| store_error(&error))?;
    Ok(())
}

/// Gives stages other state in the newest checkpoint, which is `checkpoint` from then on.
pub(super) async fn replace_state(
    store: &SqlStore,
    (task, generation): (&str, u64),
    checkpoint: &Checkpoint,
    states: &[StageChanges],
) -> Result<()> {
    let state_id = tasks::state_id(store, task, generation).await?;
    let mut transaction = begin_as_owner(store, task, generation).await?;
    for StageChanges { stage, changes, .. } in states {
        delete(store, &mut transaction, (task, stage), 0..BUCKETS, i64::MAX).await?;
        for (part, changes) in changes.clone().in_parts().enumerate() {
            insert(store, &mut transaction, (task, stage), (checkpoint.epoch, part as u64), &changes).await?;
        }
    }
    put_newest(store, &mut transaction, task, &state_id, checkpoint).await?;
    transaction.commit().await.map_err(|error| store_error(&error))
}

/// The log before a checkpoint that counts is dropped, with what a changed pipeline has no use for. Changes that have
/// piled up are merged, or dropped where the checkpoint has all there is.
pub(super) async fn drop_log(
    store: &SqlStore,
    (task, generation): (&str, u64),
    checkpoint: &Checkpoint,
    whole: &[String],
) -> Result<()> {
    sqlx::query("DELETE FROM pipeline_state_epochs WHERE pipeline = $1 AND task = $2 AND epoch <= $3")
        .bind(&store.pipeline)
        .bind(task)
        .bind(checkpoint.epoch as i64)
        .execute(&store.log)
        .await
        .map_err(|error| store_error(&error))?;
    if let Some(ended_at) = checkpoint.ended_at {
        evidence::prune(store, ended_at).await?;
    }
    drop_removed_stages(store, (task, generation), checkpoint).await?;
    for StageOf { id, .. } in &checkpoint.stages {
        match whole.contains(id) {
            true => merge::drop_replaced(store, (task, generation), id, checkpoint.epoch as i64 - 1).await?,
            false => merge::if_large(store, (task, generation), id, checkpoint.epoch).await?,
        }
    }
    Ok(())
}

/// Drops the changes of a stage in some buckets up to an epoch.
pub(super) async fn drop_changes(
    store: &SqlStore,
    (task, generation): (&str, u64),
    stage: &str,
    buckets: Range<i64>,
    epoch: i64,
) -> Result<()> {
    let mut transaction = begin_as_owner(store, task, generation).await?;
    delete(store, &mut transaction, (task, stage), buckets, epoch).await?;
    transaction.commit().await.map_err(|error| store_error(&error))
}

/// The same as a part of something.
pub(super) async fn delete(
    store: &SqlStore,
    transaction: &mut Transaction<'_, Any>,
    (task, stage): (&str, &str),
    buckets: Range<i64>,
    epoch: i64,
) -> Result<()> {
    sqlx::query(
        "DELETE FROM pipeline_state_changes
         WHERE pipeline = $1 AND task = $2 AND stage = $3 AND bucket >= $4 AND bucket < $5 AND epoch <= $6",
    )
    .bind(&store.pipeline)
    .bind(task)
    .bind(stage)
    .bind(buckets.start)
    .bind(buckets.end)
    .bind(epoch)
    .execute(&mut **transaction)
    .await
    .map_err(|error| store_error(&error))?;
    Ok(())
}

/// A stage that is not in the pipeline any more has no state: if it comes back, it begins anew.
async fn drop_removed_stages(store: &SqlStore, (task, generation): (&str, u64), checkpoint: &Checkpoint) -> Result<()> {
    let rows = sqlx::query("SELECT DISTINCT stage FROM pipeline_state_changes WHERE pipeline = $1 AND task = $2")
        .bind(&store.pipeline)
        .bind(task)
        .fetch_all(&store.checkpoints)
        .await
        .map_err(|error| store_error(&error))?;
    for row in &rows {
        let stage = text(row, 0)?;
        if !checkpoint.stages.iter().any(|known| known.id == stage) {
            drop_changes(store, (task, generation), &stage, 0..BUCKETS, checkpoint.epoch as i64).await?;
        }
    }
    Ok(())
}

/// The state of a stage as of the newest checkpoint, by key. Which one that is, and its changes, are read in one
/// statement: another one may be published meanwhile, and takes the place of these.
pub(super) async fn load(store: &SqlStore, task: &str, stage: &str) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut rows = sqlx::query(
        "SELECT bucket, changes FROM pipeline_state_changes
         WHERE pipeline = $1 AND task = $2 AND stage = $3
         AND epoch <= (SELECT epoch FROM pipeline_state_checkpoints WHERE pipeline = $1 AND task = $2)
         ORDER BY bucket, epoch, part",
    )
    .bind(&store.pipeline)
    .bind(task)
    .bind(stage)
    .fetch(&store.checkpoints);
    let (mut state, mut bucket, mut of) = (Vec::new(), HashMap::new(), -1);
    while let Some(row) = rows.try_next().await.map_err(|error| store_error(&error))? {
        if of != number(&row, 0)? {
            of = number(&row, 0)?;
            state.extend(bucket.drain());
        }
        apply(&bytes(&row, 1)?, &mut bucket)?;
    }
    state.extend(bucket);
    state.sort_unstable();
    Ok(state)
}

/// All changes of a bucket up to an epoch in their order: the last of each key.
pub(super) async fn load_bucket(
    store: &SqlStore,
    (task, stage): (&str, &str),
    bucket: i64,
    epoch: i64,
) -> Result<HashMap<Vec<u8>, Vec<u8>>> {
    let mut rows = sqlx::query(
        "SELECT changes FROM pipeline_state_changes
         WHERE pipeline = $1 AND task = $2 AND stage = $3 AND bucket = $4 AND epoch <= $5 ORDER BY epoch, part",
    )
    .bind(&store.pipeline)
    .bind(task)
    .bind(stage)
    .bind(bucket)
    .bind(epoch)
    .fetch(&store.checkpoints);
    let mut state = HashMap::new();
    while let Some(row) = rows.try_next().await.map_err(|error| store_error(&error))? {
        apply(&bytes(&row, 0)?, &mut state)?;
    }
    Ok(state)
}

/// Makes changes, as `insert` wrote them, to a state.
fn apply(changes: &[u8], state: &mut HashMap<Vec<u8>, Vec<u8>>) -> Result<()> {
    let changes: Vec<(ByteBuf, Option<ByteBuf>)> = pipeline_stage::decode(changes)?;
    for (key, value) in changes {
        match value {
            Some(value) => state.insert(key.into_vec(), value.into_vec()),
            None => state.remove(key.as_slice()),
        };
    }
    Ok(())
}
