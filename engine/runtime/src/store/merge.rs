//! Changes of checkpoints that have piled up become one again, bucket by bucket, or go when a checkpoint has all there is.

use std::collections::HashMap;

use pipeline_stage::Result;

use super::changes::{Changes, PART_BYTES};
use super::checkpoints::{BUCKETS, begin_as_owner, delete, drop_changes, insert, load_bucket};
use super::connect::SqlStore;
use super::errors::store_error;
use super::values::number;

/// Changes pile up with every checkpoint. A bucket is merged when they have three quarters of the bytes of its oldest
/// epoch, which holds what the last merge gave: with a checkpoint that changes nearly as much, and is then merged, the
/// store has at most two and a half times the bytes of the state.
pub(super) async fn if_large(store: &SqlStore, (task, generation): (&str, u64), stage: &str, epoch: u64) -> Result<()> {
    let rows = sqlx::query(
        "SELECT bucket, CAST(SUM(bytes) AS BIGINT), CAST(SUM(CASE WHEN epoch = oldest THEN bytes ELSE 0 END) AS BIGINT)
         FROM (SELECT bucket, epoch, LENGTH(changes) AS bytes, MIN(epoch) OVER (PARTITION BY bucket) AS oldest
               FROM pipeline_state_changes WHERE pipeline = $1 AND task = $2 AND stage = $3) sizes
         GROUP BY bucket ORDER BY bucket",
    )
    .bind(&store.pipeline)
    .bind(task)
    .bind(stage)
    .fetch_all(&store.checkpoints)
    .await
    .map_err(|error| store_error(&error))?;
    for row in &rows {
        let (bucket, all, first) = (number(row, 0)?, number(row, 1)?, number(row, 2)?);
        if MERGE_ABOVE_BYTES <= all && first * 3 <= (all - first) * 4 {
            // What comes after the checkpoint may be another owner's.
            let merged = load_bucket(store, (task, stage), bucket, epoch as i64).await?;
            replace(store, (task, generation), (stage, bucket), epoch, merged).await?;
        }
    }
    Ok(())
}

/// A smaller pile is not worth a merge.
const MERGE_ABOVE_BYTES: i64 = 64 << 10;

async fn replace(
    store: &SqlStore,
    (task, generation): (&str, u64),
    (stage, bucket): (&str, i64),
    epoch: u64,
    state: HashMap<Vec<u8>, Vec<u8>>,
) -> Result<()> {
    let mut transaction = begin_as_owner(store, task, generation).await?;
    delete(store, &mut transaction, (task, stage), bucket..bucket + 1, epoch as i64).await?;
    let changes: Changes = state.into_iter().map(|(key, value)| (key, Some(value))).collect();
    for (part, changes) in changes.in_parts().enumerate() {
        insert(store, &mut transaction, (task, stage), (epoch, part as u64), &changes).await?;
    }
    transaction.commit().await.map_err(|error| store_error(&error))
}

/// Drops the changes of a stage up to an epoch, which a checkpoint has replaced.
pub(super) async fn drop_replaced(
    store: &SqlStore,
    (task, generation): (&str, u64),
    stage: &str,
    epoch: i64,
) -> Result<()> {
    let rows = sqlx::query(
        "SELECT bucket, CAST(SUM(LENGTH(changes)) AS BIGINT) FROM pipeline_state_changes
         WHERE pipeline = $1 AND task = $2 AND stage = $3 AND epoch <= $4 GROUP BY bucket ORDER BY bucket",
    )
    .bind(&store.pipeline)
    .bind(task)
    .bind(stage)
    .bind(epoch)
    .fetch_all(&store.checkpoints)
    .await
    .map_err(|error| store_error(&error))?;
    let sizes = rows.iter().map(|row| Ok((number(row, 0)?, number(row, 1)?))).collect::<Result<Vec<(i64, i64)>>>()?;
    let all: i64 = sizes.iter().map(|(_, bytes)| bytes).sum();
    // In one database the task's row is locked meanwhile, and appends wait for it: so not much at once.
    if store.is_one_database && PART_BYTES as i64 <= all {
        for (bucket, _) in sizes {
            drop_changes(store, (task, generation), stage, bucket..bucket + 1, epoch).await?;
        }
    } else if !sizes.is_empty() {
        drop_changes(store, (task, generation), stage, 0..BUCKETS, epoch).await?;
    }
    Ok(())
}
